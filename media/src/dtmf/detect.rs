//! Digits out of audio, for peers without telephone-event: Goertzel filters over blocks of 12.75 ms.
//!
//! A block holds a digit if one row and one column stand out: loud enough, within the twist that lines have,
//! 8 dB over the other rows and columns, and with four fifths of all the energy, which speech and music do not
//! have (talk-off). Two such blocks in a row are a press, so that 40 ms are always found and 20 ms never
//! (ITU-T Q.24).

use super::{COLUMNS_HZ, Key, KeyEvent, ROWS_HZ};

/// Finds digits in samples at 8 kHz. Under 1 us for 20 ms; never allocates.
pub struct Detector {
    filters: Filters,
    energy: f32,
    filled: usize,
    last_hit: Option<Key>,
    sounding: Option<Key>,
    blocks: u32,
}

/// Eight Goertzel filters side by side, rows and then columns: they run as one vector.
struct Filters {
    coefficients: [f32; 8],
    v1: [f32; 8],
    v2: [f32; 8],
}

impl Default for Detector {
    fn default() -> Self {
        Detector { filters: Filters::default(), energy: 0.0, filled: 0, last_hit: None, sounding: None, blocks: 0 }
    }
}

impl Detector {
    /// Takes samples in the order in which they arrive, and tells what begins and ends in them.
    pub fn handle_samples(&mut self, samples: &[i16], mut out: impl FnMut(KeyEvent)) {
        for part in samples.chunks(BLOCK) {
            let (now, later) = part.split_at(part.len().min(BLOCK - self.filled));
            self.feed(now, &mut out);
            self.feed(later, &mut out);
        }
    }

    /// Whether a digit is, or may be, in the audio right now.
    pub fn is_sounding(&self) -> bool {
        self.sounding.is_some() || self.last_hit.is_some()
    }

    /// Takes at most the rest of a block.
    fn feed(&mut self, samples: &[i16], out: &mut impl FnMut(KeyEvent)) {
        self.energy += self.filters.feed(samples);
        self.filled += samples.len();
        if self.filled == BLOCK {
            let powers = self.filters.take_powers();
            let hit = key_of(&powers, std::mem::take(&mut self.energy));
            self.filled = 0;
            self.end_block(hit, out);
        }
    }

    fn end_block(&mut self, hit: Option<Key>, out: &mut impl FnMut(KeyEvent)) {
        self.blocks += 1;
        // One block alone, of a digit or of none, changes nothing.
        if hit == self.last_hit && hit != self.sounding {
            if let Some(key) = self.sounding.take() {
                // The two blocks that ended it are not part of it.
                out(KeyEvent::Released { key, duration_ms: self.blocks.saturating_sub(2) * BLOCK as u32 / 8 });
            }
            if let Some(key) = hit {
                self.blocks = 2;
                out(KeyEvent::Pressed(key));
            }
            self.sounding = hit;
        }
        self.last_hit = hit;
    }
}

impl Default for Filters {
    fn default() -> Self {
        let coefficient = |hz: u32| 2.0 * (std::f32::consts::TAU * hz as f32 / 8000.0).cos();
        let mut coefficients = [0.0; 8];
        for (slot, hz) in coefficients.iter_mut().zip(ROWS_HZ.into_iter().chain(COLUMNS_HZ)) {
            *slot = coefficient(hz);
        }
        Filters { coefficients, v1: [0.0; 8], v2: [0.0; 8] }
    }
}

impl Filters {
    /// Takes samples; their energy.
    fn feed(&mut self, samples: &[i16]) -> f32 {
        let Filters { coefficients, mut v1, mut v2 } = *self;
        let mut energy = 0.0;
        for sample in samples {
            let sample = f32::from(*sample);
            energy += sample * sample;
            let v0: [f32; 8] = std::array::from_fn(|i| coefficients[i] * v1[i] + sample - v2[i]);
            (v1, v2) = (v0, v1);
        }
        (self.v1, self.v2) = (v1, v2);
        energy
    }

    /// The power at each frequency since the last call.
    fn take_powers(&mut self) -> [f32; 8] {
        let (v1, v2) = (std::mem::take(&mut self.v1), std::mem::take(&mut self.v2));
        std::array::from_fn(|i| v1[i] * v1[i] + v2[i] * v2[i] - self.coefficients[i] * v1[i] * v2[i])
    }
}

fn key_of(powers: &[f32; 8], energy: f32) -> Option<Key> {
    let (rows, columns) = powers.split_at(4);
    let ((row, row_power), (column, column_power)) = (loudest(rows), loudest(columns));
    let loud = row_power > THRESHOLD && column_power > THRESHOLD;
    let balanced = column_power < row_power * REVERSE_TWIST && row_power < column_power * NORMAL_TWIST;
    let stands_out = |powers: &[f32], at: usize| {
        powers.iter().enumerate().all(|(other, power)| other == at || power * RELATIVE_PEAK < powers[at])
    };
    let pure = row_power + column_power > PURITY * energy;
    let found = loud && balanced && pure && stands_out(rows, row) && stands_out(columns, column);
    found.then(|| Key::at(row, column)).flatten()
}

fn loudest(powers: &[f32]) -> (usize, f32) {
    powers.iter().copied().enumerate().fold((0, 0.0), |best, next| if next.1 > best.1 { next } else { best })
}

