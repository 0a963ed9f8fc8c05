//! A recording as a state machine: the audio of its tracks in, what is to be done with its file out.
//!
//! Each track is a [`Timeline`], read on the session's clock; here it is decided what of it is kept, and when it is
//! over. Everything is read [`DELAY`] after it was spoken, so a pause or a stop takes effect at its own moment and not
//! at that of the reading. Knows no file: whoever writes it is asked by [`Recorder::poll_step`] and answers by
//! [`Recorder::handle_outcome`].

use std::collections::VecDeque;
use std::time::Duration;

use crate::activity::Activity;
use crate::ids::{LegId, RecorderId};
use crate::mixer;
use crate::playout::FRAME_SAMPLES;
use crate::proto::{self, MediaEventKind, PauseMode, RecorderEnd, RecorderSpec};
use crate::time::Mono;
use crate::timeline::{DELAY, Timeline};

/// One recording.
pub struct Recorder {
    id: RecorderId,
    /// `None` for the mix.
    leg: Option<LegId>,
    channels: u8,
    file: FileName,
    /// The samples of each channel that there should be already.
    goes_on: Option<u64>,
    max_length: u64,
    silence_timeout: Option<u64>,
    trims: bool,
    began: Mono,
    tracks: Vec<Track>,
    /// Samples of the session's time that were read.
    position: u64,
    /// Those that count towards the greatest length.
    counted: u64,
    paused: Option<PauseMode>,
    /// Pauses, and ends of pauses, that the reading has not come to.
    pauses: VecDeque<(u64, Option<PauseMode>)>,
    /// Samples since the last voice.
    silent: u64,
    voiced: bool,
    /// What may be the silence before the first word, interleaved.
    held: VecDeque<i16>,
    /// Samples given to the file, and how many of them there were at the last voice.
    written: u64,
    written_at_voice: u64,
    trimmed: u64,
    /// Interleaved, on the way to the file; `out` is what was polled last.
    ready: Vec<i16>,
    out: Vec<i16>,
    asked: Asked,
    is_started: bool,
    end: Option<End>,
}

struct Track {
    side: Side,
    timeline: Timeline,
    activity: Activity,
}

/// What a track holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What the leg's party says.
    Says,
    /// What it hears.
    Hears,
    /// Everybody who is heard in the mix.
    Mix,
}

struct End {
    reason: RecorderEnd,
    text: String,
    /// The file is not waited for any longer.
    by: Mono,
}

/// What the file was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Created,
    Finished,
}

