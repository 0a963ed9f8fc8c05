//! Timer values (RFC 3261 s17.1.1.1 and table 4, RFC 6026 s8.4).

use std::time::Duration;

/// Estimate of the round trip.
pub const T1: Duration = Duration::from_millis(500);
/// The longest interval between retransmissions of a non-INVITE request and of an INVITE response.
pub const T2: Duration = Duration::from_secs(4);
/// The longest time that a message stays in the network.
pub const T4: Duration = Duration::from_secs(5);
/// Timers B, F, H, J, L and M: 64 x T1.
pub const PATIENCE: Duration = Duration::from_secs(32);
/// How long a client INVITE transaction absorbs repeated failures over UDP (timer D).
pub const ABSORB_FAILURES: Duration = Duration::from_secs(32);

/// A retransmission timer whose interval doubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    interval: Duration,
    cap: Duration,
}

impl Backoff {
    /// Doubles without a limit of its own: timer A.
    pub const UNCAPPED: Backoff = Backoff { interval: T1, cap: PATIENCE };
    /// Doubles up to T2: timers E and G, and the 2xx of an INVITE.
    pub const CAPPED: Backoff = Backoff { interval: T1, cap: T2 };

    /// The interval until the next retransmission; the one after is twice as long, up to the cap.
    pub fn next_interval(&mut self) -> Duration {
        let interval = self.interval;
        self.interval = (interval * 2).min(self.cap);
        interval
    }
}
