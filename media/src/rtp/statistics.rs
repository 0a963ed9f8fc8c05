//! What a receiver knows of one stream: its order, its losses and its jitter (RFC 3550 A.1, A.3, A.8).
//!
//! One [`Stream`] follows one SSRC at a time. It decides whether a packet belongs to the sequence; it does not
//! reorder, and it does not decide which SSRC is the right one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Header, RtpTime, Seq, Ssrc};
use crate::time::Mono;

/// The receive side of one SSRC.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stream {
    ssrc: Ssrc,
    /// Extended sequence number of the first packet, and of the highest so far.
    first: u32,
    highest: u32,
    /// The number after one that did not fit: two in a row mean that the sender restarted.
    restart: Option<Seq>,
    received: u64,
    /// Expected and received at the last report.
    reported: (u64, u64),
    /// Of the time before the sender restarted.
    expected_before: u64,
    /// Jitter in 1/16 sample, as A.8 keeps it.
    jitter: u32,
    transit: Option<u32>,
}

/// How a packet stands to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It belongs; `seq` counts on over the wrap at 16 bits.
    InSequence { seq: u32 },
    /// It belongs, and the sender has begun a new sequence with it.
    Restarted { seq: u32 },
    /// Far from what was expected: dropped until its successor confirms it.
    Suspect,
}

impl Stream {
    /// A stream that begins with `header`; the packet itself still goes through [`Stream::handle_packet`].
    pub fn new(header: &Header) -> Stream {
        let first = BASE + u32::from(header.seq.0);
        Stream {
            ssrc: header.ssrc,
            first,
            highest: first.wrapping_sub(1),
            restart: None,
            received: 0,
            reported: (0, 0),
            expected_before: 0,
            jitter: 0,
            transit: None,
        }
    }

    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// Takes a packet of this SSRC that arrived at `now`; about 10 ns, no allocation.
    pub fn handle_packet(&mut self, header: &Header, now: Mono) -> Arrival {
        let ahead = i32::from(header.seq.ahead_of(Seq(self.highest as u16)));
        if !(-MAX_MISORDER..=MAX_DROPOUT).contains(&ahead) {
            if self.restart != Some(header.seq) {
                self.restart = Some(header.seq + 1);
                return Arrival::Suspect;
            }
            self.begin_again(header.seq);
            self.count(header, now);
            return Arrival::Restarted { seq: self.highest };
        }
        self.restart = None;
        let seq = self.highest.wrapping_add_signed(ahead);
        if ahead > 0 {
            self.highest = seq;
        }
        self.first = self.first.min(seq);
        self.count(header, now);
        Arrival::InSequence { seq }
    }

    fn begin_again(&mut self, seq: Seq) {
        self.expected_before = self.expected();
        self.first = BASE + u32::from(seq.0);
        self.highest = self.first;
        self.restart = None;
        self.transit = None;
    }

    fn count(&mut self, header: &Header, now: Mono) {
        self.received += 1;
        let transit = arrival_time(now).0.wrapping_sub(header.timestamp.0);
        if let Some(before) = self.transit.replace(transit) {
            let difference = (transit.wrapping_sub(before) as i32).unsigned_abs().min(MAX_DIFFERENCE);
            self.jitter = self.jitter + difference - ((self.jitter + 8) >> 4);
        }
    }

    /// Packets that the sender sent, as far as the sequence numbers tell.
    pub fn expected(&self) -> u64 {
        self.expected_before + u64::from(self.highest.wrapping_sub(self.first).wrapping_add(1))
    }

    pub fn received(&self) -> u64 {
        self.received
    }

    /// Packets that never came; duplicates do not make it negative.
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    /// Interarrival jitter in samples.
    pub fn jitter(&self) -> u32 {
        self.jitter >> 4
    }

    /// Interarrival jitter as a time.
    pub fn jitter_time(&self) -> Duration {
        Duration::from_micros(u64::from(self.jitter()) * 125)
    }

    /// The extended highest sequence number of a report block: cycles and number.
    pub fn highest(&self) -> u32 {
        self.highest.wrapping_sub(BASE)
    }

