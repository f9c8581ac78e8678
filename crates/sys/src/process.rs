//! Processes: who, alive or not, and reading their memory. Nothing here allocates.

use crate::call::{self, number as nr};
use crate::file::Fd;
use crate::poll::{self, PollFd};
use crate::procfs::{self, ProcPath};
use crate::{Result, errno};

/// SIGBUS: a page that cannot be brought back.
pub const SIGBUS: i32 = 7;
/// SIGKILL: cannot be caught.
pub const SIGKILL: i32 = 9;
/// SIGTERM: please end.
pub const SIGTERM: i32 = 15;

/// `prctl`: signal to get when the parent dies.
pub const PR_SET_PDEATHSIG: i32 = 1;
/// `prctl`: whether others of the same user may look at the process.
pub const PR_GET_DUMPABLE: i32 = 3;
/// `prctl`: sets it.
pub const PR_SET_DUMPABLE: i32 = 4;
/// `prctl`: names the calling thread.
pub const PR_SET_NAME: i32 = 15;
/// `prctl`: orphans below come to this process.
pub const PR_SET_CHILD_SUBREAPER: i32 = 36;
/// `prctl`: which process may look at this one under the Yama security module.
pub const PR_SET_PTRACER: i32 = 0x5961_6d61;

/// The id of this process.
pub fn getpid() -> u32 {
    // SAFETY: takes nothing, changes nothing, and cannot fail.
    unsafe { call::syscall0(nr::__NR_getpid) }.map_or(0, |pid| pid as u32)
}

/// The id of the parent; 0 when it is outside of our sight.
pub fn getppid() -> u32 {
    // SAFETY: takes nothing, changes nothing, and cannot fail.
    unsafe { call::syscall0(nr::__NR_getppid) }.map_or(0, |pid| pid as u32)
}

/// A descriptor for process `pid` that stays true when the number is used again.
///
/// # Errors
/// `ESRCH` when there is no such process.
pub fn pidfd_open(pid: u32) -> Result<Fd> {
    // SAFETY: a new descriptor is nobody else's.
    let raw = unsafe { call::syscall2(nr::__NR_pidfd_open, pid as usize, 0) }?;
    Ok(Fd::from_raw(raw as i32))
}

/// A descriptor of our own for what descriptor `number` of another process (or of this one) is. Linux 5.6.
///
/// # Errors
/// `EBADF` when the process has no such descriptor, `EPERM` when it is not ours to look at.
pub fn descriptor_of(pidfd: &Fd, number: u32) -> Result<Fd> {
    // SAFETY: a new descriptor is nobody else's.
    let raw = unsafe { call::syscall3(nr::__NR_pidfd_getfd, pidfd.raw() as usize, number as usize, 0) }?;
    Ok(Fd::from_raw(raw as i32))
}

/// Whether the process of a [`pidfd_open`] has not ended yet.
pub fn pidfd_alive(pidfd: &Fd) -> bool {
    matches!(poll::poll(&mut [PollFd::readable(pidfd.raw())], 0), Ok(0))
}

/// Ends this process as a SIGBUS does, also when it catches, ignores or blocks that signal: whoever waits for it sees
/// SIGBUS.
///
/// The signal goes to the calling thread. Sent to the process it would be taken by any thread that does not block it,
/// later than the SIGKILL that must follow.
pub fn end_with_sigbus() -> ! {
    const SIG_UNBLOCK: usize = 1;
    let signals = 1u64 << (SIGBUS - 1);
    let signals_at = &raw const signals as usize;
    // The kernel's `struct sigaction`, all of it zero: the default action. 32 bytes with the C library's padding.
    let default = [0u64; 4];
    let default_at = default.as_ptr() as usize;
    // SAFETY: the kernel reads one action; the process ends before anybody can miss the old one.
    let _ = unsafe { call::syscall4(nr::__NR_rt_sigaction, SIGBUS as usize, default_at, 0, size_of::<u64>()) };
    // SAFETY: the kernel reads one mask of 8 bytes.
    let _ = unsafe { call::syscall4(nr::__NR_rt_sigprocmask, SIG_UNBLOCK, signals_at, 0, size_of::<u64>()) };
    let _ = tgkill(getpid(), crate::thread::gettid(), SIGBUS);
    loop {
        let _ = kill(getpid(), SIGKILL);
    }
}

