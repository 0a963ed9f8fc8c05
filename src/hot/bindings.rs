//! SIP bindings, in memory: every shard sees the same. Where edges share them, each has all of them, and tells the others what
//! changes.
//!
//! The lock is held for a look-up in a map and never across anything that waits.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dialtone_sip::flow::{Flow, Transport};
use dialtone_sip::msg::Message;
use dialtone_sip::registrar::{Binding, Change, Refusal, Registrar};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::account::Aor;

/// Which contacts stand for which user.
#[derive(Default)]
pub struct Bindings {
    registrar: Mutex<Registrar<Aor>>,
    unwritten: Unwritten,
    shared: Option<Shared>,
    touched: Touched,
}

/// Users whose bindings are others than were written down.
#[derive(Default)]
struct Unwritten {
    users: Mutex<HashSet<Aor>>,
    news: Notify,
}

/// Whose bindings may be others now, for those who tell who can be reached.
#[derive(Default)]
struct Touched {
    users: Mutex<HashMap<Aor, Touch>>,
    news: Notify,
}

/// How a user's bindings changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// What is missing may come back: its connection broke.
    Lost,
    /// As its device, or the time, has it.
    Said,
}

/// What has changed here, for the other edges.
#[derive(Default)]
struct Shared {
    deltas: Mutex<Vec<Delta>>,
    news: Notify,
}

/// What a REGISTER has changed of a user's bindings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    pub aor: Aor,
    pub put: Vec<Binding>,
    /// Contacts.
    pub gone: Vec<String>,
    /// When the last of those would have expired: until then somebody may have an older word on them. Zero where nobody knows.
    #[serde(default)]
    pub until_ms: u64,
}

impl Delta {
    pub fn put(aor: Aor, put: Vec<Binding>) -> Delta {
        Delta { aor, put, gone: Vec::new(), until_ms: 0 }
    }

    pub fn gone(aor: Aor, gone: &[Binding]) -> Delta {
        Delta::between(aor, gone, Vec::new())
    }

    fn between(aor: Aor, before: &[Binding], after: Vec<Binding>) -> Delta {
        let gone = before.iter().filter(|old| !after.iter().any(|new| new.contact == old.contact));
        let until_ms = gone.clone().map(|binding| binding.expires_at_ms).max().unwrap_or(0);
        let gone = gone.map(|binding| binding.contact.clone()).collect();
        let put = after.into_iter().filter(|new| !before.contains(new)).collect();
        Delta { aor, put, gone, until_ms }
    }
}

impl Bindings {
    /// `shared`: other edges want to know of each change.
    pub fn new(shared: bool) -> Bindings {
        Bindings { shared: shared.then(Shared::default), ..Bindings::default() }
    }

    pub fn register(&self, aor: Aor, request: &Message, flow: Flow, wall_ms: u64) -> Result<Change, Refusal> {
        let change = self.take(aor.clone(), request, flow, wall_ms);
        self.touch([aor], Touch::Said);
        change
    }

    fn take(&self, aor: Aor, request: &Message, flow: Flow, wall_ms: u64) -> Result<Change, Refusal> {
        if self.shared.is_none() {
            return self.lock().register(aor, request, flow, wall_ms);
        }
        let mut registrar = self.lock();
        let before = registrar.bindings(&aor, wall_ms);
        let change = registrar.register(aor.clone(), request, flow, wall_ms)?;
        let after = registrar.bindings(&aor, wall_ms);
        // Under the lock: what others are told is in the order in which it came.
        self.tell([Delta::between(aor, &before, after)]);
        Ok(change)
    }

    fn touch(&self, users: impl IntoIterator<Item = Aor>, how: Touch) {
        let mut touched = self.touched.users.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unwritten = self.unwritten.users.lock().unwrap_or_else(PoisonError::into_inner);
        for aor in users {
            unwritten.insert(aor.clone());
            let known = touched.entry(aor).or_insert(how);
            *known = how.max(*known);
        }
        if !touched.is_empty() {
            self.touched.news.notify_one();
            self.unwritten.news.notify_one();
        }
    }

    /// Takes a user's contact away, here and at the other edges.
    pub fn remove(&self, aor: Aor, contact: &str) {
        let mut known = self.lock().bindings(&aor, 0);
        known.retain(|binding| binding.contact == contact);
        let delta = Delta { gone: vec![contact.to_owned()], ..Delta::gone(aor, &known) };
        self.tell([delta.clone()]);
        self.take_over(delta, Touch::Said);
    }

    /// Has the other edges told.
    fn tell(&self, deltas: impl IntoIterator<Item = Delta>) {
        if let Some(shared) = &self.shared {
            shared.deltas.lock().unwrap_or_else(PoisonError::into_inner).extend(deltas);
            shared.news.notify_one();
        }
    }

