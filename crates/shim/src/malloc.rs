//! The malloc family as programs call it: glibc's names with glibc's manners.
//!
//! These functions only choose between jemalloc's caches of the thread's managed arena (the rule: one compare, then
//! jemalloc) and memory that is never evicted. jemalloc's own interface is in `jemalloc_api`.

use crate::heap::{self, MALLOC_ALIGN};
use crate::inward::set_errno;
use crate::lane::Lane;
use crate::raw::PAGE_BYTES;
use core::ffi::{c_int, c_void};
use core::ptr::null_mut;
use linux_raw_sys::errno::{EINVAL, ENOMEM};
use tikv_jemalloc_sys as jemalloc;

type Block = *mut c_void;
/// From this size on blocks are resized with room to grow. Below, copying is cheap.
const LARGE_BYTES: usize = 1 << 20;

/// Exports a function that passes its arguments on, with its return address behind them: where it was called from.
macro_rules! with_caller {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) => $inner:ident, $register:literal, $arm_register:literal;)*) => {$(
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $kind),*) -> Block {
            #[cfg(target_arch = "x86_64")]
            core::arch::naked_asm!(
                concat!("mov ", $register, ", qword ptr [rsp]"),
                "jmp {inner}",
                inner = sym $inner,
            );
            #[cfg(target_arch = "aarch64")]
            core::arch::naked_asm!(concat!("mov ", $arm_register, ", x30"), "b {inner}", inner = sym $inner);
        }
    )*};
}

// These are what the dynamic linker calls.
with_caller! {
    fn malloc(len: usize) => malloc_for, "rsi", "x1";
    fn calloc(count: usize, len: usize) => calloc_for, "rdx", "x2";
    fn realloc(old: Block, len: usize) => realloc_for, "rdx", "x2";
}

extern "C" fn malloc_for(len: usize, caller: usize) -> Block {
    allocate(heap::lane_for(caller), len)
}

extern "C" fn calloc_for(count: usize, len: usize, caller: usize) -> Block {
    match heap::lane_for(caller) {
        // SAFETY: jemalloc takes any sizes.
        Lane::Managed | Lane::Undecided => heap::persistently(|| unsafe { jemalloc::calloc(count, len) }),
        Lane::Plain => match count.checked_mul(len) {
            Some(len) => heap::allocate_plainly(len, MALLOC_ALIGN, jemalloc::MALLOCX_ZERO),
            None => out_of_memory(),
        },
    }
}

