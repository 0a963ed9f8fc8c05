//! What goes into an interpreter and what comes out of it: the whole contract between `twiml` and a call.
//!
//! Everything here is plain data that serialises, so that a call with a running verb can be checkpointed and
//! continued elsewhere. Durations are relative; the call owns the clock and turns [`VerbEffect::SetTimer`] into
//! a deadline of its own.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{BranchId, CallSid, MessageSid, RecordingSid, StreamSid};
use crate::twiml::conference::{ConferenceSpec, Membership};
use crate::twiml::inline::InlineDocument;
use crate::twiml::notice::Notice;
use crate::twiml::queue::{DequeueSpec, EnqueueSpec, Taking, Waiting};

/// HTTP method of a request that a document asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Method {
    Get,
    #[default]
    Post,
}

/// A URL of the customer's application and how to ask it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Absolute; may carry userinfo and `#rc=..` overrides, which only `app` interprets.
    pub url: String,
    pub method: Method,
}

/// A document that takes the place of whatever runs: the first of a call, a live update, a whisper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDocument {
    pub source: DocumentSource,
    /// Replaces the fallback of the call; `None` keeps the one that is set.
    pub fallback: Option<Endpoint>,
    pub at_end: AtEnd,
}

/// Where a document comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DocumentSource {
    Url(Endpoint),
    /// What a transfer leads to, and what the application is told of it.
    Transfer {
        endpoint: Endpoint,
        params: Vec<(String, String)>,
    },
    /// The text itself; relative URLs in it have nothing to resolve against and fail with 11100.
    Twiml(InlineDocument),
}

/// What the end of a document means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AtEnd {
    /// The call is hung up: every ordinary leg.
    #[default]
    HangUp,
    /// As `HangUp`, but a caller whom nobody has answered goes on with the fallback first: calls of a trunk.
    Rescue,
    /// The leg is ready to be bridged ([`VerbEffect::Accept`]): the whisper on a dialled leg.
    Accept,
    /// What was to be played has been played ([`HangupReason::EndOfDocument`]): music and announcements in a room, of
    /// which no party hangs up. Verbs other than Say, Play, Pause and Redirect are skipped.
    Silence,
    /// As `Silence`, for one who waits alone: Gather, Hangup and Leave may stand too.
    Wait,
}

/// What a verb needs before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Precondition {
    /// Nothing: starts in any state of the call.
    None,
    /// The leg has not been answered; fails at once if it has.
    Unanswered,
    /// The leg has been answered; the call answers it if need be.
    Answered,
    /// Answered, and audio can be played to the leg.
    MediaReady,
}

/// What happens to a running verb.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum VerbInput {
    /// What [`VerbEffect::Require`] asked for holds. Also the answer when it held already.
    Ready,
    /// What was required cannot be had.
    PreconditionFailed,
    /// The answer to [`VerbEffect::Prepare`] of that ticket.
    Audio {
        ticket: u32,
        result: Result<ClipRef, AudioFailure>,
    },
    /// The player of that number has come to its end, or could not go on (`finished: false`).
    ///
    /// Not sent for a player that was stopped or replaced; harmless if it is, by its number.
    PlayEnded {
        player: u32,
        finished: bool,
    },
    /// The caller pressed one of `0-9 * # A-D`.
    Digit(char),
    /// The time of the last [`VerbEffect::SetTimer`] is over.
    Timer,
    Branch {
        branch: BranchId,
        event: BranchEvent,
    },
    /// The recording of that number has its name, and this URL.
    RecordingNamed {
        recording: u32,
        sid: RecordingSid,
        url: String,
    },
    /// The recording is over, and its file complete.
    RecordingEnded {
        recording: u32,
        ended: RecordingEnded,
    },
    /// The application has taken the stream of that number.
    StreamStarted {
        stream: u32,
        sid: StreamSid,
    },
    /// The stream is over; `error` says why, where that was no wish of the application.
    StreamEnded {
        stream: u32,
        error: Option<String>,
    },
    /// What the conference tells that [`VerbEffect::JoinConference`] named.
    Conference(Membership),
    /// What the queue tells that [`VerbEffect::Enqueue`] named.
    Waiting(Waiting),
    /// What the queue tells that [`VerbEffect::Dequeue`] named.
    Taking(Taking),
    /// The answer to [`VerbEffect::SendMessage`]: it is queued, or cannot be sent.
    MessageTaken {
        sid: Option<MessageSid>,
    },
    /// The edge has started anew: the rooms that were here are gone, and who was in one goes there again.
    Restored,
    /// The leg's peer wants to be replaced; answered by [`VerbEffect::NotifyRefer`].
    Referred(Referral),
    /// The final response to [`VerbEffect::Refer`]; 408 and 503 also where none came.
    ReferAnswered {
        status: u16,
    },
    /// What the peer tells of the call that it was asked to make: the status of a response.
    ReferNotified {
        status: u16,
        is_last: bool,
    },
    /// The answer to [`VerbEffect::Fetch`] of that number. A late one for a replaced fetch is ignored.
    Document {
        fetch: u32,
        result: Result<Fetched, FetchFailure>,
    },
    /// The leg is gone: its party hung up, or the API ended it.
    HungUp,
    /// The media session was reopened elsewhere; its player goes on at `offset_ms`.
    Resumed {
        offset_ms: u64,
    },
    /// The first document of a call, or a live update: interrupts whatever runs.
    Replace(NewDocument),
}

