//! Facts, published once: the outbox that everything which counts or tells is made of.
//!
//! A call publishes [`Event`]s and knows nobody who reads them. [`Outbox`] writes them to a journal on disk and then
//! hands them, each with the [`CallRecord`] that its call's events add up to, to the subscribers: store, callbacks,
//! metrics. After a crash the journal is read again, so that each call has exactly one end.

mod conference;
mod journal;
mod live;
mod message;
mod notification;
mod outbox;
mod parameters;
mod queue;
mod record;
mod recording;
mod shelf;
mod stream;
mod trace;
mod user_message;

use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::{Deserialize, Serialize};

use crate::ids::{
    AccountSid, CallSid, ConferenceSid, EventSid, MessageSid, NumberSid, QueueSid, RecordingSid, StreamSid,
};
use crate::twiml::{CallbackEvent, Endpoint, Notice, StatusCallback};

pub use conference::{Conference, ConferenceFact, ConferenceReason, ConferenceStatus, ConferenceStep, Participant};
pub use journal::{DELIVERED, delivered_of};
pub use live::Live;
pub use message::{Message, MessageDirection, MessageFact, MessageStatus};
pub use notification::Notification;
pub use outbox::{
    Fate, Left, Outbox, Publisher, States, Subscriber, Telling, WriteState, end_of_lost_call, ends_of_lost_conferences,
};
pub use parameters::{
    Params, call_params, caller_id_params, conference_params, message_params, recording_params, stream_params,
    user_message_params,
};
pub use queue::{Queue, QueueFact, QueueStep};
pub use record::{CallRecord, Told, is_passed};
pub use recording::{Recording, RecordingFact, RecordingStatus, recording_url};
pub use shelf::{Shelf, Shelves};
pub use stream::{Stream, StreamFact, StreamStep};
pub use trace::{SpanOf, span_id, trace_id, traceparent};
pub use user_message::UserMessageFact;

/// Recordings that run, and those that the store does not have yet.
pub type LiveRecordings = Shelf<RecordingSid, Recording>;
/// The media streams that run.
pub type LiveStreams = Shelf<StreamSid, Stream>;

/// Conferences that run, and those that the store does not have yet.
pub type LiveConferences = Shelf<ConferenceSid, Conference>;

/// Messages that are on their way, and those that the store does not have yet.
pub type LiveMessages = Shelf<MessageSid, Message>;

/// Queues in which somebody waits, or has waited since the start.
pub type LiveQueues = Shelf<QueueSid, Queue>;

/// An immutable fact about a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The idempotency key of everything that is made of it.
    pub id: EventSid,
    pub account: AccountSid,
    pub call: CallSid,
    /// Counts from 0 in its call.
    pub sequence: u32,
    /// Wall clock, milliseconds since 1970.
    pub at_ms: u64,
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// The call exists. Always the first.
    Initiated(Box<Initiated>),
    Ringing,
    Answered,
    /// A verb of the document began.
    VerbStarted {
        verb: String,
    },
    /// The application was asked, and how it went.
    Requested {
        url: String,
        reason: String,
        error: Option<u32>,
        duration_ms: u64,
        /// Which of the call's requests it was.
        #[serde(default)]
        number: u32,
    },
    /// An error or a warning for the customer.
    Noticed(Notice),
    /// The peer held, or went on.
    Held {
        held: bool,
    },
    /// Nothing was heard from the peer for 2 s.
    Silent {
        expected_from: String,
        dropped_from: String,
    },
    /// Others are told of what follows.
    CallbackChanged(Box<StatusCallback>),
    /// What became of a recording.
    Recording(Box<RecordingFact>),
    /// A step of a conference.
    Conference(Box<ConferenceFact>),
    /// A step of a text message.
    Message(Box<MessageFact>),
    /// A call came into a queue, or left it.
    Queue(Box<QueueFact>),
    /// The other party pressed a key. Told only where somebody listens, and not kept with the call.
    Dtmf {
        digit: char,
    },
    /// The page of a browser's call has said something to its application.
    UserMessage(Box<UserMessageFact>),
    /// A step of a media stream.
    Stream(Box<StreamFact>),
    /// A number may be shown from now on.
    CallerId(Box<CallerIdFact>),
    /// An ordered call waits for its turn, or has had it.
    Order(Box<OrderFact>),
    /// The call is over. Always the last of the call itself.
    Completed(Box<Completed>),
}

/// A call that was ordered and waits for its turn: kept, so that it is made whatever stops meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderFact {
    /// Whose it is to make, where servers share a database.
    pub node: String,
    /// Wall clock, milliseconds since 1970.
    pub queued_ms: u64,
    /// The order, as whoever makes the call wrote it; empty when it waits no more.
    pub order: String,
}

impl OrderFact {
    pub fn waits(&self) -> bool {
        !self.order.is_empty()
    }
}

