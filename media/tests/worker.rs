//! The worker over real loopback sockets: what an edge and a phone see of it.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dialtone_media::leg::Dropped;
use dialtone_media::proto::*;
use dialtone_media::worker::{Latching, Memory, Sockets, UdpSockets};
use support::*;

/// Waits until the shard has published what it counted.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}");
}

fn closed(kind: &MediaEventKind) -> Option<LegClosed> {
    match kind {
        MediaEventKind::LegClosed(closed) => Some(closed.clone()),
        _ => None,
    }
}

#[test]
fn echo_comes_back_under_the_workers_own_ssrc() {
    let worker = Worker::start();
    let mut phone = Phone::new(0);
    worker.open(1, &mut [(&mut phone, Hears::Leg(1))]);
    for byte in 1..=5 {
        phone.say(byte);
        let (header, payload) = phone.hear(SOON).expect("an echo");
        assert_eq!(payload, [byte; 160]);
        assert_ne!(header.ssrc.0, phone.ssrc);
        assert_eq!(header.marker, byte == 1);
    }
    worker.send(1, CommandKind::Release(Release {}));
    let statistics = worker.wait(closed).statistics.expect("an rtp leg");
    assert_eq!((statistics.packets_received, statistics.packets_sent, statistics.packets_lost), (5, 5, 0));
    worker.wait(|kind| matches!(kind, MediaEventKind::Released(_)).then_some(()));
}

#[test]
fn two_phones_hear_each_other_in_their_own_codec() {
    let worker = Worker::start();
    let (mut a, mut b) = (Phone::new(0), Phone::new(8));
    worker.open(1, &mut [(&mut a, Hears::Leg(2)), (&mut b, Hears::Leg(1))]);
    for _ in 0..20 {
        a.say(0x00);
        let (header, payload) = b.hear(SOON).expect("the other");
        assert_eq!((header.payload_type, payload), (8, vec![0x2A; 160]));
        b.say(0x2A);
        let (header, payload) = a.hear(SOON).expect("the other");
        assert_eq!((header.payload_type, payload), (0, vec![0x00; 160]));
    }
    eventually("40 packets each way", || {
        let counters = worker.handle.counters();
        (counters.packets_in, counters.packets_out, counters.sessions, counters.legs_by_codec)
            == (40, 40, 1, [1, 1, 0, 0])
    });
}

#[test]
fn threat_05_stranger_is_neither_heard_nor_answered() {
    let worker = Worker::start();
    let (mut phone, mut stranger) = (Phone::new(0), Phone::new(0));
    worker.open(1, &mut [(&mut phone, Hears::Leg(1))]);
    stranger.peer = phone.peer;
    for _ in 0..50 {
        stranger.say(9);
    }
    eventually("dropped and counted", || worker.handle.counters().dropped_for(Dropped::Source) == 50);
    phone.say(1);
    assert_eq!(phone.hear(SOON).expect("its echo").1, [1; 160]);
    // The peer is certain now; what strangers send is still counted.
    for _ in 0..50 {
        stranger.say(9);
        phone.say(2);
        assert_eq!(phone.hear(SOON).expect("its echo").1, [2; 160]);
    }
    assert_eq!(stranger.hear(NEVER), None);
    assert_eq!(phone.hear(NEVER), None, "injected 0");
    eventually("each of them counted", || worker.handle.counters().dropped_for(Dropped::Source) == 100);
    worker.send(1, CommandKind::Release(Release {}));
    assert_eq!(worker.wait(closed).statistics.expect("an rtp leg").packets_received, 51);
}

