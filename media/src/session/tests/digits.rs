//! Digits: told to the edge, passed on to who hears them, and sent.

use super::*;
use crate::dtmf::{Detector, KeyEvent};
use crate::random::Random;

fn digits(events: &[MediaEventKind]) -> String {
    events
        .iter()
        .filter_map(|event| match event {
            MediaEventKind::Digit(digit) => char::from_u32(digit.digit),
            _ => None,
        })
        .collect()
}

/// The digits that a phone hears in the audio that it was sent.
fn heard_in_band(sent: &[Sent], to: &Phone) -> String {
    let mut detector = Detector::default();
    let mut heard = String::new();
    for packet in sent.iter().filter(|sent| sent.to == to.from && sent.header.payload_type < 96) {
        let codec = crate::codec::Codec::from_static_payload_type(packet.header.payload_type).unwrap();
        let mut samples = [0; 480];
        let count = codec.waits_as().decode(&packet.payload, &mut samples);
        detector.handle_samples(&samples[..count], |event| {
            if let KeyEvent::Pressed(key) = event {
                heard.push(key.symbol());
            }
        });
    }
    heard
}

/// The digits that a phone was sent as events: their codes, once for each timestamp.
fn heard_as_events(sent: &[Sent], to: &Phone, event_type: u8) -> Vec<u8> {
    let events = sent.iter().filter(|sent| sent.to == to.from && sent.header.payload_type == event_type);
    let mut presses: Vec<_> = events.map(|sent| (sent.header.timestamp, sent.payload[0])).collect();
    presses.dedup();
    presses.into_iter().map(|(_, code)| code).collect()
}

#[test]
fn digit_is_told_once_with_its_duration() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence())]);
    let mut phone = Phone::of_leg(1, 0);
    phone.press(&mut world, 101, 5, |_| false);
    let events = world.take_events();
    let digit = Digit { leg_id: 1, digit: u32::from('5'), duration_ms: 100, in_band: false };
    assert_eq!(events, [MediaEventKind::LegHeard(1), MediaEventKind::Digit(digit)]);
    phone.press(&mut world, 101, 11, |step| step >= 5);
    world.run_for(300);
    assert_eq!(digits(&world.take_events()), "#", "though every end was lost");
}

#[test]
fn threat_30_no_digit_is_lost_or_doubled_under_loss() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence())]);
    let mut phone = Phone::of_leg(1, 0);
    let mut random = Random::new(30, 1);
    let keys: Vec<u8> = (0..200).map(|_| random.next_u64() as u8 % 12).collect();
    for key in &keys {
        let lost: Vec<bool> = (0..8).map(|_| random.next_unit() < 0.25).collect();
        phone.press(&mut world, 101, *key, |step| lost[step] && !lost.iter().all(|lost| *lost));
        for _ in 0..3 {
            phone.say(&mut world, 0xFF);
        }
    }
    world.run_for(300);
    let expected: String = keys.iter().map(|key| char::from(b"0123456789*#"[usize::from(*key)])).collect();
    assert_eq!(digits(&world.take_events()), expected);
}

#[test]
fn events_are_relayed_under_the_number_of_who_hears_them() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence()), (&offer(2, PCMA), Hears::Leg(1))]);
    let (mut a, b) = (Phone::of_leg(1, 0), Phone::of_leg(2, 8));
    a.say(&mut world, 1);
    a.press(&mut world, 101, 5, |_| false);
    a.say(&mut world, 2);
    let sent = world.take_sent();
    assert_eq!(
        sent.iter().map(|sent| sent.header.payload_type).collect::<Vec<_>>(),
        [8, 96, 96, 96, 96, 96, 96, 96, 96, 8]
    );
    let seqs: Vec<_> = numbers(&sent).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, (0..10).collect::<Vec<_>>());
    assert_eq!(heard_as_events(&sent, &b, 96), [5]);
    assert!(sent[1].header.marker && !sent[2].header.marker);
    assert_eq!(sent[8].payload, [5, 0x8A, 3, 32]);
}

