//! Slots of one process, and of several that share their limits in one store, with deaths and lost answers in between.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::*;
use crate::concurrency::LEASE_MS;
use crate::hot::{Answer as HotAnswer, Command, Memory};

const ACCOUNT: AccountSid = AccountSid::new(1);
const OTHER: AccountSid = AccountSid::new(2);
const SECOND: u64 = 1_000_000;

fn slot(number: u128) -> SlotId {
    (Resource::Calls, number)
}

fn want(account: AccountSid, limit: u32) -> Want {
    Want { scope: Scope::Account(Resource::Calls, account), limit }
}

fn request(number: u128, account: AccountSid, limit: u32) -> Request {
    Request {
        slots: vec![slot(number)],
        wants: vec![want(account, limit)],
        impede: Impede::Reject,
        priority: 0,
        account,
    }
}

fn held(slots: &Slots, account: AccountSid) -> u32 {
    let scope = Scope::Account(Resource::Calls, account);
    slots.held(Resource::Calls).find(|in_use| in_use.scope == scope).map_or(0, |in_use| in_use.held)
}

fn decisions(slots: &mut Slots) -> Vec<Decision> {
    std::iter::from_fn(|| slots.poll_decision()).collect()
}

#[test]
fn cc_07_what_is_taken_or_given_back_twice_counts_once() {
    let mut slots = Slots::alone();
    let now = Mono(0);
    assert_eq!(slots.acquire(request(1, ACCOUNT, 2), now), Acquired::Granted);
    assert_eq!(slots.acquire(request(1, ACCOUNT, 2), now), Acquired::Granted);
    assert_eq!(held(&slots, ACCOUNT), 1);
    slots.release(slot(1), now);
    slots.release(slot(1), now);
    slots.release(slot(9), now);
    assert_eq!(held(&slots, ACCOUNT), 0);
    assert_eq!(slots.acquire(request(2, ACCOUNT, 2), now), Acquired::Granted);
    assert_eq!(slots.acquire(request(3, ACCOUNT, 2), now), Acquired::Granted);
    assert!(matches!(slots.acquire(request(4, ACCOUNT, 2), now), Acquired::Refused(_)), "never more than the limit");
}

#[test]
fn cc_04_limits_of_two_accounts_have_nothing_to_do_with_each_other() {
    let mut slots = Slots::alone();
    assert_eq!(slots.acquire(request(1, ACCOUNT, 1), Mono(0)), Acquired::Granted);
    assert!(matches!(slots.acquire(request(2, ACCOUNT, 1), Mono(0)), Acquired::Refused(_)));
    assert_eq!(slots.acquire(request(3, OTHER, 1), Mono(0)), Acquired::Granted);
    let of_another_kind = Want { scope: Scope::Account(Resource::Streams, ACCOUNT), limit: 1 };
    let stream =
        Request { slots: vec![(Resource::Streams, 1)], wants: vec![of_another_kind], ..request(1, ACCOUNT, 1) };
    assert_eq!(slots.acquire(stream, Mono(0)), Acquired::Granted);
}

#[test]
fn cc_16_what_the_parent_refuses_leaves_nothing_taken_of_the_child() {
    let mut slots = Slots::alone();
    let parent = AccountSid::new(9);
    let of = |number, child| {
        let wants = vec![want(child, 8), want(parent, 10)];
        Request { wants, ..request(number, child, 8) }
    };
    for number in 0..8 {
        assert_eq!(slots.acquire(of(number, ACCOUNT), Mono(0)), Acquired::Granted);
    }
    assert_eq!(slots.acquire(of(8, OTHER), Mono(0)), Acquired::Granted);
    assert_eq!(slots.acquire(of(9, OTHER), Mono(0)), Acquired::Granted);
    let refused = slots.acquire(of(10, OTHER), Mono(0));
    assert_eq!(refused, Acquired::Refused(Scope::Account(Resource::Calls, parent)));
    assert_eq!((held(&slots, OTHER), held(&slots, parent)), (2, 10));
}

