//! Queues: who waits, what it hears and is told meanwhile, who takes it, and how each side learns of the end.

use std::time::Duration;

use dialtone::call::Update;
use dialtone::events::{EventKind, QueueStep};
use dialtone::ids::CallSid;
use dialtone::twiml::{AtEnd, DocumentSource, Endpoint, Method, NewDocument};

use crate::world::{Asked, Says, World};

const NUMBER: &str = "+15551000000";

/// Each call to the number runs the next of these documents; `wait` plays to those who wait.
fn world(documents: &[&'static str], wait: &'static str) -> World {
    let documents = documents.to_vec();
    let mut next = documents.into_iter().cycle();
    let mut world = World::new(5, move |asked| match asked.url.as_str() {
        "http://app/voice" => Says::Twiml(next.next().expect("it goes round")),
        "http://app/wait" => Says::Twiml(wait),
        "http://app/whisper" => Says::Twiml("<Response><Say>you are next</Say></Response>"),
        _ => Says::Twiml("<Response><Pause length=\"3\"/></Response>"),
    });
    world.restarts = true;
    world
}

const MUSIC: &str = "<Response><Play>http://app/music.wav</Play></Response>";
const WAITS: &str = "<Response><Enqueue action=\"/after\" waitUrl=\"/wait\">support</Enqueue></Response>";
const TAKES: &str = "<Response><Dial action=\"/served\" timeout=\"30\"><Queue>support</Queue></Dial></Response>";

fn call(world: &mut World) -> usize {
    let phone = world.add_caller();
    world.call_from(phone, NUMBER);
    world.run_for(Duration::from_secs(2));
    phone
}

fn asked<'a>(world: &'a World, url: &str) -> Vec<&'a Asked> {
    world.asked.iter().filter(|asked| asked.url == url).collect()
}

/// Who came and went, by the number of its call in the order in which they came.
fn steps(world: &World) -> Vec<(CallSid, QueueStep)> {
    let facts = world.events.iter().filter_map(|event| match &event.kind {
        EventKind::Queue(fact) => Some((event.call, fact.step)),
        _ => None,
    });
    facts.collect()
}

#[test]
fn first_in_is_first_out_and_each_is_told_how_it_stands() {
    let mut world = world(&[WAITS, WAITS, TAKES], MUSIC);
    let first = call(&mut world);
    world.run_for(Duration::from_secs(3));
    call(&mut world);
    let told = asked(&world, "http://app/wait");
    let stands = |asked: &Asked| {
        ["QueuePosition", "CurrentQueueSize", "QueueTime"].map(|name| asked.get(name).to_owned()).join(" ")
    };
    assert_eq!(stands(told[0]), "1 1 0");
    assert!(told.iter().any(|asked| stands(asked).starts_with("1 1 3")), "again, and later");
    assert!(told.iter().any(|asked| stands(asked) == "2 2 0"), "the second");
    let sid = told[0].get("QueueSid").to_owned();
    assert!(sid.starts_with("QU") && told.iter().all(|asked| asked.get("QueueSid") == sid));
    let taker = call(&mut world);
    // The first is joined: it hears its music no more, and the other has moved up.
    let before = asked(&world, "http://app/wait").len();
    world.run_for(Duration::from_secs(4));
    let after = &asked(&world, "http://app/wait")[before..];
    assert!(!after.is_empty() && after.iter().all(|asked| stands(asked).starts_with("1 1 ")), "{after:?}");
    world.hang_up(first);
    world.run_for(Duration::from_secs(1));
    let action = asked(&world, "http://app/after")[0];
    assert_eq!((action.get("QueueResult"), action.get("QueueSid")), ("bridged", sid.as_str()));
    let waited: u64 = action.get("QueueTime").parse().unwrap();
    assert!((6..=8).contains(&waited), "{waited}");
    let served = asked(&world, "http://app/served")[0];
    assert_eq!((served.get("DialCallStatus"), served.get("DialBridged")), ("completed", "true"));
    assert!(served.get("DialCallSid").starts_with("CA"));
    assert!((4..=6).contains(&served.get("DialCallDuration").parse().unwrap()));
    world.hang_up(taker);
    world.end_all();
    world.close_books();
}

#[test]
fn who_takes_waits_for_the_next_and_its_leaving_sends_the_member_on() {
    let mut world = world(&[TAKES, WAITS], MUSIC);
    let taker = call(&mut world);
    assert!(asked(&world, "http://app/served").is_empty(), "nobody waits: it does");
    call(&mut world);
    world.run_for(Duration::from_secs(2));
    world.hang_up(taker);
    world.run_for(Duration::from_secs(1));
    let action = asked(&world, "http://app/after")[0];
    assert_eq!((action.get("QueueResult"), action.get("QueueTime")), ("bridged", "0"));
    assert_eq!(world.core.calls().count(), 1, "its document goes on");
    world.close_books();
}