/// Sends a signal to a process; signal 0 only asks whether it could.
pub fn kill(pid: u32, signal: i32) -> Result<()> {
    // Zero and negative ids mean groups, which nobody here wants to hit by mistake.
    if pid == 0 || pid > i32::MAX as u32 {
        return Err(errno::ESRCH);
    }
    // SAFETY: touches no memory.
    unsafe { call::syscall2(nr::__NR_kill, pid as usize, signal as usize) }.map(drop)
}

/// Sends a signal to thread `tid` of process `pid`.
pub fn tgkill(pid: u32, tid: u32, signal: i32) -> Result<()> {
    // SAFETY: touches no memory.
    unsafe { call::syscall3(nr::__NR_tgkill, pid as usize, tid as usize, signal as usize) }.map(drop)
}

/// Ranges that one [`read_from`] takes.
pub const REMOTE_RANGES_MAX: usize = 64;

#[derive(Clone, Copy)]
#[repr(C)]
struct IoVec {
    base: usize,
    len: usize,
}

/// Reads the memory of process `pid` at the ranges `(address, bytes)` one after the other into `local`; gives how many
/// bytes, fewer when a later range is not readable or `local` is full. Hot.
///
/// # Errors
/// `EFAULT` when the first byte is not readable, `ESRCH` when the process is gone, `EPERM` when it is not ours to look at,
/// `EINVAL` for more than [`REMOTE_RANGES_MAX`] ranges.
pub fn read_from(pid: u32, remote: &[(usize, usize)], local: &mut [u8]) -> Result<usize> {
    if remote.len() > REMOTE_RANGES_MAX {
        return Err(errno::EINVAL);
    }
    let mut from = [IoVec { base: 0, len: 0 }; REMOTE_RANGES_MAX];
    for (vec, &(base, len)) in from.iter_mut().zip(remote) {
        *vec = IoVec { base, len };
    }
    let to = IoVec { base: local.as_mut_ptr() as usize, len: local.len() };
    let (to, from) = (&raw const to as usize, from.as_ptr() as usize);
    // SAFETY: the kernel reads the vectors, and writes at most the length of `local` there.
    unsafe { call::syscall6(nr::__NR_process_vm_readv, pid as usize, to, 1, from, remote.len(), 0) }
}

/// When process `pid` started, in clock ticks since boot: with the number it names a process for ever.
///
/// # Errors
/// `ENOENT` or `ESRCH` when there is no such process.
pub fn start_ticks(pid: u32) -> Result<u64> {
    const STAT_START: usize = 22;
    const STAT_BYTES_MAX: usize = 1280;
    let file = ProcPath::of(Some(pid)).text("/stat").open()?;
    let mut line = [0; STAT_BYTES_MAX];
    let len = file.read(&mut line)?;
    procfs::stat_field(&line[..len], STAT_START).ok_or(errno::ESRCH)
}

/// Makes orphans among our descendants our children.
pub fn set_subreaper() -> Result<()> {
    prctl(PR_SET_CHILD_SUBREAPER, 1)
}

/// Asks for `signal` when the parent thread dies; 0 for none.
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    prctl(PR_SET_PDEATHSIG, signal as usize)
}

/// Lets process `pid` look into this one where the Yama security module would forbid it.
///
/// # Errors
/// `EINVAL` when the module is not there: then nothing is forbidden either.
pub fn set_ptracer(pid: u32) -> Result<()> {
    prctl(PR_SET_PTRACER, pid as usize)
}

/// Whether others of the same user may look at this process.
pub fn is_dumpable() -> Result<bool> {
    // SAFETY: touches no memory.
    unsafe { call::syscall5(nr::__NR_prctl, PR_GET_DUMPABLE as usize, 0, 0, 0, 0) }.map(|value| value == 1)
}

/// One of the `prctl` operations of this crate, whose argument is a number or a string that outlives the call.
pub(crate) fn prctl(operation: i32, argument: usize) -> Result<()> {
    // SAFETY: private to this crate, whose operations above read at most the string that is given.
    unsafe { call::syscall5(nr::__NR_prctl, operation as usize, argument, 0, 0, 0) }.map(drop)
}
