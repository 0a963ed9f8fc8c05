//! `<Dial>`: one, many, nobody, early media, whisper, and every way to end.

use std::time::Duration;

use dialtone::account::Client;
use dialtone::events::{CallStatus, Direction, EventKind};
use dialtone::ids::AccountSid;
use dialtone::twiml::Notice;
use dialtone_sip::msg::{AuthParams, HeaderName};
use dialtone_sip::resolve::Question;

use crate::phone::{Saw, Script};
use crate::servers::addresses;
use crate::world::{self, ACCOUNT, Says, World};

const CARRIER: &str = "198.51.100.9:5060";
const DESK: &str = "203.0.113.5:5060";
const MOBILE: &str = "203.0.113.6:5060";

fn dial(twiml: &'static str) -> World {
    World::new(1, move |asked| match asked.url.as_str() {
        "http://app/voice" => Says::Twiml(twiml),
        "http://app/whisper" => Says::Twiml("<Response><Say>a call for you</Say></Response>"),
        "http://app/refuse" => Says::Twiml("<Response><Hangup/></Response>"),
        _ => Says::Twiml("<Response><Hangup/></Response>"),
    })
}

#[test]
fn number_goes_by_the_trunk_and_is_bridged() {
    let mut world = dial("<Response><Dial action=\"/after\">+15553334444</Dial></Response>");
    let callee = world.add_phone(CARRIER, Script::Answer(Duration::from_secs(3)));
    world.call("+15551000000");
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.sessions(), 1, "both legs are in one session");
    assert_eq!(world.session().leg_count(), 2);
    assert_eq!(
        world.saw(callee)[0],
        Saw::Invited { from: "sip:+15551000000@192.0.2.1".into(), to: "sip:+15553334444@198.51.100.9:5060".into() }
    );
    world.hang_up(callee);
    world.close_books();
    let after = world.asked.iter().find(|asked| asked.url == "http://app/after").expect("the action is asked");
    assert_eq!((after.get("DialCallStatus"), after.get("DialBridged")), ("completed", "true"));
    let records = world.records();
    assert_eq!(records.len(), 2);
    assert_eq!((records[1].direction, records[1].parent), (Direction::OutboundDial, Some(records[0].sid)));
    assert_eq!(after.get("DialCallSid"), records[1].sid.to_string());
}

#[test]
fn answer_on_bridge_keeps_the_caller_ringing() {
    let mut world = dial("<Response><Dial answerOnBridge=\"true\">+15553334444</Dial></Response>");
    world.add_phone(CARRIER, Script::Answer(Duration::from_secs(4)));
    world.call("+15551000000");
    world.run_for(Duration::from_secs(3));
    assert!(!world.saw(0).contains(&Saw::Answered));
    world.run_for(Duration::from_secs(3));
    assert!(world.saw(0).contains(&Saw::Answered));
    world.hang_up(0);
    world.close_books();
}

#[test]
fn early_media_of_the_callee_reaches_a_ringing_caller() {
    let mut world = dial("<Response><Dial answerOnBridge=\"true\">+15553334444</Dial></Response>");
    world.add_phone(CARRIER, Script::EarlyMedia(Duration::from_secs(2)));
    world.call("+15551000000");
    world.run_for(Duration::from_secs(1));
    assert!(world.saw(0).contains(&Saw::Progress(183)), "{:?}", world.saw(0));
    world.run_for(Duration::from_secs(3));
    world.hang_up(0);
    world.close_books();
}

#[test]
fn first_of_several_devices_wins_and_the_others_hear_why() {
    let mut world = dial("<Response><Dial><Client>desk</Client></Dial></Response>");
    let (desk, mobile) = (
        world.add_phone(DESK, Script::Answer(Duration::from_secs(2))),
        world.add_phone(MOBILE, Script::Answer(Duration::from_secs(5))),
    );
    world.register(desk, "desk");
    world.register(mobile, "desk");
    world.call("+15551000000");
    world.run_for(Duration::from_secs(8));
    assert!(world.saw(desk).contains(&Saw::Acked));
    assert!(
        world
            .saw(mobile)
            .iter()
            .any(|saw| matches!(saw, Saw::Canceled { reason } if reason.contains("completed elsewhere"))),
        "{:?}",
        world.saw(mobile)
    );
    world.hang_up(0);
    world.close_books();
    assert_eq!(world.records().len(), 2, "one child for all devices of a user");
}