#[test]
fn cc_13_a_lower_limit_ends_nothing_and_a_higher_one_lets_the_next_in() {
    let mut slots = Slots::alone();
    let waits =
        |number, limit| Request { impede: Impede::Delay { wait_us: 9 * SECOND }, ..request(number, ACCOUNT, limit) };
    for number in 0..3 {
        assert_eq!(slots.acquire(request(number, ACCOUNT, 3), Mono(0)), Acquired::Granted);
    }
    assert_eq!(slots.acquire(waits(3, 3), Mono(0)), Acquired::Waits);
    slots.set_limits(|_| Some(2), Mono(0));
    slots.release(slot(0), Mono(0));
    assert_eq!((held(&slots, ACCOUNT), decisions(&mut slots)), (2, vec![]), "two of two");
    slots.set_limits(|_| Some(3), Mono(0));
    assert_eq!(decisions(&mut slots), [Decision::Granted(slot(3))]);
    assert!(matches!(slots.acquire(request(4, ACCOUNT, 0), Mono(0)), Acquired::Refused(_)), "zero is none");
}

#[test]
fn cc_14_who_waits_has_its_turn_in_order_and_for_no_longer_than_it_may() {
    let mut slots = Slots::alone();
    let waits =
        |number, account| Request { impede: Impede::Delay { wait_us: 5 * SECOND }, ..request(number, account, 1) };
    assert_eq!(slots.acquire(request(1, ACCOUNT, 1), Mono(0)), Acquired::Granted);
    for number in 2..5 {
        assert_eq!(slots.acquire(waits(number, ACCOUNT), Mono(number as u64)), Acquired::Waits);
    }
    assert!(slots.withdraw(slot(2)), "its caller has left");
    slots.release(slot(1), Mono(10));
    assert_eq!(decisions(&mut slots), [Decision::Granted(slot(3))]);
    assert_eq!(slots.next_deadline(), Some(Mono(5 * SECOND + 2)), "or sooner");
    slots.handle_timeout(Mono(5 * SECOND + 3));
    assert_eq!(decisions(&mut slots), [], "not yet");
    slots.handle_timeout(Mono(5 * SECOND + 4));
    assert_eq!(decisions(&mut slots), [Decision::Refused(slot(4), Scope::Account(Resource::Calls, ACCOUNT))]);
    assert_eq!(slots.next_deadline(), None);
}

#[test]
fn of_two_accounts_that_wait_for_one_trunk_each_has_every_second_turn() {
    let mut slots = Slots::alone();
    let trunk = Want { scope: Scope::Trunk(OTHER, "shared".into()), limit: 1 };
    let waits = |number, account| Request {
        wants: vec![trunk.clone()],
        impede: Impede::Delay { wait_us: 60 * SECOND },
        ..request(number, account, 1)
    };
    assert_eq!(slots.acquire(waits(0, ACCOUNT), Mono(0)), Acquired::Granted);
    for number in 1..=20 {
        assert_eq!(slots.acquire(waits(number, ACCOUNT), Mono(0)), Acquired::Waits);
    }
    assert_eq!(slots.acquire(waits(101, OTHER), Mono(0)), Acquired::Waits);
    assert_eq!(slots.acquire(waits(102, OTHER), Mono(0)), Acquired::Waits);
    let mut turns = Vec::new();
    for _ in 0..4 {
        slots.release(slot(turns.last().copied().unwrap_or(0)), Mono(1));
        let Decision::Granted((_, number)) = decisions(&mut slots)[0] else { panic!("somebody waits") };
        turns.push(number);
    }
    assert_eq!(turns, [1, 101, 2, 102]);
}

#[test]
fn a_call_of_more_priority_ends_the_newest_of_the_least() {
    let mut slots = Slots::alone();
    let of = |number, priority| Request { priority, impede: Impede::Preempt, ..request(number, ACCOUNT, 3) };
    for (number, priority) in [(1, 0), (2, 0), (3, 5)] {
        assert_eq!(slots.acquire(of(number, priority), Mono(number as u64)), Acquired::Granted);
    }
    assert!(matches!(slots.acquire(of(4, 0), Mono(4)), Acquired::Refused(_)), "nobody has less");
    assert_eq!(slots.acquire(of(5, 7), Mono(5)), Acquired::Waits);
    assert_eq!(slots.acquire(of(6, 7), Mono(5)), Acquired::Waits);
    assert_eq!(decisions(&mut slots), [Decision::End(slot(2)), Decision::End(slot(1))], "each another");
    assert_eq!(held(&slots, ACCOUNT), 3, "until it has ended");
    slots.release(slot(2), Mono(6));
    assert_eq!(decisions(&mut slots), [Decision::Granted(slot(5))]);
}

