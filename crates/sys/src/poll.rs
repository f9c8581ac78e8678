//! Waiting for descriptors. *Hot*: nothing here allocates.

use crate::Result;
use crate::call::{self, number as nr};

/// Something can be read.
pub const POLLIN: i16 = 1;
/// Something can be written.
pub const POLLOUT: i16 = 4;
/// The descriptor is in error.
pub const POLLERR: i16 = 8;
/// The other side is gone.
pub const POLLHUP: i16 = 16;
/// The descriptor is not open.
pub const POLLNVAL: i16 = 32;

/// A descriptor to wait for: what is awaited, and what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PollFd {
    /// The descriptor; a negative one is skipped.
    pub fd: i32,
    /// What is awaited (`POLL…`).
    pub events: i16,
    /// What came.
    pub revents: i16,
}

const _: () = assert!(size_of::<PollFd>() == 8);

impl PollFd {
    /// Waits for `fd` to have something to read.
    pub const fn readable(fd: i32) -> PollFd {
        PollFd { fd, events: POLLIN, revents: 0 }
    }

    /// Whether anything came.
    pub const fn is_ready(&self) -> bool {
        self.revents != 0
    }
}

#[repr(C)]
pub(crate) struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

impl Timespec {
    pub(crate) const fn from_ns(ns: u64) -> Timespec {
        Timespec { seconds: (ns / 1_000_000_000) as i64, nanoseconds: (ns % 1_000_000_000) as i64 }
    }

    pub(crate) const fn to_ns(&self) -> u64 {
        self.seconds as u64 * 1_000_000_000 + self.nanoseconds as u64
    }
}

/// Waits until a descriptor is ready, at most `timeout_ms` milliseconds (negative: for ever). Gives how many are.
///
/// # Errors
/// `EINTR` when a signal came.
pub fn poll(fds: &mut [PollFd], timeout_ms: i32) -> Result<usize> {
    ppoll(fds, u64::try_from(timeout_ms).ok().map(|ms| ms * 1_000_000))
}

/// Waits until a descriptor is ready, at most `timeout_ns` nanoseconds (`None`: for ever). Gives how many are.
///
/// # Errors
/// `EINTR` when a signal came.
pub fn ppoll(fds: &mut [PollFd], timeout_ns: Option<u64>) -> Result<usize> {
    // The kernel writes the rest of the time back, so the time must be ours alone.
    let mut time = timeout_ns.map(Timespec::from_ns);
    let time = time.as_mut().map_or(core::ptr::null_mut(), |time| time as *mut Timespec);
    // SAFETY: the kernel writes `revents` of that many entries and the time; the signal mask is left as it is.
    unsafe { call::syscall5(nr::__NR_ppoll, fds.as_mut_ptr() as usize, fds.len(), time as usize, 0, 8) }
}
