//! G.722 at the edge of what is G.711 inside: the lower of its two bands, which is what is heard at 8 kHz (ITU-T G.722, 64 kbit/s).
//!
//! Each byte is a sample of 8 kHz: six bits are the lower band's, by an adaptive differential code, two the upper band's. So 8 kHz
//! goes in and comes out without a filter of ours, and what is lost is what 8 kHz has no room for; between two parties on G.722
//! packets go as they are. The bands are divided by the sender's filter, which is not steep: of 4.5 kHz a tenth comes folded to
//! 3.5, of 5.5 nothing any more. To divide them again better would cost four times as much, for a hiss that is hardly louder. The clock of its RTP is 8 kHz as well, for a reason of old (RFC 3551 s4.5.2). The numbers of blocks and tables
//! are those of the recommendation.

/// The way out of G.722; a few hundred bytes.
#[derive(Clone, Debug, Default)]
pub struct Decoder(Band);

impl Decoder {
    /// A sample for each byte; how many. About 28 ns each.
    pub fn decode(&mut self, payload: &[u8], samples: &mut [i16]) -> usize {
        let count = payload.len().min(samples.len());
        for (byte, sample) in payload.iter().zip(samples) {
            let code = byte & 0x3F;
            // What is heard has all six bits; the predictor goes by four, which every mode has (blocks 5L and 6L).
            let heard = (self.0.prediction + self.0.scaled(QM6[usize::from(code)])).clamp(-16_384, 16_383);
            *sample = (heard << 1) as i16;
            self.0.adapt(code);
        }
        count
    }
}

/// The way into G.722, for one leg; a few hundred bytes.
#[derive(Clone, Debug, Default)]
pub struct Encoder(Band);

impl Encoder {
    /// A byte for each sample; how many. About 39 ns each.
    pub fn encode(&mut self, samples: &[i16], payload: &mut [u8]) -> usize {
        let count = samples.len().min(payload.len());
        for (sample, byte) in samples.iter().zip(payload) {
            let code = self.0.quantised((i32::from(*sample) >> 1) - self.0.prediction);
            self.0.adapt(code);
            *byte = SILENT_UPPER_BAND | code;
        }
        count
    }
}

/// The lower band's predictor and its step, which both sides keep alike.
#[derive(Clone, Debug)]
struct Band {
    /// What is expected next (`SL`), and the part of it that the zeros make (`SZL`).
    prediction: i32,
    by_zeros: i32,
    /// The last two reconstructed samples, the last two sums without poles, and the pole coefficients.
    reconstructed: [i32; 2],
    partial: [i32; 2],
    poles: [i32; 2],
    /// The last six differences, and the zero coefficients.
    differences: [i32; 6],
    zeros: [i32; 6],
    /// The step, and its logarithm.
    step: i32,
    log_step: i32,
}

impl Default for Band {
    fn default() -> Self {
        Band {
            prediction: 0,
            by_zeros: 0,
            reconstructed: [0; 2],
            partial: [0; 2],
            poles: [0; 2],
            differences: [0; 6],
            zeros: [0; 6],
            step: 32,
            log_step: 0,
        }
    }
}

impl Band {
    fn scaled(&self, level: i32) -> i32 {
        (self.step * level) >> 15
    }

    /// The code of a difference (block 1L).
    fn quantised(&self, difference: i32) -> u8 {
        let difference = saturated(difference);
        let size = if difference >= 0 { difference } else { -(difference + 1) };
        let above = Q6.iter().take_while(|level| size >= (**level * self.step) >> 12).count() as u8;
        match difference < 0 {
            // The two largest of the negative have the same four bits as no other: their places are 63 and 62.
            true if above < 2 => 63 - above,
            true => 33 - above,
            false => 61 - above,
        }
    }

    /// Takes the next code over into step and predictor (blocks 2L, 3L and 4).
    fn adapt(&mut self, code: u8) {
        let code = usize::from(code >> 2);
        let difference = self.scaled(QM4[code]);
        self.log_step = (((self.log_step * 127) >> 7) + WL[code]).clamp(0, 18_432);
        let (fraction, shift) = (ILB[(self.log_step >> 6) as usize & 31], 8 - (self.log_step >> 11));
        self.step = if shift < 0 { fraction << -shift } else { fraction >> shift } << 2;

        let reconstructed = saturated(self.prediction + difference);
        let partial = saturated(self.by_zeros + difference);
        self.adapt_poles(partial);
        self.adapt_zeros(difference);
        self.differences.rotate_right(1);
        self.differences[0] = difference;
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.partial = [partial, self.partial[0]];

        let product = |value: i32, coefficient: i32| (coefficient * saturated(value + value)) >> 15;
        let by_poles = self.reconstructed.iter().zip(&self.poles).map(|(value, pole)| product(*value, *pole)).sum();
        let by_zeros = self.differences.iter().zip(&self.zeros).map(|(value, zero)| product(*value, *zero)).sum();
        self.by_zeros = saturated(by_zeros);
        self.prediction = saturated(saturated(by_poles) + self.by_zeros);
    }

