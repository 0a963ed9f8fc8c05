//! Memory and Redis are asked the same, with edges that die in between, and answer the same.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

const LEASE_MS: u64 = 3_600_000;

/// A store of nobody else: the tests of other processes have other numbers.
async fn redis() -> Redis {
    let server = std::env::var("DIALTONE_TEST_REDIS")
        .expect("DIALTONE_TEST_REDIS names no server: tests/run starts one, and so does tests/redis start FOLDER");
    Redis::open(&server).await.unwrap()
}

fn edge(number: u64) -> EdgeId {
    EdgeId { node: format!("node-{number}"), epoch: number }
}

fn beat(number: u64, slots: &[u16]) -> Command {
    Command::Beat {
        edge: edge(number),
        lease_ms: LEASE_MS,
        about: format!("edge {number}"),
        slots: slots.to_vec(),
        barrier_ms: 0,
    }
}

fn call(number: u64) -> CallSid {
    CallSid::new(u128::from(number))
}

fn write(number: u64, slot: u16, of: u64, events: &str, state: Option<&str>) -> Command {
    let state = state.map(|state| state.as_bytes().to_vec());
    Command::Write { edge: edge(number), slot, call: call(of), events: events.into(), state }
}

/// What each store answers to the same, in one story.
async fn story(hot: &Hot) {
    let ask = async |command: Command| hot.ask(command).await.unwrap();
    assert_eq!(ask(Command::TakeFree { edge: edge(1) }).await, Answer::Slot(Some(0)));
    assert_eq!(ask(Command::TakeFree { edge: edge(2) }).await, Answer::Slot(Some(1)), "each has its own");
    assert!(matches!(ask(beat(1, &[0])).await, Answer::Alive(_)));
    let Answer::Alive(alive) = ask(beat(2, &[1])).await else { panic!("no list of the living") };
    assert_eq!(alive.edges, [(edge(1), "edge 1".to_owned()), (edge(2), "edge 2".to_owned())]);
    assert_eq!(alive.slots, [(0, edge(1)), (1, edge(2))]);
    assert_eq!(alive.lost, Vec::<u16>::new());

    assert_eq!(ask(write(1, 0, 7, "a\n", Some("one"))).await, Answer::Written(Written::Done));
    assert_eq!(ask(write(1, 0, 7, "b\n", None)).await, Answer::Written(Written::Done));
    assert_eq!(ask(write(1, 0, 8, "c\n", Some("two"))).await, Answer::Written(Written::Done));
    assert_eq!(ask(write(2, 0, 7, "x\n", None)).await, Answer::Written(Written::Fenced), "the slot is another's");
    let adopt = Command::Adopt { edge: edge(2), slot: 0, from: edge(1) };
    assert_eq!(ask(adopt.clone()).await, Answer::Adopted(None), "its owner lives");

    assert_eq!(ask(Command::Leave { edge: edge(1) }).await, Answer::Done);
    let seven = KeptCall { call: call(7), events: b"a\nb\n".to_vec(), state: Some(b"one".to_vec()) };
    let eight = KeptCall { call: call(8), events: b"c\n".to_vec(), state: Some(b"two".to_vec()) };
    assert_eq!(ask(adopt.clone()).await, Answer::Adopted(Some(vec![seven, eight.clone()])));
    assert_eq!(ask(adopt).await, Answer::Adopted(None), "it was taken before");
    assert_eq!(ask(write(1, 0, 7, "late\n", None)).await, Answer::Written(Written::Fenced), "who was dead is fenced");
    let Answer::Alive(alive) = ask(beat(1, &[0])).await else { panic!("no list of the living") };
    assert_eq!(alive.lost, [0], "and is told so when it lives again");
    assert_eq!(ask(Command::Drop { edge: edge(2), slot: 0, call: call(7) }).await, Answer::Written(Written::Done));
    ask(Command::Leave { edge: edge(2) }).await;
    let again = Command::Adopt { edge: edge(3), slot: 0, from: edge(2) };
    assert_eq!(ask(again).await, Answer::Adopted(Some(vec![eight])), "what is over is not taken up");
    ask(Command::Free { edge: edge(3), slot: 0 }).await;
    assert_eq!(ask(Command::TakeFree { edge: edge(4) }).await, Answer::Slot(Some(0)), "what was given back is free");

    assert_eq!(ask(write(4, 3, 7, "x", None)).await, Answer::Written(Written::Forgotten), "nobody has it");
    let Answer::Alive(alive) = ask(beat(4, &[0, 3])).await else { panic!("no list of the living") };
    assert_eq!(alive.forgotten, [3], "until its owner says so again, whom the store does not know");
    ask(Command::Free { edge: edge(4), slot: 3 }).await;
    let Answer::Alive(alive) = ask(beat(4, &[0, 3])).await else { panic!("no list of the living") };
    assert_eq!(
        (alive.lost, alive.forgotten),
        (vec![3], vec![]),
        "what an edge had that it knows was taken, and given back"
    );

    let claim = |number, value: &str| Command::Claim { edge: edge(number), name: "room".into(), value: value.into() };
    let claimed = |number, value: &str| Answer::Claimed { edge: edge(number), value: value.to_owned() };
    ask(beat(5, &[])).await;
    ask(beat(6, &[])).await;
    assert_eq!(ask(claim(5, "mine")).await, claimed(5, "mine"));
    assert_eq!(ask(claim(6, "theirs")).await, claimed(5, "mine"), "the first has it");
    ask(Command::Unclaim { edge: edge(6), name: "room".into(), value: "mine".into() }).await;
    assert_eq!(ask(claim(6, "theirs")).await, claimed(5, "mine"), "only its owner gives it back");
    ask(Command::Leave { edge: edge(5) }).await;
    assert_eq!(ask(claim(6, "theirs")).await, claimed(6, "theirs"), "the dead have nothing");

    let hold = |number, have: &[(&str, u32)], raises: Vec<Raise>, settled: &[u64]| {
        let have = have.iter().map(|(scope, count)| ((*scope).to_owned(), *count)).collect();
        let settled = settled.iter().map(|of| edge(*of)).collect();
        Command::Hold { edge: edge(number), claim: Claim { have, raises, settled } }
    };
    let raise = |scopes: &[(usize, u32)], at_least, at_most| Raise { scopes: scopes.to_vec(), at_least, at_most };
    let done = |raised: &[Raised]| Answer::Held(Held::Done(raised.to_vec()));
    let holders =
        |of: &[(u64, u32)]| Answer::Holders(of.iter().map(|(number, count)| (edge(*number), *count)).collect());
    let ask_holders = async |scope: &str| ask(Command::Holders { scope: scope.into() }).await;
    ask(beat(5, &[])).await;
    ask(beat(7, &[2])).await;
    let two = [("account", 0), ("parent", 0)];
    let both = |count| raise(&[(0, 8), (1, 10)], count, count);
    assert_eq!(ask(hold(5, &two, vec![both(8)], &[])).await, done(&[Raised::By(8)]));
    let other = [("sister", 0), ("parent", 0)];
    let wants = vec![both(3), both(1), raise(&[(0, 8), (1, 10)], 1, 9)];
    let answer = done(&[Raised::Full(1), Raised::By(1), Raised::By(1)]);
    assert_eq!(ask(hold(7, &other, wants, &[])).await, answer, "cc_16: nothing is left of what the parent refuses");
    assert_eq!(ask_holders("sister").await, holders(&[(7, 2)]));
    assert_eq!(ask_holders("parent").await, holders(&[(5, 8), (7, 2)]));
    assert_eq!(ask(hold(5, &[("account", 8), ("parent", 8)], vec![both(1)], &[])).await, done(&[Raised::Full(0)]));
    assert_eq!(
        ask(hold(5, &[("account", 3), ("parent", 3)], vec![], &[])).await,
        done(&[]),
        "it says what it has left"
    );
    assert_eq!(ask_holders("parent").await, holders(&[(5, 3), (7, 2)]));
    assert_eq!(
        ask(hold(9, &two, vec![both(1)], &[])).await,
        Answer::Held(Held::Fenced),
        "it has never said that it lives"
    );
    // Seven dies with calls: what it held counts until somebody takes those up, and then as that one's.
    ask(Command::Leave { edge: edge(7) }).await;
    assert_eq!(ask(hold(5, &[("parent", 3)], vec![raise(&[(0, 10)], 6, 6)], &[])).await, done(&[Raised::Full(0)]));
    let adopt = Command::Adopt { edge: edge(5), slot: 2, from: edge(7) };
    assert!(matches!(ask(adopt).await, Answer::Adopted(Some(_))));
    assert_eq!(ask(hold(5, &[("parent", 3)], vec![raise(&[(0, 10)], 6, 6)], &[])).await, done(&[Raised::Full(0)]));
    assert_eq!(ask_holders("sister").await, holders(&[(5, 2)]));
    assert_eq!(ask(hold(5, &[("parent", 4), ("sister", 1)], vec![], &[7])).await, done(&[]), "one of two goes on");
    assert_eq!(ask_holders("parent").await, holders(&[(5, 4)]));
    assert_eq!(ask_holders("sister").await, holders(&[(5, 1)]));
    // Five dies without any: what it held is free.
    ask(Command::Free { edge: edge(5), slot: 2 }).await;
    ask(Command::Leave { edge: edge(5) }).await;
    ask(beat(8, &[])).await;
    assert_eq!(ask(hold(8, &[("parent", 0)], vec![raise(&[(0, 10)], 10, 10)], &[])).await, done(&[Raised::By(10)]));
    assert_eq!(ask(hold(8, &[("parent", 0)], vec![], &[])).await, done(&[]));
    assert_eq!(ask_holders("parent").await, holders(&[]));

    let swap = |seen, version, value: &str| {
        let (map, field) = ("swapped".into(), "jenny".into());
        Command::Swap { map, field, seen, version, value: value.into() }
    };
    let kept = |version, value: &str| Answer::Swapped(Some((version, value.as_bytes().to_vec())));
    assert_eq!(ask(swap(3, 4, "late")).await, kept(0, ""), "there is none to take the place of");
    assert_eq!(ask(swap(0, 1_795_734_000_001, "first one")).await, Answer::Swapped(None));
    assert_eq!(ask(swap(0, 5, "second")).await, kept(1_795_734_000_001, "first one"), "it was not seen");
    assert_eq!(ask(swap(1_795_734_000_001, 1_795_734_000_002, "third")).await, Answer::Swapped(None));
    let values = vec![("jenny".to_owned(), b"1795734000002 third".to_vec())];
    assert_eq!(ask(Command::All { map: "swapped".into() }).await, Answer::Values(values));
    assert_eq!(ask(swap(1_795_734_000_001, 9, "")).await, kept(1_795_734_000_002, "third"), "pr_07: too late");
    assert_eq!(ask(swap(1_795_734_000_002, 9, "")).await, Answer::Swapped(None));
    assert_eq!(ask(Command::All { map: "swapped".into() }).await, Answer::Values(vec![]));

    let put = |field: &str, value: &str| Command::Put { map: "m".into(), field: field.into(), value: value.into() };
    ask(put("b", "2")).await;
    ask(put("a", "1")).await;
    ask(put("a", "3")).await;
    let remove = |value: &str| Command::Remove { map: "m".into(), field: "b".into(), value: value.into() };
    ask(remove("1")).await;
    let both = vec![("a".into(), b"3".to_vec()), ("b".into(), b"2".to_vec())];
    assert_eq!(ask(Command::All { map: "m".into() }).await, Answer::Values(both), "there is another by now");
    ask(remove("2")).await;
    assert_eq!(ask(Command::All { map: "m".into() }).await, Answer::Values(vec![("a".into(), b"3".to_vec())]));
}

