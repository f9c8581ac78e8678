//! A live miss-ratio curve: how far apart, in other pages, are two uses of the same page?
//!
//! A page whose next use comes after `d` other pages were used is still there in an LRU memory of more than `d`
//! pages, and not in a smaller one (Mattson et al., "Evaluation techniques for storage hierarchies", 1970). So one
//! histogram of reuse distances says what every size of DRAM would cost. The recorder fills it; `memvisor-policy`
//! reads it.
//!
//! **Sample.** A page is watched if its hash is below a threshold, as in SHARDS (Waldspurger et al., "Efficient MRC
//! construction with SHARDS", FAST 2015): then all its uses are, and distances among the watched, divided by the part
//! of pages that is watched, are distances among all. The threshold falls whenever more than [`SAMPLES_MAX`] pages
//! are watched, so memory and time do not depend on the size of the program. Each use counts 2³² / threshold uses.
//! Pages that are out stay watched: they are the ghosts that tell what *more* DRAM would save.
//!
//! **Sight.** SHARDS sees every use. A pager sees faults: a use of a page that is in its place is *unseen*, a use of
//! one that is parked or out is *awaited*. So watched pages are parked again some time after each use, the one that
//! is unseen longest and one at random in turn, as fast as [`RECHECKS_PER_SECOND`] allows. (Zhou et al., "Dynamic
//! tracking of page miss ratio curve for memory management", ASPLOS 2004, found uses by protecting pages, and had to
//! exempt the hot ones.)
//!
//! ```text
//!             used        hidden                    used
//!   page ──────┬─ unseen ───┬────── awaited ─────────┬──▶ time
//!              │            └─── nearest ───────────▶│     pages used after it was hidden
//!              ├──────────────── expected ──────────▶│     pages used after its use was told
//!              └──────────────── farthest ──────────▶│     … and those that were unseen since
//! ```
//!
//! **What is true of the numbers.** The last use of the page lies somewhere in the unseen stretch. So of every use
//! that is told the true distance is between *nearest* and *farthest* (exactly so while all pages are watched: a
//! property test says so). A use whose page was last used longer ago than the unseen stretch is always told.
//! Therefore, with `u` the pages that are used in an unseen stretch ([`Recorded::unseen_pages`]):
//!
//! - for more DRAM than `u`, faults are counted, each at a distance that is known to within about `u` (`u` is an average:
//!   just above it some are missing);
//! - for less DRAM than `u`, faults are missing: what is counted is the least that there would be.
//!
//! **What is not seen.** How often pages were used while they were unseen can still be told on average, from how long
//! they are awaited. If a page is hidden at a moment that has nothing to do with its uses, then the uses in a second
//! that come more than `t` after the one before are the density at `t` of the time until the next (Palm and Khinchin,
//! for any stationary process; for programs, Denning and Schwartz, "Properties of the working-set model", 1972: the
//! miss rate is the slope of the working set). So every second page that is hidden again is a *probe*, chosen at
//! random among the unseen: the waits of probes say what all the time that pages are unseen hides. Awaited stretches
//! are seen whole. Together, with `p(t)` the density of the waits of probes, a memory that keeps a page for `t`
//! misses in a second
//!
//! ```text
//!   (waits longer than t  +  unseen seconds · p(t)) / seconds        and keeps ∫₀ᵗ of that, in pages.
//! ```
//!
//! This is an average over pages and phases, without bounds; it is used for less DRAM than `u` only. It needs some
//! thousand probes: of a program that touches another page in 40 µs, misses in a hundred touches were off by up to three
//! times after 10 s (and far more at the edge of a set that moves), by a third after 40 s, by 5 of a hundred touches
//! after 160 s.
//!
//! On top comes the error of the sample: distances are off by 1/√(watched pages among them), and uses by how much the
//! groups of the sample differ. How far the whole is from the truth on known traces: `memvisor-sim`, example `curve`.
//!
//! **Cost.** A page that is not watched: one hash and one comparison. Nothing is allocated after [`Recorder::new`], no
//! loop is longer than the tables.
//!
//! Absent on purpose: a use that never happened. A page that was brought along with others counts as used
//! ([`Use::Back`]): streams prove themselves before pages are brought along, and a wasted page costs a load as well.

mod order;
mod pace;
mod table;
mod words;