#[test]
fn taker_gives_up_when_nobody_comes() {
    let mut world = world(&[TAKES], MUSIC);
    call(&mut world);
    world.run_for(Duration::from_secs(31));
    assert_eq!(asked(&world, "http://app/served")[0].get("DialCallStatus"), "no-answer");
    world.close_books();
}

#[test]
fn whisper_is_heard_before_the_two_are_joined() {
    let takes = "<Response><Dial action=\"/served\"><Queue url=\"/whisper\">support</Queue></Dial></Response>";
    let mut world = world(&[WAITS, takes], MUSIC);
    let member = call(&mut world);
    let taker = call(&mut world);
    let whisper = asked(&world, "http://app/whisper")[0];
    assert!(whisper.get("DequeingCallSid").starts_with("CA") && whisper.get("QueueSid").starts_with("QU"));
    assert_eq!(whisper.get("QueueTime"), "2");
    world.run_for(Duration::from_secs(3));
    world.hang_up(member);
    world.run_for(Duration::from_secs(1));
    assert_eq!(asked(&world, "http://app/served")[0].get("DialBridged"), "true");
    world.hang_up(taker);
    world.close_books();
}

#[test]
fn member_leaves_by_its_document_or_hangs_up() {
    let leaves = "<Response><Play>http://app/music.wav</Play><Leave/></Response>";
    let mut left = world(&[WAITS], leaves);
    call(&mut left);
    left.run_for(Duration::from_secs(1));
    assert_eq!(asked(&left, "http://app/after")[0].get("QueueResult"), "leave");
    assert_eq!(steps(&left).iter().map(|(_, step)| *step).collect::<Vec<_>>(), [QueueStep::Entered, QueueStep::Left]);
    left.close_books();

    let mut gone = world(&[WAITS], MUSIC);
    let phone = call(&mut gone);
    gone.hang_up(phone);
    gone.run_for(Duration::from_secs(1));
    assert_eq!(asked(&gone, "http://app/after")[0].get("QueueResult"), "hangup");
    gone.close_books();
}

#[test]
fn keys_of_one_who_waits_reach_its_own_program() {
    let menu =
        "<Response><Gather numDigits=\"1\" action=\"/pressed\"><Play>http://app/music.wav</Play></Gather></Response>";
    let mut world = world(&[WAITS], menu);
    let phone = call(&mut world);
    world.press(phone, '7');
    world.run_for(Duration::from_secs(1));
    let pressed = asked(&world, "http://app/pressed")[0];
    assert_eq!((pressed.get("Digits"), pressed.get("QueuePosition")), ("7", "1"));
    assert_eq!(steps(&world).len(), 1, "it waits still");
    world.end_all();
    world.close_books();
}

#[test]
fn full_queue_is_told_and_the_document_goes_on() {
    let small = "<Response><Enqueue action=\"/after\" maxQueueSize=\"1\" waitUrl=\"/wait\">small</Enqueue></Response>";
    let mut world = world(&[small], MUSIC);
    call(&mut world);
    call(&mut world);
    assert_eq!(asked(&world, "http://app/after")[0].get("QueueResult"), "queue-full");
    world.end_all();
    world.close_books();
}

#[test]
fn change_from_outside_takes_a_member_out() {
    let mut world = world(&[WAITS], MUSIC);
    call(&mut world);
    let member = steps(&world)[0].0;
    let other = Endpoint { url: "http://app/elsewhere".into(), method: Method::Post };
    let document = NewDocument { source: DocumentSource::Url(other), fallback: None, at_end: AtEnd::HangUp };
    assert!(world.update(member, Update { document: Some(document), ..Update::default() }));
    world.run_for(Duration::from_secs(1));
    assert!(world.asked_urls().contains(&"http://app/elsewhere"));
    assert_eq!(asked(&world, "http://app/after")[0].get("QueueResult"), "redirected");
    assert_eq!(steps(&world).len(), 2);
    world.close_books();
}

#[test]
fn silence_and_an_application_that_is_away_are_waited_out() {
    let silent = "<Response><Enqueue waitUrl=\"\">support</Enqueue></Response>";
    let mut quiet = world(&[silent, TAKES], MUSIC);
    call(&mut quiet);
    quiet.run_for(Duration::from_secs(20));
    assert_eq!(steps(&quiet).len(), 1);
    call(&mut quiet);
    assert_eq!(steps(&quiet).len(), 2, "taken all the same");
    quiet.end_all();
    quiet.close_books();

    let mut broken = world(&[WAITS], "this is no document");
    call(&mut broken);
    broken.run_for(Duration::from_secs(30));
    let tries = asked(&broken, "http://app/wait").len();
    assert!((5..=8).contains(&tries), "{tries}: again, and not all the time");
    assert_eq!(steps(&broken).len(), 1, "it waits still");
    broken.end_all();
    broken.close_books();
}
