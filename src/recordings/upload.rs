//! Which recordings are on their way into the bucket, so that none goes twice at once, and none that is deleted meanwhile
//! stays there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::RecordingSid;

/// True: deleted since it set out.
type Travellers = HashMap<RecordingSid, bool>;

/// All that are on their way; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Uploads(Arc<Mutex<Travellers>>);

impl Uploads {
    /// `None`: it is on its way already.
    pub fn begin(&self, sid: RecordingSid) -> Option<Upload> {
        let mut all = self.all();
        if all.contains_key(&sid) {
            return None;
        }
        all.insert(sid, false);
        Some(Upload { all: self.clone(), sid, has_ended: false })
    }

    /// Its file is deleted. Said before its object is, so that one of the two sees the other's.
    pub fn deleted(&self, sid: RecordingSid) {
        if let Some(is_deleted) = self.all().get_mut(&sid) {
            *is_deleted = true;
        }
    }

    fn all(&self) -> MutexGuard<'_, Travellers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that is on its way, until this is dropped.
pub(super) struct Upload {
    all: Uploads,
    sid: RecordingSid,
    has_ended: bool,
}

impl Upload {
    /// It has arrived. True: it was deleted meanwhile, and its object must go.
    pub fn end(mut self) -> bool {
        self.has_ended = true;
        self.all.all().remove(&self.sid).unwrap_or_default()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Another of that sid may be on its way by now.
        if !self.has_ended {
            self.all.all().remove(&self.sid);
        }
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
        assert!(!first.end());
        let second = uploads.begin(sid).expect("the first has arrived");
        uploads.deleted(sid);
        assert!(second.end());
        drop(uploads.begin(sid).expect("the second has arrived"));
        assert!(uploads.begin(sid).is_some(), "one that failed may set out again");
    }
}
