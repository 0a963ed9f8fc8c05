//! A playlist on its way: audio, tones, silence and digits, one after another, as often as asked for; and what comes while it is
//! played.
//!
//! A player is asked for samples, packet by packet, and answers with samples, with a key for the leg to send, or
//! with why there are none. It counts what it played, so that another worker can go on where it was. It does not
//! know codecs, packets or clocks. A clip that is not here is wanted once, when the player starts.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::clips::{Clip, ClipHash, Clips};
use crate::codec::Law;
use crate::dtmf::Key;
use crate::ids::PlayerId;
use crate::proto::{Fed, PlayKind, PlayerSpec};
use crate::tone::ToneSource;

/// A playlist and the place it has reached.
pub struct Player {
    id: PlayerId,
    items: Vec<Item>,
    /// 0 for ever.
    loops: u32,
    looped: u32,
    /// The item that plays, and how far it is.
    at: usize,
    within: u64,
    /// Samples still to be left out before the first one plays.
    skip: u64,
    /// Samples played over all loops, those of before `offset_ms` too.
    played: u64,
    has_played: bool,
    /// Samples of this loop, and how many of its items lasted at all.
    loop_len: u64,
}

/// What a player gives for one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Played {
    /// The samples asked for; the end of the list is filled with silence.
    Samples,
    /// This key is to be sent, which takes [`crate::dtmf::KEY_MS`].
    Key(Key),
    /// A clip has not come yet.
    Waiting,
    /// The list is over; `finished` is false where nothing could be played.
    Ended { finished: bool },
}

enum Item {
    Audio {
        hash: ClipHash,
        clip: Option<Clip>,
    },
    Tone {
        source: ToneSource,
        len: u64,
    },
    Silence {
        len: u64,
    },
    Digits(Box<[Step]>),
    Live(Live),
    /// Audio that is not to be had, or nothing that we know.
    Absent,
}

/// What is played as it comes.
#[derive(Default)]
struct Live {
    waiting: VecDeque<Piece>,
    /// Bytes of audio in `waiting`.
    len: usize,
    /// Marks that were come to, or cleared.
    passed: VecDeque<String>,
}

enum Piece {
    /// Mu-law at 8 kHz.
    Audio(Bytes),
    Mark(String),
}

/// One character of a string of digits.
#[derive(Clone, Copy)]
enum Step {
    Key(Key),
    Pause { len: u64 },
}

impl Player {
    /// Takes a playlist; clips that are here already are taken from `clips`.
    pub fn new(spec: &PlayerSpec, clips: &mut Clips) -> Player {
        let skip = spec.offset_ms.saturating_mul(SAMPLES_PER_MS);
        Player {
            id: PlayerId(spec.player_id),
            items: spec.items.iter().map(|item| Item::new(item.kind.as_ref(), clips)).collect(),
            loops: spec.loops,
            looped: 0,
            at: 0,
            within: 0,
            skip,
            played: skip,
            has_played: false,
            loop_len: 0,
        }
    }

    pub fn id(&self) -> PlayerId {
        self.id
    }

    /// The clips that it lacks, each once.
    pub fn wanted(&self) -> Vec<ClipHash> {
        let mut wanted = Vec::new();
        for item in &self.items {
            if let Item::Audio { hash, clip: None } = item
                && !wanted.contains(hash)
            {
                wanted.push(*hash);
            }
        }
        wanted
    }

    /// A clip has come, or is not to be had. True if this player waited for it.
    pub fn handle_clip(&mut self, hash: ClipHash, found: Option<&Clip>) -> bool {
        let mut waited = false;
        for item in &mut self.items {
            if matches!(item, Item::Audio { hash: wanted, clip: None } if *wanted == hash) {
                *item = found.map_or(Item::Absent, |clip| Item::Audio { hash, clip: Some(clip.clone()) });
                waited = true;
            }
        }
        waited
    }

