//! Calls that the API orders wait for their turn: at the rates of account and trunk, and for room.

use std::time::Duration;

use dialtone::call::{Placing, Update};
use dialtone::events::{CallRecord, CallStatus, EndedBy, EventKind, OrderFact};
use dialtone::ids::{AccountSid, CallSid};
use dialtone::shard::{PlaceOrder, Placement};
use dialtone::twiml::parse::target;
use dialtone::twiml::{AtEnd, CallbackEvent, DocumentSource, Endpoint, Method, NewDocument, StatusCallback};

use crate::phone::{Saw, Script};
use crate::world::{ACCOUNT, Says, World};

const CARRIER: &str = "198.51.100.9:5060";
const OTHER: &str = "AC00000000000000000000000000000002";
/// An account that may make two calls a second, and its trunk that takes one.
const RATED: &str = r#"
[[account]]
sid = "AC00000000000000000000000000000002"
auth_token = "other"
limits = { cps = 2 }
[[trunk]]
account = "AC00000000000000000000000000000002"
name = "slow"
uri = "sip:198.51.100.9:5060"
numbers = ["+15557000000"]
prefixes = ["+1777"]
cps = 1
[[trunk]]
account = "AC00000000000000000000000000000002"
name = "fast"
uri = "sip:198.51.100.9:5060"
prefixes = ["+1"]
"#;

fn world(max_calls: usize, talks_s: u64) -> World {
    let length = format!("<Response><Pause length=\"{talks_s}\"/></Response>");
    let length: &'static str = Box::leak(length.into_boxed_str());
    let mut world = World::with_room(1, RATED, max_calls, move |_| Says::Twiml(length));
    world.add_phone(CARRIER, Script::AnswerAtOnce);
    world
}

fn order(number: u32, account: &str, to: &str) -> PlaceOrder {
    let document = DocumentSource::Url(Endpoint { url: "http://app/placed".into(), method: Method::Post });
    let told = Endpoint { url: "http://app/told".into(), method: Method::Post };
    let account: AccountSid = account.parse().unwrap();
    PlaceOrder {
        sid: CallSid::new(number.into()),
        account,
        from: if account.to_string() == OTHER { "+15557000000".into() } else { "+15551000000".into() },
        to: to.into(),
        target: target(to, None, None).expect("somebody"),
        forwards: false,
        notices: Vec::new(),
        document: NewDocument { source: document, fallback: None, at_end: AtEnd::HangUp },
        status_callback: Some(StatusCallback {
            endpoint: told,
            events: vec![CallbackEvent::Initiated, CallbackEvent::Completed],
        }),
        placing: Placing {
            record: None,
            ring_for: Duration::from_secs(20),
            time_limit: Duration::from_secs(3600),
            send_digits: None,
        },
    }
}

/// The records of calls that began, in the order in which they did.
fn begun(world: &World) -> Vec<CallRecord> {
    let mut records = world.records();
    records.sort_by_key(|record| record.started_ms);
    records
}

fn waiting(world: &World) -> Vec<&OrderFact> {
    let facts = world.events.iter().filter_map(|event| match &event.kind {
        EventKind::Order(fact) => Some(fact.as_ref()),
        _ => None,
    });
    facts.collect()
}

#[test]
fn mt_02_calls_leave_at_the_rate_of_their_account_in_their_order() {
    let mut world = world(1000, 1);
    let placed: Vec<Placement> = (0..7).map(|number| world.place(order(number, OTHER, "+15553334444"))).collect();
    let waits = (1..7).map(|ahead| Placement::Waits(ahead * 500));
    assert_eq!(placed, std::iter::once(Placement::Made).chain(waits).collect::<Vec<_>>());
    world.close_books();
    let records = begun(&world);
    let numbers: Vec<u128> = records.iter().map(|record| record.sid.bits()).collect();
    assert_eq!(numbers, (0..7).collect::<Vec<_>>());
    let first_ms = records[0].started_ms;
    for (number, record) in (0..).zip(&records) {
        let after_ms = record.started_ms - first_ms;
        assert!((number * 500..number * 500 + 20).contains(&after_ms), "{number}: {after_ms} ms");
        assert!(record.queue_ms.abs_diff(after_ms) < 20 && record.status == CallStatus::Completed);
    }
    // Each that waits is told twice: that it does, and that it does not any more.
    assert_eq!(waiting(&world).iter().filter(|fact| fact.waits()).count(), 6);
    assert_eq!(waiting(&world).iter().filter(|fact| !fact.waits()).count(), 6);
}

#[test]
fn trunk_has_a_rate_of_its_own_and_another_account_waits_for_neither() {
    let mut world = world(1000, 1);
    for number in 0..3 {
        world.place(order(number, OTHER, "+17770000000"));
    }
    assert_eq!(world.place(order(10, OTHER, "+15553334444")), Placement::Waits(1_500), "as the account's fourth");
    assert_eq!(world.place(order(20, ACCOUNT, "+15553334444")), Placement::Made);
    world.close_books();
    let at = |number: u128| begun(&world).iter().find(|record| record.sid.bits() == number).unwrap().queue_ms;
    assert!((1_000..1_020).contains(&at(1)) && (2_000..2_020).contains(&at(2)), "{} {}", at(1), at(2));
    // It goes by another trunk: the account's next turn is its.
    assert!((500..520).contains(&at(10)), "{}", at(10));
}

