//! Speaking to people from inside of a program, without ever making it wait.
//!
//! A thread that serves page faults has a table of descriptors of its own, and must not sleep on a pipe that is full:
//! whoever empties it may be waiting for a page.

use crate::file::{self, Fd, O_NONBLOCK, O_WRONLY};
use crate::poll::{self, POLLOUT, PollFd};
use crate::procfs::ProcPath;
use crate::{Result, process};
use core::mem::ManuallyDrop;

const STDERR: u32 = 2;

/// Writes to the standard error of the process, which the calling thread may not have in its own table. What cannot be
/// written at once is lost: there is nobody to tell. No SIGPIPE comes when nobody reads.
pub fn write_to_stderr(bytes: &[u8]) {
    if let Ok(stderr) = stderr_of_process()
        && takes_bytes(&stderr)
    {
        let _ = stderr.write(bytes);
    }
}

/// The same from a thread that has the process's descriptors. A pipe that belongs to another user, which could not be opened
/// again, takes it too: between the look and the write others may fill it, and then the thread waits as the program would.
pub fn write_to_own_stderr(bytes: &[u8]) {
    let own = ManuallyDrop::new(Fd::from_raw(STDERR as i32));
    if takes_bytes(&own) {
        let _ = own.write(bytes);
    }
}

/// The standard error as the process's first thread has it.
fn stderr_of_process() -> Result<Fd> {
    let same = process::pidfd_open(process::getpid()).and_then(|own| process::descriptor_of(&own, STDERR));
    match same {
        // One that others write to as well may be full by the time we write: a pipe is opened again, so as not to wait
        // without making the program's own writes not wait.
        Ok(same) if same.stat()?.is_pipe() => open_again(ProcPath::of_thread().text("/fd/").decimal(same.raw() as u32)),
        Ok(same) => Ok(same),
        // Before Linux 5.6.
        Err(_) => open_again(ProcPath::of(None).text("/fd/").decimal(STDERR)),
    }
}

fn open_again(path: ProcPath) -> Result<Fd> {
    file::open(path.as_cstr()?, O_WRONLY | file::O_APPEND | O_NONBLOCK | file::O_NOCTTY, 0)
}

/// Whether a write would neither wait nor raise SIGPIPE.
fn takes_bytes(fd: &Fd) -> bool {
    let mut fds = [PollFd { fd: fd.raw(), events: POLLOUT, revents: 0 }];
    poll::poll(&mut fds, 0).is_ok() && fds[0].revents == POLLOUT
}
