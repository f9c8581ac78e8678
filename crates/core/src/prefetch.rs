//! Streams in the order of faults: which pages to bring along.
//!
//! A program that walks through memory faults at pages in arithmetic progression. A small table holds the last few
//! walks. Each fault either goes on with one of them, and the walk is believed a little more, or begins a new one in
//! the place of the one that was silent longest. A walk that went on after pages were brought along has used them:
//! its next fault is just behind them. One that is dropped before has wasted them.
//!
//! Nothing is allocated, nothing is ever brought along across a window: the next window's number says nothing of what
//! lies behind this one in the address space.

use crate::{PageIndex, WINDOW_PAGES};

/// Walks that are followed at a time: more than the hands of one program; found one by one in 100 ns.
const STREAMS: usize = 16;
/// Pages brought along by a neighbour walk that has gone on so many times.
const AHEAD: [u32; 4] = [0, 4, 16, 64];
/// The same for a walk in steps: each page is a copy of its own, so fewer pay.
const AHEAD_IN_STEPS: [u32; 4] = [0, 0, 4, 16];
/// The longest step, in pages, that can be a walk's: further apart and any two faults would begin one.
const STEP_MAX: i64 = 64;
/// A walk may skip so many of its own steps (pages that were resident already) and is still the same.
const SKIP_MAX: i64 = 4;
/// How sure of its guesses the table can be; at 0 a walk must go on twice before it is believed.
const TRUST_MAX: u32 = 32;
/// Wasted pages that undo the trust of one page used.
const WASTE_WEIGHT: u32 = 2;

/// Pages to bring along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ahead {
    /// The page next in the walk.
    pub first: PageIndex,
    /// How many pages; 0 for none.
    pub count: u32,
    /// From each page to the next; −1 for a walk downwards.
    pub step: i32,
}

impl Ahead {
    /// Nothing to bring along.
    pub const NONE: Self = Self { first: PageIndex(0), count: 0, step: 1 };

    /// The pages, in the order of the walk. All are in the window of the fault.
    pub fn pages(self) -> impl Iterator<Item = PageIndex> {
        (0..i64::from(self.count)).map(move |n| PageIndex((i64::from(self.first.0) + n * i64::from(self.step)) as u32))
    }
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    /// The page of the last fault.
    last: u32,
    /// The last page that was brought along, or that of the last fault.
    end: u32,
    /// From page to page; 0 until a second fault tells.
    step: i32,
    /// How often it went on.
    level: u8,
    /// Pages brought along since the last fault.
    ahead: u32,
    /// When it went on last.
    used: u32,
}

/// The walks of one program.
#[derive(Clone, Debug)]
pub struct Streams {
    table: [Option<Stream>; STREAMS],
    faults: u32,
    trust: u32,
}

impl Default for Streams {
    fn default() -> Self {
        Self::new()
    }
}

impl Streams {
    /// No walks yet.
    pub const fn new() -> Self {
        Self { table: [None; STREAMS], faults: 0, trust: TRUST_MAX / 2 }
    }

    /// A fault at `page` that was no second touch of a page in DRAM; gives the pages to bring along.
    pub fn on_fault(&mut self, page: PageIndex) -> Ahead {
        self.faults = self.faults.wrapping_add(1);
        match self.find(page.0) {
            Some((at, step)) => self.go_on(at, page, step),
            None => {
                self.begin(page.0);
                Ahead::NONE
            }
        }
    }

    /// So many pages that were brought along were used: they proved warm. Optional; a walk that goes on says so too.
    pub fn used(&mut self, pages: u32) {
        self.trust = self.trust.saturating_add(pages).min(TRUST_MAX);
    }

    /// So many pages that were brought along left untouched.
    pub fn wasted(&mut self, pages: u32) {
        self.trust = self.trust.saturating_sub(pages.saturating_mul(WASTE_WEIGHT));
        if self.trust == 0 {
            for stream in self.table.iter_mut().flatten() {
                stream.level = stream.level.saturating_sub(1);
            }
        }
    }

    /// The walk that a fault at `page` goes on with, and its step: one that has a step before one that has none, and
    /// of these the nearest.
    fn find(&self, page: u32) -> Option<(usize, i32)> {
        let mut best: Option<(usize, i32, i64)> = None;
        for (at, stream) in self.table.iter().enumerate() {
            let Some(stream) = stream else { continue };
            if let Some((step, cost)) = stream.continued_by(page)
                && best.is_none_or(|(_, _, least)| cost < least)
            {
                best = Some((at, step, cost));
            }
        }
        best.map(|(at, step, _)| (at, step))
    }

    fn go_on(&mut self, at: usize, page: PageIndex, step: i32) -> Ahead {
        let Some(mut stream) = self.table[at] else { return Ahead::NONE };
        self.used(stream.ahead);
        stream.level = if stream.step == step { (stream.level + 1).min(AHEAD.len() as u8 - 1) } else { 1 };
        let believed = if self.trust == 0 { stream.level - 1 } else { stream.level };
        let wanted = if step.abs() == 1 { AHEAD } else { AHEAD_IN_STEPS }[usize::from(believed)];
        let count = wanted.min(steps_in_window(page, step));
        let next = |n: u32| (i64::from(page.0) + i64::from(n) * i64::from(step)) as u32;
        self.table[at] =
            Some(Stream { last: page.0, end: next(count), step, ahead: count, used: self.faults, ..stream });
        if count == 0 { Ahead::NONE } else { Ahead { first: PageIndex(next(1)), count, step } }
    }

