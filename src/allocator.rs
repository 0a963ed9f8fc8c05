//! Where the program's memory comes from.

use std::alloc::{GlobalAlloc, Layout};

use mimalloc::MiMalloc;
use rustix::mm::{Advice, madvise};

/// From this size on, zeros are asked of the kernel and not written: below, the question costs more than writing them.
const LARGE: usize = 8 * 1024;
/// The kernel has zeros by the page. Where its pages are larger it may refuse, and then all zeros are written.
const PAGE: usize = 4096;

/// mimalloc, but for zeros in large blocks that were used before.
///
/// mimalloc writes them, which makes every page of such a block take memory. The kernel has a page of zeros for nothing until it
/// is written: the Opus codec of a leg asks for 260 kB of them, and at 8 kHz writes into a dozen pages.
pub struct Allocator;

// SAFETY: all memory is mimalloc's, by its own rules; what is freed it knows by its address, whichever layout it was asked for by.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that it asks for.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() < LARGE {
            // SAFETY: as above.
            return unsafe { MiMalloc.alloc_zeroed(layout) };
        }
        let Ok(pages) = Layout::from_size_align(layout.size().next_multiple_of(PAGE), layout.align().max(PAGE)) else {
            return std::ptr::null_mut();
        };
        // SAFETY: of more than no bytes.
        let block = unsafe { MiMalloc.alloc(pages) };
        if !block.is_null() {
            // SAFETY: the block is these pages, and nobody else's.
            unsafe { fill_with_zeros(block, pages.size()) };
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(block, layout) }
    }
}

/// # Safety
/// `block` is whole pages, private to this process and without a name, and nothing refers to them.
unsafe fn fill_with_zeros(block: *mut u8, size: usize) {
    // SAFETY: such memory is zeros afterwards (madvise(2), MADV_DONTNEED).
    if unsafe { madvise(block.cast(), size, Advice::LinuxDontNeed) }.is_err() {
        // SAFETY: it is that long.
        unsafe { block.write_bytes(0, size) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    /// How many pages of a block take memory: bit 63 of their words (proc_pid_pagemap(5)).
    fn pages_in_memory(block: *const u8, size: usize) -> usize {
        let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
        let first = block.addr() / PAGE;
        let mut words = vec![0; ((block.addr() + size).div_ceil(PAGE) - first) * 8];
        pagemap.read_exact_at(&mut words, first as u64 * 8).unwrap();
        words.chunks(8).filter(|word| word[7] & 0x80 != 0).count()
    }

    #[test]
    fn zeros_of_a_used_block_are_zeros_and_take_no_memory() {
        for size in [LARGE, LARGE + 1, 40_001, 65_536, 150_000, 1 << 20] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            // The second and third are the block of the first, as mimalloc gives what was freed last.
            for _ in 0..3 {
                // SAFETY: each block is used within its layout, and freed once.
                unsafe {
                    let block = Allocator.alloc_zeroed(layout);
                    assert_eq!(pages_in_memory(block, size), 0, "{size} bytes");
                    let bytes = std::slice::from_raw_parts_mut(block, size);
                    assert!(bytes.iter().all(|byte| *byte == 0), "{size} bytes");
                    bytes.fill(0xaa);
                    Allocator.dealloc(block, layout);
                }
            }
        }
    }

    #[test]
    fn a_block_that_grows_keeps_what_it_has() {
        let layout = Layout::from_size_align(LARGE, 8).unwrap();
        // SAFETY: the block is used within its layouts, and freed once.
        unsafe {
            let block = Allocator.alloc_zeroed(layout);
            block.write_bytes(7, LARGE);
            let grown = Allocator.realloc(block, layout, 4 * LARGE);
            assert!(std::slice::from_raw_parts(grown, LARGE).iter().all(|byte| *byte == 7));
            Allocator.dealloc(grown, Layout::from_size_align(4 * LARGE, 8).unwrap());
        }
    }
}
