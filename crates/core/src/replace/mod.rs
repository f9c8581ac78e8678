//! Which pages leave DRAM: one trait, one policy a file.
//!
//! A pager without hardware bits learns of use only by faults: a first touch, the reload of a stored page, the
//! touch of a parked one. So parking is the second chance that an accessed bit gives elsewhere, and heat, two bits in
//! the page word, is what a page has left of it. Runs are queued, pages are judged:
//!
//! ```text
//!   filled ──▶ queue of runs ── next_run ──▶ judge each resident page ── judged ──▶ queued again while pages stay
//! ```
//!
//! A policy allocates only in [`Replacement::reserve`] and, when that was not called for the run's window, in
//! [`Replacement::filled`]. It never panics on a run that it does not know.

mod clock;
mod fifo;
mod lists;
mod s3fifo;

pub use clock::Clock;
pub use fifo::Fifo;
pub use s3fifo::S3Fifo;

use crate::{PageWord, RunIndex};
use std::ops::Range;

/// Ticks of the eviction clock in which as many pages are evicted as the target of resident pages counts.
pub const CAPACITY_TICKS: u16 = 256;

/// How a page became resident.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// It had no contents before.
    FirstTouch,
    /// It came from a store. A page that was brought along and that nobody has asked for tells nothing of use: give
    /// it the age `u16::MAX`.
    Reload {
        /// The eviction clock now minus the stamp of its eviction (wrapping).
        age: u16,
    },
    /// It was parked and was touched before it was given up.
    Unparked,
}

/// What shall become of a resident page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It leaves.
    Evict,
    /// It stays, with this heat in its word.
    Keep(u8),
}

/// What became of the pages of a run that was judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Judged {
    /// Pages that left.
    pub evicted: u32,
    /// Pages that are resident still: those that were to stay and those that refused to leave.
    pub kept: u32,
}

/// A replacement policy. It sees what the pager sees, and it has no clock of its own: `now` is the eviction clock,
/// which ticks [`CAPACITY_TICKS`] times while as many pages are evicted as the target counts.
pub trait Replacement {
    /// A page of `run` became resident; gives the heat to put in its word. `heat_before` is the heat of the word that
    /// the page had until now.
    fn filled(&mut self, run: RunIndex, fill: Fill, heat_before: u8) -> u8;

    /// The next run whose pages are to be judged; `None` when nothing is queued. The run is out of the queue until
    /// [`Replacement::judged`] or [`Replacement::filled`] names it again.
    fn next_run(&mut self) -> Option<RunIndex>;

    /// Judges one resident page of the run that [`Replacement::next_run`] gave last.
    fn judge(&mut self, word: PageWord, now: u16) -> Verdict;

    /// All resident pages of `run` were judged; it is queued again while any are left.
    fn judged(&mut self, run: RunIndex, outcome: Judged);

    /// The run has no managed pages any more.
    fn forget(&mut self, run: RunIndex);

    /// The present target of resident pages.
    fn set_capacity(&mut self, pages: u64);

    /// Makes room for `runs`, so that no later call about them allocates. Call it off the fault path, when a window
    /// is given to the pager; room is made by whole windows.
    fn reserve(&mut self, runs: Range<RunIndex>);