/// What a verb wants done. Order matters: carry them out as they come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum VerbEffect {
    /// Bring the call there and answer with [`VerbInput::Ready`] or [`VerbInput::PreconditionFailed`].
    ///
    /// `Answered` and `MediaReady` are asked for once in the life of a leg.
    Require(Precondition),
    /// Make audio of `source`; answer with [`VerbInput::Audio`]. May come before the leg is answered.
    Prepare {
        ticket: u32,
        source: AudioSource,
    },
    /// Play to the leg, in place of whatever plays; `loops` counts the whole list, 0 is endless.
    Play {
        player: u32,
        items: Vec<PlayPart>,
        loops: u32,
    },
    /// Stop the player; no `PlayEnded` is wanted for it.
    StopPlay,
    /// The one timer of the running verb: sets, moves or (with `None`) clears it.
    SetTimer(Option<Duration>),
    /// The leg hears itself, or no longer.
    Echo(bool),
    /// What an unanswered or waiting caller is told of the callee's ringing.
    Ringback(Ringback),
    /// The caller may hear the branch's early media; ends any ringback.
    EarlyMedia(BranchId),
    /// Call somebody; answered by [`VerbInput::Branch`] with that branch's number.
    StartBranch(Box<BranchSpec>),
    /// End a branch in whatever state it is: CANCEL, or BYE. Its last event may still come.
    CancelBranch(BranchId),
    /// Join the leg with an answered branch. Answers the leg first if that has not been done.
    Bridge(BranchId),
    /// Part the leg from the branch that it is joined with; neither is hung up by this.
    Unbridge,
    /// Record the leg; answered by [`VerbInput::RecordingNamed`], and by [`VerbInput::RecordingEnded`] when it is over,
    /// which it is at the latest with the leg.
    StartRecording {
        recording: u32,
        spec: Box<RecordingSpec>,
    },
    StopRecording(u32),
    /// Stop what `<Start>` has begun to record.
    StopStartedRecordings,
    /// Tell an application what is said on the leg; answered by [`VerbInput::StreamStarted`] and, unless it is stopped, by
    /// [`VerbInput::StreamEnded`].
    StartStream {
        stream: u32,
        spec: Box<StreamSpec>,
    },
    StopStream(u32),
    /// Stop what `<Start>` or the API has begun, of that name or all.
    StopStreams(Option<String>),
    /// Tell the application of a key.
    TellStream {
        stream: u32,
        digit: char,
    },
    /// Make the leg a member; answered by [`VerbInput::Conference`].
    JoinConference(Box<ConferenceSpec>),
    /// Answered by [`Membership::Left`], if it is a member.
    LeaveConference,
    /// Let the call wait in a queue; answered by [`VerbInput::Waiting`].
    Enqueue(Box<EnqueueSpec>),
    /// Answered by [`Waiting::Stands`].
    AskQueue,
    /// What a call was to hear before it is joined, it has heard.
    QueueReady,
    /// Join the call with the first of a queue; answered by [`VerbInput::Taking`].
    Dequeue(Box<DequeueSpec>),
    /// Neither wait nor take any more. A pair that is joined is parted, and the other is told.
    LeaveQueue,
    /// Send a text; answered by [`VerbInput::MessageTaken`].
    SendMessage(Box<SmsSpec>),
    /// Ask the leg's peer to call this URI instead; answered by [`VerbInput::ReferAnswered`].
    Refer {
        uri: String,
        headers: Vec<(String, String)>,
    },
    /// Tell the leg's peer, or that of a branch, by a final status what became of its REFER.
    NotifyRefer {
        of: Option<BranchId>,
        status: u16,
    },
    /// Give the branch's leg a document of its own: it is no branch any more.
    HandOver {
        branch: BranchId,
        document: NewDocument,
    },
    Fetch(FetchOrder),
    /// The answer to this fetch is no longer wanted.
    CancelFetch(u32),
    /// Refuse the unanswered leg. The interpreter has finished.
    Reject(RejectReason),
    /// End the leg. The interpreter has finished.
    Hangup(HangupReason),
    /// The whisper is over: the dialled leg is ready to be bridged ([`BranchEvent::Accepted`] for its parent).
    Accept,
    /// Publish an error or a warning.
    Notify(Notice),
    VerbStarted(VerbName),
    VerbEnded(VerbName),
}

