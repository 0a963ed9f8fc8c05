//! Stories of edges that share a budget: calls of chance, answers that are late or lost, edges that die.

use std::collections::HashMap;

use dialtone_sip::time::Mono;
use dialtone_sip::tokens::Tokens;

use super::*;
use crate::ids::CallSid;
use crate::usage::DAY_MS;

const ACCOUNT: AccountSid = AccountSid::new(1);
const STEP_US: u64 = 100_000;
/// 2026-11-26T12:00:00Z.
const NOON_MS: u64 = 1_795_694_400_000;

fn rate(per_minute: i64, first_increment: u64, increment: u64) -> Rate {
    Rate { setup: 0, per_minute, first_increment, increment }
}

fn terms(measure: Measure, amount: i64, recurring: Recurring, rate: Option<Rate>) -> Terms {
    Terms { limits: vec![Limit { account: ACCOUNT, measure, recurring, amount }], rate }
}

/// What the database has.
#[derive(Default)]
struct Book {
    spent: HashMap<Fund, i64>,
    held: HashMap<(Fund, usize), i64>,
}

impl Book {
    fn claim(&mut self, edge: usize, claim: &Claim) -> Vec<Raised> {
        let used = |(fund, _): &(Fund, i64)| {
            let others = self.held.iter().filter(|((of, by), _)| of == fund && *by != edge).map(|(_, held)| held);
            self.spent.get(fund).copied().unwrap_or(0) + others.sum::<i64>()
        };
        let used: Vec<i64> = claim.have.iter().map(used).collect();
        let (raised, have) = grant(claim, &used);
        for ((fund, _), held) in claim.have.iter().zip(have) {
            self.held.insert((fund.clone(), edge), held);
        }
        raised
    }
}

struct Call {
    terms: Terms,
    began: Mono,
    ends: Mono,
}

/// One life of an edge.
struct Edge {
    number: usize,
    escrow: Escrow,
    waiting: HashMap<CallSid, Terms>,
    running: HashMap<CallSid, Call>,
    answers: Vec<(Mono, Answer)>,
    claims: u32,
}

struct Line {
    written: Mono,
    /// Where somebody waits for that.
    edge: usize,
    call: CallSid,
    costs: Vec<(Fund, i64)>,
}

struct Story {
    chance: Tokens,
    now: Mono,
    begins_ms: u64,
    book: Book,
    edges: Vec<Edge>,
    /// On their way into the ledger.
    lines: Vec<Line>,
    next_call: u128,
    edges_begun: usize,
    ended_by_escrow: u32,
    toned: u32,
}

impl Story {
    fn new(seed: u8, edges: usize, begins_ms: u64) -> Story {
        let mut story = Story {
            chance: Tokens::new([seed; 32]),
            now: Mono(1_000_000),
            begins_ms,
            book: Book::default(),
            edges: Vec::new(),
            lines: Vec::new(),
            next_call: 1,
            edges_begun: 0,
            ended_by_escrow: 0,
            toned: 0,
        };
        (0..edges).for_each(|_| story.begin_edge());
        story
    }

    fn begin_edge(&mut self) {
        let number = self.edges_begun;
        self.edges_begun += 1;
        let (escrow, waiting, running, answers) = Default::default();
        self.edges.push(Edge { number, escrow, waiting, running, answers, claims: 0 });
    }

    fn wall_ms(&self) -> u64 {
        self.begins_ms + self.now.0 / 1000
    }

    fn is_lucky(&mut self, one_in: u64) -> bool {
        self.chance.below(one_in) == 0
    }

    fn call(&mut self, edge: usize, terms: Terms) {
        let sid = CallSid::new(self.next_call);
        self.next_call += 1;
        let (now, wall_ms) = (self.now, self.wall_ms());
        match self.edges[edge].escrow.open(vec![(sid, terms.clone())], now, wall_ms) {
            Opened::Granted => self.answer(edge, sid, terms),
            Opened::Waits => drop(self.edges[edge].waiting.insert(sid, terms)),
            Opened::Refused => {}
        }
    }

    fn answer(&mut self, edge: usize, sid: CallSid, terms: Terms) {
        let (now, wall_ms) = (self.now, self.wall_ms());
        let lasts = 1_000_000 + self.chance.below(200_000_000);
        self.edges[edge].escrow.begin(sid, now, wall_ms);
        self.edges[edge].running.insert(sid, Call { terms, began: now, ends: Mono(now.0 + lasts) });
    }

