//! Servers of a host: found by the name service, tried one after the other.

use std::time::Duration;

use dialtone::twiml::Notice;
use dialtone_sip::msg::HeaderName;
use dialtone_sip::resolve::{Answer, Question, Srv};

use crate::phone::{Saw, Script};
use crate::world::{ACCOUNT, Says, World, header};

const FIRST: &str = "198.51.100.31:5060";
const SECOND: &str = "198.51.100.32:5070";
const THIRD: &str = "198.51.100.33:5060";

pub fn addresses(ips: &[&str]) -> Answer {
    Answer::Addresses(ips.iter().map(|ip| ip.parse().unwrap()).collect())
}

/// A caller who is connected by a trunk of three servers, which do as the scripts say, in this order.
fn trunk_of(scripts: [Script; 3], timeout: u32) -> World {
    let trunk = format!(
        "[[trunk]]\naccount = \"{ACCOUNT}\"\nname = \"cluster\"\nuri = \"sip:carrier.example\"\nprefixes = [\"+44\"]\n"
    );
    let dial: &'static str = Box::leak(
        format!("<Response><Dial timeout=\"{timeout}\" action=\"/after\">+442071838750</Dial></Response>")
            .into_boxed_str(),
    );
    let mut world = World::with_config(1, &trunk, move |asked| match asked.url.as_str() {
        "http://app/voice" => Says::Twiml(dial),
        _ => Says::Twiml("<Response><Hangup/></Response>"),
    });
    let server = |priority, port, target: &str| Srv { priority, weight: 0, port, target: target.into() };
    let servers = vec![server(30, 5060, "c.example"), server(10, 5060, "a.example"), server(20, 5070, "b.example")];
    world.zone.insert(Question::Srv("_sip._udp.carrier.example".into()), Answer::Srv(servers));
    for ((name, address), script) in [("a", FIRST), ("b", SECOND), ("c", THIRD)].into_iter().zip(scripts) {
        let ip = address.split(':').next().unwrap();
        world.zone.insert(Question::A(format!("{name}.example")), addresses(&[ip]));
        world.add_phone(address, script);
    }
    world
}

/// How often each server was invited, retransmissions left out.
fn invited(world: &World) -> Vec<usize> {
    let is_invited = |saw: &Saw| matches!(saw, Saw::Invited { .. });
    (1..=3).map(|phone| world.saw(phone).into_iter().filter(is_invited).count()).collect()
}

fn after<'a>(world: &'a World, name: &str) -> &'a str {
    world.asked.iter().find(|asked| asked.url == "http://app/after").expect("the action is asked").get(name)
}

const ANSWER: Script = Script::Answer(Duration::from_secs(1));

#[test]
fn trunk_is_found_by_its_records_and_the_best_server_is_called() {
    let mut world = trunk_of([ANSWER, ANSWER, ANSWER], 30);
    world.call("+15551000000");
    world.run_for(Duration::from_secs(4));
    let asked = [
        Question::Naptr("carrier.example".into()),
        Question::Srv("_sip._udp.carrier.example".into()),
        Question::A("a.example".into()),
        Question::A("b.example".into()),
        Question::A("c.example".into()),
    ];
    assert_eq!(world.questions, asked);
    assert_eq!(invited(&world), [1, 0, 0]);
    let to = "sip:+442071838750@carrier.example";
    assert!(matches!(&world.saw(1)[0], Saw::Invited { to: uri, .. } if uri == to), "{:?}", world.saw(1));
    world.hang_up(1);
    world.close_books();
    assert_eq!(after(&world, "DialCallStatus"), "completed");
    assert!(world.notices().is_empty());
}

