//! What facts that stand for themselves add up to, until the store has it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    CallRecord, Conference, ConferenceStatus, Event, EventKind, LiveConferences, LiveMessages, LiveQueues,
    LiveRecordings, LiveStreams, Message, Queue, Recording, Stream, StreamStep, Subscriber, Telling,
};
use crate::ids::AccountSid;

/// All shelves, kept by what is told.
#[derive(Clone, Default)]
pub struct Shelves {
    pub recordings: LiveRecordings,
    pub conferences: LiveConferences,
    pub messages: LiveMessages,
    pub queues: LiveQueues,
    pub streams: LiveStreams,
}

impl Shelves {
    /// The store has these: what is over is forgotten here.
    pub fn stored(&self, facts: &[Event]) {
        for event in facts {
            match &event.kind {
                EventKind::Recording(fact) if fact.status.is_final() => {
                    self.recordings.forget_if(fact.sid, |recording| recording.fact.status.is_final());
                }
                EventKind::Conference(fact) if fact.status == ConferenceStatus::Completed => {
                    self.conferences.forget_if(fact.sid, |conference| conference.status == ConferenceStatus::Completed);
                }
                EventKind::Message(fact) if fact.status.is_final() => {
                    self.messages.forget_if(fact.sid, |message| message.fact == **fact);
                }
                _ => {}
            }
        }
    }
}

impl Subscriber for Shelves {
    fn told(&mut self, _: &Event, _: &mut CallRecord, _: Telling) {}

    fn noted(&mut self, event: &Event, telling: Telling) {
        let account = event.account;
        match &event.kind {
            EventKind::Recording(fact) => {
                let recording = Recording { account, call: event.call, fact: fact.as_ref().clone() };
                self.recordings.put(account, fact.sid, recording);
            }
            EventKind::Conference(fact) => {
                let before = self.conferences.get(account, fact.sid);
                let told = Conference::told(account, event.call, event.at_ms, fact).apply(before, fact);
                self.conferences.put(account, fact.sid, told);
            }
            EventKind::Stream(fact) if matches!(fact.step, StreamStep::Started | StreamStep::Resumed) => {
                self.streams.put(account, fact.sid, Stream { call: event.call, fact: fact.as_ref().clone() });
            }
            EventKind::Stream(fact) => self.streams.forget_if(fact.sid, |_| true),
            EventKind::Message(fact) => {
                self.messages.put(account, fact.sid, Message { account, fact: fact.as_ref().clone() });
            }
            // Whoever waited when an earlier run ended waits no more.
            EventKind::Queue(fact) if !telling.is_again() => {
                let before = self.queues.get(account, fact.sid);
                self.queues.put(account, fact.sid, Queue::told(before, account, event.call, event.at_ms, fact));
            }
            _ => {}
        }
    }
}

/// Things by their sid: what runs, and what has just ended. The outbox keeps it; others look.
pub struct Shelf<K, T>(Arc<Mutex<HashMap<K, Kept<T>>>>);

/// One of them, and whose it is.
#[derive(Clone, Debug)]
pub struct Kept<T> {
    pub account: AccountSid,
    pub thing: T,
}

impl<K, T> Clone for Shelf<K, T> {
    fn clone(&self) -> Self {
        Shelf(Arc::clone(&self.0))
    }
}

impl<K, T> Default for Shelf<K, T> {
    fn default() -> Self {
        Shelf(Arc::default())
    }
}

impl<K: Copy + Eq + Hash, T: Clone> Shelf<K, T> {
    /// An account's thing of that name.
    pub fn get(&self, account: AccountSid, sid: K) -> Option<T> {
        self.all().get(&sid).filter(|kept| kept.account == account).map(|kept| kept.thing.clone())
    }

    /// Copies of an account's things that are wanted, in no order.
    pub fn find(&self, account: AccountSid, wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let all = self.all();
        let found = all.values().filter(|kept| kept.account == account && wanted(&kept.thing));
        found.map(|kept| kept.thing.clone()).collect()
    }

    /// Whether there is one of that name, whoever's it is, and it is like that.
    pub fn any(&self, sid: K, like: impl Fn(&T) -> bool) -> bool {
        self.all().get(&sid).is_some_and(|kept| like(&kept.thing))
    }

    /// As it stands now.
    pub fn put(&self, account: AccountSid, sid: K, thing: T) {
        self.all().insert(sid, Kept { account, thing });
    }

    /// The store has it, as far as `is_final` says that nothing more will come.
    pub fn forget_if(&self, sid: K, is_final: impl Fn(&T) -> bool) {
        let mut all = self.all();
        if all.get(&sid).is_some_and(|kept| is_final(&kept.thing)) {
            all.remove(&sid);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<K, Kept<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