    /// Takes something to be played as it comes; dropped where nothing of this list is [`PlayKind::Live`].
    pub fn feed(&mut self, what: Fed) {
        if let Some(live) = self.live() {
            live.feed(what);
        }
    }

    /// The next mark that was come to, or was cleared.
    pub fn poll_mark(&mut self) -> Option<String> {
        self.live()?.passed.pop_front()
    }

    fn live(&mut self) -> Option<&mut Live> {
        self.items.iter_mut().find_map(|item| if let Item::Live(live) = item { Some(live) } else { None })
    }

    /// Milliseconds played over all loops.
    pub fn offset_ms(&self) -> u64 {
        self.played / SAMPLES_PER_MS
    }

    /// The next packet's worth of samples at 8 kHz. Never allocates.
    pub fn fill(&mut self, samples: &mut [i16]) -> Played {
        let mut filled = 0;
        while filled < samples.len() {
            let rest = &mut samples[filled..];
            match self.step(rest) {
                Filled::Samples(count) => filled += count,
                Filled::ItemOver => {}
                // What has been filled goes out first; the same answer comes again.
                Filled::Stop(Played::Key(key)) if filled == 0 => {
                    self.advance(KEY_SAMPLES);
                    return Played::Key(key);
                }
                Filled::Stop(stop) if filled == 0 => return stop,
                Filled::Stop(_) => {
                    rest.fill(0);
                    break;
                }
            }
        }
        Played::Samples
    }

    fn step(&mut self, samples: &mut [i16]) -> Filled {
        let Some(item) = self.items.get_mut(self.at) else {
            return self.end_loop();
        };
        let len = match item {
            Item::Audio { clip: None, .. } => return Filled::Stop(Played::Waiting),
            Item::Audio { clip: Some(clip), .. } => clip.len_samples(),
            Item::Tone { len, .. } | Item::Silence { len } => *len,
            Item::Live(_) => u64::MAX,
            Item::Digits(steps) => steps.iter().map(|step| step.len()).sum(),
            Item::Absent => 0,
        };
        if self.skip > 0 {
            let skipped = self.skip.min(len - self.within);
            self.within += skipped;
            self.skip -= skipped;
        }
        if self.within >= len {
            self.at += 1;
            self.within = 0;
            self.loop_len = self.loop_len.saturating_add(len);
            return Filled::ItemOver;
        }
        let count = samples.len().min(usize::try_from(len - self.within).unwrap_or(usize::MAX));
        let samples = &mut samples[..count];
        let count = match item {
            Item::Audio { clip: Some(clip), .. } => {
                clip.read(self.within, samples);
                count
            }
            Item::Tone { source, .. } => {
                source.fill(self.within, samples);
                count
            }
            Item::Live(live) => {
                live.fill(samples);
                count
            }
            Item::Digits(steps) => match place(steps, self.within) {
                // In the midst of a key after a resume: it was sent, and only its time is left.
                Some((Step::Key(key), 0)) => return Filled::Stop(Played::Key(key)),
                Some((step, within)) => {
                    let count = count.min(usize::try_from(step.len() - within).unwrap_or(usize::MAX));
                    samples[..count].fill(0);
                    count
                }
                None => 0,
            },
            _ => {
                samples.fill(0);
                count
            }
        };
        self.advance(count as u64);
        Filled::Samples(count)
    }

    fn advance(&mut self, samples: u64) {
        self.within += samples;
        self.played = self.played.saturating_add(samples);
        self.has_played = true;
    }

    fn end_loop(&mut self) -> Filled {
        let len = std::mem::take(&mut self.loop_len);
        // Every item is here now, so a far offset is found without playing through it.
        let whole = self.skip.checked_div(len).unwrap_or(0);
        let looped = whole.saturating_add(1).saturating_add(u64::from(self.looped));
        if len == 0 || (self.loops != 0 && looped >= u64::from(self.loops)) {
            self.looped = self.loops;
            self.loop_len = len;
            let absent = self.items.iter().any(|item| matches!(item, Item::Absent));
            return Filled::Stop(Played::Ended { finished: self.has_played || !absent });
        }
        self.skip -= whole * len;
        self.looped = if self.loops == 0 { 0 } else { looped as u32 };
        self.at = 0;
        Filled::ItemOver
    }
}

