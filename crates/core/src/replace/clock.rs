//! The clock: first in, first out, with a second chance for pages that were touched while they were parked.

use super::lists::RunLists;
use super::{Fill, Judged, Replacement, Verdict};
use crate::page::HEAT_MAX;
use crate::{PageWord, RunIndex};
use std::ops::Range;

/// One queue; a page with heat goes round once more for each degree.
pub struct Clock {
    lists: RunLists<1>,
}

impl Clock {
    /// A policy for a target of `capacity` resident pages.
    pub const fn new(_capacity: u64) -> Self {
        Self { lists: RunLists::new() }
    }
}

impl Replacement for Clock {
    fn filled(&mut self, run: RunIndex, fill: Fill, heat_before: u8) -> u8 {
        if self.lists.is_queued(run) {
            self.lists.add_page(run);
        } else {
            self.lists.push(0, run, 1, false);
        }
        match fill {
            Fill::FirstTouch | Fill::Reload { .. } => 0,
            Fill::Unparked => (heat_before + 1).min(HEAT_MAX),
        }
    }

    fn next_run(&mut self) -> Option<RunIndex> {
        self.lists.pop(0).map(|popped| popped.run)
    }

    fn judge(&mut self, word: PageWord, _now: u16) -> Verdict {
        match word.heat() {
            0 => Verdict::Evict,
            heat => Verdict::Keep(heat - 1),
        }
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
