//! The preloaded library.
mod aligned;
mod boot;
mod door;
mod forks;
mod heap;
mod hooks;
mod internal_alloc;
mod inward;
mod jemalloc_api;
mod lane;
mod linker;
mod malloc;
mod pieces;
mod raw;
mod region;
mod whole;