/// Edges that share limits in one store, each with the calls that it believes to have.
struct Cluster {
    memory: Memory,
    edges: Vec<Edge>,
    now_ms: u64,
    random: u64,
}

struct Edge {
    id: EdgeId,
    slots: Slots,
    running: HashSet<u128>,
    /// What it has asked: told to the store, or not yet.
    asked: Option<Claim>,
    stands_until_ms: u64,
    beats_at_ms: u64,
    /// By its own clock.
    lease_until_ms: u64,
    number: u16,
}

impl Cluster {
    fn new(edges: u16, seed: u64) -> Cluster {
        let mut cluster = Cluster { memory: Memory::default(), edges: Vec::new(), now_ms: 0, random: seed | 1 };
        for number in 0..edges {
            cluster.edges.push(Edge::new(number, 1));
        }
        cluster
    }

    /// xorshift: below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    fn now(&self) -> Mono {
        Mono(self.now_ms * 1000)
    }

    /// Calls of an account that run, wherever: what a limit is about.
    fn running(&self) -> usize {
        self.edges.iter().map(|edge| edge.running.len()).sum()
    }

    fn beat(&mut self, at: usize) {
        let edge = &mut self.edges[at];
        let command = Command::Beat {
            edge: edge.id.clone(),
            lease_ms: LEASE_MS,
            about: String::new(),
            slots: vec![edge.number],
            barrier_ms: LEASE_MS,
        };
        let HotAnswer::Alive(alive) = self.memory.handle(command, self.now_ms) else { panic!("no list of the living") };
        edge.beats_at_ms = self.now_ms + 1000;
        edge.lease_until_ms = self.now_ms + LEASE_MS - 200;
        if !alive.forgotten.is_empty() {
            edge.slots.tell_again();
        }
        if !alive.lost.is_empty() {
            // Another has its calls: it ends, and comes again as a new one without any.
            let number = edge.number + 100;
            *edge = Edge::new(number, edge.id.epoch + 1);
            return;
        }
        // What a dead edge has left is taken up: its calls go on here.
        let dead: Vec<(u16, EdgeId)> = alive.slots.iter().filter(|(_, owner)| !alive.lives(owner)).cloned().collect();
        for (slot, owner) in dead {
            let me = self.edges[at].id.clone();
            let adopt = Command::Adopt { edge: me, slot, from: owner.clone() };
            let HotAnswer::Adopted(Some(_)) = self.memory.handle(adopt, self.now_ms) else { continue };
            let theirs =
                self.edges.iter_mut().find(|edge| edge.id == owner).map(|edge| std::mem::take(&mut edge.running));
            let now = self.now();
            for call in theirs.unwrap_or_default() {
                self.edges[at].slots.take_anyway(&request(call, ACCOUNT, LIMIT), now);
                self.edges[at].running.insert(call);
            }
            self.edges[at].slots.settled(owner);
        }
    }

    /// One edge does what is due. Claims are heard late, and their answers may be lost.
    fn turn(&mut self, at: usize, loses: bool) {
        if self.edges[at].stands_until_ms > self.now_ms {
            return;
        }
        if self.edges[at].beats_at_ms <= self.now_ms {
            self.beat(at);
        }
        let (now, now_ms) = (self.now(), self.now_ms);
        let lost = loses && self.below(20) == 0;
        let edge = &mut self.edges[at];
        if now_ms >= edge.lease_until_ms {
            // It may be dead for the others: it does nothing until it knows.
            return;
        }
        if let Some(claim) = edge.asked.take() {
            let command = Command::Hold { edge: edge.id.clone(), claim };
            let HotAnswer::Held(answer) = self.memory.handle(command, now_ms) else { panic!("no answer to a claim") };
            edge.slots.handle_answer((!lost).then_some(answer), now);
        }
        edge.slots.handle_timeout(now);
        while let Some(decision) = edge.slots.poll_decision() {
            match decision {
                Decision::Granted((_, call)) => drop(edge.running.insert(call)),
                Decision::Refused(..) => {}
                Decision::End(_) => panic!("nobody preempts"),
            }
        }
        edge.asked = edge.slots.poll_claim(now);
    }
}

impl Edge {
    fn new(number: u16, epoch: u64) -> Edge {
        Edge {
            id: EdgeId { node: format!("{number:04}"), epoch },
            slots: Slots::shared(OnLoss::Closed),
            running: HashSet::new(),
            asked: None,
            stands_until_ms: 0,
            beats_at_ms: 0,
            lease_until_ms: 0,
            number,
        }
    }
}

