//! Re-INVITEs of the peer: taken, refused, and taken back before they are answered.

use std::time::Duration;

use bytes::Bytes;
use dialtone::events::{CallStatus, EventKind};

use crate::phone::Saw;
use crate::world::{Says, World};

const HERE: &str = "198.51.100.8:40000";
const ELSEWHERE: &str = "198.51.100.8:41000";

/// A caller who hears something without end, and a worker that is far away from now on.
fn listening() -> World {
    let mut world = World::new(1, |_| Says::Twiml("<Response><Play loop=\"0\">http://app/music.wav</Play></Response>"));
    world.call("+15551000000");
    world.run_for(Duration::from_secs(2));
    world.worker_delay = Duration::from_millis(500);
    world
}

/// The caller's own offer with something else in it.
fn offer(world: &World, from: &str, to: &str) -> Bytes {
    let sdp = String::from_utf8(world.phones[0].sdp.to_vec()).unwrap();
    assert!(sdp.contains(from));
    Bytes::from(sdp.replace(from, to))
}

/// Where media goes in the next second.
fn heard_at(world: &mut World) -> Vec<String> {
    world.media.clear();
    world.run_for(Duration::from_secs(1));
    let rtp = world.media.iter().filter(|(_, packets)| **packets > 40);
    rtp.map(|(address, _)| address.to_string()).collect()
}

fn reanswers(world: &World) -> Vec<u16> {
    let status = |saw: &Saw| if let Saw::Reanswered(status) = saw { Some(*status) } else { None };
    world.saw(0).iter().filter_map(status).collect()
}

fn holds(world: &World) -> Vec<bool> {
    let held = |kind: &EventKind| if let EventKind::Held { held } = kind { Some(*held) } else { None };
    world.events.iter().filter_map(|event| held(&event.kind)).collect()
}

#[test]
fn media_follows_a_reinvite_and_a_hold_is_told() {
    let mut world = listening();
    assert_eq!(heard_at(&mut world), [HERE]);
    let moved = offer(&world, "audio 40000", "audio 41000");
    world.reinvite(0, moved);
    world.run_for(Duration::from_secs(1));
    assert_eq!(heard_at(&mut world), [ELSEWHERE]);
    let held = offer(&world, "sendrecv", "inactive");
    world.reinvite(0, held);
    world.run_for(Duration::from_secs(1));
    assert!(heard_at(&mut world).is_empty());
    assert_eq!((reanswers(&world), holds(&world)), (vec![200, 200], vec![true]));
    world.hang_up(0);
    world.close_books();
}

#[test]
fn reinvite_that_is_taken_back_leaves_the_call_as_it_was() {
    for (from, to) in [
        ("audio 40000", "audio 41000"),
        ("sendrecv", "inactive"),
        // The worker refuses this one, while it is being taken back.
        ("RTP/AVP 0 101", "RTP/AVP 18"),
        // The refresh of a session.
        ("v=0", "v=0"),
    ] {
        for refreshed in [false, true] {
            let mut world = listening();
            let same = world.phones[0].sdp.clone();
            if refreshed {
                world.reinvite(0, same);
                world.run_for(Duration::from_secs(1));
            }
            let other = offer(&world, from, to);
            world.reinvite(0, other);
            world.run_for(Duration::from_millis(100));
            world.take_back(0);
            world.run_for(Duration::from_secs(2));
            assert_eq!(reanswers(&world).last(), Some(&487), "{to}");
            assert_eq!(world.sent("487").len(), 1, "{to}");
            assert_eq!(heard_at(&mut world), [HERE], "{to}");
            assert!(holds(&world).is_empty(), "{to}");
            // The next one is as good as any.
            let moved = offer(&world, "audio 40000", "audio 41000");
            world.reinvite(0, moved);
            world.run_for(Duration::from_secs(1));
            assert_eq!(reanswers(&world).last(), Some(&200), "{to}");
            assert_eq!(heard_at(&mut world), [ELSEWHERE], "{to}");
            world.hang_up(0);
            world.close_books();
        }
    }
}

#[test]
fn reinvite_without_an_offer_that_is_taken_back_leaves_the_call_as_it_was() {
    let mut world = listening();
    world.reinvite(0, Bytes::new());
    world.run_for(Duration::from_millis(100));
    world.take_back(0);
    world.run_for(Duration::from_secs(2));
    assert_eq!(reanswers(&world), [487]);
    let moved = offer(&world, "audio 40000", "audio 41000");
    world.reinvite(0, moved);
    world.run_for(Duration::from_secs(1));
    assert_eq!((reanswers(&world), heard_at(&mut world)), (vec![487, 200], vec![ELSEWHERE.to_owned()]));
    world.hang_up(0);
    world.close_books();
}

#[test]
fn reinvite_that_follows_one_taken_back_at_once_is_tried_again_and_taken() {
    let mut world = listening();
    let held = offer(&world, "sendrecv", "inactive");
    world.reinvite(0, held);
    world.run_for(Duration::from_millis(50));
    world.take_back(0);
    world.run_for(Duration::from_millis(50));
    let moved = offer(&world, "audio 40000", "audio 41000");
    world.reinvite(0, moved);
    world.run_for(Duration::from_secs(6));
    assert_eq!((reanswers(&world), world.sent("491").len()), (vec![487, 200], 1));
    assert_eq!(heard_at(&mut world), [ELSEWHERE]);
    assert!(holds(&world).is_empty());
    world.hang_up(0);
    world.close_books();
}

#[test]
fn reinvite_at_any_moment_around_a_restart_of_the_edge_is_taken_and_the_call_goes_on() {
    for ms in (0..400).step_by(5) {
        for is_before in [true, false] {
            let mut world = World::new(1, |_| Says::Twiml("<Response><Echo/></Response>"));
            world.call("+15551000000");
            world.run_for(Duration::from_secs(2));
            world.worker_delay = Duration::from_millis(60);
            let moved = offer(&world, "audio 40000", "audio 41000");
            if is_before {
                world.reinvite(0, moved);
                world.run_for(Duration::from_millis(ms));
                world.restart_edge();
            } else {
                world.restart_edge();
                world.run_for(Duration::from_millis(ms));
                world.reinvite(0, moved);
            }
            world.run_for(Duration::from_secs(10));
            let told = format!("{ms} ms, {is_before}: {:?}", world.records());
            assert_eq!(world.phones[0].dialogs.len(), 1, "{told}");
            world.hang_up(0);
            world.close_books();
            assert_eq!(world.records()[0].status, CallStatus::Completed, "{told}");
        }
    }
}