/// What one step of filling came to.
enum Filled {
    Samples(usize),
    ItemOver,
    Stop(Played),
}

impl Item {
    fn new(kind: Option<&PlayKind>, clips: &mut Clips) -> Item {
        match kind {
            Some(PlayKind::Audio(hash)) => match ClipHash::from_bytes(hash) {
                Some(hash) => Item::Audio { hash, clip: clips.find(hash) },
                None => Item::Absent,
            },
            Some(PlayKind::Tone(tone)) => {
                let len = if tone.duration_ms == 0 { u64::MAX } else { u64::from(tone.duration_ms) * SAMPLES_PER_MS };
                Item::Tone { source: ToneSource::new(tone), len }
            }
            Some(PlayKind::SilenceMs(ms)) => Item::Silence { len: u64::from(*ms) * SAMPLES_PER_MS },
            Some(PlayKind::Digits(digits)) => Item::Digits(digits.chars().filter_map(Step::new).collect()),
            Some(PlayKind::Live(_)) => Item::Live(Live::default()),
            None => Item::Absent,
        }
    }
}

impl Live {
    fn feed(&mut self, what: Fed) {
        match what {
            Fed::Audio(audio) if self.has_room() && self.len + audio.len() <= MAX_WAITING => {
                self.len += audio.len();
                self.waiting.push_back(Piece::Audio(audio));
            }
            Fed::Mark(name) if self.waiting.is_empty() => self.passed.push_back(name),
            Fed::Mark(name) if self.has_room() => self.waiting.push_back(Piece::Mark(name)),
            Fed::Audio(_) | Fed::Mark(_) => {}
            Fed::Clear(_) => {
                self.len = 0;
                for piece in self.waiting.drain(..) {
                    if let Piece::Mark(name) = piece {
                        self.passed.push_back(name);
                    }
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < MAX_PIECES
    }

    /// The next samples, and silence behind them.
    fn fill(&mut self, samples: &mut [i16]) {
        let mut filled = 0;
        while filled < samples.len() {
            let Some(Piece::Audio(audio)) = self.waiting.front_mut() else { break };
            let count = Law::Mu.decode(audio, &mut samples[filled..]);
            audio.advance(count);
            filled += count;
            self.len -= count;
            self.pass_what_is_over();
        }
        samples[filled..].fill(0);
    }

    /// Takes out what has been played, and the marks behind it.
    fn pass_what_is_over(&mut self) {
        while let Some(piece) = self.waiting.pop_front_if(|piece| match piece {
            Piece::Audio(audio) => audio.is_empty(),
            Piece::Mark(_) => true,
        }) {
            if let Piece::Mark(name) = piece {
                self.passed.push_back(name);
            }
        }
    }
}

impl Step {
    fn new(character: char) -> Option<Step> {
        match character {
            'w' => Some(Step::Pause { len: 4000 }),
            'W' => Some(Step::Pause { len: 8000 }),
            other => Key::from_char(other).map(Step::Key),
        }
    }

    fn len(self) -> u64 {
        match self {
            Step::Key(_) => KEY_SAMPLES,
            Step::Pause { len } => len,
        }
    }
}

/// The step at a place, and how far it is.
fn place(steps: &[Step], mut within: u64) -> Option<(Step, u64)> {
    for step in steps {
        if within < step.len() {
            return Some((*step, within));
        }
        within -= step.len();
    }
    None
}

const SAMPLES_PER_MS: u64 = 8;
/// Ten minutes of mu-law.
const MAX_WAITING: usize = 8_000 * 600;
const MAX_PIECES: usize = 65_536;
const KEY_SAMPLES: u64 = crate::dtmf::KEY_MS as u64 * SAMPLES_PER_MS;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::proto::{self, PlayItem, Tone};

    fn audio(byte: u8) -> PlayKind {
        PlayKind::Audio(Bytes::from(vec![byte; 32]))
    }

    fn hash(byte: u8) -> ClipHash {
        ClipHash::from_bytes(&[byte; 32]).unwrap()
    }

    /// A clip of `ms` whose samples are all `value`.
    fn clip(value: i16, ms: usize) -> Clip {
        Clip::new(Bytes::from(value.to_le_bytes().repeat(ms * 8)), 8000).unwrap()
    }

    fn clips() -> Clips {
        let mut clips = Clips::new(1 << 20);
        clips.insert(hash(1), clip(1, 40));
        clips.insert(hash(2), clip(2, 30));
        clips
    }

    fn player(items: &[PlayKind], loops: u32, offset_ms: u64) -> Player {
        let items = items.iter().map(|kind| PlayItem { kind: Some(kind.clone()) }).collect();
        Player::new(&PlayerSpec { player_id: 1, items, loops, offset_ms }, &mut clips())
    }

    /// Plays packets of 20 ms until the end or `packets`: each packet as its first and last sample, keys as they come.
    fn transcript(player: &mut Player, packets: usize) -> String {
        let mut out = Vec::new();
        for _ in 0..packets {
            let mut samples = [99; 160];
            match player.fill(&mut samples) {
                Played::Samples => out.push(format!("{}{}", samples[0], samples[159])),
                Played::Key(key) => out.push(format!("key{}", key.symbol())),
                Played::Waiting => out.push("wait".into()),
                Played::Ended { finished } => {
                    out.push(format!("end({finished})@{}", player.offset_ms()));
                    break;
                }
            }
        }
        out.join(" ")
    }

    #[test]
    fn items_follow_one_another_without_a_gap() {
        let table: &[(&str, &[PlayKind], u32, u64, &str)] = &[
            ("one clip", &[audio(1)], 1, 0, "11 11 end(true)@40"),
            ("clip that ends within a packet", &[audio(2)], 1, 0, "22 20 end(true)@30"),
            ("two clips", &[audio(2), audio(1)], 1, 0, "22 21 11 10 end(true)@70"),
            ("two loops", &[audio(1)], 2, 0, "11 11 11 11 end(true)@80"),
            ("silence between", &[audio(1), PlayKind::SilenceMs(20), audio(1)], 1, 0, "11 11 00 11 11 end(true)@100"),
            ("from an offset", &[audio(2), audio(1)], 1, 50, "11 end(true)@70"),
            ("from an offset in the second loop", &[audio(1)], 3, 60, "11 11 11 end(true)@120"),
            ("from the very end", &[audio(1)], 2, 80, "end(true)@80"),
            ("from beyond the end", &[audio(1)], 2, 1000, "end(true)@1000"),
            ("nothing", &[], 1, 0, "end(true)@0"),
            ("nothing for ever", &[PlayKind::SilenceMs(0)], 0, 0, "end(true)@0"),
            ("digits", &[PlayKind::Digits("1x#".into())], 1, 0, "key1 key# end(true)@400"),
            ("digits after audio", &[audio(2), PlayKind::Digits("5".into())], 1, 0, "22 20 key5 end(true)@230"),
            ("from within a digit", &[PlayKind::Digits("12".into())], 1, 160, "00 00 key2 end(true)@400"),
        ];
        for (name, items, loops, offset, expected) in table {
            assert_eq!(transcript(&mut player(items, *loops, *offset), 99), *expected, "{name}");
        }
        let mut pause = player(&[PlayKind::Digits("w1W".into())], 1, 0);
        let expected = format!("{} key1 {} end(true)@1700", ["00"; 25].join(" "), ["00"; 50].join(" "));
        assert_eq!(transcript(&mut pause, 99), expected);
    }

    #[test]
    fn list_without_end_goes_on_from_any_offset() {
        let mut forever = player(&[audio(1), audio(2)], 0, u64::MAX / 16);
        assert_eq!(transcript(&mut forever, 3).split(' ').count(), 3);
        let tone = Tone { frequencies_hz: vec![440], cadence_ms: vec![], duration_ms: 0 };
        let mut tone = player(&[PlayKind::Tone(tone)], 1, 3_600_000);
        let mut samples = [0; 160];
        assert_eq!(tone.fill(&mut samples), Played::Samples);
        assert_eq!(tone.offset_ms(), 3_600_020);
    }

    #[test]
    fn missing_clip_is_waited_for_and_then_played() {
        let mut player = player(&[audio(1), audio(7), audio(7)], 1, 0);
        assert_eq!(player.wanted(), [hash(7)]);
        assert_eq!(transcript(&mut player, 4), "11 11 wait wait");
        assert!(!player.handle_clip(hash(8), Some(&clip(8, 20))));
        assert!(player.handle_clip(hash(7), Some(&clip(7, 20))));
        assert_eq!(transcript(&mut player, 9), "77 77 end(true)@80");
    }

    #[test]
    fn what_comes_is_played_and_each_mark_told_when_all_before_it_was() {
        let mut player = player(&[PlayKind::Live(proto::Live {})], 1, 0);
        let heard = |player: &mut Player| {
            let mut samples = [99; 160];
            assert_eq!(player.fill(&mut samples), Played::Samples);
            let marks: Vec<_> = std::iter::from_fn(|| player.poll_mark()).collect();
            (samples.iter().filter(|sample| **sample != 0).count(), marks.join(" "))
        };
        let audio = |bytes: usize| Fed::Audio(Bytes::from(vec![0x00; bytes]));
        assert_eq!(heard(&mut player), (0, String::new()), "silence before anything comes");
        player.feed(Fed::Mark("at once".into()));
        assert_eq!(player.poll_mark().as_deref(), Some("at once"));
        for what in [audio(100), audio(200), Fed::Mark("300".into()), audio(20), Fed::Mark("320".into())] {
            player.feed(what);
        }
        assert_eq!(heard(&mut player), (160, String::new()));
        assert_eq!(heard(&mut player), (160, "300 320".into()), "they are in this packet to the last sample");
        assert_eq!(heard(&mut player), (0, String::new()));
        for what in [audio(1000), Fed::Mark("a".into()), audio(1000), Fed::Mark("b".into())] {
            player.feed(what);
        }
        assert_eq!(heard(&mut player).0, 160);
        player.feed(Fed::Clear(proto::Clear {}));
        assert_eq!(heard(&mut player), (0, "a b".into()), "what was cleared is told, and not heard");
    }

    #[test]
    fn ten_minutes_may_wait_and_the_rest_is_dropped() {
        let mut player = player(&[PlayKind::Live(proto::Live {})], 1, 0);
        for _ in 0..700 {
            player.feed(Fed::Audio(Bytes::from(vec![0x00; 8000])));
        }
        assert_eq!(player.live().unwrap().len, MAX_WAITING);
        (0..100_000).for_each(|_| player.feed(Fed::Mark("x".into())));
        assert_eq!(player.live().unwrap().waiting.len(), MAX_PIECES);
    }

    #[test]
    fn clip_that_is_not_to_be_had_is_left_out() {
        let mut alone = player(&[audio(7)], 1, 0);
        assert_eq!(transcript(&mut alone, 1), "wait");
        alone.handle_clip(hash(7), None);
        assert_eq!(transcript(&mut alone, 9), "end(false)@0");
        let mut first = player(&[audio(7), audio(1)], 1, 0);
        first.handle_clip(hash(7), None);
        assert_eq!(transcript(&mut first, 9), "11 11 end(true)@40");
    }
}
