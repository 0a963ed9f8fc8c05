//! Which calls a list is to hold: the same rule for rows and for calls that are not stored yet.

use crate::events::{CallRecord, CallStatus};
use crate::ids::CallSid;

/// What of a call must be so; `None` is anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallFilter {
    pub to: Option<String>,
    pub from: Option<String>,
    pub status: Option<CallStatus>,
    pub parent: Option<CallSid>,
    /// Only calls older than this one: the next page.
    pub before: Option<CallSid>,
    pub started: Moment,
    pub ended: Moment,
}

/// A span of time, milliseconds since 1970; open where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    pub from_ms: Option<u64>,
    /// The first that is too late.
    pub below_ms: Option<u64>,
}

impl Moment {
    pub(super) fn takes(self, at_ms: Option<u64>) -> bool {
        match at_ms {
            Some(at) => self.from_ms.is_none_or(|from| at >= from) && self.below_ms.is_none_or(|below| at < below),
            None => self == Moment::default(),
        }
    }
}

/// What is bound to a place of a statement.
pub(super) enum Value {
    Text(String),
    Number(i64),
}

impl CallFilter {
    pub fn takes(&self, record: &CallRecord) -> bool {
        self.to.as_ref().is_none_or(|to| *to == record.to)
            && self.from.as_ref().is_none_or(|from| *from == record.from)
            && self.status.is_none_or(|status| status == record.status)
            && self.parent.is_none_or(|parent| Some(parent) == record.parent)
            && self.before.is_none_or(|before| record.sid < before)
            && self.started.takes(Some(record.started_ms))
            && self.ended.takes(record.ended_ms)
    }

    /// Whether a row can be so at all. PostgreSQL refuses a text with NUL in it, and no row has one.
    pub(super) fn is_possible(&self) -> bool {
        [&self.to, &self.from].into_iter().flatten().all(|text| !text.contains('\0'))
    }

    /// The index that a list is found by: SQLite, which keeps no statistics here, guesses wrong where two would do.
    pub(super) fn index(&self) -> &'static str {
        match self {
            CallFilter { parent: Some(_), .. } => "calls_by_parent",
            CallFilter { to: Some(_), .. } => "calls_by_to",
            CallFilter { from: Some(_), .. } => "calls_by_from",
            CallFilter { status: Some(status), .. } if *status != CallStatus::Completed => "calls_by_status",
            _ => "calls_by_account",
        }
    }

    /// Conditions to add to a WHERE whose first place is taken, and what is bound to theirs.
    ///
    /// A time becomes a span of sids too: they are in order of time, and their index is the one that the list goes by.
    pub(super) fn conditions(&self) -> (String, Vec<Value>) {
        let text = |column, test, value: Option<String>| value.map(|value| (column, test, Value::Text(value)));
        let number =
            |column, test, value: Option<u64>| value.map(|value| (column, test, Value::Number(super::millis(value))));
        let (first, last) = self.sids();
        let wanted = [
            text("sid", ">=", first.map(|first| first.to_string())),
            text("sid", "<", last.map(|last| last.to_string())),
            text("to_address", "=", self.to.clone()),
            text("from_address", "=", self.from.clone()),
            text("status", "=", self.status.map(|status| status.as_str().to_owned())),
            text("parent", "=", self.parent.map(|parent| parent.to_string())),
            text("sid", "<", self.before.map(|before| before.to_string())),
            number("started_ms", ">=", self.started.from_ms),
            number("started_ms", "<", self.started.below_ms),
            number("ended_ms", ">=", self.ended.from_ms),
            number("ended_ms", "<", self.ended.below_ms),
        ];
        let (mut conditions, mut values) = (String::new(), Vec::new());
        if self.status.is_some_and(|status| status != CallStatus::Completed) {
            // The index has no others, and a database must be told so to use it.
            conditions.push_str(" AND status <> 'completed'");
        }
        for (column, test, value) in wanted.into_iter().flatten() {
            values.push(value);
            conditions.push_str(&format!(" AND {column} {test} ${}", values.len() + 1));
        }
        (conditions, values)
    }

    /// Between which sids every call lies that the times let through; the first that is too new is the second.
    fn sids(&self) -> (Option<CallSid>, Option<CallSid>) {
        let ended_from = self.ended.from_ms.map(|from| from.saturating_sub(LONGEST_CALL_MS));
        let from = self.started.from_ms.max(ended_from);
        // A call that has ended before a time has begun before it.
        let below = [self.started.below_ms, self.ended.below_ms].into_iter().flatten().min();
        let first = from.map(|from| CallSid::at(from.saturating_sub(ORDERED_BEFORE_MS), 0));
        (first, below.map(|below| CallSid::at(below.saturating_add(ORDERED_BEFORE_MS), 0)))
    }
}

/// A `TimeLimit` is a day at most; and it rings for ten minutes at most.
pub(super) const LONGEST_CALL_MS: u64 = (24 * 3600 + 600) * 1000;
/// A sid is made when a call is ordered or arrives; its first event has a time of its own.
pub(super) const ORDERED_BEFORE_MS: u64 = 60_000;
