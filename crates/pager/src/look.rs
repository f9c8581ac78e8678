//! Looks: pages are parked only to see whether and when they are used again.
//!
//! A node wants to know how much of a space is in use ([`memvisor_core::sample`]) and what another amount of DRAM would cost
//! it ([`memvisor_core::curve`]). Both are told of every fault and every page that leaves, here; and both name pages that are
//! in their place and may have been used unseen, which are parked for that. A look is no eviction: the clock of
//! evictions does not run, and the page's heat is not raised by it.
//!
//! Looks are made only while a node plans. They need memory that is armed; of a program that fits into its target nothing
//! is. So some places of its plain memory are armed at random, few enough not to matter, and stand for all of it: a sample is
//! taken from them as often as it would be from the plain memory, so the part that is found in use is that of both together.
//!
//! ```text
//!   armed, page by page ─────────┐        plain ─────────────────────────────┐
//!   ■■■■ ■■■■ ■■  ■■■■           │        ········▪·····▪··········▪·········│   ▪ places that stand for ·
//!   0                            └ armed pages ─▶ + plain pages = candidates ┘
//! ```

use crate::monitor::{Monitor, Parking};
use crate::regions::Arming;
use crate::windows::WindowMap;
use memvisor_core::curve::{Recorder, Use};
use memvisor_core::sample::{Candidates, Event, Moment, PAGES_DEFAULT, PERIOD_NS_DEFAULT, Period, Sampler, pages_of};
use memvisor_core::{PAGE_BYTES, PageIndex, RUN_PAGES, WINDOW_PAGES};
use memvisor_sys::clock;
use std::sync::atomic::Ordering::Relaxed;

/// Pages parked for looks before the monitor listens again.
const LOOKS_MAX: usize = 16;
/// Plain memory is looked into at so many places: with more than a sample usually has pages hardly any two of its pages lie in one.
/// Of larger samples two may; more places would cost faults whoever is sampled.
const PROBES_MAX: usize = 128;
/// What is armed at such a place: a run.
const PROBE_BYTES: usize = RUN_PAGES * PAGE_BYTES;
/// The part of plain memory that places may take.
const PROBED_PART: usize = 8;
/// Such places armed before the monitor listens again: each is a read of the process's mappings.
const PROBES_PER_LOOK: usize = 4;
/// When plain memory has grown to so many halves of what it was, places are chosen anew: those that there are say nothing
/// of what came later. Each time a part of it is armed, so it must not be often.
const GROWN_HALVES: usize = 3;

/// What watches the use of memory.
pub(crate) struct Looking {
    recorder: Recorder,
    sampler: Sampler,
    /// The instant of the fault that is being served.
    pub(crate) heard_ns: u64,
    /// What comes back now was not used: it is brought back for another reason.
    pub(crate) is_brought: bool,
    /// The sampler's period; `None` before the first.
    period: Option<Period>,
    /// Where plain memory was armed that stands for the rest of it.
    probes: Vec<usize>,
    /// How much plain memory there was when the first of them was chosen, in bytes.
    probed_bytes: usize,
    /// The window whose pages are told to a sample that was begun anew, by its place in the map.
    renewing: Option<usize>,
    random: u64,
}

impl Looking {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            recorder: Recorder::new(),
            sampler: Sampler::new(PAGES_DEFAULT, seed),
            heard_ns: 0,
            is_brought: false,
            period: None,
            probes: Vec::with_capacity(PROBES_MAX),
            probed_bytes: 0,
            renewing: None,
            random: seed | 1,
        }
    }

    /// Nothing is armed any more: no place stands for plain memory, and others are chosen when there is reason to look again.
    pub(crate) fn forget_places(&mut self) {
        self.probes.clear();
        self.probed_bytes = 0;
    }

    /// Xorshift (Marsaglia 2003): good enough to choose places.
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % bound.max(1) as u64) as usize
    }
}

/// All pages of a member: those in windows, then as many as are plain. Behind each of the latter is a page of a place that
/// stands for them.
struct Managed<'a, Resident> {
    windows: &'a WindowMap,
    probes: &'a [usize],
    plain_pages: u64,
    is_resident: Resident,
}

impl<Resident> Managed<'_, Resident> {
    fn window_pages(&self) -> u64 {
        self.windows.pages() as u64
    }

    fn page(&self, at: u64) -> Option<PageIndex> {
        match at.checked_sub(self.window_pages()) {
            None => self.windows.nth_page(at as usize),
            Some(plain) => {
                let probe = self.probes.get(plain as usize / RUN_PAGES % self.probes.len().max(1))?;
                self.windows.peek(probe + plain as usize % RUN_PAGES * PAGE_BYTES)
            }
        }
    }
}

