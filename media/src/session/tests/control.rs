//! Commands: their answers, their repetition, and whose they are.

use super::*;

#[test]
fn legs_are_answered_or_refused_one_by_one() {
    let mut world = World::new();
    let legs = vec![
        rtp_leg(1, &offer(1, PCMU), silence()),
        rtp_leg(2, &offer(2, "18"), silence()),
        rtp_leg(3, "garbage", silence()),
        rtp_leg(4, "", silence()),
    ];
    let events =
        world.command(CommandKind::Open(SessionSpec { session_id: 1, owner_epoch: 1, legs, ..SessionSpec::default() }));
    let [first, second, third, fourth] = <[_; 4]>::try_from(events).unwrap();
    assert_eq!(negotiated(first).codec, "PCMU");
    assert_eq!(refused(second), Refusal::NotAcceptable);
    assert_eq!(refused(third), Refusal::MalformedSdp);
    let ours = negotiated(fourth);
    assert!(ours.codec.is_empty() && ours.sdp.starts_with(b"v=0"), "without an offer we make one");
    assert_eq!(world.sessions[0].leg_count(), 2);
    world.no_ports_left();
    let events = world.command(CommandKind::PutLeg(rtp_leg(5, &offer(5, PCMU), silence())));
    assert_eq!(events.into_iter().map(refused).collect::<Vec<_>>(), [Refusal::NoCapacity]);
}

#[test]
fn late_offer_hold_and_rollback_go_through_negotiate() {
    let mut world = World::new();
    world.command(CommandKind::Open(SessionSpec {
        session_id: 1,
        owner_epoch: 1,
        legs: vec![rtp_leg(1, "", Hears::Leg(1))],
        ..SessionSpec::default()
    }));
    let answered = negotiated(world.negotiate(1, SdpStep::RemoteAnswer, &offer(1, "8")));
    assert_eq!((answered.codec.as_str(), answered.sdp.len(), answered.held), ("PCMA", 0, false));
    let held = negotiated(world.negotiate(1, SdpStep::RemoteOffer, &offer(1, "8\r\na=inactive")));
    assert!(held.held);
    let back = negotiated(world.negotiate(1, SdpStep::Rollback, ""));
    assert_eq!((back.held, back.sdp.len(), back.codec.as_str()), (false, 0, "PCMA"));
    assert_eq!(refused(world.negotiate(1, SdpStep::RemoteAnswer, &offer(1, "8"))), Refusal::NotAcceptable);
    let ours = negotiated(world.negotiate(1, SdpStep::MakeOffer, ""));
    assert_eq!(negotiated(world.negotiate(1, SdpStep::MakeOffer, "")).sdp, ours.sdp);
    assert_eq!(refused(world.negotiate(2, SdpStep::MakeOffer, "")), Refusal::Unknown);
}

#[test]
fn our_offer_prefers_the_codec_of_the_leg_beside_it() {
    let mut world = World::new();
    world.open(&[(&offer(1, "8"), silence())]);
    let events = world.command(CommandKind::PutLeg(rtp_leg(2, "", Hears::Leg(1))));
    let sdp = negotiated(events.into_iter().next().unwrap()).sdp;
    assert!(String::from_utf8_lossy(&sdp).contains(" RTP/AVP 8 0 101\r\n"));
}

#[test]
fn commands_whose_effect_holds_answer_as_they_did() {
    let mut world = World::new();
    let spec = SessionSpec {
        session_id: 1,
        owner_epoch: 1,
        legs: vec![rtp_leg(1, &offer(1, PCMU), Hears::Leg(1))],
        ..SessionSpec::default()
    };
    let sdp_of =
        |events: Vec<MediaEventKind>| events.into_iter().map(|event| negotiated(event).sdp).collect::<Vec<_>>();
    let first = sdp_of(world.command(CommandKind::Open(spec.clone())));
    let mut phone = Phone::of_leg(1, 0);
    phone.say(&mut world, 1);
    assert_eq!(sdp_of(world.command(CommandKind::Open(spec.clone()))), first);
    assert_eq!(sdp_of(world.command(CommandKind::PutLeg(spec.legs[0].clone()))), first);
    phone.say(&mut world, 2);
    let sent = world.take_sent();
    assert_eq!(numbers(&sent), [(0, 0), (1, 160)], "the leg is the same");
    // As it stands now is as good as how it was made.
    let mut now = spec.legs[0].clone();
    let local_sdp = first[0].clone();
    now.kind = Some(LegKind::Rtp(RtpLeg { local_sdp, remote_sdp: Bytes::from(offer(1, PCMU)), ..RtpLeg::default() }));
    assert_eq!(sdp_of(world.command(CommandKind::PutLeg(now))), first);
    let closed = world.command(CommandKind::DropLeg(1));
    assert!(matches!(&closed[..], [MediaEventKind::LegClosed(LegClosed { leg_id: 1, statistics: Some(_) })]));
    let closed = world.command(CommandKind::DropLeg(1));
    assert!(matches!(&closed[..], [MediaEventKind::LegClosed(LegClosed { leg_id: 1, statistics: None })]));
}

