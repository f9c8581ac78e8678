//! S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023), for a pager.
//!
//! ```text
//!   first touch ──▶ small (10 %) ── cold ──▶ out ── back within one capacity, or from parking ──┐
//!   old reload          │                     ▲                                                 ▼
//!                       └── warm ──▶ main ────┴──── heat left: once more round ◀──────────── main
//! ```
//!
//! What a scan brings passes through the small queue and leaves the main queue alone. The ghosts of the paper cost
//! nothing: a stored page's word keeps the stamp of its eviction, and the age at its return says whether a list of
//! ghosts as long as the capacity would still know it.
//!
//! A page that comes back soon is hotter than one that comes back late, and heat is rounds in the main queue: with
//! three degrees instead of one, skewed traces miss 3 % less (`memvisor-sim`). What was tried and did not pay: to
//! spare pages that came to their run much later than the others (4 % more misses on skewed traces – parking is
//! chance enough), and ghosts for longer than one capacity.

use super::lists::RunLists;
use super::{CAPACITY_TICKS, Fill, Judged, Replacement, Verdict};
use crate::page::HEAT_MAX;
use crate::{PageWord, RunIndex};
use std::ops::Range;

const SMALL: usize = 0;
const MAIN: usize = 1;
/// The small queue has this part of the capacity; the paper's choice. 1/20 misses 1 % less on skewed traces and
/// 5 % more on a loop a little larger than DRAM.
const SMALL_PART: u64 = 10;
/// A page that was out for no more ticks than this has heat 3.
const HOT_TICKS: u16 = CAPACITY_TICKS / 4;
/// A page that was out for no more ticks than this has heat 2.
const WARM_TICKS: u16 = CAPACITY_TICKS * 5 / 8;

/// The run that is being judged.
#[derive(Clone, Copy)]
struct Judging {
    list: usize,
    /// It stayed the last time without heat.
    stayed: bool,
    /// A page of it was kept for its heat.
    warm: bool,
}

/// Two queues of runs, small and main; see the module's description.
pub struct S3Fifo {
    lists: RunLists<2>,
    small_pages_max: u64,
    judging: Judging,
}

impl S3Fifo {
    /// A policy for a target of `capacity` resident pages.
    pub const fn new(capacity: u64) -> Self {
        Self {
            lists: RunLists::new(),
            small_pages_max: capacity / SMALL_PART,
            judging: Judging { list: SMALL, stayed: false, warm: false },
        }
    }
}

/// The heat of a page that was out for `age` ticks.
const fn heat_of(age: u16) -> u8 {
    if age <= HOT_TICKS {
        HEAT_MAX
    } else if age <= WARM_TICKS {
        2
    } else if age <= CAPACITY_TICKS {
        1
    } else {
        0
    }
}

impl Replacement for S3Fifo {
    fn filled(&mut self, run: RunIndex, fill: Fill, heat_before: u8) -> u8 {
        let heat = match fill {
            Fill::FirstTouch => 0,
            Fill::Reload { age } => heat_of(age),
            Fill::Unparked => (heat_before + 1).min(HEAT_MAX),
        };
        let list = if heat == 0 { SMALL } else { MAIN };
        if self.lists.is_queued(run) {
            self.lists.add_page(run);
        } else {
            self.lists.push(list, run, 1, false);
        }
        heat
    }

    fn next_run(&mut self) -> Option<RunIndex> {
        let list = if self.lists.pages(SMALL) > self.small_pages_max { SMALL } else { MAIN };
        let (list, popped) = match self.lists.pop(list) {
            Some(popped) => (list, popped),
            None => (SMALL + MAIN - list, self.lists.pop(SMALL + MAIN - list)?),
        };
        self.judging = Judging { list, stayed: popped.mark, warm: false };
        Some(popped.run)
    }

    fn judge(&mut self, word: PageWord, _now: u16) -> Verdict {
        match word.heat() {
            0 => Verdict::Evict,
            heat => {
                self.judging.warm = true;
                Verdict::Keep(heat - 1)
            }
        }
    }

