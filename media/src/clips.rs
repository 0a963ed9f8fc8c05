//! The audio that a worker holds: clips by the hash of their samples, bounded by bytes, the least used go first.
//!
//! A player that plays a clip shares its bytes, so that nothing is taken from under it. Where a clip comes from,
//! and what it says, is the edge's.

use std::collections::HashMap;

use bytes::Bytes;

use crate::resample::{self, Rate};

/// The SHA-256 of a clip's samples. A hash of another length names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClipHash([u8; 32]);

impl ClipHash {
    pub fn from_bytes(bytes: &[u8]) -> Option<ClipHash> {
        bytes.try_into().ok().map(ClipHash)
    }

    pub fn to_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

/// 16-bit little-endian samples, mono. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clip {
    samples: Bytes,
    rate: Rate,
}

impl Clip {
    /// `None` for an empty clip, or a rate that we do not read. An odd last byte is left out.
    pub fn new(samples: Bytes, rate_hz: u32) -> Option<Clip> {
        let rate = Rate::from_hz(rate_hz)?;
        (samples.len() >= 2).then_some(Clip { samples, rate })
    }

    /// Its length in samples at 8 kHz; at least one.
    pub fn len_samples(&self) -> u64 {
        self.rate.samples_at_8k(self.samples.len() as u64 / 2).max(1)
    }

    /// Samples at 8 kHz from `position` on; silence beyond the end.
    pub fn read(&self, position: u64, out: &mut [i16]) {
        let sample = |index: usize| i16::from_le_bytes([self.samples[index * 2], self.samples[index * 2 + 1]]);
        resample::read_at_8k(sample, self.samples.len() / 2, self.rate, position, out);
    }

    fn len_bytes(&self) -> usize {
        self.samples.len()
    }
}

/// The clips of one worker shard.
pub struct Clips {
    clips: HashMap<ClipHash, (Clip, u64)>,
    held_bytes: usize,
    max_bytes: usize,
    /// Counts uses: what was used last has the highest number.
    uses: u64,
}

impl Clips {
    pub fn new(max_bytes: usize) -> Clips {
        Clips { clips: HashMap::new(), held_bytes: 0, max_bytes, uses: 0 }
    }

    /// Takes a clip, and lets go of those least used until all fit. A clip larger than the bound is not kept.
    pub fn insert(&mut self, hash: ClipHash, clip: Clip) {
        self.remove(hash);
        if clip.len_bytes() > self.max_bytes {
            return;
        }
        while self.held_bytes + clip.len_bytes() > self.max_bytes {
            // Inserting is rare: to look through all of them is cheaper than to keep a list in order.
            let Some(oldest) = self.clips.iter().min_by_key(|(_, (_, used))| *used).map(|(hash, _)| *hash) else {
                break;
            };
            self.remove(oldest);
        }
        self.uses += 1;
        self.held_bytes += clip.len_bytes();
        self.clips.insert(hash, (clip, self.uses));
    }

    /// A clip, if it is here; that counts as a use.
    pub fn find(&mut self, hash: ClipHash) -> Option<Clip> {
        let (clip, used) = self.clips.get_mut(&hash)?;
        self.uses += 1;
        *used = self.uses;
        Some(clip.clone())
    }

    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn remove(&mut self, hash: ClipHash) {
        if let Some((clip, _)) = self.clips.remove(&hash) {
            self.held_bytes -= clip.len_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(samples: usize) -> Clip {
        Clip::new(Bytes::from(vec![1; samples * 2]), 8000).unwrap()
    }

    fn hash(byte: u8) -> ClipHash {
        ClipHash::from_bytes(&[byte; 32]).unwrap()
    }

    #[test]
    fn least_used_clips_go_when_the_bound_is_reached() {
        let mut clips = Clips::new(1000);
        for byte in 0..5 {
            clips.insert(hash(byte), clip(100));
        }
        assert_eq!(clips.held_bytes(), 1000);
        assert!(clips.find(hash(0)).is_some());
        clips.insert(hash(9), clip(150));
        assert!(clips.held_bytes() <= 1000);
        let kept: Vec<u8> = (0..10).filter(|byte| clips.find(hash(*byte)).is_some()).collect();
        assert_eq!(kept, [0, 3, 4, 9]);
    }

    #[test]
    fn clip_that_is_replaced_or_too_large_is_accounted_for() {
        let mut clips = Clips::new(1000);
        clips.insert(hash(1), clip(100));
        clips.insert(hash(1), clip(200));
        assert_eq!(clips.held_bytes(), 400);
        clips.insert(hash(2), clip(501));
        assert!(clips.find(hash(2)).is_none());
        assert_eq!(clips.held_bytes(), 400);
    }

    #[test]
    fn clip_is_read_at_8_khz_whatever_its_rate() {
        let samples: Vec<u8> = (0..320i16).flat_map(|_| 1000i16.to_le_bytes()).collect();
        let clip = Clip::new(Bytes::from(samples), 16_000).unwrap();
        assert_eq!(clip.len_samples(), 160);
        let mut out = [0; 10];
        clip.read(75, &mut out);
        assert!(out.iter().all(|sample| (995..=1005).contains(sample)), "{out:?}");
        assert!(Clip::new(Bytes::from_static(&[1, 2]), 11_025).is_none());
        assert!(Clip::new(Bytes::from_static(&[1]), 8000).is_none());
        assert!(ClipHash::from_bytes(&[0; 31]).is_none());
    }
}
