//! The memory system calls in C's shape: the kernel's answer, a result or a negated error number.

use memvisor_sys::{Result, memory};

pub use memvisor_sys::PAGE_BYTES;

fn answer(result: Result<usize>) -> isize {
    match result {
        Ok(value) => value as isize,
        Err(errno) => -(errno.0 as isize),
    }
}

/// `mmap`.
///
/// # Safety
/// With `MAP_FIXED` whatever was mapped in the range is gone: nobody may use it any more.
pub unsafe fn map(addr: usize, len: usize, prot: u32, flags: u32, fd: i32, offset: usize) -> isize {
    // SAFETY: the caller answers for what the new mapping replaces.
    answer(unsafe { memory::map(addr, len, prot as i32, flags as i32, fd, offset as u64) })
}

/// `munmap`.
///
/// # Safety
/// Nobody may use the range any more.
pub unsafe fn unmap(addr: usize, len: usize) -> isize {
    // SAFETY: the caller gives the range up.
    answer(unsafe { memory::unmap(addr, len) }.map(|()| 0))
}

/// `mremap`.
///
/// # Safety
/// Nobody may use what the old range loses, nor what lay in the new one.
pub unsafe fn remap(addr: usize, old_len: usize, new_len: usize, flags: usize, new_addr: usize) -> isize {
    // SAFETY: the caller answers for both ranges.
    answer(unsafe { memory::remap(addr, old_len, new_len, flags as i32, new_addr) })
}

/// `mprotect`.
///
/// # Safety
/// The range must be the caller's, and accesses that the new protection forbids must not happen.
pub unsafe fn protect(addr: usize, len: usize, prot: u32) -> isize {
    // SAFETY: the caller owns the range.
    answer(unsafe { memory::protect(addr, len, prot as i32) }.map(|()| 0))
}

/// `madvise`.
///
/// # Safety
/// The range must be the caller's, and its contents dispensable when the advice gives them away.
pub unsafe fn advise(addr: usize, len: usize, advice: u32) -> isize {
    // SAFETY: the caller owns the range and what is in it.
    answer(unsafe { memory::advise(addr, len, advice as i32) }.map(|()| 0))
}