/// What is to be done with a recording's file, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum FileStep<'a> {
    /// Make it, with the right to read it for nobody else. One that exists is an error, unless it is to be gone on with: then
    /// what is missing of so many samples of each channel, of the time between two workers, is silence.
    Create { file: &'a FileName, channels: u8, goes_on: Option<u64> },
    /// Samples, those of two channels in turn.
    Write(&'a [i16]),
    /// It is over; `cut` samples of each channel at its end are not wanted.
    Finish { cut: u64 },
}

/// What became of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileOutcome {
    Created,
    Finished(FileLength),
    /// Nothing more is written, whatever is asked.
    Failed {
        text: String,
        length: FileLength,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileLength {
    /// With its header.
    pub bytes: u64,
    /// Of each channel.
    pub samples: u64,
}

/// The name of a recording in the worker's folder, and never of anything outside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName(String);

impl FileName {
    /// `None` for anything but up to 128 of `A-Z a-z 0-9 . _ -`, and for a dot at the beginning.
    pub fn parse(name: &str) -> Option<FileName> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=128).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(is_plain);
        fits.then(|| FileName(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Recorder {
    /// What is recorded from `now` on; the text says what in the spec is wrong.
    pub fn new(spec: &RecorderSpec, now: Mono) -> Result<Recorder, String> {
        let file = FileName::parse(&spec.file).ok_or_else(|| format!("no name for a recording: {:.40}", spec.file))?;
        let (leg, sides) = match &spec.source {
            None => return Err("nothing to record is named".into()),
            Some(proto::Recorded::Mix(_)) => (None, vec![Side::Mix]),
            Some(proto::Recorded::Leg(leg)) => {
                let sides = match leg.track() {
                    proto::Track::Both => vec![Side::Says, Side::Hears],
                    proto::Track::Inbound => vec![Side::Says],
                    proto::Track::Outbound => vec![Side::Hears],
                };
                (Some(LegId(leg.leg_id)), sides)
            }
        };
        let channels = if spec.channels == 2 { sides.len() as u8 } else { 1 };
        let longest = if spec.max_length_ms == 0 { LONGEST } else { samples(spec.max_length_ms).min(LONGEST) };
        let track = |side| Track { side, timeline: Timeline::default(), activity: Activity::default() };
        Ok(Recorder {
            id: RecorderId(spec.recorder_id),
            leg,
            channels,
            file,
            // How much silence was left out is not known here: none is put in.
            goes_on: (spec.offset_ms > 0).then(|| if spec.trim_silence { 0 } else { samples(spec.offset_ms) }),
            max_length: longest,
            silence_timeout: (spec.silence_timeout_ms > 0).then(|| samples(spec.silence_timeout_ms)),
            trims: spec.trim_silence,
            began: now,
            tracks: sides.into_iter().map(track).collect(),
            position: 0,
            counted: samples(spec.offset_ms),
            paused: spec.paused.map(|_| spec.paused()),
            pauses: VecDeque::new(),
            silent: 0,
            // Of one that goes on nobody knows that nobody spoke in it.
            voiced: spec.offset_ms > 0,
            held: VecDeque::new(),
            written: 0,
            written_at_voice: 0,
            trimmed: 0,
            ready: Vec::new(),
            out: Vec::new(),
            asked: Asked::Nothing,
            is_started: false,
            end: None,
        })
    }

    pub fn id(&self) -> RecorderId {
        self.id
    }

    /// The leg that is recorded, `None` for the mix.
    pub fn leg(&self) -> Option<LegId> {
        self.leg
    }

    /// False once it only waits for its file.
    pub fn is_running(&self) -> bool {
        self.end.is_none()
    }

    /// The track of one side, and where it stands at `now`; `None` where that side is not recorded.
    pub fn track(&mut self, side: Side, now: Mono) -> Option<(&mut Timeline, u64)> {
        let position = self.position_at(now);
        let is_running = self.is_running();
        let track = self.tracks.iter_mut().find(|track| track.side == side).filter(|_| is_running)?;
        Some((&mut track.timeline, position))
    }

    /// Takes the time; call every 20 ms.
    pub fn handle_tick(&mut self, now: Mono) {
        let here = self.position_at(now);
        // What ends the recording need not wait for packets that are late.
        let is_full =
            self.paused.is_none() && self.pauses.is_empty() && self.counted + here - self.position >= self.max_length;
        let until = if is_full { here } else { here.saturating_sub(DELAY) };
        while self.is_running() && self.position + FRAME_SAMPLES as u64 <= until {
            self.read(FRAME_SAMPLES, now);
        }
    }

    /// From here on nothing is kept, until [`Recorder::resume`]. To the frame: what was spoken after it is not heard.
    pub fn pause(&mut self, mode: PauseMode, now: Mono) {
        let position = self.position_at(now);
        self.change_pause(position - position % FRAME_SAMPLES as u64, Some(mode));
    }

    pub fn resume(&mut self, now: Mono) {
        let position = self.position_at(now).next_multiple_of(FRAME_SAMPLES as u64);
        self.change_pause(position, None);
    }

    fn change_pause(&mut self, position: u64, mode: Option<PauseMode>) {
        if self.pauses.back().map_or(self.paused, |(_, last)| *last) == mode {
            return;
        }
        match self.pauses.back_mut().filter(|(at, _)| *at >= position) {
            Some(last) => last.1 = mode,
            None => self.pauses.push_back((position, mode)),
        }
    }

    /// Ends it: what was spoken until now is in the file.
    pub fn stop(&mut self, reason: RecorderEnd, now: Mono) {
        let until = self.position_at(now);
        while self.is_running() && self.position < until {
            self.read(FRAME_SAMPLES.min((until - self.position) as usize), now);
        }
        self.finish(reason, String::new(), now);
    }

    /// When the file is waited for no longer.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.end.as_ref().map(|end| end.by)
    }

    /// Its last event, if its file took too long.
    pub fn handle_timeout(&mut self, now: Mono) -> Option<MediaEventKind> {
        self.next_deadline().filter(|by| *by <= now)?;
        let text = format!("the file was not finished within {} s", PATIENCE.as_secs());
        Some(self.ended(RecorderEnd::Failed, text, FileLength::default()))
    }

    /// Whether [`Recorder::poll_step`] has anything.
    pub fn has_step(&self) -> bool {
        match self.asked {
            Asked::Nothing => true,
            Asked::Created => self.end.is_some() || self.ready.len() >= CHUNK * usize::from(self.channels),
            Asked::Finished => false,
        }
    }

    /// What is to be done with the file next.
    pub fn poll_step(&mut self) -> Option<FileStep<'_>> {
        if !self.has_step() {
            return None;
        }
        if self.asked == Asked::Nothing {
            self.asked = Asked::Created;
            return Some(FileStep::Create { file: &self.file, channels: self.channels, goes_on: self.goes_on });
        }
        if self.ready.is_empty() {
            self.asked = Asked::Finished;
            return Some(FileStep::Finish { cut: self.cut() });
        }
        std::mem::swap(&mut self.ready, &mut self.out);
        self.ready.clear();
        Some(FileStep::Write(&self.out))
    }

    /// Takes what became of the file; after [`MediaEventKind::RecorderEnded`] there is no more to it.
    pub fn handle_outcome(&mut self, outcome: FileOutcome) -> MediaEventKind {
        match outcome {
            FileOutcome::Created => {
                self.is_started = true;
                self.started()
            }
            FileOutcome::Failed { text, length } => self.ended(RecorderEnd::Failed, text, length),
            FileOutcome::Finished(length) => {
                let (reason, text) =
                    self.end.take().map_or((RecorderEnd::Stopped, String::new()), |end| (end.reason, end.text));
                self.ended(reason, text, length)
            }
        }
    }

    /// For a command that comes again: it runs, if its file is there.
    pub fn answer_again(&self) -> Option<MediaEventKind> {
        self.is_started.then(|| self.started())
    }

    fn started(&self) -> MediaEventKind {
        MediaEventKind::RecorderStarted(proto::RecorderStarted {
            recorder_id: self.id.0,
            leg_id: self.leg.map_or(0, |leg| leg.0),
            channels: u32::from(self.channels),
        })
    }

    fn ended(&self, reason: RecorderEnd, text: String, length: FileLength) -> MediaEventKind {
        MediaEventKind::RecorderEnded(proto::RecorderEnded {
            recorder_id: self.id.0,
            leg_id: self.leg.map_or(0, |leg| leg.0),
            reason: reason as i32,
            text,
            duration_ms: length.samples / SAMPLES_PER_MS,
            bytes: length.bytes,
            trimmed_ms: (self.trimmed + self.cut()) / SAMPLES_PER_MS,
            channels: u32::from(self.channels),
            voiced: self.voiced,
        })
    }

    fn position_at(&self, now: Mono) -> u64 {
        now.since(self.began).as_micros() as u64 * SAMPLES_PER_MS / 1000
    }

    fn finish(&mut self, reason: RecorderEnd, text: String, now: Mono) {
        if self.end.is_some() {
            return;
        }
        // What is held is silence still.
        self.trimmed += self.held.len() as u64 / u64::from(self.channels);
        self.held = VecDeque::new();
        self.end = Some(End { reason, text, by: now + PATIENCE });
    }

    /// How much of what was written is the silence after the last word.
    fn cut(&self) -> u64 {
        if self.trims { self.written.saturating_sub(self.written_at_voice + MARGIN) } else { 0 }
    }

    /// Reads so many samples of each track, at most 20 ms.
    fn read(&mut self, count: usize, now: Mono) {
        let mut audio = [[0; FRAME_SAMPLES]; 2];
        let mut is_voice = false;
        for (track, samples) in self.tracks.iter_mut().zip(&mut audio) {
            track.timeline.read(&mut samples[..count]);
            is_voice |= track.activity.handle_samples(&samples[..count]);
        }
        while let Some((_, mode)) = self.pauses.pop_front_if(|(at, _)| *at <= self.position) {
            self.paused = mode;
        }
        self.position += count as u64;
        match self.paused {
            Some(PauseMode::Skip) => return,
            Some(PauseMode::Silence) => {
                audio = [[0; FRAME_SAMPLES]; 2];
                is_voice = false;
            }
            None => self.silent = if is_voice { 0 } else { self.silent + count as u64 },
        }
        let count = count.min(usize::try_from(self.max_length - self.counted).unwrap_or(usize::MAX));
        self.counted += count as u64;
        self.keep(audio.each_ref().map(|samples| &samples[..count]), is_voice);
        if self.counted >= self.max_length {
            self.finish(RecorderEnd::MaxLength, String::new(), now);
        } else if self.silence_timeout.is_some_and(|timeout| self.silent >= timeout) {
            self.finish(RecorderEnd::Silence, String::new(), now);
        }
    }

    fn keep(&mut self, audio: [&[i16]; 2], is_voice: bool) {
        self.voiced |= is_voice;
        let channels = u64::from(self.channels);
        if self.voiced || !self.trims {
            self.written += self.held.len() as u64 / channels + audio[0].len() as u64;
            self.ready.extend(self.held.drain(..));
            interleave(audio, self.tracks.len(), self.channels, |sample| self.ready.push(sample));
            if is_voice {
                self.written_at_voice = self.written;
            }
            return;
        }
        interleave(audio, self.tracks.len(), self.channels, |sample| self.held.push_back(sample));
        let over = (self.held.len() as u64 / channels).saturating_sub(MARGIN);
        self.held.drain(..(over * channels) as usize);
        self.trimmed += over;
    }
}

/// One or two tracks as one or two channels.
fn interleave([a, b]: [&[i16]; 2], tracks: usize, channels: u8, mut put: impl FnMut(i16)) {
    for (a, b) in a.iter().zip(b) {
        match (tracks, channels) {
            (1, _) => put(*a),
            (_, 1) => put(mixer::sum(*a, *b)),
            _ => {
                put(*a);
                put(*b);
            }
        }
    }
}

fn samples(ms: u64) -> u64 {
    ms.saturating_mul(SAMPLES_PER_MS)
}

const SAMPLES_PER_MS: u64 = 8;
/// A day: two channels of it fit the 4 GB of a WAV file.
const LONGEST: u64 = 86_400_000 * SAMPLES_PER_MS;
/// 200 ms before the first word and after the last.
const MARGIN: u64 = 1600;
/// 200 ms are written at once.
const CHUNK: usize = 1600;
/// How long a file may take to be finished.
const PATIENCE: Duration = Duration::from_secs(5);