#[test]
fn digits_are_told_and_tones_are_heard() {
    let worker = Worker::start();
    let mut phone = Phone::new(0);
    worker.open(1, &mut [(&mut phone, silence())]);
    for (index, duration) in [160u16, 320, 480, 480, 480].into_iter().enumerate() {
        let [high, low] = duration.to_be_bytes();
        phone.send(index == 0, 101, &[7, if index >= 2 { 0x8A } else { 0x0A }, high, low]);
    }
    let digit = worker.wait(|kind| match kind {
        MediaEventKind::Digit(digit) => Some(digit.clone()),
        _ => None,
    });
    assert_eq!((digit.digit, digit.duration_ms, digit.in_band), (u32::from('7'), 60, false));
    let tone = Tone { frequencies_hz: vec![440], cadence_ms: vec![], duration_ms: 200 };
    let items = vec![PlayItem { kind: Some(PlayKind::Tone(tone)) }];
    let player = Some(PlayerSpec { player_id: 3, items, loops: 1, offset_ms: 0 });
    worker.send(1, CommandKind::Play(Play { leg_id: 1, player }));
    for index in 0..10 {
        let (header, payload) = phone.hear(SOON).expect("the tone");
        assert_eq!((header.marker, payload.len()), (index == 0, 160));
        assert!(payload.iter().any(|byte| byte & 0x7F < 0x40), "loud");
    }
    let ended = worker.wait(|kind| match kind {
        MediaEventKind::PlayerEnded(ended) => Some(ended.clone()),
        _ => None,
    });
    assert_eq!(ended, PlayerEnded { leg_id: 1, player_id: 3, finished: true, offset_ms: 200 });
    assert_eq!(phone.hear(NEVER), None);
}

#[test]
fn audio_is_asked_for_and_every_player_that_waits_gets_it() {
    let worker = Worker::start();
    let mut phones = [Phone::new(0), Phone::new(8)];
    let hash = Bytes::from(vec![3; 32]);
    for (phone, session) in phones.iter_mut().zip(1..) {
        worker.open(session, &mut [(phone, silence())]);
        let items = vec![PlayItem { kind: Some(PlayKind::Audio(hash.clone())) }];
        let player = Some(PlayerSpec { player_id: 1, items, loops: 1, offset_ms: 0 });
        worker.send(session, CommandKind::Play(Play { leg_id: 1, player }));
        let wanted = worker.wait(|kind| match kind {
            MediaEventKind::AudioWanted(wanted) => Some(wanted.hash.clone()),
            _ => None,
        });
        assert_eq!(wanted, hash);
    }
    let samples = Bytes::from(4000i16.to_le_bytes().repeat(1600));
    worker.send(1, CommandKind::Audio(Audio { hash, rate_hz: 16_000, samples }));
    for phone in &phones {
        assert!((0..5).all(|_| phone.hear(SOON).is_some()), "100 ms");
    }
}

#[test]
fn link_joins_two_sessions_of_one_worker() {
    let worker = Worker::start();
    let (mut a, mut b) = (Phone::new(0), Phone::new(8));
    for (phone, session) in [(&mut a, 1), (&mut b, 2)] {
        let remote = RemoteLeg { worker: String::new(), session_id: 3 - session, key: 77 };
        let hears = Some(Source { from: Some(Hears::Leg(1)) });
        let link = LegSpec { leg_id: 2, kind: Some(LegKind::Remote(remote)), hears, ..LegSpec::default() };
        let legs = vec![leg(1, phone.offer(), Hears::Leg(2)), link];
        worker.send(
            session,
            CommandKind::Open(SessionSpec { session_id: session, owner_epoch: 1, legs, ..SessionSpec::default() }),
        );
        phone.learn(&worker.negotiated().sdp);
    }
    for _ in 0..25 {
        a.say(0x00);
        std::thread::sleep(Duration::from_millis(20));
    }
    let heard: Vec<_> = std::iter::from_fn(|| b.hear(NEVER)).collect();
    assert!((20..=32).contains(&heard.len()), "{} packets of 25", heard.len());
    assert!(heard.iter().filter(|(_, payload)| payload[..] == [0x2A; 160]).count() >= 15);
}

#[test]
fn threat_19_ports_that_run_out_are_a_refusal_and_come_back() {
    let worker = Worker::start_with(|config| config.ports = *config.ports.start()..=config.ports.start() + 5);
    let refusal = |kind: &MediaEventKind| match kind {
        MediaEventKind::Refused(refused) => Some(refused.reason()),
        _ => None,
    };
    let mut phones = [Phone::new(0), Phone::new(0), Phone::new(0)];
    let [first, second, third] = &mut phones;
    worker.open(1, &mut [(first, silence())]);
    worker.open(2, &mut [(second, silence())]);
    let open = |session_id, phone: &Phone| {
        let legs = vec![leg(1, phone.offer(), silence())];
        worker.send(
            session_id,
            CommandKind::Open(SessionSpec { session_id, owner_epoch: 1, legs, ..SessionSpec::default() }),
        );
    };
    open(3, third);
    assert_eq!(worker.wait(refusal), Refusal::NoCapacity);
    eventually("no leg is free", || worker.handle.load().free_legs == 0);
    worker.send(1, CommandKind::Release(Release {}));
    open(4, third);
    assert_eq!(worker.wait(refusal), Refusal::NoCapacity, "a port rests for a second");
    std::thread::sleep(Duration::from_millis(1050));
    open(5, third);
    assert!(worker.negotiated().sdp.starts_with(b"v=0"));
    eventually("what was refused left nothing", || worker.handle.load().sessions == 2);
}

