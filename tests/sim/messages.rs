//! Messages to users: what their devices get, and what becomes of it.

use std::time::Duration;

use dialtone::events::MessageDirection;
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
        ("to=\"client:desk\"", "sending", vec![]),
        ("to=\"client:desk\" from=\"client:desk\"", "sending", vec![]),
        ("", "invalid", vec![14_101]),
        ("to=\"client:desk\" from=\"+4930\"", "invalid", vec![14_102]),
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
        assert_eq!(after.get("SmsSid").starts_with("SM"), told == "sending");
        let queued = told == "sending";
        assert_eq!(world.phones[desk].seen().len(), usize::from(queued));
        assert_eq!(world.message_steps().last(), queued.then_some(&(Delivered, 0)));
        world.close_books();
        assert_eq!(world.notices(), notices, "{attributes}");
    }
}

/// A world whose application answers texts so; phone 1 is the only device of `desk`.
fn answering(app: impl Fn(&str) -> Says + 'static) -> World {
    let mut world = World::new(1, move |asked| app(&asked.url));
    let desk = world.add_phone("203.0.113.20:5060", Script::Ring);
    world.register(desk, "desk");
    world
}

/// What the phone got.
fn got(world: &World) -> Vec<(String, String)> {
    let texts = world.phones[1].seen().into_iter().filter_map(|saw| match saw {
        Saw::Message { from, body } => Some((from, body)),
        _ => None,
    });
    texts.collect()
}

#[test]
fn application_of_a_number_is_asked_about_a_text_and_its_answer_is_sent() {
    let answer = "<Response><Message statusCallback=\"/told\"><Body>you said</Body></Message>\
                  <Message to=\"client:desk\" from=\"client:desk\">hello</Message></Response>";
    let mut world = answering(move |_| Says::Twiml(answer));
    assert_eq!(world.text(1, "desk", "+15552000000", "Grüße"), 202);
    world.run_for(Duration::from_secs(2));
    let [asked] = &world.asked[..] else { panic!("{:?}", world.asked_urls()) };
    let sid = asked.get("MessageSid");
    assert!(sid.starts_with("SM"));
    for (name, value) in [
        ("SmsSid", sid),
        ("SmsMessageSid", sid),
        ("From", "sip:desk@dialtone"),
        ("To", "+15552000000"),
        ("Body", "Grüße"),
        ("NumMedia", "0"),
        ("NumSegments", "1"),
        ("SmsStatus", "received"),
        ("ApiVersion", "2010-04-01"),
    ] {
        assert_eq!(asked.get(name), value, "{name}");
    }
    let from_number = "sip:+15552000000@dialtone".to_owned();
    assert_eq!(
        got(&world),
        [(from_number, "you said".to_owned()), ("sip:desk@dialtone".to_owned(), "hello".to_owned())]
    );
    let texts = world.texts();
    assert_eq!((texts[0].status, texts[0].direction), (MessageStatus::Receiving, MessageDirection::Inbound));
    let last = texts.iter().rfind(|fact| fact.direction == MessageDirection::Inbound).expect("the text");
    assert_eq!((last.status, last.error_code), (MessageStatus::Received, 0));
    let reply = texts.iter().find(|fact| fact.body == "you said" && fact.status == Delivered).expect("a delivery");
    assert_eq!((reply.direction, reply.to.as_str()), (MessageDirection::OutboundReply, "sip:desk@dialtone"));
    assert_eq!(reply.callback.as_ref().expect("a callback").url, "http://app/told");
    world.close_books();
}

#[test]
fn plain_text_is_an_answer_and_nothing_is_none() {
    for (says, texts) in [(Says::Raw("text/plain", "as it is"), vec!["as it is"]), (Says::Twiml("<Response/>"), vec![])]
    {
        let mut world = answering(move |_| says.clone());
        assert_eq!(world.text(1, "desk", "+15552000000", "a"), 202);
        world.run_for(Duration::from_secs(2));
        let bodies: Vec<String> = got(&world).into_iter().map(|(_, body)| body).collect();
        assert_eq!(bodies, texts);
        assert_eq!(world.texts()[0].error_code, 0);
        world.close_books();
    }
}

#[test]
fn answer_may_lead_elsewhere_but_not_for_ever() {
    let mut world = answering(|url| match url {
        "http://app/sms" => {
            Says::Twiml("<Response><Message action=\"/sent\">one</Message><Message>no</Message></Response>")
        }
        "http://app/sent" => Says::Twiml("<Response><Message>two</Message><Redirect>/round</Redirect></Response>"),
        _ => Says::Twiml("<Response><Redirect>/round</Redirect></Response>"),
    });
    assert_eq!(world.text(1, "desk", "+15552000000", "a"), 202);
    world.run_for(Duration::from_secs(5));
    let bodies: Vec<String> = got(&world).into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, ["one", "two"]);
    let sent = world.asked.iter().find(|asked| asked.url == "http://app/sent").expect("the action");
    assert_eq!(sent.get("MessageStatus"), "queued");
    assert_ne!(sent.get("MessageSid"), sent.get("SmsMessageSid"), "the answer's, beside the text's own");
    assert_eq!(world.asked.len(), 10, "ten documents, and no more");
    assert_eq!(world.texts().last().expect("an error").error_code, 11_215);
    world.close_books();
}

#[test]
fn fallback_is_asked_once_and_what_is_wrong_stands_at_the_text() {
    for (instead, code, asked) in [
        (Says::Twiml("<Response><Message>sorry</Message></Response>"), 0, 2),
        (Says::Fails(11_200), 11_200, 2),
        (Says::Twiml("<Response><Message to=\"+4930\">x</Message></Response>"), 14_101, 2),
        (Says::Twiml("<Response><Message><Media>http://a/b</Media></Message></Response>"), 12_200, 2),
        (Says::Twiml("<Response>"), 12_100, 2),
    ] {
        let mut world = answering(move |url| match url {
            "http://app/sms" => Says::Fails(11_200),
            _ => instead.clone(),
        });
        assert_eq!(world.text(1, "desk", "+15552000000", "a"), 202);
        world.run_for(Duration::from_secs(2));
        assert_eq!(world.asked.len(), asked);
        assert_eq!((world.asked[1].url.as_str(), world.asked[1].get("ErrorCode")), ("http://app/instead", "11200"));
        let inbound = world.texts().into_iter().rfind(|fact| fact.status == MessageStatus::Received).unwrap();
        assert_eq!(inbound.error_code, code);
        world.close_books();
    }
}

#[test]
fn number_without_a_url_for_texts_and_a_number_of_nobody_take_none() {
    let mut world = answering(|_| Says::Twiml("<Response/>"));
    assert_eq!(world.text(1, "desk", "+15551000000", "a"), 404);
    assert_eq!(world.text(1, "desk", "+4930", "a"), 404);
    assert_eq!(world.text(1, "desk", "+15552000000", &"a".repeat(1_601)), 413);
    assert_eq!(world.text(1, "desk", "mobile", "a"), 480, "nobody is registered");
    assert_eq!(world.text(1, "desk", "desk", "to myself"), 202);
    world.close_books();
}
