//! What the API orders: calls that it makes, and changes to running ones, in every state that a call can be in.

use std::time::Duration;

use dialtone::call::{Placing, Update};
use dialtone::events::{CallStatus, Direction, EndedBy};
use dialtone::ids::CallSid;
use dialtone::shard::PlaceOrder;
use dialtone::twiml::parse::target;
use dialtone::twiml::{AtEnd, CallbackEvent, DocumentSource, Endpoint, Method, NewDocument, StatusCallback};

use crate::phone::{Saw, Script};
use crate::world::{ACCOUNT, Says, World};

const CARRIER: &str = "198.51.100.9:5060";
const SID: CallSid = CallSid::new(7);

fn world(carrier: Script) -> (World, usize) {
    seeded(1, carrier)
}

fn seeded(seed: u64, carrier: Script) -> (World, usize) {
    let mut world = World::new(seed, |asked| match asked.url.as_str() {
        "http://app/placed" => Says::Twiml("<Response><Pause length=\"5\"/></Response>"),
        "http://app/other" => Says::Twiml("<Response><Echo/></Response>"),
        "http://app/voice" => Says::Twiml("<Response><Dial action=\"/after\">+15553334444</Dial></Response>"),
        _ => Says::Twiml("<Response><Pause length=\"60\"/></Response>"),
    });
    let carrier = world.add_phone(CARRIER, carrier);
    (world, carrier)
}

fn document(url: &str) -> NewDocument {
    let source = DocumentSource::Url(Endpoint { url: url.into(), method: Method::Post });
    NewDocument { source, fallback: None, at_end: AtEnd::HangUp }
}

fn order(to: &str) -> PlaceOrder {
    PlaceOrder {
        sid: SID,
        account: ACCOUNT.parse().unwrap(),
        from: "+15551000000".into(),
        to: to.into(),
        target: target(to, None, None).expect("somebody"),
        forwards: false,
        notices: Vec::new(),
        document: document("http://app/placed"),
        status_callback: None,
        placing: Placing {
            record: None,
            ring_for: Duration::from_secs(20),
            time_limit: Duration::from_secs(3600),
            send_digits: Some("12".into()),
        },
    }
}

#[test]
fn a_number_of_somebody_else_is_shown_where_its_call_is_forwarded_and_else_not() {
    for forwards in [false, true] {
        let (mut world, _) = world(Script::Answer(Duration::from_secs(1)));
        let from = "+15559990000".to_owned();
        world.place(PlaceOrder { from, forwards, ..order("+15552223333") });
        world.run_for(Duration::from_secs(3));
        assert_eq!(world.asked_urls().contains(&"http://app/placed"), forwards);
        world.update(SID, hang_up());
        world.close_books();
    }
}

fn hang_up() -> Update {
    Update { hang_up: true, ..Update::default() }
}

#[test]
fn whoever_is_told_may_be_changed_while_the_call_runs() {
    let (mut world, _) = world(Script::Answer(Duration::from_secs(1)));
    world.place(order("+15552223333"));
    world.run_for(Duration::from_secs(3));
    let endpoint = Endpoint { url: "http://app/instead".into(), method: Method::Post };
    let callback = StatusCallback { endpoint, events: vec![CallbackEvent::Completed] };
    assert!(world.update(SID, Update { status_callback: Some(callback.clone()), ..Update::default() }));
    world.run_for(Duration::from_secs(1));
    world.update(SID, hang_up());
    world.close_books();
    assert_eq!(world.records()[0].status_callback, Some(callback));
}

#[test]
fn placed_call_asks_for_its_document_when_it_is_answered() {
    let (mut world, carrier) = world(Script::Answer(Duration::from_secs(3)));
    world.place(order("+15553334444"));
    world.run_for(Duration::from_secs(2));
    assert!(matches!(&world.saw(carrier)[0], Saw::Invited { from, .. } if from.starts_with("sip:+15551000000@")));
    assert!(world.asked.is_empty(), "it rings");
    world.run_for(Duration::from_secs(2));
    let asked = &world.asked[0];
    assert_eq!(
        (asked.url.as_str(), asked.get("CallStatus"), asked.get("Direction")),
        ("http://app/placed", "in-progress", "outbound-api")
    );
    // The digits took their time before it: two of them, 100 ms and a pause each.
    world.close_books();
    let record = &world.records()[0];
    assert_eq!((record.sid, record.direction, record.status), (SID, Direction::OutboundApi, CallStatus::Completed));
    assert!((5..8).contains(&record.duration_s()), "{} s", record.duration_s());
}

#[test]
fn placed_call_that_nobody_answers_is_taken_back_after_its_time() {
    let (mut world, carrier) = world(Script::Answer(Duration::from_secs(60)));
    world.place(order("+15553334444"));
    world.run_for(Duration::from_secs(19));
    assert!(!world.saw(carrier).iter().any(|saw| matches!(saw, Saw::Canceled { .. })));
    world.run_for(Duration::from_secs(2));
    assert!(world.saw(carrier).iter().any(|saw| matches!(saw, Saw::Canceled { .. })));
    world.close_books();
    assert_eq!(world.records()[0].status, CallStatus::NoAnswer);
    assert!(world.asked.is_empty());
}

