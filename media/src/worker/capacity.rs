//! How much a shard can take, in units of one leg of G.711: measured at its start, and less while its ticks come late.
//!
//! What a leg costs is mostly what the kernel takes to receive and to send a packet, 50 times a second each: that is
//! measured with a pair of sockets on loopback. Callers hear nothing of a processor that is busy, but they hear a tick that
//! is late: when more than one of a hundred is by more than 5 ms, the shard takes a fifth less than it has, until they are
//! in time again.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::counters::LATENESS_BOUNDS_US;

/// Buckets of ticks that are late by more than this, in microseconds, are too late.
const LATE_US: u64 = 5_000;
/// What a packet costs beyond its two system calls, in hundredths of them.
const BESIDE_PERCENT: u64 = 130;
/// Of a processor: the rest is for bursts.
const FILLED_PERCENT: u64 = 80;
const PACKETS_A_SECOND: u64 = 50;
/// Something else may keep the machine busy: then fewer calls would not help.
const LEAST_SHARE: u32 = 25;
const LEAST: u32 = 50;
const TRIAL: u32 = 2_000;

/// The room of a shard.
pub(super) struct Capacity {
    full: u32,
    /// Of that, in hundredths.
    share: u32,
    seen: [u64; LATENESS_BOUNDS_US.len() + 1],
}

impl Capacity {
    pub fn new(full: u32) -> Capacity {
        Capacity { full, share: 100, seen: Default::default() }
    }

    /// Looks at what the ticks of the last second were, by totals; `used` is what is taken now.
    pub fn look(&mut self, lateness: [u64; LATENESS_BOUNDS_US.len() + 1], used: u32) -> u32 {
        let (mut all, mut late) = (0, 0);
        for (at, (now, before)) in lateness.iter().zip(self.seen).enumerate() {
            let ticks = now - before;
            all += ticks;
            if at > 0 && LATENESS_BOUNDS_US[at - 1] >= LATE_US {
                late += ticks;
            }
        }
        self.seen = lateness;
        if all > 0 && late * 100 > all {
            let used_percent = used.saturating_mul(100) / self.full.max(1);
            self.share = (used_percent.min(self.share) * 4 / 5).clamp(LEAST_SHARE, 100);
        } else {
            self.share = (self.share + 5).min(100);
        }
        self.now()
    }

    pub fn now(&self) -> u32 {
        self.full / 100 * self.share + self.full % 100 * self.share / 100
    }
}

/// Legs of G.711 that one processor of this machine moves, about. Takes a few milliseconds.
pub(super) fn measure() -> u32 {
    let Some(per_packet_ns) = packet_ns() else { return LEAST };
    let per_leg_ns = per_packet_ns * BESIDE_PERCENT / 100 * PACKETS_A_SECOND;
    let legs = 1_000_000_000 * FILLED_PERCENT / 100 / per_leg_ns.max(1);
    u32::try_from(legs).unwrap_or(u32::MAX).max(LEAST)
}

/// Processor time to send a packet and to receive one.
fn packet_ns() -> Option<u64> {
    let socket = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok();
    let (from, to) = (socket()?, socket()?);
    to.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
    let address = to.local_addr().ok()?;
    let mut buffer = [0; 172];
    let began = clock_gettime(ClockId::ThreadCPUTime);
    for _ in 0..TRIAL {
        from.send_to(&buffer.clone(), address).ok()?;
        to.recv_from(&mut buffer).ok()?;
    }
    let ended = clock_gettime(ClockId::ThreadCPUTime);
    let ns = (ended.tv_sec - began.tv_sec) * 1_000_000_000 + (ended.tv_nsec - began.tv_nsec);
    Some(u64::try_from(ns).ok()? / u64::from(TRIAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Totals of ticks in time and too late.
    fn ticks(good: u64, late: u64) -> [u64; LATENESS_BOUNDS_US.len() + 1] {
        let mut buckets = [0; LATENESS_BOUNDS_US.len() + 1];
        (buckets[0], buckets[3]) = (good, late);
        buckets
    }

    #[test]
    fn late_ticks_take_room_away_and_ticks_in_time_give_it_back() {
        let mut capacity = Capacity::new(1000);
        assert_eq!(capacity.look(ticks(1000, 10), 500), 1000, "one of a hundred may be late");
        assert_eq!(capacity.look(ticks(1900, 110), 500), 400, "a fifth less than it has");
        assert_eq!(capacity.look(ticks(2800, 210), 450), 320);
        assert_eq!(capacity.look(ticks(3800, 210), 450), 370);
        let regained = (0..20).map(|second| capacity.look(ticks(4800 + second * 1000, 210), 450)).last();
        assert_eq!(regained, Some(1000));
        assert_eq!(capacity.look(ticks(23_800, 210), 0), 1000, "nothing ticked");
        assert_eq!(capacity.look(ticks(23_800, 1210), 5), 250, "five legs do not fill it");
    }

    #[test]
    fn bucket_of_exactly_five_milliseconds_is_in_time() {
        assert_eq!(LATENESS_BOUNDS_US[2], LATE_US);
        let mut buckets = ticks(0, 0);
        buckets[2] = 100;
        assert_eq!(Capacity::new(1000).look(buckets, 500), 1000);
    }

    #[test]
    fn machine_moves_more_than_the_least_and_less_than_a_million() {
        assert!((LEAST..1_000_000).contains(&measure()));
    }
}
