//! Recordings, compared with what was said: sample by sample, on a disk that is a vector.

use super::sound::*;
use super::*;
use crate::codec::Codec;

fn recorder(recorder_id: u32, source: Recorded) -> RecorderSpec {
    let file = format!("RE{recorder_id}.wav");
    RecorderSpec { recorder_id, source: Some(source), channels: 1, file, ..RecorderSpec::default() }
}

fn of_leg(leg_id: u32, track: Track) -> Recorded {
    Recorded::Leg(RecordedLeg { leg_id, track: track as i32 })
}

fn of_mix() -> Recorded {
    Recorded::Mix(Mix {})
}

/// Two phones that hear each other, and say noise.
fn bridge() -> (World, [Party; 2]) {
    let mut parties = [Party::on_phone(1, 0, Codec::Pcmu), Party::on_phone(2, 0, Codec::Pcma).with_long_packets()];
    (parties[0].seed, parties[1].seed) = (Some(1), Some(2));
    let mut world = World::new();
    let legs = vec![parties[0].spec(Hears::Leg(2), None), parties[1].spec(Hears::Leg(1), None)];
    world.command(CommandKind::Open(SessionSpec { session_id: 1, owner_epoch: 1, legs, ..SessionSpec::default() }));
    (world, parties)
}

fn record(world: &mut World, spec: RecorderSpec) -> Vec<MediaEventKind> {
    world.command(CommandKind::Record(spec))
}

fn stop(world: &mut World, recorder_id: u32) -> RecorderEnded {
    let mut events = world.command(CommandKind::StopRecording(recorder_id));
    assert_eq!(events.len(), 1, "{events:?}");
    ended(events.remove(0))
}

fn ended(event: MediaEventKind) -> RecorderEnded {
    match event {
        MediaEventKind::RecorderEnded(ended) => ended,
        other => panic!("{other:?}"),
    }
}

fn only_end(world: &mut World) -> RecorderEnded {
    let ends: Vec<_> =
        world.take_events().into_iter().filter(|event| matches!(event, MediaEventKind::RecorderEnded(_))).collect();
    assert_eq!(ends.len(), 1, "{ends:?}");
    ended(ends.into_iter().next().unwrap())
}

/// A millisecond for each 8 samples that are not silent, run by run: (silent, from, to).
fn runs(samples: &[i16]) -> Vec<(bool, usize, usize)> {
    let loud = |chunk: &[i16]| chunk.iter().any(|sample| sample.unsigned_abs() > 100);
    let mut runs: Vec<(bool, usize, usize)> = Vec::new();
    for (ms, chunk) in samples.chunks(80).enumerate() {
        let silent = !loud(chunk);
        match runs.last_mut().filter(|run| run.0 == silent) {
            Some(run) => run.2 = (ms + 1) * 10,
            None => runs.push((silent, ms * 10, (ms + 1) * 10)),
        }
    }
    runs
}

#[test]
fn what_a_party_says_is_in_the_file_and_nothing_else() {
    let (mut world, mut parties) = bridge();
    talk(&mut world, &mut parties, 500);
    let began = parties[0].said.len();
    let started = RecorderStarted { recorder_id: 7, leg_id: 1, channels: 1 };
    assert_eq!(record(&mut world, recorder(7, of_leg(1, Track::Inbound))), [MediaEventKind::RecorderStarted(started)]);
    talk(&mut world, &mut parties, 3000);
    let end = stop(&mut world, 7);
    let expected = RecorderEnded {
        recorder_id: 7,
        leg_id: 1,
        reason: RecorderEnd::Stopped as i32,
        text: String::new(),
        duration_ms: 3000,
        bytes: 44 + 48_000,
        trimmed_ms: 0,
        channels: 1,
        voiced: true,
    };
    assert_eq!(end, expected);
    let file = &world.files[&7];
    assert_eq!((file.name.as_str(), file.channels, file.goes_on, file.is_finished), ("RE7.wav", 1, false, true));
    assert!((14..=16).contains(&file.writes), "{} writes of 200 ms", file.writes);
    let said = &parties[0].said[began..];
    let (alike, late) = likeness(said, &file.samples, 400);
    assert!(alike > 0.999, "{alike}");
    assert_eq!(late, 0, "what was said when it began is at the beginning");
    // The measure tells other audio, and silence, from it.
    assert!(likeness(&parties[1].said[began..], &file.samples, 400).0 < 0.05);
    assert!(likeness(said, &vec![0; 24_000], 400).0 < 0.01);
    assert!(likeness(&said[800..], &file.samples, 400).0 < 0.05, "at another place");
}

