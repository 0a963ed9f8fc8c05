//! What is heard: relayed, transcoded, cut anew, played, and over a link.

use super::*;
use crate::codec::{Codec, g711};

fn bridge(world: &mut World, a: &str, b: &str) -> (Phone, Phone) {
    let negotiated = world.open(&[(&offer(1, a), Hears::Leg(2)), (&offer(2, b), Hears::Leg(1))]);
    let payload_type = |negotiated: &Negotiated| if negotiated.codec == "PCMU" { 0 } else { 8 };
    (Phone::of_leg(1, payload_type(&negotiated[0])), Phone::of_leg(2, payload_type(&negotiated[1])))
}

#[test]
fn relayed_packets_keep_payload_gaps_and_order_under_our_own_ssrc() {
    let mut world = World::new();
    let (mut a, b) = bridge(&mut world, PCMU, PCMU);
    let packets: Vec<_> = (0..8).map(|byte| a.audio(byte, 160)).collect();
    // Number 3 is lost, 5 and 6 are swapped.
    for index in [0, 1, 2, 4, 6, 5, 7] {
        world.arrive(1, a.from, &packets[index]).unwrap();
        world.run_for(20);
    }
    let sent = world.take_sent();
    assert_eq!(shapes(&sent), [0, 1, 2, 4, 6, 5, 7].map(|byte| (0, byte)));
    assert_eq!(numbers(&sent), [0, 1, 2, 4, 6, 5, 7].map(|n| (n, i32::from(n) * 160)));
    let ours = sent[0].header.ssrc;
    assert!(sent.iter().all(|sent| sent.to == b.from && sent.header.ssrc == ours && ours.0 != a.ssrc));
    assert_eq!(sent.iter().map(|sent| sent.header.marker).filter(|marker| *marker).count(), 1, "on the first only");
}

#[test]
fn both_directions_flow_at_once() {
    let mut world = World::new();
    let (mut a, mut b) = bridge(&mut world, PCMU, PCMU);
    for byte in 0..5 {
        a.say(&mut world, byte);
        b.say(&mut world, 100 + byte);
    }
    let sent = world.take_sent();
    let to = |phone: &Phone| {
        sent.iter().filter(|sent| sent.to == phone.from).map(|sent| sent.payload[0]).collect::<Vec<_>>()
    };
    assert_eq!(to(&b), [0, 1, 2, 3, 4]);
    assert_eq!(to(&a), [100, 101, 102, 103, 104]);
}

#[test]
fn laws_are_transcoded_by_table_and_numbers_stay() {
    let mut world = World::new();
    let (mut a, mut b) = bridge(&mut world, PCMU, PCMA);
    for byte in 0..=255 {
        a.say(&mut world, byte);
        b.say(&mut world, byte);
    }
    let sent = world.take_sent();
    for (index, sent) in sent.iter().enumerate() {
        let byte = index / 2;
        let expected = if index % 2 == 0 { (8, g711::ULAW_TO_ALAW[byte]) } else { (0, g711::ALAW_TO_ULAW[byte]) };
        assert_eq!((sent.header.payload_type, sent.payload[0]), expected);
    }
    assert_eq!(sent.len(), 512);
}

#[test]
fn packets_are_cut_to_the_length_that_each_side_asked_for() {
    let mut world = World::new();
    let (mut a, mut b) = bridge(&mut world, &format!("{PCMU}\r\na=ptime:30"), PCMA);
    for byte in 0..4 {
        let packet = a.audio(byte, 240);
        world.arrive(1, a.from, &packet).unwrap();
        world.run_for(30);
    }
    let to_b = world.take_sent();
    assert_eq!(to_b.iter().map(|sent| sent.payload.len()).collect::<Vec<_>>(), [160; 6]);
    assert_eq!(numbers(&to_b), [0, 1, 2, 3, 4, 5].map(|n| (n, i32::from(n) * 160)));
    assert_eq!(to_b[1].payload[79..81], [g711::ULAW_TO_ALAW[0], g711::ULAW_TO_ALAW[1]]);
    for byte in 0..6 {
        b.say(&mut world, byte);
    }
    let to_a = world.take_sent();
    assert_eq!(to_a.iter().map(|sent| sent.payload.len()).collect::<Vec<_>>(), [240; 4]);
    assert_eq!(numbers(&to_a), [0, 1, 2, 3].map(|n| (n, i32::from(n) * 240)));
}

