//! What is told of a call, a recording, a conference or a message outside: the parameters of callbacks, and the data of events.

use super::{
    CallRecord, CallerIdFact, ConferenceFact, ConferenceReason, ConferenceStep, Event, MessageFact, RecordingFact,
    RecordingStatus, StreamFact, UserMessageFact, iso_8601_ms, recording_url, rfc_2822,
};
use crate::twiml;

/// Names and values, in the order in which they are told.
pub type Params = Vec<(String, String)>;

/// What the callback of a validation says.
pub fn caller_id_params(event: &Event, fact: &CallerIdFact) -> Params {
    let params = [
        ("AccountSid", event.account.to_string()),
        ("ApiVersion", "2010-04-01".to_owned()),
        ("To", fact.number.clone()),
        ("Called", fact.number.clone()),
        ("VerificationStatus", "success".to_owned()),
        ("OutgoingCallerIdSid", fact.sid.to_string()),
    ];
    params.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// What who has subscribed to a page's messages is told.
pub fn user_message_params(event: &Event, fact: &UserMessageFact) -> Params {
    let params = [
        ("AccountSid", event.account.to_string()),
        ("CallSid", event.call.to_string()),
        ("Sid", fact.sid.to_string()),
        ("Content", fact.content.clone()),
        ("ContentType", "application/json".to_owned()),
        ("SequenceNumber", fact.number.to_string()),
        ("Timestamp", rfc_2822(event.at_ms)),
    ];
    params.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// What the callback of a stream says.
pub fn stream_params(event: &Event, fact: &StreamFact) -> Params {
    let mut params = vec![
        ("AccountSid", event.account.to_string()),
        ("CallSid", event.call.to_string()),
        ("StreamSid", fact.sid.to_string()),
        ("StreamName", fact.name.clone().unwrap_or_else(|| fact.sid.to_string())),
        ("StreamEvent", fact.step.as_str().to_owned()),
        ("Timestamp", iso_8601_ms(event.at_ms)),
    ];
    if !fact.error.is_empty() {
        params.push(("StreamError", fact.error.clone()));
    }
    params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What a message's callback says.
pub fn message_params(event: &Event, fact: &MessageFact) -> Params {
    let mut params = vec![
        ("MessageSid", fact.sid.to_string()),
        ("SmsSid", fact.sid.to_string()),
        ("MessageStatus", fact.status.as_str().to_owned()),
        ("SmsStatus", fact.status.as_str().to_owned()),
        ("From", fact.from.clone()),
        ("To", fact.to.clone()),
        ("AccountSid", event.account.to_string()),
        ("ApiVersion", "2010-04-01".to_owned()),
    ];
    if fact.error_code > 0 {
        params.push(("ErrorCode", fact.error_code.to_string()));
    }
    params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What a conference's callback says.
pub fn conference_params(event: &Event, fact: &ConferenceFact) -> Params {
    let mut params = vec![
        ("ConferenceSid", fact.sid.to_string()),
        ("FriendlyName", fact.name.clone()),
        ("AccountSid", event.account.to_string()),
        ("Timestamp", rfc_2822(event.at_ms)),
        ("StatusCallbackEvent", fact.step.as_str().to_owned()),
        ("SequenceNumber", fact.sequence.to_string()),
    ];
    if let Some(member) = &fact.participant {
        params.extend([
            ("CallSid", member.call.to_string()),
            ("Muted", member.muted.to_string()),
            ("Hold", member.hold.to_string()),
            ("Coaching", member.coach.is_some().to_string()),
            ("EndConferenceOnExit", member.end_on_exit.to_string()),
            ("StartConferenceOnEnter", member.start_on_enter.to_string()),
        ]);
        params.extend(member.coach.map(|coached| ("CallSidToCoach", coached.to_string())));
        if !member.label.is_empty() {
            params.push(("ParticipantLabel", member.label.clone()));
        }
    }
    let reason = fact.reason.as_ref().map(|reason| reason.as_str().to_owned());
    match (fact.step, reason) {
        (ConferenceStep::ConferenceEnd, reason) => {
            params.push(("CallSidEndingConference", event.call.to_string()));
            params.extend(reason.map(|reason| ("ReasonConferenceEnded", reason)));
            params.extend(fact.reason.as_ref().map(|reason| ("Reason", reason.text().to_owned())));
        }
        (ConferenceStep::ParticipantLeave, reason) => {
            let status =
                if fact.reason == Some(ConferenceReason::ParticipantHungUp) { "completed" } else { "in-progress" };
            params.push(("ParticipantCallStatus", status.to_owned()));
            params.extend(reason.map(|reason| ("ReasonParticipantLeft", reason)));
        }
        (ConferenceStep::AnnouncementEnd | ConferenceStep::AnnouncementFail, reason) => {
            params.extend(
                reason
                    .map(|url| ("ReasonAnnouncementFailed", url))
                    .filter(|_| fact.step == ConferenceStep::AnnouncementFail),
            );
        }
        _ => {}
    }
    params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What a recording's callback says.
pub fn recording_params(event: &Event, fact: &RecordingFact, public_url: &str) -> Params {
    let mut params = vec![
        ("AccountSid", event.account.to_string()),
        ("CallSid", event.call.to_string()),
        ("RecordingSid", fact.sid.to_string()),
        ("RecordingUrl", recording_url(public_url, event.account, fact.sid)),
        ("RecordingStatus", fact.status.as_str().to_owned()),
        ("RecordingChannels", fact.channels.to_string()),
        ("RecordingStartTime", rfc_2822(fact.started_ms)),
        ("RecordingSource", fact.source.as_str().to_owned()),
        ("RecordingTrack", fact.track.as_str().to_owned()),
        ("ErrorCode", if fact.status == RecordingStatus::Failed { FAILED.to_string() } else { "0".to_owned() }),
    ];
    if let Some(conference) = fact.conference {
        params.push(("ConferenceSid", conference.to_string()));
    }
    if fact.status.is_final() {
        params.push(("RecordingDuration", fact.duration_s().to_string()));
    }
    params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The error number of a recording that could not be kept.
const FAILED: u32 = twiml::notice::code::INTERNAL;

/// What a call's callback says; `number` counts them.
pub fn call_params(event: &Event, record: &CallRecord, number: u32, public_url: &str) -> Params {
    let mut params = vec![
        ("CallSid".to_owned(), record.sid.to_string()),
        ("AccountSid".to_owned(), record.account.to_string()),
        ("From".to_owned(), record.from.clone()),
        ("To".to_owned(), record.to.clone()),
        ("Caller".to_owned(), record.from.clone()),
        ("Called".to_owned(), record.to.clone()),
        ("CallStatus".to_owned(), record.status.as_str().to_owned()),
        ("Direction".to_owned(), record.direction.as_str().to_owned()),
        ("ApiVersion".to_owned(), "2010-04-01".to_owned()),
        ("CallbackSource".to_owned(), "call-progress-events".to_owned()),
        ("SequenceNumber".to_owned(), number.to_string()),
        ("Timestamp".to_owned(), rfc_2822(event.at_ms)),
    ];
    if let Some(parent) = record.parent {
        params.push(("ParentCallSid".to_owned(), parent.to_string()));
    }
    if let Some(completed) = &record.completed {
        params.push(("CallDuration".to_owned(), record.duration_s().to_string()));
        params.push(("Duration".to_owned(), record.duration_s().div_ceil(60).to_string()));
        if let Some(recorded) = completed.recorded {
            let url = recording_url(public_url, record.account, recorded.sid);
            params.push(("RecordingUrl".to_owned(), url));
            params.push(("RecordingSid".to_owned(), recorded.sid.to_string()));
            params.push(("RecordingDuration".to_owned(), recorded.duration_ms.div_ceil(1000).to_string()));
        }
        if completed.sip_status > 0 {
            params.push(("SipResponseCode".to_owned(), completed.sip_status.to_string()));
        }
    }
    params
}
