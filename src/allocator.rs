//! Where the program's memory comes from.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};
use rustix::mm::{Advice, madvise};

/// From this size on, zeros are asked of the kernel and not written: below, the question costs more than writing them.
const LARGE: usize = 8 * 1024;
/// The kernel has zeros by the page. Where its pages are larger it may refuse, and then all zeros are written.
const PAGE: usize = 4096;

/// mimalloc, asked for an alignment only where it would not come by itself: to ask costs as much as the block. And but for zeros
/// in large blocks that were used before.
///
/// mimalloc writes them, which makes every page of such a block take memory. The kernel has a page of zeros for nothing until it
/// is written: the Opus codec of a leg asks for 260 kB of them, and at 8 kHz writes into a dozen pages.
pub struct Allocator;

// SAFETY: all memory is mimalloc's, by its own rules; what is freed it knows by its address, whichever way it was asked for.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: any size and any power of two will do.
        let block = unsafe { if is_natural(size, align) { mi_malloc(size) } else { mi_malloc_aligned(size, align) } };
        block.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        if size >= LARGE {
            return zeroed_pages(size, align);
        }
        // SAFETY: as above.
        let block = unsafe { if is_natural(size, align) { mi_zalloc(size) } else { mi_zalloc_aligned(size, align) } };
        block.cast()
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (block, align) = (block.cast(), layout.align());
        // SAFETY: the caller has the block from here.
        let block = unsafe {
            if is_natural(size, align) { mi_realloc(block, size) } else { mi_realloc_aligned(block, size, align) }
        };
        block.cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: as above.
        unsafe { mi_free(block.cast()) }
    }
}

/// Whether every block of that size is aligned so: to 16 bytes, or, of a smaller one, to its size.
fn is_natural(size: usize, align: usize) -> bool {
    align <= 16 && align <= size
}

fn zeroed_pages(size: usize, align: usize) -> *mut u8 {
    let size = size.next_multiple_of(PAGE);
    // SAFETY: as above.
    let block: *mut u8 = unsafe { mi_malloc_aligned(size, align.max(PAGE)) }.cast();
    if !block.is_null() {
        // SAFETY: the block is these pages, and nobody else's.
        unsafe { fill_with_zeros(block, size) };
    }
    block
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
    fn every_block_is_aligned_as_asked_for() {
        for align in (0..8).map(|bits| 1 << bits) {
            for size in (1..600).chain([8_191, 8_192, 8_193, 70_000]) {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: each block is used within its layout, and freed once.
                unsafe {
                    let blocks = [Allocator.alloc(layout), Allocator.alloc_zeroed(layout), Allocator.alloc(layout)];
                    assert!(blocks.iter().all(|block| block.addr() % align == 0), "{size} bytes, aligned to {align}");
                    blocks.iter().for_each(|block| block.write_bytes(1, size));
                    let grown = Allocator.realloc(blocks[2], layout, 3 * size);
                    assert_eq!((grown.addr() % align, *grown), (0, 1), "{size} bytes, aligned to {align}");
                    blocks[..2].iter().for_each(|block| Allocator.dealloc(*block, layout));
                    Allocator.dealloc(grown, Layout::from_size_align(3 * size, align).unwrap());
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