const LIMIT: u32 = 50;

/// Four edges with more callers than there is room for: never one too many, and next to nothing is lost.
fn overload(seed: u64, seconds: u64, mut disturb: impl FnMut(&mut Cluster, u64)) -> (usize, f64) {
    let mut cluster = Cluster::new(4, seed);
    let (mut next_call, mut most, mut sum) = (1_u128, 0, 0);
    let mut ends = BTreeMap::<u64, Vec<u128>>::new();
    for now_ms in 0..seconds * 1000 {
        cluster.now_ms = now_ms;
        disturb(&mut cluster, now_ms);
        for at in 0..cluster.edges.len() {
            if now_ms % 3 == at as u64 % 3 {
                let now = cluster.now();
                let edge = &mut cluster.edges[at];
                if edge.stands_until_ms <= now_ms && now_ms < edge.lease_until_ms {
                    next_call += 1;
                    let acquired = edge.slots.acquire(request(next_call, ACCOUNT, LIMIT), now);
                    if acquired == Acquired::Granted {
                        edge.running.insert(next_call);
                    }
                    let lasts = 200 + cluster.below(800);
                    ends.entry(now_ms + lasts).or_default().push(next_call);
                }
            }
            cluster.turn(at, true);
        }
        // A call that has ended is given back by whoever has it, twice now and then.
        let (now, mut over) = (cluster.now(), ends.remove(&now_ms).unwrap_or_default());
        let mut later = Vec::new();
        over.retain(|call| {
            let owner = cluster.edges.iter_mut().find(|edge| edge.running.contains(call));
            let Some(edge) = owner else { return false };
            if edge.stands_until_ms > now_ms || now_ms >= edge.lease_until_ms {
                later.push(*call);
                return false;
            }
            edge.running.remove(call);
            edge.slots.release(slot(*call), now);
            edge.slots.release(slot(*call), now);
            true
        });
        ends.entry(now_ms + 1).or_default().extend(later);
        most = most.max(cluster.running());
        if now_ms >= (seconds - 5) * 1000 {
            sum += cluster.running();
        }
    }
    (most, sum as f64 / 5000.0)
}

#[test]
fn cc_03_four_edges_never_have_one_too_many_and_use_what_there_is() {
    let (most, mean) = overload(7, 12, |_, _| {});
    assert_eq!(most, LIMIT as usize);
    assert!(mean > 0.98 * f64::from(LIMIT), "in use at the end: {mean}");
}

#[test]
fn cc_09_and_10_an_edge_dies_and_another_stands_still_beyond_its_lease() {
    for seed in 1..20 {
        let (most, mean) = overload(seed, 16, |cluster, now_ms| {
            match now_ms {
                // Killed: nothing of it is ever heard again.
                4_000 => cluster.edges[0].stands_until_ms = u64::MAX,
                // Stopped for longer than it is believed.
                5_000 => cluster.edges[1].stands_until_ms = 9_500,
                _ => {}
            }
        });
        assert!(most <= LIMIT as usize, "{most} at once with seed {seed}");
        assert!(mean > 0.98 * f64::from(LIMIT), "in use at the end: {mean} with seed {seed}");
    }
}

#[test]
fn cc_11_a_store_that_was_emptied_admits_nobody_until_all_have_spoken() {
    for seed in 1..20 {
        let (most, mean) = overload(seed, 16, |cluster, now_ms| {
            if now_ms == 5_000 + seed * 37 {
                cluster.memory = Memory::default();
            }
        });
        assert!(most <= LIMIT as usize, "{most} at once with seed {seed}");
        assert!(mean > 0.98 * f64::from(LIMIT), "in use at the end: {mean} with seed {seed}");
    }
}

#[test]
fn cc_12_while_the_store_is_away_it_goes_by_what_the_operator_has_said() {
    let mut bounds = HashMap::new();
    for on_loss in [OnLoss::Share, OnLoss::Closed, OnLoss::Open] {
        let mut slots = Slots::shared(on_loss);
        slots.set_edges(4);
        let mut granted = 0;
        for number in 0..100 {
            match slots.acquire(request(number, ACCOUNT, LIMIT), Mono(0)) {
                Acquired::Granted => granted += 1,
                Acquired::Refused(_) => {}
                Acquired::Waits => {
                    assert!(slots.poll_claim(Mono(0)).is_some());
                    slots.handle_answer(None, Mono(0));
                    let granted_now = decisions(&mut slots).iter().any(|made| matches!(made, Decision::Granted(_)));
                    granted += u32::from(granted_now);
                }
            }
        }
        assert!(slots.is_lost());
        bounds.insert(format!("{on_loss:?}"), granted);
    }
    assert_eq!((bounds["Share"], bounds["Closed"], bounds["Open"]), (13, 0, 50));
}

