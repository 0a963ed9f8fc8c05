//! What a party on Opus or G.722 says, for whoever is not: its packets as packets of G.711, decoded as they arrive, once for all
//! who hear.
//!
//! What of Opus is lost on the way is made up here, where the codec knows how: out of the packet that follows, or by concealment.
//! What of G.722 is lost is lost as with G.711.

use crate::codec::opus::MAX_SAMPLES;
use crate::codec::{Codec, Law, g722, opus};
use crate::playout::FRAME_SAMPLES;
use crate::received::{Received, StreamKey};
use crate::sdp::Payload;

/// What became of one packet: itself, and before it what was lost and could be made up.
pub struct Decoded {
    bytes: [u8; MAX_SAMPLES + MADE_UP * MAX_MADE_UP_SAMPLES],
    len: usize,
    packets: [Option<Received>; 1 + MADE_UP],
}

impl Default for Decoded {
    fn default() -> Self {
        Decoded {
            bytes: [0; MAX_SAMPLES + MADE_UP * MAX_MADE_UP_SAMPLES],
            len: 0,
            packets: [const { None }; 1 + MADE_UP],
        }
    }
}

impl Decoded {
    /// In their order, as packets of PCMU whose payloads are in [`Decoded::bytes`].
    pub fn packets(&self) -> impl Iterator<Item = &Received> {
        self.packets.iter().flatten()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Samples of the packet that is `back` before the received one.
    fn add(&mut self, received: &Received, back: u32, samples: &[i16]) {
        let payload = self.len..self.len + Law::Mu.encode(samples, &mut self.bytes[self.len..]);
        self.len = payload.end;
        if let Some(free) = self.packets.iter_mut().find(|packet| packet.is_none()) {
            let seq = received.seq.wrapping_sub(back);
            *free = Some(Received { carries: Payload::Audio(Codec::Pcmu), seq, payload, ..received.clone() });
        }
    }
}

/// The stream that a leg decodes.
pub(super) struct StreamDecoder {
    codec: Decoder,
    /// Which it is, and the number that comes next.
    expects: Option<(StreamKey, u32)>,
    /// Of the last packet.
    samples: usize,
}

/// One is a thousand times as large as the other.
enum Decoder {
    Opus(Box<opus::Decoder>),
    G722(g722::Decoder),
}

impl StreamDecoder {
    /// `None` of what needs none.
    pub fn of(codec: Codec) -> Option<StreamDecoder> {
        let codec = match codec {
            Codec::Opus => Decoder::Opus(Box::default()),
            Codec::G722 => Decoder::G722(g722::Decoder::default()),
            Codec::Pcmu | Codec::Pcma => return None,
        };
        Some(StreamDecoder { codec, expects: None, samples: FRAME_SAMPLES })
    }

    pub fn is_of(&self, codec: Codec) -> bool {
        matches!((&self.codec, codec), (Decoder::Opus(_), Codec::Opus) | (Decoder::G722(_), Codec::G722))
    }

    /// Decodes a packet as it arrived; `payload` is what `received` carries.
    ///
    /// One that comes after its successor was decoded comes to nothing: that has made up for it. One that cannot be read
    /// is made up as well.
    pub fn decode(&mut self, received: &Received, payload: &[u8], out: &mut Decoded) {
        let lost = match self.expects {
            Some((stream, next)) if stream == received.stream => received.seq.wrapping_sub(next) as i32,
            Some(_) => {
                self.begin();
                0
            }
            // It was made for this packet: to make it anew would only write into memory that nothing else touches.
            None => 0,
        };
        if lost < 0 {
            return;
        }
        self.expects = Some((received.stream, received.seq.wrapping_add(1)));
        if lost as usize <= MADE_UP {
            for back in (1..=lost as u32).rev() {
                self.make_up(back, received, payload, out);
            }
        } else {
            // A pause, or an outage: the past says nothing any more.
            self.begin();
        }
        let mut samples = [0; MAX_SAMPLES];
        let count = match &mut self.codec {
            Decoder::Opus(opus) => match opus.decode(payload, &mut samples) {
                Some(count) => count,
                None => opus.conceal(&mut samples[..self.samples]),
            },
            Decoder::G722(g722) => g722.decode(payload, &mut samples),
        };
        self.samples = count.clamp(MIN_SAMPLES, MAX_MADE_UP_SAMPLES);
        out.add(received, 0, &samples[..count]);
    }

    /// Makes up for the packet that is `back` before this one.
    fn make_up(&mut self, back: u32, received: &Received, payload: &[u8], out: &mut Decoded) {
        let Decoder::Opus(opus) = &mut self.codec else { return };
        let mut samples = [0; MAX_MADE_UP_SAMPLES];
        let samples = &mut samples[..self.samples];
        let made = match back {
            1 => opus.recover(payload, samples),
            _ => opus.conceal(samples),
        };
        let before = received.timestamp + (self.samples as u32 * back).wrapping_neg();
        let lost = Received { marker: false, timestamp: before, ..received.clone() };
        out.add(&lost, back, &samples[..made]);
    }

