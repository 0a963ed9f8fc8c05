//! What a relayed packet costs in a session, without sockets: nanoseconds by case.
//!
//! `cargo bench -p dialtone-media --features daemon`. The budget is 1 us; figures are of one core, best of ten.

#![allow(clippy::disallowed_methods)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use support::relay::{CASES, relay};

const SECONDS: u64 = 1000;

fn main() {
    for (name, formats, samples) in CASES {
        let packets = SECONDS * 8000 / samples as u64;
        let run = || {
            let began = Instant::now();
            assert!(relay(formats, samples, SECONDS) > 0);
            began.elapsed().as_nanos() as u64 / packets
        };
        let best = (0..10).map(|_| run()).min().unwrap_or(0);
        println!("{name:<26} {best:>5} ns");
    }
}
