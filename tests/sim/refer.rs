//! `<Refer>`: a phone that is asked to call somebody else.

use std::time::Duration;

use crate::phone::{Saw, Script};
use crate::world::{Says, World};

const TWIML: &str =
    "<Response><Say>one moment</Say><Refer action=\"/after\"><Sip>sip:bob@pbx.example.com</Sip></Refer></Response>";

fn refer() -> World {
    let mut world = World::new(1, |asked| match asked.url.as_str() {
        "http://app/voice" => Says::Twiml(TWIML),
        _ => Says::Twiml("<Response><Hangup/></Response>"),
    });
    world.call("+15551000000");
    world
}

fn told(world: &World) -> [&str; 3] {
    let after = world.asked.iter().find(|asked| asked.url == "http://app/after").expect("the action");
    ["ReferCallStatus", "ReferSipResponseCode", "NotifySipResponseCode"].map(|name| after.get(name))
}

#[test]
fn phone_that_takes_it_tells_what_became_of_it() {
    for (line, status) in [("SIP/2.0 200 OK", "completed"), ("SIP/2.0 486 Busy Here", "busy")] {
        let mut world = refer();
        world.run_for(Duration::from_secs(4));
        let asked = Saw::Referred { to: "<sip:bob@pbx.example.com>".into() };
        assert!(world.phones[0].seen().contains(&asked), "{:?}", world.phones[0].seen());
        world.notify(0, "SIP/2.0 100 Trying", "active;expires=60");
        world.run_for(Duration::from_secs(1));
        world.notify(0, line, "terminated;reason=noresource");
        world.run_for(Duration::from_secs(2));
        assert_eq!(told(&world), [status, "202", &line[8..11]]);
        world.close_books();
    }
}

#[test]
fn phone_that_refuses_it_goes_on_with_the_action() {
    let mut world = refer();
    world.phones[0].refer_status = 603;
    world.run_for(Duration::from_secs(6));
    assert_eq!(told(&world), ["failed", "603", ""]);
    world.close_books();
}

#[test]
fn phone_that_goes_where_it_was_sent_hangs_up_here() {
    let mut world = refer();
    world.run_for(Duration::from_secs(4));
    world.hang_up(0);
    world.run_for(Duration::from_secs(2));
    assert_eq!(told(&world), ["completed", "202", ""]);
    world.close_books();
}

/// A caller (phone 0), whom a `<Dial>` has joined with phone 1. Phone 2 is another agent.
fn joined(dial: &'static str) -> World {
    let mut world = World::new(1, move |asked| match asked.url.as_str() {
        "http://app/voice" => Says::Twiml(dial),
        "http://app/on" => Says::Twiml("<Response><Dial>+15557777777</Dial></Response>"),
        _ => Says::Twiml("<Response><Hangup/></Response>"),
    });
    world.add_phone("198.51.100.9:5060", Script::Answer(Duration::from_secs(1)));
    world.call("+15551000000");
    world.run_for(Duration::from_secs(4));
    world
}

const DIAL: &str = "<Response><Dial referUrl=\"/on\" action=\"/after\">+15553334444</Dial></Response>";

fn notified(line: &str) -> Saw {
    Saw::Notified { line: line.to_owned() }
}

/// The numbers of the legs that are there.
fn legs(world: &World) -> Vec<u32> {
    let mut legs: Vec<u32> = world.core.calls().map(|call| call.leg_id()).collect();
    legs.sort_unstable();
    legs
}

fn invitations(world: &World) -> Vec<Saw> {
    world.saw(1).into_iter().filter(|saw| matches!(saw, Saw::Invited { .. })).collect()
}

#[test]
fn callee_that_transfers_its_caller_is_out_and_the_caller_goes_on() {
    let mut world = joined(DIAL);
    world.refer(1, "<sip:+15557777777@pbx.example>");
    world.run_for(Duration::from_secs(4));
    let seen = world.saw(1);
    let told = seen.iter().position(|saw| *saw == notified("SIP/2.0 200 OK")).expect("a NOTIFY");
    let over = seen.iter().position(|saw| matches!(saw, Saw::Ended { .. })).expect("a BYE");
    assert!(told < over, "{seen:?}");
    assert_eq!(invitations(&world).len(), 2, "the caller's document calls the other");
    let asked = world.asked.iter().find(|asked| asked.url == "http://app/on").expect("the document");
    assert_eq!(
        ["ReferTransferTarget", "SipHeader_X-Id", "Direction", "CallStatus"].map(|name| asked.get(name)),
        ["sip:+15557777777@pbx.example", "7", "inbound", "in-progress"]
    );
    assert!(world.saw(0).iter().all(|saw| !matches!(saw, Saw::Ended { .. })), "the caller is still there");
    assert!(world.asked.iter().all(|asked| asked.url != "http://app/after"), "no action: another document runs");
    assert_eq!(legs(&world), [0, 2], "no number is given twice");
    world.hang_up(0);
    world.close_books();
    assert_eq!(world.records().len(), 3);
}

#[test]
fn caller_that_transfers_its_callee_is_out_and_the_callee_goes_on() {
    let mut world = joined(DIAL);
    world.refer(0, "<sip:+15557777777@pbx.example>");
    world.run_for(Duration::from_secs(4));
    assert!(world.saw(0).contains(&notified("SIP/2.0 200 OK")));
    assert!(world.saw(0).iter().any(|saw| matches!(saw, Saw::Ended { .. })), "the caller is out");
    let asked = world.asked.iter().find(|asked| asked.url == "http://app/on").expect("the document");
    assert_eq!(
        ["ReferTransferTarget", "Direction", "CallStatus"].map(|name| asked.get(name)),
        ["sip:+15557777777@pbx.example", "outbound-dial", "in-progress"]
    );
    assert_eq!(invitations(&world).len(), 2, "the callee's document calls the other");
    assert_eq!(legs(&world), [1, 2]);
    world.hang_up(1);
    world.close_books();
    assert_eq!(world.records().len(), 3);
}

#[test]
fn who_may_not_transfer_is_told_so_and_the_call_goes_on() {
    for phone in [0, 1] {
        let mut world = joined("<Response><Dial>+15553334444</Dial></Response>");
        world.refer(phone, "<sip:+15557777777@pbx.example>");
        world.run_for(Duration::from_secs(2));
        assert!(world.saw(phone).contains(&notified("SIP/2.0 603 Decline")), "{:?}", world.saw(phone));
        assert_eq!(world.notices(), [13802]);
        assert!(world.saw(1).iter().all(|saw| !matches!(saw, Saw::Ended { .. })), "they talk on");
        world.hang_up(1 - phone);
        world.close_books();
    }
}
