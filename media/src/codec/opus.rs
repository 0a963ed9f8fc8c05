//! Opus at the edge of what is G.711 inside: a stream decoded to 8 kHz as it arrives, and 8 kHz encoded (RFC 6716).
//!
//! A party on Opus that hears another on Opus gets its packets as they came, and nothing here runs. Whoever else is to hear
//! it, a telephone, a mix, a recorder, gets what the [`Decoder`] makes of it, once for all of them. What is lost on the way
//! is made up here, where the codec knows how: of the packet that follows, which carries the last one once more (s2.1.7), or
//! by concealment.

use std::ops::Range;

use opus_pure::{Application, MAX_PACKET_BYTES, OpusDecoder, OpusEncoder};

use super::{Codec, Law};
use crate::leg::{Received, StreamKey};
use crate::playout::FRAME_SAMPLES;
use crate::sdp::Payload;

/// Ticks of its RTP clock in a sample of ours.
pub const TICKS: u32 = 6;

/// Samples of 8 kHz in a packet, by its first bytes (s3.1, s3.2); 0 where that is no packet.
pub fn samples_in(packet: &[u8]) -> usize {
    let Some((toc, rest)) = packet.split_first() else { return 0 };
    let frame = match (toc >> 3, toc >> 3 & 3) {
        (0..12, 3) => 480,
        (0..12, size) => 80 << size,
        (12..16, size) => 80 << (size & 1),
        (_, size) => 20 << size,
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => rest.first().map_or(0, |count| usize::from(count & 0x3F)),
    };
    // No packet is longer than 120 ms (s3.4).
    if frame * frames <= MAX_SAMPLES { frame * frames } else { 0 }
}

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

    fn push(&mut self, samples: &[i16]) -> Range<usize> {
        let begin = self.len;
        self.len += Law::Mu.encode(samples, &mut self.bytes[begin..]);
        begin..self.len
    }

    fn add(&mut self, received: Received) {
        if let Some(free) = self.packets.iter_mut().find(|packet| packet.is_none()) {
            *free = Some(received);
        }
    }
}

/// The way out of Opus, for one leg. Some 150 kB, of which speech alone touches a part; never allocates once made.
pub struct Decoder {
    opus: OpusDecoder,
    /// The stream that it follows, and the number that comes next.
    expects: Option<(StreamKey, u32)>,
    /// Of the last packet.
    samples: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        let opus = OpusDecoder::new(RATE_HZ, 1).expect("8 kHz and one channel are among those that it knows");
        Decoder { opus, expects: None, samples: FRAME_SAMPLES }
    }
}

