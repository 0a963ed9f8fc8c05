//! The time that calls count in: it never jumps, and holds for whoever takes a call up.
//!
//! The monotonic clock of a machine begins with its start, which says nothing on another machine: so what the wall clock had ahead of
//! it when the keeper started is added, once and for all. Processes of one keeper agree to the microsecond, machines as well
//! as their clocks do.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// How the processes of a keeper learn of what is added.
pub const ENVIRONMENT: &str = "DIALTONE_CLOCK_US";

static AHEAD_US: OnceLock<u64> = OnceLock::new();

/// Microseconds.
pub fn mono_us() -> u64 {
    machine_us() + ahead_us()
}

/// What the wall clock was ahead of the machine's clock: see [`ENVIRONMENT`].
pub fn ahead_us() -> u64 {
    *AHEAD_US.get_or_init(|| {
        let told = std::env::var(ENVIRONMENT).ok().and_then(|text| text.parse().ok());
        told.unwrap_or_else(|| wall_us().saturating_sub(machine_us()))
    })
}

/// Milliseconds since 1970.
pub fn wall_ms() -> u64 {
    wall_us() / 1000
}

fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn machine_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000 + now.tv_nsec.cast_unsigned() / 1000
}
