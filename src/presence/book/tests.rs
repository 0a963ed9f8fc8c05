//! Edges that share a store, with answers that come late, edges that die, and devices that come and go: what is told at the end is
//! how it is, and no transition is told twice.

use std::collections::BTreeMap;

use dialtone_sip::tokens::Tokens;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;
use crate::hot::{Answer, Command, Memory, versioned};
use crate::ids::AccountSid;
use crate::presence::{Device, DeviceKind, InCall};

const MAP: &str = "presence";
const HOUR_MS: u64 = 3_600_000;
/// Until a letter arrives, or a link that lost some is there again.
const LATEST_MS: u64 = 2_000;
const START_MS: u64 = 1_795_734_000_000;

fn client(name: &str) -> ClientId {
    ClientId { account: AccountSid::new(1), identity: name.into() }
}

fn edge(number: u64, epoch: u64) -> EdgeId {
    EdgeId { node: format!("node-{number}"), epoch }
}

fn device(name: &str, expires_ms: u64) -> Device {
    Device {
        sid: name.into(),
        kind: DeviceKind::Token,
        user_agent: String::new(),
        contact: String::new(),
        since_ms: START_MS,
        expires_ms,
        is_closed: false,
        call_waiting: true,
    }
}

fn part(devices: &[&str], expires_ms: u64) -> Part {
    Part { devices: devices.iter().map(|name| device(name, expires_ms)).collect(), ..Part::default() }
}

/// What was said of each client, as the database keeps it.
#[derive(Default)]
struct Said(BTreeMap<ClientId, (bool, u64)>, Vec<(String, bool, u64)>);

impl Said {
    fn take(&mut self, transition: Transition) {
        let Transition { client, is_available, version, .. } = transition;
        let said = self.0.entry(client.clone()).or_insert((false, 0));
        if said.1 < version && said.0 != is_available {
            self.1.push((client.identity.to_string(), is_available, version));
            said.0 = is_available;
        }
        said.1 = said.1.max(version);
    }
}

/// News that are under way: to whom, and since when. `None`: they were lost, and all is read when the link is there again.
type Letter = (usize, Option<(ClientId, Record)>, u64);

/// Books of edges on one store.
struct World {
    memory: Memory,
    books: Vec<Book>,
    letters: Vec<Letter>,
    said: Said,
    now_ms: u64,
}

impl World {
    fn new(edges: u64) -> World {
        let books = (0..edges).map(|number| Book::new(edge(number, 1))).collect();
        World { memory: Memory::default(), books, letters: Vec::new(), said: Said::default(), now_ms: START_MS }
    }

    /// One edge does what it has to do.
    fn work(&mut self, number: usize) {
        self.books[number].handle_timeout(self.now_ms);
        while let Some(swap) = self.books[number].poll_swap(self.now_ms) {
            let outcome = swap_in(&mut self.memory, &swap);
            self.books[number].handle_swapped(swap, Some(outcome), self.now_ms);
        }
        while let Some((client, record)) = self.books[number].poll_news() {
            let others = (0..self.books.len()).filter(|other| *other != number);
            self.letters.extend(others.map(|other| (other, Some((client.clone(), record.clone())), self.now_ms)));
        }
        while let Some(transition) = self.books[number].poll_transition(self.now_ms) {
            self.said.take(transition);
        }
    }

    fn deliver(&mut self, at: usize) {
        if !self.letters.is_empty() {
            match self.letters.remove(at % self.letters.len()) {
                (to, Some((client, record)), _) => self.books[to].handle_record(client, record),
                (to, None, _) => read_all(self, to),
            }
        }
    }

    /// Everything comes to rest.
    fn settle(&mut self) {
        for _ in 0..40 {
            while !self.letters.is_empty() {
                self.deliver(0);
            }
            (0..self.books.len()).for_each(|number| self.work(number));
            self.now_ms += 500;
        }
    }
}

fn swap_in(memory: &mut Memory, swap: &Swap) -> Result<(), Record> {
    let value = serde_json::to_vec(&swap.record).unwrap();
    let (map, field) = (MAP.to_owned(), swap.client.to_string());
    let command = Command::Swap { map, field, seen: swap.seen, version: swap.record.version, value };
    match memory.handle(command, 0) {
        Answer::Swapped(None) => Ok(()),
        Answer::Swapped(Some((version, value))) => {
            Err(Record { version, ..serde_json::from_slice(&value).unwrap_or_default() })
        }
        other => panic!("{other:?}"),
    }
}

