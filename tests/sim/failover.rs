//! A media worker dies at every moment of every verb: nobody notices where a standby has its sockets, and where there is only
//! another machine every call that was answered goes on there. Whatever happens, the books balance.

use std::time::Duration;

use dialtone::events::{CallStatus, EventKind};

use crate::phone::{Saw, Script};
use crate::world::{Says, World};

/// Documents, and how long a call with them lasts: the last verb ends it, or the caller hangs up.
const DOCUMENTS: &[(&str, &str)] = &[
    ("Play", "<Response><Play>http://app/a.wav</Play><Play loop=\"2\">http://app/b.wav</Play></Response>"),
    ("Say", "<Response><Say>one</Say><Pause length=\"1\"/><Say>two</Say></Response>"),
    (
        "Gather",
        "<Response><Gather numDigits=\"2\" timeout=\"2\" action=\"/digits\"><Say>press</Say></Gather></Response>",
    ),
    (
        "Record",
        "<Response><Record maxLength=\"2\" timeout=\"0\" trim=\"do-not-trim\" action=\"/recorded\"/></Response>",
    ),
    ("Dial", "<Response><Dial action=\"/dialled\" timeLimit=\"2\">+15553334444</Dial></Response>"),
    (
        "Dial with record",
        "<Response><Dial action=\"/dialled\" timeLimit=\"2\" record=\"record-from-answer\">+15553334444</Dial></Response>",
    ),
    ("Conference", "<Response><Dial action=\"/left\" timeLimit=\"2\"><Conference>room</Conference></Dial></Response>"),
    ("Enqueue", "<Response><Enqueue action=\"/left\" waitUrl=\"/wait\">line</Enqueue></Response>"),
    ("Start", "<Response><Start><Recording/></Start><Pause length=\"2\"/></Response>"),
    ("Echo", "<Response><Echo/></Response>"),
];

fn world(document: &'static str) -> World {
    let mut world = World::new(11, move |asked| match asked.url.as_str() {
        "http://app/voice" => Says::Twiml(document),
        "http://app/wait" => Says::Twiml("<Response><Play>http://app/music.wav</Play></Response>"),
        _ => Says::Twiml("<Response><Hangup/></Response>"),
    });
    world.restarts = false;
    world.add_phone("198.51.100.9:5060", Script::Answer(Duration::from_millis(300)));
    world.call("+15551000000");
    world
}

/// What the application was asked and what of it depends on the call alone, in order.
fn story(world: &World) -> Vec<String> {
    let told = |asked: &crate::world::Asked| {
        let parts = ["Digits", "DialCallStatus", "QueueResult", "RecordingDuration", "CallStatus"];
        let values = parts.map(|part| format!("{part}={}", asked.get(part)));
        format!("{} {}", asked.url, values.join(" "))
    };
    world.asked.iter().map(told).collect()
}

/// Runs a call through, with what befalls it at that time.
fn run(document: &'static str, at: Duration, befalls: impl FnOnce(&mut World)) -> World {
    let mut world = world(document);
    let end = world.now + Duration::from_millis(4500);
    world.run_for(at);
    befalls(&mut world);
    // The digits come late enough for every death to be before them.
    let press_at = end.0.saturating_sub(world.now.0 + 2_800_000);
    world.run_for(Duration::from_micros(press_at));
    if document.contains("Gather") && !world.phones[0].dialogs.is_empty() {
        ['4', '2'].into_iter().for_each(|digit| world.press(0, digit));
    }
    world.run_until(end);
    if !world.phones[0].dialogs.is_empty() {
        world.hang_up(0);
    }
    world.close_books();
    world
}

#[test]
fn standby_takes_over_at_every_moment_of_every_verb_and_the_story_is_the_same() {
    for (verb, document) in DOCUMENTS {
        let undisturbed = run(document, Duration::ZERO, |_| {});
        assert!(undisturbed.asked.len() <= 8, "{verb}: {:?}", undisturbed.asked_urls());
        for ms in (5..1700).step_by(35) {
            let world = run(document, Duration::from_millis(ms), World::replace_worker);
            assert_eq!(story(&world), story(&undisturbed), "{verb}, worker dies after {ms} ms");
            let statuses = |world: &World| world.records().iter().map(|record| record.status).collect::<Vec<_>>();
            assert_eq!(statuses(&world), statuses(&undisturbed), "{verb} after {ms} ms");
            assert!(world.sent("INVITE").len() == undisturbed.sent("INVITE").len(), "{verb} after {ms} ms: re-INVITE");
        }
    }
}

#[test]
fn gap_in_a_recording_is_told() {
    for (document, wanted) in [
        ("<Response><Record maxLength=\"3\" timeout=\"0\" trim=\"do-not-trim\" action=\"/recorded\"/></Response>", 1),
        ("<Response><Echo/></Response>", 0),
    ] {
        let world = run(document, Duration::from_millis(1800), World::replace_worker);
        let told = world.noticed().filter(|notice| notice.text.contains("silence in the recording")).count();
        assert_eq!(told, wanted, "{document}: {:?}", world.notices());
    }
}

