//! The credit of one edge: what it has of each budget, and which calls are covered with it for how long.
//!
//! It is plain data, driven as [`crate::concurrency::Slots`] are: [`Escrow::open`] before a call, [`Escrow::begin`] when it is
//! answered, [`Escrow::close`] when it ends, [`Escrow::settled`] when the ledger has it; [`Escrow::poll_claim`] says what is to be
//! asked of the store, [`Escrow::poll_decision`] what becomes of calls.

use std::collections::{BTreeSet, HashMap, VecDeque};

use dialtone_sip::time::Mono;

use super::grant::{Answer, Claim, Raise, Raised, Wanted};
use super::{Fund, Limit, Terms};
use crate::ids::CallSid;
use crate::usage::DAY_MS;

/// What comes of wanting to begin a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing limits it, or its beginning is covered.
    Granted,
    Refused,
    /// A [`Decision`] follows, about the first call.
    Waits,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Granted(CallSid),
    Refused(CallSid),
    /// It is to hear that it ends in [`TONE_S`] seconds at most.
    RunsOut(CallSid),
    /// It is to end.
    End(CallSid),
}

/// For so many seconds a call is covered ahead.
const AHEAD_S: u64 = 30;
/// With fewer left it is covered for longer, in time to hear from the store.
const LEAD_S: u64 = 10;
/// So many seconds before its end it hears of it; and it ends one second before it costs more, as a BYE takes a moment.
pub const TONE_S: u64 = 3;
const LAST_S: u64 = 1;

/// For an answer of the store, in microseconds.
const PATIENCE_US: u64 = 2_000_000;
/// A call that was not covered asks again after this time: another may have ended.
const ASK_AGAIN_US: u64 = 1_000_000;
/// And of a store that was away.
const TRY_AGAIN_US: u64 = 500_000;
/// What is held is told again after this time, so that nobody takes this edge for dead.
const TELL_AGAIN_US: u64 = 3_600_000_000;
/// Questions in one claim.
const MOST_RAISES: usize = 64;
const SECOND_US: u64 = 1_000_000;

#[derive(Default)]
pub struct Escrow {
    blocks: HashMap<Fund, Block>,
    meters: HashMap<CallSid, Meter>,
    /// When meters are to be looked at.
    due: BTreeSet<(Mono, CallSid)>,
    /// Those that want more than is here, in their order.
    asking: VecDeque<CallSid>,
    untold: BTreeSet<Fund>,
    asked: Option<Asked>,
    /// Nothing is asked before.
    ask_at: Mono,
    told_all: Mono,
    /// When the day ends, by which periods go; the day that it is.
    midnight: Mono,
    day: u64,
    decisions: VecDeque<Decision>,
}

/// What this edge has of a budget.
struct Block {
    /// As much as the store lets it set aside.
    granted: i64,
    /// What the store was told of that last, if it has heard it.
    told: Option<i64>,
    /// Of that, set aside for calls.
    held: i64,
    limit: i64,
    /// When the store had too little left.
    short: Option<Mono>,
}

impl Default for Block {
    /// Nothing, of which the store need not be told.
    fn default() -> Block {
        Block { granted: 0, told: Some(0), held: 0, limit: 0, short: None }
    }
}

impl Block {
    fn to_keep(&self) -> i64 {
        if self.held > 0 { self.held.saturating_add(spare_of(self.limit)) } else { 0 }
    }

    /// The store does not know what there is, or could have some of it back.
    fn is_untold(&self) -> bool {
        self.told != Some(self.granted) || self.granted > self.to_keep()
    }
}

struct Meter {
    terms: Terms,
    state: State,
    /// When it was answered.
    began: Option<Mono>,
    /// So many seconds of it are paid for.
    covered_s: u64,
    held: Vec<(Fund, i64)>,
    due: Option<Mono>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// It waits for the store to begin; with the others of its group, by the first of it.
    Opening(CallSid),
    Open,
    /// It has heard that it ends.
    RunningOut,
    /// It is over, and waits for its line in the ledger; or was told to end.
    Over,
}