    fn adapt_poles(&mut self, partial: i32) {
        let is_like = |before: i32| (partial < 0) == (before < 0);
        let [first, second] = self.poles;
        let quadruple = saturated(first << 2);
        let toward = if is_like(self.partial[0]) { (-quadruple).min(32_767) } else { quadruple };
        let leak = if is_like(self.partial[1]) { 128 } else { -128 };
        let second = ((toward >> 7) + leak + ((second * 32_512) >> 15)).clamp(-12_288, 12_288);
        let step = if is_like(self.partial[0]) { 192 } else { -192 };
        let most = saturated(15_360 - second);
        let first = saturated(step + ((first * 32_640) >> 15)).clamp(-most, most);
        self.poles = [first, second];
    }

    fn adapt_zeros(&mut self, difference: i32) {
        let step = if difference == 0 { 0 } else { 128 };
        for (zero, before) in self.zeros.iter_mut().zip(&self.differences) {
            let toward = if (difference < 0) == (*before < 0) { step } else { -step };
            *zero = saturated(toward + ((*zero * 32_640) >> 15));
        }
    }
}

/// To 16 bits.
fn saturated(value: i32) -> i32 {
    value.clamp(i32::from(i16::MIN), i32::from(i16::MAX))
}

/// The upper band says nothing: its smallest step up, which dies away.
const SILENT_UPPER_BAND: u8 = 0xC0;

/// Where each step of a difference begins, of 4096.
const Q6: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219, 1339,
    1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
/// What a code of six bits stands for, of 32768.
const QM6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360, -8576,
    -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688, -1360, -1040,
    -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456,
    4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
/// What its upper four bits stand for.
const QM4: [i32; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
/// How they change the logarithm of the step.
const WL: [i32; 16] = [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
/// Powers of two between 2048 and 4096.
const ILB: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896, 2960, 3025,
    3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise as loud as can be, noise that is hardly there, a square, and a slow triangle that is cut off.
    fn signals() -> [Vec<i16>; 4] {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as i16
        };
        let loud = (0..80_000).map(|_| noise()).collect();
        let quiet = (0..80_000).map(|_| noise() / 64).collect();
        let square = (0..80_000).map(|at| if at / 40 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let triangle = (0..80_000).map(|at| ((at % 400 - 200i32).abs() * 400 - 40_000).clamp(-32_768, 32_767) as i16);
        [loud, quiet, square, triangle.collect()]
    }

    #[test]
    fn every_bit_is_as_another_implementation_has_it() {
        // CRC-32 of what spandsp 0.0.6 makes of each signal at 8 kHz, and of that again.
        let wanted = [
            (0xBCFF_FDF9, 0xD753_4AB5),
            (0xD65A_ED41, 0x7814_3CFF),
            (0x3DFA_9276, 0x63BE_9D46),
            (0x8DDF_BF3E, 0x886F_16A4),
        ];
        let made = signals().map(|signal| {
            let (mut payload, mut samples) = (vec![0; signal.len()], vec![0; signal.len()]);
            assert_eq!(Encoder::default().encode(&signal, &mut payload), signal.len());
            assert_eq!(Decoder::default().decode(&payload, &mut samples), signal.len());
            let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            (crc32fast::hash(&payload), crc32fast::hash(&bytes))
        });
        assert_eq!(made, wanted);
    }

    #[test]
    fn threat_04_any_bytes_are_decoded() {
        let mut decoder = Decoder::default();
        let mut samples = [0; 256];
        for seed in 0..256usize {
            let bytes: Vec<u8> = (0..256).map(|at| ((at * (seed + 1)) >> 3 ^ seed) as u8).collect();
            assert_eq!(decoder.decode(&bytes, &mut samples), 256);
            assert_eq!(decoder.decode(&bytes, &mut samples[..10]), 10);
        }
    }
}