    /// Takes up what edges have shared; a binding that is newer than the word that it is gone stays. What came by a connection to one of
    /// `ours`, and is not known here, came to an earlier life of this edge, and is gone with that.
    pub fn merge_shared(&self, delta: Delta, ours: &[(Transport, SocketAddr)]) {
        let known = self.lock().bindings(&delta.aor, 0);
        let is_gone = |binding: &Binding| {
            binding.flow.connection.is_some()
                && ours.contains(&(binding.flow.transport, binding.flow.local))
                && !known.iter().any(|own| own.contact == binding.contact)
        };
        let (gone, put): (Vec<Binding>, Vec<Binding>) = delta.put.into_iter().partition(is_gone);
        let mut lost = Delta::gone(delta.aor.clone(), &gone);
        if !lost.gone.is_empty() {
            self.tell([lost.clone()]);
        }
        let is_newer =
            |binding: &Binding, contact: &str| binding.contact == contact && binding.expires_at_ms > delta.until_ms;
        let older = delta.gone.into_iter().filter(|gone| !known.iter().any(|binding| is_newer(binding, gone)));
        lost.gone.extend(older);
        if !(put.is_empty() && lost.gone.is_empty()) {
            self.merge(Delta { put, ..lost });
        }
    }

    /// Waits until bindings of some users have changed.
    pub async fn touched(&self) -> HashMap<Aor, Touch> {
        loop {
            let touched = std::mem::take(&mut *self.touched.users.lock().unwrap_or_else(PoisonError::into_inner));
            if !touched.is_empty() {
                return touched;
            }
            self.touched.news.notified().await;
        }
    }

    /// Waits until something has changed here that other edges are to know; `None` where nobody is.
    pub async fn deltas(&self) -> Option<Vec<Delta>> {
        let shared = self.shared.as_ref()?;
        loop {
            let deltas = std::mem::take(&mut *shared.deltas.lock().unwrap_or_else(PoisonError::into_inner));
            if !deltas.is_empty() {
                return Some(deltas);
            }
            shared.news.notified().await;
        }
    }

    /// Has the other edges told of everything, as if it had just changed.
    pub fn tell_all(&self) {
        let Some(shared) = &self.shared else { return };
        let all = self.lock().all(0);
        let deltas = all.into_iter().map(|(aor, put)| Delta::put(aor, put));
        shared.deltas.lock().unwrap_or_else(PoisonError::into_inner).extend(deltas);
        shared.news.notify_one();
    }

    /// Takes what has changed at another edge.
    pub fn merge(&self, delta: Delta) {
        // One that has moved to another edge is not ours any more.
        self.take_over(delta, Touch::Lost);
    }

    fn take_over(&self, delta: Delta, how: Touch) {
        let aor = delta.aor.clone();
        self.lock().merge(delta.aor, delta.put, &delta.gone);
        self.touch([aor], how);
    }

    pub fn of(&self, aor: &Aor, wall_ms: u64) -> Vec<Binding> {
        self.lock().bindings(aor, wall_ms)
    }

    /// `flow` is one of the connection.
    pub fn connection_closed(&self, flow: Flow) {
        let lost = self.lock().connection_closed(flow);
        let users: Vec<Aor> = lost.iter().map(|(aor, _)| aor.clone()).collect();
        self.tell(lost.into_iter().map(|(aor, gone)| Delta::gone(aor, &gone)));
        self.touch(users, Touch::Lost);
    }

    pub fn sweep(&self, wall_ms: u64) {
        self.lock().sweep(wall_ms);
    }

    /// Waits until somebody's bindings are to be written down.
    pub async fn changed(&self) {
        self.unwritten.news.notified().await;
    }

    /// Whose bindings are to be written down: those that have changed since this was asked last.
    pub fn unwritten(&self) -> HashSet<Aor> {
        std::mem::take(&mut self.unwritten.users.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All who have any.
    pub fn users(&self) -> Vec<Aor> {
        self.lock().users().cloned().collect()
    }

    /// Takes up what was written down of a user; what has expired meanwhile, or came by a connection that is gone, is left out.
    pub fn restore(&self, aor: Aor, written: Vec<Binding>, wall_ms: u64) {
        self.lock().restore(aor.clone(), written, wall_ms);
        self.touch([aor], Touch::Said);
    }

    /// What was registered by way of another edge, at those listeners, is reached by the like of ours from now on; what came by a
    /// connection is not.
    pub fn bring_home(&self, theirs: &[(Transport, SocketAddr)], ours: &[(Transport, SocketAddr)]) {
        let is_theirs = |binding: &Binding| theirs.contains(&(binding.flow.transport, binding.flow.local));
        let mut before = self.lock().all(0);
        before.retain(|(_, bindings)| bindings.iter().any(is_theirs));
        self.lock().retain(|binding| {
            let flow = &mut binding.flow;
            if !theirs.contains(&(flow.transport, flow.local)) {
                return true;
            }
            let is_like = |(transport, local): &&(Transport, SocketAddr)| {
                *transport == flow.transport && local.is_ipv4() == flow.local.is_ipv4()
            };
            let like = ours.iter().find(is_like);
            if let Some((_, local)) = like {
                flow.local = *local;
            }
            like.is_some() && flow.connection.is_none()
        });
        let users: Vec<Aor> = before.iter().map(|(aor, _)| aor.clone()).collect();
        let deltas = before.into_iter().map(|(aor, before)| {
            let after = self.of(&aor, 0);
            Delta::between(aor, &before, after)
        });
        self.tell(deltas.collect::<Vec<_>>());
        self.touch(users, Touch::Lost);
    }

    /// Live bindings of each user, for metrics.
    pub fn counts(&self, wall_ms: u64) -> Vec<(Aor, usize)> {
        self.lock().counts(wall_ms).map(|(aor, count)| (aor.clone(), count)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Registrar<Aor>> {
        self.registrar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