/// A number of somebody else that an account may show, and who is told of that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallerIdFact {
    pub sid: NumberSid,
    pub number: String,
    pub callback: Endpoint,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Initiated {
    pub direction: Direction,
    pub from: String,
    pub to: String,
    pub parent: Option<CallSid>,
    /// The trunk or the user by which the call came or goes, empty if neither.
    pub via: String,
    pub sip_call_id: String,
    /// What the carrier says of the caller's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stir_verstat: Option<String>,
    /// How long it waited for its turn.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub queue_ms: u64,
    /// It was taken back before it was dialled: nobody is told that it begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_withdrawn: bool,
    pub status_callback: Option<StatusCallback>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completed {
    pub status: CallStatus,
    /// The final SIP response, ours or the peer's; 0 if there was none.
    pub sip_status: u16,
    pub ended_by: EndedBy,
    pub media: Media,
    /// The last recording of the call, if it was recorded.
    #[serde(default)]
    pub recorded: Option<LastRecording>,
}

/// A recording of a call that is over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastRecording {
    pub sid: RecordingSid,
    pub duration_ms: u64,
}

/// RTP totals of the leg.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Media {
    pub codec: String,
    pub packets_received: u64,
    pub packets_sent: u64,
    pub packets_lost: u64,
    pub packets_late: u64,
    pub packets_dropped: u64,
    pub jitter_us: u32,
    pub round_trip_us: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    Inbound,
    OutboundApi,
    OutboundDial,
}

impl Direction {
    /// Whether we call, and are not called.
    pub fn is_outbound(self) -> bool {
        self != Direction::Inbound
    }

    /// As the customer sees it.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::OutboundApi => "outbound-api",
            Direction::OutboundDial => "outbound-dial",
        }
    }
}

/// As the customer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallStatus {
    Queued,
    Initiated,
    Ringing,
    InProgress,
    Completed,
    Busy,
    NoAnswer,
    Failed,
    Canceled,
}

impl CallStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            CallStatus::Queued => "queued",
            CallStatus::Initiated => "initiated",
            CallStatus::Ringing => "ringing",
            CallStatus::InProgress => "in-progress",
            CallStatus::Completed => "completed",
            CallStatus::Busy => "busy",
            CallStatus::NoAnswer => "no-answer",
            CallStatus::Failed => "failed",
            CallStatus::Canceled => "canceled",
        }
    }

    /// The status of that name.
    pub fn named(name: &str) -> Option<CallStatus> {
        CallStatus::deserialize(name.into_deserializer() as StrDeserializer<'_, ValueError>).ok()
    }

    pub fn is_final(self) -> bool {
        !matches!(self, CallStatus::Queued | CallStatus::Initiated | CallStatus::Ringing | CallStatus::InProgress)
    }
}

/// For what is written down only where it says something.
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A URL may hold a password, which those who may see events need not know.
pub fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme && !url[scheme + 3..at].contains('/') => {
            format!("{}{}", &url[..scheme + 3], &url[at + 1..])
        }
        _ => url.to_owned(),
    }
}

/// As Twilio writes times: `Wed, 25 Nov 2026 18:00:00 +0000`.
pub fn rfc_2822(wall_ms: u64) -> String {
    let seconds = i64::try_from(wall_ms / 1000).unwrap_or(i64::MAX);
    let time = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    time.format(&time::format_description::well_known::Rfc2822).unwrap_or_default()
}

/// `2026-11-26T20:30:29.123Z`.
pub fn iso_8601_ms(wall_ms: u64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(wall_ms) * 1_000_000);
    let form = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    time.unwrap_or(time::OffsetDateTime::UNIX_EPOCH).format(form).unwrap_or_default()
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The party of this leg.
    Peer,
    /// Its own document, its parent, or the API.
    Application,
    /// We: a failure, a limit, a shutdown.
    Server,
}

impl EndedBy {
    pub fn as_str(self) -> &'static str {
        match self {
            EndedBy::Peer => "peer",
            EndedBy::Application => "application",
            EndedBy::Server => "server",
        }
    }
}

impl EventKind {
    /// Whether it stands for itself: it is no part of its call's record, and may come when that is complete.
    pub fn stands_alone(&self) -> bool {
        matches!(
            self,
            EventKind::Recording(_)
                | EventKind::Conference(_)
                | EventKind::Message(_)
                | EventKind::Queue(_)
                | EventKind::Dtmf { .. }
                | EventKind::UserMessage(_)
                | EventKind::Stream(_)
                | EventKind::CallerId(_)
                | EventKind::Order(_)
        )
    }

    /// The step that a status callback may ask for, if this is one.
    pub fn callback_step(&self) -> Option<CallbackEvent> {
        match self {
            EventKind::Initiated(initiated) if initiated.is_withdrawn => None,
            EventKind::Initiated(_) => Some(CallbackEvent::Initiated),
            EventKind::Ringing => Some(CallbackEvent::Ringing),
            EventKind::Answered => Some(CallbackEvent::Answered),
            EventKind::Completed(_) => Some(CallbackEvent::Completed),
            _ => None,
        }
    }
}
