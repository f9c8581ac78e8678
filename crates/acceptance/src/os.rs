//! The calls of the C library that the programs under test make, safe to call.
//!
//! The programs go through the C library on purpose: that is what an unmodified program does, and what a preloaded
//! library may stand in for. This is the only file of the crate with `unsafe` code.

use crate::pattern::PAGE_WORDS;
use std::io;
use std::ops::Range;
use std::process::ExitStatus;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

/// Bytes in a page.
pub const PAGE_BYTES: usize = 4096;

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

fn check_address(address: *mut libc::c_void) -> io::Result<usize> {
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address as usize) }
}

const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// Maps fresh memory where the kernel likes and gives its address.
///
/// # Errors
/// What `mmap` refused with.
pub fn map_anywhere(bytes: usize) -> io::Result<usize> {
    // SAFETY: without MAP_FIXED no existing mapping is touched.
    check_address(unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, ANONYMOUS, -1, 0) })
}

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
        assert!(owned && range.start % PAGE_BYTES == 0, "{range:x?} is not this ground's own");
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

fn succeeded(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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

/// Runs `body` in a forked child, which exits with the number that it gives.
///
/// # Errors
/// What `fork` refused with.
pub fn fork(body: impl FnOnce() -> u8) -> io::Result<i32> {
    // SAFETY: the programs that fork have one thread, so the child finds no lock held.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = body();
            // SAFETY: _exit only ends the process.
            unsafe { libc::_exit(i32::from(code)) }
        }
        pid => Ok(pid),
    }
}

/// Starts `program` by `vfork` and `execv`, inheriting everything.
///
/// # Errors
/// What `vfork` refused with. A failed exec is exit code 127 of the child.
pub fn vfork_exec(program: &std::ffi::CStr, arguments: &[&std::ffi::CStr]) -> io::Result<i32> {
    let mut pointers: Vec<*const libc::c_char> = arguments.iter().map(|text| text.as_ptr()).collect();
    pointers.push(ptr::null());
    // SAFETY: the child only calls execv and _exit, as vfork demands; all it needs was made before. The lint that
    // deprecates vfork is right in general: this program exists to show that vfork works.
    #[allow(deprecated)]
    match unsafe { libc::vfork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: the list ends with a null pointer and the strings outlive the call.
            unsafe { libc::execv(program.as_ptr(), pointers.as_ptr()) };
            // SAFETY: _exit only ends the process.
            unsafe { libc::_exit(127) }
        }
        pid => Ok(pid),
    }
}

/// Starts `program` by `posix_spawn`, inheriting everything, with this process's environment.
///
/// # Errors
/// What the call refused with.
pub fn posix_spawn(program: &std::ffi::CStr, arguments: &[&std::ffi::CStr]) -> io::Result<i32> {
    use std::os::unix::ffi::OsStrExt;
    let mut pointers: Vec<*mut libc::c_char> = arguments.iter().map(|text| text.as_ptr().cast_mut()).collect();
    pointers.push(ptr::null_mut());
    let variables: Vec<std::ffi::CString> = std::env::vars_os()
        .filter_map(|(name, value)| {
            std::ffi::CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
        })
        .collect();
    let mut environment: Vec<*mut libc::c_char> = variables.iter().map(|text| text.as_ptr().cast_mut()).collect();
    environment.push(ptr::null_mut());
    let mut pid = 0;
    // SAFETY: both lists end with null pointers and outlive the call; no file actions or attributes are given.
    let error = unsafe {
        libc::posix_spawn(
            &mut pid,
            program.as_ptr(),
            ptr::null(),
            ptr::null(),
            pointers.as_ptr(),
            environment.as_ptr(),
        )
    };
    if error == 0 { Ok(pid) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// How a child that was waited for ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It runs on.
    Not,
    /// It ended so.
    With(ExitStatus),
}

/// Waits for the child `pid`.
///
/// # Errors
/// `ECHILD` when it is no child.
pub fn wait(pid: i32) -> io::Result<ExitStatus> {
    match wait_with(pid, 0)? {
        Ended::With(status) => Ok(status),
        Ended::Not => unreachable!("waitpid without WNOHANG returns only when the child has ended"),
    }
}

/// Looks whether the child `pid` has ended.
///
/// # Errors
/// `ECHILD` when it is no child.
pub fn try_wait(pid: i32) -> io::Result<Ended> {
    wait_with(pid, libc::WNOHANG)
}

fn wait_with(pid: i32, flags: i32) -> io::Result<Ended> {
    use std::os::unix::process::ExitStatusExt;
    loop {
        let mut status = 0;
        // SAFETY: the status word is this function's own.
        match unsafe { libc::waitpid(pid, &mut status, flags) } {
            0 => return Ok(Ended::Not),
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Err(io::Error::last_os_error()),
            _ => return Ok(Ended::With(ExitStatus::from_raw(status))),
        }
    }
}

/// Kills one process, at once.
pub fn kill(pid: i32) {
    // SAFETY: kill touches no memory; a process that is gone already is what was wanted.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Asks one process to end.
pub fn terminate(pid: i32) {
    // SAFETY: kill touches no memory.
    unsafe { libc::kill(pid, libc::SIGTERM) };
}

/// Orphans below this process become its children, so that it can wait for them.
pub fn adopt_orphans() {
    // SAFETY: this option only changes who the parent of orphans is.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Limits the address space of this process to `bytes`.
///
/// # Errors
/// What `setrlimit` refused with.
pub fn limit_address_space(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the struct is whole and read only.
    succeeded(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) })
}

/// The user id of this process.
pub fn user_id() -> u32 {
    // SAFETY: geteuid always succeeds.
    unsafe { libc::geteuid() }
}
