//! The usage ledger: append-only lines, whose key is the event that they come from.
//!
//! Records, triggers, modules and bills read these lines, or what they add up to each day, and nothing else.

mod budget;
mod categories;
pub mod money;
mod price;
mod trigger;

use crate::events::{CallRecord, Direction, Event, EventKind, MessageDirection, MessageStatus, RecordingStatus};
use crate::ids::{AccountSid, CallSid, EventSid};

pub use budget::{Budget, Measure};
pub use categories::{CATEGORIES, Category, LEAVES, Sum};
pub use price::{Edition, Price, PriceBook, Priced, Rate, Tier};
pub use trigger::{Action, Period, Recurring, Trigger, TriggerBy};

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerLine {
    /// The idempotency key: the same event never makes two lines.
    pub event: EventSid,
    pub account: AccountSid,
    pub call: CallSid,
    /// Which service of the platform was used.
    pub service: &'static str,
    /// Which application module was in control; the call's own document has none.
    pub module: &'static str,
    /// In the tree of Twilio's usage categories.
    pub category: &'static str,
    /// In `unit`.
    pub quantity: u64,
    pub unit: Unit,
    /// Decides the period: when the use ended, milliseconds since 1970.
    pub at_ms: u64,
    /// The number that was called, or written to: prices go by it. Not kept.
    pub called: String,
    /// It takes back, or adds, an amount and is no use itself.
    pub correction: Option<Correction>,
}

/// What is taken back of what something cost, or added to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// Millionths; below zero it is a refund.
    pub amount: i64,
    pub reason: String,
}

/// The module of lines that correct others.
pub const CORRECTION: &str = "correction";

/// The line of a correction: of the day on which it is made, as a ledger's lines are never changed.
pub fn correction(
    event: EventSid,
    account: AccountSid,
    call: CallSid,
    category: &'static str,
    correction: Correction,
    at_ms: u64,
) -> LedgerLine {
    let unit = if category.starts_with("sms") { Unit::Messages } else { Unit::Seconds };
    LedgerLine {
        event,
        account,
        call,
        service: "billing",
        module: CORRECTION,
        category,
        quantity: 0,
        unit,
        at_ms,
        called: String::new(),
        correction: Some(correction),
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Messages,
}

impl Unit {
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Seconds => "seconds",
            Unit::Messages => "messages",
        }
    }
}

impl LedgerLine {
    /// In the unit of its category: minutes that have begun, or messages.
    pub fn usage(&self) -> u64 {
        match self.unit {
            Unit::Seconds => self.quantity.div_ceil(60),
            Unit::Messages => self.quantity,
        }
    }

    /// Days since 1970, UTC.
    pub fn day(&self) -> u64 {
        self.at_ms / DAY_MS
    }
}

/// A day, in milliseconds.
pub const DAY_MS: u64 = 24 * 3600 * 1000;

/// The line of a leg that is over. A leg that was not answered has one too, of zero seconds.
pub fn line(event: &Event, record: &CallRecord) -> LedgerLine {
    LedgerLine {
        event: event.id,
        account: record.account,
        call: record.sid,
        service: "voice",
        module: "",
        category: category_of(record),
        quantity: record.duration_s(),
        unit: Unit::Seconds,
        at_ms: event.at_ms,
        called: record.to.clone(),
        correction: None,
    }
}

/// The category of a leg.
pub fn category_of(record: &CallRecord) -> &'static str {
    category_of_leg(record.direction, &record.from, &record.to, &record.via)
}

/// The category of a leg: by who is at the other end, a number, a client, a SIP user.
pub fn category_of_leg(direction: Direction, from: &str, to: &str, via: &str) -> &'static str {
    match direction {
        Direction::Inbound if to.starts_with("sip:") || is_of_user(from, via) => "calls-sip-inbound",
        Direction::Inbound => "calls-inbound",
        Direction::OutboundApi | Direction::OutboundDial => match to.split(':').next() {
            Some("client") => "calls-client",
            Some("sip" | "sips") => "calls-sip-outbound",
            _ => "calls-outbound",
        },
    }
}

/// Whether a user has called, and no trunk: by its own name.
fn is_of_user(from: &str, via: &str) -> bool {
    let user = from.strip_prefix("sip:").and_then(|uri| uri.split_once('@'));
    user.is_some_and(|(user, _)| !user.is_empty() && user == via)
}

/// The line of what stands for itself: a recording that is complete, a message that was taken or is on its way.
pub fn line_of_fact(event: &Event) -> Option<LedgerLine> {
    let line = |service, category, quantity, unit, called: &str| LedgerLine {
        event: event.id,
        account: event.account,
        call: event.call,
        service,
        module: "",
        category,
        quantity,
        unit,
        at_ms: event.at_ms,
        called: called.to_owned(),
        correction: None,
    };
    match &event.kind {
        EventKind::Recording(fact) if fact.status == RecordingStatus::Completed => {
            Some(line("voice", "calls-recordings", fact.duration_ms.div_ceil(1000), Unit::Seconds, ""))
        }
        EventKind::Message(fact) => match (fact.direction, fact.status) {
            (MessageDirection::Inbound, MessageStatus::Received) => {
                Some(line("messaging", "sms-inbound", fact.segments() as u64, Unit::Messages, &fact.to))
            }
            (_, MessageStatus::Sent) => {
                Some(line("messaging", "sms-outbound", fact.segments() as u64, Unit::Messages, &fact.to))
            }
            _ => None,
        },
        _ => None,
    }
}

/// What was used of one category on one day, UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    pub category: String,
    /// Days since 1970.
    pub day: u64,
    /// Lines of the ledger.
    pub count: u64,
    /// In the unit of the category.
    pub usage: u64,
    /// Millionths.
    pub price: i64,
}
