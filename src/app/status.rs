//! Status callbacks: a subscriber that turns a call's steps into requests to the customer.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use crate::account::Directory;
use crate::app::{CallbackRequest, Callbacks};
use crate::events::{
    CallRecord, CallerIdFact, ConferenceFact, ConferenceReason, ConferenceStep, Event, EventKind, MessageFact,
    MessageStatus, RecordingFact, RecordingStatus, Subscriber, Telling, recording_url, rfc_2822,
};
use crate::ids::CallSid;
use crate::twiml;

/// Tells customers what their calls go through, as far as they asked.
pub struct StatusCallbacks {
    callbacks: Callbacks,
    /// For the tokens that requests are signed with.
    directory: Arc<ArcSwap<Directory>>,
    /// Where customers reach the API.
    public_url: String,
    runtime: Handle,
    /// A callback is under way since it was last asked.
    has_begun: bool,
}

impl StatusCallbacks {
    pub fn new(callbacks: Callbacks, directory: Arc<ArcSwap<Directory>>, public_url: String, runtime: Handle) -> Self {
        Self { callbacks, directory, public_url, runtime, has_begun: false }
    }

    /// `queue`: what is given under one name is delivered in that order.
    fn deliver(&mut self, event: &Event, queue: CallSid, endpoint: &twiml::Endpoint, params: Vec<(String, String)>) {
        let Some(account) = self.directory.load().account(event.account).cloned() else { return };
        let request = CallbackRequest {
            event: Some((event.call, event.id)),
            account: event.account,
            call: queue,
            token: account.auth_token.clone(),
            url: endpoint.url.clone(),
            method: endpoint.method.into(),
            params,
        };
        let _inside = self.runtime.enter();
        // What is refused is logged and counted there.
        self.has_begun |= self.callbacks.deliver(request).is_ok();
    }
}

impl Subscriber for StatusCallbacks {
    fn told(&mut self, event: &Event, record: &mut CallRecord, telling: Telling) {
        let (Some(step), Some(callback)) = (event.kind.callback_step(), record.status_callback.clone()) else { return };
        if !callback.events.contains(&step) {
            return;
        }
        let number = record.callbacks;
        record.callbacks += 1;
        if telling != Telling::Done {
            let params = params(event, record, number, &self.public_url);
            self.deliver(event, event.call, &callback.endpoint, params);
        }
    }

    fn takes_time(&mut self) -> bool {
        std::mem::take(&mut self.has_begun)
    }

    fn noted(&mut self, event: &Event, telling: Telling) {
        if telling == Telling::Done {
            return;
        }
        match &event.kind {
            EventKind::Recording(fact) => {
                let (Some(step), Some(callback)) = (fact.callback_step(), fact.callback.as_ref()) else {
                    return;
                };
                if callback.events.contains(&step) {
                    let params = recording_params(event, fact, &self.public_url);
                    self.deliver(event, event.call, &callback.endpoint, params);
                }
            }
            EventKind::Conference(fact) => {
                if let Some(endpoint) = &fact.callback {
                    // One after another in their conference, whichever calls they are about.
                    self.deliver(event, CallSid::new(fact.sid.bits()), endpoint, conference_params(event, fact));
                }
            }
            // The answer to its request has told that it is queued.
            EventKind::Message(fact) if fact.status != MessageStatus::Queued => {
                if let Some(endpoint) = &fact.callback {
                    // One after another, as the steps of a call are.
                    self.deliver(event, CallSid::new(fact.sid.bits()), endpoint, message_params(event, fact));
                }
            }
            EventKind::CallerId(fact) => {
                self.deliver(event, CallSid::new(fact.sid.bits()), &fact.callback, caller_id_params(event, fact));
            }
            _ => {}
        }
    }
}

/// What the callback of a validation says.
fn caller_id_params(event: &Event, fact: &CallerIdFact) -> Vec<(String, String)> {
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

/// What a message's callback says.
fn message_params(event: &Event, fact: &MessageFact) -> Vec<(String, String)> {
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
fn conference_params(event: &Event, fact: &ConferenceFact) -> Vec<(String, String)> {
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
fn recording_params(event: &Event, fact: &RecordingFact, public_url: &str) -> Vec<(String, String)> {
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

fn params(event: &Event, record: &CallRecord, number: u32, public_url: &str) -> Vec<(String, String)> {
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
