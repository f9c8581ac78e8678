//! userfaultfd: being told of a program's page faults, and putting pages in, out and elsewhere.
//!
//! A [`Uffd`] is bound to the address space that opened it. The one who holds it promises to serve what it registered:
//! a fault that nobody answers is a thread that sleeps for ever. *Hot*: nothing but opening allocates, and that only
//! a descriptor.
//!
//! The functions are safe to call with any address: the kernel checks that a range is registered here before it
//! changes a page of it, and reads sources as it reads any system call's buffer. What pages hold afterwards is the
//! business of whoever gave the range to be managed.
//!
//! See `Documentation/admin-guide/mm/userfaultfd.rst` of the kernel.

mod message;

use crate::call::{self, ioctl_number, number as nr};
use crate::file::{self, Fd, O_CLOEXEC, O_NONBLOCK, O_RDWR};
use crate::{Errno, Result, errno};

pub use message::{MESSAGES_MAX, Message, MessageBuffer};

macro_rules! constants {
    ($kind:ty: $($name:ident = $value:expr, $doc:literal;)*) => { $(#[doc = $doc] pub const $name: $kind = $value;)* };
}

constants! { u64:
    FEATURE_PAGEFAULT_FLAG_WP = 1 << 0, "Write-protect faults (5.7).";
    FEATURE_EVENT_FORK = 1 << 1, "Told of forks; the child's descriptor comes with the message. Needs privilege.";
    FEATURE_EVENT_REMAP = 1 << 2, "Told of mremap.";
    FEATURE_EVENT_REMOVE = 1 << 3, "Told of madvise DONTNEED and REMOVE.";
    FEATURE_MISSING_HUGETLBFS = 1 << 4, "Missing faults in hugetlbfs.";
    FEATURE_MISSING_SHMEM = 1 << 5, "Missing faults in shared memory.";
    FEATURE_EVENT_UNMAP = 1 << 6, "Told of munmap.";
    FEATURE_SIGBUS = 1 << 7, "No messages for faults: the faulting thread gets SIGBUS.";
    FEATURE_THREAD_ID = 1 << 8, "The message of a fault says which thread waits.";
    FEATURE_MINOR_HUGETLBFS = 1 << 9, "Minor faults in hugetlbfs.";
    FEATURE_MINOR_SHMEM = 1 << 10, "Minor faults in shared memory.";
    FEATURE_EXACT_ADDRESS = 1 << 11, "The fault's address to the byte.";
    FEATURE_WP_HUGETLBFS_SHMEM = 1 << 12, "Write-protect faults in shared memory.";
    FEATURE_WP_UNPOPULATED = 1 << 13, "Write-protection of pages that are not there.";
    FEATURE_POISON = 1 << 14, "POISON (6.6).";
    FEATURE_WP_ASYNC = 1 << 15, "Write-protect faults that the kernel resolves itself (6.7).";
    FEATURE_MOVE = 1 << 16, "MOVE (6.8).";
    REGISTER_MISSING = 1, "Faults on pages that are not there.";
    REGISTER_WP = 2, "Faults on writes to protected pages.";
    REGISTER_MINOR = 4, "Faults on pages that are in the file but not in the page table.";
    COPY_DONTWAKE = 1, "Wake nobody.";
    COPY_WP = 2, "Fill the page write-protected.";
    ZEROPAGE_DONTWAKE = 1, "Wake nobody.";
    WRITEPROTECT_WP = 1, "Protect; without it, unprotect and wake.";
    WRITEPROTECT_DONTWAKE = 2, "Wake nobody when unprotecting.";
    POISON_DONTWAKE = 1, "Wake nobody.";
    MOVE_DONTWAKE = 1, "Wake nobody.";
    MOVE_ALLOW_SRC_HOLES = 2, "Pages that are not there are skipped.";
}

const UFFD_API: u64 = 0xaa;
const UFFD_USER_MODE_ONLY: usize = 1;

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Range {
    start: u64,
    len: u64,
}

#[repr(C)]
struct Register {
    range: Range,
    mode: u64,
    ioctls: u64,
}

/// COPY and MOVE: the same shape.
#[repr(C)]
struct Transfer {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    done: i64,
}

/// ZEROPAGE, POISON and CONTINUE: the same shape.
#[repr(C)]
struct Fill {
    range: Range,
    mode: u64,
    done: i64,
}

#[repr(C)]
struct WriteProtect {
    range: Range,
    mode: u64,
}

const _: () = {
    assert!(size_of::<Api>() == 24);
    assert!(size_of::<Range>() == 16);
    assert!(size_of::<Register>() == 32);
    assert!(size_of::<Transfer>() == 40);
    assert!(size_of::<Fill>() == 32);
    assert!(size_of::<WriteProtect>() == 24);
    assert!(MOVE == 0xc028_aa05 && CONTINUE == 0xc020_aa07 && POISON == 0xc020_aa08);
};

const READS: u32 = 2;
const BOTH: u32 = 3;
const NEW: usize = ioctl_number(0, 0, 0xaa, 0);
const API: usize = ioctl_number(BOTH, size_of::<Api>(), 0xaa, 0x3f);
const REGISTER: usize = ioctl_number(BOTH, size_of::<Register>(), 0xaa, 0);
const UNREGISTER: usize = ioctl_number(READS, size_of::<Range>(), 0xaa, 1);
const WAKE: usize = ioctl_number(READS, size_of::<Range>(), 0xaa, 2);
const COPY: usize = ioctl_number(BOTH, size_of::<Transfer>(), 0xaa, 3);
const ZEROPAGE: usize = ioctl_number(BOTH, size_of::<Fill>(), 0xaa, 4);
const MOVE: usize = ioctl_number(BOTH, size_of::<Transfer>(), 0xaa, 5);
const WRITEPROTECT: usize = ioctl_number(BOTH, size_of::<WriteProtect>(), 0xaa, 6);
const CONTINUE: usize = ioctl_number(BOTH, size_of::<Fill>(), 0xaa, 7);
const POISON: usize = ioctl_number(BOTH, size_of::<Fill>(), 0xaa, 8);

/// What a request over a range gives: all of it done, or the bytes done before it stopped, and why.
///
/// When something was done the kernel hides its reason behind `EAGAIN`: try the rest to learn it.
pub type Partial = core::result::Result<(), (usize, Errno)>;

/// How a descriptor was got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// By `/dev/userfaultfd`, whose permissions decide.
    Device,
    /// By the system call, with privilege or where `vm.unprivileged_userfaultfd` is 1.
    Privileged,
    /// By the system call, for faults of the program's own instructions only: a fault inside a system call is EFAULT
    /// there. Not enough to manage memory.
    UserModeOnly,
}

/// A userfaultfd of this address space (or of the child that a [`Message::Fork`] tells of).
pub struct Uffd {
    fd: Fd,
}

impl Uffd {
    /// Opens one with `features` (`FEATURE_…`), which does not wait when read.
    ///
    /// # Errors
    /// `EPERM` without privilege, `EINVAL` when the kernel lacks a feature, `ENOSYS` when it has none of this.
    pub fn open(features: u64) -> Result<Uffd> {
        let uffd = match Self::open_by(Way::Device) {
            Ok(uffd) => uffd,
            // The device may be absent or closed to us where the call is open, but a full table is a full table.
            Err(full @ (errno::EMFILE | errno::ENFILE)) => return Err(full),
            Err(_) => Self::open_by(Way::Privileged)?,
        };
        uffd.handshake(features)?;
        Ok(uffd)
    }

    /// Every feature that the kernel has. [`FEATURE_EVENT_FORK`] takes `CAP_SYS_PTRACE` beside.
    pub fn available_features() -> Result<u64> {
        let uffd = match Self::open_by(Way::Device).or_else(|_| Self::open_by(Way::Privileged)) {
            Ok(uffd) => uffd,
            Err(_) => Self::open_by(Way::UserModeOnly)?,
        };
        uffd.handshake(0)
    }

    /// Opens a descriptor in one way, before any features are agreed on.
    pub(crate) fn open_by(way: Way) -> Result<Uffd> {
        let flags = (O_CLOEXEC | O_NONBLOCK) as usize;
        let raw = match way {
            Way::Device => {
                let device = file::open(c"/dev/userfaultfd", O_RDWR, 0)?;
                // SAFETY: a new descriptor is nobody else's.
                unsafe { call::syscall3(nr::__NR_ioctl, device.raw() as usize, NEW, flags) }
            }
            // SAFETY: a new descriptor is nobody else's.
            Way::Privileged => unsafe { call::syscall1(nr::__NR_userfaultfd, flags) },
            // SAFETY: a new descriptor is nobody else's.
            Way::UserModeOnly => unsafe { call::syscall1(nr::__NR_userfaultfd, flags | UFFD_USER_MODE_ONLY) },
        }?;
        Ok(Uffd { fd: Fd::from_raw(raw as i32) })
    }

    /// Agrees on `features`; gives all that the kernel has.
    pub(crate) fn handshake(&self, features: u64) -> Result<u64> {
        let mut api = Api { api: UFFD_API, features, ioctls: 0 };
        self.request(API, &mut api)?;
        Ok(api.features)
    }

    /// Takes ownership of descriptor `fd`, such as a [`Message::Fork`] brings.
    pub fn from_fd(fd: i32) -> Uffd {
        Uffd { fd: Fd::from_raw(fd) }
    }

    /// The number of the descriptor, still owned by this value.
    pub fn fd(&self) -> i32 {
        self.fd.raw()
    }

    /// The owned descriptor.
    pub fn into_fd(self) -> Fd {
        self.fd
    }

    fn request<T>(&self, number: usize, argument: &mut T) -> Result<usize> {
        // SAFETY: private to this file, where each number goes with the structure of its size; the kernel reads and
        // writes that structure only, and pages of ranges that were registered.
        unsafe { call::syscall3(nr::__NR_ioctl, self.fd.raw() as usize, number, argument as *mut T as usize) }
    }

    /// Registers a range of whole pages for the kinds of faults in `modes` (`REGISTER_…`).
    ///
    /// # Errors
    /// `EBUSY` when part of it is registered with another descriptor, `EINVAL` when part of it cannot be, `ENOMEM`
    /// when nothing is mapped there.
    pub fn register(&self, start: usize, len: usize, modes: u64) -> Result<()> {
        let mut register = Register { range: range(start, len), mode: modes, ioctls: 0 };
        self.request(REGISTER, &mut register).map(drop)
    }

    /// Takes a range out; who waits for a page of it is woken.
    pub fn unregister(&self, start: usize, len: usize) -> Result<()> {
        self.request(UNREGISTER, &mut range(start, len)).map(drop)
    }

    /// Fills missing pages at `dst` with the bytes at `src`, and wakes who waits for them. `mode`: `COPY_…`.
    ///
    /// # Errors
    /// `EEXIST` when a page is there already, `ENOENT` when the range is not registered here any more, `ESRCH` when the
    /// address space is gone, `EAGAIN` while a fork, remap or unmap waits for its message to be read.
    pub fn copy(&self, dst: usize, src: *const u8, len: usize, mode: u64) -> Partial {
        self.transfer(COPY, dst, src as usize, len, mode)
    }

    /// Moves pages from `src` to missing pages at `dst`, without copying; in one address space only. `mode`: `MOVE_…`.
    ///
    /// # Errors
    /// As [`Uffd::copy`], and `EBUSY` when a page of the source is shared or pinned, `EINVAL` when the two mappings
    /// differ in protection, locking or kind, `ENOENT` for a hole in the source without `MOVE_ALLOW_SRC_HOLES`.
    pub fn move_pages(&self, dst: usize, src: usize, len: usize, mode: u64) -> Partial {
        self.transfer(MOVE, dst, src, len, mode)
    }

    fn transfer(&self, number: usize, dst: usize, src: usize, len: usize, mode: u64) -> Partial {
        let mut transfer = Transfer { dst: dst as u64, src: src as u64, len: len as u64, mode, done: 0 };
        let result = self.request(number, &mut transfer);
        partial(result, transfer.done)
    }

    /// Fills missing pages with zeros, and wakes who waits for them. `mode`: `ZEROPAGE_…`.
    ///
    /// The pages are the kernel's zero page: they cost nothing, and the first write to one costs another fault.
    ///
    /// # Errors
    /// As [`Uffd::copy`].
    pub fn zeropage(&self, start: usize, len: usize, mode: u64) -> Partial {
        self.fill(ZEROPAGE, start, len, mode)
    }

    /// Makes missing pages poisonous: who touches one gets SIGBUS. Wakes who waits for them.
    ///
    /// # Errors
    /// As [`Uffd::copy`]; `EINVAL` before Linux 6.6.
    pub fn poison(&self, start: usize, len: usize) -> Partial {
        self.fill(POISON, start, len, 0)
    }

    fn fill(&self, number: usize, start: usize, len: usize, mode: u64) -> Partial {
        let mut fill = Fill { range: range(start, len), mode, done: 0 };
        let result = self.request(number, &mut fill);
        partial(result, fill.done)
    }

    /// Wakes who waits for a page of the range; who finds the page still missing reports it anew.
    pub fn wake(&self, start: usize, len: usize) -> Result<()> {
        self.request(WAKE, &mut range(start, len)).map(drop)
    }

    /// Protects pages against writing, or lets them be written again, as `mode` (`WRITEPROTECT_…`) says.
    pub fn write_protect(&self, start: usize, len: usize, mode: u64) -> Result<()> {
        let mut protect = WriteProtect { range: range(start, len), mode };
        self.request(WRITEPROTECT, &mut protect).map(drop)
    }

    /// Reads the messages that wait, up to a bufferful, into `buffer`; gives how many, 0 when none waits.
    ///
    /// # Errors
    /// `EINVAL` before the handshake; `EMFILE` when a fork's descriptor finds no place.
    pub fn read(&self, buffer: &mut MessageBuffer) -> Result<usize> {
        buffer.set_filled(0);
        match self.fd.read(buffer.as_bytes_mut()) {
            Ok(len) => buffer.set_filled(len),
            Err(errno::EAGAIN | errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(buffer.len())
    }
}

const fn range(start: usize, len: usize) -> Range {
    Range { start: start as u64, len: len as u64 }
}

fn partial(result: Result<usize>, done: i64) -> Partial {
    // Where nothing was done the kernel puts the negative error in `done` too.
    result.map(drop).map_err(|errno| (done.max(0) as usize, errno))
}
