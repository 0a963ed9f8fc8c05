//! The one clock of a shard: read once per wake-up. All workers of a machine have the same.

use rustix::time::{ClockId, clock_gettime};

use crate::time::Mono;

/// Counts from when the machine started.
pub(super) struct Clock;

impl Clock {
    pub fn now(&self) -> Mono {
        let now = clock_gettime(ClockId::Monotonic);
        Mono(now.tv_sec.cast_unsigned() * 1_000_000 + now.tv_nsec.cast_unsigned() / 1000)
    }
}
