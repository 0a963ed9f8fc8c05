//! What a call's events add up to: the call as it stands, and its CDR when it is over.

use serde::{Deserialize, Serialize};

use super::{CallStatus, Completed, Direction, Event, EventKind};
use crate::ids::{AccountSid, CallSid};
use crate::twiml::StatusCallback;

/// A call, folded from its events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    pub sid: CallSid,
    pub account: AccountSid,
    pub direction: Direction,
    pub from: String,
    pub to: String,
    pub parent: Option<CallSid>,
    pub via: String,
    pub sip_call_id: String,
    /// What the carrier says of the caller's number.
    pub stir_verstat: Option<String>,
    /// How long it waited for its turn, before it started.
    pub queue_ms: u64,
    pub status: CallStatus,
    pub started_ms: u64,
    pub answered_ms: Option<u64>,
    pub ended_ms: Option<u64>,
    pub completed: Option<Box<Completed>>,
    #[serde(skip)]
    pub status_callback: Option<StatusCallback>,
    /// Callbacks told so far: the next one's SequenceNumber.
    #[serde(skip)]
    pub callbacks: u32,
    pub events: Vec<Told>,
}

/// An event between the first and the last, which the record itself tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub sequence: u32,
    pub at_ms: u64,
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Whether a verdict on a caller's number is that it is the caller's (ATIS-1000074 s5.3.1).
pub fn is_passed(verstat: &str) -> bool {
    verstat.starts_with("TN-Validation-Passed")
}

/// Events kept of one call; a document in a loop must not fill the memory.
const EVENTS: usize = 500;

impl CallRecord {
    /// Begins a record with its call's first event; `None` for any other.
    pub fn begin(event: &Event) -> Option<CallRecord> {
        let EventKind::Initiated(initiated) = &event.kind else { return None };
        Some(CallRecord {
            sid: event.call,
            account: event.account,
            direction: initiated.direction,
            from: initiated.from.clone(),
            to: initiated.to.clone(),
            parent: initiated.parent,
            via: initiated.via.clone(),
            sip_call_id: initiated.sip_call_id.clone(),
            stir_verstat: initiated.stir_verstat.clone(),
            queue_ms: initiated.queue_ms,
            status: if initiated.direction == Direction::Inbound { CallStatus::Ringing } else { CallStatus::Initiated },
            started_ms: event.at_ms,
            answered_ms: None,
            ended_ms: None,
            completed: None,
            status_callback: initiated.status_callback.clone(),
            callbacks: 0,
            events: Vec::new(),
        })
    }

    /// When it was ordered, or came in.
    pub fn created_ms(&self) -> u64 {
        // One that waits still has started with its wait; how long that is to be is a guess.
        if self.status == CallStatus::Queued { self.started_ms } else { self.started_ms.saturating_sub(self.queue_ms) }
    }

    /// Whether the carrier vouches for the caller's number: whom the call is forwarded to may see it.
    pub fn is_attested(&self) -> bool {
        self.stir_verstat.as_deref().is_some_and(is_passed)
    }

    /// Adds a later event.
    pub fn apply(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Ringing => self.status = CallStatus::Ringing,
            EventKind::Answered => {
                self.status = CallStatus::InProgress;
                self.answered_ms = Some(event.at_ms);
            }
            EventKind::Completed(completed) => {
                self.status = completed.status;
                self.ended_ms = Some(event.at_ms);
                self.completed = Some(completed.clone());
                return;
            }
            EventKind::CallbackChanged(callback) => {
                self.status_callback = Some(callback.as_ref().clone());
                return;
            }
            _ => {}
        }
        if self.events.len() < EVENTS {
            self.events.push(Told { sequence: event.sequence, at_ms: event.at_ms, kind: event.kind.clone() });
        }
    }

    /// Seconds from answer to end, rounded up; 0 of a call that was not answered or is not over.
    pub fn duration_s(&self) -> u64 {
        match (self.answered_ms, self.ended_ms) {
            (Some(answered), Some(ended)) => ended.saturating_sub(answered).div_ceil(1000),
            _ => 0,
        }
    }
}