/// Where audio comes from. Equal sources have equal audio and are asked for once in a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AudioSource {
    /// Spoken text; `voice` and `language` as in the document, empty where it names none.
    Say { text: String, voice: String, language: String },
    /// Fetched from the customer, absolute.
    Url { url: String },
    /// A prompt that is part of Dialtone (`speech::prompts`): `<Play>dialtone:NAME</Play>` and our own messages.
    Prompt { name: String },
}

/// Audio that is ready to be played, named by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClipRef {
    /// SHA-256 of its samples.
    pub hash: [u8; 32],
    pub duration_ms: u64,
}

/// Why there is no audio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioFailure {
    /// Twilio's number: 13520 for speech; 12300, 11200 and their like for a URL.
    pub code: u32,
    pub text: String,
}

/// A piece of a playlist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlayPart {
    /// The clip of that hash.
    Clip([u8; 32]),
    SilenceMs(u32),
    /// DTMF to the leg: `0-9 * # A-D`, `w` 0.5 s, `W` 1 s.
    Digits(String),
    /// The tone that says: speak now.
    Beep,
    /// What the application sends by a stream, as it comes.
    Live,
}

/// Where the sound of a leg goes, and whether what comes from there is heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSpec {
    /// `ws` or `wss`, absolute.
    pub url: String,
    pub name: Option<String>,
    pub track: RecordingTrack,
    /// The player by which the leg hears the application; `None`: it only listens.
    pub player: Option<u32>,
    /// What the application is told at its beginning.
    pub params: Vec<(String, String)>,
    pub callback: Option<Endpoint>,
}

/// What of a leg is to be recorded, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingSpec {
    pub source: RecordingSource,
    pub track: RecordingTrack,
    /// 2: what the party says on the left, what it hears on the right.
    pub channels: u32,
    /// Leave out the silence at both ends.
    pub trim: bool,
    pub max_length: Option<Duration>,
    /// Silence that ends it.
    pub silence_timeout: Option<Duration>,
    pub callback: Option<RecordingCallback>,
}

/// What made a recording; the names are Twilio's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RecordingSource {
    RecordVerb,
    DialVerb,
    Conference,
    OutboundAPI,
    StartCallRecordingAPI,
    StartCallRecordingTwiML,
    StartConferenceRecordingAPI,
}

/// Whose voice a recording has, as seen from its leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingTrack {
    #[default]
    Both,
    /// What the party says.
    Inbound,
    /// What the party hears.
    Outbound,
}

