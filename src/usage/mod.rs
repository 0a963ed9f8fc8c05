//! The usage ledger: append-only lines, one for each leg, whose key is the event that they come from.
//!
//! Later systems (records, triggers, modules, bills) read these lines and nothing else.

mod categories;
mod trigger;

use crate::events::{CallRecord, Direction, Event};
use crate::ids::{AccountSid, CallSid, EventSid};

pub use categories::{CATEGORIES, Category};
pub use trigger::{Recurring, TriggerBy};

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
    pub unit: &'static str,
    /// Decides the period: when the use ended, milliseconds since 1970.
    pub at_ms: u64,
}

/// The line of a leg that is over. A leg that was not answered has one too, of zero seconds.
pub fn line(event: &Event, record: &CallRecord) -> LedgerLine {
    LedgerLine {
        event: event.id,
        account: record.account,
        call: record.sid,
        service: "voice",
        module: "",
        category: match record.direction {
            Direction::Inbound => "calls-inbound",
            Direction::OutboundApi | Direction::OutboundDial => "calls-outbound",
        },
        quantity: record.duration_s(),
        unit: "seconds",
        at_ms: event.at_ms,
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
    /// In the unit of the lines.
    pub quantity: u64,
    /// Where the unit is a second: minutes, each line's rounded up.
    pub minutes: u64,
}
