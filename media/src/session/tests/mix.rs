//! The mix, by what is heard of it: everybody says a tone of their own, and the tones in each ear are measured.

use super::sound::*;
use super::*;
use crate::codec::Codec;

const HZ: [u32; 5] = [400, 700, 1100, 1700, 2300];

fn heard() -> Option<Mixing> {
    Some(Mixing { heard: true, whispers_to: None, tells_speaking: false })
}

fn muted() -> Option<Mixing> {
    Some(Mixing::default())
}

fn coaching(leg: u32) -> Option<Mixing> {
    Some(Mixing { heard: true, whispers_to: Some(leg), tells_speaking: false })
}

fn the_mix() -> Hears {
    Hears::Mix(Mix {})
}

/// Phones of both laws, one with packets of 30 ms, and members on links.
fn everybody() -> Vec<Party> {
    vec![
        Party::on_phone(1, HZ[0], Codec::Pcmu),
        Party::on_phone(2, HZ[1], Codec::Pcma),
        Party::on_phone(3, HZ[2], Codec::Pcmu).with_long_packets(),
        Party::on_link(4, HZ[3]),
        Party::on_link(5, HZ[4]),
    ]
}

fn conference(parties: &[Party]) -> World {
    let mut world = World::new();
    let legs = parties.iter().map(|party| party.spec(the_mix(), heard())).collect();
    world.command(CommandKind::Open(SessionSpec { session_id: 1, owner_epoch: 1, legs, ..SessionSpec::default() }));
    world
}

fn mix(world: &mut World, leg_id: u32, mixing: Option<Mixing>) {
    assert_eq!(world.command(CommandKind::Mix(SetMixing { leg_id, mixing })), []);
}

/// Who is heard in these samples, by their places in [`HZ`]; nothing may be half there.
fn voices(samples: &[i16]) -> Vec<usize> {
    assert!(samples.len() >= 1600, "only {} samples", samples.len());
    let heard = |index: &usize| {
        let level = level(samples, HZ[*index]) / LOUD;
        assert!(!(0.03..0.8).contains(&level) && level < 1.2, "{} Hz is heard at {level}", HZ[*index]);
        level > 0.5
    };
    (0..HZ.len()).filter(heard).collect()
}

/// Lets all speak, and tells of each whom it hears once the change before has settled.
fn ears(world: &mut World, parties: &mut [Party]) -> Vec<Vec<usize>> {
    talk(world, parties, 300);
    parties.iter_mut().for_each(|party| drop(party.hear()));
    talk(world, parties, 400);
    parties.iter_mut().map(|party| voices(&party.hear())).collect()
}

#[test]
fn everybody_hears_the_others_and_not_themselves() {
    let mut parties = everybody();
    let mut world = conference(&parties);
    let all: Vec<Vec<usize>> = (0..5).map(|own| (0..5).filter(|other| *other != own).collect()).collect();
    assert_eq!(ears(&mut world, &mut parties), all);
    // For a while: clocks and buffers stay in step.
    talk(&mut world, &mut parties, 20_000);
    assert_eq!(ears(&mut world, &mut parties), all);
}

#[test]
fn muted_member_hears_and_is_not_heard_until_it_is_unmuted() {
    let mut parties = everybody();
    let mut world = conference(&parties);
    talk(&mut world, &mut parties, 500);
    for leg in [1, 4] {
        mix(&mut world, leg, muted());
    }
    assert_eq!(ears(&mut world, &mut parties), [vec![1, 2, 4], vec![2, 4], vec![1, 4], vec![1, 2, 4], vec![1, 2]]);
    mix(&mut world, 1, heard());
    mix(&mut world, 4, None);
    assert_eq!(
        ears(&mut world, &mut parties),
        [vec![1, 2, 4], vec![0, 2, 4], vec![0, 1, 4], vec![0, 1, 2, 4], vec![0, 1, 2]]
    );
}

