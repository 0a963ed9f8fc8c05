//! Recordings on a real disk: what is in the file, whose it is, and what is left of it when something goes wrong.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::{Duration, Instant};

use dialtone_media::codec::Codec;
use dialtone_media::proto::*;
use dialtone_media::worker::{Config, Latching, Local, Sockets, UdpSockets, repair};
use support::*;

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("dialtone-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn worker(&self) -> Worker {
        let folder = self.0.clone();
        Worker::start_with(|config| config.recordings = folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A WAV file, as somebody who knows nothing of us reads it: its channels.
fn read(path: &Path) -> Vec<Vec<i16>> {
    let bytes = fs::read(path).expect("a file");
    let number =
        |at: usize, len: usize| bytes[at..at + len].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    assert_eq!((&bytes[..4], &bytes[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]));
    assert_eq!(
        (number(16, 4), number(20, 2), number(24, 4), number(34, 2)),
        (16, 1, 8000, 16),
        "pcm of 16 bits at 8 kHz"
    );
    let channels = number(22, 2) as usize;
    assert_eq!((number(28, 4), number(32, 2)), (8000 * channels as u64 * 2, channels as u64 * 2));
    assert_eq!(&bytes[36..40], b"data");
    let data = number(40, 4) as usize;
    assert_eq!(number(4, 4) as usize, 36 + data);
    assert!(44 + data <= bytes.len(), "the header says no more than there is");
    let samples: Vec<i16> =
        bytes[44..44 + data].chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    (0..channels).map(|channel| samples.iter().skip(channel).step_by(channels).copied().collect()).collect()
}

/// How much of `original` is in `copy`, and how many samples later: 100 ms at most.
fn likeness(original: &[i16], copy: &[i16]) -> (f64, usize) {
    let dot = |a: &[i16], b: &[i16]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let at = |late: usize| {
        let len = original.len().min(copy.len() - late);
        let (original, copy) = (&original[..len], &copy[late..late + len]);
        dot(original, copy) / (dot(original, original) * dot(copy, copy)).sqrt().max(1.0)
    };
    (0..800.min(copy.len())).map(|late| (at(late), late)).max_by(|a, b| a.0.total_cmp(&b.0)).expect("samples")
}

/// Noise that is not like itself at any other place.
fn noise(seed: u32, count: usize) -> Vec<i16> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as i16 / 4
    };
    (0..count).map(|_| next()).collect()
}

fn recorder(recorder_id: u32, source: Recorded) -> RecorderSpec {
    let file = format!("RE{recorder_id}.wav");
    RecorderSpec { recorder_id, source: Some(source), channels: 2, file, ..RecorderSpec::default() }
}

fn of_leg() -> Recorded {
    Recorded::Leg(RecordedLeg { leg_id: 1, track: Track::Both as i32 })
}

fn of_mix() -> Recorded {
    Recorded::Mix(Mix {})
}

fn started(kind: &MediaEventKind) -> Option<()> {
    match kind {
        MediaEventKind::RecorderStarted(_) => Some(()),
        MediaEventKind::RecorderEnded(ended) => panic!("it ended: {}", ended.text),
        _ => None,
    }
}

fn ended(kind: &MediaEventKind) -> Option<RecorderEnded> {
    match kind {
        MediaEventKind::RecorderEnded(ended) => Some(ended.clone()),
        _ => None,
    }
}

/// A session in which an announcer says a tone for ever: nobody need call for something to be recorded.
fn announcement() -> SessionSpec {
    let tone = Tone { frequencies_hz: vec![440], cadence_ms: vec![], duration_ms: 0 };
    let leg = LegSpec {
        leg_id: 9,
        kind: Some(LegKind::Announcer(Announcer {})),
        hears: Some(Source { from: Some(Hears::Player(1)) }),
        players: vec![PlayerSpec {
            player_id: 1,
            items: vec![PlayItem { kind: Some(PlayKind::Tone(tone)) }],
            loops: 0,
            offset_ms: 0,
        }],
        mixing: Some(Mixing { heard: true, whispers_to: None, tells_speaking: false }),
    };
    SessionSpec { session_id: 1, owner_epoch: 1, legs: vec![leg], ..SessionSpec::default() }
}

fn record_announcement(worker: &Worker, spec: RecorderSpec) {
    worker.send(1, CommandKind::Open(announcement()));
    worker.send(1, CommandKind::Record(spec));
}

