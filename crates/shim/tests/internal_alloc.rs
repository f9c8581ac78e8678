//! The shim's own heap, as the global allocator of this test.

#[path = "../src/aligned.rs"]
mod aligned;
#[path = "../src/internal_alloc.rs"]
mod internal_alloc;

use internal_alloc::INTERNAL;
use std::alloc::{GlobalAlloc, Layout};
use std::collections::{BTreeMap, BTreeSet};

/// Calls `each` with sizes around every class and beyond, and all alignments up to 1 MiB.
fn layouts(mut each: impl FnMut(Layout)) {
    for align in (0..=20).map(|shift| 1usize << shift) {
        for size in (0..=17).flat_map(|shift| [(1usize << shift) - 1, 1 << shift, (1 << shift) + 1]) {
            each(Layout::from_size_align(size.max(1), align).expect("such a layout exists"));
        }
    }
}

#[test]
fn every_block_is_aligned_and_apart_from_all_others() {
    let mut blocks = BTreeMap::new();
    for _ in 0..20 {
        layouts(|layout| {
            // SAFETY: the layout is not empty.
            let block = unsafe { INTERNAL.alloc(layout) };
            assert!(!block.is_null() && block.addr() % layout.align() == 0, "{layout:?}");
            // SAFETY: the block has that many bytes.
            unsafe { block.write_bytes(0x5a, layout.size()) };
            assert!(blocks.insert(block.addr(), (block, layout)).is_none());
        });
    }
    let mut end = 0;
    for (&at, (_, layout)) in &blocks {
        assert!(at >= end, "{layout:?} at {at:#x} overlaps its neighbour");
        end = at + layout.size();
    }
    for (block, layout) in blocks.into_values() {
        // SAFETY: it was allocated with this layout and is not used any more.
        unsafe { INTERNAL.dealloc(block, layout) };
    }
}

#[test]
fn zeroed_blocks_are_zero_also_when_used_again() {
    layouts(|layout| {
        for _ in 0..2 {
            // SAFETY: the layout is not empty.
            let block = unsafe { INTERNAL.alloc_zeroed(layout) };
            // SAFETY: the block has that many bytes, all of them initialised.
            let bytes = unsafe { std::slice::from_raw_parts_mut(block, layout.size()) };
            assert!(bytes.iter().all(|&byte| byte == 0), "{layout:?}");
            bytes.fill(0xff);
            // SAFETY: it was allocated with this layout and is not used any more.
            unsafe { INTERNAL.dealloc(block, layout) };
        }
    });
}

#[test]
fn a_freed_block_is_given_out_again() {
    let layout = Layout::from_size_align(3000, 8).expect("such a layout exists");
    let mut places = BTreeSet::new();
    for _ in 0..10_000 {
        // SAFETY: the layout is not empty; the block is freed at once.
        unsafe {
            let block = INTERNAL.alloc(layout);
            places.insert(block.addr());
            INTERNAL.dealloc(block, layout);
        }
    }
    // Other tests run at the same time and may hold some blocks in between.
    assert!(places.len() < 1000, "{} places for one block", places.len());
}

#[test]
fn threads_never_get_the_same_block() {
    let threads: Vec<_> = (0..8u64)
        .map(|me| {
            std::thread::spawn(move || {
                let mut mine: Vec<Vec<u64>> = Vec::new();
                for i in 0..20_000u64 {
                    mine.push(vec![me << 32 | i; (i % 60) as usize]);
                    if i % 3 != 0 {
                        let gone = mine.swap_remove((i * 7919) as usize % mine.len());
                        assert!(gone.windows(2).all(|pair| pair[0] == pair[1] && pair[0] >> 32 == me));
                    }
                    if mine.len() > 200 {
                        mine.clear();
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no thread found foreign bytes");
    }
}