fn said(world: &World) -> Vec<(&str, bool)> {
    world.said.1.iter().map(|(name, is, _)| (name.as_str(), *is)).collect()
}

#[test]
fn pr_03_two_devices_are_one_client_that_comes_and_goes_once() {
    let (mut world, jenny) = (World::new(2), client("jenny"));
    let until = START_MS + HOUR_MS;
    let mut step = |number: usize, devices: &[&str], gently: bool, wanted: &[bool], wait_ms: u64| {
        world.books[number].handle_own(&jenny, part(devices, until), gently);
        world.work(number);
        while !world.letters.is_empty() {
            world.deliver(0);
        }
        world.now_ms += wait_ms;
        (0..2).for_each(|number| world.work(number));
        assert_eq!(said(&world).iter().map(|(_, is)| *is).collect::<Vec<_>>(), wanted, "{number} {devices:?}");
    };
    step(0, &["a"], false, &[true], 2_000);
    step(1, &["b"], false, &[true], 2_000);
    step(0, &[], false, &[true], 2_000);
    step(1, &[], false, &[true, false], 2_000);
    // pr_06: a connection that breaks and comes back within the time, here or elsewhere, is no change.
    step(0, &["a"], false, &[true, false, true], 2_000);
    step(0, &[], true, &[true, false, true], 1_000);
    step(1, &["a"], false, &[true, false, true], 4_000);
    step(1, &[], true, &[true, false, true, false], GRACE_MS + 1);
}

#[test]
fn pr_05_device_is_gone_when_it_expires_and_not_before() {
    let (mut world, jenny) = (World::new(2), client("jenny"));
    world.books[0].handle_own(&jenny, part(&["a"], START_MS + 60_000), false);
    world.work(0);
    world.deliver(0);
    assert_eq!(world.books[0].next_deadline(), Some(START_MS + 60_000));
    world.now_ms = START_MS + 59_999;
    (0..2).for_each(|number| world.work(number));
    assert_eq!(said(&world), [("jenny", true)]);
    world.now_ms += 1;
    (0..2).for_each(|number| world.work(number));
    assert_eq!(said(&world), [("jenny", true), ("jenny", false)]);
}

#[test]
fn pr_14_a_device_that_flutters_is_told_once_a_second_and_as_it_is_at_last() {
    let (mut world, jenny) = (World::new(1), client("jenny"));
    for turn in 0..1_000_u64 {
        let devices: &[&str] = if turn.is_multiple_of(2) { &["a"] } else { &[] };
        world.books[0].handle_own(&jenny, part(devices, START_MS + HOUR_MS), false);
        world.work(0);
        world.now_ms += 10;
    }
    world.settle();
    assert!(said(&world).len() <= 12, "{:?}", said(&world));
    assert_eq!(said(&world).last(), Some(&("jenny", false)));
}

#[test]
fn pr_07_what_a_dead_edge_had_is_gone_and_what_came_elsewhere_first_never_flaps() {
    let mut world = World::new(3);
    let names: Vec<String> = (0..1_000).map(|number| format!("client-{number}")).collect();
    for name in &names {
        world.books[0].handle_own(&client(name), part(&["a"], START_MS + HOUR_MS), false);
    }
    world.settle();
    assert_eq!(world.said.1.len(), 1_000);
    // A half of them comes to another edge before anybody knows that the first is dead.
    let late = edge(0, 1);
    for name in &names[..500] {
        world.books[1].handle_own(&client(name), part(&["a"], START_MS + HOUR_MS), false);
    }
    let mut dead = world.books[0].clone();
    for number in [1, 2] {
        let now_ms = world.now_ms;
        world.books[number].handle_gone(&late, now_ms);
    }
    world.books[0] = Book::new(edge(7, 1));
    world.settle();
    let told: Vec<&(String, bool, u64)> = world.said.1[1_000..].iter().collect();
    assert_eq!(told.len(), 500);
    assert!(told.iter().all(|(name, is, _)| !is && names[500..].contains(name)));
    // What the dead one still wanted to say comes too late.
    for name in &names[..500] {
        dead.handle_own(&client(name), Part::default(), false);
    }
    while let Some(swap) = dead.poll_swap(world.now_ms) {
        let current = swap_in(&mut world.memory, &swap).expect_err("it was seen long ago");
        dead.handle_swapped(swap, Some(Err(current)), world.now_ms);
    }
    read_all(&mut world, 2);
    let is_there = |name: &String| world.books[2].record(&client(name)).is_some_and(|it| it.is_available(world.now_ms));
    assert!(names[..500].iter().all(is_there));
}

