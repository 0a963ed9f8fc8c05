//! Clips of any usual rate as samples at 8 kHz: a windowed sinc, one set of taps for each phase.
//!
//! Reading is by position and remembers nothing, so that a player may begin anywhere in a clip. The filter passes
//! what a telephone passes, up to 3.4 kHz, and takes away what would fold back.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// The rates that a clip may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rate {
    Hz8000,
    Hz16000,
    Hz24000,
    Hz32000,
    Hz44100,
    Hz48000,
}

impl Rate {
    pub const ALL: [Rate; 6] =
        [Rate::Hz8000, Rate::Hz16000, Rate::Hz24000, Rate::Hz32000, Rate::Hz44100, Rate::Hz48000];

    pub fn from_hz(hz: u32) -> Option<Rate> {
        Rate::ALL.into_iter().find(|rate| rate.hz() == hz)
    }

    pub const fn hz(self) -> u32 {
        match self {
            Rate::Hz8000 => 8000,
            Rate::Hz16000 => 16000,
            Rate::Hz24000 => 24000,
            Rate::Hz32000 => 32000,
            Rate::Hz44100 => 44100,
            Rate::Hz48000 => 48000,
        }
    }

    /// How many samples at 8 kHz `samples` of this rate are.
    pub fn samples_at_8k(self, samples: u64) -> u64 {
        samples.saturating_mul(8000) / u64::from(self.hz())
    }

    /// Input samples for each output sample, as a fraction in lowest terms.
    const fn ratio(self) -> (u64, u64) {
        match self {
            Rate::Hz44100 => (441, 80),
            other => (other.hz() as u64 / 8000, 1),
        }
    }
}

/// A whole clip at 8 kHz.
pub fn to_8k(samples: &[i16], rate: Rate) -> Vec<i16> {
    let mut out = vec![0; rate.samples_at_8k(samples.len() as u64) as usize];
    read_at_8k(|index| samples[index], samples.len(), rate, 0, &mut out);
    out
}

/// Samples at 8 kHz from `position` (at 8 kHz) on, of a clip of `len` samples that `sample` reads.
///
/// Beyond its ends a clip is silent. At 8 kHz this copies; else it costs some 60 to 190 multiplications a sample.
pub fn read_at_8k(sample: impl Fn(usize) -> i16, len: usize, rate: Rate, position: u64, out: &mut [i16]) {
    if rate == Rate::Hz8000 {
        for (out, at) in out.iter_mut().zip(position..) {
            *out = if at < len as u64 { sample(at as usize) } else { 0 };
        }
        return;
    }
    let filter = Filter::of(rate);
    for (out, at) in out.iter_mut().zip(position..) {
        let scaled = at.saturating_mul(filter.up);
        let (centre, phase) = (scaled / filter.down, (scaled % filter.down) as usize);
        let taps = &filter.taps[phase * filter.width..(phase + 1) * filter.width];
        let first = centre as i64 - (filter.width as i64 / 2 - 1);
        let sum: f32 = taps
            .iter()
            .zip(first..)
            .filter_map(|(tap, at)| {
                usize::try_from(at).ok().filter(|at| *at < len).map(|at| tap * f32::from(sample(at)))
            })
            .sum();
        *out = sum.round().clamp(-32768.0, 32767.0) as i16;
    }
}

struct Filter {
    up: u64,
    down: u64,
    /// Taps of one phase.
    width: usize,
    taps: Vec<f32>,
}

impl Filter {
    /// The filter of a rate, made once in a process.
    fn of(rate: Rate) -> &'static Filter {
        static FILTERS: [OnceLock<Filter>; 6] = [const { OnceLock::new() }; 6];
        FILTERS[rate as usize].get_or_init(|| Filter::new(rate))
    }

    fn new(rate: Rate) -> Filter {
        let (up, down) = rate.ratio();
        let factor = f64::from(rate.hz()) / 8000.0;
        let width = (2.0 * ZERO_CROSSINGS * factor).ceil() as usize / 2 * 2;
        let cutoff = CUTOFF_HZ / f64::from(rate.hz());
        let mut taps = Vec::with_capacity(down as usize * width);
        for phase in 0..down {
            let offset = phase as f64 / down as f64;
            let row: Vec<f64> = (0..width)
                .map(|tap| {
                    let x = tap as f64 - (width as f64 / 2.0 - 1.0) - offset;
                    2.0 * cutoff * sinc(2.0 * cutoff * x) * window(x / (width as f64 / 2.0))
                })
                .collect();
            // Silence and steady sound come out as loud as they went in, in every phase alike.
            let sum: f64 = row.iter().sum();
            taps.extend(row.iter().map(|tap| (tap / sum) as f32));
        }
        Filter { up, down, width, taps }
    }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x.abs() < 1e-9 { 1.0 } else { x.sin() / x }
}

/// Blackman, from -1 to 1.
fn window(x: f64) -> f64 {
    let x = x.clamp(-1.0, 1.0) * std::f64::consts::PI;
    0.42 + 0.5 * x.cos() + 0.08 * (2.0 * x).cos()
}

const CUTOFF_HZ: f64 = 3750.0;
const ZERO_CROSSINGS: f64 = 16.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, rate: Rate, ms: usize) -> Vec<i16> {
        let count = rate.hz() as usize * ms / 1000;
        let turn = std::f64::consts::TAU * hz / f64::from(rate.hz());
        (0..count).map(|i| (10_000.0 * (turn * i as f64).sin()) as i16).collect()
    }

    fn rms(samples: &[i16]) -> f64 {
        (samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / samples.len() as f64).sqrt()
    }

    fn correlation(a: &[i16], b: &[i16]) -> f64 {
        let dot: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        dot / (rms(a) * rms(b) * a.len().min(b.len()) as f64)
    }

    #[test]
    fn speech_band_comes_out_as_it_went_in() {
        for rate in Rate::ALL {
            for hz in [200.0, 1000.0, 2500.0, 3300.0] {
                let ours = to_8k(&sine(hz, rate, 200), rate);
                let exact = sine(hz, Rate::Hz8000, 200);
                assert_eq!(ours.len(), exact.len(), "{rate:?}");
                let inner = 100..1500;
                let like = correlation(&ours[inner.clone()], &exact[inner.clone()]);
                assert!(like > 0.999, "{rate:?} {hz}: {like}");
                let gain = rms(&ours[inner.clone()]) / rms(&exact[inner]);
                assert!((0.9..1.05).contains(&gain), "{rate:?} {hz}: {gain}");
            }
        }
    }

    #[test]
    fn what_would_fold_back_is_taken_away() {
        for rate in Rate::ALL.into_iter().skip(1) {
            let folded = to_8k(&sine(5000.0, rate, 200), rate);
            assert!(rms(&folded[100..1500]) < 20.0, "{rate:?}: {}", rms(&folded[100..1500]));
        }
    }

    #[test]
    fn reading_from_the_middle_is_reading_from_the_start() {
        for rate in Rate::ALL {
            let clip = sine(700.0, rate, 100);
            let whole = to_8k(&clip, rate);
            let mut part = [0; 160];
            read_at_8k(|index| clip[index], clip.len(), rate, 333, &mut part);
            assert_eq!(part, whole[333..493], "{rate:?}");
            read_at_8k(|index| clip[index], clip.len(), rate, 1_000_000, &mut part);
            assert_eq!(part, [0; 160]);
        }
    }

    #[test]
    fn rates_are_found_by_their_number() {
        assert_eq!(Rate::from_hz(44_100), Some(Rate::Hz44100));
        assert_eq!(Rate::from_hz(11_025), None);
    }
}
