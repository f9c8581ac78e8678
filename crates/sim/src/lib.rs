//! Invented memory, real policy: replays traces of page touches against the code that the pager runs.
//!
//! [`trace`] makes the touches, [`replay()`] drives page words and a replacement policy of `memvisor-core` as a pager
//! would, [`mod@reference`] says what plain FIFO, LRU and the best possible replacement do with the same touches, and
//! [`table`] puts them side by side. [`watched`] sets what the pager could know of use against the truth. No clock, no
//! randomness but the seeds: the same input gives the same numbers.
#![forbid(unsafe_code)]

pub mod reference;
pub mod replay;
pub mod table;
pub mod trace;
pub mod watched;

pub use replay::{Stats, Watcher, replay, replay_watched};