#[test]
fn an_edge_asks_once_in_sixteen_where_the_limit_is_large_and_gives_all_back() {
    let mut memory = Memory::default();
    let id = EdgeId { node: "one".into(), epoch: 1 };
    let beat =
        |lease_ms| Command::Beat { edge: id.clone(), lease_ms, about: String::new(), slots: vec![], barrier_ms: 0 };
    memory.handle(beat(u64::MAX / 2), 0);
    let mut slots = Slots::shared(OnLoss::Closed);
    let mut asked = 0;
    let mut tell = |slots: &mut Slots| {
        while let Some(claim) = slots.poll_claim(Mono(1)) {
            asked += 1;
            let HotAnswer::Held(held) = memory.handle(Command::Hold { edge: id.clone(), claim }, 1) else { panic!() };
            slots.handle_answer(Some(held), Mono(1));
        }
        asked
    };
    for number in 0..1_600 {
        slots.acquire(request(number, ACCOUNT, 10_000), Mono(1));
        tell(&mut slots);
    }
    assert_eq!(held(&slots, ACCOUNT), 1_600);
    assert!(tell(&mut slots) <= 100, "questions: {}", tell(&mut slots));
    for number in 0..1_600 {
        slots.release(slot(number), Mono(1));
        tell(&mut slots);
    }
    let HotAnswer::Holders(left) =
        memory.handle(Command::Holders { scope: Scope::Account(Resource::Calls, ACCOUNT).to_string() }, 1)
    else {
        panic!()
    };
    assert_eq!(left, [], "cc_17: nothing is left of an account without calls");
    assert!(slots.is_empty());
    assert_eq!(slots.held(Resource::Calls).count(), 0);
}

/// By hand: `cargo nextest run --release --run-ignored only --no-capture what_a_place_costs`.
#[test]
#[ignore = "a figure: by hand, in its release form"]
fn what_a_place_costs() {
    let mut slots = Slots::alone();
    let accounts: Vec<AccountSid> = (1..1_001).map(AccountSid::new).collect();
    let wants = |account: AccountSid| {
        let trunk = Want { scope: Scope::Trunk(account, "carrier".into()), limit: 1_000 };
        vec![want(account, 1_000), trunk, Want { scope: Scope::Cluster, limit: 1_000_000 }]
    };
    let rounds = 1_000_000_u128;
    let requests: Vec<Request> = (0..rounds)
        .map(|number| {
            let account = accounts[(number % 1000) as usize];
            Request { wants: wants(account), ..request(number, account, 1_000) }
        })
        .collect();
    let began = std::time::Instant::now();
    for request in requests {
        assert_eq!(slots.acquire(request, Mono(0)), Acquired::Granted);
    }
    let acquired = began.elapsed();
    for number in 0..rounds {
        slots.release(slot(number), Mono(0));
    }
    let released = began.elapsed() - acquired;
    println!(
        "a place in three scopes: {} ns to take, {} ns to give back",
        acquired.as_nanos() / rounds,
        released.as_nanos() / rounds
    );
}

#[test]
fn an_account_whose_calls_wait_leaves_room_for_those_of_others() {
    let mut slots = Slots::alone();
    let wait = |number: u128, limit| Request {
        impede: Impede::Delay { wait_us: 60_000_000 },
        ..request(number, ACCOUNT, limit)
    };
    assert_eq!(slots.acquire(wait(0, 1), Mono(1)), Acquired::Granted);
    for number in 1..=MOST_DELAYED as u128 {
        assert_eq!(slots.acquire(wait(number, 1), Mono(1)), Acquired::Waits);
    }
    assert!(matches!(slots.acquire(wait(1_000, 1), Mono(1)), Acquired::Refused(_)));
    assert!(slots.withdraw((Resource::Calls, 1)));
    assert_eq!(slots.acquire(wait(1_000, 1), Mono(1)), Acquired::Waits);
}