/// Where the steps of a recording are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingCallback {
    pub endpoint: Endpoint,
    /// Without any in the document, `completed` only.
    pub events: Vec<RecordingEvent>,
}

/// A step of a recording that a callback may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RecordingEvent {
    InProgress,
    Completed,
    Absent,
}

/// How a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingEnded {
    pub how: RecordingEnd,
    pub duration: Duration,
    /// Somebody said something.
    pub voiced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordingEnd {
    /// By [`VerbEffect::StopRecording`], from outside, or with the leg.
    Stopped,
    Silence,
    MaxLength,
    /// There is no file, or not all of it.
    Failed,
}

/// What the caller hears, or is told by 180, while a branch rings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ringback {
    Off,
    /// 180 while the leg is unanswered; the default tone once it is answered.
    Automatic,
    /// The tone of that country, as `ringTone` names it (`us`, `de`, `us-old`).
    Country(String),
}

/// Somebody to be called by a `<Dial>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchSpec {
    pub branch: BranchId,
    pub target: Target,
    /// Well formed, not checked for ownership; `None`: the default of the call.
    pub caller_id: Option<String>,
    /// How long it may ring. The verb has a timer for it; the call may use it for `Expires`.
    pub timeout: Duration,
    /// The document that the callee hears before it is bridged. It ends in `Accepted` or in `Ended`.
    pub whisper: Option<Endpoint>,
    pub status_callback: Option<StatusCallback>,
    /// DTMF sent to the callee when it has answered, before anything else.
    pub send_digits: Option<String>,
}

/// Twilio's limit for a text.
pub const MAX_MESSAGE_CHARS: usize = 1_600;

/// A text to be sent; what is `None` is the call's other end, and its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmsSpec {
    pub to: Option<String>,
    pub from: Option<String>,
    pub body: String,
    pub callback: Option<Endpoint>,
}

/// Whom a branch calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Digits with an optional `+`; no spaces or punctuation.
    Number(String),
    Client {
        identity: String,
        parameters: Vec<(String, String)>,
    },
    Sip(SipTarget),
    /// An application of the account: a call inside, which its document answers.
    Application {
        sid: String,
        parameters: Vec<(String, String)>,
        /// Whether it is told whom the calling call has called, instead of itself.
        copies_to: bool,
    },
}

/// A SIP URI to call. No part of it holds a control character.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipTarget {
    /// Without the headers that followed its `?`.
    pub uri: String,
    /// Headers of the URI, decoded: `X-*` and `User-to-User` only.
    pub headers: Vec<(String, String)>,
    /// With `password`, for whichever realm challenges at this URI: that the document gives both with it binds them to
    /// its host.
    pub username: Option<String>,
    pub password: Option<String>,
}

/// Where progress of a branch is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCallback {
    pub endpoint: Endpoint,
    /// Which steps are told; without any in the document, `completed` only.
    pub events: Vec<CallbackEvent>,
}

/// A step of a dialled call that a status callback may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CallbackEvent {
    Initiated,
    Ringing,
    Answered,
    Completed,
}

/// What became of a branch, told in this order; `Failed` or `Ended` is the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BranchEvent {
    /// The dialled call exists and has a sid.
    Started {
        call: CallSid,
    },
    Ringing,
    /// The callee sends audio before it answers.
    EarlyMedia,
    /// The callee has answered: ready to bridge, unless its spec has a whisper.
    Answered,
    /// The whisper has ended without a hang-up: ready to bridge.
    Accepted,
    /// The callee wants to be replaced; answered by [`VerbEffect::NotifyRefer`].
    Referred(Referral),
    /// It was never answered.
    Failed {
        status: BranchFailure,
        sip: Option<SipOutcome>,
    },
    /// It was answered and is over; `duration` counts from its answer, `None` if it goes on with a document of its own.
    Ended {
        duration: Option<Duration>,
        sip: Option<SipOutcome>,
    },
}

/// What a party asks for that wants to be replaced (RFC 3515).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Referral {
    /// A URI, with what its `?` brings.
    pub target: String,
    /// Headers of the request, as the application is told of them: `SipHeader_X-...`.
    pub params: Vec<(String, String)>,
}