#[test]
fn both_sides_lie_beside_each_other_or_in_one_channel() {
    let (mut world, mut parties) = bridge();
    talk(&mut world, &mut parties, 600);
    let began = parties[0].said.len();
    record(&mut world, RecorderSpec { channels: 2, ..recorder(1, of_leg(1, Track::Both)) });
    record(&mut world, RecorderSpec { channels: 1, ..recorder(2, of_leg(1, Track::Both)) });
    record(&mut world, RecorderSpec { channels: 2, ..recorder(3, of_leg(1, Track::Outbound)) });
    record(&mut world, RecorderSpec { channels: 2, ..recorder(4, of_leg(2, Track::Both)) });
    talk(&mut world, &mut parties, 3000);
    let ends = [1, 2, 3, 4].map(|recorder| stop(&mut world, recorder));
    assert_eq!(ends.each_ref().map(|end| end.channels), [2, 1, 1, 2], "one side has one channel");
    assert!(ends.iter().all(|end| end.duration_ms == 3000));
    let said = parties.each_ref().map(|party| &party.said[began..]);
    let [dual, mono, outbound, other] = [1, 2, 3, 4].map(|recorder| &world.files[&recorder]);
    // The next packet of 30 ms came 20 ms after it began.
    let later = 160;
    let channels = [
        (said[0], dual.channel(0), 0),
        (said[1], dual.channel(1), later),
        (said[1], outbound.channel(0), later),
        (said[1], other.channel(0), later),
        (said[0], other.channel(1), 0),
    ];
    for (index, (said, channel, expected)) in channels.iter().enumerate() {
        let (alike, late) = likeness(said, channel, 400);
        assert!(alike > 0.999 && late == *expected, "channel {index}: {alike}, {late} late");
    }
    let second = [&vec![0; later][..], said[1]].concat();
    let sum: Vec<i16> = said[0].iter().zip(second).map(|(a, b)| a + b).collect();
    assert!(likeness(&sum, &mono.samples, 10).0 > 0.999);
    for said in said {
        assert!((0.6..0.8).contains(&likeness(said, &mono.samples, 200).0));
    }
}

#[test]
fn relayed_packets_are_the_same_with_a_recorder_beside_them() {
    let sent = [false, true].map(|records| {
        let mut world = World::new();
        world.open(&[(&offer(1, PCMU), Hears::Leg(2)), (&offer(2, PCMU), Hears::Leg(1))]);
        if records {
            record(&mut world, RecorderSpec { channels: 2, ..recorder(1, of_leg(1, Track::Both)) });
        }
        let (mut a, mut b) = (Phone::of_leg(1, 0), Phone::of_leg(2, 0));
        for byte in 0..=255 {
            a.say(&mut world, byte);
            b.say(&mut world, byte);
        }
        world.take_sent()
    });
    assert_eq!(sent[0].len(), 512);
    assert_eq!(sent[0], sent[1]);
}