#[test]
fn call_is_recorded_with_a_channel_for_each_side() {
    let folder = Folder::new("call");
    let worker = folder.worker();
    let (mut a, mut b) = (Phone::new(0), Phone::new(8));
    worker.open(1, &mut [(&mut a, Hears::Leg(2)), (&mut b, Hears::Leg(1))]);
    worker.send(1, CommandKind::Record(recorder(1, of_leg())));
    worker.wait(started);
    let said = [noise(1, 12_000), noise(2, 12_000)];
    let began = Instant::now();
    for (index, (left, right)) in said[0].chunks(160).zip(said[1].chunks(160)).enumerate() {
        for (phone, codec, samples) in [(&mut a, Codec::Pcmu, left), (&mut b, Codec::Pcma, right)] {
            let mut payload = [0; 160];
            codec.waits_as().encode(samples, &mut payload);
            phone.send(false, codec.payload_type(), &payload);
            phone.timestamp += 160;
        }
        let due = Duration::from_millis(20) * (index as u32 + 1);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    let mode = fs::metadata(folder.file("RE1.wav")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::metadata(&folder.0).expect("a folder").permissions().mode() & 0o777, 0o700);
    // Whoever reads it now reads a whole second at least.
    assert!(read(&folder.file("RE1.wav"))[0].len() >= 6400);
    worker.send(1, CommandKind::StopRecording(1));
    let end = worker.wait(ended);
    let channels = read(&folder.file("RE1.wav"));
    let bytes = fs::metadata(folder.file("RE1.wav")).expect("a file").len();
    assert_eq!((end.reason(), end.channels, end.bytes, end.voiced), (RecorderEnd::Stopped, 2, bytes, true));
    assert_eq!(end.duration_ms, channels[0].len() as u64 / 8);
    assert!((1480..1800).contains(&end.duration_ms), "{}", end.duration_ms);
    let found = [likeness(&said[0], &channels[0]), likeness(&said[1], &channels[1])];
    assert!(found.iter().all(|(alike, _)| *alike > 0.98), "{found:?}");
    assert!(found[0].1.abs_diff(found[1].1) <= 160, "{found:?}");
    // The other channel is not in it, and nothing is like silence.
    assert!(likeness(&said[1], &channels[0]).0 < 0.1);
    assert!(likeness(&said[0], &vec![0; 12_000]).0 < 0.1);
    // It changes nothing that is finished already.
    let repaired = repair(&folder.file("RE1.wav")).expect("a recording");
    assert_eq!((repaired.channels, repaired.duration_ms, repaired.bytes), (2, end.duration_ms, bytes));
    assert_eq!(read(&folder.file("RE1.wav")), channels);
}

#[test]
fn worker_that_ends_finishes_its_recordings() {
    let folder = Folder::new("end");
    let worker = folder.worker();
    record_announcement(&worker, recorder(1, of_mix()));
    worker.wait(started);
    std::thread::sleep(Duration::from_millis(400));
    worker.handle.shutdown();
    let samples = read(&folder.file("RE1.wav")).remove(0);
    assert!((3000..5000).contains(&samples.len()), "{}", samples.len());
    assert_eq!(fs::metadata(folder.file("RE1.wav")).expect("a file").len(), 44 + 2 * samples.len() as u64);
}

#[test]
fn file_that_exists_is_not_touched_unless_it_is_gone_on_with() {
    let folder = Folder::new("exists");
    let worker = folder.worker();
    record_announcement(&worker, recorder(1, of_mix()));
    worker.wait(started);
    std::thread::sleep(Duration::from_millis(300));
    worker.send(1, CommandKind::StopRecording(1));
    let first = worker.wait(ended);
    let before = fs::read(folder.file("RE1.wav")).expect("a file");
    worker.send(1, CommandKind::Record(RecorderSpec { recorder_id: 2, ..recorder(1, of_mix()) }));
    let refused = worker.wait(ended);
    assert_eq!((refused.reason(), refused.bytes), (RecorderEnd::Failed, 0));
    assert!(refused.text.starts_with("cannot make RE1.wav: "), "{}", refused.text);
    assert_eq!(fs::read(folder.file("RE1.wav")).expect("a file"), before);
    let offset_ms = first.duration_ms;
    worker.send(1, CommandKind::Record(RecorderSpec { recorder_id: 3, offset_ms, ..recorder(1, of_mix()) }));
    worker.wait(started);
    std::thread::sleep(Duration::from_millis(300));
    worker.send(1, CommandKind::StopRecording(3));
    let last = worker.wait(ended);
    assert!((250..500).contains(&(last.duration_ms - first.duration_ms)), "{} {}", first.duration_ms, last.duration_ms);
    assert_eq!(fs::read(folder.file("RE1.wav")).expect("a file")[44..before.len()], before[44..]);
    assert_eq!(read(&folder.file("RE1.wav"))[0].len() as u64 / 8, last.duration_ms);
    // Two channels do not go on in a file of one.
    let leg = Recorded::Leg(RecordedLeg { leg_id: 9, track: Track::Both as i32 });
    worker.send(
        1,
        CommandKind::Record(RecorderSpec { recorder_id: 4, offset_ms: 1, file: "RE1.wav".into(), ..recorder(4, leg) }),
    );
    assert_eq!(worker.wait(ended).text, "cannot make RE1.wav: it has other channels");
}

/// The worker that the next test kills.
#[test]
#[ignore = "runs until it is killed"]
fn worker_to_be_killed() {
    let Some(folder) = std::env::var_os("DIALTONE_TEST_FOLDER") else { return };
    let worker = Worker::start_with(|config| config.recordings = folder.into());
    record_announcement(&worker, recorder(1, of_mix()));
    std::thread::sleep(Duration::from_secs(30));
}

#[test]
fn recording_of_a_worker_that_was_killed_is_played_and_repaired() {
    let folder = Folder::new("killed");
    let mut child = Program::new(std::env::current_exe().expect("a test"))
        .args(["--exact", "worker_to_be_killed", "--ignored"])
        .env("DIALTONE_TEST_FOLDER", &folder.0)
        .spawn()
        .expect("a child");
    let path = folder.file("RE1.wav");
    let len = || fs::metadata(&path).map_or(0, |meta| meta.len());
    let deadline = Instant::now() + Duration::from_secs(20);
    while len() < 44 + 16_000 * 5 / 2 {
        assert!(Instant::now() < deadline, "{} bytes", len());
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("a child");
    child.wait().expect("a child");
    let before = read(&path).remove(0);
    let in_file = (len() - 44) / 2;
    assert!(before.len() >= 16_000 && (before.len() as u64) < in_file, "{} of {in_file}", before.len());
    // Half a sample was on its way when it died.
    let mut bytes = fs::read(&path).expect("a file");
    bytes.push(7);
    fs::write(&path, bytes).expect("a file");
    let repaired = repair(&path).expect("a recording");
    assert_eq!((repaired.channels, repaired.duration_ms, repaired.bytes), (1, in_file / 8, 44 + in_file * 2));
    assert_eq!(len(), repaired.bytes);
    let after = read(&path).remove(0);
    assert_eq!((after.len() as u64, &after[..before.len()]), (in_file, &before[..]));
    let tone = |at: usize| (std::f64::consts::TAU * 440.0 * at as f64 / 8000.0).sin() * 5000.0;
    let whole: Vec<i16> = (0..after.len()).map(|at| tone(at) as i16).collect();
    assert!(likeness(&whole, &after).0 > 0.98);
}

#[test]
fn threat_41_what_is_no_recording_is_not_repaired() {
    let folder = Folder::new("repair");
    fs::create_dir_all(&folder.0).expect("a folder");
    let path = folder.file("other");
    for bytes in [&b""[..], b"RIFF", &[0; 100], b"RIFF....WAVEfmt and something else that goes on for a while longer"] {
        fs::write(&path, bytes).expect("a file");
        assert_eq!(repair(&path).expect_err("no recording").kind(), ErrorKind::InvalidData);
        assert_eq!(fs::read(&path).expect("a file"), bytes);
    }
    std::os::unix::fs::symlink(&path, folder.file("link")).expect("a link");
    assert_eq!(repair(&folder.file("link")).expect_err("a link").kind(), ErrorKind::InvalidData);
    assert_eq!(repair(&folder.file("none")).expect_err("nothing").kind(), ErrorKind::NotFound);
}

/// A small disk is mounted in a namespace that only a child sees: that needs no rights.
#[test]
fn threat_32_disk_that_is_full_fails_the_recording_and_the_call_goes_on() {
    let child = Program::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().expect("a test"))
        .args(["--exact", "worker_on_a_small_disk", "--ignored"])
        .output()
        .expect("unshare, of util-linux");
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && told.contains("1 passed"),
        "{}{}",
        String::from_utf8_lossy(&child.stdout),
        String::from_utf8_lossy(&child.stderr)
    );
}

