//! What we know of customers' hosts: which ones are given a rest, and how many requests wait for each.
//!
//! A **circuit** per host opens after some connect failures in a row; for a short time every request fails at once,
//! then one may try. A **lane** per account and host bounds the requests under way; a few more wait for their turn,
//! and beyond that a request fails at once ([`FetchError::TooManyWaiting`]). So a host that hangs holds back only
//! the account that named it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::failure::FetchError;
use crate::ids::AccountSid;

/// Circuits and lanes kept at most; idle ones are dropped to make room, and beyond it nothing is remembered.
const MAX_ENTRIES: usize = 10_000;

/// How hosts are spared.
#[derive(Clone, Copy, Debug)]
pub struct HostLimits {
    /// Connect failures in a row that open the circuit.
    pub failures: u32,
    /// How long it stays open.
    pub rest: Duration,
    /// Requests of one account to one host under way at once.
    pub at_once: usize,
    /// Further ones that wait.
    pub waiting: usize,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self { failures: 5, rest: Duration::from_secs(5), at_once: 256, waiting: 1_024 }
    }
}

pub(super) struct Hosts {
    limits: HostLimits,
    circuits: Mutex<HashMap<String, Circuit>>,
    lanes: Mutex<HashMap<(AccountSid, String), Arc<Lane>>>,
}

#[derive(Clone, Copy, Default)]
struct Circuit {
    failures: u32,
    /// Until then requests fail at once; `None` while it is closed.
    open_until: Option<Instant>,
}

struct Lane {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A place among the requests under way; given back when dropped.
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Hosts {
    pub fn new(limits: HostLimits) -> Self {
        Self { limits, circuits: Mutex::default(), lanes: Mutex::default() }
    }

    /// Whether the host may be tried at `now`. While its circuit is open, one request of each rest is let through.
    pub fn may_try(&self, authority: &str, now: Instant) -> bool {
        let mut circuits = self.circuits.lock().unwrap_or_else(PoisonError::into_inner);
        match circuits.get_mut(authority) {
            Some(circuit) if circuit.open_until.is_some_and(|until| now < until) => false,
            Some(circuit) if circuit.open_until.is_some() => {
                circuit.open_until = Some(now + self.limits.rest);
                true
            }
            _ => true,
        }
    }

    /// The host was connected to, whatever it answered.
    pub fn connected(&self, authority: &str) {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner).remove(authority);
    }

    /// The host could not be connected to.
    pub fn failed(&self, authority: &str, now: Instant) {
        let mut circuits = self.circuits.lock().unwrap_or_else(PoisonError::into_inner);
        if circuits.len() >= MAX_ENTRIES && !circuits.contains_key(authority) {
            circuits.retain(|_, circuit| circuit.open_until.is_some_and(|until| now < until));
            if circuits.len() >= MAX_ENTRIES {
                return;
            }
        }
        let circuit = circuits.entry(authority.to_owned()).or_default();
        circuit.failures = circuit.failures.saturating_add(1);
        if circuit.failures >= self.limits.failures {
            circuit.open_until = Some(now + self.limits.rest);
        }
    }

    /// Waits for a turn of `account` at the host.
    pub async fn turn(&self, account: AccountSid, authority: &str) -> Result<Turn, FetchError> {
        let lane = self.lane(account, authority);
        if let Ok(permit) = lane.turns.clone().try_acquire_owned() {
            return Ok(Turn { _permit: permit });
        }
        let waiting = Waiting::enter(&lane, self.limits.waiting).ok_or(FetchError::TooManyWaiting)?;
        let permit = lane.turns.clone().acquire_owned().await.map_err(|_| FetchError::TooManyWaiting)?;
        drop(waiting);
        Ok(Turn { _permit: permit })
    }

    fn lane(&self, account: AccountSid, authority: &str) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (account, authority.to_owned());
        if let Some(lane) = lanes.get(&key) {
            return lane.clone();
        }
        if lanes.len() >= MAX_ENTRIES {
            let at_once = self.limits.at_once;
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1 || lane.turns.available_permits() < at_once);
        }
        let turns = Arc::new(Semaphore::new(self.limits.at_once));
        let lane = Arc::new(Lane { turns, waiting: AtomicUsize::new(0) });
        if lanes.len() < MAX_ENTRIES {
            lanes.insert(key, lane.clone());
        }
        lane
    }
}

/// One of those that wait in a lane, until dropped.
struct Waiting<'a>(&'a Lane);

impl<'a> Waiting<'a> {
    fn enter(lane: &'a Lane, most: usize) -> Option<Self> {
        if lane.waiting.fetch_add(1, Ordering::Relaxed) >= most {
            lane.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(lane))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: AccountSid = AccountSid::new(1);

    fn limits() -> HostLimits {
        HostLimits { failures: 3, rest: Duration::from_secs(10), at_once: 1, waiting: 1 }
    }

    #[test]
    fn threat_20_circuit_opens_after_failures_in_a_row_and_lets_one_try_after_a_rest() {
        let hosts = Hosts::new(limits());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..2 {
            hosts.failed("h", at(0));
        }
        hosts.connected("h");
        for _ in 0..2 {
            hosts.failed("h", at(0));
        }
        assert!(hosts.may_try("h", at(0)), "two in a row are not enough");
        hosts.failed("h", at(0));
        assert!(!hosts.may_try("h", at(9)));
        assert!(hosts.may_try("other", at(9)));
        assert!(hosts.may_try("h", at(10)));
        assert!(!hosts.may_try("h", at(10)), "only one tries");
        hosts.failed("h", at(11));
        assert!(!hosts.may_try("h", at(20)));
        assert!(hosts.may_try("h", at(21)));
        hosts.connected("h");
        assert!(hosts.may_try("h", at(21)) && hosts.may_try("h", at(21)));
    }

    #[test]
    fn circuits_are_bounded() {
        let hosts = Hosts::new(limits());
        let now = Instant::now();
        for at in 0..MAX_ENTRIES + 10 {
            hosts.failed(&at.to_string(), now);
        }
        assert!(hosts.circuits.lock().is_ok_and(|circuits| circuits.len() <= MAX_ENTRIES));
    }

    #[tokio::test]
    async fn threat_20_full_lane_of_one_account_leaves_the_other_alone() {
        let hosts = Arc::new(Hosts::new(limits()));
        let first = hosts.turn(ACCOUNT, "h").await;
        let second = tokio::spawn({
            let hosts = hosts.clone();
            async move { hosts.turn(ACCOUNT, "h").await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert_eq!(hosts.turn(ACCOUNT, "h").await.map(drop), Err(FetchError::TooManyWaiting));
        assert_eq!(hosts.turn(AccountSid::new(2), "h").await.map(drop), Ok(()));
        assert_eq!(hosts.turn(ACCOUNT, "other").await.map(drop), Ok(()));
        drop(first);
        assert_eq!(second.await.expect("the task ends"), Ok(()));
        assert_eq!(hosts.turn(ACCOUNT, "h").await.map(drop), Ok(()));
    }
}
