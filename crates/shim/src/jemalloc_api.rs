//! jemalloc's own interface, for programs that were built against libjemalloc (Debian's Redis, for one).
//!
//! Everything is passed on, but for background threads: a thread that jemalloc starts on its own could hold its locks
//! at a fork and would purge behind the pager's back, so they are unknown here, as in a jemalloc built without them.

use crate::heap;
use core::ffi::{CStr, c_char, c_int, c_void};
use linux_raw_sys::errno::ENOENT;
use tikv_jemalloc_sys as jemalloc;

type Block = *mut c_void;
const ABSENT: [&CStr; 2] = [c"background_thread", c"max_background_threads"];

/// # Safety
/// `name` must be a string.
unsafe fn is_absent(name: *const c_char) -> bool {
    // SAFETY: the caller gives a string.
    ABSENT.contains(&unsafe { CStr::from_ptr(name) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mallocx(len: usize, flags: c_int) -> Block {
    heap::lane();
    // SAFETY: the caller's own promise.
    heap::persistently(|| unsafe { jemalloc::mallocx(len, flags) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rallocx(old: Block, len: usize, flags: c_int) -> Block {
    heap::lane();
    // SAFETY: the caller's own promise. On failure the block stays as it is.
    heap::persistently(|| unsafe { jemalloc::rallocx(old, len, flags) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn xallocx(block: Block, len: usize, extra: usize, flags: c_int) -> usize {
    // SAFETY: the caller's own promise.
    unsafe { jemalloc::xallocx(block, len, extra, flags) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sallocx(block: Block, flags: c_int) -> usize {
    // SAFETY: the caller's own promise.
    unsafe { jemalloc::sallocx(block, flags) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dallocx(block: Block, flags: c_int) {
    // SAFETY: the caller's own promise.
    unsafe { jemalloc::dallocx(block, flags) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sdallocx(block: Block, len: usize, flags: c_int) {
    // SAFETY: the caller's own promise.
    unsafe { jemalloc::sdallocx(block, len, flags) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nallocx(len: usize, flags: c_int) -> usize {
    heap::lane();
    // SAFETY: the caller's own promise.
    unsafe { jemalloc::nallocx(len, flags) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mallctl(
    name: *const c_char,
    old: Block,
    old_len: *mut usize,
    new: Block,
    new_len: usize,
) -> c_int {
    heap::lane();
    // SAFETY: the caller's own promise.
    unsafe {
        if is_absent(name) {
            return ENOENT as c_int;
        }
        jemalloc::mallctl(name, old, old_len, new, new_len)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mallctlnametomib(name: *const c_char, mib: *mut usize, mib_len: *mut usize) -> c_int {
    heap::lane();
    // SAFETY: the caller's own promise.
    unsafe {
        if is_absent(name) {
            return ENOENT as c_int;
        }
        jemalloc::mallctlnametomib(name, mib, mib_len)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mallctlbymib(
    mib: *const usize,
    mib_len: usize,
    old: Block,
    old_len: *mut usize,
    new: Block,
    new_len: usize,
) -> c_int {
    heap::lane();
    // SAFETY: the caller's own promise.
    unsafe { jemalloc::mallctlbymib(mib, mib_len, old, old_len, new, new_len) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn malloc_stats_print(
    write: Option<unsafe extern "C" fn(*mut c_void, *const c_char)>,
    data: *mut c_void,
    options: *const c_char,
) {
    heap::lane();
    // SAFETY: the caller's own promise.
    unsafe { jemalloc::malloc_stats_print(write, data, options) };
}
