//! What one edge knows of all clients, and what it has to say: pure.
//!
//! `handle_own` and `handle_record` bring news; `poll_swap` gives what is to be written where all edges look, one at a time, and
//! `handle_swapped` what came of it; `poll_news` tells which clients are another than before, and `poll_transition` which are to be
//! told to be there, or gone.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::record::{ClientId, Device, Part, Record};
use crate::hot::EdgeId;

/// A device whose connection broke may come back within this time: its client is not gone so long.
const GRACE_MS: u64 = 3_000;
/// Of one client so much time is between two transitions that are told.
const CALM_MS: u64 = 1_000;
/// After a start, until it is said that those are gone who were there before and have not come back.
const SETTLED_AFTER_MS: u64 = 15_000;

/// An edge that dies may not have told what it changed within this time.
const RECENT_MS: u64 = 10_000;
/// What is known of a client that is nowhere is kept for so long: nothing older takes its place meanwhile.
const FORGOTTEN_AFTER_MS: u64 = 600_000;

/// All clients that this edge knows of.
#[derive(Clone, Debug)]
pub struct Book {
    me: EdgeId,
    /// As records name it.
    my_name: Arc<str>,
    known: HashMap<ClientId, Record>,
    /// What this edge has itself: the very part that is in the record, once that is written.
    own: HashMap<ClientId, Arc<Part>>,
    /// Whose part is to be written.
    unwritten: BTreeSet<ClientId>,
    /// Whom the store has forgotten.
    forgotten: BTreeSet<ClientId>,
    asking: Option<ClientId>,
    expiries: BTreeSet<(u64, ClientId)>,
    /// When it is to be told how a client is, by client and by time.
    due: HashMap<ClientId, u64>,
    queue: BTreeSet<(u64, ClientId)>,
    /// When something was told last, or it became open how a client is: a while later it is told.
    calm_since: HashMap<ClientId, u64>,
    /// What is missing of these may come back.
    gently: BTreeSet<ClientId>,
    news: VecDeque<ClientId>,
    /// Edges whose parts are to go.
    dead: BTreeSet<String>,
}

/// A record that is to take the place of the one of version `seen`; 0: there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Swap {
    pub client: ClientId,
    pub seen: u64,
    pub record: Record,
}

/// A client is there, or is not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    pub client: ClientId,
    pub is_available: bool,
    /// Of the record by which it is so.
    pub version: u64,
    pub devices: usize,
    pub at_ms: u64,
}

impl Book {
    pub fn new(me: EdgeId) -> Book {
        Book {
            my_name: me.to_string().into(),
            me,
            known: HashMap::new(),
            own: HashMap::new(),
            unwritten: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            asking: None,
            expiries: BTreeSet::new(),
            due: HashMap::new(),
            queue: BTreeSet::new(),
            calm_since: HashMap::new(),
            gently: BTreeSet::new(),
            news: VecDeque::new(),
            dead: BTreeSet::new(),
        }
    }

    /// How a client is, as far as this edge knows.
    pub fn record(&self, client: &ClientId) -> Option<&Record> {
        self.known.get(client)
    }

    pub fn records(&self) -> impl Iterator<Item = (&ClientId, &Record)> {
        self.known.iter()
    }

    /// What this edge has of a client.
    pub fn own(&self, client: &ClientId) -> Arc<Part> {
        self.own.get(client).cloned().unwrap_or_default()
    }

    /// What this edge has of a client is another now. `gently`: what is missing may come back.
    pub fn handle_own(&mut self, client: &ClientId, mut part: Part, gently: bool) {
        if self.own.get(client).map_or(part.is_empty(), |own| **own == part) {
            return;
        }
        // There are many, and few of them change soon.
        part.devices.shrink_to_fit();
        match part.is_empty() {
            true => self.own.remove(client),
            false => self.own.insert(client.clone(), Arc::new(part)),
        };
        self.unwritten.insert(client.clone());
        match gently {
            true => self.gently.insert(client.clone()),
            false => self.gently.remove(client),
        };
    }

    /// A record that another edge has written.
    pub fn handle_record(&mut self, client: ClientId, record: Record) {
        if self.known.get(&client).is_some_and(|known| known.version >= record.version) {
            return;
        }
        // What is kept of this edge there, and is not so any more, is written again.
        let mine = |name: &str| EdgeId::parse(name).is_some_and(|edge| edge.node == self.me.node);
        let is_outdated = record.parts.edges().any(|name| mine(name) && *name != self.my_name);
        let has_dead = record.parts.edges().any(|name| self.dead.contains(&**name));
        if is_outdated || has_dead || record.parts.get(&self.my_name) != self.own.get(&client) {
            self.unwritten.insert(client.clone());
        }
        // What an edge has changed that is dead now nobody else has told.
        if self.dead.contains(&*record.author) {
            self.tell_at(&client, record.version + GRACE_MS);
        }
        self.take(client, record);
    }