#[test]
fn events_become_tones_for_a_phone_without_them() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence()), (&offer(2, "8"), Hears::Leg(1))]);
    let (mut a, b) = (Phone::of_leg(1, 0), Phone::of_leg(2, 8));
    for code in [1, 5, 9] {
        a.say(&mut world, 0xFF);
        a.press(&mut world, 101, code, |_| false);
        for _ in 0..6 {
            a.say(&mut world, 0xFF);
        }
    }
    let sent = world.take_sent();
    assert_eq!(heard_in_band(&sent, &b), "159");
    assert_eq!(heard_as_events(&sent, &b, 101), [0; 0]);
    let seqs: Vec<_> = numbers(&sent).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, (0..sent.len() as i16).collect::<Vec<_>>(), "nothing looks lost");
}

#[test]
fn tones_become_events_for_a_phone_that_has_them() {
    let mut world = World::new();
    world.open(&[(&offer(1, "0"), silence()), (&offer(2, PCMA), Hears::Leg(1))]);
    let (mut a, b) = (Phone::of_leg(1, 0), Phone::of_leg(2, 8));
    for key in ['4', '2'] {
        // Longer than the event that comes of it.
        let hz = crate::dtmf::Key::from_char(key).unwrap().frequencies_hz();
        let samples: Vec<i16> = (0..4000).map(|at| crate::tone::pair(hz, at, 4000)).collect();
        for part in samples.chunks(160) {
            let mut payload = [0; 160];
            crate::codec::Codec::Pcmu.waits_as().encode(part, &mut payload);
            let packet = a.packet(false, 0, &payload);
            (a.seq, a.timestamp) = (a.seq.wrapping_add(1), a.timestamp + 160);
            world.arrive(1, a.from, &packet).unwrap();
            world.run_for(20);
        }
        for _ in 0..10 {
            a.say(&mut world, 0xFF);
        }
    }
    let (sent, events) = (world.take_sent(), world.take_events());
    assert_eq!(digits(&events), "42");
    assert!(events.iter().all(|event| !matches!(event, MediaEventKind::Digit(digit) if !digit.in_band)));
    assert_eq!(heard_as_events(&sent, &b, 96), [4, 2]);
    assert_eq!(heard_in_band(&sent, &b), "", "not both");
}

#[test]
fn played_digits_are_events_and_tones_only_where_there_are_none() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence()), (&offer(2, "8\r\na=ptime:30"), silence())]);
    let (a, b) = (Phone::of_leg(1, 0), Phone::of_leg(2, 8));
    for leg in [1, 2] {
        world.play(leg, leg, vec![PlayKind::Digits("1w2".into())]);
    }
    let began_ms = world.now.0 / 1000;
    world.run_for(2000);
    let sent = world.take_sent();
    assert_eq!(heard_as_events(&sent, &a, 101), [1, 2]);
    assert_eq!(heard_in_band(&sent, &a), "");
    assert_eq!(heard_in_band(&sent, &b), "12");
    let times: Vec<_> =
        sent.iter().filter(|s| s.to == a.from && s.header.payload_type == 101).map(|s| s.at_ms - began_ms).collect();
    assert_eq!(times, [0, 20, 40, 60, 80, 100, 120, 140, 700, 720, 740, 760, 780, 800, 820, 840]);
    let ended = world
        .take_events()
        .iter()
        .filter(|e| matches!(e, MediaEventKind::PlayerEnded(p) if p.finished && p.offset_ms == 900))
        .count();
    assert_eq!(ended, 2);
}

#[test]
fn digits_cross_a_link() {
    let mut world = World::with(Latching::Off, 2);
    for (session, sdp) in [(0, offer(1, PCMU)), (1, offer(2, PCMA))] {
        let legs = vec![rtp_leg(1, &sdp, Hears::Leg(9)), remote_leg(9, 555, Hears::Leg(1))];
        world.command_to(
            session,
            1,
            CommandKind::Open(SessionSpec {
                session_id: session as u64 + 1,
                owner_epoch: 1,
                legs,
                ..SessionSpec::default()
            }),
        );
    }
    let mut a = Phone::of_leg(1, 0);
    a.press(&mut world, 101, 7, |_| false);
    world.run_for(300);
    assert_eq!(heard_as_events(&world.take_sent(), &Phone::of_leg(2, 8), 96), [7]);
}