    fn judged(&mut self, run: RunIndex, outcome: Judged) {
        let Judging { list, stayed, warm } = self.judging;
        if outcome.kept == 0 || self.lists.is_queued(run) {
            return;
        }
        // Pages that are kept without heat refused to leave. Twice in the small queue would let them fill it, and the
        // main queue would never be looked at.
        let (list, mark) = if warm || stayed { (MAIN, false) } else { (list, true) };
        self.lists.push(list, run, outcome.kept, mark);
    }

    fn forget(&mut self, run: RunIndex) {
        self.lists.remove(run);
    }

    fn set_capacity(&mut self, pages: u64) {
        self.small_pages_max = pages / SMALL_PART;
    }

    fn reserve(&mut self, runs: Range<RunIndex>) {
        self.lists.reserve(runs);
    }

    fn memory_bytes(&self) -> usize {
        self.lists.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Page, SlotRef};

    fn resident(heat: u8, stamp: u16) -> PageWord {
        PageWord::new(Page::Resident(SlotRef::None), heat, stamp)
    }

    #[test]
    fn a_page_back_within_one_capacity_is_warm_and_an_older_one_is_not() {
        let mut policy = S3Fifo::new(1000);
        assert_eq!(policy.filled(RunIndex(0), Fill::Reload { age: CAPACITY_TICKS }, 0), 1);
        assert_eq!(policy.filled(RunIndex(0), Fill::Reload { age: 0 }, 0), HEAT_MAX);
        assert_eq!(policy.filled(RunIndex(1), Fill::Reload { age: CAPACITY_TICKS + 1 }, 3), 0);
        assert_eq!((policy.lists.pages(MAIN), policy.lists.pages(SMALL)), (2, 1));
    }

    #[test]
    fn what_a_scan_brings_leaves_before_the_main_queue_is_touched() {
        let mut policy = S3Fifo::new(1000);
        (0..50).for_each(|run| _ = policy.filled(RunIndex(run), Fill::Unparked, 0));
        for run in 100..1000 {
            (0..16).for_each(|_| _ = policy.filled(RunIndex(run), Fill::FirstTouch, 0));
        }
        for run in 100..990 {
            assert_eq!(policy.next_run(), Some(RunIndex(run)));
            policy.judged(RunIndex(run), Judged { evicted: 16, kept: 0 });
        }
    }

    #[test]
    fn a_warm_page_takes_its_run_from_the_small_queue_to_the_main_one() {
        let mut policy = S3Fifo::new(1000);
        policy.filled(RunIndex(5), Fill::FirstTouch, 0);
        policy.filled(RunIndex(5), Fill::Unparked, 0);
        assert_eq!(policy.next_run(), Some(RunIndex(5)));
        assert_eq!(policy.judge(resident(0, 0), 0), Verdict::Evict);
        assert_eq!(policy.judge(resident(1, 0), 0), Verdict::Keep(0));
        policy.judged(RunIndex(5), Judged { evicted: 1, kept: 1 });
        assert_eq!((policy.lists.pages(MAIN), policy.lists.pages(SMALL)), (1, 0));
    }

    #[test]
    fn runs_that_never_leave_do_not_hide_the_main_queue() {
        let mut policy = S3Fifo::new(1000);
        for run in 0..20 {
            (0..16).for_each(|_| _ = policy.filled(RunIndex(run), Fill::FirstTouch, 0));
        }
        policy.filled(RunIndex(99), Fill::Unparked, 0);
        let mut seen = false;
        for _ in 0..60 {
            let run = policy.next_run().expect("all runs are queued");
            seen |= run == RunIndex(99);
            policy.judge(resident(0, 0), 0);
            policy.judged(run, Judged { evicted: 0, kept: if run.0 < 20 { 16 } else { 1 } });
        }
        assert!(seen);
    }
}
