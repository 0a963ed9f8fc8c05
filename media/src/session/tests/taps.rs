//! Taps, compared with what was said and heard, and what is played as it comes.

use super::sound::*;
use super::*;
use crate::codec::{Codec, Law};

fn tap(world: &mut World, tap_id: u32, leg_id: u32, track: Track) {
    let told = world.command(CommandKind::Tap(TapSpec { tap_id, leg_id, track: track.into(), offset_ms: 0 }));
    assert!(told.iter().all(|event| matches!(event, MediaEventKind::Tapped(_))), "{told:?}");
}

/// What a tap has told since it was last asked: when, what was said and what was heard.
fn told(world: &mut World, tap_id: u32) -> (Vec<u64>, Vec<i16>, Vec<i16>) {
    let (mut times, mut said, mut heard) = (Vec::new(), Vec::new(), Vec::new());
    let decode = |bytes: &Bytes, into: &mut Vec<i16>| {
        let mut samples = vec![0; bytes.len()];
        Law::Mu.decode(bytes, &mut samples);
        into.extend(samples);
    };
    for event in world.take_events() {
        if let MediaEventKind::Tapped(tapped) = event
            && tapped.tap_id == tap_id
        {
            times.push(tapped.at_ms);
            decode(&tapped.inbound, &mut said);
            decode(&tapped.outbound, &mut heard);
        }
    }
    (times, said, heard)
}

fn open(world: &mut World, legs: Vec<LegSpec>) {
    world.command(CommandKind::Open(SessionSpec { session_id: 1, owner_epoch: 1, legs, ..SessionSpec::default() }));
}

#[test]
fn both_sides_of_a_bridge_are_told_soon_and_whole() {
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::Opus, Codec::G722] {
        let mut parties = [Party::on_phone(1, 500, codec), Party::on_phone(2, 1100, Codec::Pcma).with_long_packets()];
        let mut world = World::new();
        open(&mut world, vec![parties[0].spec(Hears::Leg(2), None), parties[1].spec(Hears::Leg(1), None)]);
        talk(&mut world, &mut parties, 500);
        world.take_events();
        tap(&mut world, 7, 1, Track::Both);
        talk(&mut world, &mut parties, 2000);
        let (times, said, heard) = told(&mut world, 7);
        // The first was told with the command.
        assert_eq!(times, (1..=times.len() as u64).map(|index| index * 20).collect::<Vec<_>>());
        assert!((100..=101).contains(&times.len()), "{}", times.len());
        // From 100 ms on, by when a jitter buffer plays.
        for (track, own, other) in [(&said[800..], 500, 1100), (&heard[800..], 1100, 500)] {
            assert!(level(track, own) > LOUD * 0.8, "{codec:?}: {} of {own} Hz", level(track, own));
            assert!(level(track, other) < LOUD * 0.02, "{codec:?}: {} of {other} Hz", level(track, other));
        }
        world.command(CommandKind::StopTap(7));
        talk(&mut world, &mut parties, 200);
        assert_eq!(told(&mut world, 7).0.len(), 0, "it is over");
    }
}

#[test]
fn what_is_played_and_mixed_is_heard_by_a_tap() {
    let mut parties = [Party::on_phone(1, 500, Codec::Pcmu), Party::on_link(2, 900)];
    let mut world = World::new();
    let beep = Tone { frequencies_hz: vec![1300], cadence_ms: vec![], duration_ms: 0 };
    open(&mut world, vec![parties[0].spec(Hears::Leg(2), None), parties[1].spec(Hears::Leg(1), None)]);
    tap(&mut world, 1, 1, Track::Outbound);
    talk(&mut world, &mut parties, 1000);
    let (_, said, heard) = told(&mut world, 1);
    assert!(said.is_empty());
    assert!(level(&heard[1600..], 900) > LOUD * 0.8, "by a link");
    world.play(1, 9, vec![PlayKind::Tone(beep)]);
    talk(&mut world, &mut parties, 1000);
    let (_, _, heard) = told(&mut world, 1);
    assert!(level(&heard[1600..], 1300) > 1000.0 && level(&heard[1600..], 900) < 100.0, "by a player");
}