/// What a claim that has no answer yet is about.
struct Asked {
    funds: Vec<Fund>,
    raises: Vec<CallSid>,
}

impl Escrow {
    /// Covers the beginning of calls that stand or fall together.
    pub fn open(&mut self, calls: Vec<(CallSid, Terms)>, now: Mono, wall_ms: u64) -> Opened {
        let Some(leader) = calls.first().map(|(sid, _)| *sid) else { return Opened::Granted };
        let group: Vec<CallSid> = calls.iter().map(|(sid, _)| *sid).collect();
        self.first_meter(now, wall_ms);
        for (sid, terms) in calls {
            let state = State::Opening(leader);
            let meter = Meter { terms, state, began: None, covered_s: 0, held: Vec::new(), due: None };
            self.meters.insert(sid, meter);
        }
        if group.iter().all(|sid| self.cover(*sid, now, wall_ms)) {
            self.opened(leader);
            return Opened::Granted;
        }
        let was_short = |block: &Block| block.short.is_some_and(|at| now.0 < at.0 + ASK_AGAIN_US);
        let funds = group.iter().filter_map(|sid| self.meters.get(sid)).flat_map(|meter| funds(&meter.terms, wall_ms));
        if funds.filter_map(|(fund, _)| self.blocks.get(&fund)).any(was_short) {
            group.iter().for_each(|sid| self.drop_meter(*sid));
            return Opened::Refused;
        }
        group.iter().for_each(|sid| self.ask(*sid));
        self.schedule(leader, Mono(now.0 + PATIENCE_US));
        Opened::Waits
    }

    /// Covers a call that runs already, whether there is credit or not; what comes next has to be covered as ever.
    pub fn take_up(&mut self, sid: CallSid, terms: Terms, began: Mono, now: Mono, wall_ms: u64) {
        if self.meters.contains_key(&sid) {
            return;
        }
        self.first_meter(now, wall_ms);
        let covered_s = elapsed_s(began, now);
        let meter = Meter { terms, state: State::Open, began: Some(began), covered_s, held: Vec::new(), due: None };
        let wanted = wanted(&meter, covered_s, wall_ms);
        self.meters.insert(sid, meter);
        self.hold(sid, wanted);
        self.cover_on(sid, now, wall_ms);
    }

    /// Budgets are others, or what a call costs: as told of those that were answered. `None`: nothing limits it any more.
    pub fn change(&mut self, terms: impl Fn(CallSid) -> Option<Terms>, now: Mono, wall_ms: u64) {
        self.blocks.values_mut().for_each(|block| block.short = None);
        for sid in self.running() {
            match (terms(sid), self.meters.get_mut(&sid)) {
                (Some(terms), Some(meter)) => {
                    meter.terms = terms;
                    self.cover_on(sid, now, wall_ms);
                }
                _ => self.drop_meter(sid),
            }
        }
    }

    /// Whether a budget pays for it.
    pub fn has(&self, sid: CallSid) -> bool {
        self.meters.contains_key(&sid)
    }

    /// The call is answered: its time counts from now on.
    pub fn begin(&mut self, sid: CallSid, now: Mono, wall_ms: u64) {
        let is_awaited = |meter: &&mut Meter| meter.state == State::Open && meter.began.is_none();
        let Some(meter) = self.meters.get_mut(&sid).filter(is_awaited) else { return };
        meter.began = Some(now);
        self.cover_on(sid, now, wall_ms);
    }

    /// The call is over: what it has cost stays set aside until the ledger has it.
    pub fn close(&mut self, sid: CallSid) {
        match self.meters.get_mut(&sid) {
            Some(meter) if meter.began.is_some() => {
                meter.state = State::Over;
                let due = meter.due.take();
                due.map(|at| self.due.remove(&(at, sid)));
                self.asking.retain(|other| *other != sid);
            }
            Some(_) => self.drop_meter(sid),
            None => {}
        }
    }

