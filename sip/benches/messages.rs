//! What a message costs: `cargo bench -p dialtone-sip`. Budget: index of an INVITE under 1.5 us, one allocation.
//!
//! Prints the best of several rounds, for a person to read; CI holds the allocations by `tests/allocations.rs`.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use dialtone_sip::dialog::Dialog;
use dialtone_sip::flow::{Flow, Transport};
use dialtone_sip::msg::{Address, HeaderName, Message, Method, Uri, Writer, check};
use dialtone_sip::stack::{Config, Reply, Stack};
use dialtone_sip::time::Mono;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const INVITE: &[u8] = include_bytes!("../tests/corpus/invite.sip");
const ROUNDS: usize = 30;
const REPEATS: usize = 2_000;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let flow = Flow {
        transport: Transport::Udp,
        local: "198.51.100.1:5060".parse().expect("an address"),
        remote: "198.51.100.23:5060".parse().expect("an address"),
        connection: None,
    };
    let raw = Bytes::from_static(INVITE);
    let message = Message::parse(raw.clone()).expect("a good message");
    println!("{:<44} {:>8} {:>7} {:>7}", "", "ns", "allocs", "bytes");
    measure("index of an INVITE, 18 headers, SDP", || drop(black_box(Message::parse(raw.clone()))));
    measure("check::request", || assert!(black_box(check::request(&message)).is_ok()));
    measure("typed Via, From, To, CSeq, Contact, Call-ID", || views(&message));
    measure("response of 6 headers, by the writer", || {
        let mut writer = Writer::response(180, "");
        writer.copy(HeaderName::Via, &message).copy(HeaderName::From, &message).copy(HeaderName::To, &message);
        writer.copy(HeaderName::CallId, &message).copy(HeaderName::CSeq, &message);
        drop(black_box(writer.finish("", b"")));
    });
    let dialog = Dialog::from_invite(&message, flow, "tag".into(), "<sip:us@h>".into());
    measure("request inside a dialog", || {
        drop(black_box(dialog.request(Method::Bye, 2, "SIP/2.0/UDP us;branch=z9hG4bK1").finish("", b"")));
    });
    let mut stack = Stack::new(Config { product: "bench".into(), slot: 1, seed: [1; 32] });
    let reply = Reply::new(503).header(HeaderName::RetryAfter, "7".into());
    measure("INVITE received, judged fresh, refused", || {
        let _ = black_box(stack.receive(flow, message.clone(), Mono(0)));
        stack.refuse(&message, flow, &reply);
        while let Some(output) = stack.poll_output() {
            drop(black_box(output));
        }
    });
}

fn views(message: &Message) {
    let via = message.top_via().expect("a Via");
    let contact = Address::parse(message.header(HeaderName::Contact).unwrap_or("")).expect("a Contact");
    let (from, to) = (message.from().expect("a From"), message.to().expect("a To"));
    black_box((via.branch(), from.tag(), to.tag(), message.cseq(), message.call_id(), message.max_forwards()));
    black_box((Uri::parse(from.uri).is_ok(), Uri::parse(to.uri).is_ok(), Uri::parse(contact.uri).is_ok()));
}

/// The best round, per call.
fn measure(what: &str, mut work: impl FnMut()) {
    let mut best = f64::MAX;
    let (allocations, bytes) = (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for _ in 0..REPEATS {
            work();
        }
        best = best.min(begun.elapsed().as_nanos() as f64 / REPEATS as f64);
    }
    let calls = (ROUNDS * REPEATS) as f64;
    let per_call = |counter: &AtomicU64, before: u64| (counter.load(Ordering::Relaxed) - before) as f64 / calls;
    let (allocations, bytes) = (per_call(&ALLOCATIONS, allocations), per_call(&BYTES, bytes));
    println!("{what:<44} {best:>8.0} {allocations:>7.2} {bytes:>7.0}");
}
