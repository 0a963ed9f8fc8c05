//! Opus and G.722: as they came to whoever speaks them too, and through the codec to everybody else.

use super::sound::*;
use super::*;
use crate::codec::Codec;

const OPUS: &str = "111 110\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:110 telephone-event/48000";

/// Two phones that hear each other.
fn bridge(world: &mut World, a: &str, b: &str) -> (Phone, Phone) {
    world.open(&[(&offer(1, a), Hears::Leg(2)), (&offer(2, b), Hears::Leg(1))]);
    (Phone::of_leg(1, 111), Phone::of_leg(2, 111))
}

/// Two parties that hear each other.
fn parties(world: &mut World, mut parties: [Party; 2]) -> [Party; 2] {
    let legs = vec![parties[0].spec(Hears::Leg(2), None), parties[1].spec(Hears::Leg(1), None)];
    world.command(CommandKind::Open(SessionSpec { session_id: 1, owner_epoch: 1, legs, ..SessionSpec::default() }));
    talk(world, &mut parties, 300);
    parties.iter_mut().for_each(|party| drop(party.hear()));
    parties
}

/// How loud this tone is against how it was said.
fn share(samples: &[i16], hz: u32) -> f64 {
    assert!(samples.len() >= 1600, "only {} samples", samples.len());
    level(samples, hz) / LOUD
}

#[test]
fn opus_goes_to_opus_as_it_came_by_its_own_clock() {
    let mut world = World::new();
    let (mut a, b) = bridge(&mut world, OPUS, OPUS);
    // Over the wrap of its clock; each payload is 20 ms by its first byte.
    (a.timestamp, a.seq) = (u32::MAX - 2000, 7);
    for byte in 0..5 {
        let packet = a.packet(false, 111, &[0x78, byte, 9, 9]);
        (a.seq, a.timestamp) = (a.seq + 1, a.timestamp.wrapping_add(960));
        // One is lost, and its place stays free.
        if byte != 3 {
            world.arrive(1, a.from, &packet).expect("taken");
        }
        world.run_for(20);
    }
    let sent = world.take_sent();
    assert!(sent.iter().all(|sent| sent.to == b.from && sent.payload[0] == 0x78 && sent.header.payload_type == 111));
    assert_eq!(sent.iter().map(|sent| sent.payload[1]).collect::<Vec<_>>(), [0, 1, 2, 4]);
    assert_eq!(numbers(&sent), [(0, 0), (1, 960), (2, 1920), (4, 3840)]);
    assert!(!world.sessions[0].legs().any(Leg::is_encoding_opus), "nothing was encoded");
}

#[test]
fn g722_goes_to_g722_as_it_came() {
    let mut world = World::new();
    world.open(&[(&offer(1, "9 0"), Hears::Leg(2)), (&offer(2, "9\r\na=ptime:30"), Hears::Leg(1))]);
    let (mut a, b) = (Phone::of_leg(1, 9), Phone::of_leg(2, 9));
    for byte in 0..5u8 {
        let packet = a.packet(false, 9, &[byte | 0x40; 160]);
        (a.seq, a.timestamp) = (a.seq + 1, a.timestamp.wrapping_add(160));
        world.arrive(1, a.from, &packet).expect("taken");
        world.run_for(20);
    }
    let sent = world.take_sent();
    assert!(sent.iter().all(|sent| sent.to == b.from && sent.header.payload_type == 9));
    assert_eq!(
        sent.iter().map(|sent| sent.payload.clone()).collect::<Vec<_>>(),
        (0..5).map(|byte| vec![byte | 0x40; 160]).collect::<Vec<_>>()
    );
}

#[test]
fn digits_keep_their_length_between_the_clocks() {
    for (from, to, expected) in [(OPUS, PCMU, 800), (OPUS, OPUS, 4800), (PCMU, OPUS, 4800)] {
        let mut world = World::new();
        let (mut a, b) = bridge(&mut world, from, to);
        let (event_type, ticks) = if from == OPUS { (110, 6) } else { (101, 1) };
        for step in 1..=8u16 {
            let duration = (step * 160).min(800) * ticks;
            let [high, low] = duration.to_be_bytes();
            let end = u8::from(step > 5) << 7;
            let packet = a.packet(step == 1, event_type, &[5, end | 10, high, low]);
            a.seq = a.seq.wrapping_add(1);
            world.arrive(1, a.from, &packet).expect("taken");
            world.run_for(20);
        }
        let sent = world.take_sent();
        assert!(sent.iter().all(|sent| sent.to == b.from && sent.payload.len() == 4), "{from} to {to}");
        let last = &sent.last().unwrap().payload;
        assert_eq!(u16::from_be_bytes([last[2], last[3]]), expected, "{from} to {to}");
        let keys = world.take_events();
        let released =
            keys.iter().any(|event| matches!(event, MediaEventKind::Digit(digit) if digit.duration_ms == 100));
        assert!(released, "{keys:?}");
    }
}

