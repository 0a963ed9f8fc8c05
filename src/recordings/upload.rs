//! Which recordings are on their way into the bucket, so that none goes twice at once, and none that is deleted meanwhile
//! stays there.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::RecordingSid;

/// All that are on their way; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Uploads(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    under_way: HashSet<RecordingSid>,
    /// Deleted while they were on their way: their objects must go, should there be any.
    unwanted: HashSet<RecordingSid>,
}

impl Uploads {
    /// `None`: it is on its way already.
    pub fn begin(&self, sid: RecordingSid) -> Option<Upload> {
        self.known().under_way.insert(sid).then(|| Upload { all: self.clone(), sid })
    }

    /// Its file is deleted. Said before its object is, so that one of the two sees the other's.
    pub fn deleted(&self, sid: RecordingSid) {
        let mut known = self.known();
        if known.under_way.contains(&sid) {
            known.unwanted.insert(sid);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that is on its way, until this is dropped. One that fails may set out again.
pub(super) struct Upload {
    all: Uploads,
    sid: RecordingSid,
}

impl Upload {
    /// It was deleted since it first set out.
    pub fn is_unwanted(&self) -> bool {
        self.all.known().unwanted.contains(&self.sid)
    }

    /// Nothing of it is left to do.
    pub fn end(self) {
        self.all.known().unwanted.remove(&self.sid);
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.all.known().under_way.remove(&self.sid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_goes_once_at_a_time_and_knows_that_it_was_deleted() {
        let (uploads, sid) = (Uploads::default(), RecordingSid::new(1));
        let first = uploads.begin(sid).expect("nobody is on the way");
        assert!(uploads.begin(sid).is_none());
        uploads.deleted(RecordingSid::new(2));
        assert!(!first.is_unwanted());
        uploads.deleted(sid);
        assert!(first.is_unwanted());
        // It failed, and sets out again.
        drop(first);
        let second = uploads.begin(sid).expect("the first is not on its way any more");
        assert!(second.is_unwanted(), "what the storage may have is still to be deleted");
        second.end();
        assert!(!uploads.begin(sid).expect("the second has ended").is_unwanted());
        let third = uploads.begin(RecordingSid::new(2)).expect("it was not on its way when it was deleted");
        assert!(!third.is_unwanted());
    }
}