    /// The ledger has its line.
    pub fn settled(&mut self, sid: CallSid) {
        // There it is counted: whatever of it was left is not this edge's any more.
        for (fund, amount) in self.meters.get(&sid).map(|meter| meter.held.clone()).unwrap_or_default() {
            if let Some(block) = self.blocks.get_mut(&fund) {
                block.granted -= amount;
            }
        }
        self.drop_meter(sid);
    }

    pub fn poll_decision(&mut self) -> Option<Decision> {
        self.decisions.pop_front()
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        if self.meters.is_empty() && self.blocks.is_empty() {
            return None;
        }
        let due = self.due.first().map(|(at, _)| *at);
        let midnight = (!self.meters.is_empty()).then_some(self.midnight);
        let asks = self.asked.is_none() && !(self.asking.is_empty() && self.untold.is_empty());
        let tells = Some(Mono(self.told_all.0 + TELL_AGAIN_US));
        [due, midnight, asks.then_some(self.ask_at), tells].into_iter().flatten().min()
    }

    /// True: another day has begun, and prices may be others.
    pub fn handle_timeout(&mut self, now: Mono, wall_ms: u64) -> bool {
        if self.meters.is_empty() && self.blocks.is_empty() {
            return false;
        }
        if now.0 >= self.told_all.0 + TELL_AGAIN_US {
            self.told_all = now;
            self.blocks.values_mut().for_each(|block| block.told = None);
            self.untold.extend(self.blocks.keys().cloned());
        }
        let is_new_day = now >= self.midnight && self.see_the_day(now, wall_ms);
        if is_new_day {
            // What ends now counts in the new period.
            for sid in self.running() {
                self.cover_on(sid, now, wall_ms);
            }
        }
        while let Some((at, sid)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, sid));
            let Some(meter) = self.meters.get_mut(&sid) else { continue };
            meter.due = None;
            match meter.state.clone() {
                State::Opening(leader) => self.refuse(leader),
                State::Open => self.cover_on(sid, now, wall_ms),
                State::RunningOut => {
                    meter.state = State::Over;
                    self.decisions.push_back(Decision::End(sid));
                }
                State::Over => {}
            }
        }
        is_new_day
    }

    /// What is to be asked of the store now, if anything; the answer is awaited before the next.
    pub fn poll_claim(&mut self, now: Mono, wall_ms: u64) -> Option<Claim> {
        if self.asked.is_some() || self.ask_at > now || (self.asking.is_empty() && self.untold.is_empty()) {
            return None;
        }
        let mut places = Vec::<Fund>::new();
        let mut place = |fund: Fund| match places.iter().position(|known| *known == fund) {
            Some(place) => place,
            None => {
                places.push(fund);
                places.len() - 1
            }
        };
        let (mut raises, mut raising) = (Vec::new(), Vec::new());
        for sid in self.asking.iter().take(MOST_RAISES) {
            let Some(meter) = self.meters.get(sid) else { continue };
            let next = meter.terms.next(meter.covered_s);
            let elapsed = meter.began.map_or(0, |began| elapsed_s(began, now));
            let at_most = wanted(meter, next.max(elapsed + AHEAD_S), wall_ms);
            let wants = wanted(meter, next, wall_ms).into_iter().zip(at_most);
            let wants = wants.map(|((limit, fund, at_least), (_, _, at_most))| {
                let at_most = at_most.saturating_add(spare_of(limit.amount));
                Wanted { place: place(fund), limit: limit.amount, at_least, at_most }
            });
            raises.push(Raise { wants: wants.collect() });
            raising.push(*sid);
        }
        let raised = places.len();
        let tells = std::mem::take(&mut self.untold);
        places.extend(tells.into_iter().filter(|fund| self.blocks.contains_key(fund)).collect::<Vec<_>>());
        let mut funds = Vec::<Fund>::new();
        let mut have = Vec::new();
        for (at, fund) in places.into_iter().enumerate() {
            if funds.contains(&fund) {
                continue;
            }
            let block = self.blocks.entry(fund.clone()).or_default();
            // What is not needed is given back before more is asked for: what is left is seen as it is.
            block.granted = if at < raised { block.held } else { block.granted.min(block.to_keep()).max(block.held) };
            block.told = Some(block.granted);
            have.push((fund.clone(), block.granted));
            funds.push(fund);
        }
        if have.is_empty() {
            return None;
        }
        self.asked = Some(Asked { funds, raises: raising });
        Some(Claim { have, raises })
    }

    pub fn handle_answer(&mut self, answer: Answer, now: Mono, wall_ms: u64) {
        let Some(asked) = self.asked.take() else { return };
        let Some(raised) = answer else {
            self.ask_at = Mono(now.0 + TRY_AGAIN_US);
            for fund in asked.funds {
                self.blocks.entry(fund.clone()).or_default().told = None;
                self.untold.insert(fund);
            }
            return;
        };
        self.ask_at = now;
        let mut short = Vec::new();
        for (sid, raised) in asked.raises.iter().zip(raised) {
            self.asking.retain(|other| other != sid);
            match raised {
                Raised::By(amounts) => {
                    let Some(meter) = self.meters.get(sid) else { continue };
                    let funds: Vec<(Fund, i64)> = funds(&meter.terms, wall_ms).collect();
                    for ((fund, limit), amount) in funds.into_iter().zip(amounts) {
                        let block = self.blocks.entry(fund).or_default();
                        block.granted = block.granted.saturating_add(amount);
                        block.told = block.told.map(|told| told.saturating_add(amount));
                        block.limit = limit;
                    }
                }
                Raised::Short(place) => {
                    if let Some(block) = asked.funds.get(place).and_then(|fund| self.blocks.get_mut(fund)) {
                        block.short = Some(now);
                    }
                    short.push(*sid);
                }
            }
        }
        for sid in asked.raises {
            match self.meters.get(&sid).map(|meter| meter.state.clone()) {
                Some(State::Opening(leader)) => self.go_on_opening(leader, short.contains(&sid), now, wall_ms),
                Some(State::Open) if !short.contains(&sid) => self.cover_on(sid, now, wall_ms),
                Some(State::Open) => self.wait_or_run_out(sid, now),
                _ => {}
            }
        }
        // What was granted for one that is gone meanwhile is given back.
        self.untold.extend(asked.funds);
        self.untold.retain(|fund| self.blocks.get(fund).is_some_and(Block::is_untold));
        let is_short = |block: &Block| block.short.is_some_and(|at| now.0 < at.0 + ASK_AGAIN_US);
        self.blocks.retain(|fund, block| block.granted != 0 || is_short(block) || self.untold.contains(fund));
    }

    /// Whether nothing is set aside, and nobody waits.
    pub fn is_empty(&self) -> bool {
        self.meters.is_empty() && self.blocks.values().all(|block| block.held == 0)
    }

    fn go_on_opening(&mut self, leader: CallSid, is_short: bool, now: Mono, wall_ms: u64) {
        if is_short {
            return self.refuse(leader);
        }
        let group = self.group(leader);
        if group.iter().all(|sid| self.cover(*sid, now, wall_ms)) {
            self.opened(leader);
            self.decisions.push_back(Decision::Granted(leader));
        } else {
            let missing = group.iter().filter(|sid| self.meters.get(sid).is_some_and(|meter| meter.covered_s == 0));
            missing.copied().collect::<Vec<_>>().into_iter().for_each(|sid| self.ask(sid));
        }
    }

    /// The calls that were answered, and are not about to end, in the order in which they began.
    fn running(&self) -> Vec<CallSid> {
        let is_running = |meter: &Meter| meter.state == State::Open && meter.began.is_some();
        let mut running: Vec<CallSid> =
            self.meters.iter().filter(|(_, meter)| is_running(meter)).map(|(sid, _)| *sid).collect();
        running.sort_unstable();
        running
    }

    fn group(&self, leader: CallSid) -> Vec<CallSid> {
        let is_of = |meter: &Meter| meter.state == State::Opening(leader);
        let mut group: Vec<CallSid> =
            self.meters.iter().filter(|(_, meter)| is_of(meter)).map(|(sid, _)| *sid).collect();
        group.sort_unstable();
        group
    }

    fn opened(&mut self, leader: CallSid) {
        for sid in self.group(leader) {
            self.asking.retain(|other| *other != sid);
            self.unschedule(sid);
            if let Some(meter) = self.meters.get_mut(&sid) {
                meter.state = State::Open;
            }
        }
    }

    fn refuse(&mut self, leader: CallSid) {
        self.group(leader).into_iter().for_each(|sid| self.drop_meter(sid));
        self.decisions.push_back(Decision::Refused(leader));
    }

    /// Goes on covering a call that was answered, and sees to it that it is looked at in time.
    fn cover_on(&mut self, sid: CallSid, now: Mono, wall_ms: u64) {
        if self.cover(sid, now, wall_ms) {
            let Some(meter) = self.meters.get(&sid) else { return };
            if let Some(began) = meter.began {
                let at = Mono(began.0 + meter.covered_s.saturating_sub(LEAD_S) * SECOND_US);
                self.schedule(sid, at.max(Mono(now.0 + 1)));
            }
        } else {
            self.ask(sid);
            self.wait_or_run_out(sid, now);
        }
    }

    /// A call that is not covered for long asks again in a while, until it is time to tell it.
    fn wait_or_run_out(&mut self, sid: CallSid, now: Mono) {
        let Some(meter) = self.meters.get_mut(&sid) else { return };
        let Some(began) = meter.began else { return };
        let ends_in = |seconds: u64| Mono(began.0 + meter.covered_s.saturating_sub(seconds) * SECOND_US);
        if now < ends_in(TONE_S) {
            let at = ends_in(TONE_S).min(Mono(now.0 + ASK_AGAIN_US));
            return self.schedule(sid, at);
        }
        let end = ends_in(LAST_S).max(now);
        meter.state = State::RunningOut;
        self.asking.retain(|other| *other != sid);
        self.decisions.push_back(Decision::RunsOut(sid));
        self.schedule(sid, end);
    }

    /// Covers a call for as long as it should be, by what is here. False: it is not here.
    fn cover(&mut self, sid: CallSid, now: Mono, wall_ms: u64) -> bool {
        loop {
            let Some(meter) = self.meters.get(&sid) else { return true };
            let elapsed = meter.began.map_or(0, |began| elapsed_s(began, now));
            let more = if meter.covered_s == 0 || meter.covered_s < elapsed + AHEAD_S {
                meter.terms.next(meter.covered_s)
            } else {
                meter.covered_s
            };
            let wanted = wanted(meter, more, wall_ms);
            let free = |fund: &Fund| self.blocks.get(fund).map_or(0, |block| block.granted - block.held);
            if wanted.iter().any(|(_, fund, amount)| *amount > free(fund)) {
                // Before it is answered any beginning will do, and then what is covered for a while yet.
                let is_current = self::wanted(meter, meter.covered_s, wall_ms).iter().all(|(.., amount)| *amount <= 0);
                return is_current
                    && meter.covered_s > 0
                    && (meter.began.is_none() || meter.covered_s > elapsed + LEAD_S);
            }
            let is_done = more == meter.covered_s;
            self.hold(sid, wanted);
            if is_done {
                return true;
            }
            if let Some(meter) = self.meters.get_mut(&sid) {
                meter.covered_s = more;
            }
        }
    }

    /// Sets aside what a call wants more, and lets go what it had of other periods.
    fn hold(&mut self, sid: CallSid, wanted: Vec<(Limit, Fund, i64)>) {
        let Some(meter) = self.meters.get_mut(&sid) else { return };
        let before = std::mem::take(&mut meter.held);
        for (limit, fund, amount) in wanted {
            let held = before.iter().find(|(known, _)| *known == fund).map_or(0, |(_, held)| *held);
            let block = self.blocks.entry(fund.clone()).or_default();
            block.held += amount;
            block.limit = limit.amount;
            if block.held > block.granted {
                // Nobody was asked: the store is to know.
                block.granted = block.held;
            }
            if block.is_untold() {
                self.untold.insert(fund.clone());
            }
            meter.held.push((fund, held + amount));
        }
        let left: Vec<(Fund, i64)> =
            before.into_iter().filter(|(fund, _)| !meter.held.iter().any(|(kept, _)| kept == fund)).collect();
        self.let_go(left);
    }

    fn let_go(&mut self, held: Vec<(Fund, i64)>) {
        for (fund, amount) in held {
            if let Some(block) = self.blocks.get_mut(&fund) {
                block.held -= amount;
                if block.is_untold() {
                    self.untold.insert(fund);
                }
            }
        }
    }

    fn drop_meter(&mut self, sid: CallSid) {
        self.unschedule(sid);
        self.asking.retain(|other| *other != sid);
        if let Some(meter) = self.meters.remove(&sid) {
            self.let_go(meter.held);
        }
    }

    fn ask(&mut self, sid: CallSid) {
        let is_asked = self.asked.as_ref().is_some_and(|asked| asked.raises.contains(&sid));
        if !is_asked && !self.asking.contains(&sid) {
            self.asking.push_back(sid);
        }
    }

    fn schedule(&mut self, sid: CallSid, at: Mono) {
        self.unschedule(sid);
        if let Some(meter) = self.meters.get_mut(&sid) {
            meter.due = Some(at);
            self.due.insert((at, sid));
        }
    }

    fn unschedule(&mut self, sid: CallSid) {
        if let Some(at) = self.meters.get_mut(&sid).and_then(|meter| meter.due.take()) {
            self.due.remove(&(at, sid));
        }
    }

    /// Nobody has looked at the day while there was none.
    fn first_meter(&mut self, now: Mono, wall_ms: u64) {
        if self.meters.is_empty() {
            self.see_the_day(now, wall_ms);
        }
    }

    /// Whether it is another day than when it was last asked.
    fn see_the_day(&mut self, now: Mono, wall_ms: u64) -> bool {
        let day = wall_ms / DAY_MS;
        self.midnight = Mono(now.0 + ((day + 1) * DAY_MS - wall_ms) * 1000);
        std::mem::replace(&mut self.day, day) != day
    }
}

fn elapsed_s(began: Mono, now: Mono) -> u64 {
    now.0.saturating_sub(began.0).div_ceil(SECOND_US)
}

/// The budgets of a call at that time, and how much they are.
fn funds(terms: &Terms, wall_ms: u64) -> impl Iterator<Item = (Fund, i64)> {
    terms.limits.iter().map(move |limit| (fund(limit, wall_ms), limit.amount))
}

fn fund(limit: &Limit, wall_ms: u64) -> Fund {
    Fund::at(limit.account, limit.measure, limit.recurring, wall_ms)
}

/// What a call wants more of each of its budgets, to be covered for so long.
fn wanted(meter: &Meter, seconds: u64, wall_ms: u64) -> Vec<(Limit, Fund, i64)> {
    let of = |limit: &Limit| {
        let fund = fund(limit, wall_ms);
        let held = meter.held.iter().find(|(known, _)| *known == fund).map_or(0, |(_, held)| *held);
        (*limit, fund, meter.terms.amount(limit.measure, seconds) - held)
    };
    meter.terms.limits.iter().map(of).collect()
}

/// How much of a budget an edge may keep that it does not need now.
fn spare_of(limit: i64) -> i64 {
    limit.max(0) / 256
}
