//! The slots of one process: who holds one, who waits for one, and how many the store that edges share lets it hold.
//!
//! A slot is taken and given back by its name, so that what is done twice is done once. It is plain data: [`Slots::acquire`] and
//! [`Slots::release`] say what is wanted, [`Slots::poll_claim`] what is to be asked of the store, [`Slots::handle_answer`] what came
//! of that, and [`Slots::poll_decision`] what became of those that had to wait.
//!
//! Where edges share limits one holds no more of a scope than it was granted. What it is granted and does not hold it gives
//! back, but for a 256th of the limit, so that large limits cost few questions.

use std::collections::{HashMap, HashSet, VecDeque};

use dialtone_sip::time::Mono;

use super::scope::{Resource, Scope, Want};
use crate::hot::{Claim, EdgeId, Held, Raise, Raised};
use crate::ids::AccountSid;

/// What holds a place: a call, a request.
pub type SlotId = (Resource, u128);

/// What comes of a claim; `None`: the store did not answer.
pub type Answer = Option<Held>;

/// Who may hold more while the store is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// As many as would be this edge's if each had as many as any other.
    #[default]
    Share,
    /// Nobody.
    Closed,
    /// Each edge up to the limit.
    Open,
}

/// What happens to one that finds no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Impede {
    #[default]
    Reject,
    /// It waits so long.
    Delay { wait_us: u64 },
    /// One of less priority is ended for it.
    Preempt,
}

/// What is to hold places.
#[derive(Clone, Debug)]
pub struct Request {
    /// One place in each scope for each of these.
    pub slots: Vec<SlotId>,
    pub wants: Vec<Want>,
    pub impede: Impede,
    pub priority: u8,
    /// Among those who wait each account has its turn.
    pub account: AccountSid,
}

/// What comes of a request at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    Granted,
    /// The scope that has no room.
    Refused(Scope),
    /// A [`Decision`] follows, about the first of the request's slots.
    Waits,
}

/// What became of one that waited, by its first slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Granted(SlotId),
    Refused(SlotId, Scope),
    /// It is to be ended: its place is wanted by one of more priority.
    End(SlotId),
}

/// How much of a scope this process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    pub scope: Scope,
    pub limit: u32,
    pub held: u32,
}

/// Requests that may wait; one more is refused.
const MOST_WAITING: usize = 10_000;
/// Of these, delayed ones of one account: nobody is to fill the places of others.
const MOST_DELAYED: usize = 200;
/// Questions in one claim.
const MOST_RAISES: usize = 64;
/// For an answer of the store, in microseconds.
const PATIENCE_US: u64 = 2_000_000;
/// Whoever found no room asks again after this time: another edge gives places back without telling.
const ASK_AGAIN_US: u64 = 100_000;
/// And the store, when it was away.
const TRY_AGAIN_US: u64 = 500_000;
/// Until one that was told to end has ended.
const ENDS_IN_US: u64 = 5_000_000;

#[derive(Clone)]
pub struct Slots {
    scopes: HashMap<Scope, State>,
    holders: HashMap<SlotId, Holder>,
    /// By tag: whose turn is next comes first.
    waiting: VecDeque<Waiting>,
    /// The tag of who had its turn last.
    virtual_time: u64,
    tags: HashMap<AccountSid, u64>,
    decisions: VecDeque<Decision>,
    /// When the next of those who wait is to wait no longer, or sooner.
    due: Option<Mono>,
    /// `None`: nobody else has any.
    sharing: Option<Sharing>,
}

#[derive(Clone, Default)]
struct State {
    limit: u32,
    held: HashSet<SlotId>,
    /// As the store knows it.
    granted: u32,
    /// What the store knows is not what there is.
    is_untold: bool,
}

impl State {
    /// How many places an edge keeps, of those that it was granted.
    fn to_keep(&self) -> u32 {
        match self.held.len() as u32 {
            0 => 0,
            held => held + spare_of(self.limit),
        }
    }
}

#[derive(Clone)]
struct Holder {
    scopes: Box<[Scope]>,
    priority: u8,
    since: Mono,
    is_ending: bool,
}

#[derive(Clone)]
struct Waiting {
    request: Request,
    tag: u64,
    until: Mono,
    /// It is a question to the store, and no delay.
    only_asks: bool,
    ask_at: Mono,
}

#[derive(Clone)]
struct Sharing {
    on_loss: OnLoss,
    /// How many edges share the limits.
    edges: u32,
    /// The store did not answer the last time.
    is_lost: bool,
    asked: Option<Asked>,
    /// Nothing is asked before.
    ask_at: Mono,
    /// When the next of those who wait is to ask.
    asking_at: Option<Mono>,
    /// Scopes of which the store does not know what there is.
    untold: Vec<Scope>,
    settled: Vec<EdgeId>,
}