#[test]
fn mt_01_and_11_without_room_orders_wait_and_no_account_waits_for_the_crowd_of_another() {
    let mut world = world(20, 4);
    for number in 0..100 {
        world.place(order(number, ACCOUNT, "+15553334444"));
    }
    assert_eq!(world.core.calls().count(), 19, "the last place is for a call that comes in");
    world.call("+15552000000");
    world.run_for(Duration::from_millis(100));
    assert!(world.saw(0).contains(&Saw::Answered));
    world.hang_up(0);
    assert!(matches!(world.place(order(1_000, OTHER, "+15553334444")), Placement::Waits(_)));
    world.run_for(Duration::from_secs(60));
    world.close_books();
    let records = begun(&world);
    let place = records.iter().position(|record| record.sid.bits() == 1_000).unwrap();
    assert!(place <= 22, "it was number {place}");
    assert_eq!(records.iter().filter(|record| record.status == CallStatus::Completed).count(), 102);
}

#[test]
fn mt_05_order_is_taken_back_while_it_waits() {
    let mut world = world(1000, 1);
    for number in 0..4 {
        world.place(order(number, OTHER, "+15553334444"));
    }
    let (gone, hang_up) = (CallSid::new(2), Update { hang_up: true, only_unanswered: true, ..Update::default() });
    assert!(!world.update_of(ACCOUNT, CallSid::new(2), hang_up.clone()), "another's");
    assert!(!world.update_of(OTHER, gone, Update { time_limit: Some(Duration::from_secs(9)), ..Update::default() }));
    assert!(world.update_of(OTHER, gone, hang_up.clone()));
    assert!(!world.update_of(OTHER, gone, hang_up), "it is over");
    world.close_books();
    let records = world.records();
    let canceled = records.iter().find(|record| record.sid == gone).unwrap();
    assert_eq!(canceled.status, CallStatus::Canceled);
    assert_eq!(canceled.completed.as_ref().unwrap().ended_by, EndedBy::Application);
    let steps = world.events.iter().filter(|event| event.call == gone).filter_map(|event| event.kind.callback_step());
    assert_eq!(steps.collect::<Vec<_>>(), [CallbackEvent::Completed], "it was never begun");
    let last = begun(&world).into_iter().find(|record| record.sid.bits() == 3).unwrap();
    assert!((1_000..1_020).contains(&last.queue_ms), "the place of the other is free: {}", last.queue_ms);
}

#[test]
fn emergency_call_does_not_wait() {
    let mut world = world(20, 4);
    for number in 0..60 {
        world.place(order(number, OTHER, "+15553334444"));
    }
    let mut emergency = order(1_000, OTHER, "911");
    emergency.target = target("+1911", None, None).unwrap();
    assert_eq!(world.place(emergency), Placement::Made);
    assert!(matches!(world.place(order(1_001, OTHER, "+1911")), Placement::Waits(_)), "that is another number");
    world.run_for(Duration::from_secs(60));
    world.close_books();
}

#[test]
fn orders_that_waited_are_made_after_a_restart() {
    let mut before = world(1000, 1);
    for number in 0..5 {
        before.place(order(number, OTHER, "+15553334444"));
    }
    before.run_for(Duration::from_millis(700));
    // What the journal and the store know of them.
    let mut left = std::collections::BTreeMap::new();
    for event in &before.events {
        if let EventKind::Order(fact) = &event.kind {
            left.insert(event.call, fact.clone());
        }
    }
    left.retain(|_, fact| fact.waits());
    assert_eq!(left.len(), 3);
    let read = |fact: &OrderFact| (serde_json::from_str::<PlaceOrder>(&fact.order).unwrap(), fact.queued_ms);
    let mut after = world(1000, 1);
    after.resume(left.values().map(|fact| read(fact)).collect());
    after.close_books();
    let numbers: Vec<u128> = begun(&after).iter().map(|record| record.sid.bits()).collect();
    assert_eq!(numbers, [2, 3, 4]);
    assert_eq!(waiting(&after).iter().filter(|fact| !fact.waits()).count(), 3, "they are told to wait no more");
}

#[test]
fn order_that_waits_for_a_day_is_given_up() {
    let mut world = world(1000, 1);
    world.core.drain();
    world.place(order(0, ACCOUNT, "+15553334444"));
    world.run_for(Duration::from_secs(86_400 - 1));
    world.place(order(1, ACCOUNT, "+15553334444"));
    assert!(world.records().is_empty());
    world.run_for(Duration::from_secs(62));
    world.place(order(2, ACCOUNT, "+15553334444"));
    let ended: Vec<_> = world.records().iter().map(|record| (record.sid.bits(), record.status)).collect();
    assert_eq!(ended, [(0, CallStatus::Failed)]);
    assert_eq!(world.notices(), [22_005]);
}

#[test]
fn order_of_an_account_that_is_gone_is_not_dialled() {
    let mut world = world(1000, 1);
    for number in 0..3 {
        world.place(order(number, OTHER, "+15553334444"));
    }
    world.set_directory(dialtone::account::Directory::default());
    world.run_for(Duration::from_secs(3));
    let failed = world.records().iter().filter(|record| record.status == CallStatus::Failed).count();
    assert_eq!((failed, world.notices()), (2, vec![10_001, 10_001]));
    world.close_books();
}
