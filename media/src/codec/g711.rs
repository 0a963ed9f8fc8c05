//! G.711 by table: decoding, encoding, and between the two laws without going through samples.
//!
//! The tables are computed at compile time, as the reference code of ITU-T G.191 does it: negative samples are
//! taken by one's complement, so that both laws are blind to the two lowest bits of a 16-bit sample.

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    Mu,
    A,
}

impl Law {
    /// The byte that decodes to silence.
    pub const fn silence(self) -> u8 {
        match self {
            Law::Mu => 0xFF,
            Law::A => 0xD5,
        }
    }

    /// Decodes as many bytes as both slices have; the number of samples written.
    pub fn decode(self, payload: &[u8], samples: &mut [i16]) -> usize {
        let table = match self {
            Law::Mu => &ULAW_TO_LINEAR,
            Law::A => &ALAW_TO_LINEAR,
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
                Law::Mu => encode_ulaw(*sample),
                Law::A => encode_alaw(*sample),
            };
        }
        samples.len().min(payload.len())
    }

    /// Turns a payload of this law into one of `to`, byte for byte by table.
    pub fn transcode(self, to: Law, payload: &mut [u8]) {
        let table = match (self, to) {
            (Law::Mu, Law::A) => &ULAW_TO_ALAW,
            (Law::A, Law::Mu) => &ALAW_TO_ULAW,
            (Law::Mu, Law::Mu) | (Law::A, Law::A) => return,
        };
        for byte in payload {
            *byte = table[usize::from(*byte)];
        }
    }
}

/// Samples of 16 bits for each code of mu-law.
pub static ULAW_TO_LINEAR: [i16; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = decoded_ulaw(code as u8);
        code += 1;
    }
    table
};

/// Samples of 16 bits for each code of A-law.
pub static ALAW_TO_LINEAR: [i16; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = decoded_alaw(code as u8);
        code += 1;
    }
    table
};

/// The A-law code nearest to each mu-law code.
pub static ULAW_TO_ALAW: [u8; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = encoded_alaw(decoded_ulaw(code as u8));
        code += 1;
    }
    table
};

/// The mu-law code nearest to each A-law code.
pub static ALAW_TO_ULAW: [u8; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = encoded_ulaw(decoded_alaw(code as u8));
        code += 1;
    }
    table
};

/// Encodes one sample as mu-law; a look-up in 16 kB.
#[inline]
pub fn encode_ulaw(sample: i16) -> u8 {
    LINEAR_TO_ULAW[linear_index(sample)]
}

/// Encodes one sample as A-law; a look-up in 16 kB.
#[inline]
pub fn encode_alaw(sample: i16) -> u8 {
    LINEAR_TO_ALAW[linear_index(sample)]
}

#[inline]
fn linear_index(sample: i16) -> usize {
    usize::from((sample as u16) >> 2)
}

static LINEAR_TO_ULAW: [u8; 1 << 14] = {
    let mut table = [0; 1 << 14];
    let mut index = 0;
    while index < 1 << 14 {
        table[index] = encoded_ulaw(((index as u16) << 2) as i16);
        index += 1;
    }
    table
};

static LINEAR_TO_ALAW: [u8; 1 << 14] = {
    let mut table = [0; 1 << 14];
    let mut index = 0;
    while index < 1 << 14 {
        table[index] = encoded_alaw(((index as u16) << 2) as i16);
        index += 1;
    }
    table
};

const fn magnitude(sample: i16) -> u16 {
    (if sample < 0 { !sample } else { sample }) as u16
}

/// A code of mu-law is the inverted segment and step of the magnitude plus 33 (in 14 bits).
const fn encoded_ulaw(sample: i16) -> u8 {
    let biased = (magnitude(sample) >> 2) + 33;
    let biased = if biased > 0x1FFF { 0x1FFF } else { biased };
    let segment = (11 - biased.leading_zeros()) as u16;
    let step = (biased >> segment) & 0xF;
    let code = ((8 - segment) << 4 | (15 - step)) as u8;
    if sample < 0 { code } else { code | 0x80 }
}

