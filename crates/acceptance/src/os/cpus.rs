//! Which CPUs a thread may run on.

use super::succeeded;
use std::io;

/// CPUs that are looked at.
const CPUS: usize = libc::CPU_SETSIZE as usize;

/// The CPUs that the calling thread may run on, by `sched_getaffinity`.
///
/// # Errors
/// As that call.
pub fn allowed() -> io::Result<Vec<usize>> {
    asked(|set| {
        // SAFETY: the set has that size, and the call writes no more.
        succeeded(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set) })
    })
}

/// The same by `pthread_getaffinity_np`.
///
/// # Errors
/// As that call.
pub fn allowed_to_thread() -> io::Result<Vec<usize>> {
    asked(|set| {
        // SAFETY: the thread is the calling one; the set has that size, and the call writes no more.
        match unsafe { libc::pthread_getaffinity_np(libc::pthread_self(), size_of::<libc::cpu_set_t>(), set) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    })
}

/// Lets the calling thread run on `cpus` only.
///
/// # Errors
/// As `sched_setaffinity`.
pub fn allow(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: a set of CPUs is bits; none set is one of them.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus.iter().filter(|&&cpu| cpu < CPUS) {
        // SAFETY: the number is within the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: the set has that size and is only read.
    succeeded(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })
}

fn asked(ask: impl FnOnce(*mut libc::cpu_set_t) -> io::Result<()>) -> io::Result<Vec<usize>> {
    // SAFETY: a set of CPUs is bits; none set is one of them.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    ask(&raw mut set)?;
    // SAFETY: the numbers are within the set.
    Ok((0..CPUS).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}
