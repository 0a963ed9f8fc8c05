//! The way out: one SSRC whose sequence numbers and timestamps go on through everything that a leg hears.
//!
//! A peer sees one stream from the first packet to the last: across re-INVITEs, from a prompt to another party
//! and back. A relayed stream is mapped by an offset, so that its gaps, its reordering and its silences arrive
//! as they left; where another source takes over, the numbers go on and the marker tells it (RFC 3550 s5.1,
//! RFC 3551 s4.1).

use crate::random::Random;
use crate::rtp::{Header, RtpTime, Seq, Ssrc};
use crate::time::Mono;

use super::hot::Hot;
use crate::received::{Received, StreamKey};

/// The sender of one leg.
pub struct Outgoing {
    ssrc: Ssrc,
    next: Seq,
    /// When the last packet left, its timestamp, and where the audio after it begins.
    last_at: Option<Mono>,
    last: RtpTime,
    end: RtpTime,
    source: Source,
    /// Ticks of the peer's RTP clock in one of ours of 8 kHz, by which everything here counts.
    ticks: u32,
    packets: u64,
    octets: u64,
}

/// Totals of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub packets: u64,
    pub octets: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Nothing,
    /// Audio that we make, packet after packet.
    Own,
    /// One digit, whose packets share a timestamp.
    Event,
    Relay(Mapping),
}

/// How the numbers of a received stream become ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    stream: StreamKey,
    /// Older packets are from before the mapping and would collide with what was sent then.
    first: u32,
    seq: u16,
    time: u32,
}

impl Outgoing {
    pub fn new(random: &mut Random) -> Outgoing {
        let start = RtpTime(random.next_u32());
        Outgoing {
            ssrc: Ssrc(random.next_u32()),
            next: Seq(random.next_u16()),
            last_at: None,
            last: start,
            end: start,
            source: Source::Nothing,
            ticks: 1,
            packets: 0,
            octets: 0,
        }
    }

    pub(super) fn write_down(&self, hot: &mut Hot) {
        (hot.ssrc, hot.next, hot.last, hot.end) = (self.ssrc.0, self.next.0, self.last.0, self.end.0);
        (hot.packets_sent, hot.octets_sent) = (self.packets, self.octets);
        hot.last_at = self.last_at.unwrap_or_default();
    }

    /// Goes on after the last packet that was written down: the peer sees one stream.
    pub(super) fn take_up(&mut self, hot: &Hot) {
        (self.ssrc, self.next, self.last, self.end) =
            (Ssrc(hot.ssrc), Seq(hot.next), RtpTime(hot.last), RtpTime(hot.end));
        (self.packets, self.octets) = (hot.packets_sent, hot.octets_sent);
        self.last_at = (hot.last_at != Mono::default()).then_some(hot.last_at);
    }

    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    pub fn totals(&self) -> Sent {
        Sent { packets: self.packets, octets: self.octets }
    }

    /// By what clock the peer reads our timestamps from here on.
    pub fn set_ticks(&mut self, ticks: u32) {
        self.ticks = ticks;
    }

    pub fn ticks(&self) -> u32 {
        self.ticks
    }

    /// The timestamp that belongs to `now`, for a sender report.
    pub fn timestamp_at(&self, now: Mono) -> RtpTime {
        self.told(self.time_at(now))
    }

    /// As the peer's clock has it.
    fn told(&self, time: RtpTime) -> RtpTime {
        RtpTime(time.0.wrapping_mul(self.ticks))
    }

    fn time_at(&self, now: Mono) -> RtpTime {
        match self.last_at {
            Some(at) => self.last + samples_between(at, now),
            None => self.last,
        }
    }

    /// What was heard so far is over: whatever comes next begins a talk spurt.
    pub fn pause(&mut self) {
        self.source = Source::Nothing;
    }

    /// The header of a relayed packet, or `None` for one that is too old to go out. About 5 ns.
    pub fn relay(&mut self, received: &Received, payload_type: u8, samples: u32, now: Mono) -> Option<Header> {
        let (mapping, begins) = match self.source {
            Source::Relay(mapping) if mapping.stream == received.stream => (mapping, false),
            _ => (self.mapping_to(received, now), true),
        };
        if received.seq < mapping.first {
            return None;
        }
        self.source = Source::Relay(mapping);
        let seq = Seq((received.seq as u16).wrapping_add(mapping.seq));
        let timestamp = received.timestamp + mapping.time;
        if seq.ahead_of(self.next) >= 0 {
            self.next = seq + 1;
            self.last_at = Some(now);
            self.last = timestamp;
            self.end = timestamp + samples;
        }
        self.count(received.payload.len());
        let timestamp = self.told(timestamp);
        Some(Header { marker: received.marker || begins, payload_type, seq, timestamp, ssrc: self.ssrc })
    }

    /// A packet of a relayed stream goes no further: the next one gets its number, so that it does not look lost.
    pub fn absorb(&mut self, received: &Received) {
        if let Source::Relay(mapping) = &mut self.source
            && mapping.stream == received.stream
            && received.seq >= mapping.first
            && Seq((received.seq as u16).wrapping_add(mapping.seq)).ahead_of(self.next) >= 0
        {
            mapping.seq = mapping.seq.wrapping_sub(1);
            mapping.first = received.seq + 1;
        }
    }

    /// The header of the next packet of our own audio.
    pub fn own(&mut self, payload_type: u8, samples: u32, now: Mono) -> Header {
        let continues = self.source == Source::Own;
        let timestamp = if continues { self.end } else { self.resumed(now) };
        self.source = Source::Own;
        self.end = timestamp + samples;
        self.emit(!continues, payload_type, timestamp, samples as usize, now)
    }