#[test]
fn channels_stay_aligned_whatever_one_network_does() {
    let mut world = World::new();
    world.open(&[(&offer(1, PCMU), Hears::Leg(2)), (&offer(2, PCMU), Hears::Leg(1))]);
    record(&mut world, RecorderSpec { channels: 2, ..recorder(1, of_leg(1, Track::Both)) });
    let mut phones = [Phone::of_leg(1, 0), Phone::of_leg(2, 0)];
    let mut random = crate::random::Random::new(3, 3);
    // Both say the same; what the second says is lost, late and out of order.
    let mut arrivals = Vec::new();
    for index in 0..250u64 {
        let mut payload = [0; 160];
        Codec::Pcmu.waits_as().encode(&noise(5, LOUD, index as usize * 160, 160), &mut payload);
        for (side, phone) in phones.iter_mut().enumerate() {
            let late = if side == 0 { 0 } else { (random.next_unit() * 90.0) as u64 };
            let is_lost = side == 1 && random.next_unit() < 0.05;
            if !is_lost {
                arrivals.push((index * 20 + late, side, phone.packet(false, 0, &payload)));
            }
            (phone.seq, phone.timestamp) = (phone.seq.wrapping_add(1), phone.timestamp.wrapping_add(160));
        }
    }
    for ms in 0..5200 {
        for (_, side, packet) in arrivals.iter().filter(|(at, ..)| *at == ms) {
            world.arrive(*side as u32 + 1, phones[*side].from, packet).unwrap();
        }
        world.run_for(1);
    }
    stop(&mut world, 1);
    let file = &world.files[&1];
    let [left, right] = [0, 1].map(|channel| file.channel(channel));
    for from in [0, 16_000, 32_000] {
        let (alike, late) = likeness(&left[from..from + 6400], &right[from..], 800);
        let (alike_early, early) = likeness(&right[from..from + 6400], &left[from..], 800);
        // Every twentieth packet is missing.
        assert!(alike.max(alike_early) > 0.85, "{alike} {alike_early}");
        assert!(if alike > alike_early { late } else { early } < 160, "{late} {early}");
    }
}

#[test]
fn side_that_a_leg_hears_is_recorded_wherever_it_comes_from() {
    let mut parties = [Party::on_phone(1, 400, Codec::Pcmu).with_long_packets(), Party::on_link(2, 700)];
    let mut world = World::new();
    let heard = Some(Mixing { heard: true, whispers_to: None, tells_speaking: false });
    let legs = vec![parties[0].spec(silence(), None), parties[1].spec(Hears::Leg(1), heard)];
    world.command(CommandKind::Open(SessionSpec { session_id: 1, owner_epoch: 1, legs, ..SessionSpec::default() }));
    record(&mut world, RecorderSpec { channels: 2, ..recorder(1, of_leg(1, Track::Both)) });
    record(&mut world, RecorderSpec { channels: 2, ..recorder(2, of_leg(2, Track::Both)) });
    talk(&mut world, &mut parties, 300);
    // In turn: a player, the link, the mix, an announcer, itself, and nothing.
    let tone = |hz| PlayKind::Tone(Tone { frequencies_hz: vec![hz], cadence_ms: vec![], duration_ms: 0 });
    world.play(1, 1, vec![tone(1100)]);
    talk(&mut world, &mut parties, 300);
    world.hear(1, Hears::Leg(2));
    talk(&mut world, &mut parties, 300);
    world.hear(1, Hears::Mix(Mix {}));
    talk(&mut world, &mut parties, 300);
    let kind = Some(LegKind::Announcer(Announcer {}));
    world.command(CommandKind::PutLeg(LegSpec { leg_id: 9, kind, ..LegSpec::default() }));
    world.play(9, 1, vec![tone(2300)]);
    world.hear(1, Hears::Leg(9));
    talk(&mut world, &mut parties, 300);
    world.hear(1, Hears::Leg(1));
    talk(&mut world, &mut parties, 300);
    world.hear(1, silence());
    talk(&mut world, &mut parties, 300);
    stop(&mut world, 1);
    stop(&mut world, 2);
    let heard = world.files[&1].channel(1);
    for (index, hz) in [0, 1100, 700, 700, 2300, 400, 0].into_iter().enumerate() {
        let part = &heard[index * 2400 + 800..(index + 1) * 2400];
        for other in [400, 700, 1100, 2300] {
            let level = level(part, other);
            assert!(if other == hz { level > 4000.0 } else { level < 300.0 }, "part {index}, {other} Hz: {level}");
        }
    }
    // The leg of the link heard the phone all the time, and said its own.
    let link = &world.files[&2];
    assert!(level(&link.channel(0)[800..], 700) > 5000.0 && level(&link.channel(1)[800..], 400) > 5000.0);
}

