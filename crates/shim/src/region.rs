//! The address space of the heap: one reservation, carved in order.
//!
//! The reservation is inaccessible memory; a piece becomes readable and writable when it is carved. So `mlockall` does
//! not fill the reservation, and the kernel's own limits on data see what is in use. When there is no reservation (the
//! process has a limit on address space, or the kernel refuses) or it is used up, pieces are mapped one by one.

use crate::{aligned, door};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use memvisor_sys::PAGE_BYTES;
use memvisor_sys::call::{self, number};
use memvisor_sys::memory::{self, MADV_DONTNEED, MAP_NORESERVE, PROT_NONE, PROT_READ, PROT_WRITE};

const READ_WRITE: i32 = PROT_READ | PROT_WRITE;
/// The reservation begins at a multiple of this, the reach of one window of the page table.
const ALIGN: usize = 16 << 20;
/// Sizes of the reservation in GiB, tried in this order. A quarter TiB is more than a host has DRAM and a 500th of the
/// address space; the smaller one is for kernels that are short of it.
const SIZES_GIB: [usize; 2] = [256, 64];

/// The reservation: its address, and in the low bits its length in GiB. 0 before the first use.
static RESERVATION: AtomicUsize = AtomicUsize::new(0);
/// What [`RESERVATION`] holds when there is none: one of no length.
const NONE: usize = ALIGN;
/// The part of it that is never used: without, the kernel would make one mapping of the heap and whatever else is
/// mapped right before it. A huge page long, so that what follows begins at a huge page.
const GUARD_BYTES: usize = 2 << 20;
/// How many bytes of it are carved.
static CARVED: AtomicUsize = AtomicUsize::new(GUARD_BYTES);
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Fresh zero memory of `len` bytes at a multiple of `align` (a power of two), announced to the pager. `None` when
/// there is none or the pager refuses.
pub fn grow(len: usize, align: usize) -> Option<usize> {
    let grown = try_grow(len, align.max(PAGE_BYTES));
    if grown.is_none() {
        REFUSED.store(true, Ordering::Relaxed);
    }
    grown
}

/// Whether the heap ever failed to grow.
pub fn has_refused() -> bool {
    REFUSED.load(Ordering::Relaxed)
}

fn try_grow(len: usize, align: usize) -> Option<usize> {
    let (base, reserved) = reservation();
    let Some((before, start, end)) = carve(base, reserved, len, align) else {
        return map_alone(len, align);
    };
    // SAFETY: the piece is ours alone since it was carved.
    if unsafe { memory::protect(start, len, READ_WRITE) }.is_ok() {
        if door::heap_grew(start, len) {
            return Some(start);
        }
        // SAFETY: as above; nobody was told of it.
        let _ = unsafe { memory::protect(start, len, PROT_NONE) };
    }
    // Uncarve, if nobody carved behind it; otherwise only address space is lost.
    let _ = CARVED.compare_exchange(end - base, before, Ordering::Relaxed, Ordering::Relaxed);
    None
}

/// Gives the contents of a carved piece away; the next touch finds zeros. False when the kernel refuses.
///
/// # Safety
/// The piece must come from [`grow`] and nothing in it may be in use.
pub unsafe fn drop_contents(addr: usize, len: usize) -> bool {
    // SAFETY: the caller owns the piece and what is in it.
    unsafe { memory::advise(addr, len, MADV_DONTNEED) }.is_ok()
}

/// Takes the next `len` bytes at a multiple of `align`: how much was carved before, the start and the end.
fn carve(base: usize, reserved: usize, len: usize, align: usize) -> Option<(usize, usize, usize)> {
    let mut before = CARVED.load(Ordering::Relaxed);
    loop {
        let start = (base + before).checked_next_multiple_of(align)?;
        let end = start.checked_add(len)?;
        if end > base + reserved {
            return None;
        }
        match CARVED.compare_exchange_weak(before, end - base, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Some((before, start, end)),
            Err(now) => before = now,
        }
    }
}

/// A mapping of its own. The kernel may refuse it for its size: nobody has so much memory.
fn map_alone(len: usize, align: usize) -> Option<usize> {
    let addr = aligned::map(len, align, READ_WRITE, 0).ok()?;
    if door::heap_grew(addr, len) {
        return Some(addr);
    }
    // SAFETY: mapped above and nobody was told of it.
    let _ = unsafe { memory::unmap(addr, len) };
    None
}

/// Where the reservation is and how long; made at the first call.
fn reservation() -> (usize, usize) {
    let mut packed = RESERVATION.load(Ordering::Acquire);
    if packed == 0 {
        packed = reserve();
    }
    (packed & !(ALIGN - 1), (packed & (ALIGN - 1)) << 30)
}

#[cold]
fn reserve() -> usize {
    let sizes = if address_space_is_unlimited() { &SIZES_GIB[..] } else { &[] };
    let made = sizes.iter().find_map(|gib| Some(aligned::map(gib << 30, ALIGN, PROT_NONE, MAP_NORESERVE).ok()? | gib));
    match RESERVATION.compare_exchange(0, made.unwrap_or(NONE), Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => made.unwrap_or(NONE),
        Err(theirs) => {
            if let Some(ours) = made {
                // SAFETY: another thread was faster; nobody knows of this one.
                let _ = unsafe { memory::unmap(ours & !(ALIGN - 1), (ours & (ALIGN - 1)) << 30) };
            }
            theirs
        }
    }
}

fn address_space_is_unlimited() -> bool {
    let mut limit = number::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let out = &raw mut limit as usize;
    // SAFETY: reads this process's limit into `limit`.
    let read = unsafe { call::syscall4(number::__NR_prlimit64, 0, number::RLIMIT_AS as usize, 0, out) };
    read.is_ok() && limit.rlim_cur == u64::MAX
}
