//! How much of what is in DRAM is in use: some pages are parked, and those that come back were.
//!
//! The statistical sampling of ESX (Waldspurger, "Memory resource management in VMware ESX Server", OSDI 2002,
//! section 5.3): at the beginning of each period pages are chosen at random among those in their place and taken out
//! of the program's sight; a page that is touched before the period ends is active. 100 pages in 30 s cost at most
//! 100 faults, 0.004 % of one CPU, and tell the active part to within ±10 in a hundred; `memvisor-policy` averages
//! over periods.
//!
//! ```text
//!   PeriodBegan ─▶ choose ─▶ (the pager parks it) ─▶ Parked ─┬─▶ Touched ───┐
//!                    ▲                                │      ├─▶ Vanished ──┤ not counted at all
//!                    └── until enough are out ────────┘      └─▶ nothing ───┴─▶ PeriodEnded: the tally is shown
//! ```
//!
//! Nothing is preferred: every page in its place is as likely to be chosen as any other, a page that would not leave or
//! vanished (unmapped, given away) counts neither as active nor as idle, and one that is saved and dropped while it is
//! watched goes on being watched, for a touch of it is a fault as well. What is not armed cannot be chosen; the caller
//! says so beside the estimate.

mod period;

pub use period::{Moment, Period};

use crate::PageIndex;
use crate::random::Random;
use crate::sync::{AtomicU64, Ordering};

/// Pages chosen in a period, if nobody says otherwise: as in ESX.
pub const PAGES_DEFAULT: u32 = 100;
/// The most that can be chosen.
pub const PAGES_MAX: u32 = 256;
/// How many pages a shared word asks for: 0 is the usual number, and none is more than can be.
pub fn pages_of(word: u64) -> u32 {
    match word {
        0 => PAGES_DEFAULT,
        pages => u32::try_from(pages).unwrap_or(PAGES_MAX).min(PAGES_MAX),
    }
}

/// A period, if nobody says otherwise: 30 s in which the program ran, as in ESX.
pub const PERIOD_NS_DEFAULT: u64 = 30_000_000_000;
/// Words that a sampler writes.
pub const SAMPLE_WORDS: usize = 2;

/// Four for each page that is out, so that the search for any page looks at little more than one.
const SLOTS: usize = 4 * PAGES_MAX as usize;
/// How many random pages are looked at before none is found: where one in eight is in its place, one choice in 5,000
/// fails.
const LOOKS_MAX: u32 = 64;

/// The pages that can be chosen from: all that are managed and armed, in any order. Most should be in their place.
pub trait Candidates {
    /// How many there are.
    fn count(&self) -> u64;
    /// The one at `at` (0..count) if it is in its place now.
    fn resident(&self, at: u64) -> Option<PageIndex>;
}

/// What happened to a sampled page, or to the period.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A period begins; what was out before is not counted any more.
    PeriodBegan,
    /// A page that was chosen left its place.
    Parked(PageIndex),
    /// Any page came back to its place because it was wanted. One that was brought along with others was not.
    Touched(PageIndex),
    /// Any page was unmapped, given away or brought along: whether it would have been touched cannot be known.
    Vanished(PageIndex),
    /// The period ends.
    PeriodEnded,
}

/// What a period found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// The number of the period, from 1; 0 before the first.
    pub period: u32,
    /// Pages that were sampled.
    pub pages: u16,
    /// Pages among them that were touched.
    pub touched: u16,
}

impl Tally {
    const fn pack(self) -> u64 {
        (self.period as u64) << 32 | (self.pages as u64) << 16 | self.touched as u64
    }

    const fn unpack(bits: u64) -> Self {
        Self { period: (bits >> 32) as u32, pages: (bits >> 16) as u16, touched: bits as u16 }
    }
}

/// A view of [`SAMPLE_WORDS`] shared words, written by one thread. A tally is one word, so it is never half new.
#[derive(Clone, Copy)]
pub struct SampleWords<'a>(pub &'a [AtomicU64]);

