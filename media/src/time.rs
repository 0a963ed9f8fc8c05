//! Time as an input: a monotonic tick that the caller reads once per wake-up and passes down.
//!
//! Nothing in this crate but `worker/` reads a clock. A test, a replay and the daemon differ only in where
//! their [`Mono`] comes from.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Microseconds since a moment that the process chose; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mono(pub u64);

impl Mono {
    /// The time since `earlier`, zero where `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;

    /// Saturates, so that a deadline may be "never".
    fn add(self, span: Duration) -> Mono {
        Mono(self.0.saturating_add(micros(span)))
    }
}

impl AddAssign<Duration> for Mono {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub<Duration> for Mono {
    type Output = Mono;

    fn sub(self, span: Duration) -> Mono {
        Mono(self.0.saturating_sub(micros(span)))
    }
}

impl Sub for Mono {
    type Output = Duration;

    fn sub(self, earlier: Mono) -> Duration {
        self.since(earlier)
    }
}

/// The earlier of two deadlines, where `None` is never.
pub fn sooner(a: Option<Mono>, b: Option<Mono>) -> Option<Mono> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let second = Duration::from_secs(1);
        assert_eq!(Mono(5) + second, Mono(1_000_005));
        assert_eq!(Mono(5) - second, Mono(0));
        assert_eq!(Mono(u64::MAX) + second, Mono(u64::MAX));
        assert_eq!(Mono(7) - Mono(9), Duration::ZERO);
        assert_eq!(Mono(9) - Mono(7), Duration::from_micros(2));
    }

    #[test]
    fn sooner_takes_none_as_never() {
        assert_eq!(sooner(None, None), None);
        assert_eq!(sooner(Some(Mono(3)), None), Some(Mono(3)));
        assert_eq!(sooner(Some(Mono(3)), Some(Mono(2))), Some(Mono(2)));
    }
}