#[test]
fn threat_19_port_that_another_program_holds_is_passed_over() {
    // As the first is browsers', the second leg would have this one.
    let mut held = None;
    let hold = |config: &mut dialtone_media::worker::Config| {
        held = Some(UdpSocket::bind((LOCAL, config.ports.start() + 4)).expect("free until now"));
    };
    let worker = Worker::start_on(Box::new(UdpSockets), hold, || {});
    let (mut probe, mut phone) = (Phone::new(0), Phone::new(0));
    worker.open(1, &mut [(&mut probe, silence())]);
    worker.open(2, &mut [(&mut phone, Hears::Leg(1))]);
    assert_eq!(phone.peer.expect("a port").port(), probe.peer.expect("a port").port() + 4);
    phone.say(1);
    assert!(phone.hear(SOON).is_some());
}

#[test]
fn leg_whose_rtcp_port_another_program_holds_has_its_sound() {
    let worker = Worker::start();
    let mut phone = Phone::new(0);
    worker.open(1, &mut [(&mut phone, Hears::Leg(1))]);
    let used = phone.peer.expect("a port").port();
    let held = UdpSocket::bind((LOCAL, used + 1)).expect("nobody needs RTCP before the first packet");
    for sample in [1, 2] {
        phone.say(sample);
        assert_eq!(phone.hear(SOON).expect("an echo").1, [sample; 160]);
    }
    worker.send(1, CommandKind::Release(Release {}));
    assert_eq!(worker.wait(closed).statistics.expect("an rtp leg").packets_received, 2);
    drop(held);
}

#[test]
fn sessions_beyond_the_limit_are_refused() {
    let worker = Worker::start_with(|config| config.max_sessions = 1);
    let (mut first, second) = (Phone::new(0), Phone::new(0));
    worker.open(1, &mut [(&mut first, silence())]);
    let legs = vec![leg(1, second.offer(), silence())];
    worker.send(2, CommandKind::Open(SessionSpec { session_id: 2, owner_epoch: 1, legs, ..SessionSpec::default() }));
    let refused = worker.wait(|kind| match kind {
        MediaEventKind::Refused(refused) => Some(refused.clone()),
        _ => None,
    });
    assert_eq!((refused.reason(), refused.text.as_str()), (Refusal::NoCapacity, "no more than 1 sessions"));
}

#[test]
fn peer_that_moves_is_followed_and_its_old_address_is_a_stranger() {
    let worker = Worker::start();
    let (mut here, mut there) = (Phone::new(0), Phone::new(0));
    worker.open(1, &mut [(&mut here, Hears::Leg(1))]);
    here.say(1);
    assert!(here.hear(SOON).is_some());
    let sdp = Bytes::from(there.offer());
    worker.send(1, CommandKind::Negotiate(Negotiate { leg_id: 1, step: SdpStep::RemoteOffer as i32, sdp }));
    there.learn(&worker.negotiated().sdp);
    assert_eq!(there.peer, here.peer, "our port stays");
    there.say(2);
    assert_eq!(there.hear(SOON).expect("an echo").1, [2; 160]);
    here.say(3);
    assert_eq!((here.hear(NEVER), there.hear(NEVER)), (None, None));
}

#[test]
fn threat_05_phone_behind_a_nat_is_found_once_where_latching_is_on() {
    let worker = Worker::start_with(|config| config.latching = Latching::Nat);
    let (mut phone, mut second) = (Phone::new(0), Phone::new(0));
    let legs = vec![leg(1, phone.offer_from([10, 9, 8, 7].into()), Hears::Leg(1))];
    worker.send(1, CommandKind::Open(SessionSpec { session_id: 1, owner_epoch: 1, legs, ..SessionSpec::default() }));
    phone.learn(&worker.negotiated().sdp);
    second.peer = phone.peer;
    for byte in 1..10 {
        phone.say(byte);
        assert_eq!(phone.hear(SOON).expect("its echo").1, [byte; 160]);
        second.say(99);
    }
    assert_eq!((phone.hear(NEVER), second.hear(NEVER)), (None, None));
}

