//! Address space that is changed call by call.

use super::memory::{ANONYMOUS, check_address, map_anywhere};
use super::{PAGE_BYTES, succeeded};
use crate::pattern::PAGE_WORDS;
use std::io;
use std::ops::Range;
use std::ptr;

/// What a page may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nothing.
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

impl Access {
    fn bits(self) -> i32 {
        match self {
            Self::None => libc::PROT_NONE,
            Self::Read => libc::PROT_READ,
            Self::Write => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

/// Address space that a program changes call by call, each page known by its address. It owns what was mapped through
/// it, and refuses to touch anything else, so that its methods are safe.
#[derive(Default)]
pub struct Ground {
    owned: std::collections::BTreeSet<usize>,
}

impl Ground {
    fn pages(range: &Range<usize>) -> impl Iterator<Item = usize> + use<> {
        range.clone().step_by(PAGE_BYTES)
    }

    fn must_own(&self, range: &Range<usize>) {
        let owned = Self::pages(range).all(|page| self.owned.contains(&page));
        assert!(owned && range.start.is_multiple_of(PAGE_BYTES), "{range:x?} is not this ground's own");
    }

    fn gain(&mut self, range: Range<usize>) {
        self.owned.extend(Self::pages(&range));
    }

    fn give(&mut self, range: &Range<usize>) {
        Self::pages(range).for_each(|page| assert!(self.owned.remove(&page)));
    }

    /// `mmap` of fresh memory where the kernel likes.
    ///
    /// # Errors
    /// What the call refused with, as for all methods here.
    pub fn map(&mut self, bytes: usize) -> io::Result<Range<usize>> {
        let start = map_anywhere(bytes)?;
        self.gain(start..start + bytes);
        Ok(start..start + bytes)
    }

    /// `mmap` of fresh memory over memory of its own.
    ///
    /// # Errors
    /// What the call refused with.
    pub fn map_over(&mut self, range: Range<usize>, access: Access) -> io::Result<()> {
        self.must_own(&range);
        let flags = ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: only pages of this ground are replaced, to which no reference is ever given out.
        check_address(unsafe { libc::mmap(range.start as _, range.len(), access.bits(), flags, -1, 0) })?;
        Ok(())
    }

    /// `munmap`.
    ///
    /// # Errors
    /// What the call refused with.
    pub fn unmap(&mut self, range: Range<usize>) -> io::Result<()> {
        self.must_own(&range);
        // SAFETY: only pages of this ground go.
        succeeded(unsafe { libc::munmap(range.start as _, range.len()) })?;
        self.give(&range);
        Ok(())
    }

    /// `mprotect`.
    ///
    /// # Errors
    /// What the call refused with.
    pub fn protect(&mut self, range: Range<usize>, access: Access) -> io::Result<()> {
        self.must_own(&range);
        // SAFETY: only pages of this ground change, which are read and written by its methods only.
        succeeded(unsafe { libc::mprotect(range.start as _, range.len(), access.bits()) })
    }

    /// `madvise(MADV_DONTNEED)`.
    ///
    /// # Errors
    /// What the call refused with.
    pub fn discard(&mut self, range: Range<usize>) -> io::Result<()> {
        self.must_own(&range);
        // SAFETY: only pages of this ground are emptied.
        succeeded(unsafe { libc::madvise(range.start as _, range.len(), libc::MADV_DONTNEED) })
    }

    /// `mremap` to another size; the memory may move.
    ///
    /// # Errors
    /// What the call refused with.
    pub fn resize(&mut self, range: Range<usize>, bytes: usize) -> io::Result<Range<usize>> {
        self.must_own(&range);
        // SAFETY: the old pages are this ground's; the new ones are free address space that the kernel picked.
        let moved = unsafe { libc::mremap(range.start as _, range.len(), bytes, libc::MREMAP_MAYMOVE) };
        let start = check_address(moved)?;
        self.give(&range);
        self.gain(start..start + bytes);
        Ok(start..start + bytes)
    }

    /// `mremap` with `MREMAP_FIXED` onto memory of its own of the same length.
    ///
    /// # Errors
    /// What the call refused with.
    pub fn move_onto(&mut self, range: Range<usize>, to: usize) -> io::Result<()> {
        self.must_own(&range);
        self.must_own(&(to..to + range.len()));
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: both ranges are this ground's.
        let moved = unsafe { libc::mremap(range.start as _, range.len(), range.len(), flags, to) };
        check_address(moved)?;
        self.give(&range);
        Ok(())
    }

    /// Reads a page by a load of each word. The page must be readable, or the program dies as any other would.
    pub fn read(&self, page: usize, into: &mut [u64; PAGE_WORDS]) {
        self.must_own(&(page..page + PAGE_BYTES));
        // SAFETY: the page is owned and the caller keeps to its access; a fault is a signal, not a wrong read.
        unsafe { ptr::copy_nonoverlapping(page as *const u64, into.as_mut_ptr(), PAGE_WORDS) };
    }

    /// Writes a page. It must be writable.
    pub fn write(&mut self, page: usize, from: &[u64; PAGE_WORDS]) {
        self.must_own(&(page..page + PAGE_BYTES));
        // SAFETY: the page is owned and only reached through `&mut self` now.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), page as *mut u64, PAGE_WORDS) };
    }

    /// Writes the page at `address`, owned or not, readable or not, to `file`: the kernel reads it.
    ///
    /// # Errors
    /// `EFAULT` (14) when the page cannot be read.
    pub fn kernel_reads(address: usize, file: &impl std::os::fd::AsRawFd) -> io::Result<usize> {
        // SAFETY: the kernel checks the address itself and answers EFAULT.
        let count = unsafe { libc::write(file.as_raw_fd(), address as _, PAGE_BYTES) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}
