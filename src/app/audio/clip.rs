//! Clips: audio that is ready to be played, and the store that finds it by its content.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// The rate of every clip.
pub const CLIP_RATE_HZ: u32 = 8_000;

/// SHA-256 of a clip's samples: equal audio has one name, wherever it came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClipHash(pub [u8; 32]);

impl fmt::Debug for ClipHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Audio as a worker wants it: 16-bit little-endian samples, mono, 8 kHz. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clip {
    pub hash: ClipHash,
    pub samples: Bytes,
}

impl Clip {
    /// Names samples by their content. Costs a hash over all of them.
    pub fn new(samples: Bytes) -> Self {
        Self { hash: ClipHash(Sha256::digest(&samples).into()), samples }
    }

    pub fn duration_ms(&self) -> u64 {
        self.samples.len() as u64 / 2 * 1_000 / u64::from(CLIP_RATE_HZ)
    }
}

/// Clips by their hash, bounded by bytes: those that were not asked for longest go first.
///
/// A clip that is larger than the bound is not kept. Whoever holds a clip shares its bytes, so nothing is taken from
/// under it.
pub struct Clips {
    limit_bytes: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    by_hash: HashMap<ClipHash, (Clip, u64)>,
    /// When each was asked for last, as a count of such times.
    by_use: BTreeMap<u64, ClipHash>,
    uses: u64,
    len_bytes: usize,
}

impl Clips {
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, shelf: Mutex::default() }
    }

    /// Keeps a clip; one that is there already counts as asked for.
    pub fn insert(&self, clip: Clip) {
        if clip.samples.len() > self.limit_bytes {
            return;
        }
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.touch(clip.hash).is_some() {
            return;
        }
        shelf.len_bytes += clip.samples.len();
        while shelf.len_bytes > self.limit_bytes {
            shelf.drop_oldest();
        }
        shelf.uses += 1;
        let (hash, used) = (clip.hash, shelf.uses);
        shelf.by_use.insert(used, hash);
        shelf.by_hash.insert(hash, (clip, used));
    }

    pub fn find(&self, hash: ClipHash) -> Option<Clip> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner).touch(hash)
    }
}

impl Shelf {
    fn touch(&mut self, hash: ClipHash) -> Option<Clip> {
        let (clip, used) = self.by_hash.get_mut(&hash)?;
        self.uses += 1;
        self.by_use.remove(used);
        *used = self.uses;
        self.by_use.insert(*used, hash);
        Some(clip.clone())
    }

    fn drop_oldest(&mut self) {
        let Some((_, hash)) = self.by_use.pop_first() else { return };
        if let Some((clip, _)) = self.by_hash.remove(&hash) {
            self.len_bytes -= clip.samples.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(byte: u8) -> Clip {
        Clip::new(Bytes::from(vec![byte; 1_600]))
    }

    #[test]
    fn clips_are_named_by_content_and_measured() {
        assert_eq!(clip(1), clip(1));
        assert_ne!(clip(1).hash, clip(2).hash);
        assert_eq!(clip(1).duration_ms(), 100);
    }

    #[test]
    fn least_used_goes_first() {
        let clips = Clips::new(4_000);
        clips.insert(clip(1));
        clips.insert(clip(2));
        assert!(clips.find(clip(1).hash).is_some());
        clips.insert(clip(3));
        let present = [1, 2, 3].map(|byte| clips.find(clip(byte).hash).is_some());
        assert_eq!(present, [true, false, true]);
        clips.insert(clip(3));
        clips.insert(Clip::new(Bytes::from(vec![0; 5_000])));
        assert!(clips.find(clip(1).hash).is_some(), "what is too large pushes nothing out");
    }
}