#[test]
fn pr_10_client_of_several_accounts_is_the_first_that_can_be_called() {
    let (own, first, second) = (ACCOUNT.parse().unwrap(), AccountSid::new(2), AccountSid::new(3));
    // Where it is connected, and which of these rings.
    for (accounts, rings) in [
        (vec![second], 0),
        (vec![second, first], 1),
        (vec![first, second], 0),
        (vec![second, first, own], 2),
        (vec![], 9),
    ] {
        let mut world = dial("<Response><Dial><Client>anna</Client></Dial></Response>");
        world.make_accounts(&[second, first]);
        let phones: Vec<usize> = accounts
            .iter()
            .zip([DESK, MOBILE, CARRIER])
            .map(|(account, address)| {
                let phone = world.add_phone(address, Script::Answer(Duration::from_secs(1)));
                world.register_at(phone, Client::aor(*account, "anna"));
                phone
            })
            .collect();
        world.call("+15551000000");
        world.run_for(Duration::from_secs(3));
        for (at, phone) in phones.iter().enumerate() {
            assert_eq!(world.saw(*phone).contains(&Saw::Acked), at == rings, "{accounts:?}: {at}");
        }
        if !phones.is_empty() {
            world.hang_up(0);
        }
        world.close_books();
        assert!(world.records().iter().all(|record| record.account == own), "the call is the dialling account's");
    }
}

#[test]
fn two_devices_that_answer_at_once_leave_one_call() {
    for micros in (0..12_000).step_by(1_000) {
        let mut world = dial("<Response><Dial><Client>desk</Client></Dial></Response>");
        let (desk, mobile) = (
            world.add_phone(DESK, Script::Answer(Duration::from_secs(2))),
            world.add_phone(MOBILE, Script::Answer(Duration::from_micros(2_000_000 + micros))),
        );
        world.register(desk, "desk");
        world.register(mobile, "desk");
        world.call("+15551000000");
        world.run_for(Duration::from_secs(5));
        world.hang_up(0);
        world.close_books();
        assert_eq!(world.records().len(), 2);
    }
}

#[test]
fn parallel_nouns_are_children_each_and_the_losers_are_canceled() {
    let mut world = dial("<Response><Dial><Client>desk</Client><Number>+15553334444</Number></Dial></Response>");
    let desk = world.add_phone(DESK, Script::Answer(Duration::from_secs(2)));
    world.add_phone(CARRIER, Script::Ring);
    world.register(desk, "desk");
    world.call("+15551000000");
    world.run_for(Duration::from_secs(5));
    world.hang_up(0);
    world.close_books();
    let statuses: Vec<_> = world.records().iter().map(|record| record.status).collect();
    assert_eq!(statuses, [CallStatus::Completed, CallStatus::Completed, CallStatus::Canceled]);
}

#[test]
fn sequential_nouns_come_one_after_another() {
    let mut world = dial(
        "<Response><Dial sequential=\"true\" action=\"/after\"><Client>desk</Client><Number>+15553334444</Number></Dial></Response>",
    );
    let desk = world.add_phone(DESK, Script::Refuse(486));
    let carrier = world.add_phone(CARRIER, Script::Answer(Duration::from_secs(1)));
    world.register(desk, "desk");
    world.call("+15551000000");
    world.run_for(Duration::from_secs(4));
    assert!(world.saw(carrier).contains(&Saw::Acked));
    world.hang_up(carrier);
    world.close_books();
    let after = world.asked.iter().find(|asked| asked.url == "http://app/after").unwrap();
    assert_eq!(after.get("DialCallStatus"), "completed");
}