impl SampleWords<'_> {
    /// The last period that ended.
    pub fn ended(&self) -> Tally {
        self.get(0)
    }

    /// The present period, as far as it went.
    pub fn present(&self) -> Tally {
        self.get(1)
    }

    fn get(&self, at: usize) -> Tally {
        self.0.get(at).map_or(Tally::default(), |word| Tally::unpack(word.load(Ordering::Acquire)))
    }

    fn set(&self, at: usize, tally: Tally) {
        if let Some(word) = self.0.get(at) {
            word.store(tally.pack(), Ordering::Release);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slot {
    Free,
    /// Out, and not touched yet.
    Out(PageIndex),
    /// Touched or vanished: its part is in the tally, or nowhere.
    Done(PageIndex),
}

/// Chooses pages and counts those that come back; see the module's description. Allocates only when it is made.
pub struct Sampler {
    pages_wanted: u32,
    /// So many from the next period on.
    pages_next: u32,
    /// Pages that were out in this period, in open addressing; none is taken out before the period ends.
    slots: Box<[Slot; SLOTS]>,
    used_slots: u32,
    tally: Tally,
    is_running: bool,
    random: Random,
}

impl Sampler {
    /// A sampler that chooses `pages` (1..=[`PAGES_MAX`]) in each period. The seed should differ from member to member.
    pub fn new(pages: u32, seed: u64) -> Self {
        Self {
            pages_wanted: pages.clamp(1, PAGES_MAX),
            pages_next: pages.clamp(1, PAGES_MAX),
            slots: Box::new([Slot::Free; SLOTS]),
            used_slots: 0,
            tally: Tally::default(),
            is_running: false,
            random: Random(seed),
        }
    }

    /// From the next period on so many pages (1..=[`PAGES_MAX`]) are chosen in each.
    pub fn want(&mut self, pages: u32) {
        self.pages_next = pages.clamp(1, PAGES_MAX);
    }

    /// The next page to park, while fewer are out than are wanted. `None` also when hardly any candidate is in its
    /// place. Say [`Event::Parked`] when it left; if it would not, choose again.
    ///
    /// Park all of a period within a few moments, so that each has the same time to be touched.
    pub fn choose(&mut self, candidates: &impl Candidates) -> Option<PageIndex> {
        let count = candidates.count();
        if !self.is_running || self.used_slots >= self.pages_wanted || count == 0 {
            return None;
        }
        (0..LOOKS_MAX).find_map(|_| {
            let page = candidates.resident(self.random.below(count))?;
            // One that is back from being sampled was chosen already.
            matches!(self.slots[self.find(page)], Slot::Free).then_some(page)
        })
    }

    /// Hears of an event and shows what follows from it. Costs 2 ns for a page that is not sampled.
    #[inline]
    pub fn heard(&mut self, event: Event, words: SampleWords<'_>) {
        match event {
            Event::PeriodBegan => self.begin(words),
            Event::Parked(page) => self.parked(page, words),
            Event::Touched(page) => self.settle(page, words, |tally| tally.touched += 1),
            Event::Vanished(page) => self.settle(page, words, |tally| tally.pages -= 1),
            Event::PeriodEnded => self.end(words),
        }
    }

    /// The pages that are out and were not touched in this period.
    pub fn untouched(&self) -> impl Iterator<Item = PageIndex> + '_ {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Out(page) => Some(*page),
            Slot::Free | Slot::Done(_) => None,
        })
    }

    fn begin(&mut self, words: SampleWords<'_>) {
        self.clear();
        self.is_running = true;
        self.pages_wanted = self.pages_next;
        self.tally = Tally { period: self.tally.period.wrapping_add(1), pages: 0, touched: 0 };
        words.set(1, self.tally);
    }

    fn end(&mut self, words: SampleWords<'_>) {
        if std::mem::take(&mut self.is_running) {
            words.set(0, self.tally);
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.slots.fill(Slot::Free);
        self.used_slots = 0;
    }

    fn parked(&mut self, page: PageIndex, words: SampleWords<'_>) {
        let at = self.find(page);
        if self.is_running && self.slots[at] == Slot::Free && self.used_slots < PAGES_MAX {
            self.slots[at] = Slot::Out(page);
            self.used_slots += 1;
            self.tally.pages += 1;
            words.set(1, self.tally);
        }
    }

    /// Counts a page that is out, once.
    #[inline]
    fn settle(&mut self, page: PageIndex, words: SampleWords<'_>, count: impl FnOnce(&mut Tally)) {
        let at = self.find(page);
        if self.slots[at] == Slot::Out(page) {
            self.slots[at] = Slot::Done(page);
            count(&mut self.tally);
            words.set(1, self.tally);
        }
    }

    /// The slot that `page` has or would have. A quarter of the slots are used at most, so the search ends.
    #[inline]
    fn find(&self, page: PageIndex) -> usize {
        let mut at = page.0.wrapping_mul(0x9e37_79b9) as usize >> 16 & (SLOTS - 1);
        loop {
            match self.slots[at] {
                Slot::Out(other) | Slot::Done(other) if other != page => at = (at + 1) & (SLOTS - 1),
                Slot::Free | Slot::Out(_) | Slot::Done(_) => return at,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pages `0..pages` of which one in `every` is in its place.
    struct Sparse {
        pages: u32,
        every: u32,
    }

    impl Candidates for Sparse {
        fn count(&self) -> u64 {
            u64::from(self.pages)
        }

        fn resident(&self, at: u64) -> Option<PageIndex> {
            (at as u32).is_multiple_of(self.every).then_some(PageIndex(at as u32))
        }
    }

    struct Shared([AtomicU64; SAMPLE_WORDS]);

    impl Shared {
        fn new() -> Self {
            Self([AtomicU64::new(0), AtomicU64::new(0)])
        }

        fn words(&self) -> SampleWords<'_> {
            SampleWords(&self.0)
        }
    }

    fn fill(sampler: &mut Sampler, candidates: &Sparse, shared: &Shared) -> Vec<PageIndex> {
        sampler.heard(Event::PeriodBegan, shared.words());
        let mut out = Vec::new();
        while let Some(page) = sampler.choose(candidates) {
            sampler.heard(Event::Parked(page), shared.words());
            out.push(page);
        }
        out
    }

    #[test]
    fn as_many_different_pages_as_are_wanted_are_out() {
        let (mut sampler, shared) = (Sampler::new(100, 1), Shared::new());
        let mut out = fill(&mut sampler, &Sparse { pages: 1_000, every: 4 }, &shared);
        out.sort();
        out.dedup();
        assert_eq!(out.len(), 100);
        assert_eq!(shared.words().present(), Tally { period: 1, pages: 100, touched: 0 });
    }

    #[test]
    fn another_number_of_pages_is_wanted_from_the_next_period_on() {
        let (mut sampler, shared) = (Sampler::new(10, 1), Shared::new());
        let candidates = Sparse { pages: 10_000, every: 1 };
        assert_eq!(fill(&mut sampler, &candidates, &shared).len(), 10);
        sampler.want(pages_of(200));
        assert_eq!(sampler.choose(&candidates), None, "all of a period have the same time to be touched");
        assert_eq!(fill(&mut sampler, &candidates, &shared).len(), 200);
        assert_eq!([0, 1, 256, 257, u64::MAX].map(pages_of), [PAGES_DEFAULT, 1, PAGES_MAX, PAGES_MAX, PAGES_MAX]);
    }

    #[test]
    fn a_page_counts_once_however_often_it_is_touched() {
        let (mut sampler, shared) = (Sampler::new(10, 1), Shared::new());
        let out = fill(&mut sampler, &Sparse { pages: 1_000, every: 1 }, &shared);
        for page in [out[0], out[0], out[1], PageIndex(5_000)] {
            sampler.heard(Event::Touched(page), shared.words());
        }
        sampler.heard(Event::Vanished(out[0]), shared.words());
        assert_eq!(shared.words().present(), Tally { period: 1, pages: 10, touched: 2 });
    }

    #[test]
    fn what_is_out_and_was_not_touched_is_known_until_the_period_ends() {
        let (mut sampler, shared) = (Sampler::new(10, 1), Shared::new());
        let out = fill(&mut sampler, &Sparse { pages: 1_000, every: 1 }, &shared);
        sampler.heard(Event::Touched(out[0]), shared.words());
        sampler.heard(Event::Vanished(out[1]), shared.words());
        let mut untouched: Vec<_> = sampler.untouched().collect();
        let mut rest = out[2..].to_vec();
        untouched.sort();
        rest.sort();
        assert_eq!(untouched, rest);
        sampler.heard(Event::PeriodEnded, shared.words());
        assert_eq!(sampler.untouched().count(), 0);
    }

    #[test]
    fn a_page_that_vanished_is_neither_active_nor_idle() {
        let (mut sampler, shared) = (Sampler::new(10, 1), Shared::new());
        let out = fill(&mut sampler, &Sparse { pages: 1_000, every: 1 }, &shared);
        sampler.heard(Event::Vanished(out[3]), shared.words());
        sampler.heard(Event::Touched(out[3]), shared.words());
        sampler.heard(Event::PeriodEnded, shared.words());
        assert_eq!(shared.words().ended(), Tally { period: 1, pages: 9, touched: 0 });
    }

    #[test]
    fn what_was_out_in_one_period_is_nothing_to_the_next() {
        let (mut sampler, shared) = (Sampler::new(10, 1), Shared::new());
        let out = fill(&mut sampler, &Sparse { pages: 1_000_000, every: 1 }, &shared);
        sampler.heard(Event::PeriodEnded, shared.words());
        fill(&mut sampler, &Sparse { pages: 1_000, every: 1 }, &shared);
        out.iter().for_each(|&page| sampler.heard(Event::Touched(page), shared.words()));
        assert_eq!(shared.words().present(), Tally { period: 2, pages: 10, touched: 0 });
        assert_eq!(shared.words().ended(), Tally { period: 1, pages: 10, touched: 0 });
    }

    #[test]
    fn nothing_is_chosen_between_periods_or_where_nothing_is() {
        let mut sampler = Sampler::new(10, 1);
        assert_eq!(sampler.choose(&Sparse { pages: 1_000, every: 1 }), None);
        let shared = Shared::new();
        assert_eq!(fill(&mut sampler, &Sparse { pages: 0, every: 1 }, &shared), []);
        assert_eq!(fill(&mut sampler, &Sparse { pages: 1 << 30, every: 1 << 31 }, &shared).len(), 0);
    }

    #[test]
    fn every_page_is_as_likely_as_any_other() {
        let mut sampler = Sampler::new(100, 9);
        let mut hits = [0u32; 1000];
        for _ in 0..2000 {
            for page in fill(&mut sampler, &Sparse { pages: 4000, every: 4 }, &Shared::new()) {
                hits[page.0 as usize / 4] += 1;
            }
        }
        // 200 each, with a standard deviation of 13.4: chi² of 999 degrees of freedom is beyond 1,150 once in 1,500 times.
        let chi: f64 = hits.iter().map(|&hits| (f64::from(hits) - 200.0).powi(2) / 180.0).sum();
        assert!((850.0..1150.0).contains(&chi), "{chi}");
    }

    proptest! {
        #[test]
        fn no_order_of_events_counts_more_touched_than_sampled(
            events in prop::collection::vec((0..12u8, 0..40u32), 0..300), pages in 0..50u32,
        ) {
            let (mut sampler, shared) = (Sampler::new(pages, 1), Shared::new());
            for (event, page) in events {
                let page = PageIndex(page);
                let event = match event {
                    0 => Event::PeriodBegan,
                    1 => Event::PeriodEnded,
                    2..=6 => Event::Parked(page),
                    7..=9 => Event::Touched(page),
                    _ => Event::Vanished(page),
                };
                sampler.heard(event, shared.words());
                for tally in [shared.words().present(), shared.words().ended()] {
                    prop_assert!(tally.touched <= tally.pages && u32::from(tally.pages) <= PAGES_MAX);
                }
            }
        }
    }
}
