//! Media streams: who may have one, what becomes of it, and that nothing of it is left.

use std::time::Duration;

use dialtone::call::{StreamChange, StreamEvent, Update};
use dialtone::concurrency::Resource;
use dialtone::edges::EdgeId;
use dialtone::events::{EventKind, StreamStep};
use dialtone::ids::StreamSid;
use dialtone::twiml::{Notice, RecordingTrack, StreamSpec};

use crate::phone::Saw;
use crate::world::{Says, SharedHot, World};

const NUMBER: &str = "+15551000000";
const CONNECT: &str =
    "<Response><Connect><Stream url=\"wss://app/media\"/></Connect><Redirect>/after</Redirect></Response>";

fn world(limits: &str, document: &'static str) -> World {
    world_of(6, limits, document)
}

fn world_of(seed: u64, limits: &str, document: &'static str) -> World {
    World::with_config(seed, &format!("own_limits = {limits}"), move |asked| match asked.url.as_str() {
        "http://app/voice" => Says::Twiml(document),
        _ => Says::Twiml("<Response><Hangup/></Response>"),
    })
}

fn second(world: &mut World) {
    world.run_for(Duration::from_secs(1));
}

/// The steps that were told of streams.
fn steps(world: &World) -> Vec<StreamStep> {
    let told = world.events.iter().filter_map(|event| match &event.kind {
        EventKind::Stream(fact) => Some(fact.step),
        _ => None,
    });
    told.collect()
}

fn one(world: &World) -> StreamSid {
    assert_eq!(world.streams.len(), 1, "{:?}", world.streams);
    *world.streams.keys().next().unwrap()
}

#[test]
fn one_too_many_is_refused_and_a_place_is_free_when_one_is_over() {
    let mut world = world("{ streams = 2 }", CONNECT);
    let callers: Vec<usize> = (0..4).map(|_| world.add_caller()).collect();
    for caller in &callers[..3] {
        world.call_from(*caller, NUMBER);
        second(&mut world);
    }
    assert_eq!((world.held(Resource::Streams), world.streams.len()), (2, 2));
    assert_eq!(world.notices(), [10_004]);
    assert!(matches!(world.saw(callers[2]).last(), Some(Saw::Ended { .. })), "its document went on");
    world.hang_up(callers[0]);
    second(&mut world);
    assert_eq!(world.held(Resource::Streams), 1);
    world.call_from(callers[3], NUMBER);
    second(&mut world);
    assert_eq!((world.held(Resource::Streams), world.streams.len()), (2, 2));
    world.hang_up(callers[1]);
    world.hang_up(callers[3]);
    world.close_books();
    assert_eq!(world.held(Resource::Streams), 0);
    let count = |step| steps(&world).into_iter().filter(|it| *it == step).count();
    assert_eq!([StreamStep::Started, StreamStep::Stopped, StreamStep::Error].map(count), [3, 3, 1]);
}

#[test]
fn edges_that_share_a_limit_have_no_more_together() {
    let hot = SharedHot::default();
    let mut worlds = [(31, "left"), (32, "right")].map(|(seed, node)| {
        let edge = EdgeId { node: node.into(), epoch: 1 };
        let mut world = world_of(seed, "{ streams = 2 }", CONNECT).join(edge, hot.clone());
        world.restarts = false;
        world
    });
    let [left, right] = &mut worlds;
    let callers: Vec<usize> = (0..2).map(|_| left.add_caller()).collect();
    left.call_from(callers[0], NUMBER);
    second(left);
    let third = right.add_caller();
    right.call_from(third, NUMBER);
    second(right);
    left.call_from(callers[1], NUMBER);
    second(left);
    assert_eq!((left.streams.len(), right.streams.len()), (1, 1));
    assert_eq!((left.notices(), right.notices()), (vec![10_004], vec![]));
    right.hang_up(third);
    second(right);
    // Who leaves while the store is asked holds nothing afterwards.
    let hasty = left.add_caller();
    left.call_from(hasty, NUMBER);
    left.run_for(Duration::from_millis(30));
    left.hang_up(hasty);
    left.hang_up(callers[0]);
    left.close_books();
    right.close_books();
    assert_eq!((left.held(Resource::Streams), right.held(Resource::Streams)), (0, 0));
}