#[test]
fn peer_that_changes_its_packet_length_is_heard_in_order() {
    let mut world = World::new();
    let (mut a, _) = bridge(&mut world, PCMU, PCMU);
    for (byte, samples) in [(1, 160), (2, 240), (3, 160), (4, 160), (5, 80), (6, 160), (7, 160)] {
        let packet = a.audio(byte, samples);
        world.arrive(1, a.from, &packet).unwrap();
        world.run_for(samples as u64 / 8);
    }
    let sent = world.take_sent();
    let audio: Vec<u8> = sent.iter().flat_map(|sent| sent.payload.clone()).collect();
    let runs: Vec<_> = audio.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
    assert_eq!(runs, [(1, 160), (2, 240), (3, 160), (4, 160), (5, 80), (6, 160), (7, 160)]);
    assert!(sent.iter().all(|sent| sent.payload.len() == 160));
    let seqs: Vec<_> = numbers(&sent).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, (0..7).collect::<Vec<_>>());
}

#[test]
fn party_that_is_heard_again_begins_a_talk_spurt_without_a_gap() {
    let mut world = World::new();
    let (mut a, _) = bridge(&mut world, PCMU, PCMU);
    a.say(&mut world, 1);
    world.hear(2, silence());
    for _ in 0..5 {
        a.say(&mut world, 2);
    }
    world.hear(2, Hears::Leg(1));
    a.say(&mut world, 3);
    let sent = world.take_sent();
    assert_eq!(shapes(&sent), [(0, 1), (0, 3)]);
    assert_eq!(numbers(&sent), [(0, 0), (1, 960)]);
    assert!(sent[1].header.marker);
}

#[test]
fn stream_goes_on_through_every_change_of_source() {
    let mut world = World::new();
    let (mut a, mut b) = bridge(&mut world, PCMU, PCMU);
    b.say(&mut world, 1);
    world.play(1, 7, vec![PlayKind::SilenceMs(60)]);
    world.run_for(100);
    world.hear(1, Hears::Leg(2));
    b.say(&mut world, 2);
    world.negotiate(1, SdpStep::RemoteOffer, &offer(1, PCMA));
    b.say(&mut world, 3);
    // The peer of the other leg restarts with another SSRC, after a while.
    (b.ssrc, b.seq, b.timestamp) = (77, 5, 5);
    world.run_for(200);
    b.say(&mut world, 4);
    a.payload_type = 8;
    a.say(&mut world, 0);
    world.hear(1, Hears::Leg(1));
    a.say(&mut world, 9);
    let sent: Vec<_> = world.take_sent().into_iter().filter(|sent| sent.to == a.from).collect();
    let first = sent[0].header;
    assert!(sent.iter().all(|sent| sent.header.ssrc == first.ssrc), "one ssrc");
    let seqs: Vec<_> = numbers(&sent).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, (0..sent.len() as i16).collect::<Vec<_>>(), "no number is left out");
    let clock_ms: Vec<_> = sent.iter().map(|sent| sent.header.timestamp.ahead_of(first.timestamp) / 8).collect();
    let wall_ms: Vec<_> = sent.iter().map(|s| (s.at_ms - sent[0].at_ms) as i32).collect();
    assert!(clock_ms.iter().zip(&wall_ms).all(|(clock, wall)| (clock - wall).abs() <= 20), "{clock_ms:?} {wall_ms:?}");
    let marked: Vec<_> = sent.iter().map(|sent| sent.header.marker).collect();
    assert_eq!(marked, [true, true, false, false, true, false, true, true]);
}

#[test]
fn clip_is_asked_for_once_and_played_when_it_comes() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence())]);
    let hash = Bytes::from(vec![5; 32]);
    let asked = world.play(1, 7, vec![PlayKind::Audio(hash.clone()), PlayKind::Audio(hash.clone())]);
    assert_eq!(asked, [MediaEventKind::AudioWanted(AudioWanted { hash: hash.clone() })]);
    world.run_for(500);
    assert_eq!((world.take_sent(), world.take_events()), (vec![], vec![]), "nothing before it comes");
    let clip = Clip::new(Bytes::from(1000i16.to_le_bytes().repeat(320)), 8000).unwrap();
    world.sessions[0].handle_clip(ClipHash::from_bytes(&hash).unwrap(), Some(&clip), world.now);
    let began_ms = world.now.0 / 1000;
    world.run_for(500);
    let sent = world.take_sent();
    let byte = g711::encode_ulaw(1000);
    assert_eq!(shapes(&sent), [(0, byte); 4]);
    assert_eq!(sent.iter().map(|sent| sent.at_ms - began_ms).collect::<Vec<_>>(), [0, 20, 40, 60]);
    assert_eq!(numbers(&sent), [0, 1, 2, 3].map(|n| (n, i32::from(n) * 160)));
    let ended = PlayerEnded { leg_id: 1, player_id: 7, finished: true, offset_ms: 80 };
    assert_eq!(world.take_events(), [MediaEventKind::PlayerEnded(ended.clone())]);
    // The same command again: the same answer, and no second time.
    let again = world.play(1, 7, vec![PlayKind::Audio(hash.clone())]);
    assert_eq!(again, [MediaEventKind::PlayerEnded(ended)]);
    world.run_for(100);
    assert_eq!(world.take_sent(), vec![]);
}

