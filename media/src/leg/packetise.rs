//! Cuts audio into packets of another length: for a peer that wants 20 ms from one that sends 30.
//!
//! A first-in first-out buffer of encoded bytes, one per sample, of fixed size. A short loss in the source is
//! filled with silence so that time stays right; anything longer begins anew.

use super::receive::MAX_AUDIO;
use crate::received::{Received, StreamKey};
use crate::rtp::RtpTime;

/// The buffer between two packet lengths.
pub struct Packetiser {
    bytes: [u8; CAPACITY],
    len: usize,
    /// The stream that is being cut, and where its next packet should begin.
    expects: Option<(StreamKey, RtpTime)>,
}

impl Default for Packetiser {
    fn default() -> Self {
        Packetiser { bytes: [0; CAPACITY], len: 0, expects: None }
    }
}

impl Packetiser {
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes a packet's payload, already in the codec that goes out; `silence` is that codec's.
    ///
    /// True where it begins anew. A packet from before what was taken already is too late and ignored.
    pub fn push(&mut self, received: &Received, payload: &[u8], silence: u8) -> bool {
        let gap = match self.expects {
            Some((stream, next)) if stream == received.stream => received.timestamp.ahead_of(next),
            _ => i32::MAX,
        };
        if (-MAX_LATE..0).contains(&gap) {
            return false;
        }
        let begins = !(0..=MAX_FILL).contains(&gap);
        if begins {
            self.len = 0;
        } else {
            self.extend(gap as usize, |slot| slot.fill(silence));
        }
        self.extend(payload.len(), |slot| slot.copy_from_slice(&payload[..slot.len()]));
        self.expects = Some((received.stream, received.timestamp + payload.len() as u32));
        begins
    }

    /// Takes audio that follows what was taken last, whatever that was.
    pub fn append(&mut self, payload: &[u8]) {
        self.expects = None;
        self.extend(payload.len(), |slot| slot.copy_from_slice(&payload[..slot.len()]));
    }

    /// Moves one packet of `samples` to the start of `out`, once there is so much.
    pub fn pop(&mut self, samples: usize, out: &mut [u8]) -> bool {
        if self.len < samples || out.len() < samples {
            return false;
        }
        out[..samples].copy_from_slice(&self.bytes[..samples]);
        self.bytes.copy_within(samples..self.len, 0);
        self.len -= samples;
        true
    }

    fn extend(&mut self, count: usize, fill: impl FnOnce(&mut [u8])) {
        let end = (self.len + count).min(CAPACITY);
        fill(&mut self.bytes[self.len..end]);
        self.len = end;
    }
}

/// 60 ms of loss are filled with silence.
const MAX_FILL: i32 = 480;
/// A timestamp that goes back by more than this has begun anew.
const MAX_LATE: i32 = 8000;
/// The rest of a packet of 60 ms, a filled loss, and the longest packet.
const CAPACITY: usize = 480 + MAX_FILL as usize + MAX_AUDIO;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::ids::LegId;
    use crate::sdp::Payload;

    fn received(timestamp: u32) -> Received {
        Received {
            carries: Payload::Audio(Codec::Pcmu),
            marker: false,
            timestamp: RtpTime(timestamp),
            seq: 0,
            stream: StreamKey { leg: LegId(1), generation: 1 },
            payload: 0..0,
            tone: false,
        }
    }

    /// Pushes packets of (timestamp, length, byte) and cuts packets of `samples`; what comes out, run by run.
    fn cut(pushed: &[(u32, usize, u8)], samples: usize) -> Vec<Vec<(u8, usize)>> {
        let mut packetiser = Packetiser::default();
        let mut packets = Vec::new();
        for (timestamp, len, byte) in pushed {
            packetiser.push(&received(*timestamp), &vec![*byte; *len], 0xFF);
            let mut out = [0; 480];
            while packetiser.pop(samples, &mut out) {
                packets.push(out[..samples].chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect());
            }
        }
        packets
    }

    #[test]
    fn packets_are_joined_and_cut_in_order() {
        assert_eq!(cut(&[(0, 80, 1), (80, 80, 2)], 160), [vec![(1, 80), (2, 80)]]);
        assert_eq!(cut(&[(0, 480, 1)], 160), [vec![(1, 160)], vec![(1, 160)], vec![(1, 160)]]);
        assert_eq!(cut(&[(0, 240, 1), (240, 240, 2)], 160), [vec![(1, 160)], vec![(1, 80), (2, 80)], vec![(2, 160)]]);
    }

    #[test]
    fn short_loss_is_silence_and_a_long_one_begins_anew() {
        assert_eq!(cut(&[(0, 80, 1), (160, 80, 2)], 240), [vec![(1, 80), (0xFF, 80), (2, 80)]]);
        assert_eq!(cut(&[(0, 80, 1), (9000, 160, 2)], 160), [vec![(2, 160)]]);
    }

    #[test]
    fn late_packet_is_ignored() {
        let packets = cut(&[(0, 80, 1), (160, 80, 2), (80, 80, 3), (240, 240, 4)], 240);
        assert_eq!(packets, [vec![(1, 80), (0xFF, 80), (2, 80)], vec![(4, 240)]]);
    }
}