    fn end(&mut self, edge: usize, sid: CallSid) {
        let Some(call) = self.edges[edge].running.remove(&sid) else { return };
        let seconds = (self.now.0 - call.began.0).div_ceil(1_000_000);
        let wall_ms = self.wall_ms();
        let costs = call.terms.limits.iter().map(|limit| {
            let fund = Fund::at(limit.account, limit.measure, limit.recurring, wall_ms);
            let cost = match limit.measure {
                Measure::Price => call.terms.rate.map_or(0, |rate| rate.cost(seconds)),
                Measure::Minutes => seconds.div_ceil(60) as i64,
            };
            (fund, cost)
        });
        let written = Mono(self.now.0 + self.chance.below(3_000_000));
        let line = Line { written, edge: self.edges[edge].number, call: sid, costs: costs.collect() };
        self.lines.push(line);
        self.edges[edge].escrow.close(sid);
    }

    /// A tenth of a second.
    fn step(&mut self, loses: bool) {
        self.now = Mono(self.now.0 + STEP_US);
        let (now, wall_ms) = (self.now, self.wall_ms());
        let written: Vec<Line> = self.lines.extract_if(.., |line| line.written <= now).collect();
        for Line { edge, call: sid, costs, .. } in written {
            for (fund, cost) in costs {
                *self.book.spent.entry(fund).or_default() += cost;
            }
            self.edges.iter_mut().filter(|known| known.number == edge).for_each(|edge| edge.escrow.settled(sid));
        }
        for edge in 0..self.edges.len() {
            let over: Vec<CallSid> =
                self.edges[edge].running.iter().filter(|(_, call)| call.ends <= now).map(|(sid, _)| *sid).collect();
            over.into_iter().for_each(|sid| self.end(edge, sid));
            let due: Vec<_> = self.edges[edge].answers.extract_if(.., |(at, _)| *at <= now).collect();
            for (_, answer) in due {
                self.edges[edge].escrow.handle_answer(answer, now, wall_ms);
            }
            if self.edges[edge].escrow.next_deadline().is_some_and(|at| at <= now) {
                self.edges[edge].escrow.handle_timeout(now, wall_ms);
            }
            while let Some(decision) = self.edges[edge].escrow.poll_decision() {
                match decision {
                    Decision::Granted(sid) => match self.edges[edge].waiting.remove(&sid) {
                        Some(terms) => self.answer(edge, sid, terms),
                        None => self.edges[edge].escrow.close(sid),
                    },
                    Decision::Refused(sid) => drop(self.edges[edge].waiting.remove(&sid)),
                    Decision::RunsOut(_) => self.toned += 1,
                    Decision::End(sid) => {
                        self.ended_by_escrow += 1;
                        // A BYE takes a moment.
                        let delay = self.chance.below(700_000);
                        if let Some(call) = self.edges[edge].running.get_mut(&sid) {
                            call.ends = call.ends.min(Mono(now.0 + delay));
                        }
                    }
                }
            }
            if let Some(claim) = self.edges[edge].escrow.poll_claim(now, wall_ms) {
                self.edges[edge].claims += 1;
                let is_lost = loses && self.is_lucky(10);
                let number = self.edges[edge].number;
                let answer = if is_lost && self.is_lucky(2) { None } else { Some(self.book.claim(number, &claim)) };
                let at = Mono(now.0 + self.chance.below(400_000));
                self.edges[edge].answers.push((at, if is_lost { None } else { answer }));
            }
        }
    }

    /// An edge dies, and what its calls have cost comes into the ledger from its journal; only then the next life lets go what it had.
    fn kill(&mut self, edge: usize) {
        let running: Vec<CallSid> = self.edges[edge].running.keys().copied().collect();
        running.into_iter().for_each(|sid| self.end(edge, sid));
        let dead = self.edges.remove(edge);
        let last =
            self.lines.iter().filter(|line| line.edge == dead.number).map(|line| line.written.0).max().unwrap_or(0);
        while self.now.0 <= last {
            self.step(false);
        }
        self.book.held.retain(|(_, by), _| *by != dead.number);
        self.begin_edge();
    }

    fn run(&mut self, seconds: u64, loses: bool, mut each: impl FnMut(&mut Story)) {
        for _ in 0..seconds * 10 {
            each(self);
            self.step(loses);
        }
    }

    fn finish(&mut self) {
        let all: Vec<usize> = (0..self.edges.len()).collect();
        for edge in all {
            let running: Vec<CallSid> = self.edges[edge].running.keys().copied().collect();
            running.into_iter().for_each(|sid| self.end(edge, sid));
        }
        self.run(10, false, |_| {});
        assert!(self.edges.iter().all(|edge| edge.escrow.is_empty()), "something is set aside for nobody");
        assert_eq!(self.book.held.values().sum::<i64>(), 0, "the store thinks that something is set aside");
    }

