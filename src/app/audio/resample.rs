//! Audio of any rate to 8 kHz, piece by piece: a windowed sinc.
//!
//! `dialtone_media::resample` reads whole clips of the few rates that codecs have. Files come in any rate, and an hour
//! of them at 44.1 kHz is not to be held at once; hence this one, which keeps a few milliseconds.

use std::f64::consts::PI;
use std::ops::Range;
use std::sync::OnceLock;

use crate::app::audio::clip::CLIP_RATE_HZ;

/// Zero crossings of the sinc on each side.
const CROSSINGS: usize = 16;

/// Points of the kernel's table for each zero crossing.
const POINTS: usize = 256;

/// What is passed, as a part of the band that both rates have.
const PASSED: f64 = 0.92;

/// Phases whose taps are kept: enough for every usual rate, and 1 MB at most.
const MAX_KEPT_TAPS: usize = 256 * 1024;

/// Takes samples at one rate and gives them at 8 kHz. The delay is made up for: output begins with the input.
///
/// Costs one multiplication for each input sample that the kernel reaches: 200 for each output sample at 44.1 kHz.
pub(super) struct Resampler {
    /// Both rates in lowest terms: outputs `n` lies at input `n * down / up`.
    up: u64,
    down: u64,
    /// Zero crossings for each input sample.
    cutoff: f64,
    /// Input samples that the kernel reaches to each side.
    reach: usize,
    /// Taps by phase, computed when they are first needed. Empty: too many to keep.
    kept: Vec<Vec<f32>>,
    /// The last input samples; the first of them is number `start`, counting `reach` zeros before the first.
    input: Vec<f32>,
    start: u64,
    outputs: u64,
}

impl Resampler {
    /// # Panics
    /// If `rate_hz` is 0.
    pub fn new(rate_hz: u32) -> Self {
        assert!(rate_hz > 0, "audio has a rate");
        let divisor = greatest_common_divisor(rate_hz, CLIP_RATE_HZ);
        let (up, down) = (u64::from(CLIP_RATE_HZ / divisor), u64::from(rate_hz / divisor));
        // At the rate that is wanted the kernel is one point: every sample stays what it is.
        let passed = if rate_hz == CLIP_RATE_HZ { 1.0 } else { PASSED };
        let cutoff = passed * (f64::from(CLIP_RATE_HZ) / f64::from(rate_hz)).min(1.0);
        let reach = (CROSSINGS as f64 / cutoff).ceil() as usize;
        let phases = (CLIP_RATE_HZ / divisor) as usize;
        let kept = if phases * 2 * reach <= MAX_KEPT_TAPS { vec![Vec::new(); phases] } else { Vec::new() };
        Self { up, down, cutoff, reach, kept, input: vec![0.0; reach], start: 0, outputs: 0 }
    }

