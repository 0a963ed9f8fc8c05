//! What is lost of Opus on its way is sent again, where both descriptions say so (`a=rtcp-fb:111 nack`): of what we send what
//! the peer asks for, and of what it sends we ask ourselves (RFC 4585 s6.2.1).
//!
//! A packet goes again as it went, byte for byte, so that it is no second packet under its index. What we decode ourselves is
//! not asked for: it is made up before an answer could come.

use std::collections::VecDeque;
use std::time::Duration;

use super::Leg;
use crate::received::{Received, StreamKey};
use crate::rtp::Seq;
use crate::time::Mono;

/// Both ways of a leg.
#[derive(Default)]
pub(super) struct Repeats {
    pub sent: Repeater,
    pub missing: Missing,
}

/// The last packets of a leg, as they left.
#[derive(Default)]
pub(super) struct Repeater {
    kept: [Kept; KEPT],
    /// What is to go again.
    wanted: VecDeque<Seq>,
}

#[derive(Default)]
struct Kept {
    seq: Option<Seq>,
    again: u8,
    packet: Vec<u8>,
}

impl Repeater {
    /// Keeps a packet of RTP that leaves now. Allocates nothing once every place had one.
    pub fn keep(&mut self, packet: &[u8]) {
        let Some(&[high, low]) = packet.get(2..4) else { return };
        let seq = Seq(u16::from_be_bytes([high, low]));
        let kept = &mut self.kept[place_of(seq)];
        (kept.seq, kept.again) = (Some(seq), 0);
        kept.packet.clear();
        kept.packet.extend_from_slice(packet);
    }

    /// The peer misses a packet. One that is gone, or went often enough, is not sent again.
    pub fn ask(&mut self, seq: Seq) {
        let kept = &mut self.kept[place_of(seq)];
        if kept.seq == Some(seq) && kept.again < MOST_TIMES && !self.wanted.contains(&seq) {
            kept.again += 1;
            self.wanted.push_back(seq);
        }
    }

    /// The next packet to go again, written to the start of `buffer`; its length.
    pub fn poll(&mut self, buffer: &mut [u8]) -> Option<usize> {
        while let Some(seq) = self.wanted.pop_front() {
            let kept = &self.kept[place_of(seq)];
            if kept.seq == Some(seq)
                && let Some(room) = buffer.get_mut(..kept.packet.len())
            {
                room.copy_from_slice(&kept.packet);
                return Some(kept.packet.len());
            }
        }
        None
    }
}

fn place_of(seq: Seq) -> usize {
    usize::from(seq.0) % KEPT
}

/// What of a stream has not come, though its successors have.
#[derive(Default)]
pub(super) struct Missing {
    /// Of which stream, and the number that comes next.
    expects: Option<(StreamKey, u32)>,
    missing: Vec<(u32, u8)>,
    asked: Vec<Seq>,
    ask_at: Option<Mono>,
}

impl Missing {
    pub fn note(&mut self, received: &Received, now: Mono) {
        let next = match self.expects {
            Some((stream, next)) if stream == received.stream => next,
            _ => {
                self.missing.clear();
                received.seq
            }
        };
        let ahead = received.seq.wrapping_sub(next) as i32;
        if ahead < 0 {
            self.missing.retain(|(seq, _)| *seq != received.seq);
            return;
        }
        self.expects = Some((received.stream, received.seq.wrapping_add(1)));
        if ahead as usize > MOST_MISSING {
            // A pause, or an outage: nobody waits for what it took.
            self.missing.clear();
        } else if ahead > 0 {
            let gap = (0..ahead as u32).map(|at| (next.wrapping_add(at), 0));
            self.missing.extend(gap);
            let too_many = self.missing.len().saturating_sub(MOST_MISSING);
            self.missing.drain(..too_many);
            self.ask_at = Some(now);
        }
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.ask_at
    }

    /// What is to be asked for now: all that is missing, a few times each, no sooner than an answer can be here.
    pub fn poll(&mut self, round_trip: Option<Duration>, now: Mono) -> &[Seq] {
        self.asked.clear();
        if self.ask_at.is_some_and(|at| at <= now) {
            self.missing.retain(|(_, times)| *times < MOST_TIMES);
            for (seq, times) in &mut self.missing {
                *times += 1;
                self.asked.push(Seq(*seq as u16));
            }
            let pause = round_trip.unwrap_or_default().clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            self.ask_at = (!self.missing.is_empty()).then_some(now + pause);
        }
        &self.asked
    }
}

