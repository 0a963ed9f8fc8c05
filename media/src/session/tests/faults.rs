//! What the network and strangers do: nothing comes through that should not, and everything is counted.

use proptest::prelude::*;

use super::*;

#[test]
fn threat_05_strangers_and_junk_go_nowhere_and_are_counted() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), Hears::Leg(2)), (&offer(2, PCMU), Hears::Leg(1))]);
    let mut a = Phone::of_leg(1, 0);
    a.say(&mut world, 1);
    world.take_sent();
    let good = a.audio(2, 160);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        packet
    };
    let stranger: SocketAddr = "203.0.113.66:5000".parse().unwrap();
    let other_port: SocketAddr = "203.0.113.5:5006".parse().unwrap();
    let table: [(&str, SocketAddr, Vec<u8>, Dropped); 9] = [
        ("stranger", stranger, good.clone(), Dropped::Source),
        ("another port of the peer", other_port, good.clone(), Dropped::Source),
        ("stranger's junk", stranger, vec![1, 2, 3], Dropped::Source),
        ("too short", a.from, vec![0x80, 0, 0], Dropped::Junk),
        ("stun", a.from, vec![0; 20], Dropped::Junk),
        ("no audio", a.from, good[..12].to_vec(), Dropped::Junk),
        ("payload type", a.from, changed(&|p| p[1] = 18), Dropped::PayloadType),
        ("ssrc", a.from, changed(&|p| p[11] ^= 1), Dropped::Ssrc),
        ("sequence", a.from, changed(&|p| p[2] ^= 0x40), Dropped::Sequence),
    ];
    for (name, from, packet, reason) in &table {
        assert_eq!(world.arrive(1, *from, packet), Err(*reason), "{name}");
    }
    assert_eq!(world.take_sent(), vec![], "injected 0");
    world.arrive(1, a.from, &good).unwrap();
    assert_eq!(world.take_sent().len(), 1);
    assert_eq!(world.sessions[0].leg(LegId(1)).unwrap().statistics().packets_dropped, 9);
}

#[test]
fn threat_05_forged_ssrc_takes_nothing_over_but_a_restart_does() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), Hears::Leg(1))]);
    let (mut real, mut forged) = (Phone::of_leg(1, 0), Phone::of_leg(1, 0));
    forged.ssrc = 666;
    for byte in 0..50 {
        real.say(&mut world, byte);
        for _ in 0..2 {
            let packet = forged.audio(0xEE, 160);
            assert_eq!(world.arrive(1, forged.from, &packet), Err(Dropped::Ssrc));
        }
    }
    assert!(world.take_sent().iter().all(|sent| sent.payload[0] != 0xEE));
    world.run_for(100);
    forged.say(&mut world, 0xEE);
    assert_eq!(world.take_sent().len(), 1, "the old one has fallen silent");
}

#[test]
fn threat_05_latch_is_taken_by_the_signalling_address_only() {
    let mut world = World::with(Latching::Nat, 1);
    // A phone behind a NAT: its SDP has a private address.
    let private = offer(1, PCMU).replace("203.0.113.5", "192.168.1.7");
    world.open(&[(&private, Hears::Leg(1))]);
    let mut phone = Phone::of_leg(1, 0);
    phone.from = "203.0.113.5:61000".parse().unwrap();
    let stranger: SocketAddr = "203.0.113.66:61000".parse().unwrap();
    let packet = phone.audio(1, 160);
    assert_eq!(world.arrive(1, stranger, &packet), Err(Dropped::Source));
    assert_eq!(world.arrive(1, phone.from, b"not rtp"), Err(Dropped::Source), "junk locks nothing");
    assert_eq!(world.sessions[0].leg(LegId(1)).unwrap().settled_peer(), None);
    world.arrive(1, phone.from, &packet).unwrap();
    assert_eq!(world.take_sent()[0].to, phone.from);
    let next = phone.audio(2, 160);
    assert_eq!(world.arrive(1, "203.0.113.5:61002".parse().unwrap(), &next), Err(Dropped::Source));
    assert_eq!(world.sessions[0].leg(LegId(1)).unwrap().settled_peer(), Some(phone.from));
}

#[test]
fn loop_is_slowed_down_to_a_rate_that_hurts_nobody() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), Hears::Leg(1))]);
    let mut phone = Phone::of_leg(1, 0);
    let outcomes: Vec<_> = (0..1000)
        .map(|_| {
            let packet = phone.audio(1, 160);
            world.arrive(1, phone.from, &packet)
        })
        .collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 300);
    assert_eq!(outcomes.last(), Some(&Err(Dropped::Rate)));
    world.run_for(1000);
    let packet = phone.audio(1, 160);
    // Seven hundred were dropped, which is a gap like any other.
    assert_eq!(world.arrive(1, phone.from, &packet), Ok(()));
}

#[test]
fn silence_of_an_expected_peer_is_told_once() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence())]);
    world.run_for(10_000);
    assert_eq!(world.take_events(), [], "nothing is expected before anything is played");
    world.play(1, 7, vec![PlayKind::SilenceMs(60_000)]);
    let stranger: SocketAddr = "203.0.113.66:5000".parse().unwrap();
    let packet = Phone::of_leg(1, 0).audio(1, 160);
    assert!(world.arrive(1, stranger, &packet).is_err());
    world.run_for(1900);
    assert_eq!(world.take_events(), []);
    world.run_for(20_000);
    let silent = LegSilent { leg_id: 1, expected_from: "203.0.113.5:5000".into(), dropped_from: stranger.to_string() };
    assert_eq!(world.take_events(), [MediaEventKind::LegSilent(silent)]);
    Phone::of_leg(1, 0).say(&mut world, 1);
    assert_eq!(world.take_events(), [MediaEventKind::LegHeard(1)]);
    world.run_for(20_000);
    assert_eq!(world.take_events(), []);
}

