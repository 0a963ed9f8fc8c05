//! Recordings of the leg: started by a verb, by the API, or with the call; told of as facts that stand for themselves.

use dialtone_media::proto::{self, CommandKind, PauseMode, PauseRecording, Recorded, RecordedLeg, RecorderEnd};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::effect::Effect;
use super::{Call, Now};
use crate::events::{EventKind, LastRecording, RecordingFact, RecordingStatus};
use crate::ids::RecordingSid;
use crate::twiml::notice::code;
use crate::twiml::{Notice, RecordingEnd, RecordingEnded, RecordingSource, RecordingSpec, RecordingTrack, VerbInput};

/// A recording that is not over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Recording {
    /// Its number in the call, which the worker knows it by.
    number: u16,
    /// `None` until the shard has named it.
    sid: Option<RecordingSid>,
    /// The number that the verb knows it by; `None` of one that no verb waits for.
    of_verb: Option<u32>,
    spec: RecordingSpec,
    status: RecordingStatus,
    started_ms: u64,
}

/// A change that the API makes to the recordings of a call. Without a sid it means the newest that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RecordingChange {
    Start {
        sid: RecordingSid,
        spec: RecordingSpec,
    },
    Stop(Option<RecordingSid>),
    /// Leaves out what is said meanwhile, or has it silent in the file.
    Pause {
        sid: Option<RecordingSid>,
        silent: bool,
    },
    Resume(Option<RecordingSid>),
}

/// What becomes of a recording's files: the name of each is the sid with this behind it.
pub const RECORDING_FILE: &str = ".wav";

impl Call {
    /// A verb wants a recording. The shard gives it its name.
    pub(super) fn start_recording(&mut self, of_verb: Option<u32>, spec: RecordingSpec, effects: &mut Vec<Effect>) {
        let number = self.add_recording(None, of_verb, spec);
        effects.push(Effect::NameRecording { number });
    }

    fn add_recording(&mut self, sid: Option<RecordingSid>, of_verb: Option<u32>, spec: RecordingSpec) -> u16 {
        self.recordings_begun += 1;
        let number = self.recordings_begun;
        let status = RecordingStatus::InProgress;
        self.recordings.push(Recording { number, sid, of_verb, spec, status, started_ms: 0 });
        number
    }

    pub(super) fn recording_named(
        &mut self,
        number: u16,
        sid: RecordingSid,
        url: String,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(recording) = self.recordings.iter_mut().find(|recording| recording.number == number) else { return };
        recording.sid = Some(sid);
        let of_verb = recording.of_verb;
        self.record(number, effects);
        if let Some(recording) = of_verb {
            self.run(VerbInput::RecordingNamed { recording, sid, url }, now, effects);
        }
    }

    /// Has the worker record.
    fn record(&self, number: u16, effects: &mut Vec<Effect>) {
        let Some((sid, recording)) = self.recording(number).and_then(|it| Some((it.sid?, it))) else { return };
        let millis = |length: Option<Duration>| length.map_or(0, |length| length.as_millis() as u64);
        let spec = &recording.spec;
        let track = match spec.track {
            RecordingTrack::Both => proto::Track::Both,
            RecordingTrack::Inbound => proto::Track::Inbound,
            RecordingTrack::Outbound => proto::Track::Outbound,
        };
        effects.push(Effect::Media(CommandKind::Record(proto::RecorderSpec {
            recorder_id: self.recorder_id(number),
            source: Some(Recorded::Leg(RecordedLeg { leg_id: self.opening.leg_id, track: track.into() })),
            channels: spec.channels,
            file: format!("{sid}{RECORDING_FILE}"),
            max_length_ms: millis(spec.max_length),
            silence_timeout_ms: millis(spec.silence_timeout),
            trim_silence: spec.trim,
            paused: None,
            offset_ms: 0,
        })));
    }

    /// Recorders are numbered in their session, which several calls may share: each leg has its own numbers.
    fn recorder_id(&self, number: u16) -> u32 {
        self.opening.leg_id << 16 | u32::from(number)
    }

    fn recording(&self, number: u16) -> Option<&Recording> {
        self.recordings.iter().find(|recording| recording.number == number)
    }

    pub(super) fn stop_recording(&mut self, of_verb: u32, effects: &mut Vec<Effect>) {
        let number = self.recordings.iter().find(|it| it.of_verb == Some(of_verb)).map(|it| it.number);
        if let Some(number) = number {
            effects.push(Effect::Media(CommandKind::StopRecording(self.recorder_id(number))));
        }
    }

    /// Stops what `<Start>` has begun; what has no name yet is not begun at all.
    pub(super) fn stop_started_recordings(&mut self, effects: &mut Vec<Effect>) {
        let is_started = |it: &Recording| it.spec.source == RecordingSource::StartCallRecordingTwiML;
        self.recordings.retain(|it| it.sid.is_some() || !is_started(it));
        let numbers = self.recordings.iter().filter(|it| is_started(it)).map(|it| it.number);
        effects.extend(numbers.map(|number| Effect::Media(CommandKind::StopRecording(self.recorder_id(number)))));
    }

    /// Whether there is such a recording to be changed, and a leg to be recorded.
    pub(super) fn takes_recording(&self, change: &RecordingChange) -> bool {
        match change {
            RecordingChange::Start { .. } => self.leg.is_answered(),
            RecordingChange::Stop(sid) | RecordingChange::Pause { sid, .. } | RecordingChange::Resume(sid) => {
                self.chosen(*sid).is_some()
            }
        }
    }

    /// The recording that is meant.
    fn chosen(&self, sid: Option<RecordingSid>) -> Option<&Recording> {
        self.recordings.iter().rev().find(|it| it.sid.is_some() && sid.is_none_or(|sid| it.sid == Some(sid)))
    }

