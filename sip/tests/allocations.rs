//! How often a message makes us allocate: "per SIP message no more than one buffer".
//!
//! A test binary of its own, since it counts what the whole process allocates; its tests take turns by a lock.

#![allow(clippy::disallowed_types, reason = "the tests of this binary take turns")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dialtone_sip::msg::{Address, HeaderName, Message, Uri, check};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

static TURN: Mutex<()> = Mutex::new(());

/// Eighteen header lines and an SDP.
const INVITE: &[u8] = include_bytes!("corpus/invite.sip");

fn allocations(work: impl FnOnce()) -> u64 {
    let _turn = TURN.lock();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn indexing_an_invite_makes_one_allocation() {
    let raw = Bytes::from_static(INVITE);
    let mut parsed = None;
    assert_eq!(allocations(|| parsed = Some(Message::parse(raw.clone()).unwrap())), 1);
    assert_eq!(parsed.unwrap().all_headers().count(), 18);
}

#[test]
fn checking_and_viewing_an_invite_makes_none() {
    let message = Message::parse(Bytes::from_static(INVITE)).unwrap();
    let made = allocations(|| {
        check::request(black_box(&message)).unwrap();
        let via = message.top_via().unwrap();
        let (from, to) = (message.from().unwrap(), message.to().unwrap());
        let contact = Address::parse(message.header(HeaderName::Contact).unwrap()).unwrap();
        let uris = [from.uri, to.uri, contact.uri, message.request_uri()].map(|uri| Uri::parse(uri).unwrap());
        black_box((via.branch(), from.tag(), to.tag(), from.display_name(), uris, message.cseq(), message.call_id()));
        black_box((message.max_forwards(), message.body().len()));
    });
    assert_eq!(made, 0);
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Vec::<u8>::with_capacity(8)))), 1);
}
