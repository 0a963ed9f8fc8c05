//! What kinds of events there are. Those that Twilio's Event Streams have too are called as there.

use crate::events::{ConferenceStep, EventKind, MessageStatus, QueueStep, StreamStep};

/// A kind of event.
#[derive(Debug, PartialEq, Eq)]
pub struct EventType {
    /// As in `type`.
    pub name: &'static str,
    /// A shorter name for filters.
    pub short: &'static str,
    pub description: &'static str,
}

const fn kind(name: &'static str, short: &'static str, description: &'static str) -> EventType {
    EventType { name, short, description }
}

/// All of them.
pub static TYPES: &[EventType] = &[
    kind("com.twilio.voice.status-callback.call.initiated", "call.initiated", "A call begins"),
    kind("com.twilio.voice.status-callback.call.ringing", "call.ringing", "The called party is alerted"),
    kind("com.twilio.voice.status-callback.call.answered", "call.answered", "A call is answered"),
    kind("com.twilio.voice.status-callback.call.completed", "call.completed", "A call is over, however it ended"),
    kind("com.twilio.voice.twiml.call.requested", "call.requested", "The application was asked for a document"),
    kind("dialtone.voice.call.verb-started", "call.verb-started", "A verb of the document begins"),
    kind("dialtone.voice.call.held", "call.held", "The other party puts the call on hold, or takes it back"),
    kind("dialtone.voice.call.silent", "call.silent", "No sound has come for two seconds"),
    kind("dialtone.voice.dtmf.received", "dtmf.received", "A key was pressed"),
    kind(
        "com.twilio.voice.status-callback.recording.in-progress",
        "recording.in-progress",
        "A recording begins, or goes on",
    ),
    kind("com.twilio.voice.status-callback.recording.paused", "recording.paused", "A recording is paused"),
    kind("com.twilio.voice.status-callback.recording.completed", "recording.completed", "A recording is complete"),
    kind("com.twilio.voice.status-callback.recording.absent", "recording.absent", "Nothing was said: no recording"),
    kind("com.twilio.voice.status-callback.recording.failed", "recording.failed", "A recording could not be kept"),
    kind("com.twilio.voice.status-callback.recording.deleted", "recording.deleted", "A recording was deleted"),
    kind("com.twilio.voice.status-callback.conference.started", "conference.started", "A conference begins"),
    kind("com.twilio.voice.status-callback.conference.ended", "conference.ended", "A conference is over"),
    kind("com.twilio.voice.status-callback.participant.joined", "participant.joined", "A call joins a conference"),
    kind("com.twilio.voice.status-callback.participant.left", "participant.left", "A call leaves a conference"),
    kind(
        "com.twilio.voice.status-callback.participant.modified",
        "participant.modified",
        "A participant is muted, held, or otherwise another than before",
    ),
    kind(
        "com.twilio.voice.status-callback.participant.speech-started",
        "participant.speech-started",
        "A participant begins to speak",
    ),
    kind(
        "com.twilio.voice.status-callback.participant.speech-stopped",
        "participant.speech-stopped",
        "A participant stops speaking",
    ),
    kind(
        "com.twilio.voice.status-callback.announcement.processed",
        "announcement.processed",
        "An announcement in a conference is over, or failed",
    ),
    kind("dialtone.voice.queue.entered", "queue.entered", "A call comes into a queue"),
    kind("dialtone.voice.queue.left", "queue.left", "A call leaves a queue"),
    kind("dialtone.voice.stream.started", "stream.started", "An application listens to a call by a media stream"),
    kind("dialtone.voice.stream.stopped", "stream.stopped", "A media stream is over"),
    kind("dialtone.voice.stream.failed", "stream.failed", "A media stream did not come about, or broke"),
    kind("com.twilio.messaging.message.queued", "message.queued", "A message waits to be sent"),
    kind("com.twilio.messaging.message.sent", "message.sent", "A message is on its way"),
    kind("com.twilio.messaging.message.delivered", "message.delivered", "A device has a message"),
    kind("com.twilio.messaging.message.undelivered", "message.undelivered", "No device took a message"),
    kind("com.twilio.messaging.message.failed", "message.failed", "A message could not be sent"),
    kind("com.twilio.messaging.inbound-message.received", "inbound-message.received", "A message came in"),
    kind("com.twilio.error-logs.error.logged", "error.logged", "A document or a request gave an error or a warning"),
    kind("dialtone.presence.changed", "presence.changed", "A client can be reached, or cannot any more"),
    kind("dialtone.usage.trigger.fired", "trigger.fired", "A usage trigger fires"),
];