#[test]
fn pr_07_pr_09_who_is_in_a_call_of_a_dead_edge_is_not_said_to_take_calls_before_it_goes_on() {
    let (mut world, jenny) = (World::new(2), client("jenny"));
    let mut part = part(&["a"], START_MS + HOUR_MS);
    part.devices[0].call_waiting = false;
    part.devices[0].contact = "sip:jenny@192.0.2.1".into();
    world.books[0].handle_own(&jenny, part.clone(), false);
    world.settle();
    let call = InCall {
        id: "call".into(),
        is_initiator: true,
        is_answered: true,
        remote: "+15550000002".into(),
        contact: part.devices[0].contact.clone(),
    };
    let calling = Part { calls: vec![call], ..part.clone() };
    world.books[0].handle_own(&jenny, calling.clone(), false);
    world.settle();
    let now_ms = world.now_ms;
    world.books[1].handle_gone(&edge(0, 1), now_ms);
    world.books[0] = Book::new(edge(7, 1));
    // Its device is taken over, then its call; what is between them everybody may see, and nobody is told.
    for own in [part.clone(), calling] {
        world.books[1].handle_own(&jenny, own, true);
        world.work(1);
    }
    world.settle();
    assert_eq!(said(&world), [("jenny", true), ("jenny", false)]);
    world.books[1].handle_own(&jenny, part, false);
    world.settle();
    assert_eq!(said(&world), [("jenny", true), ("jenny", false), ("jenny", true)]);
}

#[test]
fn what_is_heard_late_of_a_dead_edge_is_taken_away_also_where_the_store_has_forgotten_it() {
    let (mut world, jenny) = (World::new(2), client("jenny"));
    world.books[0].handle_own(&jenny, part(&["a"], START_MS + HOUR_MS), false);
    world.work(0);
    world.memory = Memory::default();
    let now_ms = world.now_ms;
    world.books[1].handle_gone(&edge(0, 1), now_ms);
    world.books[0] = Book::new(edge(7, 1));
    world.settle();
    assert!(world.books[1].record(&jenny).is_some_and(|record| record.parts.is_empty()), "{:?}", world.books[1]);
    assert_eq!(said(&world), [("jenny", true), ("jenny", false)]);
}

/// Edges that come and go, and clients that do.
struct Story {
    world: World,
    clients: Vec<ClientId>,
    /// The devices of each client at each edge, as they are.
    own: Vec<Vec<&'static [&'static str]>>,
    epoch: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// One of the letters that are under way arrives.
    Deliver(usize),
    Lose,
    /// An edge dies, with all that it had, and another life of it is there at once.
    Kill,
    /// The store forgets everything, and each edge hears of it before another dies.
    Forget,
    /// A client has so many devices at an edge.
    Has {
        client: usize,
        devices: usize,
        gently: bool,
    },
}

impl Story {
    fn new(edges: u64, clients: usize) -> Story {
        Story {
            world: World::new(edges),
            clients: (0..clients).map(|number| client(&format!("client-{number}"))).collect(),
            own: vec![vec![&[]; clients]; edges as usize],
            epoch: 1,
        }
    }

    /// It happens at that edge, and then so much time passes.
    fn step(&mut self, number: usize, step: Step, wait_ms: u64) {
        let world = &mut self.world;
        match step {
            Step::Deliver(at) => world.deliver(at),
            Step::Lose if world.letters.is_empty() => {}
            Step::Lose => world.letters[0].1 = None,
            Step::Kill => {
                self.epoch += 1;
                let old = world.books[number].me.clone();
                world.books[number] = Book::new(edge(number as u64, self.epoch));
                self.own[number].fill(&[]);
                let now_ms = world.now_ms;
                for (other, book) in world.books.iter_mut().enumerate() {
                    if other != number {
                        book.handle_gone(&old, now_ms);
                    }
                }
                world.letters.retain(|(to, _, _)| *to != number);
                read_all(world, number);
                let alive: Vec<EdgeId> = world.books.iter().map(|book| book.me.clone()).collect();
                world.books[number].handle_alive(&alive, now_ms);
                let present = world.said.0.iter().filter(|(_, said)| said.0).map(|(client, _)| client.clone());
                world.books[number].handle_earlier(present.collect::<Vec<_>>(), now_ms);
            }
            Step::Forget => {
                world.memory = Memory::default();
                // It is away for longer than any version is ahead of the clock.
                world.now_ms += 1_000;
                world.books.iter_mut().for_each(Book::handle_forgotten);
                (0..world.books.len()).for_each(|number| world.work(number));
            }
            Step::Has { client, devices, gently } => {
                const NAMES: &[&str] = &["a", "b"];
                let names = &NAMES[..devices];
                // For longer than any story lasts.
                world.books[number].handle_own(&self.clients[client], part(names, START_MS * 2), gently);
                self.own[number][client] = names;
            }
        }
        world.work(number);
        world.now_ms += wait_ms;
        while let Some(late) = world.letters.iter().position(|(.., sent_ms)| sent_ms + LATEST_MS <= world.now_ms) {
            world.deliver(late);
        }
    }

