//! Memory that processes share: a sparse file in memory, and its mapping as words.

use crate::call::{self, number as nr};
use crate::file::{self, Fd};
use crate::memory::{self, MADV_DONTDUMP, MADV_REMOVE, MAP_NORESERVE, MAP_SHARED, PROT_READ, PROT_WRITE};
use crate::{Result, errno};
use core::ffi::CStr;
use core::sync::atomic::AtomicU64;

const MFD_CLOEXEC: usize = 1;
const MFD_ALLOW_SEALING: usize = 2;
const MFD_NOEXEC_SEAL: usize = 8;

/// A file that several processes map.
pub struct SharedFile {
    fd: Fd,
}

impl SharedFile {
    /// Makes a memory file of `len` bytes, all of them holes. It is closed by exec, and sealed against shrinking:
    /// a mapping of it cannot lose its end.
    pub fn create(name: &CStr, len: u64) -> Result<SharedFile> {
        let sealable = MFD_CLOEXEC | MFD_ALLOW_SEALING;
        let fd = match memfd(name, sealable | MFD_NOEXEC_SEAL) {
            // Kernels before 6.3 do not know NOEXEC_SEAL.
            Err(errno::EINVAL) => memfd(name, sealable)?,
            made => made?,
        };
        fd.truncate(len)?;
        seal_against_shrinking(&fd)?;
        Ok(SharedFile { fd })
    }

    /// Opens a shared file by a path, such as `/proc/PID/fd/N`.
    pub fn open(path: &CStr) -> Result<SharedFile> {
        Ok(SharedFile { fd: file::open(path, file::O_RDWR, 0)? })
    }

    /// Takes ownership of descriptor `fd`.
    pub fn from_fd(fd: i32) -> SharedFile {
        SharedFile { fd: Fd::from_raw(fd) }
    }

    /// The number of the descriptor, still owned by this value.
    pub fn fd(&self) -> i32 {
        self.fd.raw()
    }

    /// The owned descriptor.
    pub fn as_fd(&self) -> &Fd {
        &self.fd
    }

    /// The owned descriptor; mappings stay.
    pub fn into_fd(self) -> Fd {
        self.fd
    }

    /// Maps the first `len` bytes, for reading and writing, until the process ends.
    ///
    /// # Errors
    /// `EINVAL` when the file is shorter: its missing end would be a SIGBUS.
    pub fn map(&self, len: usize) -> Result<SharedMap> {
        if self.fd.stat()?.size < len as u64 {
            return Err(errno::EINVAL);
        }
        let (prot, flags) = (PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE);
        // SAFETY: without MAP_FIXED the kernel chooses a range that nobody has.
        let base = unsafe { memory::map(0, len, prot, flags, self.fd(), 0) }?;
        Ok(SharedMap { base, len })
    }

    /// Maps the first `len` bytes as [`SharedFile::map`] does, until the view is dropped: for who looks at files of others,
    /// whose memory would otherwise live as long as he.
    ///
    /// # Errors
    /// `EINVAL` when the file is shorter, or not sealed against shrinking: its end may then become a SIGBUS at any time.
    pub fn view(&self, len: usize) -> Result<SharedView> {
        if !self.is_sealed_against_shrinking() {
            return Err(errno::EINVAL);
        }
        self.map(len).map(|map| SharedView { map })
    }

    /// Whether nobody can make the file shorter.
    pub fn is_sealed_against_shrinking(&self) -> bool {
        const F_GET_SEALS: usize = 1034;
        // SAFETY: reads a property of a file that is ours to read. Files that cannot be sealed give an error.
        let seals = unsafe { call::syscall3(nr::__NR_fcntl, self.fd() as usize, F_GET_SEALS, 0) };
        seals.is_ok_and(|seals| seals & F_SEAL_SHRINK != 0)
    }

    /// Gives the memory of a range back; it reads as zeros after.
    pub fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.fd.fallocate(file::FALLOC_PUNCH_HOLE | file::FALLOC_KEEP_SIZE, offset, len)
    }

    /// Bytes of memory that the file takes now.
    pub fn resident_bytes(&self) -> Result<u64> {
        Ok(self.fd.stat()?.allocated)
    }
}

fn memfd(name: &CStr, flags: usize) -> Result<Fd> {
    // SAFETY: the name ends in a zero byte; a new descriptor is nobody else's.
    let raw = unsafe { call::syscall2(nr::__NR_memfd_create, name.as_ptr() as usize, flags) }?;
    Ok(Fd::from_raw(raw as i32))
}

