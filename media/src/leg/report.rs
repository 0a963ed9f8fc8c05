//! The reports of one leg: when they are due, what they say, and what the peer's tell us (RFC 3550 s6.2, s6.4).
//!
//! One about every 5 s, at an interval drawn anew each time between half and one and a half of that, so that a
//! thousand legs that were answered at once do not report at once. A leg on which nothing has gone either way since its
//! last report, held or waiting, takes twice as long: well within the five intervals after which a peer may take it
//! for gone (s6.3.5). A worker knows no wall clock: the NTP time of
//! its reports counts from the machine's start, as s4 of the RFC allows.

use std::time::Duration;

use super::{Leg, Outgoing};
use crate::random::Random;
use crate::rtcp::{Junk, Report, ReportBlock, Rtcp, SenderInfo, parse};
use crate::rtp::{Seq, Stream};
use crate::time::Mono;

/// The RTCP side of a leg.
pub(super) struct Reports {
    random: Random,
    /// Said as 16 hexadecimal digits, new for each leg (RFC 7022 s4.2).
    cname: u64,
    due_at: Option<Mono>,
    due: bool,
    /// Packets sent by the time of the last report.
    reported: u64,
    has_reported: bool,
    /// Packets both ways by the time of the last report.
    moved: u64,
    /// The middle of the peer's last NTP time, and when it came.
    last_from_peer: Option<(u32, Mono)>,
    round_trip: Option<Duration>,
    /// What the peer's last report says that it lost of us since the one before, of 256.
    lost_by_peer: u8,
}

impl Reports {
    pub fn new(random: &mut Random) -> Reports {
        Reports {
            random: Random::new(random.next_u64(), 0),
            cname: random.next_u64(),
            due_at: None,
            due: false,
            reported: 0,
            has_reported: false,
            moved: 0,
            last_from_peer: None,
            round_trip: None,
            lost_by_peer: 0,
        }
    }

    pub fn cname(&self) -> u64 {
        self.cname
    }

    /// Goes on under the name that the peer knows.
    pub fn take_up(&mut self, cname: u64) {
        self.cname = cname;
    }

    /// Media is agreed: the first report comes after half the interval (s6.2).
    pub fn begin(&mut self, now: Mono) {
        if self.due_at.is_none() {
            self.due_at = Some(self.due_in(0.5, now));
        }
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.due_at
    }

    /// `moved` counts the packets both ways so far.
    pub fn handle_timeout(&mut self, moved: u64, now: Mono) {
        if self.due_at.is_some_and(|at| at <= now) {
            let is_quiet = std::mem::replace(&mut self.moved, moved) == moved;
            self.due = true;
            self.due_at = Some(self.due_in(if is_quiet { QUIET } else { 1.0 }, now));
        }
    }

    pub fn is_due(&self) -> bool {
        self.due
    }

    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    pub fn lost_by_peer(&self) -> u8 {
        self.lost_by_peer
    }

    /// Drawn anew each time, and brought to the next tenth of a second, so that reports of many legs share a
    /// wake-up.
    fn due_in(&mut self, intervals: f64, now: Mono) -> Mono {
        let at = now + INTERVAL.mul_f64(intervals * (0.5 + self.random.next_unit()));
        Mono(at.0.next_multiple_of(GRID_US))
    }