/// What a claim that has no answer yet is about.
#[derive(Clone)]
struct Asked {
    scopes: Vec<Scope>,
    /// By raise, the first slot of the request.
    raises: Vec<SlotId>,
    settled: usize,
}

enum Verdict {
    Room,
    Ask,
    Full(Scope),
}

impl Slots {
    /// Of a process that shares its limits with nobody.
    pub fn alone() -> Slots {
        Slots {
            scopes: HashMap::new(),
            holders: HashMap::new(),
            waiting: VecDeque::new(),
            virtual_time: 0,
            tags: HashMap::new(),
            decisions: VecDeque::new(),
            due: None,
            sharing: None,
        }
    }

    /// Of an edge among others.
    pub fn shared(on_loss: OnLoss) -> Slots {
        let sharing = Sharing {
            on_loss,
            edges: 1,
            is_lost: false,
            asked: None,
            ask_at: Mono(0),
            asking_at: None,
            untold: Vec::new(),
            settled: Vec::new(),
        };
        Slots { sharing: Some(sharing), ..Slots::alone() }
    }

    /// How many edges share the limits, this one among them.
    pub fn set_edges(&mut self, count: usize) {
        if let Some(sharing) = &mut self.sharing {
            sharing.edges = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        }
    }

    /// Whether the store that edges share is away.
    pub fn is_lost(&self) -> bool {
        self.sharing.as_ref().is_some_and(|sharing| sharing.is_lost)
    }

    pub fn acquire(&mut self, request: Request, now: Mono) -> Acquired {
        if request.wants.is_empty() || request.slots.iter().all(|slot| self.holders.contains_key(slot)) {
            return Acquired::Granted;
        }
        self.learn_limits(&request.wants);
        let (wait_us, only_asks) = match (self.verdict(&request), request.impede) {
            (Verdict::Room, _) => {
                self.take(&request, now);
                return Acquired::Granted;
            }
            (Verdict::Full(scope), Impede::Reject) => return Acquired::Refused(scope),
            (Verdict::Full(scope), Impede::Preempt) => match self.choose_victim(&scope, request.priority) {
                Some(victim) => {
                    self.decisions.push_back(Decision::End(victim));
                    (ENDS_IN_US, false)
                }
                None => return Acquired::Refused(scope),
            },
            (Verdict::Full(_) | Verdict::Ask, Impede::Delay { wait_us }) => (wait_us, false),
            (Verdict::Ask, Impede::Reject | Impede::Preempt) => (PATIENCE_US, true),
        };
        let is_own = |other: &&Waiting| !other.only_asks && other.request.account == request.account;
        let is_full = !only_asks && self.waiting.iter().filter(is_own).count() >= MOST_DELAYED;
        if is_full || self.waiting.len() >= MOST_WAITING {
            return Acquired::Refused(request.wants[0].scope.clone());
        }
        let until = Mono(now.0 + wait_us);
        let tag = match request.impede {
            // Its place was made for it.
            Impede::Preempt => 0,
            _ => {
                let last = self.tags.entry(request.account).or_default();
                *last = (*last + 1).max(self.virtual_time);
                *last
            }
        };
        self.due = Some(self.due.map_or(until, |due| due.min(until)));
        if let Some(sharing) = &mut self.sharing {
            sharing.asking_at = Some(sharing.asking_at.map_or(now, |at| at.min(now)));
        }
        let at = self.waiting.partition_point(|other| other.tag <= tag);
        self.waiting.insert(at, Waiting { request, tag, until, only_asks, ask_at: now });
        Acquired::Waits
    }

    /// Takes places whether there is room or not: for what cannot be refused, or runs already.
    pub fn take_anyway(&mut self, request: &Request, now: Mono) {
        self.learn_limits(&request.wants);
        self.take(request, now);
    }

    /// Gives the places of a slot back, if it holds any.
    pub fn release(&mut self, slot: SlotId, now: Mono) {
        let Some(holder) = self.holders.remove(&slot) else { return };
        for scope in &holder.scopes {
            if let Some(state) = self.scopes.get_mut(scope) {
                state.held.remove(&slot);
            }
        }
        self.serve(now);
        for scope in &holder.scopes {
            let Some(state) = self.scopes.get(scope) else { continue };
            if self.sharing.is_some() {
                if state.granted > state.to_keep() {
                    self.is_untold(scope);
                }
            } else if state.held.is_empty() && self.waiting.is_empty() {
                self.scopes.remove(scope);
            }
        }
    }

