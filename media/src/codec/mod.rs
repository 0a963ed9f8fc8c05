//! The codecs that we speak, as a closed set.
//!
//! Inside, all audio is at 8 kHz, and what waits in a buffer is kept as G.711, one byte a sample (RFC 3551 s4.5.14). A leg
//! of another codec relays what it says as it came, and turns it into that and back only where somebody else is to hear it
//! ([`opus`], [`g722`]).

pub mod g711;
pub mod g722;
pub mod opus;

use serde::{Deserialize, Serialize};

pub use g711::Law;

/// A codec that can be negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Codec {
    Pcmu,
    Pcma,
    /// RFC 6716, in RTP as RFC 7587 has it.
    Opus,
    /// ITU-T G.722 at 64 kbit/s, in RTP as RFC 3551 s4.5.2 has it.
    G722,
}

impl Codec {
    /// In the order in which we offer them, and in which workers tell of them: what is new comes last.
    pub const ALL: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::Opus, Codec::G722];

    /// The name in `rtpmap`, as registered.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
            Codec::G722 => "G722",
            Codec::Opus => "opus",
        }
    }

    /// The payload type under which we offer it: the static one of RFC 3551 s6, or the number that browsers use.
    pub const fn payload_type(self) -> u8 {
        match self {
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
            Codec::G722 => 9,
            Codec::Opus => 111,
        }
    }

    /// The rate of its RTP clock: of Opus always this one, whatever it carries (RFC 7587 s4.1), and of G.722 half of what it
    /// carries.
    pub const fn clock_hz(self) -> u32 {
        match self {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => 8000,
            Codec::Opus => 48_000,
        }
    }

    /// Channels in `rtpmap`: of Opus always two, whatever it carries (RFC 7587 s7).
    pub const fn channels(self) -> u8 {
        match self {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => 1,
            Codec::Opus => 2,
        }
    }

    /// What we ask of whoever sends it to us, in `fmtp`.
    pub const fn parameters(self) -> Option<&'static str> {
        match self {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => None,
            Codec::Opus => Some("minptime=10;useinbandfec=1"),
        }
    }

    /// Encoding names are case-insensitive (RFC 4855 s3).
    pub fn from_rtpmap(encoding: &str, rate_hz: u32) -> Option<Codec> {
        let is = |codec: &Codec| rate_hz == codec.clock_hz() && codec.name().eq_ignore_ascii_case(encoding);
        Codec::ALL.into_iter().find(is)
    }

    pub fn from_static_payload_type(payload_type: u8) -> Option<Codec> {
        let is = |codec: &Codec| payload_type < FIRST_DYNAMIC && codec.payload_type() == payload_type;
        Codec::ALL.into_iter().find(is)
    }

    /// Which G.711 it is, if it is.
    pub const fn law(self) -> Option<Law> {
        match self {
            Codec::Pcmu => Some(Law::Mu),
            Codec::Pcma => Some(Law::A),
            Codec::G722 | Codec::Opus => None,
        }
    }

    /// How long a packet is, in samples of 8 kHz; 0 of what is none.
    pub fn samples_in(self, payload: &[u8]) -> usize {
        match self {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => payload.len(),
            Codec::Opus => opus::samples_in(payload),
        }
    }

    /// As what a leg of this codec keeps audio that is yet to be sent.
    pub fn waits_as(self) -> Law {
        self.law().unwrap_or(Law::Mu)
    }
}

/// What these mean their `rtpmap` says (RFC 3551 s3).
const FIRST_DYNAMIC: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rtpmap_names_are_found_whatever_their_case() {
        assert_eq!(Codec::from_rtpmap("pcmu", 8000), Some(Codec::Pcmu));
        assert_eq!(Codec::from_rtpmap("PCMA", 8000), Some(Codec::Pcma));
        assert_eq!(Codec::from_rtpmap("OPUS", 48_000), Some(Codec::Opus));
        assert_eq!(Codec::from_rtpmap("opus", 8000), None);
        assert_eq!(Codec::from_rtpmap("PCMA", 16000), None);
        assert_eq!(Codec::from_rtpmap("G729", 8000), None);
        assert_eq!(Codec::from_rtpmap("g722", 8000), Some(Codec::G722));
        assert_eq!(Codec::from_rtpmap("G722", 16000), None, "its clock is not its rate");
        assert_eq!(Codec::from_static_payload_type(9), Some(Codec::G722));
        assert_eq!(Codec::from_static_payload_type(8), Some(Codec::Pcma));
        assert_eq!(Codec::from_static_payload_type(18), None);
        assert_eq!(Codec::from_static_payload_type(111), None, "dynamic: it means what its rtpmap says");
    }
}
