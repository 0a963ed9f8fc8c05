//! Conferences: who is in one, when it begins and ends, what is told of it, and that nothing of it is left.

use std::time::Duration;

use dialtone::call::ParticipantChange;
use dialtone::events::{ConferenceFact, ConferenceStatus, EventKind, RecordingStatus};
use dialtone::ids::{CallSid, ConferenceSid};
use dialtone::shard::{ConferenceChange, ConferenceChanged};
use dialtone::twiml::{Endpoint, Method};

use crate::world::{Says, World};

const NUMBER: &str = "+15551000000";

/// Each call to the number runs the next of these documents.
fn world(documents: &[&'static str]) -> World {
    let documents = documents.to_vec();
    let mut next = documents.into_iter().cycle();
    let mut world = World::new(3, move |asked| match asked.url.as_str() {
        "http://app/voice" => Says::Twiml(next.next().expect("it goes round")),
        "http://app/wait" => Says::Twiml("<Response><Play>http://app/music.wav</Play></Response>"),
        "http://app/news" => Says::Twiml("<Response><Say>hello all</Say></Response>"),
        "http://app/broken" => Says::Fails(11_200),
        _ => Says::Twiml("<Response><Pause length=\"3\"/></Response>"),
    });
    world.restarts = true;
    world
}

fn facts(world: &World) -> Vec<(CallSid, &ConferenceFact)> {
    let facts = world.events.iter().filter_map(|event| match &event.kind {
        EventKind::Conference(fact) => Some((event.call, fact.as_ref())),
        _ => None,
    });
    facts.collect()
}

fn steps(world: &World) -> Vec<&'static str> {
    facts(world).iter().map(|(_, fact)| fact.step.as_str()).collect()
}

fn conference(world: &World) -> ConferenceSid {
    facts(world).last().expect("there is a conference").1.sid
}

fn call(world: &mut World) -> usize {
    let phone = world.add_caller();
    world.call_from(phone, NUMBER);
    world.run_for(Duration::from_secs(2));
    phone
}

fn change(world: &mut World, name: &str, change: ParticipantChange) -> ConferenceChanged {
    let sid = conference(world);
    let name = name.to_owned();
    world.change_conference(sid, ConferenceChange::Participant { name, change })
}

const PLAIN: &str = "<Response><Dial action=\"/after\"><Conference statusCallback=\"/cb\" \
                     statusCallbackEvent=\"start end join leave mute hold modify\">room</Conference></Dial></Response>";

