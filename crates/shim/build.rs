//! Turns the shim's own uses of the symbols that it exports inward.
//!
//! The shim exports `mmap`, `malloc` and their families, and links jemalloc and the Rust standard library, which use
//! them. With `--wrap=mmap` the linker resolves every use of `mmap` inside the library to `__wrap_mmap` (see
//! `src/inward.rs`), while the exported `mmap` remains what programs reach. `tests/exports.rs` checks the outcome.

/// What the standard library and jemalloc use of what the shim exports, jemalloc's look at the environment and the
/// handlers that it wants called around forks. A symbol that is not used costs nothing.
const INWARD: [&str; 17] = [
    "mmap",
    "mmap64",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "malloc",
    "calloc",
    "realloc",
    "free",
    "posix_memalign",
    "aligned_alloc",
    "secure_getenv",
    "pthread_atfork",
    "pthread_create",
    "sched_getaffinity",
    "sched_setaffinity",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for symbol in INWARD {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--wrap={symbol}");
    }
}
