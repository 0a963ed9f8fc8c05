//! What a shard counts, for metrics and the balancer.
//!
//! The loop counts in plain numbers and publishes them once per wake-up, so that a packet costs no atomic
//! operation. Readers see totals since the start.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::codec::Codec;
use crate::leg::Dropped;
use crate::proto::{LoadReport, Totals};

/// Upper bounds of the buckets of tick lateness; a last bucket holds what is above.
pub const LATENESS_BOUNDS_US: [u64; 7] = [1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];

/// Totals of a shard since it started; `sessions` and `legs` are of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub packets_in: u64,
    pub packets_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// By reason, in the order of [`Dropped::ALL`].
    pub dropped: [u64; Dropped::ALL.len()],
    /// RTCP that was no peer's, or none.
    pub dropped_rtcp: u64,
    /// Packets that the kernel did not take.
    pub send_failed: u64,
    pub lost: u64,
    pub late: u64,
    /// Ticks by lateness: the buckets of [`LATENESS_BOUNDS_US`] and one above, not cumulative.
    pub lateness: [u64; LATENESS_BOUNDS_US.len() + 1],
    pub lateness_sum_us: u64,
    /// Sessions that a panic ended.
    pub panics: u64,
    pub sessions: u64,
    /// Legs by codec, in the order of [`Codec::ALL`].
    pub legs_by_codec: [u64; Codec::ALL.len()],
    /// Legs that still find a port, and legs that there are ports for.
    pub free_legs: u32,
    pub all_legs: u32,
}

impl Counters {
    /// As a worker reports it.
    pub fn totals(&self) -> Totals {
        Totals {
            packets_in: self.packets_in,
            packets_out: self.packets_out,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            lost: self.lost,
            late: self.late,
            dropped: self.dropped.to_vec(),
            legs_by_codec: self.legs_by_codec.to_vec(),
            all_legs: self.all_legs,
            panics: self.panics,
            tick_lateness: self.lateness.to_vec(),
            tick_lateness_sum_us: self.lateness_sum_us,
        }
    }

    pub fn dropped_for(&self, reason: Dropped) -> u64 {
        Dropped::ALL.iter().position(|known| *known == reason).map_or(0, |index| self.dropped[index])
    }
}

/// What the loop counts between two wake-ups: added to the shared totals, then zero again.
pub(super) type Tally = Counters;

/// The totals that other threads read.
#[derive(Default)]
pub(super) struct Shared {
    packets_in: AtomicU64,
    packets_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    dropped_rtcp: AtomicU64,
    send_failed: AtomicU64,
    lost: AtomicU64,
    late: AtomicU64,
    lateness: [AtomicU64; LATENESS_BOUNDS_US.len() + 1],
    lateness_sum_us: AtomicU64,
    panics: AtomicU64,
    sessions: AtomicU64,
    legs_by_codec: [AtomicU64; Codec::ALL.len()],
    legs: AtomicU32,
    free_legs: AtomicU32,
    all_legs: AtomicU32,
    worst_lateness_us: AtomicU32,
    used: AtomicU32,
    capacity: AtomicU32,
    stopping: AtomicBool,
}

impl Shared {
    /// Adds what was counted since the last time.
    pub fn add(&self, tally: &mut Tally) {
        let tally = std::mem::take(tally);
        let add = |total: &AtomicU64, count: u64| {
            if count > 0 {
                total.fetch_add(count, Relaxed);
            }
        };
        add(&self.packets_in, tally.packets_in);
        add(&self.packets_out, tally.packets_out);
        add(&self.bytes_in, tally.bytes_in);
        add(&self.bytes_out, tally.bytes_out);
        add(&self.dropped_rtcp, tally.dropped_rtcp);
        add(&self.send_failed, tally.send_failed);
        add(&self.lateness_sum_us, tally.lateness_sum_us);
        add(&self.panics, tally.panics);
        self.dropped.iter().zip(tally.dropped).for_each(|(total, count)| add(total, count));
        self.lateness.iter().zip(tally.lateness).for_each(|(total, count)| add(total, count));
    }

    pub fn note_lateness(&self, us: u64) {
        self.worst_lateness_us.fetch_max(u32::try_from(us).unwrap_or(u32::MAX), Relaxed);
    }