impl Decoder {
    /// Decodes a packet as it arrived; `payload` is what `received` carries. About 6 us for 20 ms of speech.
    ///
    /// One that comes after its successor was decoded comes to nothing: that has made up for it. One that cannot be read
    /// is made up as well.
    pub fn decode(&mut self, received: &Received, payload: &[u8], out: &mut Decoded) {
        let lost = match self.expects {
            Some((stream, next)) if stream == received.stream => received.seq.wrapping_sub(next) as i32,
            _ => {
                self.begin();
                0
            }
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
        let count = match self.opus.decode_s16(payload, MAX_SAMPLES, &mut samples) {
            Ok(count) => count,
            Err(_) => self.opus.decode_s16(&[], self.samples, &mut samples).unwrap_or(0),
        };
        self.samples = count.clamp(MIN_SAMPLES, MAX_MADE_UP_SAMPLES);
        let range = out.push(&samples[..count]);
        out.add(Received { carries: Payload::Audio(Codec::Pcmu), payload: range, ..received.clone() });
    }

    /// Makes up for the packet that is `back` before this one.
    fn make_up(&mut self, back: u32, received: &Received, payload: &[u8], out: &mut Decoded) {
        let mut samples = [0; MAX_MADE_UP_SAMPLES];
        let made = match back {
            1 => self.opus.decode_fec_s16(payload, self.samples, &mut samples),
            _ => self.opus.decode_s16(&[], self.samples, &mut samples),
        };
        let range = out.push(&samples[..made.unwrap_or(0)]);
        out.add(Received {
            carries: Payload::Audio(Codec::Pcmu),
            marker: false,
            timestamp: received.timestamp + (self.samples as u32 * back).wrapping_neg(),
            seq: received.seq.wrapping_sub(back),
            payload: range,
            ..received.clone()
        });
    }

    fn begin(&mut self) {
        // Only fails for a decoder that could not be made.
        let _ = self.opus.reset_state();
        self.samples = FRAME_SAMPLES;
    }
}

/// The way into Opus, for one leg: narrowband speech, since what comes in is no more. Some 120 kB.
pub struct Encoder {
    opus: OpusEncoder,
}

impl Default for Encoder {
    fn default() -> Self {
        let opus = OpusEncoder::new(RATE_HZ, 1, Application::Voip);
        let mut opus = opus.expect("8 kHz and one channel are among those that it knows");
        opus.complexity = COMPLEXITY;
        opus.bitrate_bps = BITS_PER_SECOND;
        Encoder { opus }
    }
}

impl Encoder {
    /// Encodes 10, 20, 40 or 60 ms to the start of `payload`; its length, or nothing for another length. About 60 us for 20 ms.
    ///
    /// `lost` is what the peer says that it loses, of 256: then each packet carries the one before it once more, in bits of
    /// its own.
    pub fn encode(&mut self, samples: &[i16], lost: u8, payload: &mut [u8]) -> Option<usize> {
        self.opus.use_inband_fec = lost > 0;
        self.opus.packet_loss_perc = (i32::from(lost) * 100 / 256).max(i32::from(lost > 0));
        self.opus.bitrate_bps = if lost > 0 { BITS_PER_SECOND * 3 / 2 } else { BITS_PER_SECOND };
        let len = payload.len().min(MAX_PACKET_BYTES);
        self.opus.encode_s16(samples, samples.len(), &mut payload[..len]).ok()
    }
}

const RATE_HZ: i32 = 8000;
/// Of narrowband: more is not heard (RFC 6716 s2.1.1).
const BITS_PER_SECOND: i32 = 16_000;
/// Half as dear as the highest, and as good to the ear at this rate.
const COMPLEXITY: i32 = 5;
/// 120 ms (s3.4).
const MAX_SAMPLES: usize = 960;
/// 10 ms, as speech has it at least (s2.1.4).
const MIN_SAMPLES: usize = 80;
/// Packets in a row that are made up: more is a hole that everybody hears anyway.
const MADE_UP: usize = 3;
/// 60 ms.
const MAX_MADE_UP_SAMPLES: usize = 480;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
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
        let mut decoder = Decoder::default();
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
    fn length_of_a_packet_is_in_its_first_bytes() {
        // Configuration, stereo, code: RFC 6716 s3.1.
        let table: &[(&[u8], usize)] = &[
            (&[], 0),
            (&[0x00], 80),
            (&[0x08], 160),
            (&[0x10], 320),
            (&[0x18], 480),
            (&[0x60], 80),
            (&[0x6C], 160),
            (&[0x80], 20),
            (&[0xF8], 160),
            (&[0x09], 320),
            (&[0x0B, 0x03], 480),
            (&[0x1B, 0x02], 960),
            (&[0x1B, 0x03], 0),
            (&[0x0B], 0),
        ];
        for (packet, samples) in table {
            assert_eq!(samples_in(packet), *samples, "{packet:02x?}");
        }
        for packet in packets(3, 0) {
            assert_eq!(samples_in(&packet), 160);
        }
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

    #[test]
    fn audio_of_no_length_that_opus_has_is_not_encoded() {
        let mut payload = [0; 1200];
        for samples in [80, 160, 320, 480] {
            let len = Encoder::default().encode(&vec![0; samples], 0, &mut payload).unwrap();
            assert_eq!(samples_in(&payload[..len]), samples);
        }
        assert_eq!(Encoder::default().encode(&[0; 100], 0, &mut payload), None);
    }

    proptest! {
        #[test]
        fn threat_04_any_bytes_are_decoded_or_made_up(first in any::<u8>(), rest in proptest::collection::vec(any::<u8>(), 0..200), gap in 0u32..6) {
            let mut decoder = Decoder::default();
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