/// Why a branch was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BranchFailure {
    Busy,
    NoAnswer,
    Failed,
    Canceled,
}

/// What the action of a `<Dial>` with a `<Sip>` tells of the SIP side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipOutcome {
    pub call_id: String,
    /// The final response, if one came.
    pub response_code: Option<u16>,
}

/// A document that is wanted from the customer's application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchOrder {
    pub fetch: u32,
    pub endpoint: Endpoint,
    /// What this verb adds to the standard parameters of the call.
    pub params: Vec<(String, String)>,
    pub reason: FetchReason,
    /// False once the leg is gone: the request is owed to the customer, its answer is not read.
    pub answer_wanted: bool,
}

/// Why a document is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FetchReason {
    /// The first document of the call, a live update or a whisper.
    Document,
    Action,
    Redirect,
    /// A party of a joined call wants to be replaced.
    Transfer,
    Fallback,
}

/// A document as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    pub body: Bytes,
    /// The `Content-Type` header, `None` where there was none.
    pub content_type: Option<String>,
    /// The URL that gave it, after redirects; relative URLs in the document resolve against it.
    pub url: String,
}

/// Why a document could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchFailure {
    /// Twilio's number (11200, 11205, ...).
    pub code: u32,
    pub text: String,
    pub url: String,
}

/// How an unanswered leg is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejectReason {
    /// SIP 603.
    #[default]
    Rejected,
    /// SIP 486.
    Busy,
}

/// Why a leg is hung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HangupReason {
    /// `<Hangup>`, or `<Reject>` when it came too late.
    Verb,
    EndOfDocument,
    /// The document is over, and nobody whom its `<Dial>`s called has answered; the SIP status for a caller who has not been
    /// answered either.
    Unreached(u16),
    /// A document could not be had or read, and neither could the fallback; the caller has been told.
    ApplicationError,
    /// A verb's precondition could not be met.
    Unavailable,
}

/// A verb's name, as a label and in notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VerbName {
    Say,
    Play,
    Pause,
    Gather,
    Dial,
    Redirect,
    Hangup,
    Reject,
    Echo,
    Record,
    Start,
    Stop,
    Enqueue,
    Leave,
    Refer,
    Sms,
    Connect,
}

impl Method {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

impl VerbName {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Say => "Say",
            Self::Play => "Play",
            Self::Pause => "Pause",
            Self::Gather => "Gather",
            Self::Dial => "Dial",
            Self::Redirect => "Redirect",
            Self::Hangup => "Hangup",
            Self::Reject => "Reject",
            Self::Echo => "Echo",
            Self::Record => "Record",
            Self::Start => "Start",
            Self::Stop => "Stop",
            Self::Enqueue => "Enqueue",
            Self::Leave => "Leave",
            Self::Refer => "Refer",
            Self::Sms => "Sms",
            Self::Connect => "Connect",
        }
    }
}

impl CallbackEvent {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initiated => "initiated",
            Self::Ringing => "ringing",
            Self::Answered => "answered",
            Self::Completed => "completed",
        }
    }
}

impl RecordingEnded {
    /// Nothing was said, and nothing is kept.
    pub fn is_empty(&self) -> bool {
        !self.voiced && (self.how == RecordingEnd::Silence || self.duration.is_zero())
    }
}

impl RecordingSource {
    /// As the customer sees it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RecordVerb => "RecordVerb",
            Self::DialVerb => "DialVerb",
            Self::Conference => "Conference",
            Self::OutboundAPI => "OutboundAPI",
            Self::StartCallRecordingAPI => "StartCallRecordingAPI",
            Self::StartCallRecordingTwiML => "StartCallRecordingTwiML",
            Self::StartConferenceRecordingAPI => "StartConferenceRecordingAPI",
        }
    }
}

impl RecordingTrack {
    /// As the customer sees it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl RecordingEvent {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Absent => "absent",
        }
    }
}

impl BranchFailure {
    /// As `DialCallStatus` and `CallStatus` have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::NoAnswer => "no-answer",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}
