//! Unguessable names that we mint: tags, branches, Call-IDs, nonces.
//!
//! SHA-256 in counter mode over a secret seed: as random as the seed, and the same again from the same seed, so that
//! a simulated run can be repeated.

use sha2::{Digest, Sha256};

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
    fn same_seed_gives_the_same_numbers_and_none_twice() {
        let (mut one, mut other) = (Tokens::new([7; 32]), Tokens::new([7; 32]));
        let numbers: Vec<u64> = (0..1000).map(|_| one.next_u64()).collect();
        assert!(numbers.iter().all(|number| *number == other.next_u64()));
        assert_eq!(numbers.iter().collect::<std::collections::HashSet<_>>().len(), 1000);
    }
}