#[test]
fn conference_is_recorded_as_who_only_listens_hears_it() {
    let mut parties = [
        Party::on_phone(1, 400, Codec::Pcmu),
        Party::on_link(2, 700),
        Party::on_link(3, 1100),
        Party::on_link(4, 1700),
    ];
    let mut world = World::new();
    let mixing = |heard, whispers_to| Some(Mixing { heard, whispers_to, tells_speaking: false });
    let mixings = [mixing(true, None), mixing(true, None), mixing(false, None), mixing(true, Some(2))];
    let legs = parties.iter().zip(mixings).map(|(party, mixing)| party.spec(Hears::Mix(Mix {}), mixing)).collect();
    let recorders = vec![RecorderSpec { channels: 2, ..recorder(5, of_mix()) }];
    let spec = SessionSpec { session_id: 1, owner_epoch: 1, legs, recorders, ..SessionSpec::default() };
    let events = world.command(CommandKind::Open(spec.clone()));
    let started = MediaEventKind::RecorderStarted(RecorderStarted { recorder_id: 5, leg_id: 0, channels: 1 });
    assert_eq!(events.last(), Some(&started));
    talk(&mut world, &mut parties, 1000);
    // The same again goes on with it; it is recorded though nobody listens any more.
    world.command(CommandKind::Open(spec.clone()));
    for leg in 1..=4 {
        world.hear(leg, silence());
    }
    talk(&mut world, &mut parties, 1000);
    // A spec without it ends it.
    world.take_events();
    let events = world.command(CommandKind::Open(SessionSpec { recorders: Vec::new(), ..spec }));
    let end = events.into_iter().find(|event| matches!(event, MediaEventKind::RecorderEnded(_))).map(ended);
    assert_eq!(end.map(|end| (end.reason(), end.duration_ms)), Some((RecorderEnd::Stopped, 2000)));
    let samples = &world.files[&5].samples;
    for part in [&samples[1600..8000], &samples[9600..]] {
        let levels = [400, 700, 1100, 1700].map(|hz| level(part, hz));
        assert!(levels[0] > 5000.0 && levels[1] > 5000.0 && levels[2] < 100.0 && levels[3] < 100.0, "{levels:?}");
    }
}

#[test]
fn pause_is_left_out_or_is_silent_from_its_own_moment_on() {
    for (mode, duration_ms) in [(PauseMode::Skip, 2000), (PauseMode::Silence, 3000)] {
        let (mut world, mut parties) = bridge();
        talk(&mut world, &mut parties, 500);
        let began = parties[0].said.len();
        record(&mut world, recorder(1, of_leg(1, Track::Inbound)));
        talk(&mut world, &mut parties, 1000);
        let pause = CommandKind::PauseRecording(PauseRecording { recorder_id: 1, mode: mode as i32 });
        assert_eq!(world.command(pause.clone()), []);
        assert_eq!(world.command(pause), []);
        talk(&mut world, &mut parties, 1000);
        for _ in 0..2 {
            assert_eq!(world.command(CommandKind::ResumeRecording(1)), []);
        }
        talk(&mut world, &mut parties, 1000);
        assert_eq!(stop(&mut world, 1).duration_ms, duration_ms);
        let samples = &world.files[&1].samples;
        let said = &parties[0].said[began..];
        let rest = samples.len() - 8000;
        assert!(likeness(&said[..8000], samples, 1).0 > 0.999);
        assert!(likeness(&said[16_000..], &samples[rest..], 1).0 > 0.999);
        assert_eq!(samples[8000..rest], vec![0; rest - 8000]);
    }
}

