//! The heap of the shim's own code: small, apart from everything that is managed.
//!
//! Blocks up to [`BLOCK_MAX`] bytes come in power-of-two classes out of chunks of 64 KiB; larger ones are mapped
//! by themselves. Which blocks of a chunk are taken is a bitmap of atomic words in the chunk's head:
//!
//! ```text
//!   Heap.chunks[class] ─▶ chunk ─▶ chunk ─▶ …      head: next │ bitmap       then blocks of one size
//! ```
//!
//! There is no lock: a signal handler may interrupt an allocation and allocate, a thread may fork in the midst of
//! another's, and the child goes on (it loses at most the blocks that were being given out). Chunks are never given
//! back; the shim holds a few megabytes at most. Nothing here is on the path of a fault.

use super::aligned;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use memvisor_sys::PAGE_BYTES;
use memvisor_sys::memory::{self, MAP_NORESERVE, PROT_READ, PROT_WRITE};

/// The heap that Rust code of the shim allocates from.
#[global_allocator]
pub static INTERNAL: InternalHeap = InternalHeap::new();

const CHUNK_BYTES: usize = 64 << 10;
/// The smallest class: a bitmap for all of a chunk then fits its head, and every block is aligned for any primitive.
const BLOCK_MIN_SHIFT: u32 = 4;
/// The largest class: a chunk still holds seven.
const BLOCK_MAX_SHIFT: u32 = 13;
const BLOCK_MAX: usize = 1 << BLOCK_MAX_SHIFT;
const CLASSES: usize = (BLOCK_MAX_SHIFT - BLOCK_MIN_SHIFT + 1) as usize;
const BITMAP_WORDS: usize = CHUNK_BYTES >> BLOCK_MIN_SHIFT >> 6;

/// The head of a chunk. A block that overlaps it is never given out.
#[repr(C)]
struct Chunk {
    next: *mut Chunk,
    taken: [AtomicU64; BITMAP_WORDS],
}
const _: () = assert!(size_of::<Chunk>() <= BLOCK_MAX);

/// A heap without locks that gives memory by size class.
pub struct InternalHeap {
    /// The newest chunk of each class. Lists only grow, at the front.
    chunks: [AtomicPtr<Chunk>; CLASSES],
}

impl InternalHeap {
    const fn new() -> Self {
        Self { chunks: [const { AtomicPtr::new(null_mut()) }; CLASSES] }
    }

    fn take(&self, class: usize) -> *mut u8 {
        let mut newest = self.chunks[class].load(Ordering::Acquire);
        let mut at = newest;
        while let Some(chunk) = NonNull::new(at) {
            // SAFETY: chunks in a list are initialised before they enter it and are never unmapped.
            if let Some(block) = unsafe { Chunk::take(chunk, class) } {
                return block.as_ptr();
            }
            // SAFETY: as above; `next` does not change any more.
            at = unsafe { (*at).next };
        }
        let Some((fresh, block)) = Chunk::map(class) else {
            return null_mut();
        };
        loop {
            // SAFETY: nobody else knows the chunk before the exchange below succeeds.
            unsafe { (*fresh.as_ptr()).next = newest };
            let (list, fresh) = (&self.chunks[class], fresh.as_ptr());
            match list.compare_exchange_weak(newest, fresh, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return block.as_ptr(),
                Err(now) => newest = now,
            }
        }
    }
}

impl Chunk {
    /// Maps a chunk and takes its first block.
    fn map(class: usize) -> Option<(NonNull<Chunk>, NonNull<u8>)> {
        let chunk = NonNull::new(map(CHUNK_BYTES, CHUNK_BYTES).cast::<Chunk>())?;
        // SAFETY: fresh zeroed memory of a chunk's size is a chunk without taken blocks.
        let first = unsafe { Chunk::take(chunk, class) }?;
        Some((chunk, first))
    }

    /// Takes a free block.
    ///
    /// # Safety
    /// `chunk` is a chunk of this class.
    unsafe fn take(chunk: NonNull<Chunk>, class: usize) -> Option<NonNull<u8>> {
        let shift = class as u32 + BLOCK_MIN_SHIFT;
        // SAFETY: the caller gives a chunk; its bitmap is changed by atomic operations only.
        let taken = unsafe { &(*chunk.as_ptr()).taken };
        for (at, word) in taken[..(CHUNK_BYTES >> shift).div_ceil(64)].iter().enumerate() {
            let mut seen = word.load(Ordering::Relaxed);
            loop {
                let bit = (seen | unusable(at, shift)).trailing_ones();
                if bit == 64 {
                    break;
                }
                seen = word.fetch_or(1 << bit, Ordering::Acquire);
                if seen & 1 << bit == 0 {
                    // SAFETY: the bit stands for a block that lies whole in the chunk.
                    return Some(unsafe { chunk.cast::<u8>().add((at * 64 + bit as usize) << shift) });
                }
                seen |= 1 << bit;
            }
        }
        None
    }
}

/// The bits of bitmap word `at` that stand for no usable block: those under the head and those beyond the chunk.
fn unusable(at: usize, shift: u32) -> u64 {
    let below = |count: usize| if count >= 64 { u64::MAX } else { (1 << count) - 1 };
    let head = size_of::<Chunk>().div_ceil(1 << shift).saturating_sub(at * 64);
    let usable_end = (CHUNK_BYTES >> shift).saturating_sub(at * 64);
    below(head) | !below(usable_end)
}

/// A mapping of its own.
fn map(len: usize, align: usize) -> *mut u8 {
    let len = len.next_multiple_of(PAGE_BYTES);
    match aligned::map(len, align.max(PAGE_BYTES), PROT_READ | PROT_WRITE, MAP_NORESERVE) {
        Ok(addr) => {
            memory::own(addr, len);
            core::ptr::with_exposed_provenance_mut(addr)
        }
        Err(_) => null_mut(),
    }
}

/// The class whose blocks are large and aligned enough, if any is.
fn class_of(layout: &Layout) -> Option<usize> {
    let bytes = layout.size().max(layout.align()).max(1 << BLOCK_MIN_SHIFT);
    (bytes <= BLOCK_MAX).then(|| (bytes.next_power_of_two().trailing_zeros() - BLOCK_MIN_SHIFT) as usize)
}

// SAFETY: blocks of a class lie at multiples of the class's size in chunks aligned more strictly, a block is given to
// whoever set its bit and is free when the bit is cleared; larger blocks are mappings of their own.
unsafe impl GlobalAlloc for InternalHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class_of(&layout) {
            Some(class) => self.take(class),
            None => map(layout.size(), layout.align()),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = class_of(&layout) else {
            memory::disown(layout.size().next_multiple_of(PAGE_BYTES));
            // SAFETY: the block is a mapping of this length and the caller gives it up.
            let _ = unsafe { memory::unmap(block.addr(), layout.size().next_multiple_of(PAGE_BYTES)) };
            return;
        };
        let offset = block.addr() % CHUNK_BYTES;
        // SAFETY: the block lies in a chunk, which begins at the multiple of the chunk size before it.
        let chunk = unsafe { &*block.sub(offset).cast::<Chunk>() };
        let at = offset >> (class as u32 + BLOCK_MIN_SHIFT);
        chunk.taken[at / 64].fetch_and(!(1 << (at % 64)), Ordering::Release);
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's own promise.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() && class_of(&layout).is_some() {
            // SAFETY: the block has that many bytes and is ours. Fresh mappings are zero already.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }
}
