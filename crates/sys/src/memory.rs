//! Mappings by raw address, and the staging area.
//!
//! *Hot*: nothing here allocates. Addresses are `usize`, because most of them are of memory that Rust does not know
//! of: the program's.

use crate::call::{self, number as nr};
use crate::{PAGE_BYTES, Result, errno};
use core::ffi::CStr;
use core::sync::atomic::{AtomicUsize, Ordering};

macro_rules! constants {
    ($($name:ident = $value:expr, $doc:literal;)*) => { $(#[doc = $doc] pub const $name: i32 = $value;)* };
}

constants! {
    PROT_NONE = 0, "No access.";
    PROT_READ = 1, "May be read.";
    PROT_WRITE = 2, "May be written.";
    PROT_EXEC = 4, "May be executed.";
    MAP_SHARED = 0x01, "Writes are seen by all who map it.";
    MAP_PRIVATE = 0x02, "Writes stay here.";
    MAP_SHARED_VALIDATE = 0x03, "As shared, and unknown flags are refused.";
    MAP_TYPE = 0x0f, "The bits that hold the kind of mapping.";
    MAP_FIXED = 0x10, "At this address, over whatever was there.";
    MAP_ANONYMOUS = 0x20, "No file: zeros.";
    MAP_GROWSDOWN = 0x100, "A stack.";
    MAP_LOCKED = 0x2000, "Locked in memory.";
    MAP_NORESERVE = 0x4000, "Promise no swap for it.";
    MAP_POPULATE = 0x8000, "Fault all of it in now.";
    MAP_STACK = 0x20000, "Meant as a stack.";
    MAP_HUGETLB = 0x40000, "From the huge page pool.";
    MAP_FIXED_NOREPLACE = 0x100000, "At this address or not at all.";
    MREMAP_MAYMOVE = 1, "May go elsewhere.";
    MREMAP_FIXED = 2, "Must go to the given address.";
    MREMAP_DONTUNMAP = 4, "Leave the old range mapped and empty.";
    MADV_NORMAL = 0, "No advice.";
    MADV_RANDOM = 1, "Expect no order.";
    MADV_SEQUENTIAL = 2, "Expect rising order.";
    MADV_WILLNEED = 3, "Needed soon.";
    MADV_DONTNEED = 4, "Give the contents up: anonymous memory reads zeros after.";
    MADV_FREE = 8, "The contents may be given up.";
    MADV_REMOVE = 9, "Punch a hole in the shared file beneath.";
    MADV_DONTFORK = 10, "Children do not get it.";
    MADV_DOFORK = 11, "Children get it.";
    MADV_MERGEABLE = 12, "Same pages may be merged.";
    MADV_UNMERGEABLE = 13, "Unmerge.";
    MADV_HUGEPAGE = 14, "Huge pages wanted.";
    MADV_NOHUGEPAGE = 15, "No huge pages.";
    MADV_DONTDUMP = 16, "Not in core dumps.";
    MADV_DODUMP = 17, "In core dumps.";
    MADV_WIPEONFORK = 18, "Children see zeros.";
    MADV_KEEPONFORK = 19, "Children see the contents.";
    MADV_COLD = 20, "Not used for some time.";
    MADV_PAGEOUT = 21, "To swap now.";
    MADV_POPULATE_READ = 22, "Fault in for reading.";
    MADV_POPULATE_WRITE = 23, "Fault in for writing.";
    MADV_DONTNEED_LOCKED = 24, "As DONTNEED, locked pages too.";
    MADV_COLLAPSE = 25, "Make huge pages now.";
}

/// Maps memory. Gives the address.
///
/// # Safety
/// With `MAP_FIXED` the range must be the caller's to replace: whatever was mapped there is gone.
pub unsafe fn map(addr: usize, len: usize, prot: i32, flags: i32, fd: i32, offset: u64) -> Result<usize> {
    // SAFETY: the caller promises that a replaced range is its own; otherwise a new range breaks nobody's promise.
    unsafe { call::syscall6(nr::__NR_mmap, addr, len, prot as usize, flags as usize, fd as usize, offset as usize) }
}

/// Unmaps a range.
///
/// # Safety
/// The range must be the caller's, and nothing may refer to it any more.
pub unsafe fn unmap(addr: usize, len: usize) -> Result<()> {
    // SAFETY: the caller promises that nothing refers to the range.
    unsafe { call::syscall2(nr::__NR_munmap, addr, len) }.map(drop)
}

/// Resizes or moves a mapping. Gives its new address.
///
/// # Safety
/// The old range must be the caller's; when it moves or shrinks, nothing may refer to what is gone. With
/// `MREMAP_FIXED` the new range must be the caller's to replace.
pub unsafe fn remap(old: usize, old_len: usize, new_len: usize, flags: i32, new_addr: usize) -> Result<usize> {
    // SAFETY: the caller promises to own both ranges.
    unsafe { call::syscall5(nr::__NR_mremap, old, old_len, new_len, flags as usize, new_addr) }
}

/// Changes the access to a range.
///
/// # Safety
/// The range must be the caller's, and no reference may rely on an access that goes away.
pub unsafe fn protect(addr: usize, len: usize, prot: i32) -> Result<()> {
    // SAFETY: the caller promises that no reference relies on what is taken away.
    unsafe { call::syscall3(nr::__NR_mprotect, addr, len, prot as usize) }.map(drop)
}

/// Advises the kernel about a range. Some advice gives the contents up.
///
/// # Safety
/// The range must be the caller's; with advice that gives up contents, no reference may rely on them.
pub unsafe fn advise(addr: usize, len: usize, advice: i32) -> Result<()> {
    // SAFETY: the caller promises that no reference relies on contents that go away.
    unsafe { call::syscall3(nr::__NR_madvise, addr, len, advice as usize) }.map(drop)
}

/// Maps `len` bytes of new private memory, readable, writable, without a promise of swap. Gives its address.
pub fn map_anonymous(len: usize) -> Result<usize> {
    // SAFETY: without MAP_FIXED the kernel chooses a range that nobody has.
    unsafe { map(0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) }
}

/// Gives an anonymous range a name in `/proc/PID/maps` (`[anon:name]`), where the kernel is built for that.
pub fn set_name(addr: usize, len: usize, name: &CStr) -> Result<()> {
    const PR_SET_VMA: usize = 0x5356_4d41;
    const PR_SET_VMA_ANON_NAME: usize = 0;
    // SAFETY: a name changes nothing that a program can rely on; the kernel copies the string.
    unsafe { call::syscall5(nr::__NR_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, addr, len, name.as_ptr() as usize) }
        .map(drop)
}

/// What the pager's own mappings are called in `/proc/PID/maps`: `[anon:memvisor]`.
const OWN_NAME: &CStr = c"memvisor";

static OWN_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Marks a fresh range, mapped with `MAP_NORESERVE`, as the pager's own: neither managed nor the program's. Who measures
/// from outside tells it by three flags that no program puts on memory together, `nr`, `nh` and `rr` in
/// `/proc/PID/smaps`: no reserve, never huge, read at random. People see the name, on kernels that know names.
pub fn own(addr: usize, len: usize) {
    OWN_BYTES.fetch_add(len, Ordering::Relaxed);
    for advice in [MADV_NOHUGEPAGE, MADV_RANDOM] {
        // SAFETY: advice about page size and reading ahead loses nothing. Refused, the range is only not told apart.
        let _ = unsafe { advise(addr, len, advice) };
    }
    let _ = set_name(addr, len, OWN_NAME);
}

/// A range that was marked by [`own`] is about to be unmapped.
pub fn disown(len: usize) {
    // More may be unmapped than was marked, when what was marked grew together with what was not.
    let _ = OWN_BYTES.try_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| Some(bytes.saturating_sub(len)));
}

/// Bytes that are marked as the pager's own in this process: the most they can take of DRAM.
pub fn own_bytes() -> usize {
    OWN_BYTES.load(Ordering::Relaxed)
}

/// Writes to every page of a range of this process, as far as the kernel is concerned: pages shared since a fork become
/// its own. Contents stay. (hot)
///
/// # Errors
/// When part of the range is not writable memory.
pub fn populate_write(addr: usize, len: usize) -> Result<()> {
    // SAFETY: populating keeps contents and mappings as they are.
    unsafe { advise(addr, len, MADV_POPULATE_WRITE) }
}

/// Gives the contents of a private range away that the caller has charge of: the next touch finds zeros, or faults where
/// missing pages are registered. (hot)
///
/// # Errors
/// When part of the range is not mapped, or locked.
pub fn drop_pages(addr: usize, len: usize) -> Result<()> {
    // SAFETY: the caller has charge of the contents; no reference into managed memory exists in this program's code.
    unsafe { advise(addr, len, MADV_DONTNEED) }
}

/// An owned private anonymous area of page frames, into which pages are moved out of the program's sight.
///
/// Frames come and go behind Rust's back: MOVE takes them in and out, and a frame that is not there reads as zeros,
/// or is a SIGBUS if the area is registered with a userfaultfd that says so. Which frame is there, and who reads or
/// moves it, is decided by page words; the methods say what the caller must know of them.
pub struct Staging {
    base: usize,
    pages: u32,
}

impl Staging {
    /// Maps an area of `pages` frames, none of them there yet. Without huge pages: frames come and go singly.
    pub fn new(pages: u32) -> Result<Staging> {
        let len = pages as usize * PAGE_BYTES;
        let staging = Staging { base: map_anonymous(len)?, pages };
        // SAFETY: the range was mapped above and advice about its page size loses nothing.
        match unsafe { advise(staging.base, len, MADV_NOHUGEPAGE) } {
            // A kernel without huge pages refuses advice against them, and that is as good.
            Ok(()) | Err(errno::EINVAL) => Ok(staging),
            Err(errno) => Err(errno),
        }
    }

    /// The address of the first frame.
    pub fn base(&self) -> usize {
        self.base
    }

    /// How many frames there are.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Bytes of address space in the area.
    pub fn len_bytes(&self) -> usize {
        self.pages as usize * PAGE_BYTES
    }

    /// The address of frame `at`.
    ///
    /// # Panics
    /// When there is no such frame.
    pub fn address(&self, at: u32) -> usize {
        assert!(at < self.pages, "frame {at} of a staging area of {}", self.pages);
        self.base + at as usize * PAGE_BYTES
    }

    /// Where frame `at` lies.
    ///
    /// # Panics
    /// When there is no such frame.
    pub fn frame(&self, at: u32) -> *const u8 {
        self.address(at) as *const u8
    }

    /// Copies the contents of frame `at`. The frame must be there and the caller must hold it (its word in a state
    /// that is the caller's), or else the copy may be torn, zeros, or a SIGBUS.
    ///
    /// # Panics
    /// When there is no such frame.
    pub fn read_frame(&self, at: u32, out: &mut [u8; PAGE_BYTES]) {
        // SAFETY: the frame is inside the owned mapping, `out` is outside of it and valid for a page.
        unsafe { core::ptr::copy_nonoverlapping(self.frame(at), out.as_mut_ptr(), PAGE_BYTES) }
    }

    /// The contents of frame `at`, in place.
    ///
    /// Contract: while the reference lives the caller holds the frame – its page word is in a state that only the caller
    /// leaves – so that nobody moves, drops or writes it. A frame that is not there is a SIGBUS in a registered area.
    ///
    /// # Panics
    /// When there is no such frame.
    pub fn frame_bytes(&self, at: u32) -> &[u8; PAGE_BYTES] {
        // SAFETY: the frame is inside the owned mapping, aligned to a page, and by the contract nobody changes it.
        unsafe { &*(self.frame(at) as *const [u8; PAGE_BYTES]) }
    }

    /// Writes frame `at`, which the caller holds. In a registered area the frame must be there.
    ///
    /// # Panics
    /// When there is no such frame.
    pub fn write_frame(&self, at: u32, bytes: &[u8; PAGE_BYTES]) {
        let to = self.address(at) as *mut u8;
        // SAFETY: the frame is inside the owned mapping, which is writable; the caller holds it, so no reference from
        // `frame_bytes` lives, and `bytes` is therefore not the same frame.
        unsafe { core::ptr::copy(bytes.as_ptr(), to, PAGE_BYTES) }
    }

    /// Gives the memory of `count` frames from `first` back to the kernel. The caller holds them all.
    ///
    /// # Panics
    /// When the frames are not all inside the area, or the kernel refuses to take back our own memory.
    pub fn drop_frames(&self, first: u32, count: u32) {
        if count == 0 {
            return;
        }
        assert!(first.checked_add(count).is_some_and(|end| end <= self.pages), "frames {first}+{count}");
        let len = count as usize * PAGE_BYTES;
        // SAFETY: the frames are inside the owned mapping and the caller, who holds them, gives their contents up.
        let dropped = unsafe { advise(self.address(first), len, MADV_DONTNEED) };
        dropped.expect("the kernel takes back frames of our own private mapping");
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // SAFETY: the mapping is owned by this value, and references into it borrow this value.
        let _ = unsafe { unmap(self.base, self.len_bytes()) };
    }
}
