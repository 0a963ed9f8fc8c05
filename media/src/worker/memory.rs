//! Memory that outlives the worker: for each pair of ports what is [`Hot`] of its leg, shared with the keeper, which gives it
//! to whoever takes the worker's place.
//!
//! A page for the worker itself, then a kilobyte for each pair: a count of writes, whether a leg has the pair, and two copies that
//! are written in turn, so that a worker that dies in the midst of one leaves the other whole. Each copy has 60 words, of which half are in use. There
//! are keys of encrypted legs among them: the memory has no name, and only the keeper and its workers have it.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::ids::{LegId, SessionId};
use crate::leg::Hot;

const WORD: usize = 8;
const HEADER: usize = 4096 / WORD;
const SLOT: usize = 1024 / WORD;
/// Whether a leg has the pair, in a slot.
const TAKEN: usize = 1;
/// Of the first copy in a slot, and the words of each.
const COPIES: usize = 8;
const COPY: usize = (SLOT - COPIES) / 2;
/// What the memory is: another layout is not read.
const MAGIC: u64 = 0x4449_414C_544F_4E03;

/// The memory of a worker. Clones are the same.
#[derive(Clone)]
pub struct Memory(Arc<Map>);

struct Map {
    words: *const AtomicU64,
    len: usize,
}

// SAFETY: it is only ever accessed as atomics, and unmapped with its last owner.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory(..)")
    }
}

impl Memory {
    /// Bytes for a worker with these ports.
    pub fn bytes_for(ports: RangeInclusive<u16>) -> u64 {
        let pairs = usize::from(*ports.end()) / 2 - usize::from(*ports.start()) / 2 + 1;
        ((HEADER + pairs * SLOT) * WORD) as u64
    }

    /// Maps memory of the size that [`Memory::bytes_for`] says.
    pub fn map(memory: &OwnedFd, ports: RangeInclusive<u16>) -> io::Result<Memory> {
        let bytes = Memory::bytes_for(ports);
        if rustix::fs::fstat(memory)?.st_size.cast_unsigned() < bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the memory is too small"));
        }
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        // SAFETY: a new mapping, wherever the system puts it, of memory that is never made smaller.
        let start = unsafe {
            mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, memory, 0)?
        };
        let mapped = Memory(Arc::new(Map { words: start.cast(), len: bytes / WORD }));
        if mapped.word(0).load(Ordering::Relaxed) != MAGIC {
            mapped.0.all().iter().for_each(|word| word.store(0, Ordering::Relaxed));
            mapped.word(0).store(MAGIC, Ordering::Relaxed);
        }
        Ok(mapped)
    }

    /// The session that the worker works for, 0 between two.
    pub fn set_working_for(&self, session: u64) {
        self.word(1).store(session, Ordering::Relaxed);
    }

    pub fn working_for(&self) -> u64 {
        self.word(1).load(Ordering::Relaxed)
    }

    /// Whether a leg has that pair, written down or not yet.
    pub fn set_taken(&self, pair: usize, is_taken: bool) {
        if let Some(slot) = self.slot(pair) {
            slot[TAKEN].store(u64::from(is_taken), Ordering::Relaxed);
        }
    }

    pub fn is_taken(&self, pair: usize) -> bool {
        self.slot(pair).is_some_and(|slot| slot[TAKEN].load(Ordering::Relaxed) != 0)
    }

    /// Writes a leg down, by its pair of ports. About 20 ns.
    pub fn write(&self, pair: usize, session: SessionId, leg: LegId, hot: &Hot) {
        let Some(slot) = self.slot(pair) else { return };
        let count = slot[0].load(Ordering::Relaxed) + 1;
        let copy = copy_of(slot, count);
        copy[0].store(session.0, Ordering::Relaxed);
        copy[1].store(u64::from(leg.0), Ordering::Relaxed);
        for (word, value) in copy[2..].iter().zip(hot.to_words()) {
            word.store(value, Ordering::Relaxed);
        }
        // With this the copy holds; the other is as it was.
        slot[0].store(count, Ordering::Release);
    }

    /// What was written last of that leg.
    pub fn read(&self, pair: usize, session: SessionId, leg: LegId) -> Option<Hot> {
        let slot = self.slot(pair)?;
        let count = slot[0].load(Ordering::Acquire);
        let copy = copy_of(slot, count);
        let is_its = count > 0
            && copy[0].load(Ordering::Relaxed) == session.0
            && copy[1].load(Ordering::Relaxed) == u64::from(leg.0);
        is_its.then(|| Hot::from_words(&std::array::from_fn(|at| copy[2 + at].load(Ordering::Relaxed))))
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.0.all()[at]
    }

    fn slot(&self, pair: usize) -> Option<&[AtomicU64]> {
        let begin = HEADER + pair * SLOT;
        self.0.all().get(begin..begin + SLOT)
    }
}

fn copy_of(slot: &[AtomicU64], count: u64) -> &[AtomicU64] {
    let begin = COPIES + if count.is_multiple_of(2) { 0 } else { COPY };
    &slot[begin..begin + COPY]
}

impl Map {
    fn all(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is that long, aligned to a page, and lives as long as this.
        unsafe { std::slice::from_raw_parts(self.words, self.len) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: nobody has it any more. What cannot be unmapped is lost with the process.
        let _ = unsafe { munmap(self.words.cast_mut().cast(), self.len * WORD) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    fn memory(ports: RangeInclusive<u16>) -> OwnedFd {
        let memory = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&memory, Memory::bytes_for(ports)).unwrap();
        memory
    }

    fn hot(next: u16) -> Hot {
        Hot { ssrc: 7, next, ..Hot::default() }
    }

    #[test]
    fn whoever_maps_it_next_reads_what_was_written_last() {
        let memory = memory(4000..=4019);
        let first = Memory::map(&memory, 4000..=4019).unwrap();
        for next in 1..=3 {
            first.write(9, SessionId(5), LegId(1), &hot(next));
        }
        first.set_working_for(5);
        for (pair, is_taken) in [(9, true), (8, true), (8, false)] {
            first.set_taken(pair, is_taken);
        }
        drop(first);
        let second = Memory::map(&memory, 4000..=4019).unwrap();
        assert_eq!(second.read(9, SessionId(5), LegId(1)), Some(hot(3)));
        assert_eq!(second.working_for(), 5);
        assert_eq!([7, 8, 9, 10].map(|pair| second.is_taken(pair)), [false, false, true, false]);
        assert_eq!(second.read(9, SessionId(6), LegId(1)), None, "another session's");
        assert_eq!(second.read(9, SessionId(5), LegId(2)), None, "another leg's");
        assert_eq!(second.read(8, SessionId(5), LegId(1)), None, "another port's");
        second.write(10, SessionId(5), LegId(1), &hot(1));
        assert_eq!(second.read(10, SessionId(5), LegId(1)), None, "there is no such pair");
    }

    #[test]
    fn write_that_was_cut_short_leaves_the_one_before() {
        let memory = memory(4000..=4001);
        let mapped = Memory::map(&memory, 4000..=4001).unwrap();
        mapped.write(0, SessionId(5), LegId(1), &hot(1));
        mapped.write(0, SessionId(5), LegId(1), &hot(2));
        // All but the count of a third one.
        let slot = mapped.slot(0).unwrap();
        copy_of(slot, 3)[3].store(3, Ordering::Relaxed);
        assert_eq!(mapped.read(0, SessionId(5), LegId(1)), Some(hot(2)));
    }

    #[test]
    fn memory_that_is_too_small_is_refused() {
        assert!(Memory::map(&memory(4000..=4001), 4000..=4003).is_err());
    }
}
