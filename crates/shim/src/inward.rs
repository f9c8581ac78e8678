//! What `mmap`, `malloc` and the rest mean inside the shim: the plain kernel, and memory that is never evicted.
//!
//! The linker sends the uses of these names by jemalloc and by the Rust standard library here (`build.rs` says how).
//! Without it jemalloc's metadata would be managed memory, and serving a fault could need a page that is evicted.
//! The names are given in assembler, because a C name of a Rust function would be exported.

use crate::forks::{self, AtFork};
use crate::heap::{self, MALLOC_ALIGN};
use crate::raw;
use crate::whole;
use core::ffi::{c_char, c_int, c_void};
use core::ptr::{null, null_mut};
use linux_raw_sys::errno::ENOMEM;
use memvisor_sys::call::{self, number};
use memvisor_sys::{PAGE_BYTES, memory};
use tikv_jemalloc_sys as jemalloc;

macro_rules! inward {
    ($($symbol:literal => $function:path;)*) => {
        $(
            #[cfg(target_arch = "x86_64")]
            core::arch::global_asm!(
                concat!(".pushsection .text.", $symbol, ",\"ax\",@progbits"),
                concat!(".globl ", $symbol),
                concat!(".hidden ", $symbol),
                concat!(".type ", $symbol, ",@function"),
                concat!($symbol, ": jmp {function}"),
                ".popsection",
                function = sym $function,
            );
            #[cfg(target_arch = "aarch64")]
            core::arch::global_asm!(
                concat!(".pushsection .text.", $symbol, ",\"ax\",@progbits"),
                concat!(".globl ", $symbol),
                concat!(".hidden ", $symbol),
                concat!(".type ", $symbol, ",@function"),
                concat!($symbol, ": b {function}"),
                ".popsection",
                function = sym $function,
            );
        )*
    };
}

inward! {
    "__wrap_mmap" => mmap;
    "__wrap_mmap64" => mmap;
    "__wrap_munmap" => munmap;
    "__wrap_mremap" => mremap;
    "__wrap_mprotect" => mprotect;
    "__wrap_madvise" => madvise;
    "__wrap_malloc" => malloc;
    "__wrap_calloc" => calloc;
    "__wrap_realloc" => realloc;
    "__wrap_free" => free;
    "__wrap_posix_memalign" => posix_memalign;
    "__wrap_aligned_alloc" => aligned_alloc;
    "__wrap_secure_getenv" => secure_getenv;
    "__wrap_pthread_atfork" => pthread_atfork;
    "__wrap_pthread_create" => whole::create_thread;
    "__wrap_sched_getaffinity" => sched_getaffinity;
    "__wrap_sched_setaffinity" => sched_setaffinity;
}

unsafe extern "C" {
    safe fn __errno_location() -> *mut c_int;
}

/// Sets the thread's `errno`.
pub fn set_errno(number: u32) {
    // SAFETY: the C library gives the address of the calling thread's own variable.
    unsafe { *__errno_location() = number as c_int };
}

/// Turns the kernel's answer into that of a C function: −1 and `errno`.
fn answer(result: isize) -> isize {
    if result < 0 {
        set_errno(result.unsigned_abs() as u32);
        return -1;
    }
    result
}

unsafe extern "C" fn mmap(addr: usize, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: usize) -> isize {
    let anonymous = flags & memory::MAP_ANONYMOUS != 0;
    let flags = if anonymous { flags | memory::MAP_NORESERVE } else { flags };
    // SAFETY: the caller's own promise.
    let mapped = answer(unsafe { raw::map(addr, len, prot as u32, flags as u32, fd, offset) });
    if mapped >= 0 && anonymous {
        memory::own(mapped as usize, len.next_multiple_of(PAGE_BYTES));
    }
    mapped
}

unsafe extern "C" fn munmap(addr: usize, len: usize) -> c_int {
    memory::disown(len.next_multiple_of(PAGE_BYTES));
    // SAFETY: the caller's own promise.
    answer(unsafe { raw::unmap(addr, len) }) as c_int
}

// The C function is variadic; on our targets a fixed fifth argument is passed the same way, and the kernel looks at it
// only when the flags say that it is there.
unsafe extern "C" fn mremap(addr: usize, old_len: usize, new_len: usize, flags: c_int, new_addr: usize) -> isize {
    // SAFETY: the caller's own promise.
    answer(unsafe { raw::remap(addr, old_len, new_len, flags as usize, new_addr) })
}

unsafe extern "C" fn mprotect(addr: usize, len: usize, prot: c_int) -> c_int {
    // SAFETY: the caller's own promise.
    answer(unsafe { raw::protect(addr, len, prot as u32) }) as c_int
}

unsafe extern "C" fn madvise(addr: usize, len: usize, advice: c_int) -> c_int {
    // SAFETY: the caller's own promise.
    answer(unsafe { raw::advise(addr, len, advice as u32) }) as c_int
}

extern "C" fn malloc(len: usize) -> *mut c_void {
    heap::allocate_plainly(len, MALLOC_ALIGN, 0)
}

extern "C" fn calloc(count: usize, len: usize) -> *mut c_void {
    match count.checked_mul(len) {
        Some(len) => heap::allocate_plainly(len, MALLOC_ALIGN, jemalloc::MALLOCX_ZERO),
        None => null_mut(),
    }
}

unsafe extern "C" fn realloc(old: *mut c_void, len: usize) -> *mut c_void {
    if old.is_null() {
        return malloc(len);
    }
    // SAFETY: the caller's own promise; the size is not 0.
    unsafe { jemalloc::rallocx(old, len.max(1), heap::PLAIN) }
}

// What is freed here need not come from here: `realpath` allocates as the program does and leaves it to the caller.
unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the caller's own promise. jemalloc knows from which arena a block is.
    unsafe { jemalloc::free(block) };
}

unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, len: usize) -> c_int {
    let block = heap::allocate_plainly(len, align, 0);
    if block.is_null() {
        return ENOMEM as c_int;
    }
    // SAFETY: the caller gives a place for the pointer.
    unsafe { out.write(block) };
    0
}

extern "C" fn aligned_alloc(align: usize, len: usize) -> *mut c_void {
    heap::allocate_plainly(len, align, 0)
}

/// Only jemalloc asks, for options.
extern "C" fn secure_getenv(_name: *const c_char) -> *const c_char {
    null()
}

/// Only jemalloc asks: its handlers are called by ours.
extern "C" fn pthread_atfork(before: AtFork, after_in_parent: AtFork, after_in_child: AtFork) -> c_int {
    forks::take_over([before, after_in_parent, after_in_child]);
    0
}

/// jemalloc counts CPUs at its first allocation, when nothing else can be called.
unsafe extern "C" fn sched_getaffinity(thread: c_int, bytes: usize, set: usize) -> c_int {
    // SAFETY: the caller's own promise.
    let written = unsafe { call::syscall3(number::__NR_sched_getaffinity, thread as usize, bytes, set) };
    // The kernel gives the number of bytes.
    answer(written.map_or_else(|errno| -(errno.0 as isize), |_| 0)) as c_int
}

unsafe extern "C" fn sched_setaffinity(thread: c_int, bytes: usize, set: usize) -> c_int {
    // SAFETY: the caller's own promise.
    let done = unsafe { call::syscall3(number::__NR_sched_setaffinity, thread as usize, bytes, set) };
    answer(done.map_or_else(|errno| -(errno.0 as isize), |_| 0)) as c_int
}