    fn begin(&mut self, page: u32) {
        let faults = self.faults;
        let silence = |stream: &Option<Stream>| stream.map_or(u32::MAX, |stream| faults.wrapping_sub(stream.used));
        let oldest = (0..STREAMS).max_by_key(|&at| silence(&self.table[at])).unwrap_or(0);
        if let Some(dropped) = self.table[oldest] {
            self.wasted(dropped.ahead);
        }
        self.table[oldest] = Some(Stream { last: page, end: page, step: 0, level: 0, ahead: 0, used: faults });
    }
}

impl Stream {
    /// Whether a fault at `page` goes on with this walk: with which step, and how far it is from where it was awaited.
    fn continued_by(&self, page: u32) -> Option<(i32, i64)> {
        let from_last = i64::from(page) - i64::from(self.last);
        if self.step == 0 {
            let plausible = from_last != 0 && from_last.abs() <= STEP_MAX;
            return plausible.then_some((from_last as i32, STEP_MAX + from_last.abs()));
        }
        let step = i64::from(self.step);
        let from_end = i64::from(page) - i64::from(self.end);
        // Inside what was brought along (some of it was not to be had), or just behind it.
        let on_walk = from_last % step == 0 && from_last / step > 0 && from_end / step <= 1 + SKIP_MAX;
        if on_walk {
            return Some((self.step, (from_end / step - 1).abs()));
        }
        // A walk of one step only may have been guessed from two unrelated faults: it may guess again.
        let again = self.level == 1 && self.ahead == 0 && from_last != 0 && from_last.abs() <= STEP_MAX;
        again.then_some((from_last as i32, 2 * STEP_MAX + from_last.abs()))
    }
}

/// How many steps from `page` stay in its window.
fn steps_in_window(page: PageIndex, step: i32) -> u32 {
    let offset = page.offset() as u32;
    let room = if step > 0 { WINDOW_PAGES as u32 - 1 - offset } else { offset };
    room / step.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Faults of a program that touches `pages` in order, every page brought along being there afterwards.
    fn faults(streams: &mut Streams, pages: impl Iterator<Item = u32>) -> (u32, u32) {
        let mut there = std::collections::HashSet::new();
        let (mut faults, mut brought) = (0, 0);
        for page in pages {
            if there.insert(page) {
                faults += 1;
                for page in streams.on_fault(PageIndex(page)).pages() {
                    brought += u32::from(there.insert(page.0));
                }
            }
        }
        (faults, brought)
    }

    #[test]
    fn a_walk_is_believed_step_by_step() {
        let mut streams = Streams::new();
        let counts = [0, 1, 6, 23].map(|page| streams.on_fault(PageIndex(100 + page)).count);
        assert_eq!(counts, [0, 4, 16, 64]);
    }

    #[test]
    fn a_long_walk_faults_once_in_65_pages() {
        for upwards in [true, false] {
            let pages: Vec<u32> = if upwards { (0..4096).collect() } else { (0..4096).rev().collect() };
            let (faults, _) = faults(&mut Streams::new(), pages.into_iter());
            assert!(faults <= 4096 / 65 + 4, "{faults}");
        }
    }

    #[test]
    fn walks_that_are_interleaved_are_told_apart() {
        let pages = (0..2000u32).flat_map(|n| (0..12).map(move |walk| walk * 4096 + 7 + n));
        let (faults, _) = faults(&mut Streams::new(), pages);
        assert!(faults < 12 * 50, "{faults}");
    }

    #[test]
    fn a_walk_in_steps_is_found() {
        let pages = (0..1000u32).map(|n| n * 3);
        let (faults, brought) = faults(&mut Streams::new(), pages);
        assert!(faults < 100, "{faults}");
        assert!(brought <= 1000, "only pages of the walk: {brought}");
    }

    #[test]
    fn pages_without_order_bring_almost_nothing_along() {
        let mut seed = 1u64;
        let mut streams = Streams::new();
        let mut brought = 0;
        for _ in 0..100_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            brought += streams.on_fault(PageIndex((seed >> 33) as u32 % 65_536)).count;
        }
        assert!(brought < 1000, "{brought}");
    }

    #[test]
    fn short_walks_that_waste_pages_lose_trust() {
        let mut streams = Streams::new();
        let mut brought = [0; 2];
        for walk in 0..2000u32 {
            // Two neighbours, then somewhere else: what is brought along is never used.
            let base = (walk * 7919) % 60_000;
            for page in [base, base + 1] {
                brought[usize::from(walk >= 1000)] += streams.on_fault(PageIndex(page)).count;
            }
        }
        assert!(brought[1] < 100, "{brought:?}");
    }

    #[test]
    fn trust_comes_back_with_a_real_walk() {
        let mut streams = Streams::new();
        streams.wasted(1000);
        let (faults, _) = faults(&mut streams, 0..4096);
        assert!(faults < 80, "{faults}");
    }

    proptest! {
        #[test]
        fn nothing_leaves_the_window_of_the_fault(
            pages in prop::collection::vec(prop_oneof![0u32..64, 4030u32..4160, any::<u32>()], 0..300),
        ) {
            let mut streams = Streams::new();
            for page in pages {
                let ahead = streams.on_fault(PageIndex(page));
                prop_assert!(ahead.count <= 64);
                for brought in ahead.pages() {
                    prop_assert_eq!(brought.window(), PageIndex(page).window());
                    prop_assert_ne!(brought.0, page);
                }
            }
        }
    }
}