const fn decoded_ulaw(code: u8) -> i16 {
    let inverted = !code;
    let exponent = (inverted >> 4) & 7;
    let step = 8i16 << exponent;
    let magnitude = (0x80 << exponent) + step * (inverted & 0xF) as i16 + step / 2 - 132;
    if code < 0x80 { -magnitude } else { magnitude }
}

/// A code of A-law is segment and step of the magnitude (in 12 bits), every second bit inverted.
const fn encoded_alaw(sample: i16) -> u8 {
    let magnitude = magnitude(sample) >> 4;
    let mut code = if magnitude < 32 {
        magnitude as u8
    } else {
        let segment = 12 - magnitude.leading_zeros();
        ((segment << 4) as u16 + (magnitude >> (segment - 1)) - 16) as u8
    };
    if sample >= 0 {
        code |= 0x80;
    }
    code ^ 0x55
}

const fn decoded_alaw(code: u8) -> i16 {
    let plain = (code ^ 0x55) & 0x7F;
    let segment = plain >> 4;
    let step = (plain & 0xF) as i16;
    let magnitude = match segment {
        0 => (step << 4) + 8,
        _ => ((step + 16) << 4 | 8) << (segment - 1),
    };
    if code > 0x7F { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_decodes_to_nearly_nothing_and_encodes_from_zero() {
        for law in [Law::Mu, Law::A] {
            let mut sample = [1000];
            law.decode(&[law.silence()], &mut sample);
            assert!(sample[0].abs() <= 8, "{law:?}: {}", sample[0]);
            let mut byte = [0];
            law.encode(&[0], &mut byte);
            assert_eq!(byte[0], law.silence(), "{law:?}");
        }
    }

    #[test]
    fn known_codes_decode_to_the_values_of_the_standard() {
        // G.711 tables 1a-2b, scaled to 16 bits.
        for (code, value) in [(0x80, 32124), (0x00, -32124), (0xFF, 0), (0xF0, 120), (0xEF, 132), (0x8F, 16764)] {
            assert_eq!(ULAW_TO_LINEAR[code], value, "mu-law {code:#04x}");
        }
        for (code, value) in [(0xD5, 8), (0x55, -8), (0xAA, 32256), (0x2A, -32256), (0xC5, 264), (0x80, 5504)] {
            assert_eq!(ALAW_TO_LINEAR[code], value, "A-law {code:#04x}");
        }
    }

    #[test]
    fn every_code_survives_decoding_and_encoding() {
        for code in 0..=255u8 {
            // Mu-law has two zeros; the negative one is not produced.
            if code != 0x7F {
                assert_eq!(encode_ulaw(ULAW_TO_LINEAR[usize::from(code)]), code);
            }
            assert_eq!(encode_alaw(ALAW_TO_LINEAR[usize::from(code)]), code);
        }
    }

    #[test]
    fn every_sample_is_off_by_at_most_half_a_step() {
        for sample in i16::MIN..=i16::MAX {
            let allowed = (i32::from(sample).abs() + 132) / 32 + 8;
            for decoded in
                [ULAW_TO_LINEAR[usize::from(encode_ulaw(sample))], ALAW_TO_LINEAR[usize::from(encode_alaw(sample))]]
            {
                let error = (i32::from(decoded) - i32::from(sample)).abs();
                assert!(error <= allowed, "{sample} became {decoded}");
            }
        }
    }

    #[test]
    fn transcoding_tables_go_through_the_nearest_value() {
        for code in 0..=255u8 {
            let linear = i32::from(ULAW_TO_LINEAR[usize::from(code)]);
            let alaw = i32::from(ALAW_TO_LINEAR[usize::from(ULAW_TO_ALAW[usize::from(code)])]);
            assert!((linear - alaw).abs() <= linear.abs() / 16 + 16, "{code:#04x}: {linear} {alaw}");
            let back = ALAW_TO_ULAW[usize::from(ULAW_TO_ALAW[usize::from(code)])];
            let back = i32::from(ULAW_TO_LINEAR[usize::from(back)]);
            assert!((linear - back).abs() <= linear.abs() / 16 + 16, "{code:#04x}: {linear} {back}");
        }
    }
}