#[test]
fn coach_is_heard_by_one_and_hears_all() {
    let mut parties = everybody();
    let mut world = conference(&parties);
    mix(&mut world, 1, coaching(4));
    let coached = [vec![1, 2, 3, 4], vec![2, 3, 4], vec![1, 3, 4], vec![0, 1, 2, 4], vec![1, 2, 3]];
    assert_eq!(ears(&mut world, &mut parties), coached);
    // Another pupil, and a second coach for it.
    mix(&mut world, 1, coaching(2));
    mix(&mut world, 5, coaching(2));
    assert_eq!(
        ears(&mut world, &mut parties),
        [vec![1, 2, 3], vec![0, 2, 3, 4], vec![1, 3], vec![1, 2], vec![1, 2, 3]]
    );
    // A coach who is muted is heard by nobody; one who coaches no longer, by all.
    mix(&mut world, 1, Some(Mixing { heard: false, whispers_to: Some(2), tells_speaking: false }));
    mix(&mut world, 5, heard());
    assert_eq!(
        ears(&mut world, &mut parties),
        [vec![1, 2, 3, 4], vec![2, 3, 4], vec![1, 3, 4], vec![1, 2, 4], vec![1, 2, 3]]
    );
}

#[test]
fn members_come_and_go_and_the_rest_go_on() {
    let mut parties = everybody();
    let mut world = conference(&parties[..2]);
    talk(&mut world, &mut parties[..2], 1000);
    for party in &parties[2..] {
        world.command(CommandKind::PutLeg(party.spec(the_mix(), heard())));
    }
    let all: Vec<Vec<usize>> = (0..5).map(|own| (0..5).filter(|other| *other != own).collect()).collect();
    assert_eq!(ears(&mut world, &mut parties), all);
    for leg in [1, 4] {
        assert!(matches!(world.command(CommandKind::DropLeg(leg))[..], [MediaEventKind::LegClosed(_)]));
    }
    let mut left: Vec<Party> = parties.into_iter().filter(|party| ![1, 4].contains(&party.leg)).collect();
    assert_eq!(ears(&mut world, &mut left), [vec![2, 4], vec![1, 4], vec![1, 2]]);
}

