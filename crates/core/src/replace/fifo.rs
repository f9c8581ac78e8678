//! First in, first out: what every other policy must beat.

use super::lists::RunLists;
use super::{Fill, Judged, Replacement, Verdict};
use crate::{PageWord, RunIndex};
use std::ops::Range;

/// Evicts runs in the order in which their first page came, whatever happened to them since.
pub struct Fifo {
    lists: RunLists<1>,
}

impl Fifo {
    /// A policy for a target of `capacity` resident pages.
    pub const fn new(_capacity: u64) -> Self {
        Self { lists: RunLists::new() }
    }
}

impl Replacement for Fifo {
    fn filled(&mut self, run: RunIndex, _fill: Fill, _heat_before: u8) -> u8 {
        if self.lists.is_queued(run) {
            self.lists.add_page(run);
        } else {
            self.lists.push(0, run, 1, false);
        }
        0
    }

    fn next_run(&mut self) -> Option<RunIndex> {
        self.lists.pop(0).map(|popped| popped.run)
    }

    fn judge(&mut self, _word: PageWord, _now: u16) -> Verdict {
        Verdict::Evict
    }

    fn judged(&mut self, run: RunIndex, outcome: Judged) {
        if outcome.kept > 0 && !self.lists.is_queued(run) {
            self.lists.push(0, run, outcome.kept, false);
        }
    }

    fn forget(&mut self, run: RunIndex) {
        self.lists.remove(run);
    }

    fn set_capacity(&mut self, _pages: u64) {}

    fn reserve(&mut self, runs: Range<RunIndex>) {
        self.lists.reserve(runs);
    }

    fn memory_bytes(&self) -> usize {
        self.lists.memory_bytes()
    }
}