#[test]
fn machine_is_lost_at_every_moment_of_every_verb_and_answered_calls_go_on_at_another() {
    for (verb, document) in DOCUMENTS {
        let undisturbed = run(document, Duration::ZERO, |_| {});
        for ms in (5..1700).step_by(35) {
            let mut was_answered = 0;
            let world = run(document, Duration::from_millis(ms), |world| {
                let answered = |event: &&dialtone::events::Event| matches!(event.kind, EventKind::Answered);
                was_answered = world.events.iter().filter(answered).count();
                world.lose_machine();
            });
            let records = world.records();
            let completed = records.iter().filter(|record| record.status == CallStatus::Completed).count();
            assert!(completed >= was_answered, "{verb} after {ms} ms: {was_answered} were answered, {completed} kept");
            if was_answered == undisturbed.records().len() {
                assert_eq!(story(&world), story(&undisturbed), "{verb}, machine lost after {ms} ms");
            }
        }
    }
}

#[test]
fn parties_are_told_where_their_media_is_and_send_it_there() {
    let mut world = world("<Response><Echo/></Response>");
    world.run_for(Duration::from_secs(1));
    let before = world.session().legs().next().unwrap().negotiation().endpoint();
    world.lose_machine();
    world.run_for(Duration::from_secs(1));
    let leg = world.session().legs().next().unwrap();
    assert_ne!(leg.negotiation().endpoint().ip(), before.ip());
    let invites = world.sent("INVITE");
    let [invite] = &invites[..] else { panic!("{invites:?}") };
    let host = leg.negotiation().endpoint().ip().to_string();
    assert!(String::from_utf8_lossy(&invite.body()).contains(&format!("c=IN IP4 {host}")), "the offer names it");
    assert!(leg.can_send(), "the party's answer is in force");
    world.hang_up(0);
    world.close_books();
    assert_eq!(world.records()[0].status, CallStatus::Completed);
}

/// An echo whose machine is lost, while the party answers its re-INVITE so.
fn moved_while(status: u16) -> World {
    let mut world = world("<Response><Echo/></Response>");
    world.run_for(Duration::from_secs(1));
    world.phones[0].reoffer_status = Some(status);
    world.lose_machine();
    world
}

#[test]
fn party_that_refuses_the_new_address_is_hung_up() {
    let mut world = moved_while(488);
    world.run_for(Duration::from_secs(2));
    assert!(world.saw(0).iter().any(|saw| matches!(saw, Saw::Ended { .. })));
    world.close_books();
    assert_eq!(world.records().len(), 1);
}

#[test]
fn reoffers_that_cross_are_made_again() {
    let mut world = moved_while(491);
    world.phones[0].reoffer_status = None;
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.sent("INVITE").len(), 2, "once more, after a while (RFC 3261 s14.1)");
    assert!(world.session().legs().next().unwrap().can_send());
    world.hang_up(0);
    world.close_books();
    assert_eq!(world.records()[0].status, CallStatus::Completed);
}

#[test]
fn call_whose_dialog_the_party_has_forgotten_is_over() {
    let mut world = moved_while(481);
    world.close_books();
    assert_eq!(world.records().len(), 1);
}

#[test]
fn edge_starts_anew_at_every_moment_of_every_verb_and_answered_calls_go_on() {
    for (verb, document) in DOCUMENTS {
        let undisturbed = run(document, Duration::ZERO, |_| {});
        for ms in (5..1700).step_by(35) {
            let mut was_answered = 0;
            let world = run(document, Duration::from_millis(ms), |world| {
                let answered = |event: &&dialtone::events::Event| matches!(event.kind, EventKind::Answered);
                was_answered = world.events.iter().filter(answered).count();
                world.restart_edge();
            });
            let completed = world.records().iter().filter(|record| record.status == CallStatus::Completed).count();
            assert!(completed >= was_answered, "{verb} after {ms} ms: {was_answered} were answered, {completed} kept");
            // What was asked may be asked again, and is never left out.
            if was_answered == undisturbed.records().len() {
                let mut asked = story(&world);
                asked.dedup();
                let mut wanted = story(&undisturbed);
                wanted.dedup();
                assert_eq!(asked, wanted, "{verb}, edge dies after {ms} ms");
            }
        }
    }
}

#[test]
fn edge_that_starts_anew_again_and_again_has_its_calls_still() {
    let mut world = world("<Response><Echo/></Response>");
    world.run_for(Duration::from_secs(1));
    for _ in 0..3 {
        world.restart_edge();
        world.run_for(Duration::from_secs(20));
        assert_eq!(world.phones[0].dialogs.len(), 1, "{:?}", world.records());
    }
    world.hang_up(0);
    world.close_books();
    assert_eq!(world.records()[0].status, CallStatus::Completed);
}

#[test]
fn peers_are_asked_whether_they_are_there_and_one_that_is_not_is_over() {
    let mut world = world("<Response><Echo/></Response>");
    world.run_for(Duration::from_secs(1));
    world.restart_edge();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.sent("INVITE").len(), 1, "a re-INVITE that changes nothing");
    assert!(world.session().legs().next().unwrap().can_send());
    world.phones[0].reoffer_status = Some(481);
    world.restart_edge();
    world.close_books();
    assert_eq!(world.records().len(), 1);
}

#[test]
fn party_hangs_up_after_the_edge_has_started_anew_and_is_answered() {
    let mut world = world("<Response><Dial>+15553334444</Dial></Response>");
    world.run_for(Duration::from_secs(2));
    world.restart_edge();
    world.run_for(Duration::from_secs(1));
    world.hang_up(0);
    world.close_books();
    let statuses: Vec<CallStatus> = world.records().iter().map(|record| record.status).collect();
    assert_eq!(statuses, [CallStatus::Completed; 2]);
    assert!(world.saw(1).iter().any(|saw| matches!(saw, Saw::Ended { .. })), "the callee is hung up");
}