#[test]
fn leg_of_the_same_name_and_another_peer_is_another_leg() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence())]);
    let events = world.command(CommandKind::PutLeg(rtp_leg(1, &offer(3, PCMA), silence())));
    assert!(matches!(&events[..], [MediaEventKind::LegClosed(_), MediaEventKind::Negotiated(_)]), "{events:?}");
    assert_eq!(world.sessions[0].leg_count(), 1);
}

#[test]
fn release_closes_every_leg_says_goodbye_and_ends() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), Hears::Leg(2)), (&offer(2, PCMU), Hears::Leg(1))]);
    let mut phone = Phone::of_leg(1, 0);
    phone.say(&mut world, 1);
    phone.seq = phone.seq.wrapping_add(1);
    phone.say(&mut world, 2);
    Phone::of_leg(2, 0).say(&mut world, 3);
    world.take_events();
    let before = world.reports;
    let events = world.command(CommandKind::Release(Release {}));
    let [MediaEventKind::LegClosed(second), MediaEventKind::LegClosed(first), MediaEventKind::Released(_)] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(world.reports - before, 2, "two goodbyes");
    let (first, second) = (first.statistics.clone().unwrap(), second.statistics.clone().unwrap());
    assert_eq!((first.packets_received, first.bytes_received, first.packets_lost), (2, 320, 1));
    assert_eq!((second.packets_sent, second.bytes_sent, second.codec.as_str()), (2, 320, "PCMU"));
    assert!(world.sessions[0].is_over());
    assert_eq!(world.sessions[0].next_deadline(), None, "no timer is left");
    assert_eq!(world.command(CommandKind::Release(Release {})), []);
}

#[test]
fn higher_epoch_takes_a_session_over_and_a_lower_is_ignored() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence())]);
    let hear = CommandKind::Hear(Hear { leg_id: 9, source: None });
    assert_eq!(world.command_to(0, 3, hear.clone()).len(), 1, "refused, but taken");
    assert_eq!(world.command_to(0, 2, hear.clone()), []);
    assert_eq!(world.command_to(0, 3, hear).len(), 1);
}

#[test]
fn orphan_lives_a_minute_unless_an_edge_takes_it() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), silence())]);
    world.sessions[0].handle_edge_lost(world.now);
    world.run_for(59_000);
    world.command_to(0, 2, CommandKind::Hear(Hear { leg_id: 1, source: None }));
    world.run_for(120_000);
    assert!(!world.sessions[0].is_over());
    world.sessions[0].handle_edge_lost(world.now);
    world.run_for(59_900);
    assert!(!world.sessions[0].is_over());
    world.run_for(200);
    assert!(world.sessions[0].is_over());
    assert!(matches!(world.take_events()[..], [MediaEventKind::LegClosed(_), MediaEventKind::Released(_)]));
}