#[tokio::test]
async fn memory_tells_the_story() {
    story(&Hot::memory()).await;
}

/// A store that was emptied grants nothing until everybody has had the time to say what it holds.
async fn barrier(hot: &Hot) {
    let beat = |number| Command::Beat {
        edge: edge(number),
        lease_ms: LEASE_MS,
        about: String::new(),
        slots: Vec::new(),
        barrier_ms: 150,
    };
    let raise = |have| {
        let raises = vec![Raise { scopes: vec![(0, 3)], at_least: 1, at_most: 1 }];
        Claim { have: vec![("account".into(), have)], raises, settled: Vec::new() }
    };
    let ask = async |number, have| hot.ask(Command::Hold { edge: edge(number), claim: raise(have) }).await.unwrap();
    hot.ask(beat(1)).await.unwrap();
    hot.ask(beat(2)).await.unwrap();
    let Answer::Held(Held::Barrier { wait_ms }) = ask(1, 2).await else {
        panic!("granted before the other has spoken")
    };
    assert!((1..=150).contains(&wait_ms), "{wait_ms}");
    assert!(matches!(ask(2, 1).await, Answer::Held(Held::Barrier { .. })));
    tokio::time::sleep(std::time::Duration::from_millis(wait_ms + 1)).await;
    assert_eq!(ask(2, 1).await, Answer::Held(Held::Done(vec![Raised::Full(0)])), "cc_11: all that was said counts");
    assert_eq!(ask(1, 1).await, Answer::Held(Held::Done(vec![Raised::By(1)])));
}

