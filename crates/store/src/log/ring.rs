//! One io_uring of one thread: reads and writes of pages, several at a time.
//!
//! The kernel uses the memory of a request until its completion comes. The ring does not own that memory; so what
//! starts a request is `unsafe`, and its callers, the reader and the writer, own their buffers and wait for all
//! completions before they go.

use crate::Errno;
use io_uring::{IoUring, opcode, squeue, types};
use std::time::Duration;

/// The token of what is nobody's completion.
const NOBODY: u64 = u64::MAX;
/// Interrupted waits in a row before it counts as an error: a signal each microsecond does not go on for ever.
const INTERRUPTIONS_MAX: usize = 1 << 16;

/// A ring; dropped, it forgets what is still under way.
pub(super) struct Ring {
    ring: IoUring,
    /// How long a stalled request waits: the kernel reads it when it takes the request.
    stall: Box<types::Timespec>,
}

impl Ring {
    /// A ring for `depth` requests; `None` where the system permits none (seccomp, sysctl, an old kernel).
    pub fn new(depth: u32) -> Option<Ring> {
        // A stalled request takes two entries.
        let ring = IoUring::new((depth * 2).max(2)).ok()?;
        Some(Ring { ring, stall: Box::new(types::Timespec::new()) })
    }

    /// Readable when a completion is there.
    pub fn fd(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.ring.as_raw_fd()
    }

    /// Starts to read `len` bytes at `offset` of the file `fd` to `to`, after `stall` if there is one.
    ///
    /// # Safety
    /// `to..to + len` must be writable, and nobody may use it, until [`Ring::completed`] gives `token`.
    pub unsafe fn read(
        &mut self,
        fd: i32,
        to: *mut u8,
        len: u32,
        offset: u64,
        token: u64,
        stall: Option<Duration>,
    ) -> Result<(), Errno> {
        if let Some(stall) = stall {
            *self.stall = types::Timespec::from(stall);
            let wait = opcode::Timeout::new(&*self.stall).build().user_data(NOBODY).flags(squeue::Flags::IO_HARDLINK);
            // SAFETY: the time is in a box that lives as long as the ring, and the kernel reads it at submission, which is below.
            unsafe { self.push(&wait) }?;
        }
        let read = opcode::Read::new(types::Fd(fd), to, len).offset(offset).build().user_data(token);
        // SAFETY: the caller keeps the memory for the kernel.
        unsafe { self.push(&read) }?;
        // What is not taken now is taken by a later call.
        let _ = self.enter(0);
        Ok(())
    }

    /// Writes `len` bytes from `from` at `offset` of the file `fd` and waits for it: as long as it takes, for until its
    /// completion the memory is the kernel's. Nothing else may be under way. `None` when the ring does not take the
    /// request; it must not be used again then.
    ///
    /// # Safety
    /// `from..from + len` must be readable during the call.
    pub unsafe fn write(&mut self, fd: i32, from: *const u8, len: u32, offset: u64) -> Option<Result<usize, Errno>> {
        let write = opcode::Write::new(types::Fd(fd), from, len).offset(offset).build().user_data(0);
        // SAFETY: the caller keeps the memory during the call, and the call ends with the completion.
        unsafe { self.push(&write) }.ok()?;
        // An error says that nothing was taken.
        self.enter(1).ok()?;
        loop {
            if let Some((_, result)) = self.completed() {
                return Some(result);
            }
            let _ = self.enter(1);
        }
    }

    /// Waits until a completion is there.
    pub fn wait(&mut self) -> Result<(), Errno> {
        self.enter(1)
    }

    /// Hands over what the kernel has not taken yet.
    pub fn flush(&mut self) {
        if !self.ring.submission().is_empty() {
            let _ = self.enter(0);
        }
    }

    /// The next completion: its token, and how many bytes were transferred.
    pub fn completed(&mut self) -> Option<(u64, Result<usize, Errno>)> {
        loop {
            let entry = self.ring.completion().next()?;
            if entry.user_data() != NOBODY {
                let result = entry.result();
                return Some((entry.user_data(), if result < 0 { Err(Errno(-result)) } else { Ok(result as usize) }));
            }
        }
    }

    /// # Safety
    /// What the entry points to must stay until its completion.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> Result<(), Errno> {
        // SAFETY: as the caller promises.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| Errno::EBUSY)
    }

    fn enter(&mut self, want: usize) -> Result<(), Errno> {
        for _ in 0..INTERRUPTIONS_MAX {
            match self.ring.submit_and_wait(want) {
                Ok(_) => return Ok(()),
                Err(error) => match Errno(error.raw_os_error().unwrap_or(Errno::EIO.0)) {
                    Errno::EINTR => {}
                    errno => return Err(errno),
                },
            }
        }
        Err(Errno::EINTR)
    }
}