#[test]
fn own_digits_and_audio_go_by_the_peers_clock() {
    let mut world = World::new();
    bridge(&mut world, OPUS, PCMU);
    world.play(1, 7, vec![PlayKind::SilenceMs(60), PlayKind::Digits("5".into())]);
    world.run_for(400);
    let sent = world.take_sent();
    let audio: Vec<_> = sent.iter().filter(|sent| sent.header.payload_type == 111).cloned().collect();
    assert_eq!(numbers(&audio)[..3], [(0, 0), (1, 960), (2, 1920)]);
    let digit = sent.iter().rfind(|sent| sent.header.payload_type == 110).expect("a digit");
    let duration = u16::from_be_bytes([digit.payload[2], digit.payload[3]]);
    assert!(duration >= 4800 && duration.is_multiple_of(960), "{duration}");
}

#[test]
fn telephone_and_another_codec_hear_each_other() {
    use Codec::{G722, Opus, Pcma, Pcmu};
    for (own, codec, long) in [
        (Opus, Pcmu, false),
        (Opus, Pcma, false),
        (Opus, Pcmu, true),
        (G722, Pcmu, false),
        (G722, Pcma, true),
        (Opus, G722, false),
    ] {
        let mut world = World::new();
        let other = Party::on_phone(2, 700, codec);
        let other = if long { other.with_long_packets() } else { other };
        let mut parties = parties(&mut world, [Party::on_phone(1, 400, own), other]);
        talk(&mut world, &mut parties, 1000);
        let [browser, phone] = parties.each_mut().map(Party::hear);
        assert!((0.7..1.2).contains(&share(&browser, 700)), "{own:?}, {codec:?}: {}", share(&browser, 700));
        assert!((0.7..1.2).contains(&share(&phone, 400)), "{own:?}, {codec:?}: {}", share(&phone, 400));
        assert!(share(&browser, 400) < 0.05 && share(&phone, 700) < 0.05, "nobody hears themselves");
        assert!(
            phone.len().abs_diff(8000) <= 320 && browser.len().abs_diff(8000) <= 320,
            "no more and no less than was said"
        );
        let encoding: Vec<_> = world.sessions[0].legs().map(Leg::is_encoding_opus).collect();
        assert_eq!(encoding, [own == Opus, false]);
        assert_eq!(world.sessions[0].units() > 2, own == Opus, "an encoder of Opus takes more");
    }
}

#[test]
fn what_other_codecs_say_is_mixed_and_recorded() {
    let mut world = World::new();
    let mixing = || Some(Mixing { heard: true, ..Mixing::default() });
    let hz = [400, 700, 1100];
    let mut parties = [
        Party::on_phone(1, hz[0], Codec::Opus),
        Party::on_phone(2, hz[1], Codec::G722),
        Party::on_phone(3, hz[2], Codec::Opus),
    ];
    let legs = parties.iter().map(|party| party.spec(Hears::Mix(Mix {}), mixing())).collect();
    let recorders = vec![RecorderSpec {
        recorder_id: 1,
        channels: 1,
        file: "RE1.wav".into(),
        source: Some(Recorded::Mix(Mix {})),
        ..RecorderSpec::default()
    }];
    let spec = SessionSpec { session_id: 1, owner_epoch: 1, legs, recorders, ..SessionSpec::default() };
    world.command(CommandKind::Open(spec));
    talk(&mut world, &mut parties, 400);
    parties.iter_mut().for_each(|party| drop(party.hear()));
    talk(&mut world, &mut parties, 1000);
    for (own, party) in parties.iter_mut().enumerate() {
        let heard = party.hear();
        for (other, hz) in hz.iter().enumerate() {
            let share = share(&heard, *hz);
            assert_eq!(share > 0.6, other != own, "{own} hears {other} at {share}");
        }
    }
    let file = &world.files[&1];
    for hz in hz {
        assert!(
            share(&file.samples[4000..], hz) > 0.6,
            "{hz} Hz is in the recording at {}",
            share(&file.samples[4000..], hz)
        );
    }
}