pub use pace::RECHECKS_PER_SECOND;
pub use words::{
    BUCKETS, CURVE_WORDS, CurveWords, GROUP_BUCKETS, GROUP_WIDTH, GROUPS, ONE, Recorded, Reuse, SHORTEST_PAGES, TIMES,
    bucket_begin, bucket_of, time_bucket_begin, time_bucket_of,
};

use crate::PageIndex;
use crate::random::Random;
use order::{Order, TICKS};
use pace::Pace;
use table::{Sight, Table, Watched};

/// Pages that are watched at most. The mean absolute error of miss ratios on the standard traces of `memvisor-sim` is
/// 0.042 with 256, 0.021 with 512 and 0.006 with 1,024; each is parked now and then, and twice as many half as often.
pub const SAMPLES_MAX: usize = 512;
/// A page in its place is left alone at least so long: uses in quick succession are one.
pub const UNSEEN_NS_MIN: u64 = 250_000_000;
/// The sample is begun anew when the program gave so much away that fewer are left: it could then be eight times larger.
const SAMPLES_MIN: usize = SAMPLES_MAX / 8;
/// The threshold at which all pages are watched.
const ALL: u64 = 1 << 32;

/// How a page came to be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// It had no contents before: no DRAM is large enough to spare that fault.
    First,
    /// It was parked, or came from a store, wanted or brought along.
    Back,
}

/// Watches a sample of the pages of one member; see the module's description.
///
/// `now_ns` is everywhere the same clock, any that does not go back. It needs to be exact to some microseconds where
/// a page that [`Recorder::next_to_hide`] named is hidden and where it is used again; elsewhere milliseconds will do.
pub struct Recorder {
    table: Table,
    /// Marks the tick of the last use of each watched page.
    uses: Order,
    /// Marks the tick since which each awaited page is.
    hidings: Order,
    /// Watched pages that are in their place: they may have been used since any tick.
    unseen: u32,
    /// A page is watched when its hash is less.
    threshold: u64,
    tick: u16,
    /// Where ticks go when the clock is wound back.
    wound: Box<[u16; TICKS]>,
    pace: Pace,
    /// Whether the next page to hide is chosen at random.
    turn: bool,
    random: Random,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// A recorder that has seen nothing and watches every page. Allocates 64 KiB, the last that it ever does.
    pub fn new() -> Self {
        Self {
            table: Table::new(),
            uses: Order::new(),
            hidings: Order::new(),
            unseen: 0,
            threshold: ALL,
            tick: 0,
            wound: Box::new([0; TICKS]),
            pace: Pace::new(),
            turn: false,
            random: Random(0),
        }
    }

    /// Whether `page` is watched if it is used: 1 ns.
    #[inline]
    pub fn watches(&self, page: PageIndex) -> bool {
        u64::from(mix(page.0)) < self.threshold
    }

    /// `page` came to its place because it was used. Gives its distance when that is known.
    #[inline]
    pub fn used(&mut self, page: PageIndex, how: Use, now_ns: u64, words: CurveWords<'_>) -> Option<Reuse> {
        if self.watches(page) { self.watched_used(page, how, now_ns, words) } else { None }
    }

    /// `page` was found in its place, as pages are that were used before anybody watched: when it is armed, and after
    /// [`Recorder::renew`]. Without this a page that is never evicted would never be watched. It counts as used now;
    /// the distance of its next use is not told.
    pub fn met(&mut self, page: PageIndex, now_ns: u64) {
        let hash = mix(page.0);
        if u64::from(hash) < self.threshold && self.table.get(hash).is_none() {
            self.admit(page, hash, now_ns);
            if let Some(watched) = self.table.get(hash) {
                watched.is_met = true;
            }
        }
    }

    /// `page` left its place and its next use will be told: it was parked, whatever for.
    #[inline]
    pub fn hidden(&mut self, page: PageIndex, now_ns: u64, words: CurveWords<'_>) {
        if self.watches(page) {
            self.watched_hidden(page, now_ns, words);
        }
    }

    /// `page` has no contents any more, or cannot be parked: it is watched no longer.
    #[inline]
    pub fn forgotten(&mut self, page: PageIndex) {
        if self.watches(page) {
            self.forget(mix(page.0));
        }
    }

