//! The codecs that we speak, as a closed set.
//!
//! All of them run on an RTP clock of 8 kHz and carry one byte per sample (RFC 3551 s4.5.14).

pub mod g711;

use serde::{Deserialize, Serialize};

/// A codec that can be negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Codec {
    Pcmu,
    Pcma,
}

impl Codec {
    /// In the order in which we offer them.
    pub const ALL: [Codec; 2] = [Codec::Pcmu, Codec::Pcma];

    /// The name in `rtpmap`, upper case as registered.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
        }
    }

    /// The static payload type of RFC 3551 s6.
    pub const fn payload_type(self) -> u8 {
        match self {
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
        }
    }

    /// Encoding names are case-insensitive (RFC 4855 s3); both codecs are 8000 Hz and mono.
    pub fn from_rtpmap(encoding: &str, rate_hz: u32) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| rate_hz == 8000 && codec.name().eq_ignore_ascii_case(encoding))
    }

    pub fn from_static_payload_type(payload_type: u8) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| codec.payload_type() == payload_type)
    }

    /// The byte that decodes to silence.
    pub const fn silence(self) -> u8 {
        match self {
            Codec::Pcmu => 0xFF,
            Codec::Pcma => 0xD5,
        }
    }

    /// Decodes as many bytes as both slices have; the number of samples written.
    pub fn decode(self, payload: &[u8], samples: &mut [i16]) -> usize {
        let table = match self {
            Codec::Pcmu => &g711::ULAW_TO_LINEAR,
            Codec::Pcma => &g711::ALAW_TO_LINEAR,
        };
        for (sample, byte) in samples.iter_mut().zip(payload) {
            *sample = table[usize::from(*byte)];
        }
        samples.len().min(payload.len())
    }

    /// Encodes as many samples as both slices have; the number of bytes written.
    pub fn encode(self, samples: &[i16], payload: &mut [u8]) -> usize {
        for (byte, sample) in payload.iter_mut().zip(samples) {
            *byte = match self {
                Codec::Pcmu => g711::encode_ulaw(*sample),
                Codec::Pcma => g711::encode_alaw(*sample),
            };
        }
        samples.len().min(payload.len())
    }

    /// Turns a payload of this codec into one of `to`, byte for byte by table.
    pub fn transcode(self, to: Codec, payload: &mut [u8]) {
        let table = match (self, to) {
            (Codec::Pcmu, Codec::Pcma) => &g711::ULAW_TO_ALAW,
            (Codec::Pcma, Codec::Pcmu) => &g711::ALAW_TO_ULAW,
            _ => return,
        };
        for byte in payload {
            *byte = table[usize::from(*byte)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rtpmap_names_are_found_whatever_their_case() {
        assert_eq!(Codec::from_rtpmap("pcmu", 8000), Some(Codec::Pcmu));
        assert_eq!(Codec::from_rtpmap("PCMA", 8000), Some(Codec::Pcma));
        assert_eq!(Codec::from_rtpmap("PCMA", 16000), None);
        assert_eq!(Codec::from_rtpmap("G729", 8000), None);
        assert_eq!(Codec::from_static_payload_type(8), Some(Codec::Pcma));
        assert_eq!(Codec::from_static_payload_type(18), None);
    }

    #[test]
    fn silence_decodes_to_nearly_nothing_and_encodes_from_zero() {
        for codec in Codec::ALL {
            let mut sample = [1000];
            codec.decode(&[codec.silence()], &mut sample);
            assert!(sample[0].abs() <= 8, "{codec:?}: {}", sample[0]);
            let mut byte = [0];
            codec.encode(&[0], &mut byte);
            assert_eq!(byte[0], codec.silence(), "{codec:?}");
        }
    }
}