#[test]
fn tap_of_a_spec_goes_on_and_one_that_it_does_not_name_ends() {
    let mut world = World::new();
    let party = Party::on_phone(1, 500, Codec::Pcmu);
    let legs = vec![party.spec(Hears::Silence(Silence {}), None)];
    let spec = |taps: Vec<u32>| {
        let taps = taps
            .into_iter()
            .map(|tap_id| TapSpec { tap_id, leg_id: 1, track: Track::Inbound.into(), offset_ms: 0 })
            .collect();
        let legs = legs.clone();
        CommandKind::Open(SessionSpec { session_id: 1, owner_epoch: 1, legs, taps, ..SessionSpec::default() })
    };
    world.command(spec(vec![1, 2]));
    world.run_for(100);
    world.command(spec(vec![2, 2]));
    world.run_for(100);
    let events = world.take_events();
    let of = |id: u32| {
        let its = events.iter().filter_map(|event| match event {
            MediaEventKind::Tapped(told) if told.tap_id == id => Some(told.at_ms),
            _ => None,
        });
        its.max()
    };
    assert_eq!((of(1), of(2)), (Some(100), Some(200)));
    world.command(CommandKind::DropLeg(1));
    world.take_events();
    world.run_for(100);
    assert!(world.take_events().is_empty());
}

#[test]
fn what_comes_is_said_at_once_and_marks_tell_when_it_was() {
    let mut world = World::new();
    let party = Party::on_phone(1, 500, Codec::Pcma);
    open(&mut world, vec![party.spec(Hears::Silence(Silence {}), None)]);
    world.play(1, 5, vec![PlayKind::Live(Live {})]);
    world.run_for(100);
    let sent = world.take_sent();
    assert_eq!(sent.len(), 6, "silence is sent before anything comes");
    let feed = |world: &mut World, player_id, what| {
        world.command(CommandKind::Feed(Feed { leg_id: 1, player_id, what: Some(what) }))
    };
    let mut audio = vec![0; 800];
    Law::Mu.encode(&tone(700, LOUD, 0, 800), &mut audio);
    feed(&mut world, 5, Fed::Audio(audio.clone().into()));
    feed(&mut world, 5, Fed::Mark("said".into()));
    feed(&mut world, 99, Fed::Mark("for nobody".into()));
    let began = world.now;
    let mut marked = None;
    for _ in 0..300 {
        world.run_for(1);
        if world
            .take_events()
            .iter()
            .any(|event| matches!(event, MediaEventKind::Marked(told) if told.name == "said" && told.player_id == 5))
        {
            marked = Some(world.now.since(began).as_millis());
        }
    }
    let sent = world.take_sent();
    let mut heard = Vec::new();
    for packet in &sent {
        let mut samples = vec![0; packet.payload.len()];
        Law::A.decode(&packet.payload, &mut samples);
        heard.extend(samples);
    }
    let first = heard.iter().position(|sample| sample.unsigned_abs() > 500).unwrap();
    assert!(first <= 170, "in the next packet: {first}");
    assert!(level(&heard[first..first + 780], 700) > LOUD * 0.9);
    // The fifth packet has its last samples, and leaves at 80 to 100 ms.
    assert!(marked.is_some_and(|ms| (80..=101).contains(&ms)), "{marked:?}");
    feed(&mut world, 5, Fed::Audio(vec![0; 80_000].into()));
    feed(&mut world, 5, Fed::Mark("cut".into()));
    world.run_for(40);
    let told = feed(&mut world, 5, Fed::Clear(Clear {}));
    assert!(matches!(&told[..], [MediaEventKind::Marked(told)] if told.name == "cut"), "{told:?}");
    world.take_sent();
    world.run_for(100);
    let silence = world.take_sent();
    assert!(
        silence.iter().all(|packet| packet.payload.iter().all(|byte| *byte == Law::A.silence())),
        "nothing is left"
    );
}
