//! `mmap` and its kin as programs call them.
//!
//! Private anonymous memory from [`MANAGED_MIN`] on is managed. Everything else goes to the kernel as it is, after one
//! look at a bit map. What changes managed memory is done in the thread's turn at the door, so that the monitor hears of
//! changes in the order in which they happened.

use crate::door::{self, Turn};
use crate::inward::set_errno;
use crate::pieces;
use crate::raw;
use core::ffi::{c_int, c_void};
use linux_raw_sys::errno::{EFAULT, ENOMEM};
use linux_raw_sys::general as kernel;
use memvisor_pager::Note;

/// The smallest mapping that is managed. Below, mappings are many and small: metadata would cost more than it saves.
const MANAGED_MIN: usize = 1 << 20;
const MAP_FAILED: *mut c_void = core::ptr::without_provenance_mut(usize::MAX);

fn pages(len: usize) -> usize {
    len.saturating_add(raw::PAGE_BYTES - 1) & !(raw::PAGE_BYTES - 1)
}

fn pointer(result: isize) -> *mut c_void {
    if result < 0 {
        set_errno(result.unsigned_abs() as u32);
        return MAP_FAILED;
    }
    core::ptr::with_exposed_provenance_mut(result as usize)
}

fn status(result: isize) -> c_int {
    if result < 0 {
        set_errno(result.unsigned_abs() as u32);
        return -1;
    }
    0
}

/// Whether a mapping of this kind could be managed.
fn is_private_anonymous(flags: u32) -> bool {
    let kind = flags & kernel::MAP_TYPE;
    let special = kernel::MAP_HUGETLB | kernel::MAP_GROWSDOWN | kernel::MAP_STACK;
    kind == kernel::MAP_PRIVATE && flags & kernel::MAP_ANONYMOUS != 0 && flags & special == 0
}

/// `mmap`, under whichever of its names. (A call of one exported name by another would be turned inward by the linker.)
///
/// # Safety
/// As `mmap`: what `MAP_FIXED` replaces must be the caller's.
unsafe fn map_for_program(addr: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, at: i64) -> *mut c_void {
    let (addr, prot, flags) = (addr.addr(), prot as u32, flags as u32);
    let replaces = flags & kernel::MAP_FIXED != 0 && door::touches(addr, len);
    let candidate = is_private_anonymous(flags) && (len >= MANAGED_MIN || replaces);
    // SAFETY: the caller's own promise.
    let map = || unsafe { raw::map(addr, len, prot, flags, fd, at as usize) };
    if !replaces && !candidate {
        return pointer(map());
    }
    let writable = prot & kernel::PROT_WRITE != 0;
    if candidate && writable && flags & kernel::MAP_NORESERVE == 0 && door::refuses(len) {
        return pointer(-(ENOMEM as isize));
    }
    let turn = Turn::take();
    if replaces {
        turn.leave(Note::Unmapped { start: addr, end: addr + pages(len) });
    }
    let result = map();
    if result >= 0 && candidate {
        let start = result as usize;
        door::touch(start, pages(len));
        if writable {
            turn.mapped(start, start + pages(len));
        }
    }
    drop(turn);
    pointer(result)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(addr: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, at: i64) -> *mut c_void {
    // SAFETY: the caller's own promise.
    unsafe { map_for_program(addr, len, prot, flags, fd, at) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mmap64(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    at: i64,
) -> *mut c_void {
    // SAFETY: the caller's own promise.
    unsafe { map_for_program(addr, len, prot, flags, fd, at) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(addr: *mut c_void, len: usize) -> c_int {
    let start = addr.addr();
    // SAFETY: the caller's own promise.
    let unmap = || unsafe { raw::unmap(start, len) };
    if !door::touches(start, len) {
        return status(unmap());
    }
    let turn = Turn::take();
    let result = unmap();
    if result == 0 {
        turn.leave(Note::Unmapped { start, end: start + pages(len) });
    }
    drop(turn);
    status(result)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mprotect(addr: *mut c_void, len: usize, prot: c_int) -> c_int {
    let start = addr.addr();
    // SAFETY: the caller's own promise.
    let protect = || unsafe { raw::protect(start, len, prot as u32) };
    let commits = prot as u32 & kernel::PROT_WRITE != 0 && door::touches(start, len);
    if !commits {
        return status(protect());
    }
    let turn = Turn::take();
    let result = protect();
    if result == 0 {
        // Reserved memory becomes memory; what is managed already stays as it is.
        turn.mapped(start, start + pages(len));
    }
    drop(turn);
    status(result)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn madvise(addr: *mut c_void, len: usize, advice: c_int) -> c_int {
    let start = addr.addr();
    // SAFETY: the caller's own promise.
    let advise = |advice: u32| unsafe { raw::advise(start, len, advice) };
    let advice = advice as u32;
    let gives_away = matches!(advice, kernel::MADV_DONTNEED | kernel::MADV_FREE | kernel::MADV_DONTNEED_LOCKED);
    if !gives_away || !door::is_open() || !door::touches(start, len) {
        return status(advise(advice));
    }
    // MADV_FREE allows the kernel to do it at once; done later, it would go unseen.
    // The kernel itself tells the monitor, and lets this thread wait until it has heard.
    status(advise(if advice == kernel::MADV_FREE { kernel::MADV_DONTNEED } else { advice }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mremap(
    addr: *mut c_void,
    old_len: usize,
    new_len: usize,
    flags: c_int,
    new_addr: *mut c_void,
) -> *mut c_void {
    let (start, target) = (addr.addr(), new_addr.addr());
    // SAFETY: the caller's own promise.
    let remap = || unsafe { raw::remap(start, old_len, new_len, flags as usize, target) };
    let fixed = flags as u32 & kernel::MREMAP_FIXED != 0;
    let concerns_us = door::touches(start, old_len.max(1)) || fixed && door::touches(target, new_len);
    if !concerns_us {
        return pointer(remap());
    }
    if new_len > old_len && door::refuses(new_len - old_len) {
        return pointer(-(ENOMEM as isize));
    }
    let turn = Turn::take();
    turn.leave(Note::Moving { start, end: start + pages(old_len) });
    // Kernels from 6.17 on move several mappings to a fixed place one by one, and stop with EFAULT at one that is armed when
    // others have been moved already.
    let could_be_half_done = fixed && pages(new_len) == pages(old_len) && !pieces::is_one_mapping(start, old_len);
    let mut result = if could_be_half_done { -(EFAULT as isize) } else { remap() };
    if result == -(EFAULT as isize) {
        result = pieces::remap(start, old_len, new_len, flags as u32, target);
    }
    if result >= 0 {
        let now = result as usize;
        door::touch(now, pages(new_len));
        if now != start {
            turn.leave(Note::Unmapped { start, end: start + pages(old_len) });
        } else if pages(new_len) < pages(old_len) {
            turn.leave(Note::Unmapped { start: start + pages(new_len), end: start + pages(old_len) });
        }
        turn.mapped(now, now + pages(new_len));
    }
    drop(turn);
    pointer(result)
}
