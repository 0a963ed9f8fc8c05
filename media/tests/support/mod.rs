//! A worker over loopback, and the phones that call it: real sockets, as few as a test needs.

#![allow(dead_code, clippy::disallowed_methods, clippy::disallowed_types)]

pub mod mix;
pub mod opus;
pub mod relay;
pub mod secure;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dialtone_media::proto::*;
use dialtone_media::rtp::{HEADER_LEN, Header, Packet, RtpTime, Seq, Ssrc};
use dialtone_media::worker::{Config, Handle, Latching, Sockets, UdpSockets, spawn_with};

pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A worker with its events.
pub struct Worker {
    pub handle: Handle,
    pub events: Receiver<MediaEvent>,
    commands: AtomicU64,
}

/// Ranges of 200 ports, one for each worker of this process; processes are kept apart by their id. Below the ports that
/// Linux gives to sockets that name none (32768 and up).
pub fn next_range() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = (std::process::id() % 37) as u16;
    10_000 + process * 600 + NEXT.fetch_add(200, Ordering::Relaxed) % 600
}

impl Worker {
    pub fn start() -> Worker {
        Worker::start_with(|_| {})
    }

    pub fn start_with(change: impl FnOnce(&mut Config)) -> Worker {
        Worker::start_calling(change, || {})
    }

    /// `called` is called on the worker's thread for each event.
    pub fn start_calling(change: impl FnOnce(&mut Config), called: impl FnMut() + Send + 'static) -> Worker {
        Worker::start_on(Box::new(UdpSockets), change, called)
    }

    pub fn start_on(
        sockets: Box<dyn Sockets>,
        change: impl FnOnce(&mut Config),
        mut called: impl FnMut() + Send + 'static,
    ) -> Worker {
        let first = next_range();
        let mut config = Config {
            address: LOCAL,
            advertise: LOCAL,
            ports: first..=first + 199,
            latching: Latching::Off,
            clip_cache_bytes: 1 << 20,
            kept_sockets: 100,
            max_sessions: 1000,
            recordings: std::env::temp_dir().join(format!("dialtone-test-{}-{first}", std::process::id())),
            memory: None,
            frames: None,
            seed: 7,
        };
        change(&mut config);
        let (sender, events) = channel();
        let tell = move |event| {
            called();
            drop(sender.send(event));
        };
        let handle = spawn_with(config, sockets, Box::new(tell)).expect("the worker starts");
        Worker { handle, events, commands: AtomicU64::new(1) }
    }

    pub fn send(&self, session_id: u64, kind: CommandKind) -> u64 {
        let command_id = self.commands.fetch_add(1, Ordering::Relaxed);
        self.handle
            .send(Command { command_id, session_id, owner_epoch: 1, kind: Some(kind) })
            .expect("room for a command");
        command_id
    }

    /// The next event for which `pick` has a value; others are passed over.
    pub fn wait<T>(&self, mut pick: impl FnMut(&MediaEventKind) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).expect("the event in time");
            if let Some(found) = event.kind.as_ref().and_then(&mut pick) {
                return found;
            }
        }
    }

    pub fn negotiated(&self) -> Negotiated {
        self.wait(|kind| match kind {
            MediaEventKind::Negotiated(negotiated) => Some(negotiated.clone()),
            MediaEventKind::Refused(refused) => panic!("refused: {}", refused.text),
            _ => None,
        })
    }

    /// Opens a session whose legs are given by the phones that call, and what they hear; the phones learn where to send.
    pub fn open(&self, session_id: u64, legs: &mut [(&mut Phone, Hears)]) {
        let specs = legs.iter().zip(1..).map(|((phone, hears), id)| leg(id, phone.offer(), hears.clone())).collect();
        self.send(
            session_id,
            CommandKind::Open(SessionSpec { session_id, owner_epoch: 1, legs: specs, ..SessionSpec::default() }),
        );
        for (phone, _) in legs {
            phone.learn(&self.negotiated().sdp);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

pub fn leg(leg_id: u32, offer: String, hears: Hears) -> LegSpec {
    let rtp = RtpLeg { remote_sdp: Bytes::from(offer), signalled_from: LOCAL.to_string(), ..RtpLeg::default() };
    LegSpec { leg_id, kind: Some(LegKind::Rtp(rtp)), hears: Some(Source { from: Some(hears) }), ..LegSpec::default() }
}

pub fn silence() -> Hears {
    Hears::Silence(Silence {})
}

/// A phone: a socket, a payload type, and the numbers of its stream.
pub struct Phone {
    pub socket: UdpSocket,
    pub payload_type: u8,
    pub events: bool,
    pub peer: Option<SocketAddr>,
    pub sdp: String,
    pub seq: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

impl Phone {
    pub fn new(payload_type: u8) -> Phone {
        Phone::at(LOCAL, payload_type)
    }

    pub fn at(ip: IpAddr, payload_type: u8) -> Phone {
        let socket = UdpSocket::bind((ip, 0)).expect("a port of its own");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        let ssrc = u32::from(socket.local_addr().expect("bound").port());
        Phone { socket, payload_type, events: true, peer: None, sdp: String::new(), seq: 100, timestamp: 8000, ssrc }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    pub fn offer(&self) -> String {
        self.offer_from(self.address().ip())
    }

    /// An offer that names this address, whatever the phone's.
    pub fn offer_from(&self, ip: IpAddr) -> String {
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        let (port, payload_type) = (self.address().port(), self.payload_type);
        let events = if self.events { " 101\r\na=rtpmap:101 telephone-event/8000" } else { "" };
        format!(
            "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP {payload_type}{events}\r\n"
        )
    }

    pub fn learn(&mut self, sdp: &[u8]) {
        self.sdp = String::from_utf8(sdp.to_vec()).expect("text");
        let line = self.sdp.lines().find_map(|line| line.strip_prefix("m=audio ")).expect("an audio line");
        let port = line.split(' ').next().and_then(|port| port.parse().ok()).expect("a port");
        self.peer = Some(SocketAddr::new(self.address().ip(), port));
    }

    /// Sends 20 ms of this byte.
    pub fn say(&mut self, byte: u8) {
        self.send(false, self.payload_type, &[byte; 160]);
        self.timestamp = self.timestamp.wrapping_add(160);
    }

    /// Sends a packet as it is, with the next sequence number.
    pub fn send(&mut self, marker: bool, payload_type: u8, payload: &[u8]) {
        let header = Header {
            marker,
            payload_type,
            seq: Seq(self.seq),
            timestamp: RtpTime(self.timestamp),
            ssrc: Ssrc(self.ssrc),
        };
        self.seq = self.seq.wrapping_add(1);
        let packet = [&header.to_bytes()[..], payload].concat();
        self.socket.send_to(&packet, self.peer.expect("a peer")).expect("sent");
    }

    /// The next packet: its header and payload; `None` if none comes in `within`.
    pub fn hear(&self, within: Duration) -> Option<(Header, Vec<u8>)> {
        self.socket.set_read_timeout(Some(within)).expect("a timeout");
        let mut buffer = [0; 2048];
        let (len, from) = self.socket.recv_from(&mut buffer).ok()?;
        assert_eq!(Some(from), self.peer, "from the port that the sdp names");
        assert!(len >= HEADER_LEN);
        let packet = Packet::parse(&buffer[..len]).expect("rtp");
        Some((packet.header, buffer[packet.payload].to_vec()))
    }
}

pub const SOON: Duration = Duration::from_secs(2);
pub const NEVER: Duration = Duration::from_millis(80);