    /// The fraction lost since the last call, in 1/256 (A.3); every call begins a new interval.
    pub fn take_fraction_lost(&mut self) -> u8 {
        let (expected, received) = (self.expected(), self.received);
        let expected_interval = expected.saturating_sub(self.reported.0);
        let received_interval = received.saturating_sub(self.reported.1);
        self.reported = (expected, received);
        match expected_interval.checked_sub(received_interval) {
            Some(lost) if expected_interval > 0 => ((lost << 8) / expected_interval).min(255) as u8,
            _ => 0,
        }
    }
}

/// `now` on an RTP clock of 8 kHz.
fn arrival_time(now: Mono) -> RtpTime {
    RtpTime((now.0 / 125) as u32)
}

/// Extended numbers start one cycle up, so that a packet from before the first is not below zero.
const BASE: u32 = 1 << 16;
/// RFC 3550 A.1.
const MAX_DROPOUT: i32 = 3000;
const MAX_MISORDER: i32 = 100;
/// A timestamp that jumps says nothing of the network: 10 s of difference is as far as we believe it.
const MAX_DIFFERENCE: u32 = 80_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(seq: u16, timestamp: u32) -> Header {
        Header { marker: false, payload_type: 0, seq: Seq(seq), timestamp: RtpTime(timestamp), ssrc: Ssrc(1) }
    }

    /// Feeds sequence numbers 20 ms apart and returns the stream.
    fn fed(seqs: &[u16]) -> Stream {
        let mut stream = Stream::new(&header(seqs[0], 0));
        for (i, seq) in seqs.iter().enumerate() {
            stream.handle_packet(&header(*seq, i as u32 * 160), Mono(i as u64 * 20_000));
        }
        stream
    }

    #[test]
    fn losses_and_reordering_are_counted_over_the_wrap() {
        let table: &[(&str, &[u16], u64, u64)] = &[
            ("in order", &[1, 2, 3], 3, 0),
            ("one lost", &[1, 3, 4], 4, 1),
            ("reordered", &[1, 3, 2, 4], 4, 0),
            ("wrap", &[65534, 65535, 0, 1], 4, 0),
            ("wrap with loss", &[65534, 1], 4, 2),
            ("duplicate does not hide a loss below zero", &[1, 1, 1, 2], 2, 0),
            ("older than the first", &[5, 4, 6], 3, 0),
        ];
        for (name, seqs, expected, lost) in table {
            let stream = fed(seqs);
            assert_eq!((stream.expected(), stream.lost()), (*expected, *lost), "{name}");
        }
    }

    #[test]
    fn jump_is_suspect_until_its_successor_confirms_it() {
        let mut stream = fed(&[1, 2, 3]);
        let now = Mono(100_000);
        assert_eq!(stream.handle_packet(&header(30_000, 0), now), Arrival::Suspect);
        assert_eq!(stream.handle_packet(&header(4, 480), now), Arrival::InSequence { seq: BASE + 4 });
        assert_eq!(stream.handle_packet(&header(30_000, 0), now), Arrival::Suspect);
        assert_eq!(stream.handle_packet(&header(30_001, 160), now), Arrival::Restarted { seq: BASE + 30_001 });
        assert_eq!(stream.handle_packet(&header(30_002, 320), now), Arrival::InSequence { seq: BASE + 30_002 });
        assert_eq!((stream.expected(), stream.lost(), stream.received()), (6, 0, 6));
    }

    #[test]
    fn steady_stream_has_no_jitter_and_an_uneven_one_converges_on_its_mean() {
        assert_eq!(fed(&[1, 2, 3, 4]).jitter(), 0);
        let mut stream = Stream::new(&header(0, 0));
        for i in 0..500u16 {
            let late = if i % 2 == 0 { 0 } else { 10_000 };
            stream.handle_packet(&header(i, u32::from(i) * 160), Mono(u64::from(i) * 20_000 + late));
        }
        assert!((75..=85).contains(&stream.jitter()), "jitter {}", stream.jitter());
        assert_eq!(stream.jitter_time(), Duration::from_micros(u64::from(stream.jitter()) * 125));
    }

    #[test]
    fn fraction_lost_is_of_the_last_interval_only() {
        let mut stream = fed(&[1, 3, 5, 7]);
        assert_eq!(stream.take_fraction_lost(), (3 * 256 / 7) as u8);
        assert_eq!(stream.take_fraction_lost(), 0);
        for seq in [8, 9] {
            stream.handle_packet(&header(seq, 0), Mono(0));
        }
        assert_eq!(stream.take_fraction_lost(), 0);
    }
}