impl<Resident: Fn(PageIndex) -> bool> Candidates for Managed<'_, Resident> {
    fn count(&self) -> u64 {
        self.window_pages() + self.plain_pages
    }

    fn resident(&self, at: u64) -> Option<PageIndex> {
        self.page(at).filter(|page| (self.is_resident)(*page))
    }
}

impl Monitor {
    /// `page` came to its place because it was used.
    pub(crate) fn told_used(&mut self, page: PageIndex, how: Use) {
        if self.looking.is_brought {
            return self.told_gone(page);
        }
        self.looking.recorder.used(page, how, self.looking.heard_ns, self.block.curve());
        self.looking.sampler.heard(Event::Touched(page), self.block.sample());
    }

    /// `page` came along with another: whether it would have been used is not known. Said before it is told as used.
    pub(crate) fn told_along(&mut self, page: PageIndex) {
        self.looking.sampler.heard(Event::Vanished(page), self.block.sample());
    }

    /// `page` left its place.
    pub(crate) fn told_hidden(&mut self, page: PageIndex) {
        if self.looking.recorder.watches(page) {
            self.looking.recorder.hidden(page, clock::now_ns(), self.block.curve());
        }
    }

    /// `page` has no contents any more, or is another page now.
    pub(crate) fn told_gone(&mut self, page: PageIndex) {
        self.looking.recorder.forgotten(page);
        self.looking.sampler.heard(Event::Vanished(page), self.block.sample());
    }

    /// `page` was found in its place.
    pub(crate) fn told_met(&mut self, page: PageIndex) {
        if self.looking.recorder.watches(page) {
            self.looking.recorder.met(page, clock::now_ns());
        }
    }

    /// Looks at some pages, if a node wants that and it can be done now.
    pub(crate) fn look(&mut self) {
        if self.header.planned_ns().load(Relaxed) == 0 || self.space.is_draining() {
            return;
        }
        self.mind_period();
        self.tell_renewed();
        if self.nascent.is_some() || self.is_stuck() || self.slack() < 0 || self.staging.free() < LOOKS_MAX as u64 {
            return;
        }
        if !self.hold_layout() {
            return;
        }
        self.probe_plain();
        for _ in 0..LOOKS_MAX {
            if !self.deferred.is_empty() || !self.look_once() {
                break;
            }
        }
        self.let_layout_go();
    }

    /// Parks the page that is to be looked at next. Gives whether there was one.
    fn look_once(&mut self) -> bool {
        let managed = Managed {
            windows: &self.windows,
            probes: &self.looking.probes,
            plain_pages: self.block.unarmed_bytes().load(Relaxed) / PAGE_BYTES as u64,
            is_resident: |page| self.space.page(page).get().is_resident(),
        };
        if let Some(page) = self.looking.sampler.choose(&managed) {
            if self.hide(page) {
                self.looking.sampler.heard(Event::Parked(page), self.block.sample());
            }
            return true;
        }
        let Some(page) = self.looking.recorder.next_to_hide(clock::now_ns(), self.block.curve()) else { return false };
        if !self.space.page(page).get().is_resident() {
            self.looking.recorder.forgotten(page);
            return true;
        }
        self.hide(page);
        true
    }

    /// Parks one page. That it comes back says nothing of its worth, so its heat is lowered by as much as that raises it.
    fn hide(&mut self, page: PageIndex) -> bool {
        let cooler =
            |word: memvisor_core::PageWord| word.is_resident().then(|| word.with_heat(word.heat().saturating_sub(1)));
        if self.space.page(page).apply(cooler).is_none() {
            return false;
        }
        let left = match self.parking {
            Parking::Move => self.park_by_move(page, 1, 1),
            Parking::Copy => self.park_by_copy(page, 1, 1),
        };
        left > 0
    }

    /// Ends and begins periods of the sampler.
    fn mind_period(&mut self) {
        let period_ns = match self.header.sample_period_ms().load(Relaxed) {
            0 => PERIOD_NS_DEFAULT,
            period_ms => period_ms.saturating_mul(1_000_000),
        };
        let at = Moment { now_ns: clock::now_ns(), run_ns: clock::process_cpu_ns() };
        if let Some(period) = &mut self.looking.period {
            if !period.is_over(at, period_ns) {
                return;
            }
            let untouched: Vec<PageIndex> = self.looking.sampler.untouched().collect();
            self.looking.sampler.heard(Event::PeriodEnded, self.block.sample());
            self.take_back(&untouched);
            if self.looking.recorder.renew(self.block.curve()) {
                self.looking.renewing = Some(0);
            }
        }
        self.looking.sampler.want(pages_of(self.header.sample_pages().load(Relaxed)));
        self.looking.period.get_or_insert_with(|| Period::begun(at));
        self.looking.sampler.heard(Event::PeriodBegan, self.block.sample());
    }