/// What the test above runs.
#[test]
#[ignore = "mounts a disk: the test above runs it where that harms nobody"]
fn worker_on_a_small_disk() {
    let folder = Folder::new("full");
    fs::create_dir_all(&folder.0).expect("a folder");
    let mounted = Program::new("mount").args(["-t", "tmpfs", "-o", "size=48k", "none"]).arg(&folder.0).status();
    assert!(mounted.expect("mount").success());
    let worker = folder.worker();
    let mut phone = Phone::new(0);
    worker.open(1, &mut [(&mut phone, Hears::Leg(1))]);
    worker.send(1, CommandKind::Record(recorder(1, of_leg())));
    worker.wait(started);
    let end = worker.wait(ended);
    assert_eq!(end.reason(), RecorderEnd::Failed);
    assert!(end.text.starts_with("cannot write RE1.wav: ") && end.text.contains("space"), "{}", end.text);
    // What there was room for is in the file, and the file is a good one.
    assert!(end.duration_ms >= 800 && read(&folder.file("RE1.wav"))[0].len() as u64 == end.duration_ms * 8, "{end:?}");
    phone.say(5);
    assert_eq!(phone.hear(SOON).expect("its echo").1, [5; 160]);
    // Another that finds no room for its file.
    fs::write(folder.file("filler"), [0; 49_152]).expect_err("it is full");
    worker.send(1, CommandKind::Record(recorder(2, of_leg())));
    let second = worker.wait(ended);
    assert_eq!((second.recorder_id, second.reason()), (2, RecorderEnd::Failed));
    // Space is back: recordings work again.
    fs::remove_file(folder.file("filler")).expect("a file");
    fs::remove_file(folder.file("RE1.wav")).expect("a file");
    let _ = fs::remove_file(folder.file("RE2.wav"));
    worker.send(1, CommandKind::Record(recorder(3, of_leg())));
    worker.wait(started);
    worker.send(1, CommandKind::StopRecording(3));
    assert_eq!(worker.wait(ended).reason(), RecorderEnd::Stopped);
}