    pub(super) fn change_recording(&mut self, change: RecordingChange, effects: &mut Vec<Effect>) {
        let (sid, status, pause) = match change {
            RecordingChange::Start { sid, spec } => {
                let number = self.add_recording(Some(sid), None, spec);
                return self.record(number, effects);
            }
            RecordingChange::Stop(sid) => {
                if let Some(number) = self.chosen(sid).map(|it| it.number) {
                    effects.push(Effect::Media(CommandKind::StopRecording(self.recorder_id(number))));
                }
                return;
            }
            RecordingChange::Pause { sid, silent: true } => (sid, RecordingStatus::Paused, Some(PauseMode::Silence)),
            RecordingChange::Pause { sid, silent: false } => (sid, RecordingStatus::Paused, Some(PauseMode::Skip)),
            RecordingChange::Resume(sid) => (sid, RecordingStatus::InProgress, None),
        };
        let Some(number) = self.chosen(sid).map(|it| it.number) else { return };
        let recorder_id = self.recorder_id(number);
        effects.push(Effect::Media(match pause {
            Some(mode) => CommandKind::PauseRecording(PauseRecording { recorder_id, mode: mode.into() }),
            None => CommandKind::ResumeRecording(recorder_id),
        }));
        self.note_recording(number, status, effects);
    }

    fn note_recording(&mut self, number: u16, status: RecordingStatus, effects: &mut Vec<Effect>) {
        let Some(recording) = self.recordings.iter_mut().find(|recording| recording.number == number) else { return };
        let is_resumed = recording.status == RecordingStatus::Paused && status == RecordingStatus::InProgress;
        recording.status = status;
        if let Some(mut fact) = recording.fact() {
            fact.is_resumed = is_resumed;
            effects.push(Effect::Note(EventKind::Recording(Box::new(fact))));
        }
    }

    pub(super) fn recorder_started(&mut self, recorder_id: u32, now: Now, effects: &mut Vec<Effect>) {
        let number = recorder_id as u16;
        let Some(recording) = self.recordings.iter_mut().find(|recording| recording.number == number) else { return };
        recording.started_ms = now.wall_ms;
        let status = recording.status;
        self.note_recording(number, status, effects);
    }

    pub(super) fn recorder_ended(&mut self, ended: &proto::RecorderEnded, now: Now, effects: &mut Vec<Effect>) {
        let number = ended.recorder_id as u16;
        let Some(at) = self.recordings.iter().position(|recording| recording.number == number) else { return };
        let recording = self.recordings.remove(at);
        let how = match RecorderEnd::try_from(ended.reason) {
            Ok(RecorderEnd::Stopped | RecorderEnd::LegClosed) => RecordingEnd::Stopped,
            Ok(RecorderEnd::Silence) => RecordingEnd::Silence,
            Ok(RecorderEnd::MaxLength) => RecordingEnd::MaxLength,
            Ok(RecorderEnd::Failed) | Err(_) => RecordingEnd::Failed,
        };
        if how == RecordingEnd::Failed {
            let text = format!("the recording failed, and the call goes on without it: {}", ended.text);
            self.publish(EventKind::Noticed(Notice::error(code::INTERNAL, text)), effects);
        }
        let outcome = RecordingEnded { how, duration: Duration::from_millis(ended.duration_ms), voiced: ended.voiced };
        if let Some(mut fact) = recording.fact() {
            fact.status = recording.outcome(&outcome);
            fact.started_ms = if fact.started_ms == 0 { now.wall_ms } else { fact.started_ms };
            fact.duration_ms = ended.duration_ms;
            fact.bytes = ended.bytes;
            fact.channels = ended.channels.max(1);
            fact.error = if how == RecordingEnd::Failed { ended.text.clone() } else { String::new() };
            // Only what the request that made the call wanted recorded is told of at its end.
            if fact.status == RecordingStatus::Completed && fact.source == RecordingSource::OutboundAPI {
                self.recorded = Some(LastRecording { sid: fact.sid, duration_ms: fact.duration_ms });
            }
            effects.push(Effect::Note(EventKind::Recording(Box::new(fact))));
        }
        self.complete_if_closed(effects);
        if let Some(recording) = recording.of_verb {
            self.run(VerbInput::RecordingEnded { recording, ended: outcome }, now, effects);
        }
    }

    /// There is no worker any more that could end them.
    pub(super) fn recordings_lost(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for recorder_id in self.recordings.iter().map(|it| self.recorder_id(it.number)).collect::<Vec<_>>() {
            let text = "the media worker is lost".to_owned();
            let reason = RecorderEnd::Failed.into();
            let ended = proto::RecorderEnded { recorder_id, reason, text, ..proto::RecorderEnded::default() };
            self.recorder_ended(&ended, now, effects);
        }
    }
}

impl Recording {
    /// As it stands; `None` before it has a name.
    fn fact(&self) -> Option<RecordingFact> {
        Some(RecordingFact {
            sid: self.sid?,
            conference: None,
            source: self.spec.source,
            track: self.spec.track,
            channels: self.spec.channels,
            status: self.status,
            started_ms: self.started_ms,
            duration_ms: 0,
            bytes: 0,
            error: String::new(),
            callback: self.spec.callback.clone(),
            is_resumed: false,
        })
    }

    /// A `<Record>` in which nobody spoke is none; whatever else is recorded is kept as it is.
    fn outcome(&self, ended: &RecordingEnded) -> RecordingStatus {
        match ended.how {
            RecordingEnd::Failed => RecordingStatus::Failed,
            _ if ended.is_empty() && self.spec.source == RecordingSource::RecordVerb => RecordingStatus::Absent,
            _ => RecordingStatus::Completed,
        }
    }
}