#[tokio::test]
async fn cc_11_memory_waits_until_everybody_has_said_what_it_holds() {
    barrier(&Hot::memory()).await;
}

/// One test, for the store is one: each part begins with nothing in it.
#[tokio::test]
async fn redis_tells_the_story_and_answers_as_memory_does() {
    let redis = redis().await;
    redis.forget_everything().await;
    story(&Hot::Redis(redis.clone())).await;
    redis.forget_everything().await;
    barrier(&Hot::Redis(redis.clone())).await;

    let mut runner = TestRunner::deterministic();
    let commands = proptest::collection::vec(any_command(), 80);
    for _ in 0..60 {
        redis.forget_everything().await;
        let mut memory = Memory::default();
        for (number, command) in commands.new_tree(&mut runner).unwrap().current().into_iter().enumerate() {
            let expected = memory.handle(command.clone(), 1);
            let answer = redis.ask(command.clone()).await.unwrap();
            assert_eq!(answer, expected, "to {command:?}, the command number {number}");
        }
    }
}

/// Of few edges, slots, calls and names, so that they meet.
fn any_command() -> impl Strategy<Value = Command> {
    let edges = || (1..5u64).prop_map(edge);
    let slots = || 0..4u16;
    let calls = || (0..4u64).prop_map(call);
    let text = || "[a-c]{0,2}";
    prop_oneof![
        3 => (edges(), proptest::collection::vec(slots(), 0..3), text()).prop_map(|(edge, slots, about)| {
            Command::Beat { edge, lease_ms: LEASE_MS, about, slots, barrier_ms: 0 }
        }),
        // Dies.
        2 => edges().prop_map(|edge| Command::Leave { edge }),
        2 => edges().prop_map(|edge| Command::TakeFree { edge }),
        3 => (edges(), slots(), edges()).prop_map(|(edge, slot, from)| Command::Adopt { edge, slot, from }),
        1 => (edges(), slots()).prop_map(|(edge, slot)| Command::Free { edge, slot }),
        6 => (edges(), slots(), calls(), text(), proptest::option::of(text())).prop_map(
            |(edge, slot, call, events, state)| {
                Command::Write { edge, slot, call, events: events.into(), state: state.map(String::into_bytes) }
            }
        ),
        1 => (edges(), slots(), calls()).prop_map(|(edge, slot, call)| Command::Drop { edge, slot, call }),
        2 => (text(), text(), text()).prop_map(|(map, field, value)| Command::Put { map, field, value: value.into() }),
        1 => (text(), text(), text()).prop_map(|(map, field, value)| Command::Remove { map, field, value: value.into() }),
        1 => text().prop_map(|map| Command::All { map }),
        6 => (edges(), any_claim()).prop_map(|(edge, claim)| Command::Hold { edge, claim }),
        2 => "[a-c]".prop_map(|scope| Command::Holders { scope }),
        3 => (edges(), text(), text()).prop_map(|(edge, name, value)| Command::Claim { edge, name, value }),
        1 => (edges(), text(), text()).prop_map(|(edge, name, value)| Command::Unclaim { edge, name, value }),
    ]
}

/// Of three scopes, often with too little room.
fn any_claim() -> impl Strategy<Value = Claim> {
    let have =
        proptest::collection::btree_map("[a-c]", 0..4u32, 1..4).prop_map(|have| have.into_iter().collect::<Vec<_>>());
    have.prop_flat_map(|have| {
        let places = proptest::collection::btree_map(0..have.len(), 0..8u32, 1..=have.len());
        let raise = (places, 1..3u32, 0..3u32).prop_map(|(scopes, at_least, more)| Raise {
            scopes: scopes.into_iter().collect(),
            at_least,
            at_most: at_least + more,
        });
        let settled = proptest::collection::vec((1..5u64).prop_map(edge), 0..2);
        (Just(have), proptest::collection::vec(raise, 0..3), settled)
    })
    .prop_map(|(have, raises, settled)| Claim { have, raises, settled })
}