#[test]
fn placed_call_ends_at_its_time_limit_and_a_later_limit_counts() {
    let (mut world, _) = world(Script::Answer(Duration::from_secs(1)));
    let mut order = order("+15553334444");
    order.document = document("http://app/long");
    order.placing.time_limit = Duration::from_secs(30);
    world.place(order);
    world.run_for(Duration::from_secs(10));
    assert!(world.update(SID, Update { time_limit: Some(Duration::from_secs(15)), ..Update::default() }));
    world.close_books();
    assert!((15..17).contains(&world.records()[0].duration_s()), "{} s", world.records()[0].duration_s());
}

#[test]
fn call_that_cannot_be_placed_has_its_record_and_its_reason() {
    let (mut world, _) = world(Script::Answer(Duration::from_secs(1)));
    world.place(order("client:nobody"));
    world.close_books();
    assert_eq!((world.records()[0].status, world.records()[0].direction), (CallStatus::Failed, Direction::OutboundApi));
    assert_eq!(world.notices().len(), 1);
}

#[test]
fn changes_are_taken_in_every_state_but_the_last() {
    for (at_ms, unanswered_only, expected) in
        [(500, false, CallStatus::Canceled), (500, true, CallStatus::Canceled), (4_000, false, CallStatus::Completed)]
    {
        let (mut world, _) = world(Script::Answer(Duration::from_secs(3)));
        world.place(order("+15553334444"));
        world.run_for(Duration::from_millis(at_ms));
        assert!(world.update(SID, Update { only_unanswered: unanswered_only, ..hang_up() }), "{at_ms} ms");
        world.close_books();
        let record = &world.records()[0];
        let ended_by = record.completed.as_ref().unwrap().ended_by;
        assert_eq!((record.status, ended_by), (expected, EndedBy::Application), "{at_ms} ms");
        assert!(!world.update(SID, hang_up()), "it is over");
    }
}

#[test]
fn answered_call_cannot_be_canceled_and_another_account_cannot_touch_it() {
    let (mut world, _) = world(Script::Answer(Duration::from_secs(1)));
    world.place(order("+15553334444"));
    world.run_for(Duration::from_secs(2));
    assert!(!world.update(SID, Update { only_unanswered: true, ..hang_up() }));
    assert!(!world.update_of("AC00000000000000000000000000000002", SID, hang_up()));
    assert_eq!(world.records()[0].status, CallStatus::InProgress);
    world.close_books();
}

#[test]
fn document_that_takes_the_place_of_a_running_one_runs_at_once() {
    let (mut world, carrier) = world(Script::Answer(Duration::from_secs(1)));
    world.place(order("+15553334444"));
    world.run_for(Duration::from_secs(3));
    assert!(world.update(SID, Update { document: Some(document("http://app/other")), ..Update::default() }));
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.asked_urls(), ["http://app/placed", "http://app/other"]);
    // The pause of the first document would have ended the call by now.
    world.run_for(Duration::from_secs(20));
    world.hang_up(carrier);
    world.close_books();
    assert!(world.records()[0].duration_s() > 20);
}

#[test]
fn leg_of_a_dial_that_gets_a_document_goes_on_without_its_parent() {
    let (mut world, carrier) = world(Script::Answer(Duration::from_secs(1)));
    world.call("+15551000000");
    world.run_for(Duration::from_secs(5));
    let (caller, leg) = (world.records()[0].sid, world.records()[1].sid);
    assert!(world.update(leg, Update { document: Some(document("http://app/other")), ..Update::default() }));
    world.run_for(Duration::from_secs(1));
    let after = world.asked.iter().find(|asked| asked.url == "http://app/after").expect("the action of the Dial");
    assert_eq!((after.get("DialCallStatus"), after.get("DialCallSid")), ("completed", leg.to_string().as_str()));
    assert!(world.update(caller, hang_up()));
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.sessions(), 1, "the leg's media began in the caller's session, and outlives the caller");
    assert_eq!(world.session().leg_count(), 1);
    assert_eq!(world.records()[1].status, CallStatus::InProgress);
    world.hang_up(carrier);
    world.close_books();
    assert!(world.records()[1].duration_s() > 30);
}

#[test]
fn call_that_the_network_loses_much_of_is_placed_and_ended_all_the_same() {
    for seed in 0..20 {
        let (mut world, _) = seeded(seed, Script::Answer(Duration::from_secs(1)));
        world.network.loss = 0.2;
        world.network.jitter = Duration::from_millis(30);
        world.place(order("+15553334444"));
        world.run_for(Duration::from_secs(15));
        world.update(SID, hang_up());
        world.close_books();
        assert_eq!(world.records().len(), 1, "seed {seed}");
    }
}

#[test]
fn placed_call_that_the_server_gives_up_has_failed_and_was_not_canceled() {
    let (mut world, _) = world(Script::Answer(Duration::from_secs(30)));
    world.place(order("+15553334444"));
    world.run_for(Duration::from_secs(2));
    world.end_all();
    world.close_books();
    let completed = world.records()[0].completed.clone().unwrap();
    assert_eq!((completed.status, completed.ended_by), (CallStatus::Failed, EndedBy::Server));
}
