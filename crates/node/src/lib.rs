//! The node: divides a host's DRAM among the spaces on it, and says what it does over HTTP.
#![forbid(unsafe_code)]

pub mod wire;
