//! The trace of a call that is over, from its record: what it waited for, its INVITE, what its application was asked, its verbs.

use super::otlp::{KeyValue, Kind, Link, Span, SpanEvent, Status, StatusCode, attribute};
use crate::events::{CallRecord, CallStatus, EventKind, SpanOf, Told, span_id, trace_id, without_password};
use crate::telemetry::calls::mos;
use crate::telemetry::without_query;
use crate::twiml::Severity;

/// A score below this is worth a look.
const POOR_MOS: f64 = 3.5;

/// The spans of a call, its own first. `is_recovered`: it has outlived the edge that it began at.
pub fn spans(record: &CallRecord, is_recovered: bool) -> Vec<Span> {
    let sid = record.sid;
    let end_ms = record.ended_ms.unwrap_or(record.started_ms);
    let begin = |of, name: String, kind: Kind, from_ms, to_ms| Span {
        trace_id: trace_id(sid).to_vec(),
        span_id: span_id(sid, of).to_vec(),
        parent_span_id: if of == SpanOf::Call { Vec::new() } else { span_id(sid, SpanOf::Call).to_vec() },
        name,
        kind: kind.into(),
        start_time_unix_nano: nanos(from_ms),
        end_time_unix_nano: nanos(to_ms),
        ..Span::default()
    };
    let signalling = if record.direction.is_outbound() { Kind::Client } else { Kind::Server };

    let mut call =
        begin(SpanOf::Call, format!("call {}", record.direction.as_str()), signalling, record.created_ms(), end_ms);
    call.attributes = about(record, is_recovered);
    call.events = record.events.iter().filter_map(event).collect();
    call.status = status(record);
    call.links = record.parent.iter().map(|parent| link(*parent)).collect();
    let mut spans = vec![call];

    if record.queue_ms > 0 {
        spans.push(begin(SpanOf::Queue, "queue".into(), Kind::Internal, record.created_ms(), record.started_ms));
    }
    let mut invite =
        begin(SpanOf::Invite, "sip INVITE".into(), signalling, record.started_ms, record.answered_ms.unwrap_or(end_ms));
    if !record.sip_call_id.is_empty() {
        invite.attributes.push(attribute("sip.call_id", record.sip_call_id.as_str()));
    }
    if let Some(completed) = record.completed.as_ref().filter(|completed| completed.sip_status > 0) {
        invite.attributes.push(attribute("sip.status_code", u64::from(completed.sip_status)));
    }
    spans.push(invite);

    let verbs: Vec<(&Told, &str)> = record
        .events
        .iter()
        .filter_map(|told| match &told.kind {
            EventKind::VerbStarted { verb } => Some((told, verb.as_str())),
            _ => None,
        })
        .collect();
    for (at, (told, verb)) in verbs.iter().enumerate() {
        let until = verbs.get(at + 1).map_or(end_ms, |(next, _)| next.at_ms);
        let of = SpanOf::Verb(told.sequence);
        spans.push(begin(of, format!("twiml {verb}"), Kind::Internal, told.at_ms, until));
    }
    for told in &record.events {
        let EventKind::Requested { url, reason, error, duration_ms, number } = &told.kind else { continue };
        let from_ms = told.at_ms.saturating_sub(*duration_ms);
        let mut request =
            begin(SpanOf::Request(*number), format!("webhook {reason}"), Kind::Client, from_ms, told.at_ms);
        request.attributes.push(attribute("url.full", without_password(without_query(url))));
        if let Some(code) = error {
            request.attributes.push(attribute("error.type", code.to_string()));
            request.status = Some(failed(format!("error {code}")));
        }
        spans.push(request);
    }
    spans
}

/// Whether a call went as it should: then it is one of many.
pub fn is_ordinary(record: &CallRecord) -> bool {
    let media = record.completed.as_ref().map(|completed| &completed.media);
    let was_poor = media.is_some_and(|media| media.packets_received > 0 && mos(media) < POOR_MOS);
    status(record).is_none() && !was_poor
}

fn about(record: &CallRecord, is_recovered: bool) -> Vec<KeyValue> {
    let mut about = vec![
        attribute("dialtone.call_sid", record.sid.to_string()),
        attribute("dialtone.account_sid", record.account.to_string()),
        attribute("dialtone.direction", record.direction.as_str()),
        attribute("dialtone.from", record.from.as_str()),
        attribute("dialtone.to", record.to.as_str()),
        attribute("dialtone.status", record.status.as_str()),
        attribute("dialtone.duration_s", record.duration_s()),
    ];
    if !record.via.is_empty() {
        about.push(attribute("dialtone.via", record.via.as_str()));
    }
    if is_recovered {
        about.push(attribute("dialtone.recovered", true));
    }
    let Some(completed) = &record.completed else { return about };
    about.push(attribute("dialtone.ended_by", completed.ended_by.as_str()));
    let media = &completed.media;
    if !media.codec.is_empty() {
        about.push(attribute("dialtone.media.codec", media.codec.as_str()));
        about.push(attribute("dialtone.media.packets_received", media.packets_received));
        about.push(attribute("dialtone.media.packets_sent", media.packets_sent));
        about.push(attribute("dialtone.media.packets_lost", media.packets_lost));
        about.push(attribute("dialtone.media.jitter_us", u64::from(media.jitter_us)));
    }
    if media.packets_received > 0 {
        about.push(attribute("dialtone.media.mos", mos(media)));
    }
    about
}

/// What is no span of its own: a moment of the call.
fn event(told: &Told) -> Option<SpanEvent> {
    let (name, attributes) = match &told.kind {
        EventKind::Ringing => ("ringing", Vec::new()),
        EventKind::Answered => ("answered", Vec::new()),
        EventKind::Held { held } => (if *held { "held" } else { "resumed" }, Vec::new()),
        EventKind::Silent { expected_from, .. } => {
            ("silent", vec![attribute("dialtone.expected_from", expected_from.as_str())])
        }
        EventKind::Noticed(notice) => {
            let severity = if notice.severity == Severity::Error { "error" } else { "warning" };
            let attributes = vec![
                attribute("dialtone.severity", severity),
                attribute("dialtone.code", u64::from(notice.code)),
                attribute("dialtone.text", notice.text.to_string()),
            ];
            ("notice", attributes)
        }
        _ => return None,
    };
    Some(SpanEvent { time_unix_nano: nanos(told.at_ms), name: name.to_owned(), attributes })
}

/// That it failed, or had an error, and which.
fn status(record: &CallRecord) -> Option<Status> {
    let mut errors = record.events.iter().filter_map(|told| match &told.kind {
        EventKind::Noticed(notice) if notice.severity == Severity::Error => Some(notice),
        _ => None,
    });
    match errors.next_back() {
        Some(notice) => Some(failed(format!("{}: {}", notice.code, notice.text))),
        None if record.status == CallStatus::Failed => {
            let sip = record.completed.as_ref().map_or(0, |completed| completed.sip_status);
            Some(failed(format!("the call failed with SIP status {sip}")))
        }
        None => None,
    }
}

fn failed(message: String) -> Status {
    Status { message, code: StatusCode::Error.into() }
}

/// The call whose `<Dial>` made it has a trace of its own.
fn link(parent: crate::ids::CallSid) -> Link {
    Link {
        trace_id: trace_id(parent).to_vec(),
        span_id: span_id(parent, SpanOf::Call).to_vec(),
        attributes: vec![attribute("dialtone.relation", "parent")],
    }
}

fn nanos(at_ms: u64) -> u64 {
    at_ms.saturating_mul(1_000_000)
}
