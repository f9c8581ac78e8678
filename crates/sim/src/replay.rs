//! A pager without memory: page words, a staging ring and a policy, all as in the real one, and nothing behind them.

use memvisor_core::curve::Use;
use memvisor_core::replace::{CAPACITY_TICKS, Fill, Judged, Replacement, Verdict};
use memvisor_core::{Frame, Page, PageIndex, PageWord, RUN_PAGES, RunIndex, Saver, SlotRef};
use std::collections::VecDeque;

/// One frame in so many is of the staging area: what the pager uses.
const STAGING_PART: usize = 64;
/// Runs that are looked at before the pager gives up: all of them four times, once for each degree of heat.
const ROUNDS_MAX: usize = 5;

/// What happened in a replay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Touches.
    pub accesses: u64,
    /// Touches of pages without contents.
    pub first_touches: u64,
    /// Touches of pages that had to be loaded.
    pub reloads: u64,
    /// Touches of pages that were parked: a fault, no load.
    pub parked_hits: u64,
    /// Pages moved out.
    pub evictions: u64,
    /// Pages looked at in order to move some out.
    pub judged: u64,
}

impl Stats {
    /// Touches that stopped the program.
    pub const fn faults(&self) -> u64 {
        self.first_touches + self.reloads + self.parked_hits
    }

    /// Touches of pages that were not in DRAM, in a hundred.
    pub fn miss_percent(&self) -> f64 {
        (self.first_touches + self.reloads) as f64 * 100.0 / self.accesses.max(1) as f64
    }
}

struct Pager<'a> {
    words: Vec<PageWord>,
    policy: &'a mut dyn Replacement,
    /// Parked pages, the oldest first, each with its frame. Pages that went back leave a gap.
    staging: VecDeque<(PageIndex, Frame)>,
    free_frames: Vec<Frame>,
    resident: usize,
    resident_max: usize,
    capacity: usize,
    watcher: &'a mut dyn Watcher,
    stats: Stats,
}

/// Replays `trace` with `capacity` pages of DRAM, the staging area included.
///
/// # Panics
/// When the policy cannot name a page to evict, or page words do not follow one another as they must.
pub fn replay(trace: &[u32], policy: &mut dyn Replacement, capacity: usize) -> Stats {
    replay_watched(trace, policy, capacity, &mut Nobody)
}

/// What a pager tells of pages, and who may have some parked.
pub trait Watcher {
    /// The page came to its place because it was touched.
    fn used(&mut self, page: PageIndex, how: Use);
    /// The page left its place.
    fn hidden(&mut self, page: PageIndex);
    /// After each touch: the next page to park whatever the policy says, until there is none.
    fn next_to_hide(&mut self) -> Option<PageIndex>;
}

/// Watches nothing.
struct Nobody;

impl Watcher for Nobody {
    fn used(&mut self, _page: PageIndex, _how: Use) {}
    fn hidden(&mut self, _page: PageIndex) {}
    fn next_to_hide(&mut self) -> Option<PageIndex> {
        None
    }
}

/// As [`replay`], and `watcher` is told what happens.
///
/// # Panics
/// As [`replay`].
pub fn replay_watched(
    trace: &[u32],
    policy: &mut dyn Replacement,
    capacity: usize,
    watcher: &mut dyn Watcher,
) -> Stats {
    let pages = trace.iter().max().map_or(0, |&last| last as usize + 1);
    let runs = pages.div_ceil(RUN_PAGES);
    let frames = (capacity / STAGING_PART).max(RUN_PAGES);
    let resident_max = capacity - frames;
    policy.set_capacity(resident_max as u64);
    policy.reserve(RunIndex(0)..RunIndex(runs as u32));
    let mut pager = Pager {
        words: vec![PageWord::UNTOUCHED; runs * RUN_PAGES],
        policy,
        staging: VecDeque::new(),
        free_frames: (0..frames as u32).map(Frame).collect(),
        resident: 0,
        resident_max,
        capacity,
        watcher,
        stats: Stats::default(),
    };
    for &page in trace {
        pager.touch(PageIndex(page));
        pager.hide();
    }
    pager.stats
}