#[test]
fn caller_who_waits_hears_of_the_sip_status_why_nobody_answers() {
    for (script, status, caller) in [
        (Script::Refuse(486), 486, CallStatus::Busy),
        (Script::Refuse(404), 404, CallStatus::Failed),
        (Script::Refuse(603), 486, CallStatus::Busy),
        (Script::Refuse(407), 480, CallStatus::NoAnswer),
        (Script::Ring, 480, CallStatus::NoAnswer),
    ] {
        let twiml = "<Response><Dial timeout=\"10\" answerOnBridge=\"true\">+15553334444</Dial></Response>";
        let mut world = dial(twiml);
        world.add_phone(CARRIER, script.clone());
        world.call("+15551000000");
        world.run_for(Duration::from_secs(60));
        world.close_books();
        assert!(world.saw(0).contains(&Saw::Refused(status)), "{script:?}: {:?}", world.saw(0));
        assert_eq!(world.records()[0].status, caller, "{script:?}");
    }
}

#[test]
fn every_failure_has_its_dial_call_status() {
    for (script, status, child) in [
        (Script::Refuse(486), "busy", CallStatus::Busy),
        (Script::Refuse(600), "busy", CallStatus::Busy),
        (Script::Refuse(404), "failed", CallStatus::Failed),
        (Script::Refuse(480), "no-answer", CallStatus::NoAnswer),
        (Script::Ring, "no-answer", CallStatus::NoAnswer),
        (Script::Dead, "no-answer", CallStatus::NoAnswer),
    ] {
        let mut world = dial("<Response><Dial timeout=\"10\" action=\"/after\">+15553334444</Dial></Response>");
        world.add_phone(CARRIER, script.clone());
        world.call("+15551000000");
        world.run_for(Duration::from_secs(60));
        world.close_books();
        let after = world
            .asked
            .iter()
            .find(|asked| asked.url == "http://app/after")
            .unwrap_or_else(|| panic!("{script:?}: no action"));
        assert_eq!(after.get("DialCallStatus"), status, "{script:?}");
        assert_eq!(world.records()[1].status, child, "{script:?}");
    }
}

#[test]
fn caller_gives_up_while_it_rings() {
    let mut world = dial("<Response><Dial action=\"/after\">+15553334444</Dial></Response>");
    let callee = world.add_phone(CARRIER, Script::Ring);
    world.call("+15551000000");
    world.run_for(Duration::from_secs(3));
    world.hang_up(0);
    world.close_books();
    assert!(world.saw(callee).iter().any(|saw| matches!(saw, Saw::Canceled { .. })));
    let after =
        world.asked.iter().find(|asked| asked.url == "http://app/after").expect("the action of Dial is still asked");
    assert_eq!((after.get("DialCallStatus"), after.get("CallStatus")), ("canceled", "completed"));
}

#[test]
fn whisper_is_heard_before_the_bridge_and_may_refuse() {
    let mut world =
        dial("<Response><Dial action=\"/after\"><Number url=\"/whisper\">+15553334444</Number></Dial></Response>");
    let callee = world.add_phone(CARRIER, Script::AnswerAtOnce);
    world.call("+15551000000");
    world.run_for(Duration::from_secs(5));
    let whisper = world.asked.iter().find(|asked| asked.url == "http://app/whisper").expect("the whisper is asked");
    assert_eq!((whisper.get("Direction"), whisper.get("CallStatus")), ("outbound-dial", "in-progress"));
    world.hang_up(callee);
    world.close_books();

    let mut world =
        dial("<Response><Dial action=\"/after\"><Number url=\"/refuse\">+15553334444</Number></Dial></Response>");
    world.add_phone(CARRIER, Script::AnswerAtOnce);
    world.call("+15551000000");
    world.close_books();
    assert_ne!(world.asked.iter().find(|asked| asked.url == "http://app/after").unwrap().get("DialBridged"), "true");
}

