//! The calls of the C library that the programs under test make, safe to call.
//!
//! The programs go through the C library on purpose: that is what an unmodified program does, and what a preloaded
//! library may stand in for. Here is all `unsafe` code of the crate.

mod cpus;
mod ground;
mod memory;
mod process;
mod streams;

pub use cpus::{allow, allowed, allowed_to_thread};
pub use ground::{Access, Ground};
pub use memory::{Heap, Mapping};
pub use process::{
    Ended, adopt_orphans, after_fork_in_child, bury_orphans, fork, kill, limit_address_space, posix_spawn, resume,
    stop, try_wait, user_id, vfork_exec, wait,
};
pub use streams::Streams;

use std::io;

/// Bytes in a page.
pub const PAGE_BYTES: usize = 4096;

fn succeeded(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
