//! What to do with pages, and no way to do it: the life of a page, replacement, budgets.
//!
//! Nothing here reads a clock, does I/O, starts a thread or allocates on the fault path. The pager drives real
//! memory with this code, the tests and the simulator drive invented memory with the same code.
#![forbid(unsafe_code)]

pub mod blocking;
pub mod budget;
pub mod curve;
pub mod drain;
pub mod full;
pub mod page;
pub mod prefetch;
mod random;
pub mod replace;
pub mod sample;
pub mod slot;
pub mod sync;

pub use page::{Frame, Page, PageCell, PageWord, Saver};
pub use slot::SlotRef;

/// Bytes in a page; the only page size that memvisor manages.
pub const PAGE_BYTES: usize = 4096;
/// `log2` of [`PAGE_BYTES`].
pub const PAGE_SHIFT: u32 = 12;
/// Pages in a run: the aligned neighbours that are examined, moved out and counted together. One MOVE of 16
/// neighbours costs 0.16 µs a page, of one page 1.06 µs; 64 is hardly better and throws out warm neighbours.
pub const RUN_PAGES: usize = 16;
/// Bytes of one window: the aligned piece of address space whose page words lie together.
pub const WINDOW_BYTES: usize = WINDOW_PAGES * PAGE_BYTES;
/// Pages in a window.
pub const WINDOW_PAGES: usize = 4096;
/// Runs in a window.
pub const WINDOW_RUNS: usize = WINDOW_PAGES / RUN_PAGES;

/// A page of a space: the number of its window in the space's table, and its place in the window.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageIndex(pub u32);

impl PageIndex {
    /// The page at `offset` (0..[`WINDOW_PAGES`]) of window number `window`.
    pub const fn new(window: u32, offset: usize) -> Self {
        Self(window * WINDOW_PAGES as u32 + offset as u32)
    }
    /// The number of the window this page is in.
    pub const fn window(self) -> u32 {
        self.0 / WINDOW_PAGES as u32
    }
    /// The place of this page in its window.
    pub const fn offset(self) -> usize {
        self.0 as usize % WINDOW_PAGES
    }
    /// The run this page is in.
    pub const fn run(self) -> RunIndex {
        RunIndex(self.0 / RUN_PAGES as u32)
    }
}

/// A run of a space: [`RUN_PAGES`] aligned neighbours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RunIndex(pub u32);

impl RunIndex {
    /// The first page of the run.
    pub const fn first(self) -> PageIndex {
        PageIndex(self.0 * RUN_PAGES as u32)
    }
    /// The number of the window this run is in.
    pub const fn window(self) -> u32 {
        self.first().window()
    }
}