#[test]
fn both_hang_up_at_once() {
    for micros in (0..12_000).step_by(500) {
        let mut world = dial("<Response><Dial>+15553334444</Dial></Response>");
        let callee = world.add_phone(CARRIER, Script::AnswerAtOnce);
        world.call("+15551000000");
        world.run_for(Duration::from_secs(2));
        world.hang_up(0);
        world.run_for(Duration::from_micros(micros));
        if !world.phones[callee].dialogs.is_empty() {
            world.hang_up(callee);
        }
        world.close_books();
        assert_eq!(world.records().len(), 2);
    }
}

#[test]
fn number_of_our_own_is_a_call_inside() {
    let mut world = dial("<Response><Dial action=\"/after\">+15552000000</Dial></Response>");
    world.call("+15551000000");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.sessions(), 2, "the echo has a session of its own, linked to the caller's");
    world.hang_up(0);
    world.close_books();
    let records = world.records();
    assert_eq!(
        records.iter().map(|record| record.direction).collect::<Vec<_>>(),
        [Direction::Inbound, Direction::OutboundDial, Direction::Inbound]
    );
}

const APPLICATION: &str = "AP00000000000000000000000000000001";

#[test]
fn application_answers_by_a_call_of_its_own_inside_and_is_told_what_the_document_says() {
    for (attribute, to) in [("", "app:AP00000000000000000000000000000001"), (" copyParentTo=\"true\"", "+15551000000")]
    {
        let noun = format!(
            "<Application{attribute}><ApplicationSid>{APPLICATION}</ApplicationSid><Parameter name=\"Colour\" value=\"blue\"/></Application>"
        );
        let twiml: &'static str =
            Box::leak(format!("<Response><Dial action=\"/after\">{noun}</Dial></Response>").into_boxed_str());
        let mut world = World::new(1, move |asked| match asked.url.as_str() {
            "http://app/voice" => Says::Twiml(twiml),
            "http://app/application" => Says::Twiml("<Response><Say>hello</Say></Response>"),
            _ => Says::Twiml("<Response><Hangup/></Response>"),
        });
        world.add_application(APPLICATION, "http://app/application");
        world.call("+15551000000");
        world.run_for(Duration::from_secs(8));
        let asked = world.asked.iter().find(|asked| asked.url == "http://app/application").expect("the application");
        let told = ["To", "From", "ApplicationSid", "Colour", "Direction"].map(|name| asked.get(name));
        assert_eq!(told, [to, "+15559990000", APPLICATION, "blue", "inbound"]);
        let after = world.asked.iter().find(|asked| asked.url == "http://app/after").expect("the action");
        assert_eq!((after.get("DialCallStatus"), after.get("DialBridged")), ("completed", "true"));
        world.close_books();
    }
}

#[test]
fn application_that_is_not_there_fails_with_a_notice() {
    let mut world = dial(
        "<Response><Dial action=\"/after\"><Application>AP00000000000000000000000000000002</Application></Dial></Response>",
    );
    world.add_application(APPLICATION, "http://app/application");
    world.call("+15551000000");
    world.run_for(Duration::from_secs(2));
    world.close_books();
    let after = world.asked.iter().find(|asked| asked.url == "http://app/after").unwrap();
    assert_eq!(after.get("DialCallStatus"), "failed");
    assert_eq!(world.notices(), [13_223]);
}

#[test]
fn nobody_reachable_fails_at_once_with_a_notice() {
    for (noun, code) in [
        ("<Client>desk</Client>", 13_223),
        ("<Client>nobody</Client>", 13_223),
        ("<Sip>sip:x@10.0.0.1</Sip>", 13_223),
        ("<Sip>sip:x@nowhere.example</Sip>", 13_223),
        ("<Sip>sips:x@8.8.4.4</Sip>", 13_223),
        ("<Sip>sip:x@8.8.4.4;transport=tcp</Sip>", 13_223),
        ("<Sip>sip:x@[2001:4860:4860::8888]</Sip>", 13_223),
    ] {
        let twiml: &'static str =
            Box::leak(format!("<Response><Dial action=\"/after\">{noun}</Dial></Response>").into_boxed_str());
        let mut world = dial(twiml);
        world.call("+15551000000");
        world.run_for(Duration::from_secs(2));
        world.close_books();
        let after = world.asked.iter().find(|asked| asked.url == "http://app/after").unwrap();
        // A client who is nowhere does not answer.
        let status = if noun.starts_with("<Client") { "no-answer" } else { "failed" };
        assert_eq!(after.get("DialCallStatus"), status, "{noun}");
        assert!(world.sent("INVITE").is_empty());
        assert_eq!(world.notices(), [code], "{noun}");
    }
}