    /// These clients were there when the last edge of the cluster, or this one, ended.
    pub fn handle_earlier(&mut self, clients: impl IntoIterator<Item = ClientId>, now_ms: u64) {
        for client in clients {
            self.tell_at(&client, now_ms + SETTLED_AFTER_MS);
        }
    }

    /// Of the edges that records name these live.
    pub fn handle_alive(&mut self, alive: &[EdgeId], now_ms: u64) {
        let names = self.known.values().flat_map(|record| record.parts.edges().chain([&record.author]));
        let mut dead: BTreeSet<EdgeId> = names.filter_map(|name| EdgeId::parse(name)).collect();
        dead.retain(|edge| *edge != self.me && !alive.contains(edge));
        dead.iter().for_each(|edge| self.handle_gone(edge, now_ms));
    }

    /// An edge is dead: its devices are to be found at others, or nowhere.
    pub fn handle_gone(&mut self, edge: &EdgeId, now_ms: u64) {
        let name = edge.to_string();
        // What it has changed last it may not have told.
        let is_untold = |record: &Record| *record.author == *name && record.version + RECENT_MS > now_ms;
        let of_it = self.known.iter().filter(|(_, record)| record.parts.get(&name).is_some() || is_untold(record));
        let touched: Vec<ClientId> = of_it.map(|(client, _)| client.clone()).collect();
        self.dead.insert(name);
        for client in touched {
            self.unwritten.insert(client.clone());
            // They come back elsewhere, perhaps, and their calls too: one after the other.
            self.calm_since.insert(client.clone(), now_ms);
            self.tell_at(&client, now_ms + GRACE_MS);
        }
    }

    /// What was to be told could not be.
    pub fn handle_untold(&mut self, transition: Transition) {
        self.tell_at(&transition.client, transition.at_ms);
    }

    /// The store by which edges share has forgotten everything.
    pub fn handle_forgotten(&mut self) {
        // Also that nothing of a client is left is known to nobody else, perhaps.
        let written = self.known.iter().filter(|(_, record)| record.author == self.my_name).map(|(client, _)| client);
        self.forgotten.extend(self.own.keys().chain(written).cloned());
        self.unwritten.extend(self.forgotten.iter().cloned());
    }