    /// Everything comes to rest: what was said last is how it is, every edge knows it, and true and false were said in turns.
    fn check(&mut self) -> Result<(), TestCaseError> {
        self.world.settle();
        // One that comes now learns it all.
        self.world.books.push(Book::new(edge(99, 1)));
        read_all(&mut self.world, self.own.len());
        let mut turns = BTreeMap::<&str, bool>::new();
        for (name, is, _) in &self.world.said.1 {
            let before = turns.insert(name, *is).unwrap_or(false);
            prop_assert_ne!(before, *is, "{} was said to be so twice", name);
        }
        for (which, client) in self.clients.iter().enumerate() {
            let is = self.own.iter().any(|own| !own[which].is_empty());
            prop_assert_eq!(self.world.said.0.get(client).is_some_and(|said| said.0), is, "{}", client);
            for book in &self.world.books {
                let known = book.record(client).is_some_and(|record| record.is_available(self.world.now_ms));
                prop_assert_eq!(known, is, "an edge knows otherwise of {}", client);
            }
        }
        self.world.books.pop();
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever comes in whatever order, with letters that are late or lost, and an edge that dies and is back.
    #[test]
    fn what_is_said_at_last_is_how_it_is(
        steps in prop::collection::vec((0..3_usize, 0..2_usize, 0..3_usize, any::<bool>(), 0..1_500_u64, 0..8_u8), 1..60),
    ) {
        let mut story = Story::new(3, 2);
        for (number, client, devices, gently, wait_ms, what) in steps {
            let step = match what {
                0 => Step::Deliver(devices),
                1 => Step::Lose,
                2 => Step::Kill,
                3 => Step::Forget,
                _ => Step::Has { client, devices, gently },
            };
            story.step(number, step, wait_ms);
        }
        story.check()?;
    }
}

/// So many transitions of 200 clients at five edges, one of which dies in every few thousand steps.
fn storm(transitions: usize) {
    let mut chance = Tokens::new([7; 32]);
    let mut story = Story::new(5, 200);
    let (mut steps, mut kills) = (0_u64, 0_u64);
    while story.world.said.1.len() < transitions {
        let number = chance.below(5) as usize;
        let step = match chance.below(4_000) {
            0 => Step::Kill,
            1..40 => Step::Lose,
            40..2_000 => Step::Deliver(chance.below(8) as usize),
            _ => {
                let (client, devices) = (chance.below(200) as usize, chance.below(3).saturating_sub(1) as usize);
                Step::Has { client, devices, gently: chance.below(2) == 0 }
            }
        };
        kills += u64::from(matches!(step, Step::Kill));
        story.step(number, step, chance.below(30));
        steps += 1;
        // Some arrive late, and none for ever.
        while story.world.letters.len() > 50 {
            story.world.deliver(chance.below(8) as usize);
        }
        if steps.is_multiple_of(20_000) {
            story.check().unwrap();
        }
    }
    story.check().unwrap();
    println!(
        "{} transitions in {steps} steps, {kills} times an edge died: none contradictory",
        story.world.said.1.len()
    );
}

#[test]
fn transitions_of_many_clients_contradict_nothing_while_edges_die() {
    storm(5_000);
}

/// By hand: `cargo test --release --lib a_million -- --ignored`.
#[test]
#[ignore = "takes minutes: by hand, in its release form"]
fn a_million_transitions_contradict_nothing_while_edges_die() {
    storm(1_000_000);
}

fn read_all(world: &mut World, number: usize) {
    let Answer::Values(values) = world.memory.handle(Command::All { map: MAP.to_owned() }, 0) else {
        panic!("no values")
    };
    for (field, value) in values {
        let (version, value) = versioned(&value);
        let record = Record { version, ..serde_json::from_slice(value).unwrap_or_default() };
        world.books[number].handle_record(ClientId::parse(&field).unwrap(), record);
    }
}