#[test]
fn document_goes_on_when_the_application_leaves_or_its_connection_breaks() {
    for (event, last) in [
        (StreamEvent::Closed, StreamStep::Stopped),
        (StreamEvent::Failed(Notice::error(31_921, "broke")), StreamStep::Error),
    ] {
        let mut world = world("{ streams = 1 }", CONNECT);
        let caller = world.add_caller();
        world.call_from(caller, NUMBER);
        second(&mut world);
        let sid = one(&world);
        world.stream_event(sid, event);
        world.close_books();
        assert_eq!(world.asked_urls(), ["http://app/voice", "http://app/after"]);
        assert_eq!(steps(&world), [StreamStep::Started, last]);
        assert_eq!(world.held(Resource::Streams), 0);
    }
}

#[test]
fn stream_that_does_not_come_about_takes_no_place() {
    let document = "<Response><Connect><Stream url=\"ws://refuses/\"/></Connect><Redirect>/after</Redirect></Response>";
    let mut world = world("{ streams = 1 }", document);
    let caller = world.add_caller();
    world.call_from(caller, NUMBER);
    world.close_books();
    assert_eq!((world.notices(), steps(&world)), (vec![31_920], vec![StreamStep::Error]));
    assert_eq!(world.asked_urls(), ["http://app/voice", "http://app/after"]);
    assert_eq!(world.held(Resource::Streams), 0);
}

#[test]
fn what_start_begins_goes_on_beside_the_document_and_ends_with_stop_or_the_call() {
    for (stop, document) in [
        (
            true,
            "<Response><Start><Stream url=\"wss://app/a\" name=\"a\"/></Start><Pause length=\"2\"/><Stop><Stream name=\"a\"/></Stop><Pause length=\"9\"/></Response>",
        ),
        (false, "<Response><Start><Stream url=\"wss://app/a\" name=\"a\"/></Start><Pause length=\"9\"/></Response>"),
    ] {
        let mut world = world("{ streams = 1 }", document);
        let caller = world.add_caller();
        world.call_from(caller, NUMBER);
        second(&mut world);
        one(&world);
        second(&mut world);
        second(&mut world);
        assert_eq!(world.streams.is_empty(), stop);
        world.hang_up(caller);
        world.close_books();
        assert_eq!(steps(&world), [StreamStep::Started, StreamStep::Stopped]);
        assert_eq!(world.held(Resource::Streams), 0);
    }
}

#[test]
fn edge_that_starts_anew_makes_the_connection_again_and_tells_of_no_second_stream() {
    let mut world = world("{ streams = 1 }", CONNECT);
    let caller = world.add_caller();
    world.call_from(caller, NUMBER);
    second(&mut world);
    let sid = one(&world);
    world.restart_edge();
    second(&mut world);
    assert_eq!(one(&world), sid, "the same stream");
    assert!(world.streams[&sid].order.is_again);
    assert_eq!(world.held(Resource::Streams), 1);
    assert_eq!(steps(&world), [StreamStep::Started, StreamStep::Resumed]);
    world.hang_up(caller);
    world.close_books();
    assert_eq!(world.held(Resource::Streams), 0);
}

#[test]
fn api_begins_four_of_a_call_at_most_and_stops_one_by_its_name() {
    let mut world = world("{ streams = 9 }", "<Response><Echo/></Response>");
    let caller = world.add_caller();
    world.call_from(caller, NUMBER);
    second(&mut world);
    let call = world.events[0].call;
    let change = |change| Update { stream: Some(Box::new(change)), ..Update::default() };
    let start = |number: u128| {
        let (name, url) = (Some(format!("n{number}")), "wss://app/m".to_owned());
        let spec = StreamSpec { url, name, track: RecordingTrack::Both, player: None, params: vec![], callback: None };
        change(StreamChange::Start { sid: StreamSid::new(number), spec })
    };
    for number in 1..=4 {
        assert!(world.update(call, start(number)), "{number}");
        second(&mut world);
    }
    assert!(!world.update(call, start(5)), "one too many");
    assert_eq!(world.held(Resource::Streams), 4);
    assert!(world.update(call, change(StreamChange::Stop("n2".into()))));
    assert!(!world.update(call, change(StreamChange::Stop("n2".into()))), "it is over");
    assert!(!world.update(call, start(1)), "its name is taken");
    assert_eq!((world.held(Resource::Streams), world.streams.len()), (3, 3));
    world.hang_up(caller);
    world.close_books();
    assert_eq!(world.held(Resource::Streams), 0);
}

#[test]
fn key_is_told_to_the_stream_of_connect() {
    let mut world = world("{}", CONNECT);
    let caller = world.add_caller();
    world.call_from(caller, NUMBER);
    second(&mut world);
    let sid = one(&world);
    world.press(caller, '7');
    second(&mut world);
    assert_eq!(world.told_streams, [(sid, '7')]);
    world.stream_event(sid, StreamEvent::Closed);
    world.close_books();
}