    /// The page to park now so that its next use is told, if there is one and it may cost as much. Say
    /// [`Recorder::hidden`] when it left; one that would not leave is named again when all others were. A call takes
    /// about 1 µs.
    pub fn next_to_hide(&mut self, now_ns: u64, words: CurveWords<'_>) -> Option<PageIndex> {
        self.pace.pass(now_ns);
        if self.unseen == 0 || !self.pace.may() {
            return None;
        }
        let is_probe = self.turn;
        let chosen = if is_probe { self.choose_any() } else { self.choose_longest(now_ns) }?;
        let watched = self.table.get(chosen)?;
        if let Sight::Unseen { since_ns, .. } = watched.sight {
            watched.sight = Sight::Unseen { since_ns, tried_ns: now_ns, is_probe };
        }
        let page = watched.page;
        self.turn = !self.turn;
        self.pace.pay();
        words.count_recheck();
        Some(page)
    }

    /// Begins the sample anew when the program gave most of it away: a small program is to be watched as closely as
    /// if it had never been large. Call it every half minute or so; gives whether it was done: then say
    /// [`Recorder::met`] of every page that is in its place.
    pub fn renew(&mut self, words: CurveWords<'_>) -> bool {
        if self.threshold == ALL || self.table.len() >= SAMPLES_MIN {
            return false;
        }
        self.table.clear();
        self.uses.clear();
        self.hidings.clear();
        self.unseen = 0;
        self.threshold = ALL;
        self.tick = 0;
        words.count_restart();
        true
    }

    /// The hash of a page that is unseen, each as likely as any other.
    fn choose_any(&mut self) -> Option<u32> {
        let skipped = self.random.below(u64::from(self.unseen)) as usize;
        let is_unseen = |watched: &&Watched| matches!(watched.sight, Sight::Unseen { .. });
        self.table.iter().filter(is_unseen).nth(skipped).map(|watched| watched.hash)
    }

    /// The hash of the page that is unseen and untried longest, if it is so long enough.
    fn choose_longest(&self, now_ns: u64) -> Option<u32> {
        let untried_ns = |watched: &Watched| match watched.sight {
            Sight::Unseen { tried_ns, .. } => now_ns.saturating_sub(tried_ns),
            Sight::Awaited { .. } => 0,
        };
        let longest = self.table.iter().max_by_key(|watched| untried_ns(watched))?;
        (untried_ns(longest) >= UNSEEN_NS_MIN).then_some(longest.hash)
    }

    #[inline(never)]
    fn watched_used(&mut self, page: PageIndex, how: Use, now_ns: u64, words: CurveWords<'_>) -> Option<Reuse> {
        let hash = mix(page.0);
        let reuse = match (how, self.table.get(hash).copied()) {
            (Use::Back, Some(watched)) => self.count_back(watched, now_ns, words),
            (Use::Back, None) => {
                words.count_unplaced(self.weight());
                None
            }
            (Use::First, _) => {
                words.count_first(self.weight());
                None
            }
        };
        self.forget(hash);
        self.admit(page, hash, now_ns);
        words.show(self.threshold, self.table.len(), self.unseen);
        reuse
    }

    fn count_back(&self, watched: Watched, now_ns: u64, words: CurveWords<'_>) -> Option<Reuse> {
        let weight = self.weight();
        if let Sight::Awaited { since_ns, is_probe, .. } = watched.sight {
            words.count_wait(now_ns.saturating_sub(since_ns), is_probe, weight);
        }
        if watched.is_met {
            words.count_unplaced(weight);
            return None;
        }
        let reuse = self.reuse_of(watched);
        words.count_reuse(reuse, group_of(watched.hash), weight);
        Some(reuse)
    }

    #[inline(never)]
    fn watched_hidden(&mut self, page: PageIndex, now_ns: u64, words: CurveWords<'_>) {
        let hash = mix(page.0);
        let Some(&mut Watched { used, sight: Sight::Unseen { since_ns, tried_ns, is_probe }, .. }) =
            self.table.get(hash)
        else {
            return;
        };
        // One that would not leave when it was chosen is no probe when it leaves for another reason.
        let is_probe = is_probe && now_ns.saturating_sub(tried_ns) < UNSEEN_NS_MIN;
        let unseen_ns = now_ns.saturating_sub(since_ns);
        words.count_unseen(unseen_ns, self.scaled(self.maybe_used_after(used)), self.weight());
        let from = self.next_tick();
        self.hidings.mark(from);
        self.unseen -= 1;
        if let Some(watched) = self.table.get(hash) {
            watched.sight = Sight::Awaited { from, since_ns: now_ns, is_probe };
        }
    }