#[test]
fn nothing_is_sent_before_both_sides_have_spoken() {
    let mut world = World::new();
    world.command(CommandKind::Open(SessionSpec {
        session_id: 1,
        owner_epoch: 1,
        legs: vec![rtp_leg(1, "", silence())],
        ..SessionSpec::default()
    }));
    world.play(1, 7, vec![PlayKind::SilenceMs(100)]);
    world.run_for(1000);
    let packet = Phone::of_leg(1, 0).audio(1, 160);
    assert_eq!(world.arrive(1, Phone::of_leg(1, 0).from, &packet), Err(Dropped::NotAgreed));
    assert_eq!(world.take_sent(), vec![]);
    world.negotiate(1, SdpStep::RemoteAnswer, &offer(1, PCMU));
    world.run_for(1000);
    assert_eq!(world.take_sent().len(), 5, "then the player begins");
}

#[test]
fn comfort_noise_is_tolerated_and_leaves_no_gap() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence()), (&offer(2, PCMU), Hears::Leg(1))]);
    let mut a = Phone::of_leg(1, 0);
    a.say(&mut world, 1);
    let noise = a.packet(false, 13, &[40]);
    a.seq = a.seq.wrapping_add(1);
    world.arrive(1, a.from, &noise).unwrap();
    world.run_for(200);
    a.timestamp += 1600;
    a.say(&mut world, 2);
    let sent = world.take_sent();
    assert_eq!(numbers(&sent), [(0, 0), (1, 1760)]);
    assert_eq!(world.sessions[0].leg(LegId(1)).unwrap().statistics().packets_dropped, 0);
}

#[test]
fn reports_measure_loss_and_stay_with_the_peer() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence())]);
    let mut phone = Phone::of_leg(1, 0);
    for byte in 0..100 {
        if byte % 10 == 9 {
            phone.audio(byte, 160);
            continue;
        }
        phone.say(&mut world, byte);
    }
    let leg = world.sessions[0].leg(LegId(1)).unwrap();
    assert_eq!(
        (leg.statistics().packets_received, leg.statistics().packets_lost),
        (90, 9),
        "the last loss is not yet known"
    );
    let rtcp_from: SocketAddr = "203.0.113.5:5001".parse().unwrap();
    let report = [0x80, 201, 0, 1, 0, 0, 0, 1];
    let now = world.now;
    assert!(world.sessions[0].handle_rtcp(LegId(1), rtcp_from, &mut report.clone(), now));
    assert!(
        !world.sessions[0].handle_rtcp(LegId(1), phone.from, &mut report.clone(), now),
        "rtcp on the rtp port without rtcp-mux"
    );
    assert!(!world.sessions[0].handle_rtcp(LegId(1), rtcp_from, &mut b"junk".to_vec(), now));
    assert!(!world.sessions[0].handle_rtcp(LegId(7), rtcp_from, &mut report.clone(), now), "no such leg");
}

proptest! {
    /// Whatever a peer sends after it was heard: a session takes it or drops it, and what goes out is well formed.
    #[test]
    fn threat_05_any_datagram_of_the_peer_is_taken_or_dropped(
        datagrams in proptest::collection::vec(
            (
                prop_oneof![Just(0u8), Just(101), Just(13), 0u8..128],
                any::<u16>(),
                any::<u32>(),
                0u32..3,
                proptest::collection::vec(any::<u8>(), 0..600),
                0u64..200,
            ),
            1..60,
        )
    ) {
        let mut world = World::with(Latching::Nat, 2);
        let legs = vec![
            rtp_leg(1, &offer(1, PCMU), Hears::Leg(2)),
            rtp_leg(2, &offer(2, "8\r\na=ptime:30"), Hears::Leg(1)),
            remote_leg(9, 5, Hears::Leg(1)),
        ];
        world.command(CommandKind::Open(SessionSpec { session_id: 1, owner_epoch: 1, legs, ..SessionSpec::default() }));
        let legs = vec![rtp_leg(1, &offer(3, PCMA), Hears::Leg(9)), remote_leg(9, 5, Hears::Leg(1))];
        world.command_to(1, 1, CommandKind::Open(SessionSpec { session_id: 2, owner_epoch: 1, legs, ..SessionSpec::default() }));
        let mut phone = Phone::of_leg(1, 0);
        for (payload_type, seq, timestamp, ssrc, payload, wait_ms) in datagrams {
            (phone.seq, phone.timestamp, phone.ssrc) = (seq, timestamp, ssrc);
            let packet = phone.packet(seq & 1 == 0, payload_type, &payload);
            let _ = world.arrive(1, phone.from, &packet);
            let _ = world.arrive(1, phone.from, &payload);
            let now = world.now;
            world.sessions[0].handle_rtcp(LegId(1), "203.0.113.5:5001".parse().unwrap(), &mut payload.clone(), now);
            world.run_for(wait_ms);
        }
        world.run_for(1000);
        // `World` has parsed whatever was sent; nothing went elsewhere.
        prop_assert!(world.sent.iter().all(|sent| [5000, 5002, 5004].contains(&sent.to.port())));
    }
}