    /// What is over by now.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        while let Some((at, client)) = self.expiries.first().cloned()
            && at <= now_ms
        {
            self.expiries.pop_first();
            if let Some(own) = self.own.remove(&client) {
                let left = own.without_expired(now_ms);
                if !left.is_empty() {
                    self.own.insert(client.clone(), Arc::new(left));
                }
            }
            self.unwritten.insert(client);
        }
    }

    pub fn next_deadline(&self) -> Option<u64> {
        let first = |times: &BTreeSet<(u64, ClientId)>| times.first().map(|(at, _)| *at);
        first(&self.expiries).into_iter().chain(first(&self.queue)).min()
    }

    /// Forgets clients whom nobody has known for a while; which of them, with the version of their records, so that they can be forgotten
    /// elsewhere.
    pub fn sweep(&mut self, now_ms: u64) -> Vec<(ClientId, u64)> {
        let is_old = |record: &Record| record.parts.is_empty() && record.version + FORGOTTEN_AFTER_MS < now_ms;
        let old = self.known.iter().filter(|(_, record)| is_old(record));
        let old: Vec<(ClientId, u64)> = old.map(|(client, record)| (client.clone(), record.version)).collect();
        for (client, _) in &old {
            self.known.remove(client);
        }
        self.calm_since.retain(|_, at_ms| *at_ms + CALM_MS > now_ms);
        self.calm_since.shrink_to_fit();
        old
    }

    /// What is to be written next: nothing while the last is under way.
    pub fn poll_swap(&mut self, now_ms: u64) -> Option<Swap> {
        if self.asking.is_some() {
            return None;
        }
        while let Some(client) = self.unwritten.pop_first() {
            let known = self.known.get(&client).cloned().unwrap_or_default();
            let is_forgotten = self.forgotten.contains(&client);
            let seen = if is_forgotten { 0 } else { known.version };
            let mut record = known.clone().without_expired(now_ms);
            record.parts.retain(|name| !self.dead.contains(name));
            record.put(&self.me, &self.my_name, self.own.get(&client).cloned());
            if record.parts == known.parts && !is_forgotten {
                continue;
            }
            // Also where a record was forgotten in between, a version never comes again.
            record.version = (known.version + 1).max(now_ms);
            record.author = self.my_name.clone();
            self.asking = Some(client.clone());
            return Some(Swap { client, seen, record });
        }
        None
    }

    /// What came of a swap: it was made, or this is what is there. `None`: the store does not answer, and it is tried again.
    pub fn handle_swapped(&mut self, swap: Swap, outcome: Option<Result<(), Record>>, now_ms: u64) {
        self.asking = None;
        if outcome.is_some() {
            self.forgotten.remove(&swap.client);
        }
        match outcome {
            Some(Ok(())) => {
                let Swap { client, record, seen } = swap;
                // Nobody has changed it in between: whoever changes how it is tells it. Where there was nothing, nobody knows how
                // it was before: it is told in any case, and what was said last decides whether that is news.
                // What has expired since was there until now.
                let was_available = self.known.get(&client).is_some_and(Record::was_available);
                let is_available = record.is_available(now_ms);
                self.take(client.clone(), record);
                self.news.push_back(client.clone());
                let is_gentle = self.gently.remove(&client) && !is_available;
                if was_available != is_available || seen == 0 {
                    self.tell_at(&client, now_ms + if is_gentle { GRACE_MS } else { 0 });
                }
            }
            Some(Err(current)) => {
                // Where there is nothing any more, what is known here holds.
                if current.version == 0 {
                    self.forgotten.insert(swap.client.clone());
                } else {
                    self.take(swap.client.clone(), current);
                }
                self.unwritten.insert(swap.client);
            }
            None => {
                self.unwritten.insert(swap.client);
            }
        }
    }

    /// Which client this edge has made another than before.
    pub fn poll_news(&mut self) -> Option<(ClientId, Record)> {
        let client = self.news.pop_front()?;
        let record = self.known.get(&client).cloned().unwrap_or_default();
        Some((client, record))
    }

    /// What is to be told by now.
    pub fn poll_transition(&mut self, now_ms: u64) -> Option<Transition> {
        loop {
            // What is not written yet may be otherwise in a moment.
            let is_written =
                |client: &ClientId| !self.unwritten.contains(client) && self.asking.as_ref() != Some(client);
            let mut due = self.queue.iter().take_while(|(at, _)| *at <= now_ms);
            let client = due.find(|(_, client)| is_written(client)).map(|(_, client)| client.clone())?;
            self.undo(&client);
            let (is_available, version, devices) = match self.known.get(&client) {
                Some(record) => (record.is_available(now_ms), record.version, record.devices(now_ms).count()),
                None => (false, now_ms, 0),
            };
            if let Some(again_ms) = self.calm_since.get(&client).map(|at| at + CALM_MS).filter(|at| *at > now_ms) {
                self.tell_at(&client, again_ms);
                continue;
            }
            self.calm_since.insert(client.clone(), now_ms);
            return Some(Transition { client, is_available, version, devices, at_ms: now_ms });
        }
    }

    fn take(&mut self, client: ClientId, record: Record) {
        let before = self.known.get(&client);
        if let Some(at) = before.and_then(Record::next_expiry) {
            self.expiries.remove(&(at, client.clone()));
        }
        if let Some(at) = record.next_expiry() {
            self.expiries.insert((at, client.clone()));
        }
        // A device that has come to another edge since is not here any more.
        if let Some(own) = self.own.get_mut(&client) {
            let others = record.parts.iter().filter(|(name, _)| **name != self.my_name);
            let elsewhere: Vec<&Device> = others.flat_map(|(_, part)| &part.devices).collect();
            let has_moved = |device: &Device| {
                elsewhere.iter().any(|other| other.sid == device.sid && other.since_ms > device.since_ms)
            };
            if own.devices.iter().any(has_moved) {
                Arc::make_mut(own).devices.retain(|device| !has_moved(device));
                self.unwritten.insert(client.clone());
            }
        }
        self.known.insert(client, record);
    }

    fn tell_at(&mut self, client: &ClientId, at_ms: u64) {
        if self.due.get(client).is_none_or(|due| at_ms < *due) {
            self.undo(client);
            self.due.insert(client.clone(), at_ms);
            self.queue.insert((at_ms, client.clone()));
        }
    }

    /// Nothing is due of a client.
    fn undo(&mut self, client: &ClientId) {
        if let Some(at_ms) = self.due.remove(client) {
            self.queue.remove(&(at_ms, client.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