    /// `missing` is called with each packet that the peer asks for.
    fn handle(
        &mut self,
        datagram: &[u8],
        outgoing: &Outgoing,
        now: Mono,
        missing: impl FnMut(Seq),
    ) -> Result<(), Junk> {
        let mut missing = missing;
        for packet in parse(datagram)? {
            let blocks = match packet {
                Rtcp::SenderReport { sender, blocks, .. } => {
                    self.last_from_peer = Some(((sender.ntp >> 16) as u32, now));
                    blocks
                }
                Rtcp::ReceiverReport { blocks, .. } => blocks,
                Rtcp::Nack { media, lost } => {
                    lost.filter(|_| media == outgoing.ssrc()).for_each(&mut missing);
                    continue;
                }
                // The signalling tells when a party leaves.
                Rtcp::Bye { .. } | Rtcp::Other(_) => continue,
            };
            for block in blocks.filter(|block| block.ssrc == outgoing.ssrc()) {
                self.lost_by_peer = block.fraction_lost;
                if block.last_report == 0 {
                    continue;
                }
                let passed = ntp_middle(now).wrapping_sub(block.last_report).wrapping_sub(block.delay);
                // A clock that is a little off gives a negative time, which is a huge one here.
                if passed < MAX_ROUND_TRIP {
                    self.round_trip = Some(Duration::from_micros((u64::from(passed) * 1_000_000) >> 16));
                }
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        buffer: &mut [u8],
        outgoing: &Outgoing,
        stream: Option<&mut Stream>,
        missing: &[Seq],
        bye: bool,
        now: Mono,
    ) -> Option<usize> {
        let ticks = outgoing.ticks();
        self.due = false;
        self.has_reported = true;
        let sent = outgoing.totals();
        let has_sent = sent.packets != std::mem::replace(&mut self.reported, sent.packets);
        let sender = has_sent.then(|| SenderInfo {
            ntp: ntp(now),
            timestamp: outgoing.timestamp_at(now),
            packets: sent.packets as u32,
            octets: sent.octets as u32,
        });
        let (last_report, delay) = self.last_from_peer.map_or((0, 0), |(middle, at)| (middle, ntp_span(now.since(at))));
        let block = stream.map(|stream| ReportBlock {
            ssrc: stream.ssrc(),
            fraction_lost: stream.take_fraction_lost(),
            lost: stream.lost().min(0x7F_FFFF) as i32,
            highest: stream.highest(),
            // Both directions have one clock.
            jitter: stream.jitter() * ticks,
            last_report,
            delay,
        });
        Report { ssrc: outgoing.ssrc(), sender, block, cname: hex(self.cname, &mut [0; 16]), missing, bye }
            .write(buffer)
    }
}

impl Leg {
    /// Takes RTCP; from elsewhere than the peer it is dropped. True if it was the peer's and in order.
    pub fn handle_rtcp(&mut self, from: std::net::SocketAddr, datagram: &mut [u8], now: Mono) -> bool {
        let opened = if self.plan.is_some() { self.secure.open_rtcp(datagram).ok() } else { None };
        let taken = opened.is_some_and(|len| {
            let repeats = &mut self.repeats;
            let missing = |seq| repeats.iter_mut().for_each(|repeats| repeats.sent.ask(seq));
            self.gate.admit_rtcp(from) && self.reports.handle(&datagram[..len], &self.outgoing, now, missing).is_ok()
        });
        if !taken {
            self.incoming.count_dropped();
        }
        taken
    }

    /// A report that is due, or what is asked for again, written to the start of `buffer`; its length.
    pub fn poll_report(&mut self, buffer: &mut [u8], now: Mono) -> Option<usize> {
        let round_trip = self.reports.round_trip();
        let missing = self.repeats.as_mut().map_or(&[][..], |repeats| repeats.missing.poll(round_trip, now));
        if !self.reports.is_due() && missing.is_empty() {
            return None;
        }
        self.reports.write(buffer, &self.outgoing, self.incoming.stream(), missing, false, now)
    }

    /// The last report, with the goodbye; a leg that never said anything has none to say (RFC 3550 s6.3.7).
    pub fn farewell(&mut self, buffer: &mut [u8], now: Mono) -> Option<usize> {
        if !self.reports.has_reported && self.outgoing.totals().packets == 0 {
            return None;
        }
        self.reports.write(buffer, &self.outgoing, self.incoming.stream(), &[], true, now)
    }
}

/// A number as 16 hexadecimal digits.
fn hex(number: u64, digits: &mut [u8; 16]) -> &str {
    for (at, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (60 - 4 * at) & 0xF) as usize];
    }
    std::str::from_utf8(digits).expect("digits are ascii")
}

/// Seconds and fraction since the machine started.
fn ntp(now: Mono) -> u64 {
    let seconds = now.0 / 1_000_000;
    let fraction = ((now.0 % 1_000_000) << 32) / 1_000_000;
    seconds << 32 | fraction
}

fn ntp_middle(now: Mono) -> u32 {
    (ntp(now) >> 16) as u32
}

/// In 1/65536 s.
fn ntp_span(span: Duration) -> u32 {
    u32::try_from((span.as_micros() << 16) / 1_000_000).unwrap_or(u32::MAX)
}