    fn spent(&self) -> i64 {
        self.book.spent.values().sum()
    }
}

#[test]
fn whatever_happens_no_budget_is_used_for_more_than_it_is() {
    for seed in 0..40 {
        let budget = 10_000_000;
        let mut story = Story::new(seed, 3, NOON_MS);
        let rates = [rate(600_000, 60, 60), rate(300_000, 1, 1), rate(600_000, 30, 6)];
        story.run(600, true, |story| {
            let edge = story.chance.below(3) as usize;
            if story.is_lucky(3) {
                let rate = rates[story.chance.below(3) as usize];
                story.call(edge, terms(Measure::Price, budget, Recurring::AllTime, Some(rate)));
            }
            if story.is_lucky(1_000) {
                story.kill(edge);
            }
            assert!(story.spent() <= budget, "seed {seed}: {} of {budget}", story.spent());
        });
        assert!(story.ended_by_escrow > 0 && story.toned >= story.ended_by_escrow, "seed {seed}");
        story.finish();
        assert!(story.spent() <= budget, "seed {seed}: {} of {budget}", story.spent());
        // What is left buys no first minute, and hardly a second.
        assert!(story.spent() > budget - 40_000, "seed {seed}: {} of {budget} was left", budget - story.spent());
    }
}

#[test]
fn minutes_are_counted_as_they_begin() {
    for seed in 0..10 {
        let mut story = Story::new(seed, 2, NOON_MS);
        story.run(600, true, |story| {
            let edge = story.chance.below(2) as usize;
            if story.is_lucky(5) {
                story.call(edge, terms(Measure::Minutes, 40, Recurring::Daily, None));
            }
            assert!(story.spent() <= 40, "seed {seed}");
        });
        story.finish();
        assert_eq!(story.spent(), 40, "seed {seed}: all were used");
    }
}

#[test]
fn a_call_over_midnight_is_of_the_day_on_which_it_ends() {
    let budget = 3_000_000;
    for seed in 0..10 {
        let mut story = Story::new(seed, 2, NOON_MS + 12 * 3_600_000 - 200_000);
        let before = Fund::at(ACCOUNT, Measure::Price, Recurring::Daily, story.wall_ms());
        story.run(600, false, |story| {
            let edge = story.chance.below(2) as usize;
            // Those that run over midnight want all that they have cost anew: until they have it, nobody comes first.
            let into_the_day_ms = (story.wall_ms() + 1_000) % DAY_MS;
            if story.is_lucky(5) && into_the_day_ms > 3_000 {
                let rate = rate(600_000, 60, 60);
                story.call(edge, terms(Measure::Price, budget, Recurring::Daily, Some(rate)));
            }
            assert!(story.book.spent.values().all(|spent| *spent <= budget), "seed {seed}: {:?}", story.book.spent);
        });
        story.finish();
        let spent = &story.book.spent;
        assert!(spent.len() == 2 && spent.values().all(|spent| *spent <= budget), "seed {seed}: {spent:?}");
        let after = spent.iter().find(|(fund, _)| **fund != before).map(|(_, spent)| *spent);
        assert!(
            after.is_some_and(|after| after > budget - 600_000),
            "seed {seed}: the new day's budget is used: {after:?}"
        );
    }
}