#[test]
fn ipv6_works_as_ipv4_does() {
    let ip = IpAddr::V6(Ipv6Addr::LOCALHOST);
    if UdpSocket::bind((ip, 0)).is_err() {
        eprintln!("no IPv6 on this machine");
        return;
    }
    let worker = Worker::start_with(|config| (config.address, config.advertise) = (ip, ip));
    let mut phone = Phone::at(ip, 8);
    worker.open(1, &mut [(&mut phone, Hears::Leg(1))]);
    assert!(phone.sdp.contains("c=IN IP6 ::1\r\n"));
    for byte in 1..4 {
        phone.say(byte);
        assert_eq!(phone.hear(SOON).expect("its echo").1, [byte; 160]);
    }
}

/// Sockets that have a bug at the third.
struct Broken(u32);

impl Sockets for Broken {
    fn bind(&mut self, address: SocketAddr) -> io::Result<mio::net::UdpSocket> {
        self.0 += 1;
        assert!(self.0 != 3, "a bug of ours");
        UdpSockets.bind(address)
    }
}

#[test]
fn panic_in_one_session_ends_that_session_and_no_other() {
    // So that each leg asks for its own.
    let worker = Worker::start_on(Box::new(Broken(0)), |config| config.kept_sockets = 0, || {});
    let (mut well, mut broken, extra) = (Phone::new(0), Phone::new(0), Phone::new(0));
    worker.open(1, &mut [(&mut well, Hears::Leg(1))]);
    worker.open(2, &mut [(&mut broken, Hears::Leg(1))]);
    worker.send(2, CommandKind::PutLeg(leg(2, extra.offer(), silence())));
    assert_eq!(worker.wait(closed).statistics, None);
    worker.wait(|kind| matches!(kind, MediaEventKind::Released(_)).then_some(()));
    well.say(1);
    assert!(well.hear(SOON).is_some(), "the other session goes on");
    // An ICMP message may refuse it.
    let _ = broken.socket.send_to(&[0x80; 172], broken.peer.expect("a peer"));
    assert_eq!(broken.hear(NEVER), None);
    eventually("counted", || (worker.handle.counters().panics, worker.handle.load().sessions) == (1, 1));
}

#[test]
fn goodbye_is_said_on_the_rtcp_port() {
    let worker = Worker::start();
    let mut phone = Phone::new(0);
    let rtcp = UdpSocket::bind((LOCAL, 0)).expect("a port");
    let port = rtcp.local_addr().expect("bound").port();
    let offer = format!("{}a=rtcp:{port}\r\n", phone.offer());
    let legs = vec![leg(1, offer, Hears::Leg(1))];
    worker.send(1, CommandKind::Open(SessionSpec { session_id: 1, owner_epoch: 1, legs, ..SessionSpec::default() }));
    phone.learn(&worker.negotiated().sdp);
    // Only who has said something says goodbye (RFC 3550 s6.3.7).
    phone.say(1);
    assert!(phone.hear(SOON).is_some());
    worker.send(1, CommandKind::Release(Release {}));
    rtcp.set_read_timeout(Some(SOON)).expect("a timeout");
    let mut buffer = [0; 512];
    let (len, from) = rtcp.recv_from(&mut buffer).expect("a goodbye");
    assert_eq!(from.port(), phone.peer.expect("a port").port() + 1);
    let types: Vec<u8> = {
        let mut rest = &buffer[..len];
        std::iter::from_fn(|| {
            let (kind, words) = (*rest.get(1)?, u16::from_be_bytes([rest[2], rest[3]]));
            rest = &rest[4 + usize::from(words) * 4..];
            Some(kind)
        })
        .collect()
    };
    assert_eq!(types, [200, 202, 203]);
}

#[test]
fn shutdown_ends_the_thread_and_takes_no_more_commands() {
    let worker = Worker::start();
    worker.handle.shutdown();
    worker.handle.shutdown();
    let command = Command { command_id: 1, session_id: 1, owner_epoch: 1, kind: None };
    assert!(worker.handle.send(command).is_err());
}

/// Counts what is bound.
struct Counting(Arc<AtomicUsize>);