#[test]
fn recording_may_begin_paused_and_be_paused_at_its_end() {
    let (mut world, mut parties) = bridge();
    talk(&mut world, &mut parties, 500);
    let skip = Some(PauseMode::Skip as i32);
    record(&mut world, RecorderSpec { paused: skip, ..recorder(1, of_leg(1, Track::Inbound)) });
    talk(&mut world, &mut parties, 1000);
    world.command(CommandKind::ResumeRecording(1));
    talk(&mut world, &mut parties, 100);
    // Shorter than what is read behind: each takes effect all the same.
    let said = parties[0].said.len();
    world.command(CommandKind::PauseRecording(PauseRecording { recorder_id: 1, mode: PauseMode::Skip as i32 }));
    talk(&mut world, &mut parties, 60);
    world.command(CommandKind::ResumeRecording(1));
    talk(&mut world, &mut parties, 40);
    world.command(CommandKind::PauseRecording(PauseRecording { recorder_id: 1, mode: PauseMode::Skip as i32 }));
    talk(&mut world, &mut parties, 60);
    assert_eq!(stop(&mut world, 1).duration_ms, 140);
    let samples = &world.files[&1].samples;
    assert!(likeness(&parties[0].said[said - 800..said], samples, 1).0 > 0.999);
    assert!(likeness(&parties[0].said[said + 480..said + 800], &samples[800..], 1).0 > 0.999);
}

#[test]
fn recording_ends_by_itself_when_it_is_long_enough() {
    let (mut world, mut parties) = bridge();
    record(&mut world, RecorderSpec { max_length_ms: 1510, ..recorder(1, of_leg(1, Track::Inbound)) });
    // A worker was lost after a second of this one.
    let gone_on = RecorderSpec { max_length_ms: 1510, offset_ms: 1000, ..recorder(2, of_leg(1, Track::Inbound)) };
    record(&mut world, gone_on);
    world.take_events();
    talk(&mut world, &mut parties, 560);
    let end = only_end(&mut world);
    assert_eq!((end.recorder_id, end.reason(), end.duration_ms), (2, RecorderEnd::MaxLength, 510));
    assert!(world.files[&2].goes_on && !world.files[&1].goes_on);
    talk(&mut world, &mut parties, 1000);
    let end = only_end(&mut world);
    assert_eq!((end.recorder_id, end.reason(), end.duration_ms), (1, RecorderEnd::MaxLength, 1510));
}

#[test]
fn silence_ends_a_recording_and_is_trimmed() {
    let (mut world, mut parties) = bridge();
    let spec = |id, trim_silence| RecorderSpec {
        silence_timeout_ms: 2000,
        trim_silence,
        ..recorder(id, of_leg(1, Track::Inbound))
    };
    // The other party speaks all the time.
    parties[0].says = false;
    record(&mut world, spec(1, false));
    record(&mut world, spec(2, true));
    for (says, ms) in [(false, 1000), (true, 600), (false, 1000), (true, 600), (false, 2300)] {
        parties[0].says = says;
        talk(&mut world, &mut parties, ms);
    }
    let mut ends: Vec<_> =
        world.take_events().into_iter().filter(|e| matches!(e, MediaEventKind::RecorderEnded(_))).map(ended).collect();
    ends.sort_by_key(|end| end.recorder_id);
    let [whole, trimmed] = &ends[..] else { panic!("{ends:?}") };
    assert_eq!(
        (whole.reason(), whole.duration_ms, whole.trimmed_ms, whole.voiced),
        (RecorderEnd::Silence, 5200, 0, true)
    );
    assert_eq!(
        runs(&world.files[&1].samples),
        [(true, 0, 1000), (false, 1000, 1600), (true, 1600, 2600), (false, 2600, 3200), (true, 3200, 5200)]
    );
    // 200 ms before the first word, of which the first 20 ms are not certain, and 200 ms after the last.
    assert_eq!((trimmed.reason(), trimmed.duration_ms), (RecorderEnd::Silence, 2580));
    assert_eq!(trimmed.duration_ms + trimmed.trimmed_ms, 5200);
    assert_eq!(
        runs(&world.files[&2].samples),
        [(true, 0, 180), (false, 180, 780), (true, 780, 1780), (false, 1780, 2380), (true, 2380, 2580)]
    );
}