#[test]
fn threat_39_caller_id_must_be_the_accounts_own() {
    let mut world = dial("<Response><Dial callerId=\"+15558887777\" action=\"/after\">+15553334444</Dial></Response>");
    world.add_phone(CARRIER, Script::AnswerAtOnce);
    world.call("+15551000000");
    world.close_books();
    assert!(world.notices().contains(&13_214));
    assert!(world.sent("INVITE").is_empty());
}

#[test]
fn threat_23_sip_host_that_resolves_to_a_private_address_is_not_called() {
    let mut world = dial("<Response><Dial action=\"/after\"><Sip>sip:x@rebinding.example</Sip></Dial></Response>");
    world.zone.insert(Question::A("rebinding.example".into()), addresses(&["127.0.0.1", "10.0.0.1"]));
    world.call("+15551000000");
    world.close_books();
    assert!(world.sent("INVITE").is_empty());
    assert!(world.noticed().any(|notice| notice.text.contains("private")));
}

/// Dials somebody at `address` who challenges for `realms`; the trunk with credentials has `more` in its `[[trunk]]`.
fn challenged(more: &str, dial: &'static str, address: &str, realms: &'static [&'static str]) -> World {
    let trunk = format!(
        "[[trunk]]\naccount = \"{ACCOUNT}\"\nname = \"paid\"\nuri = \"sip:198.51.100.20\"\nprefixes = [\"+44\"]\n\
         username = \"us\"\npassword = \"secret\"\n{more}"
    );
    let mut world = World::with_config(1, &trunk, move |asked| match asked.url.as_str() {
        "http://app/voice" => Says::Twiml(dial),
        _ => Says::Twiml("<Response><Hangup/></Response>"),
    });
    world.add_phone(address, Script::Challenge(realms));
    world.call("+15551000000");
    world.run_for(Duration::from_secs(2));
    if !world.phones[0].dialogs.is_empty() {
        world.hang_up(0);
    }
    world.close_books();
    world
}

#[test]
fn trunk_that_challenges_is_answered_by_the_edge_that_goes_on_too() {
    let trunk = format!(
        "[[trunk]]\naccount = \"{ACCOUNT}\"\nname = \"paid\"\nuri = \"sip:198.51.100.20\"\nprefixes = [\"+44\"]\n\
         username = \"us\"\npassword = \"secret\"\n"
    );
    let mut world = World::with_config(1, &trunk, |_| Says::Twiml("<Response><Dial>+442071838750</Dial></Response>"));
    world.add_phone("198.51.100.20:5060", Script::Challenge(&["198.51.100.20"]));
    world.call("+15551000000");
    world.run_for(Duration::from_secs(2));
    assert_eq!(answered_realms(&world).len(), 1);
    world.restart_edge();
    world.run_for(Duration::from_secs(2));
    // It asks its peers whether they are there still.
    assert_eq!(answered_realms(&world).len(), 2, "the offer to the trunk");
    assert_eq!(world.core.calls().count(), 2, "both go on");
    world.hang_up(0);
    world.close_books();
}

/// The realms that the server answered.
fn answered_realms(world: &World) -> Vec<String> {
    let realm = |invite: &&dialtone_sip::msg::Message| {
        let auth = AuthParams::parse(invite.header(HeaderName::Authorization)?)?;
        auth.get("realm").map(str::to_owned)
    };
    world.sent("INVITE").iter().filter_map(realm).collect()
}

#[test]
fn threat_43_trunk_credentials_answer_the_realm_of_the_trunk_only() {
    const DIAL: &str = "<Response><Dial action=\"/after\">+442071838750</Dial></Response>";
    for (more, realms, answered) in [
        ("", &["198.51.100.20"][..], "198.51.100.20"),
        ("realm = \"carrier\"\n", &["other", "carrier"], "carrier"),
        ("realm = \"carrier\"\n", &["other"], ""),
        ("", &["other"], ""),
    ] {
        let world = challenged(more, DIAL, "198.51.100.20:5060", realms);
        let after = world.asked.iter().find(|asked| asked.url == "http://app/after").unwrap();
        let notices: Vec<&Notice> = world.noticed().collect();
        if answered.is_empty() {
            assert!(answered_realms(&world).is_empty(), "{more}{realms:?}");
            assert_eq!((after.get("DialCallStatus"), after.get("DialSipResponseCode")), ("failed", "401"));
            assert_eq!(notices.len(), 1, "{notices:?}");
            let text = &notices[0].text;
            assert!(notices[0].code == 32_011 && text.contains("set `realm = \"other\"`"), "{text}");
            assert!(text.contains("trunk paid") && !text.contains("secret"), "{text}");
        } else {
            assert_eq!(answered_realms(&world), [answered]);
            assert_eq!(after.get("DialCallStatus"), "completed");
            assert!(notices.is_empty(), "{notices:?}");
        }
    }
}

#[test]
fn credentials_of_a_document_answer_whichever_realm_its_uri_asks_for() {
    // Anywhere, and at a trunk, whose own would not be for this realm.
    for (dial, address) in [
        ("<Response><Dial><Sip username=\"me\" password=\"p\">sip:x@8.8.4.4</Sip></Dial></Response>", "8.8.4.4:5060"),
        (
            "<Response><Dial><Sip username=\"me\" password=\"p\">sip:x@198.51.100.20</Sip></Dial></Response>",
            "198.51.100.20:5060",
        ),
    ] {
        let world = challenged("", dial, address, &["anything"]);
        assert_eq!(answered_realms(&world), ["anything"], "{dial}");
        let invite = world.sent("INVITE").pop().unwrap();
        assert!(world::header(invite, HeaderName::Authorization).contains("username=\"me\""), "{dial}");
        assert!(world.notices().is_empty());
    }
}

#[test]
fn star_ends_the_dialled_leg_only_where_it_is_asked_for() {
    let mut world = dial("<Response><Dial hangupOnStar=\"true\" action=\"/after\">+15553334444</Dial></Response>");
    let callee = world.add_phone(CARRIER, Script::AnswerAtOnce);
    world.call("+15551000000");
    world.run_for(Duration::from_secs(2));
    world.press(0, '*');
    world.run_for(Duration::from_secs(1));
    assert!(matches!(world.saw(callee).last(), Some(Saw::Ended { .. })));
    world.close_books();
    assert_eq!(
        world.asked.iter().find(|asked| asked.url == "http://app/after").unwrap().get("DialCallStatus"),
        "completed"
    );
}

#[test]
fn call_that_is_ended_before_its_media_has_taken_the_answer_was_answered() {
    let mut world = World::new(21, |_| Says::Twiml("<Response><Dial>+15553334444</Dial></Response>"));
    world.worker_delay = Duration::from_millis(200);
    world.add_phone("198.51.100.9:5060", Script::AnswerAtOnce);
    world.call("+15551000000");
    while world.sent("ACK").is_empty() {
        world.run_for(Duration::from_millis(5));
    }
    world.hang_up(0);
    world.close_books();
    let child = world.records().into_iter().find(|record| record.parent.is_some()).expect("a child");
    assert_eq!(child.status, CallStatus::Completed);
    let answered =
        |event: &&dialtone::events::Event| event.call == child.sid && matches!(event.kind, EventKind::Answered);
    assert_eq!(world.events.iter().filter(answered).count(), 1, "it is told");
}
