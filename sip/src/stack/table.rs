//! The transactions of a stack by key, and one queue of deadlines for them and for the dialogs' own timers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use slab::Slab;

use crate::dialog::DialogId;
use crate::flow::Flow;
use crate::msg::Method;
use crate::time::Mono;
use crate::tokens::TokenMap;
use crate::transaction::key::ServerKey;
use crate::transaction::{Input, State, Step, Transaction};

/// Names a transaction of a stack; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId {
    index: u32,
    generation: u32,
}

/// What has a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Transaction(TransactionId),
    Usage(DialogId),
}

/// Who wants to know what becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody: a CANCEL or a BYE, whose outcome changes nothing.
    Nobody,
    /// The server transaction of a dialog's INVITE.
    InviteServer(DialogId),
    /// The client transaction of a dialog's INVITE.
    InviteClient(DialogId),
    /// Our BYE.
    Bye(DialogId),
    /// A request of ours outside any dialog, by its number.
    Request(u64),
    /// Our REFER.
    Refer(DialogId),
}

/// How a transaction is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Server(ServerKey),
    /// The number in our branch, and the method: a CANCEL has its INVITE's number.
    Client {
        token: u64,
        method: Method,
    },
}

pub(super) struct Entry {
    transaction: Transaction,
    pub(super) flow: Flow,
    pub(super) key: Key,
    pub(super) owner: Owner,
    pub(super) merge: Option<ServerKey>,
    generation: u32,
    /// The deadline that stands in the queue for this entry.
    armed: Option<Mono>,
}

/// Transactions that only absorb retransmissions end together, this often: when exactly matters to nobody.
const REAP_EVERY_US: u64 = 500_000;

impl Entry {
    /// When to look at the transaction again.
    fn wake(&self) -> Option<Mono> {
        let deadline = self.transaction.deadline()?;
        let reaped = || Mono(deadline.0.next_multiple_of(REAP_EVERY_US));
        Some(if self.transaction.is_absorbing() { reaped() } else { deadline })
    }
}

#[derive(Default)]
pub(super) struct Table {
    /// Boxed: to grow is to move pointers, not the megabytes of half a minute's transactions.
    entries: Slab<Box<Entry>>,
    keys: TokenMap<Key, TransactionId>,
    queue: BinaryHeap<Reverse<(Mono, Timer)>>,
    generation: u32,
}

impl Table {
    pub(super) fn insert(&mut self, transaction: Transaction, flow: Flow, key: Key, owner: Owner) -> TransactionId {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let entry = Entry { transaction, flow, key, owner, merge: None, generation, armed: None };
        let index = self.entries.insert(Box::new(entry));
        let id = TransactionId { index: index as u32, generation };
        self.keys.insert(key, id);
        self.arm(id);
        id
    }

    pub(super) fn find(&self, key: Key) -> Option<TransactionId> {
        self.keys.get(&key).copied()
    }

    pub(super) fn get_mut(&mut self, id: TransactionId) -> Option<&mut Entry> {
        self.entries.get_mut(id.index as usize).map(Box::as_mut).filter(|entry| entry.generation == id.generation)
    }

    fn get(&self, id: TransactionId) -> Option<&Entry> {
        self.entries.get(id.index as usize).map(Box::as_ref).filter(|entry| entry.generation == id.generation)
    }

    pub(super) fn owner(&self, id: TransactionId) -> Option<Owner> {
        self.get(id).map(|entry| entry.owner)
    }

    pub(super) fn state(&self, id: TransactionId) -> Option<State> {
        self.get(id).map(|entry| entry.transaction.state())
    }

    pub(super) fn flow(&self, id: TransactionId) -> Option<Flow> {
        self.get(id).map(|entry| entry.flow)
    }

    /// The INVITE that waits for its final response.
    pub(super) fn open_invite(&self, id: TransactionId) -> Option<Bytes> {
        match &self.get(id)?.transaction {
            Transaction::ClientInvite(transaction) => transaction.invite().cloned(),
            _ => None,
        }
    }

    pub(super) fn client_token(&self, id: TransactionId) -> Option<u64> {
        match self.get(id)?.key {
            Key::Client { token, .. } => Some(token),
            Key::Server(_) => None,
        }
    }

