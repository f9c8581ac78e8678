//! Who gets how much DRAM: intent and observation in, a plan with its reasons out.
//!
//! Everything is a pure function of its arguments: no clock, no I/O, no threads, no randomness.
#![forbid(unsafe_code)]

pub mod activity;
pub mod curve;
