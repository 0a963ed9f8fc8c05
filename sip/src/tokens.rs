//! Unguessable names that we mint: tags, branches, Call-IDs, nonces.
//!
//! SHA-256 in counter mode over a secret seed: as random as the seed, and the same again from the same seed, so that
//! a simulated run can be repeated.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use sha2::{Digest, Sha256};

/// A map whose keys are numbers that [`Tokens`] or a keyed hash made.
///
/// Nobody outside can choose them, so a hash of its own against chosen keys would only cost: a stranger may look for any
/// key, but puts none in.
pub type TokenMap<K, V> = HashMap<K, V, BuildHasherDefault<TokenHasher>>;

/// Folds numbers that are random already.
#[derive(Default)]
pub struct TokenHasher(u64);

impl Hasher for TokenHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut number = [0; 8];
            number[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(number));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u128(&mut self, number: u128) {
        self.write_u64(number as u64);
        self.write_u64((number >> 64) as u64);
    }

    /// A table reads the lowest bits and the highest: both are of every bit.
    fn finish(&self) -> u64 {
        let folded = (self.0 ^ self.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        folded ^ folded >> 32
    }
}

/// A source of unguessable numbers.
pub struct Tokens {
    seed: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Tokens {
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0, block: [0; 32], used: 32 }
    }

    /// Sixty-four fresh bits.
    pub fn next_u64(&mut self) -> u64 {
        if self.used == self.block.len() {
            self.refill();
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.block[self.used..self.used + 8]);
        self.used += 8;
        u64::from_be_bytes(bytes)
    }

    pub fn next_u128(&mut self) -> u128 {
        u128::from(self.next_u64()) << 64 | u128::from(self.next_u64())
    }

    /// A seed or a secret that says nothing of this one's.
    pub fn next_seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        for chunk in seed.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_be_bytes());
        }
        seed
    }

    /// A number below `bound`; the bias is under 2^-32 for the small bounds that timers need.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    fn refill(&mut self) {
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(self.counter.to_be_bytes());
        self.block = hash.finalize().into();
        self.counter += 1;
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spread_over_the_ends_that_a_table_reads() {
        let hash = |key: u128| {
            let mut hasher = TokenHasher::default();
            hasher.write_u128(key);
            hasher.finish()
        };
        // Sids of one moment differ in their lower 80 bits only; numbers that count differ in the lowest.
        for keys in [(0..1000).map(|n| 0xabcd << 112 | n).collect::<Vec<u128>>(), (0..1000).map(|n| n << 40).collect()]
        {
            for bits in [0, 57] {
                let ends: std::collections::HashSet<u64> = keys.iter().map(|key| hash(*key) >> bits & 127).collect();
                assert!(ends.len() > 100, "{} of 128 at {bits}", ends.len());
            }
        }
    }

    #[test]
    fn same_seed_gives_the_same_numbers_and_none_twice() {
        let (mut one, mut other) = (Tokens::new([7; 32]), Tokens::new([7; 32]));
        let numbers: Vec<u64> = (0..1000).map(|_| one.next_u64()).collect();
        assert!(numbers.iter().all(|number| *number == other.next_u64()));
        assert_eq!(numbers.iter().collect::<std::collections::HashSet<_>>().len(), 1000);
    }
}
