//! From facts to events of CloudEvents 1.0 (github.com/cloudevents/spec, v1.0.2), in its JSON form.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::chain::Link;
use super::types::{EventType, known, type_of};
use crate::events::{
    CallRecord, Event, EventKind, Params, call_params, conference_params, iso_8601_ms, message_params,
    recording_params, stream_params, without_password,
};
use crate::ids::{AccountSid, CallSid, EventSid};
use crate::presence::Transition;
use crate::twiml::Severity;
use crate::usage::money;

/// What is to be logged: numbered, and linked to what its call has told before, when it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Written once, however often it is told.
    pub id: EventSid,
    pub account: AccountSid,
    /// Whose chain it belongs to.
    pub call: Option<CallSid>,
    pub kind: &'static EventType,
    pub at_ms: u64,
    /// The event, but for what is known when it is written.
    pub event: Map<String, Value>,
}

impl Entry {
    /// As it is kept: JSON, linked to the chain of its call.
    pub fn written(mut self, link: Option<&mut Link>) -> String {
        if let (Some(call), Some(link)) = (self.call, link) {
            self.event.insert("callsid".into(), json!(call));
            link.add(&mut self.event);
        }
        Value::Object(self.event).to_string()
    }
}

/// What a call's event is told as.
pub fn entry(event: &Event, record: &CallRecord, public_url: &str) -> Option<Entry> {
    let kind = type_of(&event.kind)?;
    let mut data = base_of(event, event.call.to_string());
    match &event.kind {
        EventKind::Initiated(_) | EventKind::Ringing | EventKind::Answered | EventKind::Completed(_) => {
            told(&mut data, call_params(event, record, event.sequence, public_url));
        }
        EventKind::VerbStarted { verb } => {
            data.insert("verb".into(), json!(verb));
        }
        EventKind::Requested { url, reason, error, duration_ms, .. } => {
            data.extend(fields(json!({ "reason": reason, "error": error, "durationMs": duration_ms })));
            data.insert("request".into(), json!({ "url": without_password(url) }));
        }
        EventKind::Noticed(notice) => {
            let level = if notice.severity == Severity::Error { "ERROR" } else { "WARNING" };
            let url = without_password(&notice.url);
            data.extend(fields(
                json!({ "level": level, "errorCode": notice.code, "message": notice.text, "url": url }),
            ));
        }
        EventKind::Held { held } => {
            data.insert("held".into(), json!(held));
        }
        _ => {}
    }
    // Filters go by these, also where the event itself is about something else.
    data.extend(fields(json!({ "from": record.from, "to": record.to })));
    Some(made(event, kind, format!("Calls/{}", event.call), data))
}

/// What a fact that stands for itself is told as.
pub fn entry_of_fact(event: &Event, public_url: &str) -> Option<Entry> {
    let kind = type_of(&event.kind)?;
    let (path, sid, params) = match &event.kind {
        EventKind::Recording(fact) => ("Recordings", fact.sid.to_string(), recording_params(event, fact, public_url)),
        EventKind::Conference(fact) => ("Conferences", fact.sid.to_string(), conference_params(event, fact)),
        EventKind::Message(fact) => ("Messages", fact.sid.to_string(), message_params(event, fact)),
        EventKind::Queue(fact) => {
            let params = [("QueueSid", fact.sid.to_string()), ("FriendlyName", fact.name.clone())];
            let params = params.into_iter().chain([("CallSid", event.call.to_string())]);
            ("Queues", fact.sid.to_string(), params.map(|(name, value)| (name.to_owned(), value)).collect())
        }
        EventKind::Stream(fact) => ("Streams", fact.sid.to_string(), stream_params(event, fact)),
        EventKind::Dtmf { digit } => {
            let params = [("CallSid", event.call.to_string()), ("Digit", digit.to_string())];
            ("Calls", event.call.to_string(), params.map(|(name, value)| (name.to_owned(), value)).to_vec())
        }
        _ => return None,
    };
    let mut data = base_of(event, sid.clone());
    if let EventKind::Message(fact) = &event.kind {
        data.extend(fields(json!({ "from": fact.from, "to": fact.to })));
    }
    told(&mut data, params);
    let mut entry = made(event, kind, format!("{path}/{sid}"), data);
    // A message is part of no call, whatever its event names.
    entry.call = entry.call.filter(|_| !matches!(event.kind, EventKind::Message(_)));
    Some(entry)
}

/// A usage trigger that has fired.
pub fn entry_of_fire(account: AccountSid, trigger: &str, period: &str, value: i64, at_ms: u64) -> Entry {
    let digest = Sha256::digest(format!("{trigger} {period} fired"));
    let id = EventSid::new(u128::from_be_bytes(digest[..16].try_into().expect("sixteen of thirty-two bytes")));
    let params = [
        ("AccountSid", account.to_string()),
        ("UsageTriggerSid", trigger.to_owned()),
        ("CurrentValue", money::format(value)),
        ("IdempotencyToken", format!("{trigger}-{period}")),
    ];
    let event = Event { id, account, call: CallSid::new(0), sequence: 0, at_ms, kind: EventKind::Ringing };
    let mut data = base_of(&event, trigger.to_owned());
    told(&mut data, params.map(|(name, value)| (name.to_owned(), value)).to_vec());
    let entry = made(&event, known("trigger.fired"), format!("Usage/Triggers/{trigger}"), data);
    Entry { call: None, ..entry }
}

/// A client that is there, or is gone.
pub fn entry_of_presence(transition: &Transition) -> Entry {
    let Transition { client, is_available, version, devices, at_ms } = transition;
    let digest = Sha256::digest(format!("{client} {version} {is_available}"));
    let id = EventSid::new(u128::from_be_bytes(digest[..16].try_into().expect("sixteen of thirty-two bytes")));
    let at_ms = *at_ms;
    let event =
        Event { id, account: client.account, call: CallSid::new(0), sequence: 0, at_ms, kind: EventKind::Ringing };
    let mut data = fields(json!({ "timestamp": iso_8601_ms(at_ms), "eventSid": id }));
    // As `presence` events of the first client SDK were: who, and whether.
    data.extend(fields(json!({
        "from": client.identity, "identity": client.identity, "available": is_available, "devices": devices, "version": version,
    })));
    let path = utf8_percent_encode(&client.identity, NON_ALPHANUMERIC);
    Entry { call: None, ..made(&event, known("presence.changed"), format!("Clients/{path}"), data) }
}

/// What stands in all of them.
fn base_of(event: &Event, sid: String) -> Map<String, Value> {
    fields(json!({ "sid": sid, "timestamp": iso_8601_ms(event.at_ms), "eventSid": event.id }))
}

fn told(data: &mut Map<String, Value>, params: Params) {
    let params: Map<String, Value> = params.into_iter().map(|(name, value)| (name, json!(value))).collect();
    data.insert("request".into(), json!({ "parameters": params }));
}

fn made(event: &Event, kind: &'static EventType, path: String, data: Map<String, Value>) -> Entry {
    let made = fields(json!({
        "specversion": "1.0",
        "id": event.id,
        "type": kind.name,
        "source": format!("/2010-04-01/Accounts/{}/{path}", event.account),
        "time": iso_8601_ms(event.at_ms),
        "datacontenttype": "application/json",
        "accountsid": event.account,
        "data": data,
    }));
    Entry { id: event.id, account: event.account, call: Some(event.call), kind, at_ms: event.at_ms, event: made }
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