    /// Memory that the policy holds, in bytes.
    fn memory_bytes(&self) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Page, SlotRef};

    fn policies() -> Vec<(&'static str, Box<dyn Replacement>)> {
        vec![
            ("fifo", Box::new(Fifo::new(1600))),
            ("clock", Box::new(Clock::new(1600))),
            ("s3fifo", Box::new(S3Fifo::new(1600))),
        ]
    }

    fn resident(heat: u8, stamp: u16) -> PageWord {
        PageWord::new(Page::Resident(SlotRef::None), heat, stamp)
    }

    #[test]
    fn a_run_is_queued_once_however_many_pages_are_filled() {
        for (name, mut policy) in policies() {
            (0..16).for_each(|_| _ = policy.filled(RunIndex(7), Fill::FirstTouch, 0));
            assert_eq!(policy.next_run(), Some(RunIndex(7)), "{name}");
            assert_eq!(policy.next_run(), None, "{name}");
        }
    }

    #[test]
    fn cold_runs_leave_in_the_order_in_which_they_came() {
        for (name, mut policy) in policies() {
            for run in [3, 900, 4, 100_000] {
                policy.filled(RunIndex(run), Fill::FirstTouch, 0);
            }
            for run in [3, 900, 4, 100_000] {
                assert_eq!(policy.next_run(), Some(RunIndex(run)), "{name}");
                assert_eq!(policy.judge(resident(0, 0), 0), Verdict::Evict, "{name}");
                policy.judged(RunIndex(run), Judged { evicted: 1, kept: 0 });
            }
            assert_eq!(policy.next_run(), None, "{name}");
        }
    }

    #[test]
    fn a_run_with_pages_left_is_queued_again() {
        for (name, mut policy) in policies() {
            policy.filled(RunIndex(1), Fill::FirstTouch, 0);
            for _ in 0..5 {
                assert_eq!(policy.next_run(), Some(RunIndex(1)), "{name}");
                policy.judged(RunIndex(1), Judged { evicted: 0, kept: 1 });
            }
        }
    }

    #[test]
    fn a_run_filled_while_it_is_judged_is_queued_once() {
        for (name, mut policy) in policies() {
            policy.filled(RunIndex(1), Fill::FirstTouch, 0);
            assert_eq!(policy.next_run(), Some(RunIndex(1)), "{name}");
            policy.filled(RunIndex(1), Fill::FirstTouch, 0);
            policy.judged(RunIndex(1), Judged { evicted: 1, kept: 1 });
            assert_eq!(policy.next_run(), Some(RunIndex(1)), "{name}");
            assert_eq!(policy.next_run(), None, "{name}");
        }
    }

    #[test]
    fn a_forgotten_run_does_not_come_back() {
        for (name, mut policy) in policies() {
            for run in 0..5 {
                policy.filled(RunIndex(run), Fill::FirstTouch, 0);
            }
            for run in [0, 2, 4, 77_777] {
                policy.forget(RunIndex(run));
            }
            assert_eq!(policy.next_run(), Some(RunIndex(1)), "{name}");
            policy.forget(RunIndex(1));
            policy.judged(RunIndex(1), Judged { evicted: 0, kept: 0 });
            assert_eq!(policy.next_run(), Some(RunIndex(3)), "{name}");
            assert_eq!(policy.next_run(), None, "{name}");
        }
    }

    #[test]
    fn a_policy_takes_less_than_a_byte_a_page() {
        let windows = 64;
        for (name, mut policy) in policies() {
            for run in 0..windows * crate::WINDOW_RUNS as u32 {
                policy.filled(RunIndex(run), Fill::FirstTouch, 0);
            }
            let pages = windows as usize * crate::WINDOW_PAGES;
            assert!(policy.memory_bytes() < pages, "{name}: {} bytes", policy.memory_bytes());
        }
    }

    #[test]
    fn one_page_in_a_far_window_does_not_cost_a_table_of_all() {
        for (name, mut policy) in policies() {
            policy.filled(RunIndex((1 << 26) - 1), Fill::FirstTouch, 0);
            assert!(policy.memory_bytes() < 5 << 20, "{name}: {} bytes", policy.memory_bytes());
        }
    }

    #[test]
    fn a_reserved_run_costs_nothing_more_when_it_is_filled() {
        for (name, mut policy) in policies() {
            policy.reserve(RunIndex(256)..RunIndex(512));
            let before = policy.memory_bytes();
            (256..512).for_each(|run| _ = policy.filled(RunIndex(run), Fill::FirstTouch, 0));
            assert_eq!(policy.memory_bytes(), before, "{name}");
        }
    }

    #[test]
    fn something_can_always_be_evicted() {
        for (name, mut policy) in policies() {
            for run in 0..100 {
                for _ in 0..16 {
                    policy.filled(RunIndex(run), Fill::Unparked, crate::page::HEAT_MAX);
                }
            }
            // Every page as hot as can be and just filled: heat runs out after a bounded number of rounds.
            let mut heat = [crate::page::HEAT_MAX; 100];
            let evicted = (0..100 * 6).any(|_| {
                let run = policy.next_run().expect("all runs are queued");
                match policy.judge(resident(heat[run.0 as usize], 9), 9) {
                    Verdict::Evict => true,
                    Verdict::Keep(cooler) => {
                        heat[run.0 as usize] = cooler;
                        policy.judged(run, Judged { evicted: 0, kept: 16 });
                        false
                    }
                }
            });
            assert!(evicted, "{name}");
        }
    }
}