#[test]
fn the_last_seconds_are_heard_of_and_nothing_is_begun_without_credit() {
    let mut escrow = Escrow::default();
    let mut book = Book::default();
    let (sid, second) = (CallSid::new(1), |s: u64| Mono(s * 1_000_000));
    // Two cents a second, of which there are 45.
    let terms = terms(Measure::Price, 45 * 20_000, Recurring::Monthly, Some(rate(1_200_000, 1, 1)));
    assert_eq!(escrow.open(vec![(sid, terms.clone())], second(100), NOON_MS), Opened::Waits);
    let claim = escrow.poll_claim(second(100), NOON_MS).unwrap();
    let answer = book.claim(0, &claim);
    escrow.handle_answer(Some(answer), second(100), NOON_MS);
    assert_eq!(escrow.poll_decision(), Some(Decision::Granted(sid)));
    escrow.begin(sid, second(100), NOON_MS);
    let mut heard = Vec::new();
    for tenth in 1_000..1_500 {
        let (now, wall_ms) = (Mono(tenth * 100_000), NOON_MS + tenth * 100);
        escrow.handle_timeout(now, wall_ms);
        if let Some(claim) = escrow.poll_claim(now, wall_ms) {
            let answer = book.claim(0, &claim);
            escrow.handle_answer(Some(answer), now, wall_ms);
        }
        heard.extend(std::iter::from_fn(|| escrow.poll_decision()).map(|decision| (tenth, decision)));
    }
    assert_eq!(heard, [(1_420, Decision::RunsOut(sid)), (1_440, Decision::End(sid))]);
    // Everything is set aside for that one: another is refused, at once while the store has just said so.
    let other = CallSid::new(2);
    assert_eq!(escrow.open(vec![(other, terms.clone())], second(150), NOON_MS), Opened::Waits);
    let claim = escrow.poll_claim(second(150), NOON_MS).unwrap();
    let answer = book.claim(0, &claim);
    escrow.handle_answer(Some(answer), second(150), NOON_MS);
    assert_eq!(escrow.poll_decision(), Some(Decision::Refused(other)));
    assert_eq!(escrow.open(vec![(CallSid::new(3), terms)], second(150), NOON_MS), Opened::Refused);
}

#[test]
fn a_store_that_does_not_answer_lets_nothing_begin_and_ends_what_it_did_not_cover() {
    let mut escrow = Escrow::default();
    let sid = CallSid::new(1);
    let terms = terms(Measure::Minutes, 10, Recurring::Monthly, None);
    assert_eq!(escrow.open(vec![(sid, terms.clone())], Mono(0), NOON_MS), Opened::Waits);
    for tenth in 0..21 {
        escrow.handle_timeout(Mono(tenth * 100_000), NOON_MS);
        if escrow.poll_claim(Mono(tenth * 100_000), NOON_MS).is_some() {
            escrow.handle_answer(None, Mono(tenth * 100_000), NOON_MS);
        }
    }
    assert_eq!(escrow.poll_decision(), Some(Decision::Refused(sid)));
    assert!(escrow.is_empty());
}

#[test]
fn a_larger_budget_counts_at_once_and_one_that_is_gone_limits_nothing() {
    let mut escrow = Escrow::default();
    let mut book = Book::default();
    let sid = CallSid::new(1);
    let with = |amount| terms(Measure::Minutes, amount, Recurring::Monthly, None);
    let ask = |escrow: &mut Escrow, book: &mut Book, now| {
        let claim = escrow.poll_claim(now, NOON_MS)?;
        let answer = book.claim(0, &claim);
        escrow.handle_answer(Some(answer), now, NOON_MS);
        Some(())
    };
    assert_eq!(escrow.open(vec![(sid, with(1))], Mono(0), NOON_MS), Opened::Waits);
    ask(&mut escrow, &mut book, Mono(0)).unwrap();
    escrow.begin(sid, Mono(0), NOON_MS);
    escrow.handle_timeout(Mono(51_000_000), NOON_MS);
    ask(&mut escrow, &mut book, Mono(51_000_000)).unwrap();
    escrow.change(|_| Some(with(2)), Mono(52_000_000), NOON_MS);
    ask(&mut escrow, &mut book, Mono(52_000_000)).unwrap();
    let decisions: Vec<Decision> = std::iter::from_fn(|| escrow.poll_decision()).collect();
    assert_eq!(decisions, [Decision::Granted(sid)]);
    escrow.handle_timeout(Mono(61_000_000), NOON_MS);
    assert_eq!(escrow.poll_decision(), None, "it is covered for two minutes");
    escrow.change(|_| None, Mono(62_000_000), NOON_MS);
    assert!(escrow.is_empty());
}

#[test]
fn calls_that_stand_or_fall_together_are_begun_together() {
    let mut escrow = Escrow::default();
    let mut book = Book::default();
    let (first, second) = (CallSid::new(1), CallSid::new(2));
    let terms = terms(Measure::Minutes, 1, Recurring::Monthly, None);
    let pair = vec![(first, terms.clone()), (second, terms)];
    assert_eq!(escrow.open(pair, Mono(0), NOON_MS), Opened::Waits);
    while let Some(claim) = escrow.poll_claim(Mono(0), NOON_MS) {
        let answer = book.claim(0, &claim);
        escrow.handle_answer(Some(answer), Mono(0), NOON_MS);
    }
    assert_eq!(escrow.poll_decision(), Some(Decision::Refused(first)));
    assert!(escrow.is_empty(), "the minute of the first is free again");
    assert_eq!(book.held.values().sum::<i64>(), 0);
}
