//! A conference as an edge makes one: a session for each call, one for the conference, and links between them.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::time::{Duration, Instant};

use dialtone_media::codec::Codec;
use dialtone_media::proto::*;
use support::*;

const CONFERENCE: u64 = 100;
const HZ: [u32; 3] = [400, 700, 1100];
const LOUD: f64 = 6000.0;

/// A leg over a link; both ends have the number of the call as their key.
fn link(leg_id: u32, call: u64, hears: Hears) -> LegSpec {
    let remote = RemoteLeg { worker: String::new(), session_id: 0, key: call };
    let hears = Some(Source { from: Some(hears) });
    LegSpec { leg_id, kind: Some(LegKind::Remote(remote)), hears, ..LegSpec::default() }
}

/// A member at the conference's end.
fn member(call: u64, heard: bool) -> LegSpec {
    let mixing = Some(Mixing { heard, whispers_to: None, tells_speaking: false });
    LegSpec { mixing, ..link(call as u32, call, Hears::Mix(Mix {})) }
}

/// The amplitude of a frequency (Goertzel).
fn level(samples: &[i16], hz: u32) -> f64 {
    let coefficient = 2.0 * (std::f64::consts::TAU * f64::from(hz) / 8000.0).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for sample in samples {
        (last, before) = (f64::from(*sample) + coefficient * last - before, last);
    }
    let power: f64 = last * last + before * before - coefficient * last * before;
    power.max(0.0).sqrt() * 2.0 / samples.len() as f64
}

/// All say their tones for so long; what each hears in the second half.
fn talk(phones: &mut [Phone], ms: u32) -> Vec<Vec<i16>> {
    let mut heard = vec![Vec::new(); phones.len()];
    let began = Instant::now();
    for index in 0..ms / 20 {
        for (phone, hz) in phones.iter_mut().zip(HZ) {
            let codec = if phone.payload_type == 0 { Codec::Pcmu } else { Codec::Pcma };
            let at = |i: u32| std::f64::consts::TAU * f64::from(hz) * f64::from(phone.timestamp + i) / 8000.0;
            let samples: [i16; 160] = std::array::from_fn(|i| (at(i as u32).sin() * LOUD) as i16);
            let mut payload = [0; 160];
            codec.waits_as().encode(&samples, &mut payload);
            phone.send(false, phone.payload_type, &payload);
            phone.timestamp += 160;
        }
        std::thread::sleep((Duration::from_millis(20) * (index + 1)).saturating_sub(began.elapsed()));
        for (phone, heard) in phones.iter_mut().zip(&mut heard) {
            while let Some((header, payload)) = phone.hear(Duration::from_millis(1)) {
                let codec = if header.payload_type == 0 { Codec::Pcmu } else { Codec::Pcma };
                let mut samples = vec![0; payload.len()];
                codec.waits_as().decode(&payload, &mut samples);
                if index >= ms / 40 {
                    heard.extend(samples);
                }
            }
        }
    }
    heard
}

/// Whose tones are in it.
fn voices(samples: &[i16]) -> Vec<u32> {
    assert!(samples.len() > 2400, "{} samples", samples.len());
    HZ.into_iter().filter(|hz| level(samples, *hz) > LOUD / 2.0).collect()
}

#[test]
fn calls_that_are_linked_to_a_conference_hear_one_another() {
    let worker = Worker::start();
    worker.send(
        CONFERENCE,
        CommandKind::Open(SessionSpec { session_id: CONFERENCE, owner_epoch: 1, ..SessionSpec::default() }),
    );
    let mut phones = [Phone::new(0), Phone::new(8), Phone::new(0)];
    for (call, phone) in (1..).zip(&mut phones) {
        let legs = vec![leg(1, phone.offer(), Hears::Leg(2)), link(2, call, Hears::Leg(1))];
        worker.send(
            call,
            CommandKind::Open(SessionSpec { session_id: call, owner_epoch: 1, legs, ..SessionSpec::default() }),
        );
        phone.learn(&worker.negotiated().sdp);
        worker.send(CONFERENCE, CommandKind::PutLeg(member(call, true)));
    }
    let heard = talk(&mut phones, 1200);
    let ears: Vec<_> = heard.iter().map(|samples| voices(samples)).collect();
    assert_eq!(ears, [vec![700, 1100], vec![400, 1100], vec![400, 700]]);
    for (samples, own) in heard.iter().zip(HZ) {
        // A tone that a late tick cuts into spreads a little.
        assert!(level(samples, own) < LOUD / 10.0, "its own {own} Hz: {}", level(samples, own));
    }
    // One is muted, and one leaves.
    worker.send(CONFERENCE, CommandKind::PutLeg(member(1, false)));
    worker.send(CONFERENCE, CommandKind::DropLeg(2));
    let heard = talk(&mut phones, 1200);
    assert_eq!(voices(&heard[0]), [1100]);
    assert!(heard[1].is_empty());
    assert!(voices(&heard[2]).is_empty());
}