const F_SEAL_SHRINK: usize = 2;

fn seal_against_shrinking(fd: &Fd) -> Result<()> {
    const F_ADD_SEALS: usize = 1033;
    // SAFETY: a seal forbids, and touches no memory.
    unsafe { call::syscall3(nr::__NR_fcntl, fd.raw() as usize, F_ADD_SEALS, F_SEAL_SHRINK) }.map(drop)
}

/// A mapping of a [`SharedFile`] that lives as long as this value.
#[derive(Debug)]
pub struct SharedView {
    map: SharedMap,
}

impl SharedView {
    /// `count` words from `byte_offset`.
    ///
    /// # Panics
    /// When they are not all inside the view, or the offset is not a multiple of 8.
    #[inline]
    pub fn words(&self, byte_offset: usize, count: usize) -> &[AtomicU64] {
        self.map.words(byte_offset, count)
    }
}

impl Drop for SharedView {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, it is never handed out, and words borrow this value.
        let _ = unsafe { memory::unmap(self.map.base, self.map.len) };
    }
}

/// A mapping of a [`SharedFile`] that lives until the process ends: it is never unmapped, which is what lets its
/// words be `'static` and the map be copied at will. *Hot*: nothing here allocates.
#[derive(Clone, Copy, Debug)]
pub struct SharedMap {
    base: usize,
    len: usize,
}

impl SharedMap {
    /// `count` words from `byte_offset`.
    ///
    /// # Panics
    /// When they are not all inside the map, or the offset is not a multiple of 8.
    #[inline]
    pub fn words(&self, byte_offset: usize, count: usize) -> &'static [AtomicU64] {
        assert!(byte_offset.is_multiple_of(8), "words at {byte_offset}, which is not a multiple of 8");
        let first = self.bytes_ptr(byte_offset, count.saturating_mul(8)) as *const AtomicU64;
        // SAFETY: inside the mapping, aligned, never unmapped; the file cannot shrink, and atomics may be shared with
        // whoever else maps them.
        unsafe { core::slice::from_raw_parts(first, count) }
    }

    /// Where the map begins.
    pub fn base(&self) -> *mut u8 {
        self.base as *mut u8
    }

    /// Bytes in the map.
    #[expect(clippy::len_without_is_empty, reason = "the kernel makes no empty mapping")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where `len` bytes at `offset` lie. Who writes them and when is decided by words elsewhere in the map.
    ///
    /// # Panics
    /// When they are not all inside the map.
    #[inline]
    pub fn bytes_ptr(&self, offset: usize, len: usize) -> *mut u8 {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(inside, "{len} bytes at {offset} of a shared map of {}", self.len);
        (self.base + offset) as *mut u8
    }

    /// Gives the memory of a range (whole pages) back; it reads as zeros after, for all who map the file.
    ///
    /// # Panics
    /// When the range is not inside the map.
    pub fn punch(&self, offset: usize, len: usize) -> Result<()> {
        let at = self.bytes_ptr(offset, len) as usize;
        // SAFETY: the range is ours; references into it are to atomics, which may become zero at any time.
        unsafe { memory::advise(at, len, MADV_REMOVE) }
    }

    /// Keeps the map out of core dumps.
    pub fn set_dontdump(&self) -> Result<()> {
        // SAFETY: the range is ours and its contents stay.
        unsafe { memory::advise(self.base, self.len, MADV_DONTDUMP) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering;

    #[test]
    fn a_view_sees_what_others_write_and_is_gone_when_dropped() {
        let file = SharedFile::create(c"view", 8192).unwrap();
        let (map, view) = (file.map(8192).unwrap(), file.view(8192).unwrap());
        map.words(4096, 1)[0].store(7, Ordering::Relaxed);
        assert_eq!(view.words(4096, 1)[0].load(Ordering::Relaxed), 7);
        let at = view.map.base;
        drop(view);
        let mapped = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!mapped.lines().any(|line| line.starts_with(&format!("{at:x}-"))));
    }

    #[test]
    fn a_file_that_may_shrink_or_is_too_short_is_not_viewed() {
        let open = SharedFile { fd: memfd(c"open", MFD_CLOEXEC | MFD_ALLOW_SEALING).unwrap() };
        open.fd.truncate(8192).unwrap();
        assert_eq!(open.view(4096).unwrap_err(), errno::EINVAL);
        assert_eq!(SharedFile::create(c"short", 4096).unwrap().view(8192).unwrap_err(), errno::EINVAL);
    }
}