/// The kind of that name, long or short.
pub fn named(name: &str) -> Option<&'static EventType> {
    TYPES.iter().find(|known| known.name == name || known.short == name)
}

/// One of the table.
pub(super) fn known(short: &str) -> &'static EventType {
    named(short).expect("the name stands in the table, which a test goes through")
}

/// The kind that a fact is told as; `None`: it is told to nobody.
pub fn type_of(kind: &EventKind) -> Option<&'static EventType> {
    let short = match kind {
        EventKind::Initiated(initiated) if initiated.is_withdrawn => return None,
        EventKind::Initiated(_) => "call.initiated",
        EventKind::Ringing => "call.ringing",
        EventKind::Answered => "call.answered",
        EventKind::Completed(_) => "call.completed",
        EventKind::Requested { .. } => "call.requested",
        EventKind::VerbStarted { .. } => "call.verb-started",
        EventKind::Held { .. } => "call.held",
        EventKind::Silent { .. } => "call.silent",
        EventKind::Noticed(_) => "error.logged",
        EventKind::Recording(fact) => match fact.status.as_str() {
            "in-progress" => "recording.in-progress",
            "paused" => "recording.paused",
            "completed" => "recording.completed",
            "absent" => "recording.absent",
            "failed" => "recording.failed",
            _ => "recording.deleted",
        },
        EventKind::Conference(fact) => match fact.step {
            ConferenceStep::ConferenceStart => "conference.started",
            ConferenceStep::ConferenceEnd => "conference.ended",
            ConferenceStep::ParticipantJoin => "participant.joined",
            ConferenceStep::ParticipantLeave => "participant.left",
            ConferenceStep::ParticipantMute
            | ConferenceStep::ParticipantUnmute
            | ConferenceStep::ParticipantHold
            | ConferenceStep::ParticipantUnhold
            | ConferenceStep::ParticipantModify => "participant.modified",
            ConferenceStep::ParticipantSpeechStart => "participant.speech-started",
            ConferenceStep::ParticipantSpeechStop => "participant.speech-stopped",
            ConferenceStep::AnnouncementEnd | ConferenceStep::AnnouncementFail => "announcement.processed",
        },
        EventKind::Dtmf { .. } => "dtmf.received",
        EventKind::Queue(fact) => match fact.step {
            QueueStep::Entered => "queue.entered",
            QueueStep::Left => "queue.left",
        },
        EventKind::Stream(fact) => match fact.step {
            StreamStep::Started => "stream.started",
            StreamStep::Resumed => return None,
            StreamStep::Stopped => "stream.stopped",
            StreamStep::Error => "stream.failed",
        },
        EventKind::Message(fact) => match fact.status {
            MessageStatus::Queued => "message.queued",
            MessageStatus::Sent => "message.sent",
            MessageStatus::Delivered => "message.delivered",
            MessageStatus::Undelivered => "message.undelivered",
            MessageStatus::Failed => "message.failed",
            MessageStatus::Received => "inbound-message.received",
            MessageStatus::Receiving => return None,
        },
        EventKind::CallbackChanged(_) | EventKind::UserMessage(_) | EventKind::CallerId(_) | EventKind::Order(_) => {
            return None;
        }
    };
    Some(known(short))
}
