//! What an earlier run left in the journal: it is told again, and what had no end gets one.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::journal::States;
use super::super::{
    CallStatus, Completed, ConferenceFact, ConferenceStatus, ConferenceStep, EndedBy, Event, EventKind, Media,
    MessageFact, MessageStatus, OrderFact, RecordingFact,
};
use super::Telling;
use super::writer::{Line, Writer, told_again};
use crate::ids::{CallSid, EventSid};

impl Writer {
    /// Tells again what an earlier run left, and ends the calls that it had not ended.
    ///
    /// The store ignores what it has already; callbacks that were delivered are not sent a second time.
    pub(super) fn recover(
        &mut self,
        left: Vec<Event>,
        delivered: &HashSet<EventSid>,
        taken_up: States,
        wall_ms: u64,
        finish: impl Fn(RecordingFact) -> RecordingFact,
    ) {
        let mut unfinished: BTreeMap<CallSid, (Event, u32)> = BTreeMap::new();
        for event in left.iter().filter(|event| !event.kind.stands_alone()) {
            match &event.kind {
                EventKind::Completed(_) => {
                    unfinished.remove(&event.call);
                }
                _ => {
                    let last = unfinished.entry(event.call).or_insert_with(|| (event.clone(), 0));
                    last.1 = event.sequence;
                }
            }
        }
        unfinished.retain(|call, _| !taken_up.contains_key(call));
        let mut recordings = unfinished_recordings(&left);
        recordings.retain(|(event, _)| !taken_up.contains_key(&event.call));
        let mut ends: Vec<Event> =
            unfinished.into_values().map(|(first, sequence)| end_of_lost_call(&first, sequence + 1, wall_ms)).collect();
        if !ends.is_empty() {
            tracing::warn!(
                calls = ends.len(),
                "calls were running when the server last stopped: they are recorded as failed"
            );
        }
        ends.extend(recordings.into_iter().map(|(event, fact)| end_of_lost_recording(&event, finish(fact), wall_ms)));
        ends.extend(ends_of_lost_conferences(&left, wall_ms));
        ends.extend(ends_of_lost_messages(&left, wall_ms));
        // What was left is written again into the new segment, so that the old ones can go.
        let mut lines = told_again(left, delivered);
        lines.extend(ends.into_iter().map(|event| Line::Event(Box::new(event), Telling::First)));
        lines.extend(taken_up.into_iter().map(|(call, state)| Line::State(call, state, None)));
        self.write(lines);
        self.settle();
    }
}

pub(super) fn last_of_orders(left: &[Event]) -> HashMap<CallSid, OrderFact> {
    let orders = left.iter().filter_map(|event| match &event.kind {
        EventKind::Order(fact) => Some((event.call, fact.as_ref().clone())),
        _ => None,
    });
    orders.collect()
}

/// The last that was told of each recording that has no end.
fn unfinished_recordings(left: &[Event]) -> Vec<(Event, RecordingFact)> {
    let mut last = BTreeMap::new();
    for event in left {
        if let EventKind::Recording(fact) = &event.kind {
            last.insert(fact.sid, (event, fact));
        }
    }
    let unfinished = last.into_values().filter(|(_, fact)| !fact.status.is_final());
    unfinished.map(|(event, fact)| (event.clone(), fact.as_ref().clone())).collect()
}

/// Of each conference that was running, its members' calls are over or join another: so is it.
pub fn ends_of_lost_conferences(left: &[Event], wall_ms: u64) -> Vec<Event> {
    let mut last = BTreeMap::new();
    for event in left {
        if let EventKind::Conference(fact) = &event.kind {
            last.insert(fact.sid, (event, fact));
        }
    }
    let running = last.into_values().filter(|(_, fact)| fact.status != ConferenceStatus::Completed);
    let ends = running.map(|(event, fact)| {
        let end = ConferenceFact {
            step: ConferenceStep::ConferenceEnd,
            sequence: fact.sequence + 1,
            status: ConferenceStatus::Completed,
            participant: None,
            callback: None,
            reason: None,
            ..fact.as_ref().clone()
        };
        let id = EventSid::new(event.id.bits() ^ u128::MAX);
        Event { id, at_ms: wall_ms, kind: EventKind::Conference(Box::new(end)), ..event.clone() }
    });
    ends.collect()
}

/// Of a message that was on its way nobody knows whether it has come.
fn ends_of_lost_messages(left: &[Event], wall_ms: u64) -> Vec<Event> {
    let mut last = BTreeMap::new();
    for event in left {
        if let EventKind::Message(fact) = &event.kind {
            last.insert(fact.sid, (event, fact));
        }
    }
    let ends = last.into_values().filter(|(_, fact)| !fact.status.is_final()).map(|(event, fact)| {
        let (status, error_code) = match fact.status {
            MessageStatus::Receiving => (MessageStatus::Received, NO_ANSWER),
            _ => (MessageStatus::Undelivered, MessageFact::UNKNOWN_ERROR),
        };
        let end = MessageFact { status, error_code, ..fact.as_ref().clone() };
        let id = EventSid::new(event.id.bits() ^ u128::MAX);
        Event { id, at_ms: wall_ms, kind: EventKind::Message(Box::new(end)), ..event.clone() }
    });
    ends.collect()
}

/// Twilio's number for an application that gave no answer.
const NO_ANSWER: u32 = 11_200;

fn end_of_lost_recording(last: &Event, fact: RecordingFact, wall_ms: u64) -> Event {
    let id = EventSid::new(last.id.bits() ^ u128::MAX);
    Event { id, at_ms: wall_ms, kind: EventKind::Recording(Box::new(fact)), ..last.clone() }
}

/// The end of a call that no process takes up: `first` is one of its events, `sequence` is behind its last.
pub fn end_of_lost_call(first: &Event, sequence: u32, wall_ms: u64) -> Event {
    // The same id each time it is derived: a crash during recovery makes no second end.
    let id = EventSid::new(first.id.bits() ^ u128::MAX);
    let completed = Completed {
        status: CallStatus::Failed,
        sip_status: 0,
        ended_by: EndedBy::Server,
        media: Media::default(),
        recorded: None,
    };
    Event {
        id,
        account: first.account,
        call: first.call,
        sequence,
        at_ms: wall_ms,
        kind: EventKind::Completed(Box::new(completed)),
    }
}
