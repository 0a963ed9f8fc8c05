//! Call-progress tones and digits as samples at 8 kHz, each sample computable from its position alone.
//!
//! Nothing is remembered between samples: a tone that another worker goes on with sounds as it would have here.

use crate::proto;

/// A tone with its cadence, ready to be asked for samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToneSource {
    /// How far the phase of each frequency moves in a sample, in 2^32ths of a turn.
    steps: Vec<u32>,
    /// On, off, on, off ... in samples; empty is steady.
    cadence: Vec<u32>,
    period: u64,
}

impl ToneSource {
    /// Takes at most four frequencies below 4 kHz, and eight times; the rest is left out.
    pub fn new(tone: &proto::Tone) -> ToneSource {
        let audible = tone.frequencies_hz.iter().filter(|hz| (1..4000).contains(*hz));
        let cadence: Vec<u32> = tone.cadence_ms.iter().take(8).map(|ms| ms.saturating_mul(8)).collect();
        let period = cadence.iter().map(|samples| u64::from(*samples)).sum();
        ToneSource { steps: audible.take(4).map(|hz| step(*hz)).collect(), cadence, period }
    }

    /// Writes the samples from `position` on.
    pub fn fill(&self, position: u64, samples: &mut [i16]) {
        for (sample, at) in samples.iter_mut().zip(position..) {
            let gain = self.gain(at);
            let sum: i32 = self.steps.iter().map(|step| i32::from(sine((at as u32).wrapping_mul(*step)))).sum();
            *sample = (sum * AMPLITUDE / FULL * gain / RAMP).clamp(-FULL, FULL) as i16;
        }
    }

    /// 0 to [`RAMP`]: on, off, or on the way between, so that nothing clicks.
    fn gain(&self, position: u64) -> i32 {
        if self.period == 0 {
            return RAMP;
        }
        let mut within = (position % self.period) as u32;
        for (index, span) in self.cadence.iter().enumerate() {
            if within < *span {
                return if index % 2 == 0 { ramp(within, *span) } else { 0 };
            }
            within -= span;
        }
        0
    }
}

/// One sample of a pair of tones that lasts `total` samples.
pub fn pair(frequencies_hz: [u32; 2], position: u32, total: u32) -> i16 {
    let [low, high] = frequencies_hz.map(|hz| i32::from(sine(position.wrapping_mul(step(hz)))));
    ((low * DTMF_AMPLITUDE / FULL + high * DTMF_AMPLITUDE / FULL) * ramp(position, total) / RAMP) as i16
}

fn step(hz: u32) -> u32 {
    ((u64::from(hz) << 32) / 8000) as u32
}

fn ramp(position: u32, total: u32) -> i32 {
    position.min(total.saturating_sub(position + 1)).min(RAMP as u32) as i32
}

/// The sine of a phase in 2^32ths of a turn, full scale; between the 1024 values of the table it is interpolated.
fn sine(phase: u32) -> i16 {
    let index = (phase >> 22) as usize;
    let between = (phase >> 6 & 0xFFFF) as i32;
    let (a, b) = (i32::from(SINE[index]), i32::from(SINE[index + 1]));
    (a + (((b - a) * between) >> 16)) as i16
}

static SINE: [i16; 1025] = {
    let mut table = [0; 1025];
    let mut index = 0;
    while index < 1025 {
        // Every angle is brought into the first quarter, where the series converges fast.
        let quarter = index % 256;
        let angle = if (index / 256) % 2 == 0 { quarter } else { 256 - quarter };
        let x = angle as f64 * std::f64::consts::FRAC_PI_2 / 256.0;
        let square = x * x;
        let value = x
            * (1.0
                - square / 6.0
                    * (1.0 - square / 20.0 * (1.0 - square / 42.0 * (1.0 - square / 72.0 * (1.0 - square / 110.0)))));
        let sign = if (index / 512) % 2 == 0 { 1.0 } else { -1.0 };
        table[index] = (sign * value * FULL as f64) as i16;
        index += 1;
    }
    table
};

const FULL: i32 = 32767;
/// -13 dBm0 for each frequency of a tone.
const AMPLITUDE: i32 = 5000;
/// -10 dBm0 for each of a digit.
const DTMF_AMPLITUDE: i32 = 7000;
/// 2 ms.
const RAMP: i32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(frequencies_hz: &[u32], cadence_ms: &[u32]) -> ToneSource {
        ToneSource::new(&proto::Tone {
            frequencies_hz: frequencies_hz.to_vec(),
            cadence_ms: cadence_ms.to_vec(),
            duration_ms: 0,
        })
    }

    #[test]
    fn sine_is_a_sine() {
        for degree in 0..360u64 {
            let phase = ((degree << 32) / 360) as u32;
            let exact = (degree as f64).to_radians().sin() * 32767.0;
            assert!((f64::from(sine(phase)) - exact).abs() < 3.0, "{degree}: {} {exact}", sine(phase));
        }
    }

    #[test]
    fn cadence_switches_the_tone_and_repeats() {
        let source = tone(&[440, 480], &[2000, 4000]);
        let loudness = |from_ms: u64| {
            let mut samples = [0; 800];
            source.fill(from_ms * 8, &mut samples);
            samples.iter().map(|sample| i32::from(sample.abs())).max().unwrap()
        };
        assert!(loudness(500) > 8000);
        assert_eq!(loudness(2100), 0);
        assert_eq!(loudness(5800), 0);
        assert!(loudness(6100) > 8000);
    }

    #[test]
    fn samples_do_not_depend_on_how_they_are_asked_for() {
        let source = tone(&[350, 440], &[100, 50]);
        let mut whole = [0; 1600];
        source.fill(7, &mut whole);
        let mut parts = [0; 1600];
        for (i, part) in parts.chunks_mut(37).enumerate() {
            source.fill(7 + i as u64 * 37, part);
        }
        assert_eq!(whole, parts);
    }

    #[test]
    fn frequency_is_the_one_asked_for() {
        let mut samples = [0; 8000];
        tone(&[1000], &[]).fill(0, &mut samples);
        let crossings = samples.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
        assert!((999..=1001).contains(&crossings), "{crossings}");
    }
}
