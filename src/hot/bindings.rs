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
    /// Users whose bindings are others than were written down.
    unwritten: Mutex<HashSet<Aor>>,
    shared: Option<Shared>,
    touched: Touched,
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
        let Some(shared) = &self.shared else { return self.lock().register(aor, request, flow, wall_ms) };
        let mut registrar = self.lock();
        let before = registrar.bindings(&aor, wall_ms);
        let change = registrar.register(aor.clone(), request, flow, wall_ms)?;
        let after = registrar.bindings(&aor, wall_ms);
        let has_gone = |old: &&Binding| !after.iter().any(|new| new.contact == old.contact);
        let gone = before.iter().filter(has_gone).map(|old| old.contact.clone()).collect();
        let put = after.into_iter().filter(|new| !before.contains(new)).collect();
        shared.deltas.lock().unwrap_or_else(PoisonError::into_inner).push(Delta { aor, put, gone });
        shared.news.notify_one();
        Ok(change)
    }

    fn touch(&self, users: impl IntoIterator<Item = Aor>, how: Touch) {
        let mut touched = self.touched.users.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        for aor in users {
            unwritten.insert(aor.clone());
            let known = touched.entry(aor).or_insert(how);
            *known = how.max(*known);
        }
        if !touched.is_empty() {
            self.touched.news.notify_one();
        }
    }

    /// Takes a user's contact away, here and at the other edges.
    pub fn remove(&self, aor: Aor, contact: &str) {
        let delta = Delta { aor, put: Vec::new(), gone: vec![contact.to_owned()] };
        self.tell([delta.clone()]);
        self.merge(delta);
    }

    /// Has the other edges told.
    fn tell(&self, deltas: impl IntoIterator<Item = Delta>) {
        if let Some(shared) = &self.shared {
            shared.deltas.lock().unwrap_or_else(PoisonError::into_inner).extend(deltas);
            shared.news.notify_one();
        }
    }

    /// Takes up what edges have shared. What came by a connection to one of `ours`, and is not known here, came to an earlier life of
    /// this edge, and is gone with that.
    pub fn merge_shared(&self, delta: Delta, ours: &[(Transport, SocketAddr)]) {
        let known = self.lock().bindings(&delta.aor, 0);
        let is_gone = |binding: &Binding| {
            binding.flow.connection.is_some()
                && ours.contains(&(binding.flow.transport, binding.flow.local))
                && !known.iter().any(|own| own.contact == binding.contact)
        };
        let (gone, put): (Vec<Binding>, Vec<Binding>) = delta.put.into_iter().partition(is_gone);
        let gone: Vec<String> = gone.into_iter().map(|binding| binding.contact).collect();
        if !gone.is_empty() {
            self.tell([Delta { aor: delta.aor.clone(), put: Vec::new(), gone: gone.clone() }]);
        }
        self.merge(Delta { aor: delta.aor, put, gone });
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
        let deltas = all.into_iter().map(|(aor, put)| Delta { aor, put, gone: Vec::new() });
        shared.deltas.lock().unwrap_or_else(PoisonError::into_inner).extend(deltas);
        shared.news.notify_one();
    }

    /// Takes what has changed at another edge.
    pub fn merge(&self, delta: Delta) {
        let aor = delta.aor.clone();
        self.lock().merge(delta.aor, delta.put, &delta.gone);
        // One that has moved to another edge is not ours any more.
        self.touch([aor], Touch::Lost);
    }

    pub fn of(&self, aor: &Aor, wall_ms: u64) -> Vec<Binding> {
        self.lock().bindings(aor, wall_ms)
    }

    /// `flow` is one of the connection.
    pub fn connection_closed(&self, flow: Flow) {
        let lost = self.lock().connection_closed(flow);
        let users: Vec<Aor> = lost.iter().map(|(aor, _)| aor.clone()).collect();
        self.tell(lost.into_iter().map(|(aor, gone)| Delta { aor, put: Vec::new(), gone }));
        self.touch(users, Touch::Lost);
    }

    pub fn sweep(&self, wall_ms: u64) {
        self.lock().sweep(wall_ms);
    }

    /// Whose bindings are to be written down: those that have changed since this was asked last.
    pub fn unwritten(&self) -> HashSet<Aor> {
        std::mem::take(&mut self.unwritten.lock().unwrap_or_else(PoisonError::into_inner))
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
            let gone = before.iter().filter(|old| !after.iter().any(|new| new.contact == old.contact));
            let gone = gone.map(|old| old.contact.clone()).collect();
            Delta { put: after.into_iter().filter(|new| !before.contains(new)).collect(), gone, aor }
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
