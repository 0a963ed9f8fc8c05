//! What a party on Opus or G.722 hears that did not come in its codec.

use crate::codec::{Codec, g722, opus};

/// The way into the codec of one leg.
pub(super) enum Encoder {
    Opus(Box<opus::Encoder>),
    G722(Box<g722::Encoder>),
}

impl Encoder {
    /// `None` for what needs none.
    pub fn of(codec: Codec) -> Option<Encoder> {
        match codec {
            Codec::Opus => Some(Encoder::Opus(Box::default())),
            Codec::G722 => Some(Encoder::G722(Box::default())),
            Codec::Pcmu | Codec::Pcma => None,
        }
    }

    /// A packet of these samples, at the start of `payload`; its length, or nothing where the codec has no packet so long.
    /// `lost` is as for [`opus::Encoder::encode`].
    pub fn encode(&mut self, samples: &[i16], lost: u8, payload: &mut [u8]) -> Option<usize> {
        match self {
            Encoder::Opus(opus) => opus.encode(samples, lost, payload),
            Encoder::G722(g722) => Some(g722.encode(samples, payload)),
        }
    }
}
