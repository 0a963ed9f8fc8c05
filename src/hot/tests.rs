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
    Command::Beat { edge: edge(number), lease_ms: LEASE_MS, about: format!("edge {number}"), slots: slots.to_vec() }
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
    assert_eq!(alive.forgotten, [3], "until its owner says so again");

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

    let put = |field: &str, value: &str| Command::Put { map: "m".into(), field: field.into(), value: value.into() };
    ask(put("b", "2")).await;
    ask(put("a", "1")).await;
    ask(put("a", "3")).await;
    ask(Command::Remove { map: "m".into(), field: "b".into() }).await;
    assert_eq!(ask(Command::All { map: "m".into() }).await, Answer::Values(vec![("a".into(), b"3".to_vec())]));
}

#[tokio::test]
async fn memory_tells_the_story() {
    story(&Hot::memory()).await;
}

/// One test, for the store is one: each part begins with nothing in it.
#[tokio::test]
async fn redis_tells_the_story_and_answers_as_memory_does() {
    let redis = redis().await;
    redis.forget_everything().await;
    story(&Hot::Redis(redis.clone())).await;

    let mut runner = TestRunner::deterministic();
    let commands = proptest::collection::vec(any_command(), 60);
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
            Command::Beat { edge, lease_ms: LEASE_MS, about, slots }
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
        1 => (text(), text()).prop_map(|(map, field)| Command::Remove { map, field }),
        1 => text().prop_map(|map| Command::All { map }),
        3 => (edges(), text(), text()).prop_map(|(edge, name, value)| Command::Claim { edge, name, value }),
        1 => (edges(), text(), text()).prop_map(|(edge, name, value)| Command::Unclaim { edge, name, value }),
    ]
}