impl Leg {
    /// A packet that goes again, sealed as it was, written to the start of `buffer`; its length.
    pub fn poll_repeat(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.repeats.as_mut()?.sent.poll(buffer)
    }

    /// Somebody hears this packet as it is: what is missing before it is asked for, where the peer sends again.
    pub fn note_order(&mut self, received: &Received, now: Mono) {
        if let Some(repeats) = &mut self.repeats {
            repeats.missing.note(received, now);
        }
    }
}

/// 640 ms of 20 ms packets: who waits longer for one hears it late.
const KEPT: usize = 32;
/// How often a packet is asked for, and goes again: nobody makes us send more than four times what we would.
const MOST_TIMES: u8 = 3;
/// What one request can name, next to each other.
const MOST_MISSING: usize = 16;
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::ids::LegId;
    use crate::rtp::RtpTime;
    use crate::sdp::Payload;

    fn packet(seq: u16) -> Vec<u8> {
        [&[0x80, 111], &seq.to_be_bytes()[..], &[seq as u8; 30]].concat()
    }

    fn received(generation: u32, seq: u32) -> Received {
        Received {
            carries: Payload::Audio(Codec::Opus),
            marker: false,
            timestamp: RtpTime(0),
            seq,
            stream: StreamKey { leg: LegId(1), generation },
            payload: 12..40,
            tone: false,
        }
    }

    fn polled(repeater: &mut Repeater) -> Vec<u16> {
        let mut buffer = [0; 64];
        std::iter::from_fn(|| {
            let len = repeater.poll(&mut buffer)?;
            let seq = u16::from_be_bytes([buffer[2], buffer[3]]);
            assert_eq!(buffer[..len], packet(seq), "as it was");
            Some(seq)
        })
        .collect()
    }

    #[test]
    fn packet_goes_again_as_it_was_a_few_times_while_it_is_kept() {
        let mut repeater = Repeater::default();
        let first = u16::MAX - 3;
        (0..40).for_each(|at| repeater.keep(&packet(first.wrapping_add(at))));
        let (gone, oldest, latest) = (first.wrapping_add(7), first.wrapping_add(8), first.wrapping_add(39));
        for seq in [gone, oldest, latest, latest, latest + 1] {
            repeater.ask(Seq(seq));
        }
        assert_eq!(polled(&mut repeater), [oldest, latest]);
        for _ in 0..5 {
            repeater.ask(Seq(latest));
            repeater.keep(&packet(oldest));
            polled(&mut repeater);
        }
        repeater.ask(Seq(latest));
        assert_eq!(polled(&mut repeater), [0u16; 0], "three times are enough");
        // Overwritten before its turn.
        repeater.ask(Seq(oldest));
        repeater.keep(&packet(oldest.wrapping_add(KEPT as u16)));
        assert_eq!(polled(&mut repeater), [0u16; 0]);
    }

    #[test]
    fn gap_is_asked_for_until_it_is_filled_or_nobody_waits_any_more() {
        let mut missing = Missing::default();
        let ms = |ms: u64| Mono(ms * 1000);
        let ask = |missing: &mut Missing, at| missing.poll(None, ms(at)).iter().map(|seq| seq.0).collect::<Vec<_>>();
        let first = (7 << 16) + 65_534;
        missing.note(&received(1, first), ms(0));
        missing.note(&received(1, first + 1), ms(20));
        assert_eq!(missing.next_deadline(), None);
        missing.note(&received(1, first + 4), ms(80));
        assert_eq!(missing.next_deadline(), Some(ms(80)));
        assert_eq!(ask(&mut missing, 80), [0, 1]);
        assert_eq!(ask(&mut missing, 81), [0u16; 0], "an answer may be on its way");
        missing.note(&received(1, first + 3), ms(90));
        assert_eq!(missing.next_deadline(), Some(ms(100)));
        assert_eq!(ask(&mut missing, 100), [0]);
        assert_eq!(ask(&mut missing, 120), [0]);
        assert_eq!(ask(&mut missing, 140), [0u16; 0], "given up");
        assert_eq!(missing.next_deadline(), None);
        missing.note(&received(1, first + 4 + 17 + 1), ms(160));
        assert_eq!(ask(&mut missing, 160), [0u16; 0], "an outage");
        missing.note(&received(1, first + 24), ms(180));
        missing.note(&received(2, 5), ms(200));
        assert_eq!(ask(&mut missing, 200), [0u16; 0], "of another stream");
    }
}