#[test]
fn nothing_clicks_whoever_comes_goes_or_is_muted() {
    // A tone of which a packet ends anywhere but at zero.
    let mut parties = [Party::on_link(1, 400), Party::on_link(2, 310), Party::on_phone(3, 310, Codec::Pcmu)];
    parties[0].says = false;
    (parties[1].amplitude, parties[2].amplitude) = (20_000.0, 20_000.0);
    let mut world = conference(&parties[..1]);
    type Change = (&'static str, fn(&mut World, &[Party]));
    let changes: [Change; 9] = [
        ("enters", |world, parties| drop(world.command(CommandKind::PutLeg(parties[1].spec(the_mix(), heard()))))),
        ("muted", |world, _| mix(world, 2, muted())),
        ("unmuted", |world, _| mix(world, 2, heard())),
        ("coaches another", |world, _| mix(world, 2, coaching(3))),
        ("coaches the listener", |world, _| mix(world, 2, coaching(1))),
        ("heard by all", |world, _| mix(world, 2, heard())),
        ("leaves", |world, _| drop(world.command(CommandKind::DropLeg(2)))),
        ("enters by phone", |world, all| drop(world.command(CommandKind::PutLeg(all[2].spec(the_mix(), heard()))))),
        ("leaves by phone", |world, _| drop(world.command(CommandKind::DropLeg(3)))),
    ];
    let slope = 20_000.0 * std::f64::consts::TAU * 310.0 / 8000.0;
    let mut loud = 0;
    for (index, (name, change)) in changes.into_iter().enumerate() {
        // At another place in the wave each time.
        talk(&mut world, &mut parties, 20 + 23 * index as u64);
        change(&mut world, &parties);
        talk(&mut world, &mut parties, 400);
        let heard = parties[0].hear();
        loud += usize::from(level(&heard[heard.len() - 1600..], 310) > 15_000.0);
        let step = steepest(&heard);
        assert!(f64::from(step) < slope * 1.3, "{name}: a step of {step}, where the tone has {slope}");
    }
    assert_eq!(loud, 5, "it was heard after five of the changes");
}

#[test]
fn mix_fades_in_for_who_begins_to_hear_it() {
    let mut parties = [Party::on_link(1, 400), Party::on_link(2, 310)];
    (parties[0].says, parties[1].amplitude) = (false, 20_000.0);
    let mut world = conference(&parties);
    for ms in 100..110 {
        world.hear(1, silence());
        talk(&mut world, &mut parties, ms);
        parties[0].hear();
        world.hear(1, the_mix());
        talk(&mut world, &mut parties, 100);
        let heard = [&[0][..], &parties[0].hear()].concat();
        assert!(steepest(&heard) < 6000 && heard.len() > 800, "{}", steepest(&heard));
    }
}

#[test]
fn mix_flows_without_a_pause_and_its_numbers_go_on() {
    let mut parties = [Party::on_phone(1, HZ[0], Codec::Pcmu), Party::on_phone(2, HZ[1], Codec::Pcmu)];
    let mut world = conference(&parties);
    parties[1].says = false;
    let mut sent = Vec::new();
    for ms in 0..3000 {
        parties[1].says = (1000..1500).contains(&ms);
        let before = parties[0].hear().len();
        talk(&mut world, &mut parties, 1);
        sent.push((before, world.now));
    }
    // Nobody speaks in the first second and in the last.
    let heard = |from: usize| sent[from..from + 900].iter().map(|(samples, _)| samples).sum::<usize>();
    assert_eq!([heard(50), heard(1050), heard(2050)], [7200; 3]);
    let leg = world.sessions[0].leg(LegId(1)).unwrap();
    assert_eq!(leg.statistics().packets_sent, 151);
}

#[test]
fn sum_of_many_loud_voices_is_limited_and_not_torn() {
    let mut parties: Vec<Party> = (1..=8).map(|leg| Party::on_link(leg, 300)).collect();
    parties.iter_mut().for_each(|party| party.amplitude = 25_000.0);
    let mut world = conference(&parties);
    talk(&mut world, &mut parties, 1000);
    let heard = parties[0].hear().split_off(4000);
    assert!(heard.iter().all(|sample| sample.unsigned_abs() < 32_767));
    assert!(level(&heard, 300) > 32_000.0);
    // What wraps around steps over the whole scale, and what is clipped steps at its edges.
    let alone = f64::from(steepest(&tone(300, 7.0 * 25_000.0, 0, 800)));
    assert!(f64::from(steepest(&heard)) < alone, "{} {alone}", steepest(&heard));
}

#[test]
fn announcement_is_heard_by_all_and_told_when_it_ends() {
    let mut parties = everybody();
    parties.iter_mut().for_each(|party| party.says = false);
    let mut world = conference(&parties);
    let announcer =
        LegSpec { leg_id: 9, kind: Some(LegKind::Announcer(Announcer {})), mixing: heard(), ..LegSpec::default() };
    assert_eq!(world.command(CommandKind::PutLeg(announcer.clone())), []);
    let tone = Tone { frequencies_hz: vec![HZ[4]], cadence_ms: vec![], duration_ms: 1000 };
    assert_eq!(world.play(9, 1, vec![PlayKind::Tone(tone.clone())]), []);
    talk(&mut world, &mut parties, 600);
    for party in &mut parties {
        let heard = party.hear().split_off(1600);
        assert!(level(&heard, HZ[4]) > 4000.0, "leg {}", party.leg);
    }
    // The same commands again change nothing.
    assert_eq!(world.play(9, 1, vec![PlayKind::Tone(tone.clone())]), []);
    let again = LegSpec { hears: Some(Source { from: Some(Hears::Player(1)) }), ..announcer };
    assert_eq!(world.command(CommandKind::PutLeg(again)), []);
    talk(&mut world, &mut parties, 600);
    let ended = PlayerEnded { leg_id: 9, player_id: 1, finished: true, offset_ms: 1000 };
    assert_eq!(world.take_events(), [MediaEventKind::PlayerEnded(ended.clone())]);
    assert_eq!(world.play(9, 1, vec![PlayKind::Tone(tone)]), [MediaEventKind::PlayerEnded(ended)]);
    // Digits have nobody to be sent to: they are heard.
    world.play(9, 2, vec![PlayKind::Digits("5".into())]);
    parties.iter_mut().for_each(|party| drop(party.hear()));
    talk(&mut world, &mut parties, 100);
    for party in &mut parties {
        let heard = party.hear();
        assert!(level(&heard, 770) > 3000.0 && level(&heard, 1336) > 3000.0, "leg {}", party.leg);
    }
}

#[test]
fn announcement_that_is_replaced_does_not_click() {
    let mut parties = [Party::on_link(1, HZ[0])];
    parties[0].says = false;
    let mut world = conference(&parties);
    let kind = Some(LegKind::Announcer(Announcer {}));
    world.command(CommandKind::PutLeg(LegSpec { leg_id: 9, kind, mixing: heard(), ..LegSpec::default() }));
    let clip = |value: i16| Clip::new(Bytes::from(value.to_le_bytes().repeat(8000)), 8000).unwrap();
    for byte in [1, 2] {
        world.clips.insert(ClipHash::from_bytes(&[byte; 32]).unwrap(), clip(if byte == 1 { 20_000 } else { -20_000 }));
    }
    for byte in [1, 2, 1] {
        world.play(9, u32::from(byte), vec![PlayKind::Audio(Bytes::from(vec![byte; 32]))]);
        talk(&mut world, &mut parties, 190);
    }
    world.hear(9, silence());
    talk(&mut world, &mut parties, 100);
    let step = steepest(&parties[0].hear());
    assert!(step < 1300, "{step}");
}

#[test]
fn music_before_the_conference_is_heard_by_those_who_wait() {
    let mut parties = everybody();
    let mut world = World::new();
    let tone = Tone { frequencies_hz: vec![3000], cadence_ms: vec![], duration_ms: 0 };
    let music = LegSpec {
        leg_id: 9,
        kind: Some(LegKind::Announcer(Announcer {})),
        hears: Some(Source { from: Some(Hears::Player(1)) }),
        players: vec![PlayerSpec {
            player_id: 1,
            items: vec![PlayItem { kind: Some(PlayKind::Tone(tone)) }],
            loops: 0,
            offset_ms: 0,
        }],
        mixing: None,
    };
    let legs = parties.iter().map(|party| party.spec(Hears::Leg(9), muted())).chain([music]).collect();
    world.command(CommandKind::Open(SessionSpec { session_id: 1, owner_epoch: 1, legs, ..SessionSpec::default() }));
    talk(&mut world, &mut parties, 500);
    for party in &mut parties {
        let heard = party.hear();
        assert!(level(&heard, 3000) > 4000.0, "leg {}", party.leg);
        assert_eq!(voices(&heard), [0; 0]);
    }
    for party in &parties[..4] {
        world.hear(party.leg, the_mix());
        mix(&mut world, party.leg, heard());
    }
    assert_eq!(
        ears(&mut world, &mut parties),
        [vec![1, 2, 3], vec![0, 2, 3], vec![0, 1, 3], vec![0, 1, 2], vec![]],
        "it has begun, but for one who waits still"
    );
    talk(&mut world, &mut parties, 300);
    let music = parties.iter_mut().map(|party| level(&party.hear(), 3000) > 4000.0);
    assert_eq!(music.collect::<Vec<_>>(), [false, false, false, false, true]);
}

#[test]
fn member_on_hold_hears_its_player_and_nobody_hears_it() {
    let mut parties = everybody();
    let mut world = conference(&parties);
    talk(&mut world, &mut parties, 500);
    let tone = Tone { frequencies_hz: vec![3000], cadence_ms: vec![], duration_ms: 0 };
    for leg in [2, 5] {
        mix(&mut world, leg, muted());
        assert_eq!(world.play(leg, leg, vec![PlayKind::Tone(tone.clone())]), []);
    }
    assert_eq!(ears(&mut world, &mut parties), [vec![2, 3], vec![], vec![0, 3], vec![0, 2], vec![]]);
    talk(&mut world, &mut parties, 300);
    let music = parties.iter_mut().map(|party| level(&party.hear(), 3000) > 4000.0);
    assert_eq!(music.collect::<Vec<_>>(), [false, true, false, false, true]);
    for leg in [2, 5] {
        let ended = world.hear(leg, the_mix());
        assert!(matches!(ended[..], [MediaEventKind::PlayerEnded(PlayerEnded { finished: false, .. })]));
        mix(&mut world, leg, heard());
    }
    let all: Vec<Vec<usize>> = (0..5).map(|own| (0..5).filter(|other| *other != own).collect()).collect();
    assert_eq!(ears(&mut world, &mut parties), all);
}

#[test]
fn who_speaks_is_told_where_it_is_asked_for() {
    let mut parties = everybody();
    parties.iter_mut().for_each(|party| party.says = false);
    let asked = Some(Mixing { heard: true, whispers_to: None, tells_speaking: true });
    let mut world = conference(&parties);
    for leg in [1, 4] {
        mix(&mut world, leg, asked.clone());
    }
    world.take_events();
    let mut told = Vec::new();
    // All speak for a second, twice, with a breath between; then again, and are muted while they speak.
    for (says, ms) in [(true, 1000), (false, 400), (true, 1000), (false, 2000), (true, 500)] {
        parties.iter_mut().for_each(|party| party.says = says);
        talk(&mut world, &mut parties, ms);
        told.extend(world.take_events().into_iter().filter(|event| matches!(event, MediaEventKind::Speaking(_))));
    }
    let speaking = |leg_id, speaking| MediaEventKind::Speaking(Speaking { leg_id, speaking });
    told.sort_by_key(|event| matches!(event, MediaEventKind::Speaking(Speaking { leg_id: 4, .. })));
    let of = |leg| [speaking(leg, true), speaking(leg, false), speaking(leg, true)];
    assert_eq!(told, [of(1), of(4)].concat());
    let muted = Some(Mixing { heard: false, whispers_to: None, tells_speaking: true });
    let told = world.command(CommandKind::Mix(SetMixing { leg_id: 1, mixing: muted }));
    assert_eq!(told, [speaking(1, false)]);
}

#[test]
fn conference_is_made_again_from_its_spec() {
    let mut parties = everybody();
    let mut world = conference(&parties);
    let specs = |parties: &[Party]| -> Vec<LegSpec> {
        let mixing = [heard(), muted(), coaching(1), heard(), None];
        parties.iter().zip(mixing).map(|(party, mixing)| party.spec(the_mix(), mixing)).collect()
    };
    let spec = |parties: &[Party]| {
        let legs = specs(parties);
        CommandKind::Open(SessionSpec { session_id: 1, owner_epoch: 1, legs, ..SessionSpec::default() })
    };
    let expected = [vec![2, 3], vec![0, 3], vec![0, 3], vec![0], vec![0, 3]];
    world.command(spec(&parties));
    assert_eq!(ears(&mut world, &mut parties), expected);
    // The same again, in the midst of it: nobody hears a thing.
    parties.iter_mut().for_each(|party| drop(party.hear()));
    talk(&mut world, &mut parties, 200);
    world.command(spec(&parties));
    talk(&mut world, &mut parties, 200);
    let slope = f64::from(steepest(&tone(HZ[2], LOUD, 0, 800))) + f64::from(steepest(&tone(HZ[3], LOUD, 0, 800)));
    let heard = parties[0].hear();
    assert_eq!(heard.len(), 3200);
    assert!(f64::from(steepest(&heard)) < slope * 1.1);
    // On a worker that knows nothing.
    let mut elsewhere = World::new();
    elsewhere.command(spec(&parties));
    assert_eq!(ears(&mut elsewhere, &mut parties), expected);
}

#[test]
fn nobody_who_listens_costs_nothing() {
    let mut parties = [Party::on_link(1, HZ[0]), Party::on_link(2, HZ[1])];
    let mut world = conference(&parties);
    talk(&mut world, &mut parties, 500);
    for leg in [1, 2] {
        world.hear(leg, silence());
    }
    talk(&mut world, &mut parties, 500);
    assert_eq!(world.sessions[0].next_deadline(), None, "no tick is left");
    assert_eq!(refused_mix(&mut world), Refusal::Unknown);
}

fn refused_mix(world: &mut World) -> Refusal {
    refused(world.command(CommandKind::Mix(SetMixing { leg_id: 77, mixing: None })).remove(0))
}
