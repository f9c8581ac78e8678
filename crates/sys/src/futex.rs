//! Sleeping on a word that processes share. *Hot*: nothing here allocates.

use crate::call::{self, number as nr};
use crate::poll::Timespec;
use crate::{Result, errno};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Shared between processes: the kernel finds the word by its page, not by its address.
const FUTEX_WAIT: usize = 0;
const FUTEX_WAKE: usize = 1;

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// Somebody woke us, or the kernel did for no reason: look at the word.
    Woken,
    /// The word was another one already.
    Changed,
    /// The time is over.
    TimedOut,
    /// A signal came.
    Interrupted,
}

/// Sleeps while `word` is `expected`, at most `timeout_ns` nanoseconds (`None`: for ever).
pub fn wait(word: &AtomicU32, expected: u32, timeout_ns: Option<u64>) -> Result<Waited> {
    let time = timeout_ns.map(Timespec::from_ns);
    let time = time.as_ref().map_or(core::ptr::null(), |time| time as *const Timespec);
    // SAFETY: the kernel reads the word and the time, both borrowed for the whole call.
    let waited =
        unsafe { call::syscall4(nr::__NR_futex, word.as_ptr() as usize, FUTEX_WAIT, expected as usize, time as usize) };
    match waited {
        Ok(_) => Ok(Waited::Woken),
        Err(errno::EAGAIN) => Ok(Waited::Changed),
        Err(errno::ETIMEDOUT) => Ok(Waited::TimedOut),
        Err(errno::EINTR) => Ok(Waited::Interrupted),
        Err(errno) => Err(errno),
    }
}

/// Wakes up to `count` who sleep on `word`; gives how many.
pub fn wake(word: &AtomicU32, count: u32) -> Result<usize> {
    let count = count.min(i32::MAX as u32) as usize;
    // SAFETY: the kernel takes the address as a name only.
    unsafe { call::syscall3(nr::__NR_futex, word.as_ptr() as usize, FUTEX_WAKE, count) }
}

/// The low half of a shared 64-bit word, as a futex.
#[derive(Clone, Copy)]
pub struct FutexWord<'a>(pub &'a AtomicU64);

impl<'a> FutexWord<'a> {
    /// The low half as the kernel sees it.
    fn low(self) -> &'a AtomicU32 {
        // SAFETY: on a little-endian machine (asserted in lib.rs) the low half is at the same address; it is aligned, lives
        // as long, and is given to the kernel only: Rust accesses the word by its 64-bit atomic.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().cast::<u32>()) }
    }

    /// The low half now.
    pub fn load(self) -> u32 {
        self.0.load(Ordering::Acquire) as u32
    }

    /// Sleeps while the low half is `expected`, at most `timeout_ns` nanoseconds (`None`: for ever).
    pub fn wait(self, expected: u32, timeout_ns: Option<u64>) -> Result<Waited> {
        wait(self.low(), expected, timeout_ns)
    }

    /// Wakes up to `count` who sleep on the word; gives how many.
    pub fn wake(self, count: u32) -> Result<usize> {
        wake(self.low(), count)
    }
}
