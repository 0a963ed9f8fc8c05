//! Calls that somebody makes to us: how they are answered, refused and ended.

use std::time::Duration;

use bytes::Bytes;
use dialtone::events::{CallStatus, EndedBy};
use dialtone_sip::msg::HeaderName;

use crate::phone::{Saw, sdp};
use crate::world::{Says, World, header};

#[test]
fn document_is_fetched_and_the_call_answered_when_a_verb_needs_it() {
    let mut world = World::new(1, |_| Says::Twiml("<Response><Say>hello</Say></Response>"));
    world.call("+15551000000");
    world.close_books();
    assert_eq!(world.asked_urls()[0], "http://app/voice");
    let asked = &world.asked[0];
    assert_eq!(
        (asked.get("From"), asked.get("To"), asked.get("CallStatus"), asked.get("Direction")),
        ("+15559990000", "+15551000000", "ringing", "inbound")
    );
    assert!(asked.get("CallSid").starts_with("CA"));
    let saw = world.saw(0);
    assert_eq!(saw[..2], [Saw::Progress(180), Saw::Answered]);
    assert!(matches!(saw[2], Saw::Ended { .. }));
    let record = &world.records()[0];
    assert_eq!(
        (record.status, record.duration_s()),
        (CallStatus::Completed, 2),
        "a second of audio, and the way of the signalling"
    );
}

const AT_ONCE: &str = "[[number]]\naccount = \"AC00000000000000000000000000000001\"\nnumber = \"+15551000001\"\nanswer = \"at-once\"\ntwiml = \"<Response><Pause length='2'/></Response>\"\n";

#[test]
fn call_that_is_answered_at_once_does_not_ring_first() {
    let mut world = World::with_config(27, AT_ONCE, |_| Says::Nothing);
    world.call("+15551000001");
    world.close_books();
    let saw = world.saw(0);
    assert_eq!(saw[0], Saw::Answered);
    assert_eq!(world.records()[0].duration_s(), 2);
}

#[test]
fn call_that_is_to_be_answered_at_once_rings_where_its_worker_is_slow() {
    let mut world = World::with_config(28, AT_ONCE, |_| Says::Nothing);
    world.worker_delay = Duration::from_millis(300);
    world.call("+15551000001");
    world.run_for(Duration::from_millis(220));
    assert_eq!(world.saw(0), [Saw::Progress(180)]);
    world.close_books();
    assert_eq!(world.saw(0)[1], Saw::Answered);
}

#[test]
fn caller_hangs_up_during_a_verb() {
    let mut world = World::new(2, |_| Says::Twiml("<Response><Say loop=\"0\">hello</Say></Response>"));
    world.call("+15551000000");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.sessions(), 1);
    world.hang_up(0);
    world.close_books();
    let record = &world.records()[0];
    assert_eq!(record.completed.as_ref().unwrap().ended_by, EndedBy::Peer);
}

#[test]
fn caller_cancels_while_the_application_thinks() {
    let mut world = World::new(3, |_| Says::Nothing);
    let dialog = world.call("+15551000000");
    world.run_for(Duration::from_secs(1));
    let now = world.now;
    world.phones[0].stack.cancel(dialog, "", now);
    world.close_books();
    assert_eq!(world.saw(0), [Saw::Progress(180), Saw::Refused(487)]);
    assert_eq!(world.records()[0].status, CallStatus::Canceled);
}

#[test]
fn cancel_that_crosses_the_answer_ends_the_call_once() {
    for micros in (0..40_000).step_by(500) {
        let mut world = World::new(4 + micros, |_| Says::Twiml("<Response><Say>hello</Say></Response>"));
        let dialog = world.call("+15551000000");
        world.run_for(Duration::from_micros(20_000 + micros));
        let now = world.now;
        world.phones[0].stack.cancel(dialog, "", now);
        world.close_books();
        assert_eq!(world.records().len(), 1);
    }
}