unsafe extern "C" fn realloc_for(old: Block, len: usize, caller: usize) -> Block {
    // SAFETY: the caller's own promise.
    unsafe { resize(heap::lane_for(caller), old, len) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn reallocarray(old: Block, count: usize, len: usize) -> Block {
    match count.checked_mul(len) {
        // SAFETY: the caller's own promise.
        Some(len) => unsafe { resize(heap::lane(), old, len) },
        None => out_of_memory(),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free(block: Block) {
    // SAFETY: the caller's own promise. A block goes back to the arena it came from, whatever the thread's lane.
    unsafe { jemalloc::free(block) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cfree(block: Block) {
    // SAFETY: the caller's own promise.
    unsafe { jemalloc::free(block) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free_sized(block: Block, _len: usize) {
    // SAFETY: the caller's own promise.
    unsafe { jemalloc::free(block) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free_aligned_sized(block: Block, _align: usize, _len: usize) {
    // SAFETY: the caller's own promise.
    unsafe { jemalloc::free(block) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(out: *mut Block, align: usize, len: usize) -> c_int {
    if !align.is_power_of_two() || align < size_of::<usize>() {
        return EINVAL as c_int;
    }
    let block = allocate_aligned(align, len);
    if block.is_null() {
        return ENOMEM as c_int;
    }
    // SAFETY: the caller gives a place for the pointer.
    unsafe { out.write(block) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn aligned_alloc(align: usize, len: usize) -> Block {
    aligned(align, len)
}

#[unsafe(no_mangle)]
extern "C" fn memalign(align: usize, len: usize) -> Block {
    aligned(align, len)
}

#[unsafe(no_mangle)]
extern "C" fn valloc(len: usize) -> Block {
    or_out_of_memory(allocate_aligned(PAGE_BYTES, len))
}

#[unsafe(no_mangle)]
extern "C" fn pvalloc(len: usize) -> Block {
    match len.max(1).checked_next_multiple_of(PAGE_BYTES) {
        Some(len) => or_out_of_memory(allocate_aligned(PAGE_BYTES, len)),
        None => out_of_memory(),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn malloc_usable_size(block: Block) -> usize {
    // SAFETY: the caller's own promise; null is 0.
    unsafe { jemalloc::malloc_usable_size(block) }
}

/// Gives free memory back; 1 is "some was".
#[unsafe(no_mangle)]
extern "C" fn malloc_trim(_keep: usize) -> c_int {
    heap::purge();
    1
}

/// Takes every option and ignores it: they are glibc's. 1 is "done".
#[unsafe(no_mangle)]
extern "C" fn mallopt(_option: c_int, _value: c_int) -> c_int {
    1
}

/// glibc's `struct mallinfo` (`int`) and `struct mallinfo2` (`size_t`).
#[repr(C)]
struct Usage<T> {
    /// Bytes taken from the system.
    arena: T,
    ordblks: T,
    smblks: T,
    hblks: T,
    hblkhd: T,
    usmblks: T,
    fsmblks: T,
    /// Bytes allocated.
    uordblks: T,
    /// Bytes free.
    fordblks: T,
    /// Bytes that `malloc_trim` could give back.
    keepcost: T,
}

impl<T: Default> Usage<T> {
    fn now(of: impl Fn(usize) -> T) -> Self {
        heap::refresh_statistics();
        let allocated = heap::statistic(c"stats.allocated");
        let active = heap::statistic(c"stats.active");
        let resident = heap::statistic(c"stats.resident").max(active);
        Self {
            arena: of(resident),
            ordblks: of(1),
            smblks: T::default(),
            hblks: T::default(),
            hblkhd: T::default(),
            usmblks: T::default(),
            fsmblks: T::default(),
            uordblks: of(allocated),
            fordblks: of(resident.saturating_sub(allocated)),
            keepcost: of(resident - active),
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn mallinfo() -> Usage<c_int> {
    Usage::now(|bytes| c_int::try_from(bytes).unwrap_or(c_int::MAX))
}

#[unsafe(no_mangle)]
extern "C" fn mallinfo2() -> Usage<usize> {
    Usage::now(|bytes| bytes)
}

#[inline(always)]
fn allocate(lane: Lane, len: usize) -> Block {
    match lane {
        // SAFETY: jemalloc takes any size.
        Lane::Managed | Lane::Undecided => heap::persistently(|| unsafe { jemalloc::malloc(len) }),
        Lane::Plain => heap::allocate_plainly(len, MALLOC_ALIGN, 0),
    }
}

#[inline(always)]
unsafe fn resize(lane: Lane, old: Block, len: usize) -> Block {
    if old.is_null() {
        return allocate(lane, len);
    }
    if len == 0 {
        // SAFETY: the caller's own promise.
        unsafe { jemalloc::free(old) };
        return null_mut();
    }
    match lane {
        // SAFETY: the caller's own promise.
        Lane::Managed | Lane::Undecided if len >= LARGE_BYTES => unsafe { resize_large(old, len) },
        // SAFETY: the caller's own promise. On failure the block stays as it is.
        Lane::Managed | Lane::Undecided => heap::persistently(|| unsafe { jemalloc::realloc(old, len) }),
        // SAFETY: the caller's own promise; the size is not 0.
        Lane::Plain => or_out_of_memory(unsafe { jemalloc::rallocx(old, len, heap::PLAIN) }),
    }
}

/// A large block that has to move gets a quarter more than was asked for, and keeps it while it is used. Programs grow
/// arrays in small steps and count on glibc's mremap; copying them at each step would touch everything each time.
///
/// # Safety
/// As `realloc`.
unsafe fn resize_large(old: Block, len: usize) -> Block {
    // SAFETY: the caller gives a block.
    let have = unsafe { jemalloc::malloc_usable_size(old) };
    if have >= len && len >= have - have / 4 {
        return old;
    }
    if have < len {
        // SAFETY: the block is the caller's; the size is not 0.
        if unsafe { jemalloc::xallocx(old, len, 0, 0) } >= len {
            return old;
        }
        // SAFETY: as above. On failure the block stays as it is.
        let roomy = unsafe { jemalloc::rallocx(old, len.saturating_add(len / 4), 0) };
        if !roomy.is_null() {
            return roomy;
        }
    }
    // SAFETY: the caller's own promise. On failure the block stays as it is.
    heap::persistently(|| unsafe { jemalloc::realloc(old, len) })
}

/// `align` is a power of two. Null when there is no memory.
fn allocate_aligned(align: usize, len: usize) -> Block {
    let align = align.max(size_of::<usize>());
    match heap::lane() {
        Lane::Managed | Lane::Undecided => heap::persistently(|| {
            let mut block = null_mut();
            // SAFETY: the alignment is a power of two of at least a pointer; `block` takes the answer.
            unsafe { jemalloc::posix_memalign(&mut block, align, len) };
            block
        }),
        Lane::Plain => heap::allocate_plainly(len, align, 0),
    }
}

/// glibc takes any alignment and means the next power of two.
fn aligned(align: usize, len: usize) -> Block {
    match align.max(1).checked_next_power_of_two() {
        Some(align) => or_out_of_memory(allocate_aligned(align, len)),
        None => {
            set_errno(EINVAL);
            null_mut()
        }
    }
}

fn or_out_of_memory(block: Block) -> Block {
    if block.is_null() { out_of_memory() } else { block }
}

#[cold]
fn out_of_memory() -> Block {
    set_errno(ENOMEM);
    null_mut()
}