    /// Brings back pages of a period that ended, of which none was touched. A look that was no eviction leaves memory as it
    /// was; and if only what is in use came back, soon nothing else would be left to be looked at, least of all where
    /// a few places stand for much. Where DRAM is short they stay away, as idle pages should.
    fn take_back(&mut self, pages: &[PageIndex]) {
        for page in pages {
            if self.slack() <= 0 {
                return;
            }
            if !self.space.page(*page).get().is_resident() {
                self.bring_back(*page);
            }
        }
    }

    /// Tells a sample that was begun anew what is in its place, a window at a time.
    fn tell_renewed(&mut self) {
        let Some(at) = self.looking.renewing else { return };
        let Some(window) = self.windows.nth(at) else {
            self.looking.renewing = None;
            return;
        };
        self.looking.renewing = Some(at + 1);
        for offset in 0..WINDOW_PAGES {
            let page = PageIndex::new(window, offset);
            if self.space.page(page).get().is_resident() {
                self.told_met(page);
            }
        }
    }

    /// Arms some of the plain memory at random places, each byte as likely as any other.
    fn probe_plain(&mut self) {
        for _ in 0..PROBES_PER_LOOK {
            let plain = |piece: &crate::regions::Piece| piece.arming == Arming::Unarmed;
            let bytes: usize = self.regions.iter().filter(plain).map(|piece| piece.bytes()).sum();
            if self.looking.probed_bytes == 0 || bytes / GROWN_HALVES > self.looking.probed_bytes / 2 {
                self.looking.probes.clear();
                self.looking.probed_bytes = bytes;
            }
            if self.looking.probes.len() >= PROBES_MAX.min(bytes / PROBED_PART / PROBE_BYTES) {
                return;
            }
            let mut at = self.looking.below(bytes);
            let chosen = self.regions.iter().filter(plain).find_map(|piece| match at.checked_sub(piece.bytes()) {
                None => Some((piece, piece.start + at)),
                Some(rest) => {
                    at = rest;
                    None
                }
            });
            if let Some((piece, address)) = chosen {
                let place = address / PROBE_BYTES * PROBE_BYTES;
                self.arm(place.max(piece.start), (place + PROBE_BYTES).min(piece.end));
                self.looking.probes.push(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memvisor_core::WINDOW_BYTES;

    #[test]
    fn places_are_looked_into_as_often_as_the_plain_memory_that_they_stand_for() {
        let mut windows = WindowMap::default();
        windows.insert(0, 7);
        windows.insert(2 * WINDOW_BYTES, 8);
        let probes = [2 * WINDOW_BYTES + 3 * PROBE_BYTES, 2 * WINDOW_BYTES + 9 * PROBE_BYTES];
        // A quarter of the first window is in its place, and of the second the two places; the rest is plain.
        let is_resident = |page: PageIndex| match page.window() {
            7 => page.offset() < WINDOW_PAGES / 4,
            _ => [3, 9].contains(&(page.offset() / RUN_PAGES)),
        };
        let plain_pages = 3 * WINDOW_PAGES as u64 / 4;
        let managed = Managed { windows: &windows, probes: &probes, plain_pages, is_resident };
        let seen: Vec<PageIndex> = (0..managed.count()).filter_map(|at| managed.resident(at)).collect();
        let of_places =
            |run: usize| seen.iter().filter(|page| page.window() == 8 && page.offset() / RUN_PAGES == run).count();
        assert_eq!(seen.len(), WINDOW_PAGES / 4 + 2 * RUN_PAGES + plain_pages as usize);
        assert_eq!(
            (of_places(3), of_places(9)),
            (RUN_PAGES + plain_pages as usize / 2, RUN_PAGES + plain_pages as usize / 2)
        );
    }

    #[test]
    fn plain_memory_for_which_nothing_stands_is_not_looked_into() {
        let windows = WindowMap::default();
        let managed = Managed { windows: &windows, probes: &[], plain_pages: 100, is_resident: |_| true };
        assert!((0..managed.count()).all(|at| managed.resident(at).is_none()));
    }
}