    /// Takes a request back that waits.
    pub fn withdraw(&mut self, slot: SlotId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.request.slots[0] != slot);
        self.waiting.len() < before
    }

    /// Limits are others from now on, as told; `None`: there is none any more.
    pub fn set_limits(&mut self, limit: impl Fn(&Scope) -> Option<u32>, now: Mono) {
        for (scope, state) in &mut self.scopes {
            state.limit = limit(scope).unwrap_or(u32::MAX);
        }
        for waiting in &mut self.waiting {
            waiting.request.wants.iter_mut().for_each(|want| want.limit = limit(&want.scope).unwrap_or(u32::MAX));
        }
        self.serve(now);
    }

    /// What the edge has taken up of another is held by now: the store need not keep it any longer.
    pub fn settled(&mut self, of: EdgeId) {
        if let Some(sharing) = &mut self.sharing {
            sharing.settled.push(of);
        }
    }

    /// The store has forgotten everything: it is told all.
    pub fn tell_again(&mut self) {
        for scope in self.scopes.keys().cloned().collect::<Vec<_>>() {
            self.is_untold(&scope);
        }
    }

    fn is_untold(&mut self, scope: &Scope) {
        let Some(sharing) = &mut self.sharing else { return };
        if let Some(state) = self.scopes.get_mut(scope).filter(|state| !state.is_untold) {
            state.is_untold = true;
            sharing.untold.push(scope.clone());
        }
    }

    pub fn poll_decision(&mut self) -> Option<Decision> {
        self.decisions.pop_front()
    }

    /// When [`Slots::handle_timeout`] or [`Slots::poll_claim`] has something to do.
    pub fn next_deadline(&self) -> Option<Mono> {
        let asks = self.sharing.as_ref().filter(|sharing| sharing.asked.is_none()).and_then(|sharing| {
            let tells = !sharing.untold.is_empty() || !sharing.settled.is_empty() || sharing.is_lost;
            let at = if tells { Some(sharing.ask_at) } else { sharing.asking_at };
            at.map(|at| at.max(sharing.ask_at))
        });
        self.due.into_iter().chain(asks).min()
    }

    pub fn handle_timeout(&mut self, now: Mono) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let mut late = Vec::new();
        self.waiting.retain(|waiting| {
            let in_time = waiting.until > now;
            if !in_time {
                late.push((waiting.request.slots[0], waiting.request.wants[0].scope.clone()));
            }
            in_time
        });
        self.decisions.extend(late.into_iter().map(|(slot, scope)| Decision::Refused(slot, scope)));
        self.due = self.waiting.iter().map(|waiting| waiting.until).min();
    }

    /// What is to be asked of the store now, if anything; the answer is awaited before the next.
    pub fn poll_claim(&mut self, now: Mono) -> Option<Claim> {
        let sharing = self.sharing.as_ref()?;
        if sharing.asked.is_some() || sharing.ask_at > now {
            return None;
        }
        let asks = sharing.asking_at.is_some_and(|at| at <= now);
        if !asks && sharing.untold.is_empty() && sharing.settled.is_empty() && !sharing.is_lost {
            return None;
        }
        let settled = sharing.settled.clone();
        let is_lost = sharing.is_lost;
        let (mut scopes, mut raises, mut asking) = (Vec::<Scope>::new(), Vec::new(), Vec::new());
        let mut place = |scope: &Scope| match scopes.iter().position(|known| known == scope) {
            Some(place) => place,
            None => {
                scopes.push(scope.clone());
                scopes.len() - 1
            }
        };
        let mut planned = HashMap::<Scope, u32>::new();
        for waiting in self.waiting.iter().filter(|waiting| waiting.ask_at <= now) {
            let more = waiting.request.slots.len() as u32;
            let wants = &waiting.request.wants;
            let room = |want: &Want| {
                let state = &self.scopes[&want.scope];
                let granted = state.granted + planned.get(&want.scope).copied().unwrap_or(0);
                granted.saturating_sub(state.held.len() as u32)
            };
            // One that has room with what is asked for already is looked at again with the answer.
            if raises.len() == MOST_RAISES || wants.iter().all(|want| room(want) >= more) {
                continue;
            }
            let spare = wants.iter().map(|want| spare_of(want.limit)).min().unwrap_or(0);
            let (at_least, at_most) = (more, more + spare);
            for want in wants {
                *planned.entry(want.scope.clone()).or_default() += at_most;
            }
            let scopes = wants.iter().map(|want| (place(&want.scope), want.limit)).collect();
            raises.push(Raise { scopes, at_least, at_most });
            asking.push(waiting.request.slots[0]);
        }
        for scope in &sharing.untold {
            place(scope);
        }
        let mut have = Vec::new();
        for scope in &scopes {
            let state = self.scopes.entry(scope.clone()).or_default();
            let held = state.held.len() as u32;
            state.granted = if is_lost { held } else { held.max(state.granted.min(state.to_keep())) };
            state.is_untold = false;
            have.push((scope.to_string(), state.granted));
        }
        let asking_at = self.waiting.iter().map(|waiting| waiting.ask_at).filter(|at| *at > now).min();
        if let Some(sharing) = &mut self.sharing {
            sharing.untold.clear();
            sharing.asking_at = asking_at;
            if have.is_empty() && settled.is_empty() && !is_lost {
                return None;
            }
            sharing.asked = Some(Asked { scopes, raises: asking, settled: settled.len() });
        }
        Some(Claim { have, raises, settled })
    }

    pub fn handle_answer(&mut self, answer: Answer, now: Mono) {
        let Some(sharing) = &mut self.sharing else { return };
        let Some(asked) = sharing.asked.take() else { return };
        sharing.is_lost = false;
        sharing.ask_at = now;
        match answer {
            Some(Held::Done(raised)) => {
                sharing.settled.drain(..asked.settled);
                for (slot, raised) in asked.raises.iter().zip(raised) {
                    self.raised(*slot, raised, &asked.scopes, now);
                }
            }
            Some(Held::Barrier { wait_ms }) => {
                sharing.settled.drain(..asked.settled);
                sharing.ask_at = Mono(now.0 + (wait_ms * 1000).min(ASK_AGAIN_US));
            }
            Some(Held::Fenced) | None => {
                sharing.is_lost = true;
                sharing.ask_at = Mono(now.0 + TRY_AGAIN_US);
                self.tell_again();
            }
        }
        self.serve(now);
        for scope in &asked.scopes {
            let is_idle = |state: &State| state.held.is_empty() && state.granted == 0 && !state.is_untold;
            if self.waiting.is_empty() && self.scopes.get(scope).is_some_and(is_idle) {
                self.scopes.remove(scope);
            }
        }
        // Whoever waits still asks again.
        let asking_at = self.waiting.iter().map(|waiting| waiting.ask_at).min();
        if let Some(sharing) = &mut self.sharing {
            sharing.asking_at = asking_at;
        }
    }

    /// Who holds places of that resource.
    pub fn held(&self, resource: Resource) -> impl Iterator<Item = InUse> {
        let of = move |(scope, _): &(&Scope, &State)| scope.resource() == resource;
        self.scopes.iter().filter(of).map(|(scope, state)| InUse {
            scope: scope.clone(),
            limit: state.limit,
            held: state.held.len() as u32,
        })
    }

    /// With which priority a slot is held; 0 of one that is not.
    pub fn priority_of(&self, slot: SlotId) -> u8 {
        self.holders.get(&slot).map_or(0, |holder| holder.priority)
    }

    /// Whether nobody holds a place or waits for one.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.waiting.is_empty()
    }

    /// What tells two of them apart, but for times.
    #[cfg(test)]
    fn fingerprint(&self) -> String {
        let mut scopes: Vec<String> = self
            .scopes
            .iter()
            .map(|(scope, state)| {
                let mut held: Vec<&SlotId> = state.held.iter().collect();
                held.sort_unstable();
                format!("{scope}{held:?}{}{}", state.granted, state.is_untold)
            })
            .collect();
        scopes.sort_unstable();
        let waiting: Vec<&[SlotId]> = self.waiting.iter().map(|waiting| waiting.request.slots.as_slice()).collect();
        let sharing = self.sharing.as_ref().map(|sharing| {
            let asked = sharing.asked.as_ref().map(|asked| (&asked.scopes, &asked.raises, asked.settled));
            format!("{asked:?}{}{:?}{:?}", sharing.is_lost, sharing.untold, sharing.settled)
        });
        format!("{scopes:?}{waiting:?}{sharing:?}")
    }

    fn learn_limits(&mut self, wants: &[Want]) {
        for want in wants {
            match self.scopes.get_mut(&want.scope) {
                Some(state) => state.limit = want.limit,
                None => drop(self.scopes.insert(want.scope.clone(), State { limit: want.limit, ..State::default() })),
            }
        }
    }

    fn verdict(&self, request: &Request) -> Verdict {
        let more = request.slots.len() as u32;
        let mut asks = false;
        for want in &request.wants {
            let (held, granted) =
                self.scopes.get(&want.scope).map_or((0, 0), |state| (state.held.len() as u32, state.granted));
            if held + more > want.limit {
                return Verdict::Full(want.scope.clone());
            }
            let Some(sharing) = self.sharing.as_ref().filter(|_| held + more > granted) else { continue };
            if !sharing.is_lost {
                asks = true;
                continue;
            }
            let own = match sharing.on_loss {
                OnLoss::Share => want.limit.div_ceil(sharing.edges),
                OnLoss::Closed => 0,
                OnLoss::Open => want.limit,
            };
            if held + more > own {
                return Verdict::Full(want.scope.clone());
            }
        }
        if asks { Verdict::Ask } else { Verdict::Room }
    }

    fn take(&mut self, request: &Request, now: Mono) {
        for slot in &request.slots {
            for want in &request.wants {
                let state = self.scopes.entry(want.scope.clone()).or_default();
                state.held.insert(*slot);
                if self.sharing.is_some() && state.held.len() as u32 > state.granted {
                    // More than was granted: the store is to know.
                    self.is_untold(&want.scope);
                }
            }
            let fresh = Holder { scopes: Box::default(), priority: request.priority, since: now, is_ending: false };
            let holder = self.holders.entry(*slot).or_insert(fresh);
            // What it holds of other scopes stays held until it gives everything back.
            let mut scopes = std::mem::take(&mut holder.scopes).into_vec();
            let more = request.wants.iter().map(|want| &want.scope).filter(|scope| !scopes.contains(scope));
            let more: Vec<Scope> = more.cloned().collect();
            scopes.extend(more);
            holder.scopes = scopes.into();
        }
    }

    /// Of those with the least priority, if that is less than this, the one that came last.
    fn choose_victim(&mut self, scope: &Scope, priority: u8) -> Option<SlotId> {
        let held = &self.scopes.get(scope)?.held;
        let candidates = held.iter().filter_map(|slot| Some((slot, self.holders.get(slot)?)));
        let weak = candidates.filter(|(_, holder)| holder.priority < priority && !holder.is_ending);
        let (slot, _) = weak.min_by_key(|(_, holder)| (holder.priority, std::cmp::Reverse(holder.since)))?;
        let slot = *slot;
        self.holders.get_mut(&slot)?.is_ending = true;
        Some(slot)
    }

    /// Whoever waits and has room now has its turn, in order.
    fn serve(&mut self, now: Mono) {
        let mut at = 0;
        while at < self.waiting.len() {
            match self.verdict(&self.waiting[at].request) {
                Verdict::Room => {
                    let Some(waiting) = self.waiting.remove(at) else { break };
                    self.virtual_time = self.virtual_time.max(waiting.tag);
                    self.take(&waiting.request, now);
                    self.decisions.push_back(Decision::Granted(waiting.request.slots[0]));
                }
                Verdict::Full(scope) if self.waiting[at].only_asks => {
                    let Some(waiting) = self.waiting.remove(at) else { break };
                    self.decisions.push_back(Decision::Refused(waiting.request.slots[0], scope));
                }
                Verdict::Full(_) | Verdict::Ask => at += 1,
            }
        }
        if self.waiting.is_empty() {
            self.tags.clear();
            self.virtual_time = 0;
        }
    }

    fn raised(&mut self, slot: SlotId, raised: Raised, scopes: &[Scope], now: Mono) {
        let Some(at) = self.waiting.iter().position(|waiting| waiting.request.slots[0] == slot) else {
            // Nobody waits for it any more: it is given back with the next claim.
            return scopes.iter().for_each(|scope| self.is_untold(scope));
        };
        match raised {
            Raised::By(by) => {
                for want in &self.waiting[at].request.wants {
                    self.scopes.entry(want.scope.clone()).or_default().granted += by;
                }
            }
            Raised::Full(_) if !self.waiting[at].only_asks => {
                self.waiting[at].ask_at = Mono(now.0 + ASK_AGAIN_US);
            }
            Raised::Full(place) => {
                let waiting = self.waiting.remove(at);
                let scope = scopes.get(place).cloned();
                let refused = waiting.map(|waiting| {
                    let scope = scope.unwrap_or_else(|| waiting.request.wants[0].scope.clone());
                    Decision::Refused(waiting.request.slots[0], scope)
                });
                self.decisions.extend(refused);
            }
        }
    }
}

/// How many places of a scope an edge may keep that it does not need now.
fn spare_of(limit: u32) -> u32 {
    if limit == u32::MAX { 0 } else { limit / 256 }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
