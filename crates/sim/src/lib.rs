//! Invented memory, real policy.
//!
//! Two simulators, which share the code that they drive with production and nothing else:
//!
//! ```text
//!   pages   trace ──▶ replay(page words, replacement of core) ──▶ table, watched
//!                        │ misses at each size of DRAM
//!                        ▼
//!   hosts   scenario ──▶ world: spaces ──observe──▶ policy::plan ──hand out──▶ spaces …
//!                          │ a sample each period
//!                          ▼
//!                        series ──▶ expect, output
//! ```
//!
//! [`trace`] makes touches, [`replay()`] drives page words and a replacement policy of `memvisor-core` as a pager
//! would, [`mod@reference`] says what plain FIFO, LRU and the best possible replacement do with the same touches, and
//! [`table`] puts them side by side. [`watched`] sets what the pager could know of use against the truth.
//!
//! [`scenario`] is a file that invents a host and its spaces, [`world`] lives through it, [`expect`] says whether what was
//! expected of it came true. [`recorded`] makes plans again that a node has recorded.
//!
//! No clock, no randomness but the seeds, no function whose last bit differs between machines: the same input gives the
//! same bytes.
#![forbid(unsafe_code)]

pub mod expect;
pub mod output;
pub mod recorded;
pub mod reference;
pub mod replay;
pub mod scenario;
pub mod series;
pub mod table;
pub mod trace;
pub mod watched;
pub mod world;

pub use replay::{Stats, Watcher, replay, replay_watched};
