//! Messages to users: what their devices get, and what becomes of it.

use std::time::Duration;

use dialtone::events::MessageStatus::{self, Delivered, Failed, Sent, Undelivered};

use crate::phone::{Saw, Script};
use crate::world::{Says, World};

/// A world in which `desk` has devices that answer so.
fn world(devices: &[Option<u16>]) -> World {
    let mut world = World::new(1, |_| Says::Twiml("<Response/>"));
    for (number, status) in devices.iter().enumerate() {
        let phone = world.add_phone(&format!("203.0.113.{}:5060", 20 + number), Script::Ring);
        world.phones[phone].message_status = *status;
        world.register(phone, "desk");
    }
    world
}

fn steps(devices: &[Option<u16>], to: &str, body: &str) -> Vec<(MessageStatus, u32)> {
    let mut world = world(devices);
    world.message(to, body);
    world.run_for(Duration::from_secs(40));
    let steps = world.message_steps();
    world.close_books();
    steps
}

#[test]
fn every_device_gets_it_and_the_first_that_takes_it_decides() {
    let mut world = world(&[Some(200), Some(486)]);
    world.message("desk", "Grüße");
    world.run_for(Duration::from_secs(1));
    for phone in [1, 2] {
        let got = Saw::Message { from: "sip:+15551000000@dialtone".into(), body: "Grüße".into() };
        assert_eq!(world.phones[phone].seen(), [got]);
    }
    assert_eq!(world.message_steps(), [(Sent, 0), (Delivered, 0)]);
    world.close_books();
}

#[test]
fn one_that_takes_it_late_is_enough_and_silence_is_not() {
    assert_eq!(steps(&[Some(603), Some(202)], "desk", "a"), [(Sent, 0), (Delivered, 0)]);
    assert_eq!(steps(&[Some(603)], "desk", "a"), [(Sent, 0), (Undelivered, 30_008)]);
    assert_eq!(steps(&[Some(415), None], "desk", "a"), [(Sent, 0), (Undelivered, 30_003)]);
}

#[test]
fn nobody_registered_nobody_known_and_a_text_too_long_for_a_datagram() {
    assert_eq!(steps(&[], "desk", "a"), [(Undelivered, 30_003)]);
    assert_eq!(steps(&[Some(200)], "nobody", "a"), [(Failed, 30_005)]);
    assert_eq!(steps(&[Some(200)], "desk", &"a".repeat(1_001)), [(Undelivered, 30_008)]);
    assert_eq!(steps(&[Some(200)], "desk", &"a".repeat(1_000)), [(Sent, 0), (Delivered, 0)]);
}

#[test]
fn document_sends_a_text_and_its_action_is_told_which() {
    for (attributes, told, notices) in [
        ("to=\"client:desk\"", "queued", vec![]),
        ("to=\"client:desk\" from=\"client:desk\"", "queued", vec![]),
        ("", "failed", vec![14_101]),
        ("to=\"client:desk\" from=\"+4930\"", "failed", vec![14_102]),
    ] {
        let document: &'static str = Box::leak(
            format!("<Response><Sms {attributes} action=\"/after\">on my way</Sms></Response>").into_boxed_str(),
        );
        let mut world = World::new(1, move |asked| match asked.url.as_str() {
            "http://app/voice" => Says::Twiml(document),
            _ => Says::Twiml("<Response><Hangup/></Response>"),
        });
        let desk = world.add_phone("203.0.113.20:5060", Script::Ring);
        world.register(desk, "desk");
        world.call("+15551000000");
        world.run_for(Duration::from_secs(3));
        let after = world.asked.iter().find(|asked| asked.url == "http://app/after").expect("the action");
        assert_eq!(after.get("SmsStatus"), told, "{attributes}");
        assert_eq!(after.get("SmsSid").starts_with("SM"), told == "queued");
        let queued = told == "queued";
        assert_eq!(world.phones[desk].seen().len(), usize::from(queued));
        assert_eq!(world.message_steps().last(), queued.then_some(&(Delivered, 0)));
        world.close_books();
        assert_eq!(world.notices(), notices, "{attributes}");
    }
}