const INTERVAL: Duration = Duration::from_secs(5);
/// Intervals to the next report of a leg that is held: 22.5 s at most, within the 30 s that a NAT remembers a flow.
const QUIET: f64 = 3.0;
const GRID_US: u64 = 100_000;
/// 10 s, in 1/65536 s.
const MAX_ROUND_TRIP: u32 = 10 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::Ssrc;

    fn random() -> Random {
        Random::new(3, 4)
    }

    #[test]
    fn intervals_are_spread_between_half_and_one_and_a_half() {
        let mut reports = Reports::new(&mut random());
        reports.begin(Mono(0));
        let first = reports.next_deadline().unwrap();
        assert!((1_250_000..=3_850_000).contains(&first.0), "{first:?}");
        let mut at = first;
        let mut spans = Vec::new();
        for moved in 1..=200 {
            reports.handle_timeout(moved, at);
            assert!(reports.due);
            let next = reports.next_deadline().unwrap();
            spans.push(next.since(at).as_millis());
            at = next;
        }
        assert!(spans.iter().all(|span| (2500..=7600).contains(span)));
        assert!(spans.iter().max().unwrap() - spans.iter().min().unwrap() > 4000, "not spread");
    }

    #[test]
    fn leg_on_which_nothing_moves_reports_a_third_as_often() {
        let mut reports = Reports::new(&mut random());
        reports.begin(Mono(0));
        let mut at = reports.next_deadline().unwrap();
        for _ in 0..200 {
            reports.handle_timeout(0, at);
            let next = reports.next_deadline().unwrap();
            assert!((7500..=22_600).contains(&next.since(at).as_millis()));
            at = next;
        }
        reports.handle_timeout(7, at);
        assert!(reports.next_deadline().unwrap().since(at).as_millis() <= 7600, "at once when something moves");
    }

    #[test]
    fn round_trip_is_what_the_peer_did_not_keep() {
        let (mut reports, mut outgoing) = (Reports::new(&mut random()), Outgoing::new(&mut random()));
        let mut buffer = [0; 256];
        outgoing.own(0, 160, Mono(0));
        let sent_at = Mono(10_000_000);
        let len = reports.write(&mut buffer, &outgoing, None, &[], false, sent_at).unwrap();
        let Some(Rtcp::SenderReport { sender, .. }) = parse(&buffer[..len]).unwrap().next() else {
            panic!("no report")
        };
        assert_eq!(sender.packets, 1);
        // The peer keeps it for 0.5 s; 540 ms pass here.
        let block = ReportBlock {
            ssrc: outgoing.ssrc(),
            last_report: (sender.ntp >> 16) as u32,
            delay: 1 << 15,
            ..ReportBlock::default()
        };
        let answer = Report { ssrc: Ssrc(5), sender: None, block: Some(block), cname: "x", missing: &[], bye: false };
        let len = answer.write(&mut buffer).unwrap();
        reports.handle(&buffer[..len], &outgoing, sent_at + Duration::from_millis(540), |_| ()).unwrap();
        let measured = reports.round_trip().unwrap().as_micros();
        assert!((39_900..=40_100).contains(&measured), "{measured}");
        // A report of another source, or one that answers before it was asked, changes nothing.
        let other = Report { block: Some(ReportBlock { ssrc: Ssrc(99), ..block }), ..answer.clone() };
        let early = Report { block: Some(ReportBlock { delay: 60 << 16, ..block }), ..answer };
        for report in [other, early] {
            let len = report.write(&mut buffer).unwrap();
            reports.handle(&buffer[..len], &outgoing, sent_at + Duration::from_secs(2), |_| ()).unwrap();
            assert_eq!(reports.round_trip().unwrap().as_micros(), measured);
        }
    }

    #[test]
    fn leg_that_sent_nothing_since_the_last_report_is_a_receiver() {
        let (mut reports, mut outgoing) = (Reports::new(&mut random()), Outgoing::new(&mut random()));
        let mut buffer = [0; 256];
        let mut is_sender = |reports: &mut Reports, outgoing: &Outgoing| {
            let len = reports.write(&mut buffer, outgoing, None, &[], false, Mono(1)).unwrap();
            matches!(parse(&buffer[..len]).unwrap().next(), Some(Rtcp::SenderReport { .. }))
        };
        assert!(!is_sender(&mut reports, &outgoing));
        outgoing.own(0, 160, Mono(1));
        assert!(is_sender(&mut reports, &outgoing));
        assert!(!is_sender(&mut reports, &outgoing));
    }
}