#[test]
fn begins_with_two_and_ends_with_the_last() {
    let mut world = world(&[PLAIN]);
    let first = call(&mut world);
    assert_eq!(steps(&world), ["participant-join"]);
    assert_eq!(facts(&world)[0].1.status, ConferenceStatus::Init);
    let second = call(&mut world);
    assert_eq!(steps(&world)[1..], ["participant-join", "conference-start"]);
    assert_eq!(world.sessions(), 3, "one of each call, and the conference's");
    world.hang_up(first);
    world.run_for(Duration::from_secs(2));
    world.hang_up(second);
    world.run_for(Duration::from_secs(2));
    assert_eq!(steps(&world)[3..], ["participant-leave", "participant-leave", "conference-end"]);
    let facts = facts(&world);
    assert_eq!(facts.iter().map(|(_, fact)| fact.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(facts.iter().all(|(_, fact)| fact.sid == facts[0].1.sid && fact.name == "room"));
    assert!(facts.iter().all(|(_, fact)| fact.callback.as_ref().is_some_and(|to| to.url == "http://app/cb")));
    let reasons: Vec<_> = facts[3..].iter().map(|(_, fact)| fact.reason.as_ref().map(|why| why.as_str())).collect();
    assert_eq!(reasons, [Some("participant_hung_up"), Some("participant_hung_up"), Some("last-participant-left")]);
    // Its actions are owed, with how long each was in.
    let after: Vec<_> = world.asked.iter().filter(|asked| asked.url == "http://app/after").collect();
    assert_eq!(after.len(), 2);
    assert_eq!((after[0].get("DialCallStatus"), after[0].get("DialCallDuration")), ("answered", ""));
    assert_eq!(after[1].get("ConferenceSid"), facts[0].1.sid.to_string());
    world.close_books();
}

#[test]
fn nobody_begins_it_but_who_may_and_its_leaving_may_end_it() {
    let guest = "<Response><Dial action=\"/after\"><Conference startConferenceOnEnter=\"false\" \
                 waitUrl=\"/wait\">room</Conference></Dial></Response>";
    let host = "<Response><Dial><Conference endConferenceOnExit=\"true\">room</Conference></Dial></Response>";
    let mut world = world(&[guest, guest, host]);
    call(&mut world);
    call(&mut world);
    assert_eq!(steps(&world), ["participant-join", "participant-join"]);
    assert!(world.asked_urls().contains(&"http://app/wait"), "they wait with music");
    let waited = world.asked.iter().find(|asked| asked.url == "http://app/wait").unwrap();
    assert_eq!(
        (waited.get("FriendlyName"), waited.get("ConferenceSid")),
        ("room", conference(&world).to_string().as_str())
    );
    let host = call(&mut world);
    assert_eq!(steps(&world)[2..], ["participant-join", "conference-start"]);
    world.hang_up(host);
    world.run_for(Duration::from_secs(1));
    let ended = ["participant-leave", "participant-leave", "participant-leave", "conference-end"];
    assert_eq!(steps(&world)[4..], ended);
    // Their documents go on.
    assert_eq!(world.asked.iter().filter(|asked| asked.url == "http://app/after").count(), 2);
    assert_eq!(world.core.calls().count(), 2);
    world.close_books();
}

#[test]
fn music_goes_round_until_it_begins() {
    let guest = "<Response><Dial><Conference waitUrl=\"/wait\">room</Conference></Dial></Response>";
    let mut world = world(&[guest]);
    let first = call(&mut world);
    world.run_for(Duration::from_secs(10));
    // A second of music, and the time to ask for it again.
    let rounds = world.asked_urls().iter().filter(|url| **url == "http://app/wait").count();
    assert!((6..=12).contains(&rounds), "{rounds} rounds");
    let second = call(&mut world);
    let before = world.asked_urls().len();
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.asked_urls().len(), before, "it has begun");
    world.hang_up(first);
    world.hang_up(second);
    world.close_books();
}

#[test]
fn who_waits_hears_its_own_music_and_that_may_be_changed() {
    let first = "<Response><Dial><Conference startConferenceOnEnter=\"false\" participantLabel=\"anna\" \
                 waitUrl=\"/wait\">room</Conference></Dial></Response>";
    let second = "<Response><Dial><Conference startConferenceOnEnter=\"false\" participantLabel=\"bert\" \
                  waitUrl=\"/other\">room</Conference></Dial></Response>";
    let host = "<Response><Dial><Conference>room</Conference></Dial></Response>";
    let mut world = world(&[first, second, host]);
    let asked = |world: &World, url: &str| world.asked_urls().iter().filter(|asked| **asked == url).count();
    call(&mut world);
    call(&mut world);
    assert!(asked(&world, "http://app/wait") > 0 && asked(&world, "http://app/other") > 0);
    let silence = ParticipantChange { wait: Some(None), ..Default::default() };
    change(&mut world, "anna", silence);
    let news = Endpoint { url: "http://app/news".into(), method: Method::Get };
    change(&mut world, "bert", ParticipantChange { wait: Some(Some(news)), ..Default::default() });
    let before = [asked(&world, "http://app/wait"), asked(&world, "http://app/other")];
    world.run_for(Duration::from_secs(8));
    assert_eq!([asked(&world, "http://app/wait"), asked(&world, "http://app/other")], before, "nobody hears it now");
    assert!(asked(&world, "http://app/news") >= 2, "it goes round");
    assert_eq!(steps(&world).len(), 2, "no change that others are told of");
    // On hold there is other music; afterwards what one waits with.
    change(&mut world, "bert", ParticipantChange { hold: Some(true), ..Default::default() });
    let before = asked(&world, "http://app/news");
    world.run_for(Duration::from_secs(8));
    assert_eq!(asked(&world, "http://app/news"), before);
    change(&mut world, "bert", ParticipantChange { hold: Some(false), ..Default::default() });
    world.run_for(Duration::from_secs(3));
    assert!(asked(&world, "http://app/news") > before);
    call(&mut world);
    let before = asked(&world, "http://app/news");
    world.run_for(Duration::from_secs(8));
    assert_eq!(asked(&world, "http://app/news"), before, "it has begun");
    let sid = conference(&world);
    world.change_conference(sid, ConferenceChange::End);
    world.run_for(Duration::from_secs(2));
    world.close_books();
}

#[test]
fn members_are_changed_and_removed_from_outside() {
    let first =
        "<Response><Dial action=\"/after\"><Conference participantLabel=\"anna\">room</Conference></Dial></Response>";
    let second = "<Response><Dial><Conference participantLabel=\"bert\">room</Conference></Dial></Response>";
    let mut world = world(&[first, second]);
    call(&mut world);
    call(&mut world);
    let anna = facts(&world)[0].0;
    let muted = change(&mut world, "anna", ParticipantChange { muted: Some(true), ..Default::default() });
    assert!(matches!(&muted, ConferenceChanged::Participant(member) if member.muted && member.label == "anna"));
    // Nothing new, nothing told.
    change(&mut world, &anna.to_string(), ParticipantChange { muted: Some(true), ..Default::default() });
    let hold = Endpoint { url: "http://app/wait".into(), method: Method::Post };
    let held = ParticipantChange { hold: Some(true), hold_document: Some(hold), ..Default::default() };
    change(&mut world, "bert", held);
    world.run_for(Duration::from_secs(1));
    assert!(world.asked_urls().contains(&"http://app/wait"), "music of the customer's");
    let bert = facts(&world)[1].0;
    let back = ParticipantChange { hold: Some(false), end_on_exit: Some(true), ..Default::default() };
    change(&mut world, "bert", back);
    change(&mut world, "anna", ParticipantChange { coach: Some(Some(bert)), ..Default::default() });
    let told =
        ["participant-mute", "participant-hold", "participant-unhold", "participant-modify", "participant-modify"];
    assert_eq!(steps(&world)[3..], told);
    assert_eq!(facts(&world).last().unwrap().1.participant.as_ref().unwrap().coach, Some(bert));
    assert_eq!(change(&mut world, "nobody", ParticipantChange::default()), ConferenceChanged::NotInIt);
    change(&mut world, "anna", ParticipantChange { remove: true, ..Default::default() });
    world.run_for(Duration::from_secs(1));
    assert_eq!(steps(&world)[8..], ["participant-leave"]);
    assert_eq!(facts(&world)[8].1.reason.as_ref().map(|why| why.as_str()), Some("participant_kicked"));
    assert!(world.asked_urls().contains(&"http://app/after"), "its document goes on");
    let sid = conference(&world);
    assert_eq!(world.change_conference(sid, ConferenceChange::End), ConferenceChanged::Done);
    assert_eq!(world.change_conference(sid, ConferenceChange::End), ConferenceChanged::NoConference);
    world.run_for(Duration::from_secs(1));
    assert_eq!(steps(&world)[9..], ["participant-leave", "conference-end"]);
    world.close_books();
}

#[test]
fn announcements_are_told_when_they_are_over_or_failed() {
    let document = "<Response><Dial><Conference statusCallback=\"/cb\" statusCallbackEvent=\"announcement\">room</Conference>\
                    </Dial></Response>";
    let mut world = world(&[document]);
    call(&mut world);
    call(&mut world);
    let news = |url: &str| Endpoint { url: url.into(), method: Method::Post };
    let sid = conference(&world);
    world.change_conference(sid, ConferenceChange::Announce(news("http://app/news")));
    world.run_for(Duration::from_secs(3));
    let to_one = ParticipantChange { announce: Some(news("http://app/broken")), ..Default::default() };
    let name = facts(&world)[1].0.to_string();
    change(&mut world, &name, to_one);
    world.run_for(Duration::from_secs(3));
    assert_eq!(steps(&world)[3..], ["announcement-end", "announcement-fail"]);
    let told = facts(&world);
    assert!(told[3].1.callback.is_some() && told[0].1.callback.is_none(), "only what was asked for");
    assert_eq!(told[4].1.reason.as_ref().map(|why| why.as_str()), Some("http://app/broken"));
    assert_eq!(world.notices(), [11_200], "and the customer may read why");
    world.end_all();
    world.close_books();
}

#[test]
fn one_too_many_is_refused_and_its_document_goes_on() {
    let document =
        "<Response><Dial action=\"/after\"><Conference maxParticipants=\"2\">room</Conference></Dial></Response>";
    let mut world = world(&[document]);
    call(&mut world);
    call(&mut world);
    call(&mut world);
    assert_eq!(steps(&world).iter().filter(|step| **step == "participant-join").count(), 2);
    let after = world.asked.iter().find(|asked| asked.url == "http://app/after").expect("the action of the third");
    assert_eq!(after.get("DialCallStatus"), "failed");
    world.end_all();
    world.close_books();
}

#[test]
fn conference_is_recorded_from_its_beginning_to_its_end() {
    let document = "<Response><Dial><Conference record=\"record-from-start\" trim=\"do-not-trim\">room</Conference></Dial></Response>";
    let mut world = world(&[document]);
    let first = call(&mut world);
    world.run_for(Duration::from_secs(5));
    let second = call(&mut world);
    world.run_for(Duration::from_secs(6));
    world.hang_up(first);
    world.hang_up(second);
    world.run_for(Duration::from_secs(2));
    let recordings: Vec<_> = world
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Recording(fact) => Some(fact.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(recordings.len(), 2);
    let ended = &recordings[1];
    assert_eq!((ended.status, ended.conference), (RecordingStatus::Completed, Some(conference(&world))));
    assert!((7_500..8_800).contains(&ended.duration_ms), "{} ms", ended.duration_ms);
    world.close_books();
}

#[test]
fn name_belongs_to_its_account_and_is_free_again_when_it_is_over() {
    let mut world = world(&[PLAIN]);
    let first = call(&mut world);
    let before = conference(&world);
    world.hang_up(first);
    let second = call(&mut world);
    assert_ne!(conference(&world), before);
    world.hang_up(second);
    world.close_books();
}

#[test]
fn lost_media_ends_it_and_every_call_goes() {
    let mut world = world(&[PLAIN]);
    call(&mut world);
    call(&mut world);
    world.lose_media();
    world.run_for(Duration::from_secs(3));
    assert_eq!(steps(&world).last(), Some(&"conference-end"));
    world.close_books();
}
