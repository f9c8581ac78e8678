//! Memory that is taken, used and given back whole.

use super::PAGE_BYTES;
use crate::pattern::PAGE_WORDS;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

/// Private anonymous memory from `mmap`, a whole number of pages, readable and writable.
pub struct Mapping {
    base: NonNull<u64>,
    bytes: usize,
}

// SAFETY: a mapping is plain memory that this value owns; no thread is special to it.
unsafe impl Send for Mapping {}
// SAFETY: shared access is by `&[u64]` or atomics only, as the methods say.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `bytes`, rounded up to whole pages.
    ///
    /// # Errors
    /// What `mmap` refused with.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let bytes = bytes.next_multiple_of(PAGE_BYTES);
        let address = map_anywhere(bytes)?;
        let base = NonNull::new(address as *mut u64).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, bytes })
    }

    /// Pages in the mapping.
    pub fn pages(&self) -> usize {
        self.bytes / PAGE_BYTES
    }

    /// The whole mapping.
    pub fn words(&self) -> &[u64] {
        // SAFETY: the range is mapped readable while `self` lives, and `&self` keeps writers by `&mut` away.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.bytes / 8) }
    }

    /// The whole mapping, to write.
    pub fn words_mut(&mut self) -> &mut [u64] {
        // SAFETY: the range is mapped writable while `self` lives, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.bytes / 8) }
    }

    /// The whole mapping as words that threads share.
    pub fn atomics(&mut self) -> &[AtomicU64] {
        // SAFETY: an AtomicU64 lies in memory as a u64 does, and the exclusive borrow lasts as long as the slice.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), self.bytes / 8) }
    }

    /// One page of it.
    pub fn page(&self, at: usize) -> &[u64] {
        &self.words()[at * PAGE_WORDS..][..PAGE_WORDS]
    }

    /// One page of it, to write.
    pub fn page_mut(&mut self, at: usize) -> &mut [u64] {
        &mut self.words_mut()[at * PAGE_WORDS..][..PAGE_WORDS]
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this value's own and no borrow of it is left.
        let result = unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
        assert_eq!(result, 0, "munmap of one's own mapping: {}", io::Error::last_os_error());
    }
}

pub(super) fn check_address(address: *mut libc::c_void) -> io::Result<usize> {
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address as usize) }
}

pub(super) const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// Maps fresh memory where the kernel likes and gives its address.
///
/// # Errors
/// What `mmap` refused with.
pub(super) fn map_anywhere(bytes: usize) -> io::Result<usize> {
    // SAFETY: without MAP_FIXED no existing mapping is touched.
    check_address(unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, ANONYMOUS, -1, 0) })
}

/// Memory from `malloc`, in words; freed with `free`.
pub struct Heap {
    base: NonNull<u64>,
    words: usize,
}

impl Heap {
    /// `malloc`, or `None` when it gives NULL.
    pub fn new(words: usize) -> Option<Self> {
        // SAFETY: malloc may be called with any size.
        let base = NonNull::new(unsafe { libc::malloc(words * 8) }.cast::<u64>())?;
        Some(Self { base, words })
    }

    /// Makes every word of it from its place, then lends it.
    pub fn fill(&mut self, word: impl Fn(usize) -> u64) {
        for at in 0..self.words {
            // SAFETY: `at` is within what malloc gave.
            unsafe { self.base.add(at).write(word(at)) };
        }
    }

    /// The word at `at`.
    ///
    /// # Panics
    /// When `at` is outside.
    pub fn word(&self, at: usize) -> u64 {
        assert!(at < self.words);
        // SAFETY: `at` is inside; a word that was never written is indeterminate but plain memory, and `fill` runs first.
        unsafe { self.base.add(at).read_volatile() }
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: the memory is malloc's and this value its only owner.
        unsafe { libc::free(self.base.as_ptr().cast()) };
    }
}