#[test]
fn recording_of_nobody_is_empty_when_trimmed_and_says_so() {
    let (mut world, mut parties) = bridge();
    let mut random = crate::random::Random::new(1, 4);
    // The line has its noise, and the phone sends comfort noise for a part of the time.
    parties[0].says = false;
    record(
        &mut world,
        RecorderSpec { silence_timeout_ms: 3000, trim_silence: true, ..recorder(1, of_leg(1, Track::Inbound)) },
    );
    let mut phone = Phone::of_leg(1, 0);
    for index in 0..200 {
        let packet = if index % 50 < 10 {
            let packet = phone.packet(false, 13, &[60]);
            phone.seq = phone.seq.wrapping_add(1);
            phone.timestamp = phone.timestamp.wrapping_add(160);
            packet
        } else {
            let mut payload = [0; 160];
            let noise: Vec<i16> = (0..160).map(|_| ((random.next_unit() - 0.5) * 250.0) as i16).collect();
            Codec::Pcmu.waits_as().encode(&noise, &mut payload);
            let packet = phone.packet(false, 0, &payload);
            phone.seq = phone.seq.wrapping_add(1);
            phone.timestamp = phone.timestamp.wrapping_add(160);
            packet
        };
        // Comfort noise that was not agreed is dropped, which is silence too.
        let _ = world.arrive(1, phone.from, &packet);
        world.run_for(20);
    }
    let end = only_end(&mut world);
    assert_eq!((end.reason(), end.duration_ms, end.bytes, end.voiced), (RecorderEnd::Silence, 0, 44, false));
    assert_eq!(end.trimmed_ms, 3000);
    assert!(parties[1].hear().is_empty());
}

