//! No packet that is relayed, mixed or recorded costs an allocation: counted, not believed.
//!
//! Only threads that ask for it are counted, so that the test's own harness is not.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use dialtone_media::proto::*;
use dialtone_media::rtp::{Header, RtpTime, Seq, Ssrc};
use dialtone_media::srtp::Profile;
use support::mix::{self, mix};
use support::relay::{CASES, relay};
use support::secure;
use support::{Phone, SOON, Worker};

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

#[test]
fn relayed_packets_are_free_of_allocations() {
    COUNTED.set(true);
    for (name, formats, samples) in CASES {
        let (mut few, mut many) = (0, 0);
        // Tables of a codec are made once in a process.
        relay(formats, samples, 1);
        let short = allocations(|| few = relay(formats, samples, 3));
        let long = allocations(|| many = relay(formats, samples, 63));
        let expected = if name == "cut anew" { 2000 } else { 3000 };
        assert_eq!(many - few, expected, "{name}: packets of a minute");
        assert_eq!(long, short, "{name}: allocations of a minute and three seconds, and of three seconds");
    }
}

#[test]
fn mixed_packet_times_are_free_of_allocations() {
    COUNTED.set(true);
    for case in mix::CASES {
        let (mut few, mut many) = (0, 0);
        let short = allocations(|| few = mix(&case, 2));
        let long = allocations(|| many = mix(&case, 7));
        assert_eq!(many - few, case.members * 250, "{}: what is heard in five seconds", case.name);
        assert_eq!(long - short, 0, "{}: allocations of five seconds", case.name);
    }
}

#[test]
fn encrypted_packets_are_free_of_allocations() {
    COUNTED.set(true);
    for profile in Profile::ALL {
        let (mut few, mut many) = (0, 0);
        let short = allocations(|| few = secure::echo(profile, 100));
        let long = allocations(|| many = secure::echo(profile, 1100));
        assert_eq!(many - few, 1000, "{}: what comes back", profile.name());
        assert_eq!(long - short, 0, "{}: allocations of a thousand packets", profile.name());
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