impl Sockets for Counting {
    fn bind(&mut self, address: SocketAddr) -> io::Result<mio::net::UdpSocket> {
        self.0.fetch_add(1, Ordering::Relaxed);
        UdpSockets.bind(address)
    }
}

#[test]
fn new_socket_is_made_with_those_of_the_legs_that_come_next() {
    let bound = Arc::default();
    let worker = Worker::start_on(Box::new(Counting(Arc::clone(&bound))), |_| {}, || {});
    let mut phones = [0, 1, 2].map(|_| Phone::new(0));
    let [first, stranger, second] = &mut phones;
    worker.open(1, &mut [(first, Hears::Leg(1))]);
    let stock = bound.load(Ordering::Relaxed);
    let next = SocketAddr::new(first.peer.expect("a peer").ip(), first.peer.expect("a peer").port() + 2);
    // It listens, and is closed by what comes to it: the system says so to who sends again.
    stranger.socket.connect(next).unwrap();
    stranger.socket.send(&[0x80; 172]).unwrap();
    eventually("closed", || stranger.socket.send(&[0x80; 172]).is_err());
    worker.open(2, &mut [(second, Hears::Leg(1))]);
    assert_eq!(second.peer, Some(next), "the port is as good as any");
    assert_eq!(bound.load(Ordering::Relaxed), stock + 2, "its socket is made anew, with the one of the last in stock");
    let mut third = Phone::new(0);
    worker.open(3, &mut [(&mut third, Hears::Leg(1))]);
    assert_eq!(bound.load(Ordering::Relaxed), stock + 2, "the third finds its own");
    third.say(5);
    assert_eq!(third.hear(SOON).expect("its echo").1, [5; 160]);
}

#[test]
fn socket_is_kept_for_the_ports_next_leg_unless_something_comes_to_it() {
    for (kept_sockets, comes, expected) in [(1, None, 1), (1, Some(1), 2), (1, Some(1000), 2), (0, None, 2)] {
        let bound = Arc::default();
        let first = next_range();
        let one_pair = |config: &mut dialtone_media::worker::Config| {
            config.ports = first..=first + 3;
            config.kept_sockets = kept_sockets;
        };
        let worker = Worker::start_on(Box::new(Counting(Arc::clone(&bound))), one_pair, || {});
        let mut earlier = Phone::new(0);
        worker.open(1, &mut [(&mut earlier, Hears::Leg(1))]);
        worker.send(1, CommandKind::Release(Release {}));
        worker.wait(|kind| matches!(kind, MediaEventKind::Released(_)).then_some(()));
        for _ in 0..comes.unwrap_or(0) {
            // The port is closed from the first on: the system says so.
            let _ = earlier.socket.send_to(&[0x80; 172], earlier.peer.expect("a peer"));
        }
        // A port rests for a second.
        std::thread::sleep(Duration::from_millis(1100));
        let mut phone = Phone::new(0);
        worker.open(2, &mut [(&mut phone, Hears::Leg(1))]);
        assert_eq!(phone.peer, earlier.peer, "the only port");
        phone.say(5);
        assert_eq!(phone.hear(SOON).expect("its echo").1, [5; 160]);
        // Each leg has had one packet of RTCP's socket at most, and the second leg alone.
        let rtp = bound.load(Ordering::Relaxed) - 1;
        assert_eq!(rtp, expected, "{kept_sockets} kept, {comes:?} packets between");
        assert_eq!(worker.handle.counters().dropped_for(Dropped::Source), 0, "nothing of the earlier call is left");
    }
}

/// Holds another descriptor of each socket, as a keeper does.
#[derive(Default)]
struct Keeping {
    held: Arc<Mutex<HashMap<u16, OwnedFd>>>,
    inherited: HashMap<u16, OwnedFd>,
}

impl Keeping {
    /// What whoever takes the worker's place is given.
    fn heir(held: &Arc<Mutex<HashMap<u16, OwnedFd>>>) -> Keeping {
        let another = |(port, socket): (&u16, &OwnedFd)| (*port, socket.try_clone().expect("a descriptor"));
        let inherited = held.lock().expect("no panic").iter().map(another).collect();
        Keeping { held: Arc::clone(held), inherited }
    }
}

impl Sockets for Keeping {
    fn bind(&mut self, address: SocketAddr) -> io::Result<mio::net::UdpSocket> {
        if let Some(inherited) = self.inherited.remove(&address.port()) {
            return Ok(mio::net::UdpSocket::from_std(inherited.into()));
        }
        let socket = UdpSockets.bind(address)?;
        self.held.lock().expect("no panic").insert(address.port(), socket.as_fd().try_clone_to_owned()?);
        Ok(socket)
    }