    /// What is counted anew from the sessions themselves.
    pub fn set_sessions(&self, sessions: u64, legs: u32, legs_by_codec: [u64; Codec::ALL.len()]) {
        self.sessions.store(sessions, Relaxed);
        self.legs.store(legs, Relaxed);
        self.legs_by_codec.iter().zip(legs_by_codec).for_each(|(total, count)| total.store(count, Relaxed));
    }

    /// In units of one leg of G.711.
    pub fn set_load(&self, used: u32, capacity: u32) {
        self.used.store(used, Relaxed);
        self.capacity.store(capacity, Relaxed);
    }

    /// Ticks so far, by lateness.
    pub fn lateness(&self) -> [u64; LATENESS_BOUNDS_US.len() + 1] {
        self.lateness.each_ref().map(|total| total.load(Relaxed))
    }

    pub fn set_free_legs(&self, free: usize) {
        self.free_legs.store(u32::try_from(free).unwrap_or(u32::MAX), Relaxed);
    }

    /// How many legs there are ports for.
    pub fn set_all_legs(&self, all: usize) {
        self.all_legs.store(u32::try_from(all).unwrap_or(u32::MAX), Relaxed);
    }

    /// Totals that may only grow, though a packet that was thought lost may still come.
    pub fn set_losses(&self, lost: u64, late: u64) {
        self.lost.fetch_max(lost, Relaxed);
        self.late.fetch_max(late, Relaxed);
    }

    pub fn counters(&self) -> Counters {
        let load = |total: &AtomicU64| total.load(Relaxed);
        Counters {
            packets_in: load(&self.packets_in),
            packets_out: load(&self.packets_out),
            bytes_in: load(&self.bytes_in),
            bytes_out: load(&self.bytes_out),
            dropped: self.dropped.each_ref().map(load),
            dropped_rtcp: load(&self.dropped_rtcp),
            send_failed: load(&self.send_failed),
            lost: load(&self.lost),
            late: load(&self.late),
            lateness: self.lateness.each_ref().map(load),
            lateness_sum_us: load(&self.lateness_sum_us),
            panics: load(&self.panics),
            sessions: load(&self.sessions),
            legs_by_codec: self.legs_by_codec.each_ref().map(load),
            free_legs: self.free_legs.load(Relaxed),
            all_legs: self.all_legs.load(Relaxed),
        }
    }

    pub fn load(&self) -> LoadReport {
        let (used, free_legs) = (self.used.load(Relaxed), self.free_legs.load(Relaxed));
        LoadReport {
            sessions: u32::try_from(self.sessions.load(Relaxed)).unwrap_or(u32::MAX),
            legs: self.legs.load(Relaxed),
            free_legs,
            tick_lateness_us: self.worst_lateness_us.swap(0, Relaxed),
            used,
            // What it can move, but no more legs than there are ports for.
            capacity: self.capacity.load(Relaxed).min(used.saturating_add(free_legs)),
            is_draining: false,
            is_standby: false,
            totals: Some(self.counters().totals()),
        }
    }

    pub fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tally_is_added_once_and_worst_lateness_is_told_once() {
        let shared = Shared::default();
        let mut tally = Tally { packets_in: 3, bytes_out: 5, ..Tally::default() };
        tally.dropped[1] = 2;
        shared.add(&mut tally);
        shared.add(&mut tally);
        shared.note_lateness(700);
        shared.note_lateness(300);
        let counters = shared.counters();
        assert_eq!((counters.packets_in, counters.bytes_out, counters.dropped_for(Dropped::Source)), (3, 5, 2));
        assert_eq!([shared.load().tick_lateness_us, shared.load().tick_lateness_us], [700, 0]);
    }

    #[test]
    fn reasons_are_counted_where_they_are_looked_up() {
        for (index, reason) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
        }
        for (index, codec) in Codec::ALL.into_iter().enumerate() {
            assert_eq!(codec as usize, index, "{}", codec.name());
        }
    }

    #[test]
    fn there_is_room_for_no_more_legs_than_have_ports() {
        let shared = Shared::default();
        shared.set_free_legs(7);
        shared.set_load(30, 1000);
        assert_eq!((shared.load().used, shared.load().capacity), (30, 37));
        shared.set_load(30, 32);
        assert_eq!(shared.load().capacity, 32);
    }

    #[test]
    fn losses_never_go_back() {
        let shared = Shared::default();
        shared.set_losses(5, 1);
        shared.set_losses(3, 2);
        assert_eq!((shared.counters().lost, shared.counters().late), (5, 2));
    }
}