#[test]
fn reject_refuses_without_answering() {
    for (twiml, status) in [
        ("<Response><Reject/></Response>", 603),
        ("<Response><Reject reason=\"busy\"/></Response>", 486),
        ("<Response><Hangup/></Response>", 603),
    ] {
        let mut world = World::new(5, move |_| Says::Twiml(twiml));
        world.call("+15551000000");
        world.close_books();
        assert_eq!(world.saw(0).last(), Some(&Saw::Refused(status)), "{twiml}");
    }
}

#[test]
fn number_of_nobody_is_404_and_leaves_no_trace() {
    let mut world = World::new(6, |_| Says::Nothing);
    world.call("+15550009999");
    world.close_books();
    assert_eq!(world.saw(0), [Saw::Refused(404)]);
    assert!(world.events.is_empty());
}

#[test]
fn call_without_a_common_codec_is_488() {
    let mut world = World::new(7, |_| Says::Twiml("<Response><Echo/></Response>"));
    let offer = sdp(world.phones[0].address, "18");
    world.call_with("+15551000000", offer);
    world.close_books();
    assert_eq!(world.saw(0).last(), Some(&Saw::Refused(488)));
}

#[test]
fn late_offer_is_answered_in_the_ack() {
    let mut world = World::new(8, |_| Says::Twiml("<Response><Pause length=\"1\"/><Say>hello</Say></Response>"));
    world.call_with("+15551000000", Bytes::new());
    world.run_for(Duration::from_millis(1500));
    let answer = world.sent("200").into_iter().find(|message| message.cseq().unwrap().1 == "INVITE").unwrap().clone();
    assert!(String::from_utf8_lossy(&answer.body()).contains("m=audio"), "our offer is in the 200");
    world.close_books();
    // The phone of the simulation acknowledges without an answer, so we must hang up.
    assert!(
        world.saw(0).iter().any(|saw| matches!(saw, Saw::Ended { reason } if reason.contains("488"))),
        "{:?}",
        world.saw(0)
    );
}

#[test]
fn digits_by_info_reach_a_gather() {
    let mut world = World::new(9, |asked| match asked.url.as_str() {
        "http://app/voice" => {
            Says::Twiml("<Response><Gather numDigits=\"2\" action=\"/got\"><Say>press</Say></Gather></Response>")
        }
        _ => Says::Twiml("<Response><Hangup/></Response>"),
    });
    world.call("+15551000000");
    world.run_for(Duration::from_millis(500));
    world.press(0, '4');
    world.run_for(Duration::from_millis(500));
    world.press(0, '2');
    world.close_books();
    let got = world.asked.iter().find(|asked| asked.url == "http://app/got").expect("the action is asked");
    assert_eq!((got.get("Digits"), got.get("CallStatus")), ("42", "in-progress"));
}

#[test]
fn server_that_drains_refuses_new_calls_and_lets_running_ones_end() {
    let mut world = World::new(10, |_| Says::Twiml("<Response><Say>hello</Say></Response>"));
    world.call("+15551000000");
    world.run_for(Duration::from_millis(300));
    world.core.drain();
    world.call("+15551000000");
    world.run_for(Duration::from_millis(100));
    let refusal = world.sent("503");
    let seconds: u32 = header(refusal[0], HeaderName::RetryAfter).parse().expect("Retry-After is a number");
    assert!((5..10).contains(&seconds));
    world.close_books();
    let ends: Vec<_> = world.records().iter().map(|record| record.status).collect();
    assert_eq!(ends, [CallStatus::Completed]);
}

#[test]
fn shutdown_ends_calls_with_a_reason() {
    let mut world = World::new(11, |_| Says::Twiml("<Response><Echo/></Response>"));
    world.call("+15551000000");
    world.run_for(Duration::from_secs(1));
    world.end_all();
    world.close_books();
    assert!(world.saw(0).iter().any(|saw| matches!(saw, Saw::Ended { reason } if reason.contains("shutting down"))));
    assert_eq!(world.records()[0].completed.as_ref().unwrap().ended_by, EndedBy::Server);
}