    fn begin(&mut self) {
        match &mut self.codec {
            Decoder::Opus(opus) => opus.reset(),
            Decoder::G722(g722) => *g722 = g722::Decoder::default(),
        }
        self.samples = FRAME_SAMPLES;
    }
}

/// 10 ms, as speech has it at least (RFC 6716 s2.1.4).
const MIN_SAMPLES: usize = 80;
/// Packets in a row that are made up: more is a hole that everybody hears anyway.
const MADE_UP: usize = 3;
/// 60 ms.
const MAX_MADE_UP_SAMPLES: usize = 480;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::opus::Encoder;
    use crate::ids::LegId;
    use crate::rtp::RtpTime;

    fn received(seq: u32) -> Received {
        Received {
            carries: Payload::Audio(Codec::Opus),
            marker: false,
            timestamp: RtpTime(seq * 160),
            seq,
            stream: StreamKey { leg: LegId(1), generation: 1 },
            payload: 0..0,
            tone: false,
        }
    }

    /// 20 ms each of a tone that rises, as packets.
    fn packets(count: usize, lost: u8) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::default();
        let packet = |index: usize| {
            let sample = |at: usize| {
                let time = (index * 160 + at) as f64 / 8000.0;
                (8000.0 * (std::f64::consts::TAU * (300.0 + 100.0 * time) * time).sin()) as i16
            };
            let samples: Vec<i16> = (0..160).map(sample).collect();
            let mut payload = vec![0; 1200];
            let len = encoder.encode(&samples, lost, &mut payload).unwrap();
            payload.truncate(len);
            payload
        };
        (0..count).map(packet).collect()
    }

    /// What packets of these numbers come to: the numbers, and the samples of each.
    fn decode(packets: &[Vec<u8>], numbers: impl IntoIterator<Item = usize>) -> Vec<(u32, Vec<i16>)> {
        let mut decoder = StreamDecoder::of(Codec::Opus).unwrap();
        let mut heard = Vec::new();
        for number in numbers {
            let mut decoded = Decoded::default();
            decoder.decode(&received(number as u32), &packets[number], &mut decoded);
            for packet in decoded.packets() {
                assert_eq!(packet.timestamp, RtpTime(packet.seq * 160));
                let mut samples = vec![0; packet.payload.len()];
                Law::Mu.decode(&decoded.bytes()[packet.payload.clone()], &mut samples);
                heard.push((packet.seq, samples));
            }
        }
        heard
    }

    fn numbers(heard: &[(u32, Vec<i16>)]) -> Vec<u32> {
        heard.iter().map(|(number, _)| *number).collect()
    }

    fn power(samples: &[i16]) -> f64 {
        samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / samples.len() as f64
    }

    #[test]
    fn lost_packets_are_made_up_in_their_place() {
        let lost = [20, 30, 31, 40, 41, 42];
        // How far what was made up for the first of them is from what was said.
        let error = |packets: &[Vec<u8>]| {
            let (whole, gaps) =
                (decode(packets, 0..60), decode(packets, (0..60).filter(|number| !lost.contains(number))));
            assert_eq!(numbers(&whole), (0..60).collect::<Vec<_>>());
            assert_eq!(numbers(&gaps), (0..60).collect::<Vec<_>>());
            let (said, made) = (&whole[20].1, &gaps[20].1);
            let difference: Vec<i16> = said.iter().zip(made).map(|(a, b)| a.saturating_sub(*b)).collect();
            power(&difference) / power(said)
        };
        let (told_again, guessed) = (error(&packets(60, 40)), error(&packets(60, 0)));
        assert!(told_again < 0.01, "it is in the packet after it: {told_again}");
        assert!(guessed > 10.0 * told_again, "{guessed}");
    }

    #[test]
    fn late_packet_comes_to_nothing_and_a_long_gap_is_left_open() {
        let packets = packets(40, 0);
        assert_eq!(numbers(&decode(&packets, [0, 1, 3, 2, 4, 4, 5])), [0, 1, 2, 3, 4, 5]);
        assert_eq!(numbers(&decode(&packets, [0, 1, 6, 7])), [0, 1, 6, 7]);
    }

    proptest! {
        #[test]
        fn threat_04_any_bytes_are_decoded_or_made_up(first in any::<u8>(), rest in proptest::collection::vec(any::<u8>(), 0..200), gap in 0u32..6) {
            for codec in [Codec::Opus, Codec::G722] {
                let mut decoder = StreamDecoder::of(codec).unwrap();
                let payload = [&[first][..], &rest].concat();
                for seq in [1, 2 + gap] {
                    let mut decoded = Decoded::default();
                    decoder.decode(&received(seq), &payload, &mut decoded);
                    prop_assert_eq!(decoded.packets().last().map(|packet| packet.seq), Some(seq));
                    let samples: usize = decoded.packets().map(|packet| packet.payload.len()).sum();
                    prop_assert!(samples > 0 && samples <= decoded.bytes().len());
                }
            }
        }
    }
}