impl Pager<'_> {
    fn touch(&mut self, page: PageIndex) {
        self.stats.accesses += 1;
        let word = self.words[page.0 as usize];
        if word.is_resident() {
            return;
        }
        while self.resident >= self.resident_max {
            self.evict();
        }
        // Evicting may have saved the very page.
        let word = self.words[page.0 as usize];
        let now = self.now();
        let (fill, loaded) = match word.page() {
            Page::Untouched => {
                self.stats.first_touches += 1;
                (Fill::FirstTouch, word.load_begin(1).and_then(|word| word.load_done(1, SlotRef::None, 0, now)))
            }
            Page::Stored(slot) => {
                self.stats.reloads += 1;
                let age = now.wrapping_sub(word.stamp());
                (Fill::Reload { age }, word.load_begin(1).and_then(|word| word.load_done(1, slot, word.heat(), now)))
            }
            Page::Parked(frame) => {
                self.stats.parked_hits += 1;
                self.free_frames.push(frame);
                self.staging.retain(|&(_, parked)| parked != frame);
                (Fill::Unparked, word.unpark_begin().and_then(|word| word.unpark_done(SlotRef::None, now)))
            }
            other => panic!("a page at rest is {other:?}"),
        };
        self.watcher.used(page, if fill == Fill::FirstTouch { Use::First } else { Use::Back });
        let heat = self.policy.filled(page.run(), fill, word.heat());
        self.words[page.0 as usize] = loaded.expect("a page that is not resident can be filled").with_heat(heat);
        self.resident += 1;
    }

    /// The eviction clock.
    fn now(&self) -> u16 {
        (self.stats.evictions * u64::from(CAPACITY_TICKS) / self.capacity as u64) as u16
    }

    /// Moves some pages out: those of the first run that has any to give.
    fn evict(&mut self) {
        let before = self.resident;
        let looks_max = ROUNDS_MAX * self.words.len() / RUN_PAGES + ROUNDS_MAX;
        for _ in 0..looks_max {
            let run = self.policy.next_run().expect("resident pages are queued");
            let outcome = self.judge(run);
            self.policy.judged(run, outcome);
            if self.resident < before {
                return;
            }
        }
        panic!("the policy gave no page in {looks_max} runs");
    }

    fn judge(&mut self, run: RunIndex) -> Judged {
        let mut outcome = Judged::default();
        for page in run.first().0..run.first().0 + RUN_PAGES as u32 {
            let word = self.words[page as usize];
            if !word.is_resident() {
                continue;
            }
            self.stats.judged += 1;
            match self.policy.judge(word, self.now()) {
                Verdict::Keep(heat) => {
                    self.words[page as usize] = word.with_heat(heat);
                    outcome.kept += 1;
                }
                Verdict::Evict => {
                    self.park(PageIndex(page));
                    outcome.evicted += 1;
                }
            }
        }
        outcome
    }

    fn park(&mut self, page: PageIndex) {
        let frame = self.free_frames.pop().unwrap_or_else(|| self.save_oldest());
        let word = self.words[page.0 as usize];
        self.stats.evictions += 1;
        let parked = word.park_begin().and_then(|word| word.park_done(frame, self.now()));
        self.words[page.0 as usize] = parked.expect("a resident page can be parked");
        self.staging.push_back((page, frame));
        self.resident -= 1;
        self.watcher.hidden(page);
    }

    /// Parks what the watcher wants to see again.
    fn hide(&mut self) {
        while let Some(page) = self.watcher.next_to_hide() {
            if self.words[page.0 as usize].is_resident() {
                self.park(page);
            }
        }
    }

    /// Saves the page that is parked longest and gives its frame.
    fn save_oldest(&mut self) -> Frame {
        let (page, frame) = self.staging.pop_front().expect("frames that are not free are parked");
        let word = self.words[page.0 as usize];
        let slot = SlotRef::Ram(u64::from(page.0));
        let stored = word.claim(Saver::Keeper).and_then(|word| word.publish(frame, Saver::Keeper, slot));
        self.words[page.0 as usize] = stored.expect("a parked page can be saved");
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace;
    use memvisor_core::replace::{Clock, Fifo, S3Fifo};

    #[test]
    fn what_fits_is_touched_first_once_and_never_again() {
        let trace = trace::uniform(900, 50_000, 1);
        for policy in [&mut Fifo::new(1000) as &mut dyn Replacement, &mut Clock::new(1000), &mut S3Fifo::new(1000)] {
            let stats = replay(&trace, policy, 1000);
            assert_eq!((stats.first_touches, stats.faults(), stats.evictions), (900, 900, 0));
        }
    }

    #[test]
    fn every_page_that_comes_back_has_left() {
        let trace = trace::zipf(4000, 0.8, trace::Placement::Scattered, 100_000, 1);
        for policy in [&mut Fifo::new(1000) as &mut dyn Replacement, &mut Clock::new(1000), &mut S3Fifo::new(1000)] {
            let stats = replay(&trace, policy, 1000);
            assert!(stats.reloads + stats.parked_hits <= stats.evictions);
            assert!(stats.evictions <= stats.faults());
            assert!(stats.parked_hits > 0);
        }
    }
}