#[test]
fn session_is_made_again_from_its_spec_and_goes_on() {
    let mut world = World::new();
    let answer = world.open(&[(&offer(1, PCMA), silence())]).remove(0).sdp;
    let mut elsewhere = World::new();
    elsewhere.next_port = 50_000;
    let items = vec![PlayItem { kind: Some(PlayKind::SilenceMs(1000)) }];
    let mut leg = rtp_leg(1, &offer(1, PCMA), Hears::Player(4));
    leg.players = vec![PlayerSpec { player_id: 4, items, loops: 1, offset_ms: 900 }];
    if let Some(LegKind::Rtp(rtp)) = &mut leg.kind {
        rtp.local_sdp = answer.clone();
    }
    let spec = SessionSpec { session_id: 1, owner_epoch: 2, legs: vec![leg], ..SessionSpec::default() };
    let events = elsewhere.command_to(0, 2, CommandKind::Open(spec));
    let moved = negotiated(events.into_iter().next().unwrap());
    assert_ne!(moved.sdp, answer);
    assert_eq!(moved.codec, "PCMA");
    assert!(String::from_utf8_lossy(&moved.sdp).contains(" 2 IN IP4"), "our next version");
    elsewhere.run_for(200);
    assert_eq!(elsewhere.take_sent().len(), 5, "the last 100 ms, to where the peer was");
    assert!(matches!(
        elsewhere.take_events()[..],
        [MediaEventKind::PlayerEnded(PlayerEnded { finished: true, offset_ms: 1000, .. })]
    ));
}

#[test]
fn messages_of_other_versions_are_read_as_far_as_they_are_understood() {
    use prost::Message as _;
    /// A leg as it was before there was a mix.
    #[derive(Clone, PartialEq, prost::Message)]
    struct OldLeg {
        #[prost(uint32, tag = "1")]
        leg_id: u32,
        #[prost(message, optional, tag = "4")]
        hears: Option<OldSource>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct OldSource {
        #[prost(uint32, optional, tag = "3")]
        leg: Option<u32>,
    }
    let mixing = Some(Mixing { heard: true, whispers_to: Some(3), tells_speaking: true });
    let new = LegSpec { mixing, ..remote_leg(7, 1, Hears::Mix(Mix {})) };
    let old = OldLeg::decode(new.encode_to_vec().as_slice()).unwrap();
    assert_eq!(old, OldLeg { leg_id: 7, hears: Some(OldSource { leg: None }) });
    assert_eq!(LegSpec::decode(old.encode_to_vec().as_slice()).unwrap().mixing, None);
    // Whatever it is that a later version hears, here it is silence.
    let later = Source::decode(&[0xFA, 0x01, 0x00][..]).unwrap();
    assert_eq!(later, Source { from: None });
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), Hears::Leg(1))]);
    world.command(CommandKind::Hear(Hear { leg_id: 1, source: Some(later) }));
    assert_eq!(world.sessions[0].slots[0].hears, Hearing::Silence);
}

#[test]
fn command_for_no_session_is_answered_all_the_same() {
    let answers = |kind| {
        let command = Command { command_id: 4, session_id: 8, owner_epoch: 1, kind: Some(kind) };
        unknown(&command).into_iter().map(|event| event.kind.unwrap()).collect::<Vec<_>>()
    };
    assert!(matches!(answers(CommandKind::Release(Release {}))[..], [MediaEventKind::Released(_)]));
    assert!(matches!(
        answers(CommandKind::DropLeg(3))[..],
        [MediaEventKind::LegClosed(LegClosed { leg_id: 3, statistics: None })]
    ));
    let mix = CommandKind::Mix(SetMixing { leg_id: 3, mixing: None });
    for kind in [CommandKind::Hear(Hear { leg_id: 3, source: None }), mix] {
        assert_eq!(refused(answers(kind).remove(0)), Refusal::Unknown);
    }
    let leg = Recorded::Leg(RecordedLeg { leg_id: 3, track: 0 });
    let record = RecorderSpec { recorder_id: 6, source: Some(leg), ..RecorderSpec::default() };
    let pause = PauseRecording { recorder_id: 6, mode: 0 };
    for (kind, leg_id) in [
        (CommandKind::Record(record), 3),
        (CommandKind::StopRecording(6), 0),
        (CommandKind::PauseRecording(pause), 0),
        (CommandKind::ResumeRecording(6), 0),
    ] {
        let MediaEventKind::RecorderEnded(ended) = answers(kind).remove(0) else { panic!() };
        assert_eq!((ended.recorder_id, ended.leg_id, ended.reason()), (6, leg_id, RecorderEnd::Failed));
        assert_eq!(ended.text, "no such session");
    }
}
