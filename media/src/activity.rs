//! Whether somebody speaks: the energy of 20 ms against the noise of the line.
//!
//! The noise is the quietest of the last one to two seconds, which between the syllables of speech is what the line
//! has by itself. It may not be taken for louder than a telephone's worst, so that a steady tone is no noise. Integer
//! arithmetic only: the same audio gives the same answer everywhere.

/// Hears 20 ms at a time.
#[derive(Clone, Debug)]
pub struct Activity {
    /// The quietest of this window and of the one before, as mean squares.
    quietest: u32,
    quietest_before: u32,
    frames: u32,
    /// Loud ones in a row.
    loud: u32,
}

impl Default for Activity {
    fn default() -> Self {
        Activity { quietest: u32::MAX, quietest_before: LEAST_NOISE, frames: 0, loud: 0 }
    }
}

impl Activity {
    /// Takes 20 ms; true where somebody speaks in them. A click is too short to be somebody.
    pub fn handle_samples(&mut self, samples: &[i16]) -> bool {
        let energy = mean_square(samples);
        let noise = self.quietest.min(self.quietest_before).clamp(LEAST_NOISE, MOST_NOISE);
        let is_loud = energy >= LEAST_VOICE.max(noise * OVER_NOISE);
        self.loud = if is_loud { self.loud + 1 } else { 0 };
        // Digital silence is a pause of the peer's codec, and says nothing of its line.
        if energy >= LEAST_NOISE {
            self.quietest = self.quietest.min(energy);
        }
        self.frames += 1;
        if self.frames == WINDOW {
            self.frames = 0;
            if self.quietest != u32::MAX {
                self.quietest_before = std::mem::replace(&mut self.quietest, u32::MAX);
            }
        }
        self.loud >= ONSET
    }
}

/// Who speaks, for a display: a word begins it, and only a pause ends it.
#[derive(Clone, Debug, Default)]
pub struct Speech {
    activity: Activity,
    /// Frames with and without a voice, in a row.
    voiced: u32,
    quiet: u32,
    is_speaking: bool,
}

impl Speech {
    /// Takes 20 ms, or that there were none; the new state where it changes.
    pub fn handle_samples(&mut self, samples: Option<&[i16]>) -> Option<bool> {
        let is_voice = samples.is_some_and(|samples| self.activity.handle_samples(samples));
        (self.voiced, self.quiet) = if is_voice { (self.voiced + 1, 0) } else { (0, self.quiet.saturating_add(1)) };
        let speaks = if self.is_speaking { self.quiet < PAUSE } else { self.voiced >= WORD };
        (speaks != self.is_speaking).then(|| {
            self.is_speaking = speaks;
            speaks
        })
    }

    pub fn is_speaking(&self) -> bool {
        self.is_speaking
    }
}

fn mean_square(samples: &[i16]) -> u32 {
    let sum: u64 = samples.iter().map(|sample| u64::from(sample.unsigned_abs()).pow(2)).sum();
    (sum / samples.len().max(1) as u64) as u32
}

/// A root mean square of 8, the idle code of A-law: -72 dB of full scale.
const LEAST_NOISE: u32 = 64;
/// -40 dB of full scale. What is steady and louder is a tone or music.
const MOST_NOISE: u32 = 320 * 320;
/// -50 dB of full scale: quieter is nobody, however quiet the line.
const LEAST_VOICE: u32 = 104 * 104;
/// 10 dB.
const OVER_NOISE: u32 = 10;
/// 800 ms.
const WINDOW: u32 = 40;
/// 40 ms.
const ONSET: u32 = 2;
/// 60 ms on top of the onset.
const WORD: u32 = 3;
/// 800 ms.
const PAUSE: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// 20 ms of noise of this root mean square, nearly.
    fn noise(random: &mut Random, rms: f64) -> Vec<i16> {
        (0..160).map(|_| ((random.next_unit() - 0.5) * rms * 12f64.sqrt()) as i16).collect()
    }

    /// What is said of each 20 ms, after the first `skip`.
    fn heard(frames: impl Iterator<Item = Vec<i16>>, skip: usize) -> Vec<bool> {
        let mut activity = Activity::default();
        frames.map(|frame| activity.handle_samples(&frame)).skip(skip).collect()
    }

    #[test]
    fn noise_of_a_line_is_silence_at_once_or_after_a_window() {
        let mut random = Random::new(1, 1);
        for (rms, learnt) in [(0.0, 0), (8.0, 0), (60.0, 0), (90.0, 0), (200.0, 80), (300.0, 80), (600.0, 80)] {
            let frames: Vec<_> = (0..400).map(|_| noise(&mut random, rms)).collect();
            let voiced = heard(frames.into_iter(), learnt).into_iter().filter(|voice| *voice).count();
            assert_eq!(voiced, 0, "{rms}");
        }
    }

    #[test]
    fn voice_is_found_on_quiet_and_on_noisy_lines() {
        let mut random = Random::new(2, 2);
        for (line, voice) in [(0.0, 400.0), (8.0, 400.0), (60.0, 1000.0), (200.0, 2500.0), (300.0, 4000.0)] {
            // Words of 300 ms that swell and fade, with pauses of 200 ms between them, after 2 s of the line alone.
            let loudness = |index: usize| match (index % 25) as f64 {
                within if index >= 100 && within < 15.0 => {
                    line + voice * ((within + 0.5) / 15.0 * std::f64::consts::PI).sin()
                }
                _ => line,
            };
            let frames: Vec<_> = (0..400).map(|index| noise(&mut random, loudness(index))).collect();
            let said = heard(frames.into_iter(), 0);
            for word in said[100..].chunks(25) {
                let voiced = word[..15].iter().filter(|voice| **voice).count();
                assert!(voiced >= 9, "{line} {voice}: {voiced} of 15");
                assert!(word[15..].iter().all(|voice| !voice), "{line} {voice}: in a pause");
            }
            assert!(said[80..100].iter().all(|voice| !voice), "{line}");
        }
    }

    #[test]
    fn steady_tone_stays_a_voice_and_a_click_is_none() {
        let tone = |_| (0..160).map(|i| if i % 8 < 4 { 3000 } else { -3000 }).collect();
        assert!(heard((0..1000).map(tone), 1).iter().all(|voice| *voice));
        let clicks = (0..500).map(|index| if index % 10 == 0 { vec![20_000; 160] } else { vec![0; 160] });
        assert!(heard(clicks, 0).iter().all(|voice| !voice));
    }

    #[test]
    fn speaking_begins_with_a_word_and_ends_with_a_pause() {
        let (loud, quiet) = (vec![5000i16; 160], vec![0i16; 160]);
        let mut speech = Speech::default();
        let mut changes = Vec::new();
        // Frames of voice and of none in turn: a cough, a word, a breath, a word, a pause in which nothing comes.
        let mut at = 0;
        for (frames, audio) in
            [(3, Some(&loud)), (20, Some(&quiet)), (20, Some(&loud)), (30, Some(&quiet)), (10, Some(&loud)), (60, None)]
        {
            for _ in 0..frames {
                if let Some(speaks) = speech.handle_samples(audio.map(Vec::as_slice)) {
                    changes.push((at, speaks));
                }
                at += 1;
            }
        }
        assert_eq!(changes, [(26, true), (122, false)]);
        assert!(!speech.is_speaking());
    }
}
