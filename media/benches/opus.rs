//! What a call between Opus and PCMU costs in a session, without sockets, beside the codec alone in the same run: microseconds for
//! 20 ms both ways.
//!
//! `cargo bench -p dialtone-media --features daemon --bench opus`. The call may take 1.3 times what the codec does; figures are of
//! one core, best of ten.

#![allow(clippy::disallowed_methods)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use support::opus::{Speech, call, codec};

const FRAMES: usize = 2000;

fn main() {
    let speech = Speech::new(FRAMES);
    let best = |work: &dyn Fn(&Speech) -> usize| {
        let run = || {
            let began = Instant::now();
            assert!(work(&speech) > FRAMES * 20, "there is audio both ways");
            began.elapsed().as_nanos() as f64 / 1000.0 / FRAMES as f64
        };
        (0..10).map(|_| run()).fold(f64::MAX, f64::min)
    };
    let (alone, whole) = (best(&codec), best(&call));
    println!("codec alone {alone:.1} us, call {whole:.1} us: {:.2} times", whole / alone);
}