    /// Of a page that is used now.
    fn reuse_of(&self, watched: Watched) -> Reuse {
        let nearest = match watched.sight {
            Sight::Awaited { from, .. } => self.uses.after(from),
            // A fault that could not be: the page was taken out unseen, and nobody knows when.
            Sight::Unseen { .. } => 0,
        };
        let expected = self.uses.after(watched.used);
        let farthest = self.maybe_used_after(watched.used).max(expected);
        Reuse { nearest: self.scaled(nearest), expected: self.scaled(expected), farthest: self.scaled(farthest) }
    }

    /// Other watched pages that may have been used after a page was, at tick `used`: those that were hidden later, or
    /// are not hidden yet.
    fn maybe_used_after(&self, used: u16) -> u32 {
        (self.hidings.after(used) + self.unseen).saturating_sub(1)
    }

    /// Takes a page into the sample, and another out when there is no room.
    fn admit(&mut self, page: PageIndex, hash: u32, now_ns: u64) {
        if self.table.is_full() && !self.narrow(hash) {
            return;
        }
        let used = self.next_tick();
        self.uses.mark(used);
        self.unseen += 1;
        let sight = Sight::Unseen { since_ns: now_ns, tried_ns: now_ns, is_probe: false };
        self.table.insert(Watched { page, hash, used, sight, is_met: false });
    }

    /// Watches fewer pages from now on: of those in the full table and the one with `hash`, the one with the greatest
    /// hash is left out. Gives whether that was another. It happens 512 · ln(pages / 512) times in the life of a
    /// program, 3,000 times for a gigabyte.
    fn narrow(&mut self, hash: u32) -> bool {
        let greatest = self.table.iter().map(|watched| watched.hash).fold(hash, u32::max);
        self.threshold = u64::from(greatest).max(1);
        self.forget(greatest);
        greatest != hash
    }

    fn forget(&mut self, hash: u32) {
        let Some(watched) = self.table.remove(hash) else { return };
        self.uses.unmark(watched.used);
        match watched.sight {
            Sight::Unseen { .. } => self.unseen -= 1,
            Sight::Awaited { from, .. } => self.hidings.unmark(from),
        }
    }

    fn next_tick(&mut self) -> u16 {
        if usize::from(self.tick) >= TICKS {
            self.wind_back();
        }
        let tick = self.tick;
        self.tick += 1;
        tick
    }

    /// Gives the ticks that are in use the least numbers, in the order they have.
    fn wind_back(&mut self) {
        self.wound.fill(0);
        for watched in self.table.iter() {
            self.wound[usize::from(watched.used)] = 1;
            if let Sight::Awaited { from, .. } = watched.sight {
                self.wound[usize::from(from)] = 1;
            }
        }
        self.tick = 0;
        for place in self.wound.iter_mut() {
            self.tick += std::mem::replace(place, self.tick);
        }
        self.uses.clear();
        self.hidings.clear();
        for watched in self.table.iter_mut() {
            watched.used = self.wound[usize::from(watched.used)];
            self.uses.mark(watched.used);
            if let Sight::Awaited { from, .. } = &mut watched.sight {
                *from = self.wound[usize::from(*from)];
                self.hidings.mark(*from);
            }
        }
    }

    /// The pages that so many watched ones stand for.
    const fn scaled(&self, watched: u32) -> u64 {
        ((watched as u64) << 32) / self.threshold
    }

    /// The uses, in 1/[`ONE`], that one stands for.
    const fn weight(&self) -> u64 {
        ALL * ONE / self.threshold
    }
}

/// Which group of the sample a page is in. By bits that neither the threshold nor the table uses.
const fn group_of(hash: u32) -> usize {
    (hash >> 10) as usize % GROUPS
}

/// Scatters page numbers one to one (the finalizer of MurmurHash3, Appleby 2011): a hash stands for its page.
#[inline]
const fn mix(page: u32) -> u32 {
    let mut hash = page;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests;