    fn holds(&self, port: u16) -> bool {
        self.inherited.contains_key(&port)
    }

    fn closed(&mut self, port: u16) {
        self.held.lock().expect("no panic").remove(&port);
    }

    fn are_shared(&self) -> bool {
        true
    }
}

/// A worker with one leg that goes on and one that is over dies; something comes to the second one's port, or nothing.
fn take_over(comes: bool) {
    let first = next_range();
    let ports = first..=first + 7;
    let memfd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
    rustix::fs::ftruncate(&memfd, Memory::bytes_for(ports.clone())).expect("its size");
    let start = |sockets: Keeping, called: Box<dyn FnMut() + Send>| {
        let memory = Memory::map(&memfd, ports.clone()).expect("the memory");
        let change = |config: &mut dialtone_media::worker::Config| {
            (config.ports, config.memory) = (ports.clone(), Some(memory));
        };
        Worker::start_on(Box::new(sockets), change, called)
    };
    let held = Arc::default();
    let (is_dead, (dies, died)) = (Arc::new(AtomicBool::new(false)), channel());
    let dead = Arc::clone(&is_dead);
    let called = move || {
        while dead.load(Ordering::Relaxed) {
            dies.send(()).expect("a test");
            std::thread::park();
        }
    };
    let before = start(Keeping::heir(&held), Box::new(called));
    let (mut goes_on, mut over) = (Phone::new(0), Phone::new(0));
    before.open(1, &mut [(&mut goes_on, Hears::Leg(1))]);
    before.open(2, &mut [(&mut over, Hears::Leg(1))]);
    before.send(2, CommandKind::Release(Release {}));
    before.wait(|kind| matches!(kind, MediaEventKind::Released(_)).then_some(()));
    is_dead.store(true, Ordering::Relaxed);
    before.send(9, CommandKind::Release(Release {}));
    died.recv_timeout(SOON).expect("it stands still");
    std::mem::forget(before);

    let worker = start(Keeping::heir(&held), Box::new(|| {}));
    assert_eq!(worker.handle.load().free_legs, 2, "of three pairs beside the browsers' one");
    assert_eq!(worker.handle.counters().all_legs, 3, "what it is full at");
    if comes {
        over.socket.send_to(&[0x80; 172], over.peer.expect("a peer")).expect("a packet");
    }
    let mut phones = [Phone::new(0), Phone::new(0)];
    for (phone, session) in phones.iter_mut().zip(3..) {
        worker.open(session, &mut [(phone, Hears::Leg(1))]);
        phone.say(5);
        assert_eq!(phone.hear(SOON).expect("its echo").1, [5; 160]);
    }
    assert!(phones.iter().any(|phone| phone.peer == over.peer), "the port that rested is as any other");
    assert_eq!(worker.handle.counters().dropped_for(Dropped::Source), 0, "nothing of the earlier call is left");
    // The leg that goes on has its port, and no other was left.
    let was = goes_on.peer;
    let port = was.expect("a peer").port();
    let rtp = RtpLeg {
        local_sdp: Bytes::from(format!("v=0\r\nc=IN IP4 {LOCAL}\r\nm=audio {port} RTP/AVP 0\r\n")),
        remote_sdp: Bytes::from(goes_on.offer()),
        signalled_from: LOCAL.to_string(),
        ..RtpLeg::default()
    };
    let again = LegSpec { kind: Some(LegKind::Rtp(rtp)), ..leg(1, String::new(), Hears::Leg(1)) };
    let spec = SessionSpec { session_id: 1, owner_epoch: 1, legs: vec![again], ..SessionSpec::default() };
    worker.send(1, CommandKind::Open(spec));
    goes_on.learn(&worker.negotiated().sdp);
    assert_eq!(goes_on.peer, was);
    goes_on.say(7);
    assert_eq!(goes_on.hear(SOON).expect("its echo").1, [7; 160]);
}

#[test]
fn worker_that_takes_anothers_place_sets_aside_what_legs_had_and_nothing_else() {
    take_over(false);
}

#[test]
fn port_that_rested_when_its_worker_died_brings_nothing_of_the_earlier_call() {
    take_over(true);
}