#[test]
fn server_that_answers_503_or_nothing_leaves_the_call_to_the_next() {
    for (scripts, timeout, expected) in [
        ([Script::Refuse(503), ANSWER, ANSWER], 30, [1, 1, 0]),
        ([Script::Refuse(503), Script::Refuse(503), ANSWER], 30, [1, 1, 1]),
        // What is silent is given up after 32 s: the next is called if the `<Dial>` waits so long.
        ([Script::Dead, ANSWER, ANSWER], 60, [0, 1, 0]),
        ([Script::Dead, Script::Refuse(503), ANSWER], 60, [0, 1, 1]),
    ] {
        let mut world = trunk_of(scripts.clone(), timeout);
        world.call("+15551000000");
        world.run_for(Duration::from_secs(40));
        assert_eq!(invited(&world), expected, "{scripts:?}");
        let answered = expected.iter().rposition(|count| *count == 1).unwrap() + 1;
        assert!(world.saw(answered).contains(&Saw::Acked), "{scripts:?}");
        world.hang_up(answered);
        world.close_books();
        assert_eq!(after(&world, "DialCallStatus"), "completed", "{scripts:?}");
        let invites = world.sent("INVITE");
        let call_ids: Vec<&str> = invites.iter().map(|invite| invite.call_id()).collect();
        assert!(call_ids.iter().all(|call_id| *call_id == after(&world, "DialSipCallId")), "{call_ids:?}");
        // The customer learns which server did not take the call.
        let notices: Vec<&Notice> = world.noticed().collect();
        assert_eq!(notices.len(), answered - 1, "{notices:?}");
        let said = if scripts[0] == Script::Dead { "did not answer in 32 s" } else { "answered 503" };
        assert_eq!(notices[0].text, format!("udp:{FIRST} {said}: udp:{SECOND} is tried"));
        assert_eq!(world.records().len(), 2);
    }
}

#[test]
fn last_server_decides_when_none_takes_the_call() {
    let mut world = trunk_of([Script::Refuse(503), Script::Refuse(503), Script::Refuse(503)], 30);
    world.call("+15551000000");
    world.close_books();
    assert_eq!(invited(&world), [1, 1, 1]);
    assert_eq!((after(&world, "DialCallStatus"), after(&world, "DialSipResponseCode")), ("failed", "503"));
}

#[test]
fn other_answers_are_the_callees() {
    let mut world = trunk_of([Script::Refuse(486), ANSWER, ANSWER], 30);
    world.call("+15551000000");
    world.close_books();
    assert_eq!((invited(&world), after(&world, "DialCallStatus")), (vec![1, 0, 0], "busy"));
}

#[test]
fn no_server_is_tried_once_the_dial_has_given_up() {
    let mut world = trunk_of([Script::Dead, ANSWER, ANSWER], 20);
    world.call("+15551000000");
    world.close_books();
    assert_eq!((invited(&world), after(&world, "DialCallStatus")), (vec![0, 0, 0], "no-answer"));
}

#[test]
fn threat_23_of_a_documents_host_only_public_servers_are_called() {
    let mut world = World::new(1, |asked| match asked.url.as_str() {
        "http://app/voice" => {
            Says::Twiml("<Response><Dial action=\"/after\"><Sip>sip:x@mixed.example</Sip></Dial></Response>")
        }
        _ => Says::Twiml("<Response><Hangup/></Response>"),
    });
    let servers = ["10.0.0.1", "8.8.4.4", "127.0.0.1", "8.8.8.8", "169.254.169.254"];
    world.zone.insert(Question::A("mixed.example".into()), addresses(&servers));
    for server in servers {
        world.add_phone(&format!("{server}:5060"), Script::Refuse(503));
    }
    world.call("+15551000000");
    world.close_books();
    let called: Vec<String> = (1..=5)
        .filter(|phone| !world.saw(*phone).is_empty())
        .map(|phone| world.phones[phone].address.to_string())
        .collect();
    assert_eq!(called, ["8.8.4.4:5060", "8.8.8.8:5060"]);
}

#[test]
fn each_invite_has_a_branch_of_its_own_and_is_otherwise_the_same() {
    let mut world = trunk_of([Script::Refuse(503), ANSWER, ANSWER], 30);
    world.call("+15551000000");
    world.run_for(Duration::from_secs(4));
    let invites = world.sent("INVITE");
    let branches: Vec<&str> = invites.iter().map(|invite| invite.top_via().unwrap().branch().unwrap()).collect();
    assert_eq!(branches.len(), 2);
    assert_ne!(branches[0], branches[1]);
    for name in [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq, HeaderName::Contact] {
        assert_eq!(header(invites[0], name), header(invites[1], name));
    }
    assert_eq!(invites[0].body(), invites[1].body());
    world.hang_up(0);
    world.close_books();
}
