//! Calls that the store does not have yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{CallRecord, CallStatus};
use crate::ids::CallSid;

/// Calls as their events tell: those that were ordered, those that live, and those that have just ended. The outbox
/// keeps it; others look.
#[derive(Clone, Default)]
pub struct Live(Arc<Mutex<HashMap<CallSid, CallRecord>>>);

impl Live {
    pub fn get(&self, sid: CallSid) -> Option<CallRecord> {
        self.calls().get(&sid).cloned()
    }

    /// Copies of the calls that are wanted, in no order.
    pub fn find(&self, wanted: impl Fn(&CallRecord) -> bool) -> Vec<CallRecord> {
        self.calls().values().filter(|record| wanted(record)).cloned().collect()
    }

    pub fn for_each(&self, look: impl FnMut(&CallRecord)) {
        self.calls().values().for_each(look);
    }

    /// A call that was ordered: it can be asked for before its first event, which puts its own record in this one's
    /// place.
    pub fn expect(&self, record: CallRecord) {
        self.calls().insert(record.sid, record);
    }

    /// More is known of a call that was ordered, if none of its events has come meanwhile.
    pub fn expect_later(&self, record: &CallRecord) {
        if let Some(known) = self.calls().get_mut(&record.sid).filter(|known| known.status == CallStatus::Queued) {
            known.clone_from(record);
        }
    }

    /// The call was not made after all, or the store has it.
    pub fn forget(&self, sid: CallSid) {
        self.calls().remove(&sid);
    }

    pub(super) fn calls(&self) -> MutexGuard<'_, HashMap<CallSid, CallRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