#[test]
fn player_that_is_replaced_or_no_longer_heard_says_how_far_it_was() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence())]);
    world.play(1, 7, vec![PlayKind::SilenceMs(1000)]);
    world.run_for(90);
    let ended = |player_id, offset_ms| {
        MediaEventKind::PlayerEnded(PlayerEnded { leg_id: 1, player_id, finished: false, offset_ms })
    };
    assert_eq!(world.play(1, 8, vec![PlayKind::SilenceMs(1000)]), [ended(7, 100)]);
    world.run_for(50);
    assert_eq!(world.hear(1, silence()), [ended(8, 60)]);
    world.take_sent();
    world.run_for(500);
    assert_eq!(world.take_sent(), vec![]);
}

#[test]
fn clip_that_is_not_to_be_had_ends_the_player_unfinished() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence())]);
    world.play(1, 7, vec![PlayKind::Audio(Bytes::from(vec![5; 32]))]);
    world.sessions[0].handle_clip(ClipHash::from_bytes(&[5; 32]).unwrap(), None, world.now);
    world.run_for(100);
    let ended = PlayerEnded { leg_id: 1, player_id: 7, finished: false, offset_ms: 0 };
    assert_eq!(world.take_events(), [MediaEventKind::PlayerEnded(ended)]);
}

#[test]
fn leg_that_hears_silence_costs_its_reports_and_nothing_else() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence())]);
    let mut wakes = 0;
    let until = world.now + Duration::from_secs(60);
    while let Some(at) = world.sessions[0].next_deadline().filter(|at| *at < until) {
        world.run_for(at.since(world.now).as_millis() as u64 + 1);
        wakes += 1;
    }
    assert_eq!(world.take_sent(), vec![]);
    assert!((3..=9).contains(&world.reports), "{} reports", world.reports);
    assert_eq!(wakes, world.reports, "no other wake-up");
}

#[test]
fn hold_lets_its_music_through_and_nothing_back() {
    let mut world = World::new();
    let (mut a, mut b) = bridge(&mut world, PCMU, PCMU);
    a.say(&mut world, 1);
    b.say(&mut world, 1);
    let held = negotiated(world.negotiate(1, SdpStep::RemoteOffer, &offer(1, &format!("{PCMU}\r\na=sendonly"))));
    assert!(held.held && String::from_utf8_lossy(&held.sdp).contains("a=recvonly"));
    world.take_sent();
    for byte in 2..5 {
        a.say(&mut world, byte);
        b.say(&mut world, byte);
    }
    let sent = world.take_sent();
    assert_eq!(
        sent.iter().map(|sent| (sent.to, sent.payload[0])).collect::<Vec<_>>(),
        [2, 3, 4].map(|byte| (b.from, byte))
    );
    let back = negotiated(world.negotiate(1, SdpStep::RemoteOffer, &offer(1, PCMU)));
    assert!(!back.held);
    b.say(&mut world, 5);
    let sent = world.take_sent();
    assert!(sent[0].header.marker && sent[0].to == a.from, "the talk spurt begins anew");
    world.negotiate(1, SdpStep::RemoteOffer, &offer(1, &format!("{PCMU}\r\na=inactive")));
    let packet = a.audio(6, 160);
    assert_eq!(world.arrive(1, a.from, &packet), Err(Dropped::Direction));
}

#[test]
fn link_carries_audio_between_sessions() {
    let mut world = World::with(Latching::Off, 2);
    for (session, sdp) in [(0, offer(1, PCMU)), (1, offer(2, &format!("{PCMA}\r\na=ptime:30")))] {
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
    for _ in 0..50 {
        a.say(&mut world, 0x80);
    }
    world.run_for(500);
    let sent = world.take_sent();
    let heard: Vec<_> = sent.iter().filter(|sent| sent.header.payload_type == 8).collect();
    assert!((31..=37).contains(&heard.len()), "{} packets of 30 ms of one second", heard.len());
    assert!(heard.iter().all(|sent| sent.payload.len() == 240 && sent.to.port() == 5002));
    let loud =
        heard.iter().filter(|sent| sent.payload.iter().all(|byte| Codec::Pcma.waits_as().silence() != *byte)).count();
    assert!(loud >= 30, "{loud} loud packets");
    let deadline = world.sessions[0].next_deadline().unwrap();
    assert!(deadline.since(world.now) > Duration::from_millis(20), "the tick stops with the audio");
}