    /// The header of a packet of a digit; `first` begins a new one, at the timestamp of now (RFC 4733 s2.5.1.1).
    pub fn event(&mut self, payload_type: u8, first: bool, duration: u16, now: Mono) -> Header {
        let timestamp = if first || self.source != Source::Event { self.resumed(now) } else { self.last };
        self.source = Source::Event;
        self.end = timestamp + u32::from(duration);
        self.emit(first, payload_type, timestamp, EVENT_LEN, now)
    }

    fn emit(&mut self, marker: bool, payload_type: u8, timestamp: RtpTime, octets: usize, now: Mono) -> Header {
        let header = Header { marker, payload_type, seq: self.next, timestamp: self.told(timestamp), ssrc: self.ssrc };
        self.next = self.next + 1;
        // The packets of a digit share the moment of its first one.
        if self.last != timestamp || self.last_at.is_none() {
            self.last_at = Some(now);
            self.last = timestamp;
        }
        self.count(octets);
        header
    }

    fn mapping_to(&self, received: &Received, now: Mono) -> Mapping {
        Mapping {
            stream: received.stream,
            first: received.seq,
            seq: self.next.0.wrapping_sub(received.seq as u16),
            time: self.resumed(now).0.wrapping_sub(received.timestamp.0),
        }
    }

    /// Where the clock stands after a pause: as far on as time is, and never inside what was sent.
    fn resumed(&self, now: Mono) -> RtpTime {
        let by_time = self.time_at(now);
        if by_time.ahead_of(self.end) > 0 { by_time } else { self.end }
    }

    fn count(&mut self, octets: usize) {
        self.packets += 1;
        self.octets += octets as u64;
    }
}

/// The time between, on an RTP clock of 8 kHz.
fn samples_between(earlier: Mono, later: Mono) -> u32 {
    (later.since(earlier).as_micros() / 125) as u32
}

/// The payload of an event.
const EVENT_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::ids::LegId;
    use crate::sdp::Payload;

    fn received(leg: u32, seq: u32, timestamp: u32) -> Received {
        Received {
            carries: Payload::Audio(Codec::Pcmu),
            marker: false,
            timestamp: RtpTime(timestamp),
            seq,
            stream: StreamKey { leg: LegId(leg), generation: 1 },
            payload: 12..172,
            tone: false,
        }
    }

    fn outgoing() -> Outgoing {
        let mut outgoing = Outgoing::new(&mut Random::new(1, 1));
        (outgoing.next, outgoing.last, outgoing.end) = (Seq(65_534), RtpTime(1000), RtpTime(1000));
        outgoing
    }

    /// Sequence number, timestamp and marker.
    fn shape(header: Option<Header>) -> Option<(u16, u32, bool)> {
        header.map(|header| (header.seq.0, header.timestamp.0, header.marker))
    }

    fn ms(ms: u64) -> Mono {
        Mono(ms * 1000)
    }

    #[test]
    fn relayed_stream_keeps_its_gaps_and_its_order_over_the_wrap() {
        let mut out = outgoing();
        let mut relay = |seq, ts, at| shape(out.relay(&received(1, seq, ts), 0, 160, ms(at)));
        assert_eq!(relay(100, 8000, 0), Some((65_534, 1000, true)));
        assert_eq!(relay(101, 8160, 20), Some((65_535, 1160, false)));
        assert_eq!(relay(104, 8640, 80), Some((2, 1640, false)), "two were lost");
        assert_eq!(relay(103, 8480, 81), Some((1, 1480, false)), "one was only late");
        assert_eq!(relay(105, 8800, 100), Some((3, 1800, false)));
        assert_eq!(relay(99, 7840, 101), None, "from before the mapping");
    }

    #[test]
    fn another_source_goes_on_in_number_and_time_with_a_marker() {
        let mut out = outgoing();
        out.relay(&received(1, 100, 8000), 0, 160, ms(0));
        assert_eq!(shape(out.relay(&received(2, 7, 99), 0, 160, ms(500))), Some((65_535, 5000, true)));
        assert_eq!(shape(Some(out.own(0, 160, ms(510)))), Some((0, 5160, true)), "never inside what was sent");
        assert_eq!(shape(Some(out.own(0, 160, ms(537)))), Some((1, 5320, false)), "audio of our own is even");
        out.pause();
        assert_eq!(shape(Some(out.own(0, 160, ms(1537)))), Some((2, 5320 + 8000, true)));
    }

    #[test]
    fn packets_of_a_digit_share_its_timestamp() {
        let mut out = outgoing();
        out.own(0, 160, ms(0));
        assert_eq!(shape(Some(out.event(101, true, 160, ms(20)))), Some((65_535, 1160, true)));
        assert_eq!(shape(Some(out.event(101, false, 320, ms(40)))), Some((0, 1160, false)));
        assert_eq!(shape(Some(out.event(101, false, 800, ms(120)))), Some((1, 1160, false)));
        assert_eq!(shape(Some(out.event(101, true, 160, ms(220)))), Some((2, 2760, true)));
        assert_eq!(shape(Some(out.own(0, 160, ms(440)))), Some((3, 4520, true)));
    }

    #[test]
    fn absorbed_packet_leaves_no_gap() {
        let mut out = outgoing();
        out.relay(&received(1, 100, 8000), 0, 160, ms(0));
        out.absorb(&received(1, 101, 8160));
        assert_eq!(shape(out.relay(&received(1, 102, 8320), 0, 160, ms(40))), Some((65_535, 1320, false)));
        assert_eq!(shape(out.relay(&received(1, 100, 8000), 0, 160, ms(41))), None);
    }
}
