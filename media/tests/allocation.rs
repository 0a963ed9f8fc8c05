//! No packet that is relayed costs an allocation: counted, not believed.
//!
//! Only threads that ask for it are counted, so that the test's own harness is not.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use dialtone_media::clips::Clips;
use dialtone_media::ids::{LegId, SessionId};
use dialtone_media::leg::Latching;
use dialtone_media::proto::*;
use dialtone_media::rtp::{Header, RtpTime, Seq, Ssrc};
use dialtone_media::session::{MIN_BUFFER, Ports, Session, Settings};
use dialtone_media::time::Mono;
use support::{LOCAL, Phone, SOON, Worker};

struct Counting;

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTED.get() {
            ALLOCATIONS.fetch_add(1, SeqCst);
        }
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The allocations that counted threads make during `work`.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(SeqCst);
    work();
    ALLOCATIONS.load(SeqCst) - before
}

struct Counter(u16);

impl Ports for Counter {
    fn open(&mut self, _: LegId) -> Option<u16> {
        self.0 += 2;
        Some(self.0)
    }
}

/// A bridged session, and packets of `samples` from leg 1 for as long as `seconds`; the packets that came out.
fn relay(formats: [&str; 2], samples: usize, seconds: u64) -> usize {
    let settings = Settings { advertise: LOCAL, latching: Latching::Off, seed: 1 };
    let mut session = Session::new(SessionId(1), 1, settings, Mono(0));
    let leg = |leg_id: u32, formats: &str| {
        let port = 4998 + leg_id * 2;
        let sdp = format!("v=0\r\nc=IN IP4 203.0.113.5\r\nm=audio {port} RTP/AVP {formats}\r\n");
        support::leg(leg_id, sdp, Hears::Leg(3 - leg_id))
    };
    let spec = SessionSpec { session_id: 1, owner_epoch: 1, legs: vec![leg(1, formats[0]), leg(2, formats[1])] };
    let command = Command { command_id: 1, session_id: 1, owner_epoch: 1, kind: Some(CommandKind::Open(spec)) };
    session.handle_command(&command, &mut Counter(40_000), &mut Clips::new(0), Mono(0));
    while session.poll_event().is_some() {}
    let from = SocketAddr::from(([203, 0, 113, 5], 5000));
    let payload_type =
        formats[0].split_ascii_whitespace().next().and_then(|number| number.parse().ok()).expect("a number");
    let mut out = 0;
    let packet_us = samples as u64 * 125;
    for index in 0..seconds * 1_000_000 / packet_us {
        let now = Mono(1_000_000 + index * packet_us);
        let header = Header {
            marker: false,
            payload_type,
            seq: Seq(index as u16),
            timestamp: RtpTime(index as u32 * samples as u32),
            ssrc: Ssrc(9),
        };
        let mut buffer = [0x55; MIN_BUFFER];
        buffer[..12].copy_from_slice(&header.to_bytes());
        let sent = session.handle_rtp(LegId(1), from, &mut buffer[..12 + samples], now).expect("taken");
        out += usize::from(sent.is_some());
        if session.next_deadline().is_some_and(|at| at <= now) {
            session.handle_timeout(now);
        }
        while let Some(transmit) = session.poll_transmit(&mut buffer) {
            // Reports are shorter.
            out += usize::from(transmit.packet.len() > 150);
        }
        // The first packet is news to the edge.
        while session.poll_event().is_some() {}
    }
    out
}

#[test]
fn relayed_packets_are_free_of_allocations() {
    COUNTED.set(true);
    let events = "0 101\r\na=rtpmap:101 telephone-event/8000";
    // What a session costs to make, and to tell that one leg is silent; then the same for a minute more.
    let table = [
        ("as it is", [events, events], 160, 3000),
        ("transcoded", [events, "8 101\r\na=rtpmap:101 telephone-event/8000"], 160, 3000),
        ("with a detector of tones", ["0", events], 160, 3000),
        ("cut anew", [events, "0\r\na=ptime:30"], 160, 2000),
    ];
    for (name, formats, samples, expected) in table {
        let (mut few, mut many) = (0, 0);
        let short = allocations(|| few = relay(formats, samples, 3));
        let long = allocations(|| many = relay(formats, samples, 63));
        assert_eq!(many - few, expected, "{name}: packets of a minute");
        assert_eq!(long - short, 0, "{name}: allocations of a minute");
    }
}

#[test]
fn worker_relays_without_allocating() {
    let worker = Worker::start_calling(|_| {}, || COUNTED.set(true));
    let (mut a, mut b) = (Phone::new(0), Phone::new(8));
    worker.open(1, &mut [(&mut a, Hears::Leg(2)), (&mut b, Hears::Leg(1))]);
    let (to, mut buffer) = (a.peer.expect("a peer"), [0; 256]);
    b.socket.set_read_timeout(Some(SOON)).expect("a timeout");
    let mut relay = |packets: u16| {
        for _ in 0..packets {
            let header = Header {
                marker: false,
                payload_type: 0,
                seq: Seq(a.seq),
                timestamp: RtpTime(a.timestamp),
                ssrc: Ssrc(a.ssrc),
            };
            (a.seq, a.timestamp) = (a.seq.wrapping_add(1), a.timestamp.wrapping_add(160));
            let mut packet = [0x55; 172];
            packet[..12].copy_from_slice(&header.to_bytes());
            a.socket.send_to(&packet, to).expect("sent");
            let (len, _) = b.socket.recv_from(&mut buffer).expect("relayed");
            assert_eq!(len, 172);
        }
    };
    // Longer than a turn, so that every queue of the loop has had its growth.
    relay(200);
    assert_eq!(allocations(|| relay(90)), 0);
}