    /// Gives an input to a transaction; where to send what comes out.
    pub(super) fn handle(&mut self, id: TransactionId, input: Input, now: Mono) -> Option<(Flow, Step)> {
        let entry = self.get_mut(id)?;
        let step = entry.transaction.handle(input, now);
        let flow = entry.flow;
        self.arm(id);
        Some((flow, step))
    }

    /// As [`Table::handle`] for a passed deadline; also whether what is sent is a request.
    pub(super) fn fire(&mut self, id: TransactionId, now: Mono) -> Option<(Flow, Step, bool)> {
        let client = matches!(self.get(id)?.key, Key::Client { .. });
        self.handle(id, Input::TimerFired, now).map(|(flow, step)| (flow, step, client))
    }

    pub(super) fn remove_if_terminated(&mut self, id: TransactionId) -> Option<Box<Entry>> {
        if self.state(id) != Some(State::Terminated) {
            return None;
        }
        let entry = self.entries.remove(id.index as usize);
        if self.keys.get(&entry.key) == Some(&id) {
            self.keys.remove(&entry.key);
        }
        Some(entry)
    }

    /// Ends a transaction that nobody waits for any more.
    pub(super) fn remove(&mut self, id: TransactionId) {
        let Some(key) = self.get(id).map(|entry| entry.key) else { return };
        if self.keys.get(&key) == Some(&id) {
            self.keys.remove(&key);
        }
        self.entries.remove(id.index as usize);
    }

    /// Every transaction whose messages go by this flow.
    pub(super) fn on_flow(&self, matches: impl Fn(&Flow) -> bool) -> Vec<TransactionId> {
        let found = self.entries.iter().filter(|(_, entry)| matches(&entry.flow));
        found.map(|(index, entry)| TransactionId { index: index as u32, generation: entry.generation }).collect()
    }

    pub(super) fn arm_usage(&mut self, dialog: DialogId, at: Mono) {
        self.queue.push(Reverse((at, Timer::Usage(dialog))));
    }

    fn arm(&mut self, id: TransactionId) {
        let Some(entry) = self.get_mut(id) else { return };
        let Some(wake) = entry.wake() else { return };
        // One queue entry at a time: an earlier one looks again when it comes up.
        if entry.armed.is_none_or(|armed| wake < armed) {
            entry.armed = Some(wake);
            self.queue.push(Reverse((wake, Timer::Transaction(id))));
        }
    }

    /// The head of the queue. What stands before it for transactions that have got on is dropped, so that nobody wakes up
    /// for it.
    pub(super) fn head(&mut self) -> Option<(Mono, Timer)> {
        loop {
            let Reverse((at, timer)) = *self.queue.peek()?;
            let Timer::Transaction(id) = timer else { return Some((at, timer)) };
            match self.get_mut(id).filter(|entry| entry.armed == Some(at)) {
                Some(entry) if entry.wake().is_some_and(|wake| wake <= at) => return Some((at, timer)),
                Some(entry) => {
                    entry.armed = None;
                    self.queue.pop();
                    self.arm(id);
                }
                None => drop(self.queue.pop()),
            }
        }
    }

    pub(super) fn drop_head(&mut self) {
        self.queue.pop();
    }

    /// Entries of the queue, stale ones as well.
    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The next timer that is due, and when it was.
    pub(super) fn pop_due(&mut self, now: Mono) -> Option<(Mono, Timer)> {
        let (at, timer) = self.head().filter(|(at, _)| *at <= now)?;
        self.queue.pop();
        if let Timer::Transaction(id) = timer
            && let Some(entry) = self.get_mut(id)
        {
            entry.armed = None;
        }
        Some((at, timer))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.keys.is_empty()
    }

    pub(super) fn by_kind(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let mut counts: [(&'static str, usize); 4] =
            [("invite_client", 0), ("client", 0), ("invite_server", 0), ("server", 0)];
        for (_, entry) in &self.entries {
            let kind = entry.transaction.kind();
            if let Some((_, count)) = counts.iter_mut().find(|(name, _)| *name == kind) {
                *count += 1;
            }
        }
        counts.into_iter()
    }
}
