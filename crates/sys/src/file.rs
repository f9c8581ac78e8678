//! Descriptors, files, and buffers fit for direct I/O.

use crate::call::{self, number as nr};
use crate::{PAGE_BYTES, Result, errno, memory};
use core::ffi::CStr;
use core::ops::{Deref, DerefMut};

/// Kept here too, beside the other writes.
pub use crate::say::write_to_stderr;

macro_rules! constants {
    ($($name:ident = $value:expr, $doc:literal;)*) => { $(#[doc = $doc] pub const $name: i32 = $value;)* };
}

constants! {
    O_RDONLY = 0, "To read.";
    O_WRONLY = 1, "To write.";
    O_RDWR = 2, "To read and write.";
    O_CREAT = 0o100, "Make it when it is not there.";
    O_EXCL = 0o200, "It must not be there.";
    O_TRUNC = 0o1000, "Empty it.";
    O_APPEND = 0o2000, "Write at the end.";
    O_NOCTTY = 0o400, "A terminal does not become the controlling one.";
    O_NONBLOCK = 0o4000, "Do not wait.";
    O_CLOEXEC = 0o2000000, "Closed by exec.";
    O_DIRECT = nr::O_DIRECT as i32, "Past the page cache.";
    O_DIRECTORY = nr::O_DIRECTORY as i32, "It must be a directory.";
    O_TMPFILE = 0o20000000 | O_DIRECTORY, "A file without a name in this directory.";
    FALLOC_KEEP_SIZE = 1, "Do not change the file's length.";
    FALLOC_PUNCH_HOLE = 2, "Give the range's blocks back; it reads as zeros.";
    FALLOC_ZERO_RANGE = 16, "Make the range read as zeros.";
}

/// An owned descriptor, closed when dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Fd(i32);

impl Fd {
    /// Takes ownership of descriptor `raw`.
    pub const fn from_raw(raw: i32) -> Fd {
        Fd(raw)
    }

    /// The number of the descriptor, still owned by this value.
    pub const fn raw(&self) -> i32 {
        self.0
    }

    /// Gives up ownership.
    pub fn into_raw(self) -> i32 {
        let raw = self.0;
        core::mem::forget(self);
        raw
    }

    /// Another descriptor for the same open file, at least `least`, closed by exec.
    pub fn duplicate_from(&self, least: i32) -> Result<Fd> {
        const F_DUPFD_CLOEXEC: usize = 1030;
        // SAFETY: a new descriptor is nobody else's.
        let raw = unsafe { call::syscall3(nr::__NR_fcntl, self.0 as usize, F_DUPFD_CLOEXEC, least as usize) }?;
        Ok(Fd(raw as i32))
    }

    /// Sets whether exec closes the descriptor.
    pub fn set_inherited(&self, inherited: Inherited) -> Result<()> {
        const F_SETFD: usize = 2;
        const FD_CLOEXEC: usize = 1;
        let flags = match inherited {
            Inherited::Yes => 0,
            Inherited::No => FD_CLOEXEC,
        };
        // SAFETY: changes a flag of a descriptor that is ours.
        unsafe { call::syscall3(nr::__NR_fcntl, self.0 as usize, F_SETFD, flags) }.map(drop)
    }

    /// Reads at `offset`; gives how many bytes, 0 at the end. Hot.
    pub fn pread(&self, out: &mut [u8], offset: u64) -> Result<usize> {
        // SAFETY: the kernel writes at most the length of `out`.
        unsafe {
            call::syscall4(nr::__NR_pread64, self.0 as usize, out.as_mut_ptr() as usize, out.len(), offset as usize)
        }
    }

    /// Writes at `offset`; gives how many bytes. Hot.
    pub fn pwrite(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        // SAFETY: the kernel reads at most the length of `bytes`.
        unsafe {
            call::syscall4(nr::__NR_pwrite64, self.0 as usize, bytes.as_ptr() as usize, bytes.len(), offset as usize)
        }
    }

    /// Reads until `out` is full.
    ///
    /// # Errors
    /// `ENODATA` when the file ends before.
    pub fn pread_exact(&self, mut out: &mut [u8], mut offset: u64) -> Result<()> {
        while !out.is_empty() {
            match self.pread(out, offset) {
                Ok(0) => return Err(errno::ENODATA),
                Ok(done) => {
                    out = &mut out[done..];
                    offset += done as u64;
                }
                Err(errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Writes all of `bytes`.
    pub fn pwrite_all(&self, mut bytes: &[u8], mut offset: u64) -> Result<()> {
        while !bytes.is_empty() {
            match self.pwrite(bytes, offset) {
                Ok(0) => return Err(errno::EIO),
                Ok(done) => {
                    bytes = &bytes[done..];
                    offset += done as u64;
                }
                Err(errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Reads from where the descriptor stands.
    pub fn read(&self, out: &mut [u8]) -> Result<usize> {
        // SAFETY: the kernel writes at most the length of `out`.
        unsafe { call::syscall3(nr::__NR_read, self.0 as usize, out.as_mut_ptr() as usize, out.len()) }
    }

    /// Writes where the descriptor stands.
    pub fn write(&self, bytes: &[u8]) -> Result<usize> {
        // SAFETY: the kernel reads at most the length of `bytes`.
        unsafe { call::syscall3(nr::__NR_write, self.0 as usize, bytes.as_ptr() as usize, bytes.len()) }
    }

    /// Allocates, punches or zeroes a range, as `mode` (`FALLOC_…`) says.
    pub fn fallocate(&self, mode: i32, offset: u64, len: u64) -> Result<()> {
        // SAFETY: changes a file, not memory that Rust knows of: mapped files are atomics or raw pointers here.
        unsafe { call::syscall4(nr::__NR_fallocate, self.0 as usize, mode as usize, offset as usize, len as usize) }
            .map(drop)
    }

    /// Sets the length of the file.
    pub fn truncate(&self, len: u64) -> Result<()> {
        // SAFETY: changes a file; those who map it know that it may shrink, or seal it.
        unsafe { call::syscall2(nr::__NR_ftruncate, self.0 as usize, len as usize) }.map(drop)
    }

    /// Waits until what was written is on the medium.
    pub fn sync_data(&self) -> Result<()> {
        // SAFETY: touches no memory.
        unsafe { call::syscall1(nr::__NR_fdatasync, self.0 as usize) }.map(drop)
    }

    /// What the file is.
    pub fn stat(&self) -> Result<Stat> {
        let mut raw = core::mem::MaybeUninit::<nr::stat>::zeroed();
        // SAFETY: the kernel writes one `struct stat` there.
        unsafe { call::syscall2(nr::__NR_fstat, self.0 as usize, raw.as_mut_ptr() as usize) }?;
        // SAFETY: zeroed, then written by the kernel; all its fields are integers.
        let raw = unsafe { raw.assume_init() };
        Ok(Stat {
            size: raw.st_size as u64,
            allocated: raw.st_blocks as u64 * 512,
            device: raw.st_dev,
            inode: raw.st_ino,
            mode: raw.st_mode,
            owner: raw.st_uid,
            group: raw.st_gid,
        })
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is owned, so nobody else uses its number. An error leaves nothing to be done.
        let _ = unsafe { call::syscall1(nr::__NR_close, self.0 as usize) };
    }
}

/// Whether a program that is executed gets a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inherited {
    /// It does.
    Yes,
    /// Exec closes it.
    No,
}

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Length in bytes.
    pub size: u64,
    /// Bytes of blocks (or memory) it takes.
    pub allocated: u64,
    /// The device it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Kind and permissions.
    pub mode: u32,
    /// Whose it is.
    pub owner: u32,
    /// Whose group's it is.
    pub group: u32,
}

impl Stat {
    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & 0o170000 == 0o100000
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.mode & 0o170000 == 0o040000
    }

    /// Whether it is a pipe, with or without a name.
    pub fn is_pipe(&self) -> bool {
        self.mode & 0o170000 == 0o010000
    }

    /// Whether it is a block device.
    pub fn is_block_device(&self) -> bool {
        self.mode & 0o170000 == 0o060000
    }
}

/// Whether a file's I/O goes through the page cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caching {
    /// It does not: buffers, offsets and lengths must be aligned to [`PAGE_BYTES`].
    Direct,
    /// It does: the file system has no direct I/O.
    Buffered,
}

/// Opens `path`; `mode` is the permissions of a file that is made. Always closed by exec.
pub fn open(path: &CStr, flags: i32, mode: u32) -> Result<Fd> {
    const AT_FDCWD: isize = -100;
    let flags = flags | O_CLOEXEC;
    // SAFETY: the path ends in a zero byte; a new descriptor is nobody else's.
    let raw = unsafe {
        call::syscall4(nr::__NR_openat, AT_FDCWD as usize, path.as_ptr() as usize, flags as usize, mode as usize)
    }?;
    Ok(Fd(raw as i32))
}

/// Opens `path` for direct I/O, or, where the file system has none, through the page cache; says which.
pub fn open_direct(path: &CStr, flags: i32, mode: u32) -> Result<(Fd, Caching)> {
    match open(path, flags | O_DIRECT, mode) {
        Ok(fd) => Ok((fd, Caching::Direct)),
        // A file system without direct I/O says EINVAL, and may have made the file by then: EXCL must not see it.
        Err(errno::EINVAL) => Ok((open(path, flags & !O_EXCL & !O_DIRECT, mode)?, Caching::Buffered)),
        Err(errno) => Err(errno),
    }
}

/// Makes a file without a name in `directory`, for reading and writing, direct where the file system can.
/// It is gone when its last descriptor is closed.
pub fn open_unnamed(directory: &CStr) -> Result<(Fd, Caching)> {
    open_direct(directory, O_TMPFILE | O_RDWR, 0o600)
}

/// Takes a name away.
pub fn unlink(path: &CStr) -> Result<()> {
    const AT_FDCWD: isize = -100;
    // SAFETY: the path ends in a zero byte.
    unsafe { call::syscall3(nr::__NR_unlinkat, AT_FDCWD as usize, path.as_ptr() as usize, 0) }.map(drop)
}

/// Bytes at a page boundary, of fixed length, in a mapping of their own: fit for direct I/O.
pub struct AlignedBuffer {
    base: usize,
    len: usize,
}

impl AlignedBuffer {
    /// A buffer of `len` zero bytes (at least one).
    ///
    /// # Errors
    /// `ENOMEM`, or `EINVAL` when `len` is 0.
    pub fn new(len: usize) -> Result<AlignedBuffer> {
        let mapped = len.next_multiple_of(PAGE_BYTES);
        let base = memory::map_anonymous(mapped)?;
        memory::own(base, mapped);
        Ok(AlignedBuffer { base, len })
    }
}

impl AlignedBuffer {
    /// Page `at` of the buffer, to write.
    ///
    /// # Panics
    /// When the buffer has no such page.
    pub fn page_mut(&mut self, at: usize) -> &mut [u8; PAGE_BYTES] {
        &mut self.as_chunks_mut::<PAGE_BYTES>().0[at]
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is owned, private, readable, at least `len` long, and borrowed with this value.
        unsafe { core::slice::from_raw_parts(self.base as *const u8, self.len) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is owned, private, writable, at least `len` long, and borrowed mutably with this value.
        unsafe { core::slice::from_raw_parts_mut(self.base as *mut u8, self.len) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        memory::disown(self.len.next_multiple_of(PAGE_BYTES));
        // SAFETY: the mapping is owned by this value, and references into it borrow this value.
        let _ = unsafe { memory::unmap(self.base, self.len.next_multiple_of(PAGE_BYTES)) };
    }
}
