//! Fills what was lost: the last pitch period again, fading out over 60 ms (after ITU-T G.711 appendix I).
//!
//! Knows nothing of packets; it is shown good samples, and asked for some where there are none.

/// The memory of a voice, 40 ms long.
pub struct Concealer {
    history: [i16; HISTORY],
    /// Samples concealed since the last good one.
    concealed: usize,
    /// The pitch period that is repeated, found at the first loss.
    period: usize,
}

impl Default for Concealer {
    fn default() -> Self {
        Concealer { history: [0; HISTORY], concealed: 0, period: LONGEST }
    }
}

impl Concealer {
    /// Takes good samples; the first ones after a loss are blended with what was made up for it.
    pub fn handle_samples(&mut self, samples: &mut [i16]) {
        if self.concealed > 0 {
            let mut made_up = [0; BLEND];
            self.conceal(&mut made_up);
            for (i, (sample, made_up)) in samples.iter_mut().zip(made_up).enumerate() {
                let share = i as i32 + 1;
                *sample =
                    ((i32::from(*sample) * share + i32::from(made_up) * (BLEND as i32 - share)) / BLEND as i32) as i16;
            }
            self.concealed = 0;
        }
        let kept = samples.len().min(HISTORY);
        self.history.copy_within(kept.., 0);
        self.history[HISTORY - kept..].copy_from_slice(&samples[samples.len() - kept..]);
    }

    /// Makes up samples.
    pub fn conceal(&mut self, samples: &mut [i16]) {
        if self.concealed == 0 {
            self.period = self.pitch();
        }
        for sample in samples {
            let repeated = self.history[HISTORY - self.period + self.concealed % self.period];
            *sample = (i32::from(repeated) * gain(self.concealed) / FULL) as i16;
            self.concealed += 1;
        }
    }

    /// Whether what is made up has faded to nothing.
    pub fn has_faded(&self) -> bool {
        self.concealed >= FADED
    }

    /// The distance at which the end of the history is most like itself.
    fn pitch(&self) -> usize {
        let end = &self.history[HISTORY - WINDOW..];
        let likeness = |period: &usize| {
            let earlier = &self.history[HISTORY - WINDOW - period..HISTORY - period];
            let product =
                |a: &[i16], b: &[i16]| a.iter().zip(b).map(|(a, b)| i64::from(*a) * i64::from(*b)).sum::<i64>() as f64;
            product(end, earlier) / (product(earlier, earlier) + 1.0).sqrt()
        };
        (SHORTEST..=LONGEST).max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or(LONGEST)
    }
}

/// Full for 10 ms, then down to nothing at 60 ms.
fn gain(concealed: usize) -> i32 {
    let faded = concealed.saturating_sub(HOLD).min(FADED - HOLD);
    FULL - FULL * faded as i32 / (FADED - HOLD) as i32
}

const HISTORY: usize = 320;
/// 20 ms are compared.
const WINDOW: usize = 160;
/// 66 to 200 Hz and above: a period of a higher voice is found as a multiple.
const SHORTEST: usize = 40;
const LONGEST: usize = 120;
const HOLD: usize = 80;
const FADED: usize = 480;
const BLEND: usize = 32;
const FULL: i32 = 1 << 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(from: usize, count: usize) -> Vec<i16> {
        let sine = |i: usize, hz: f32| (std::f32::consts::TAU * hz * i as f32 / 8000.0).sin();
        (from..from + count).map(|i| (6000.0 * sine(i, 125.0) + 3000.0 * sine(i, 250.0)) as i16).collect()
    }

    fn after_voice() -> Concealer {
        let mut concealer = Concealer::default();
        for part in voice(0, 800).chunks_mut(160) {
            concealer.handle_samples(part);
        }
        concealer
    }

    #[test]
    fn first_lost_packet_sounds_like_the_voice_went_on() {
        let mut made_up = [0; 80];
        after_voice().conceal(&mut made_up);
        let exact = voice(800, 80);
        let off = made_up.iter().zip(&exact).map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs()).max().unwrap();
        assert!(off < 300, "{off}");
    }

    #[test]
    fn long_loss_fades_to_silence() {
        let mut concealer = after_voice();
        let mut loudest = Vec::new();
        for _ in 0..4 {
            let mut made_up = [0; 160];
            concealer.conceal(&mut made_up);
            loudest.push(made_up.iter().map(|sample| i32::from(sample.abs())).max().unwrap());
        }
        assert!(loudest.windows(2).all(|pair| pair[0] > pair[1] || pair[1] == 0), "{loudest:?}");
        assert_eq!(loudest[3], 0);
        assert!(concealer.has_faded());
    }

    #[test]
    fn return_of_the_voice_does_not_click() {
        let mut concealer = after_voice();
        let mut made_up = [0; 160];
        concealer.conceal(&mut made_up);
        // It returns with another phase.
        let mut back = voice(1003, 160);
        concealer.handle_samples(&mut back);
        let step = |a: i16, b: i16| (i32::from(a) - i32::from(b)).abs();
        let steepest = voice(0, 160).windows(2).map(|pair| step(pair[0], pair[1])).max().unwrap();
        assert!(step(made_up[159], back[0]) < 2 * steepest);
        assert!(back.windows(2).all(|pair| step(pair[0], pair[1]) < 2 * steepest));
    }
}