/// Samples of a block: the shortest in which rows are apart, and the longest of which 40 ms always hold two.
const BLOCK: usize = 102;
/// A tone of -38 dBm0.
const THRESHOLD: f32 = (300.0 * BLOCK as f32 / 2.0) * (300.0 * BLOCK as f32 / 2.0);
/// A row 8 dB over its column, as long lines make it, and a column 4 dB over its row.
const NORMAL_TWIST: f32 = 6.3;
const REVERSE_TWIST: f32 = 2.5;
const RELATIVE_PEAK: f32 = 6.3;
/// The power of two pure tones is `BLOCK / 2` times the energy; 82 % of that.
const PURITY: f32 = 0.82 * BLOCK as f32 / 2.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// A pair of tones with amplitudes, `ms` long, off frequency by a factor.
    fn tones(key: char, ms: usize, amplitudes: [f32; 2], detune: f32) -> Vec<i16> {
        let hz = Key::from_char(key).unwrap().frequencies_hz();
        (0..ms * 8)
            .map(|i| {
                let tone = |n: usize| {
                    amplitudes[n] * (std::f32::consts::TAU * hz[n] as f32 * detune * i as f32 / 8000.0).sin()
                };
                (tone(0) + tone(1)) as i16
            })
            .collect()
    }

    /// The digits found in `samples` that begin at any place in a block, with silence around.
    fn found(samples: &[i16]) -> Vec<String> {
        let mut all: Vec<String> = (0..BLOCK)
            .map(|shift| {
                let mut detector = Detector::default();
                let mut digits = String::new();
                let padded = [&vec![0; shift][..], samples, &[0; 800]].concat();
                for part in padded.chunks(160) {
                    detector.handle_samples(part, |event| {
                        if let KeyEvent::Pressed(key) = event {
                            digits.push(key.symbol());
                        }
                    });
                }
                assert!(!detector.is_sounding());
                digits
            })
            .collect();
        all.dedup();
        all
    }

    #[test]
    fn every_key_is_found_in_40_ms_wherever_it_begins() {
        for key in "0123456789*#ABCD".chars() {
            assert_eq!(found(&tones(key, 40, [4000.0, 4000.0], 1.0)), [key.to_string()], "{key}");
        }
    }

    #[test]
    fn lines_twist_levels_and_detuning_are_taken_within_limits() {
        let table = [
            ("normal twist of 6 dB", tones('5', 60, [8000.0, 4000.0], 1.0), "5"),
            ("reverse twist of 3 dB", tones('5', 60, [4000.0, 5600.0], 1.0), "5"),
            ("twist of 12 dB", tones('5', 60, [8000.0, 2000.0], 1.0), ""),
            ("reverse twist of 8 dB", tones('5', 60, [3200.0, 8000.0], 1.0), ""),
            ("quiet", tones('5', 60, [600.0, 600.0], 1.0), "5"),
            ("too quiet", tones('5', 60, [150.0, 150.0], 1.0), ""),
            ("1.5 % sharp", tones('5', 60, [4000.0, 4000.0], 1.015), "5"),
            ("1.5 % flat", tones('5', 60, [4000.0, 4000.0], 0.985), "5"),
            ("4 % sharp", tones('5', 60, [4000.0, 4000.0], 1.04), ""),
            ("a row alone", tones('5', 60, [6000.0, 0.0], 1.0), ""),
            ("20 ms", tones('5', 20, [4000.0, 4000.0], 1.0), ""),
        ];
        for (name, samples, expected) in table {
            assert_eq!(found(&samples), [expected], "{name}");
        }
    }

    #[test]
    fn digit_under_noise_of_15_db_is_found() {
        let mut random = Random::new(5, 5);
        let mut samples = tones('8', 80, [4000.0, 4000.0], 1.0);
        for sample in &mut samples {
            *sample += ((random.next_unit() - 0.5) * 2.0 * 1200.0) as i16;
        }
        assert_eq!(found(&samples), ["8"]);
    }

    #[test]
    fn press_lasts_from_its_begin_to_its_end() {
        let mut detector = Detector::default();
        let mut events = Vec::new();
        for part in
            [tones('1', 100, [4000.0, 4000.0], 1.0), vec![0; 800], tones('1', 200, [4000.0, 4000.0], 1.0), vec![0; 800]]
        {
            detector.handle_samples(&part, |event| events.push(event));
        }
        let durations: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                KeyEvent::Released { duration_ms, .. } => Some(*duration_ms),
                KeyEvent::Pressed(_) => None,
            })
            .collect();
        assert_eq!(events.len(), 4);
        assert!((75..=110).contains(&durations[0]) && (175..=210).contains(&durations[1]), "{durations:?}");
    }

    /// Speech-like sound: harmonics of a gliding pitch through moving formants, loud in the rows and columns.
    #[test]
    fn gliding_harmonics_are_not_taken_for_digits() {
        let mut random = Random::new(11, 0);
        let mut detector = Detector::default();
        let mut false_digits = 0;
        let (mut phase, mut pitch) = (0.0f32, 120.0f32);
        for block in 0..6000 {
            if block % 10 == 0 {
                pitch = 90.0 + 160.0 * random.next_unit() as f32;
            }
            let formant = 400.0 + 1400.0 * random.next_unit() as f32;
            let samples: Vec<i16> = (0..160)
                .map(|_| {
                    phase += std::f32::consts::TAU * pitch / 8000.0;
                    let sum: f32 = (1..16)
                        .map(|h| {
                            let distance = (pitch * h as f32 - formant) / 300.0;
                            (phase * h as f32).sin() / (1.0 + distance * distance)
                        })
                        .sum();
                    (sum * 5000.0) as i16
                })
                .collect();
            detector.handle_samples(&samples, |event| false_digits += i32::from(matches!(event, KeyEvent::Pressed(_))));
        }
        assert_eq!(false_digits, 0, "in two minutes");
    }
}