#[test]
fn leg_or_session_that_ends_ends_its_recordings_first() {
    let (mut world, mut parties) = bridge();
    record(&mut world, recorder(1, of_leg(1, Track::Inbound)));
    record(&mut world, recorder(2, of_leg(2, Track::Both)));
    record(&mut world, recorder(3, of_mix()));
    talk(&mut world, &mut parties, 1000);
    world.take_events();
    let events = world.command(CommandKind::DropLeg(1));
    let [MediaEventKind::LegClosed(_), MediaEventKind::RecorderEnded(end)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((end.recorder_id, end.reason(), end.duration_ms), (1, RecorderEnd::LegClosed, 1000));
    let events = world.command(CommandKind::Release(Release {}));
    let names: Vec<_> = events
        .iter()
        .map(|event| match event {
            MediaEventKind::LegClosed(closed) => format!("leg {}", closed.leg_id),
            MediaEventKind::RecorderEnded(end) => format!("recorder {} {:?}", end.recorder_id, end.reason()),
            MediaEventKind::Released(_) => "released".into(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["leg 2", "recorder 2 LegClosed", "recorder 3 LegClosed", "released"]);
    assert!(world.sessions[0].is_over());
    assert_eq!(world.sessions[0].next_deadline(), None);
}

#[test]
fn disk_that_does_not_answer_holds_a_session_for_five_seconds() {
    let (mut world, mut parties) = bridge();
    world.disk_answers = false;
    assert_eq!(record(&mut world, recorder(1, of_leg(1, Track::Inbound))), [], "it has not begun");
    talk(&mut world, &mut parties, 1000);
    world.take_events();
    let events = world.command(CommandKind::Release(Release {}));
    assert!(events.iter().all(|event| matches!(event, MediaEventKind::LegClosed(_))), "{events:?}");
    world.run_for(4900);
    assert!(!world.sessions[0].is_over());
    world.run_for(200);
    let [MediaEventKind::RecorderEnded(end), MediaEventKind::Released(_)] = &world.take_events()[..] else { panic!() };
    assert_eq!((end.reason(), end.text.as_str()), (RecorderEnd::Failed, "the file was not finished within 5 s"));
    assert!(world.sessions[0].is_over());
}

#[test]
fn threat_32_file_that_fails_ends_the_recording_and_not_the_call() {
    let (mut world, mut parties) = bridge();
    record(&mut world, recorder(1, of_leg(1, Track::Inbound)));
    talk(&mut world, &mut parties, 1000);
    world.take_events();
    let length = FileLength { bytes: 8044, samples: 4000 };
    let failed = FileOutcome::Failed { text: "no space left on device".into(), length };
    world.sessions[0].handle_file(crate::ids::RecorderId(1), failed, world.now);
    world.flush();
    let end = only_end(&mut world);
    assert_eq!((end.reason(), end.text.as_str()), (RecorderEnd::Failed, "no space left on device"));
    assert_eq!((end.duration_ms, end.bytes), (500, 8044), "of the file that there is");
    parties.iter_mut().for_each(|party| drop(party.hear()));
    talk(&mut world, &mut parties, 1000);
    let heard = parties[0].hear();
    assert!(likeness(&parties[1].said[8000..15_000], &heard, 800).0 > 0.9, "the call goes on");
    assert_eq!(ended(record(&mut world, recorder(1, of_leg(1, Track::Inbound))).remove(0)), end, "as it was told");
}

#[test]
fn commands_that_come_again_are_answered_as_before() {
    let (mut world, _) = bridge();
    let spec = recorder(1, of_leg(1, Track::Inbound));
    let started = record(&mut world, spec.clone());
    world.run_for(500);
    assert_eq!(record(&mut world, spec.clone()), started);
    let end = stop(&mut world, 1);
    assert_eq!(end.duration_ms, 500);
    assert_eq!(stop(&mut world, 1), end);
    assert_eq!(record(&mut world, spec), [MediaEventKind::RecorderEnded(end)]);
    let nothing = stop(&mut world, 8);
    assert_eq!((nothing.reason(), nothing.text.as_str()), (RecorderEnd::Failed, "no such recorder"));
    assert_eq!(world.files.len(), 1);
}

#[test]
fn threat_41_recording_that_cannot_be_is_refused() {
    let (mut world, _) = bridge();
    let names = ["", "../a.wav", "a/b.wav", "/etc/passwd", ".hidden", "..", "a\0", "a b", "ä", &"x".repeat(129)];
    for (id, file) in names.into_iter().enumerate() {
        let spec = RecorderSpec { file: file.into(), ..recorder(id as u32, of_leg(1, Track::Inbound)) };
        let end = ended(record(&mut world, spec).remove(0));
        assert_eq!(end.reason(), RecorderEnd::Failed);
        assert!(end.text.starts_with("no name for a recording: "), "{}", end.text);
    }
    let end = ended(record(&mut world, recorder(20, of_leg(9, Track::Inbound))).remove(0));
    assert_eq!((end.text.as_str(), end.leg_id), ("no such leg", 9));
    let end = ended(record(&mut world, RecorderSpec { source: None, ..recorder(21, of_mix()) }).remove(0));
    assert_eq!(end.text, "nothing to record is named");
    assert!(world.files.is_empty());
    for file in ["RE0123456789abcdef0123456789abcdef.wav", "a", &"x".repeat(128)] {
        assert!(crate::recorder::FileName::parse(file).is_some());
    }
}

#[test]
fn session_that_records_nothing_has_no_step_and_no_tick() {
    let (mut world, mut parties) = bridge();
    talk(&mut world, &mut parties, 200);
    assert!(world.sessions[0].poll_file().is_none());
    record(&mut world, recorder(1, of_leg(1, Track::Inbound)));
    world.run_for(100);
    stop(&mut world, 1);
    let deadline = world.sessions[0].next_deadline().unwrap();
    world.run_for(30);
    assert!(
        deadline > world.now || world.sessions[0].next_deadline().unwrap().since(world.now) > Duration::from_secs(1)
    );
}
