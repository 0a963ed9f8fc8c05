//! A document as it was read: its verbs with every attribute typed, checked and defaulted.
//!
//! What a document may say and what is left out means is in docs/twiml.md; after the parser nothing of it is
//! checked again. A URL that cannot be resolved is kept as it is ([`Link::Unresolvable`]), because only the verb
//! that needs it may fail of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::CallSid;
use crate::twiml::conference::{Beep, ConferenceEvent};
use crate::twiml::notice::Notice;
use crate::twiml::port::{
    AudioSource, CallbackEvent, Method, RecordingEvent, RecordingTrack, RejectReason, Ringback, SipTarget,
    Target as DialTarget, VerbName,
};

/// The verbs of a document, in order, and what there was to remark on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    pub verbs: Vec<VerbSpec>,
    pub notices: Vec<Notice>,
}

/// A URL of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Link {
    /// Absolute, `http` or `https`; written as the customer wrote it.
    Absolute(String),
    /// Relative without a base, or no URL at all: its use is error 11100.
    Unresolvable(String),
}

/// A verb and its attributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum VerbSpec {
    Say(SaySpec),
    Play(PlaySpec),
    Pause(PauseSpec),
    Gather(Box<GatherSpec>),
    Dial(Box<DialSpec>),
    Redirect(RedirectSpec),
    Hangup,
    Reject(RejectReason),
    Echo,
    Record(Box<RecordSpec>),
    Enqueue(Box<EnqueueVerb>),
    Leave,
    Refer(Box<ReferSpec>),
    Sms(Box<SmsVerb>),
    /// `<Start><Recording>`: records while the document goes on.
    StartRecording(Box<KeptSpec>),
    /// `<Stop><Recording>`.
    StopRecording,
    /// `<Start><Stream>`: the document goes on at once.
    StartStream(Box<StreamVerb>),
    /// `<Stop><Stream>`, of that name or all.
    StopStreams(Option<String>),
    /// `<Connect><Stream>`.
    Connect(Box<ConnectSpec>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectSpec {
    pub action: Option<Link>,
    pub method: Method,
    pub stream: StreamVerb,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamVerb {
    /// `ws` or `wss`.
    pub link: Link,
    pub name: Option<String>,
    pub track: RecordingTrack,
    pub params: Vec<(String, String)>,
    pub callback: Option<(Link, Method)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordSpec {
    /// `None` where there is no `action` and the document has no URL of its own.
    pub action: Option<Link>,
    pub method: Method,
    /// Silence that ends it; `None`: none does.
    pub timeout: Option<Duration>,
    /// Keys that end it.
    pub finish_on_key: String,
    pub max_length: Duration,
    pub play_beep: bool,
    pub kept: KeptSpec,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferSpec {
    /// Whom the caller's side is to call.
    pub uri: String,
    /// Headers of the REFER: `X-*` and `User-to-User` only.
    pub headers: Vec<(String, String)>,
    pub action: Option<Link>,
    pub method: Method,
}

/// What an application answers to a text that came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    pub verbs: Vec<ReplyVerb>,
    pub notices: Vec<Notice>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ReplyVerb {
    Message(Box<SmsVerb>),
    Redirect(RedirectSpec),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SmsVerb {
    /// `None`: whoever calls, or has sent the text that is answered.
    pub to: Option<String>,
    /// `None`: what was called, or the text was sent to.
    pub from: Option<String>,
    pub body: String,
    pub action: Option<Link>,
    pub method: Method,
    pub callback: Option<(Link, Method)>,
}

/// How a recording is made, and whom to tell: what every element that records has in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptSpec {
    pub track: RecordingTrack,
    pub channels: u32,
    pub trim: bool,
    pub callback: Option<(Link, Method, Vec<RecordingEvent>)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SaySpec {
    pub parts: Vec<SayPart>,
    /// 0 is endless.
    pub loops: u32,
}

/// A piece of a `<Say>`: SSML comes down to texts and pauses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SayPart {
    Text {
        text: String,
        voice: String,
        language: String,
    },
    Break(Duration),
    /// One of our own prompts.
    Prompt(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaySpec {
    pub what: Playable,
    /// 0 is endless.
    pub loops: u32,
}

/// What a `<Play>` plays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Playable {
    Url(Link),
    /// `dialtone:NAME`, a prompt that needs no engine.
    Prompt(String),
    Digits(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PauseSpec {
    pub length: Duration,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatherSpec {
    /// False where only speech is asked for: keys do nothing.
    pub dtmf: bool,
    /// `None` where there is no `action` and the document has no URL of its own.
    pub action: Option<Link>,
    pub method: Method,
    /// Silence after the prompts, and between digits.
    pub timeout: Duration,
    pub finish_on_key: Option<char>,
    /// The input ends when it has this many.
    pub num_digits: u32,
    pub action_on_empty_result: bool,
    pub prompts: Vec<PromptSpec>,
}

/// What a `<Gather>` may play while it listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PromptSpec {
    Say(SaySpec),
    Play(PlaySpec),
    Pause(PauseSpec),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DialSpec {
    /// What goes on when a party wants to be replaced by REFER.
    pub refer: Option<(Link, Method)>,
    pub action: Option<Link>,
    pub method: Method,
    /// Ring time of all branches, or of each when they are called one after another.
    pub timeout: Duration,
    pub time_limit: Duration,
    pub caller_id: Option<String>,
    pub answer_on_bridge: bool,
    pub hangup_on_star: bool,
    pub ringback: Ringback,
    pub sequential: bool,
    pub record: Option<DialRecordSpec>,
    /// A conference stands alone: nobody else is called.
    pub conference: Option<Box<ConferenceNoun>>,
    /// So does a queue.
    pub queue: Option<Box<QueueNoun>>,
    /// Whom to call; with nobody, the `<Dial>` fails.
    pub nouns: Vec<NounSpec>,
}

/// What of a `<Dial>` is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DialRecordSpec {
    /// As soon as the other side rings, and not when it answers.
    pub from_ringing: bool,
    pub kept: KeptSpec,
}

/// A `<Conference>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConferenceNoun {
    pub name: String,
    pub muted: bool,
    pub start_on_enter: bool,
    pub end_on_exit: bool,
    pub beep: Beep,
    pub wait: WaitSpec,
    pub max_participants: u32,
    pub record: Option<KeptSpec>,
    pub coach: Option<CallSid>,
    pub label: String,
    pub callback: Option<(Link, Method, Vec<ConferenceEvent>)>,
}

/// A `<Queue>` of a `<Dial>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueNoun {
    pub name: String,
    /// What the member hears before it is joined.
    pub whisper: Option<(Link, Method)>,
}

/// An `<Enqueue>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnqueueVerb {
    pub name: String,
    pub action: Option<Link>,
    pub method: Method,
    pub wait: WaitSpec,
    pub max_size: u32,
}

/// What somebody hears who waits in a room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WaitSpec {
    /// Our own.
    Music,
    Silence,
    Document(Link, Method),
}

/// One noun of a `<Dial>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NounSpec {
    pub target: DialTarget,
    pub whisper: Option<(Link, Method)>,
    pub status_callback: Option<(Link, Method, Vec<CallbackEvent>)>,
    pub send_digits: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RedirectSpec {
    pub link: Link,
    pub method: Method,
}

/// What is played as one: its parts one after another, the whole `loops` times (0: endless).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    pub parts: Vec<SegmentPart>,
    pub loops: u32,
    /// The verb that it came from.
    pub verb: VerbName,
}

/// A part of a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SegmentPart {
    Audio(AudioSource),
    SilenceMs(u32),
    Digits(String),
    /// A URL that is none: remarked on and passed over.
    Unplayable(String),
}

impl VerbSpec {
    /// What the verb plays, in order; empty for verbs that play nothing.
    pub fn segments(&self) -> Vec<Segment> {
        match self {
            Self::Say(say) => vec![say.segment()],
            Self::Play(play) => vec![play.segment()],
            Self::Gather(gather) => gather.prompts.iter().map(PromptSpec::segment).collect(),
            _ => Vec::new(),
        }
    }
}

impl SaySpec {
    pub fn segment(&self) -> Segment {
        let parts = self.parts.iter().map(|part| match part {
            SayPart::Text { text, voice, language } => SegmentPart::Audio(AudioSource::Say {
                text: text.clone(),
                voice: voice.clone(),
                language: language.clone(),
            }),
            SayPart::Break(length) => SegmentPart::SilenceMs(millis(*length)),
            SayPart::Prompt(name) => SegmentPart::Audio(AudioSource::Prompt { name: name.clone() }),
        });
        Segment { parts: parts.collect(), loops: self.loops, verb: VerbName::Say }
    }
}

impl PlaySpec {
    pub fn segment(&self) -> Segment {
        let part = match &self.what {
            Playable::Url(Link::Absolute(url)) => SegmentPart::Audio(AudioSource::Url { url: url.clone() }),
            Playable::Url(Link::Unresolvable(text)) => SegmentPart::Unplayable(text.clone()),
            Playable::Prompt(name) => SegmentPart::Audio(AudioSource::Prompt { name: name.clone() }),
            Playable::Digits(digits) => SegmentPart::Digits(digits.clone()),
        };
        Segment { parts: vec![part], loops: self.loops, verb: VerbName::Play }
    }
}

impl PromptSpec {
    fn segment(&self) -> Segment {
        match self {
            Self::Say(say) => say.segment(),
            Self::Play(play) => play.segment(),
            Self::Pause(pause) => {
                let parts = vec![SegmentPart::SilenceMs(millis(pause.length))];
                Segment { parts, loops: 1, verb: VerbName::Pause }
            }
        }
    }
}

impl NounSpec {
    /// A noun without attributes.
    pub fn plain(target: DialTarget) -> Self {
        Self { target, whisper: None, status_callback: None, send_digits: None }
    }

    pub fn sip(&self) -> Option<&SipTarget> {
        match &self.target {
            DialTarget::Sip(sip) => Some(sip),
            DialTarget::Number(_) | DialTarget::Client { .. } | DialTarget::Application { .. } => None,
        }
    }
}

fn millis(length: Duration) -> u32 {
    u32::try_from(length.as_millis()).unwrap_or(u32::MAX)
}
