//! Errors and warnings of a call as the customer finds them later, each by a sid of its own.

use serde::{Deserialize, Serialize};

use super::{CallRecord, EventKind};
use crate::ids::{AccountSid, CallSid, NotificationSid};
use crate::twiml::Notice;

/// A notice, and of which call it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    pub sid: NotificationSid,
    pub account: AccountSid,
    pub call: CallSid,
    pub at_ms: u64,
    pub notice: Notice,
}

impl CallRecord {
    /// What its documents and requests gave, the oldest first.
    pub fn notifications(&self) -> impl Iterator<Item = Notification> {
        self.events.iter().filter_map(|told| match &told.kind {
            EventKind::Noticed(notice) => Some(Notification {
                // Made of the call's own and the event's number, so that it is the same each time.
                sid: NotificationSid::new(self.sid.bits() ^ u128::from(told.sequence + 1)),
                account: self.account,
                call: self.sid,
                at_ms: told.at_ms,
                notice: notice.clone(),
            }),
            _ => None,
        })
    }
}