    /// Takes `samples` and appends what they make certain to `out`.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<i16>) {
        self.input.extend_from_slice(samples);
        loop {
            let scaled = self.outputs * self.down;
            let centre = usize::try_from(scaled / self.up - self.start).unwrap_or(usize::MAX);
            let end = centre.saturating_add(2 * self.reach + 1);
            if end > self.input.len() {
                self.forget(centre.min(self.input.len()));
                return;
            }
            let phase = (scaled % self.up) as usize;
            out.push(self.output(centre + 1..end, phase));
            self.outputs += 1;
        }
    }

    /// Gives what is left, as if silence followed the `inputs` samples that there were.
    pub fn finish(mut self, inputs: u64, out: &mut Vec<i16>) {
        let wanted = inputs * self.up / self.down;
        let left = usize::try_from(wanted.saturating_sub(self.outputs)).unwrap_or(usize::MAX);
        let end = out.len().saturating_add(left);
        self.push(&vec![0.0; 2 * self.reach + 2], out);
        out.truncate(end);
    }

    fn output(&mut self, inputs: Range<usize>, phase: usize) -> i16 {
        if self.kept.get(phase).is_some_and(Vec::is_empty) {
            self.kept[phase] = self.taps(phase);
        }
        let computed;
        let taps = match self.kept.get(phase) {
            Some(kept) => kept,
            None => {
                computed = self.taps(phase);
                &computed
            }
        };
        let sum: f32 = self.input[inputs].iter().zip(taps).map(|(input, tap)| input * tap).sum();
        (sum * 32_767.0).round().clamp(-32_768.0, 32_767.0) as i16
    }

    /// The weights of the inputs around an output that lies `phase / up` behind the middle one. Their sum is 1.
    fn taps(&self, phase: usize) -> Vec<f32> {
        let fraction = phase as f64 / self.up as f64;
        let reach = self.reach as f64;
        let taps = (0..2 * self.reach).map(|at| kernel((at as f64 + 1.0 - reach - fraction).abs() * self.cutoff));
        let taps: Vec<f64> = taps.collect();
        let sum: f64 = taps.iter().sum();
        taps.iter().map(|tap| (tap / sum) as f32).collect()
    }

    fn forget(&mut self, count: usize) {
        // Moving the rest costs; not worth it for a few.
        if count > 4_096 {
            self.input.drain(..count);
            self.start += count as u64;
        }
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The windowed sinc at `distance` zero crossings from its centre.
fn kernel(distance: f64) -> f64 {
    static TABLE: OnceLock<Vec<f64>> = OnceLock::new();
    let table = TABLE.get_or_init(|| (0..=CROSSINGS * POINTS + 1).map(|at| exact(at as f64 / POINTS as f64)).collect());
    let place = distance * POINTS as f64;
    let at = place as usize;
    match (table.get(at), table.get(at + 1)) {
        (Some(one), Some(next)) => one + (next - one) * (place - at as f64),
        _ => 0.0,
    }
}

fn exact(distance: f64) -> f64 {
    if distance >= CROSSINGS as f64 {
        return 0.0;
    }
    let x = distance * PI;
    let sinc = if x < 1e-9 { 1.0 } else { x.sin() / x };
    let turn = distance / CROSSINGS as f64 * PI;
    sinc * (0.42 + 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, rate_hz: u32, ms: u32) -> Vec<f32> {
        let count = rate_hz * ms / 1_000;
        (0..count).map(|at| (0.5 * (2.0 * PI * hz * f64::from(at) / f64::from(rate_hz)).sin()) as f32).collect()
    }

    fn resampled(input: &[f32], rate_hz: u32, piece: usize) -> Vec<i16> {
        let mut out = Vec::new();
        let mut resampler = Resampler::new(rate_hz);
        for samples in input.chunks(piece) {
            resampler.push(samples, &mut out);
        }
        resampler.finish(input.len() as u64, &mut out);
        out
    }

    fn rms(samples: &[i16]) -> f64 {
        (samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / samples.len() as f64).sqrt()
    }

    const RATES: &[u32] = &[6_000, 7_990, 8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 95_990];

    #[test]
    fn audio_of_the_wanted_rate_stays_what_it_is() {
        let mut input = sine(3_900.0, CLIP_RATE_HZ, 50);
        input.extend([0.25, -0.5, 0.0, 0.75]);
        let exact: Vec<i32> = input.iter().map(|sample| (f64::from(*sample) * 32_767.0).round() as i32).collect();
        let out = resampled(&input, CLIP_RATE_HZ, 7);
        assert_eq!(out.len(), exact.len());
        let worst = out.iter().zip(&exact).map(|(sample, exact)| (i32::from(*sample) - exact).abs()).max();
        assert!(worst <= Some(1), "off by {worst:?}");
    }

    #[test]
    fn speech_comes_out_as_it_went_in_at_any_rate() {
        for rate_hz in RATES {
            let out = resampled(&sine(1_000.0, *rate_hz, 400), *rate_hz, 1_000);
            assert_eq!(out.len(), 3_200, "{rate_hz}");
            let expected = sine(1_000.0, 8_000, 400);
            for at in 200..3_000 {
                let error = f64::from(out[at]) - f64::from(expected[at]) * 32_767.0;
                assert!(error.abs() < 120.0, "{rate_hz} at {at}: {error}");
            }
        }
    }

    #[test]
    fn what_would_fold_back_is_taken_away() {
        for rate_hz in [16_000, 22_050, 44_100, 48_000] {
            let out = resampled(&sine(5_500.0, rate_hz, 500), rate_hz, 1_000);
            assert!(rms(&out[200..3_800]) < 30.0, "{rate_hz}: {}", rms(&out[200..3_800]));
        }
    }

    #[test]
    fn pieces_of_any_size_give_the_same() {
        let input = sine(440.0, 44_100, 300);
        let whole = resampled(&input, 44_100, input.len());
        for piece in [1, 7, 576, 5_000] {
            assert_eq!(resampled(&input, 44_100, piece), whole, "{piece}");
        }
    }

    #[test]
    fn nothing_gives_nothing() {
        assert_eq!(resampled(&[], 44_100, 1), [0; 0]);
    }
}
