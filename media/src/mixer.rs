//! The sum of what many say, and from it what each of them hears.
//!
//! The total is made once, and a listener's own voice is taken out of it again: the cost grows with the number of
//! voices, not with its square. Sums are of 32 bits, in which 65 000 voices at full scale fit, so that total minus own
//! is exact; only what goes out is brought down to 16 bits. Knows nothing of legs, packets or clocks.

use crate::playout::{FRAME_SAMPLES, Samples};

/// The total of one packet time.
pub struct Mix {
    total: [i32; FRAME_SAMPLES],
    /// The last samples of voices that ended since: they fade in the packet time that comes.
    parted: i32,
    is_silent: bool,
}

impl Default for Mix {
    fn default() -> Self {
        Mix { total: [0; FRAME_SAMPLES], parted: 0, is_silent: true }
    }
}

impl Mix {
    /// Begins the next packet time: nobody has said anything, but for the end of who is gone.
    pub fn begin(&mut self) {
        let parted = std::mem::take(&mut self.parted);
        self.is_silent = parted == 0;
        self.total = fading(parted);
    }

    pub fn add(&mut self, voice: &Samples) {
        self.is_silent = false;
        for (sum, sample) in self.total.iter_mut().zip(voice) {
            *sum += i32::from(*sample);
        }
    }

    /// A voice that was in the total is gone; `last` is where it broke off.
    pub fn part(&mut self, last: i16) {
        self.parted += i32::from(last);
    }

    pub fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// What is heard by somebody whose own voice is not in the total.
    pub fn whole(&self) -> Samples {
        limited(&self.total)
    }

    /// What is heard by one whose own voice is in the total, if it is, and to whom others whisper.
    pub fn heard_by<'a>(&self, own: Option<&Samples>, whispers: impl Iterator<Item = &'a Samples>) -> Samples {
        let mut sums = self.total;
        if let Some(own) = own {
            sums.iter_mut().zip(own).for_each(|(sum, sample)| *sum -= i32::from(*sample));
        }
        for whisper in whispers {
            sums.iter_mut().zip(whisper).for_each(|(sum, sample)| *sum += i32::from(*sample));
        }
        limited(&sums)
    }
}

/// Two voices as one.
pub fn sum(a: i16, b: i16) -> i16 {
    limit(i32::from(a) + i32::from(b))
}

/// The first 4 ms rise from nothing: a voice that is cut into does not click.
pub fn fade_in(samples: &mut [i16]) {
    for (index, sample) in samples.iter_mut().take(FADE).enumerate() {
        *sample = (i32::from(*sample) * index as i32 / FADE as i32) as i16;
    }
}

/// 4 ms down from the sample at which a voice broke off, and then nothing.
pub fn fade_out(last: i16) -> Samples {
    fading(i32::from(last)).map(|sample| sample as i16)
}

fn fading(last: i32) -> [i32; FRAME_SAMPLES] {
    std::array::from_fn(|index| last / FADE as i32 * FADE.saturating_sub(index + 1) as i32)
}

fn limited(sums: &[i32; FRAME_SAMPLES]) -> Samples {
    let loudest = sums.iter().fold(0, |loudest, sum| loudest.max(sum.unsigned_abs()));
    if loudest <= KNEE as u32 { sums.map(|sum| sum as i16) } else { sums.map(limit) }
}

/// A sum in 16 bits. Up to the knee it is as it is; above, it is bent towards full scale and never reaches it.
///
/// To clip would put an edge into the wave at each peak of two loud voices, which is heard as a crackle. The bend has
/// slope one at the knee, so there is no edge anywhere, and it needs no memory: a limiter that turns the gain down and
/// up again would need one for each listener, and make a quiet voice pump beside a loud one.
fn limit(sum: i32) -> i16 {
    let over = i64::from(sum.unsigned_abs()) - KNEE;
    if over <= 0 {
        return sum as i16;
    }
    let bent = KNEE + over * ROOM / (over + ROOM);
    (if sum < 0 { -bent } else { bent }) as i16
}

/// Three quarters of full scale.
const KNEE: i64 = 24_576;
const ROOM: i64 = i16::MAX as i64 - KNEE;
/// 4 ms: shorter is heard as a click, longer eats the first consonant.
const FADE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hears_the_others_exactly() {
        let voices: [Samples; 3] = [1000, -200, 30].map(|value| [value; FRAME_SAMPLES]);
        let mut mix = Mix::default();
        mix.begin();
        voices.iter().for_each(|voice| mix.add(voice));
        assert_eq!(mix.whole(), [830; FRAME_SAMPLES]);
        for (own, others) in voices.iter().zip([-170, 1030, 800]) {
            assert_eq!(mix.heard_by(Some(own), [].into_iter()), [others; FRAME_SAMPLES]);
        }
        assert_eq!(mix.heard_by(None, [&[7; FRAME_SAMPLES]].into_iter()), [837; FRAME_SAMPLES]);
        mix.begin();
        assert!(mix.is_silent());
        assert_eq!(mix.whole(), [0; FRAME_SAMPLES]);
    }

    #[test]
    fn sum_beyond_full_scale_is_exact_again_without_the_loudest() {
        let mut mix = Mix::default();
        mix.begin();
        let (loud, quiet) = ([i16::MAX; FRAME_SAMPLES], [5; FRAME_SAMPLES]);
        (0..1000).for_each(|_| mix.add(&loud));
        mix.add(&quiet);
        for _ in 0..1000 {
            mix.total.iter_mut().for_each(|sum| *sum -= i32::from(i16::MAX));
        }
        assert_eq!(mix.whole(), quiet);
    }

    #[test]
    fn limiter_is_even_rises_everywhere_and_has_no_edge() {
        assert_eq!((limit(24_576), limit(-24_576)), (24_576, -24_576));
        let (mut before, mut slope_before) = (0, 1);
        for value in (0..200_000).step_by(100) {
            let limited = i32::from(limit(value));
            assert_eq!(i32::from(limit(-value)), -limited);
            let slope = limited - before;
            assert!((0..=100).contains(&slope) && (value < 200 || slope_before - slope <= 3), "{value}: {slope}");
            (before, slope_before) = (limited, slope);
        }
        assert!((31_000..32_767).contains(&before), "{before}");
        assert_eq!(limit(i32::MAX), limit(-i32::MAX).saturating_neg());
    }

    #[test]
    fn voice_that_breaks_off_or_begins_at_full_scale_does_not_step() {
        let steepest = |samples: &[i16]| {
            samples.windows(2).map(|pair| (i32::from(pair[0]) - i32::from(pair[1])).abs()).max().unwrap()
        };
        let loud = [i16::MAX; FRAME_SAMPLES];
        let mut begun = loud;
        fade_in(&mut begun);
        assert_eq!((begun[0], begun[FADE]), (0, i16::MAX));
        let over = fade_out(i16::MAX);
        assert_eq!(over[FADE - 1..], [0; FRAME_SAMPLES - FADE + 1]);
        assert!(steepest(&[&begun[..], &loud, &over].concat()) < 1100);
        let mut mix = Mix::default();
        (0..3).for_each(|_| mix.part(-9000));
        mix.begin();
        assert!(!mix.is_silent());
        assert!(mix.total[0] < -24_000 && mix.total[FADE - 1] == 0);
        mix.begin();
        assert!(mix.is_silent());
    }
}