#[test]
fn folder_that_cannot_be_made_fails_the_recording() {
    let worker = Worker::start_with(|config| config.recordings = "/proc/nowhere".into());
    record_announcement(&worker, recorder(1, of_mix()));
    let end = worker.wait(ended);
    assert!(end.text.starts_with("cannot make RE1.wav: "), "{}", end.text);
}

/// Sockets that have a bug, from the second on.
struct Broken(u32);

impl Sockets for Broken {
    fn bind(&mut self, address: SocketAddr) -> io::Result<mio::net::UdpSocket> {
        self.0 += 1;
        assert!(self.0 != 2, "a bug of ours");
        UdpSockets.bind(address)
    }
}

#[test]
fn session_that_panics_leaves_a_good_file_and_says_so() {
    let folder = Folder::new("panic");
    let path = folder.0.clone();
    let configure = |config: &mut dialtone_media::worker::Config| {
        config.recordings = path;
        // So that each leg asks for its own.
        config.kept_sockets = 0;
    };
    let worker = Worker::start_on(Box::new(Broken(0)), configure, || {});
    let (mut phone, second) = (Phone::new(0), Phone::new(0));
    worker.open(1, &mut [(&mut phone, Hears::Leg(1))]);
    worker.send(1, CommandKind::Record(recorder(1, of_leg())));
    worker.wait(started);
    std::thread::sleep(Duration::from_millis(500));
    worker.send(1, CommandKind::PutLeg(leg(2, second.offer(), silence())));
    let end = worker.wait(ended);
    assert_eq!((end.reason(), end.text.as_str()), (RecorderEnd::Failed, "its session is gone"));
    worker.wait(|kind| matches!(kind, MediaEventKind::Released(_)).then_some(()));
    worker.handle.shutdown();
    assert!(read(&folder.file("RE1.wav"))[0].len() >= 1600);
}

#[test]
fn worker_on_its_owners_thread_is_woken_by_its_files() {
    let folder = Folder::new("local");
    let mut local = Local::new(Config {
        address: LOCAL,
        advertise: LOCAL,
        ports: 10_000..=10_001,
        latching: Latching::Off,
        clip_cache_bytes: 0,
        kept_sockets: 100,
        max_sessions: 10,
        recordings: folder.0.clone(),
        memory: None,
        frames: None,
        seed: 1,
    })
    .expect("a worker");
    let command = |local: &mut Local, kind| {
        local.command(Command { command_id: 1, session_id: 1, owner_epoch: 1, kind: Some(kind) });
    };
    let wait = |local: &mut Local| {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            if let Some(kind) = local.poll_event().and_then(|event| event.kind) {
                return kind;
            }
            assert!(Instant::now() < deadline, "the event in time");
            std::thread::sleep(Duration::from_millis(1));
            local.turn();
        }
    };
    command(&mut local, CommandKind::Open(announcement()));
    command(&mut local, CommandKind::Record(recorder(1, of_mix())));
    assert!(matches!(wait(&mut local), MediaEventKind::RecorderStarted(_)));
    // Nothing ticks once the announcer is silent and the recorder is told to stop: a turn only has what wakes it.
    command(&mut local, CommandKind::Hear(Hear { leg_id: 9, source: None }));
    assert!(matches!(wait(&mut local), MediaEventKind::PlayerEnded(_)));
    command(&mut local, CommandKind::StopRecording(1));
    let end = wait(&mut local);
    assert!(matches!(&end, MediaEventKind::RecorderEnded(end) if end.reason() == RecorderEnd::Stopped), "{end:?}");
}
