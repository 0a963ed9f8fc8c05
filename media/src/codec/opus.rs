//! Opus at the edge of what is G.711 inside: 8 kHz out of its packets, and its packets out of 8 kHz (RFC 6716).
//!
//! Of one party each, and one packet after another; which packet is next, and which is missing, is the leg's to know.

use opus_pure::{Application, MAX_PACKET_BYTES, OpusDecoder, OpusEncoder};

/// 120 ms: no packet is longer (s3.4).
pub const MAX_SAMPLES: usize = 960;

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
    if frame * frames <= MAX_SAMPLES { frame * frames } else { 0 }
}

/// The way out of Opus. Some 150 kB, of which 8 kHz touch a third until it is reset; never allocates once made.
pub struct Decoder {
    opus: OpusDecoder,
}

impl Default for Decoder {
    fn default() -> Self {
        let opus = OpusDecoder::new(RATE_HZ, 1).expect("8 kHz and one channel are among those that it knows");
        Decoder { opus }
    }
}

impl Decoder {
    /// The samples of a packet, `None` for what is none. About 6 us for 20 ms of speech.
    pub fn decode(&mut self, packet: &[u8], samples: &mut [i16; MAX_SAMPLES]) -> Option<usize> {
        self.opus.decode_s16(packet, MAX_SAMPLES, samples).ok().filter(|count| *count > 0)
    }

    /// What the packet before this one may have said: out of this one, which may carry it once more (s2.1.7), else as
    /// [`Decoder::conceal`]. As long as `samples` are.
    pub fn recover(&mut self, packet: &[u8], samples: &mut [i16]) -> usize {
        self.opus.decode_fec_s16(packet, samples.len(), samples).unwrap_or(0)
    }

    /// What a lost packet may have said, by what came before it.
    pub fn conceal(&mut self, samples: &mut [i16]) -> usize {
        self.opus.decode_s16(&[], samples.len(), samples).unwrap_or(0)
    }

    /// What comes next has no past.
    pub fn reset(&mut self) {
        // Only fails for a decoder that could not be made.
        let _ = self.opus.reset_state();
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
