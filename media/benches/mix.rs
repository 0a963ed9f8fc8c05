//! What a conference costs, without sockets: for each member and packet time, in nanoseconds and in instructions.
//!
//! `cargo bench -p dialtone-media --features daemon --bench mix`. The time is of one core, best of ten. Instructions
//! are the same on every machine, so that they can be compared from change to change: they are counted by valgrind,
//! where there is one, in a process that runs one case and nothing else.
//!
//! As it was first measured: 3,507 instructions where three members all speak; 1,964 where 3 of 250 speak, and 2,019
//! with a recorder; 7,352 where all 250 do, half of which bend a sum that is far too loud; 9,221 with 250 phones.

#![allow(clippy::disallowed_methods)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::Command;
use std::time::Instant;

use support::mix::{CASES, Case, mix};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, name, seconds] = &arguments[..] {
        let case = CASES.iter().find(|case| case.name == name).expect("one of the cases");
        assert!(mix(case, seconds.parse().expect("a number")) > 0);
        return;
    }
    println!("{:<32} {:>8} {:>8}", "a member and 20 ms", "ns", "instr.");
    for case in &CASES {
        let instructions = instructions(case).map_or("-".into(), |count| count.to_string());
        println!("{:<32} {:>8} {:>8}", case.name, nanoseconds(case), instructions);
    }
}

fn nanoseconds(case: &Case) -> u64 {
    const SECONDS: u64 = 10;
    let run = || {
        let began = Instant::now();
        assert!(mix(case, SECONDS) > 0);
        began.elapsed().as_nanos() as u64 / (SECONDS * 50 * case.members as u64)
    };
    (0..10).map(|_| run()).min().unwrap_or(0)
}

/// Of two seconds more, so that the beginning is not counted.
fn instructions(case: &Case) -> Option<u64> {
    let count = |seconds: u64| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe().ok()?)
            .args([case.name, &seconds.to_string()])
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let counted = text.split("Collected : ").nth(1)?;
        counted.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((count(3)? - count(1)?) / (100 * case.members as u64))
}
