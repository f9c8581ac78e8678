//! The kernel made safe: memory, userfaultfd, page maps, threads, processes, files, by direct system calls.
//!
//! This crate is linked into a preloaded library that itself exports `mmap`, `munmap`, `mremap`, `mprotect`,
//! `madvise` and `malloc`. Hence two invariants: no function here calls a C library function of those names (each system call
//! is an instruction in [`call`]), and what is marked *hot* neither allocates nor takes a lock, so that it may run
//! while the program waits inside its own allocator.
//!
//! Absent on purpose: policy, retries that have no bound, and any global state but the address of the kernel's clock.

#[cfg(not(all(target_os = "linux", target_endian = "little", target_pointer_width = "64")))]
compile_error!("memvisor needs 64-bit little-endian Linux");

pub mod call;
pub mod clock;
pub mod errno;
pub mod executable;
pub mod file;
pub mod futex;
pub mod maps;
pub mod memory;
pub mod pagemap;
pub mod poll;
pub mod probe;
pub mod process;
mod procfs;
pub mod random;
pub mod say;
pub mod shared;
pub mod thread;
pub mod uffd;
mod vdso;

pub use errno::Errno;

/// What a system call gives: a value or the kernel's reason.
pub type Result<T> = core::result::Result<T, Errno>;

/// Bytes in a page: the only size that this crate deals in.
pub const PAGE_BYTES: usize = 4096;
