//! The one clock of a shard: read once per wake-up.

use std::time::Instant;

use crate::time::Mono;

/// Counts from when the shard started.
pub(super) struct Clock(Instant);

impl Clock {
    pub fn new() -> Clock {
        Clock(Instant::now())
    }

    pub fn now(&self) -> Mono {
        Mono(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}
