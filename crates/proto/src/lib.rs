//! Every byte that crosses a process, host or disk border.
//!
//! A space is one memory file (memfd) that the keeper makes and every member maps whole and shared. Everything in
//! it is 64-bit words that are changed by atomic operations only, so that any party may die at any instruction. The
//! views here give the words names; they hold no state of their own.
#![forbid(unsafe_code)]

#[cfg(feature = "attach")]
pub mod attach;
pub mod histogram;
pub mod rules;
pub mod segment;
pub mod size;
pub mod space;

pub use histogram::Histogram;
pub use segment::{SegmentEntry, SegmentError, SegmentHeader};
pub use space::{Header, Layout, Member};
