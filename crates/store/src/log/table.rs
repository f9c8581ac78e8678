//! The shared words of the log: of each segment what it is, of each page its hash and its owners.
//!
//! ```text
//!  segment:  Free ──claim──▶ Open(process) ──seal──▶ Sealed ──live 0──▶ Punching(process) ──▶ Free
//!                                 ▲                     │ live 0
//!                                 └──────claim──────────┘
//!   63       48 47 35  34   33    24 23        2 1   0          63            16 15      0
//!  ┌───────────┬─────┬──────┬───────┬───────────┬─────┐        ┌────────────────┬─────────┐
//!  │ turn      │  0  │victim│ live  │ process   │state│        │ hash           │ owners  │
//!  └───────────┴─────┴──────┴───────┴───────────┴─────┘        └────────────────┴─────────┘
//! ```
//! *Live* counts the pages of a segment that have owners; it is raised before they get the first and lowered after they
//! lost the last, so a segment with live 0 has none. Only a sealed one can be claimed or punched.

use memvisor_proto::segment::SEGMENT_PAGES;
use memvisor_sys::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words before those of the segments.
pub(super) const CONTROL_WORDS: usize = 512;
const SEQUENCE: usize = 0;
const FREE_HINT: usize = 1;
const TOP: usize = 2;
const PID_MASK: u64 = (1 << 22) - 1;
const LIVE_SHIFT: u32 = 24;
const LIVE_MASK: u64 = 0x3ff;
const VICTIM: u64 = 1 << 34;
const TURN_SHIFT: u32 = 48;
/// The owners' part of the word of a page.
pub(super) const OWNERS: u64 = 0xffff;

/// What a segment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Segment {
    Free,
    /// A process fills it.
    Open(u32),
    /// It takes no more pages.
    Sealed,
    /// A process gives its blocks back.
    Punching(u32),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentWord(pub u64);

impl SegmentWord {
    pub fn segment(self) -> Segment {
        let pid = (self.0 >> 2 & PID_MASK) as u32;
        match self.0 & 3 {
            0 => Segment::Free,
            1 => Segment::Open(pid),
            2 => Segment::Sealed,
            _ => Segment::Punching(pid),
        }
    }
    pub fn live(self) -> usize {
        (self.0 >> LIVE_SHIFT & LIVE_MASK) as usize
    }
    pub fn is_victim(self) -> bool {
        self.0 & VICTIM != 0
    }
    fn with_segment(self, segment: Segment) -> Self {
        let low = match segment {
            Segment::Free => 0,
            Segment::Open(pid) => 1 | (pid as u64 & PID_MASK) << 2,
            Segment::Sealed => 2,
            Segment::Punching(pid) => 3 | (pid as u64 & PID_MASK) << 2,
        };
        Self(self.0 & !(PID_MASK << 2 | 3) | low)
    }
    fn with_live(self, live: usize) -> Self {
        Self(self.0 & !(LIVE_MASK << LIVE_SHIFT) | (live as u64 & LIVE_MASK) << LIVE_SHIFT)
    }
    fn with_victim(self, is_victim: bool) -> Self {
        Self(if is_victim { self.0 | VICTIM } else { self.0 & !VICTIM })
    }
    fn next_turn(self) -> Self {
        Self(self.0.wrapping_add(1 << TURN_SHIFT))
    }
    /// Whether a writer may begin it: it is nobody's, or nothing is in it any more.
    fn is_claimable(self) -> bool {
        matches!(self.segment(), Segment::Free) || (self.segment() == Segment::Sealed && self.live() == 0)
    }
}

/// A view of the words.
#[derive(Clone, Copy)]
pub(super) struct Table {
    pub control: &'static [AtomicU64],
    pub segments: &'static [AtomicU64],
    pub pages: &'static [AtomicU64],
    pub used_pages: &'static AtomicU64,
}

impl Table {
    /// The word of a segment.
    pub fn word(&self, segment: usize) -> SegmentWord {
        SegmentWord(self.segments[segment].load(Ordering::Acquire))
    }

    /// Segments from 0 that were ever used.
    pub fn top(&self) -> usize {
        (self.control[TOP].load(Ordering::Acquire) as usize).min(self.segments.len())
    }

    /// The word of a page that holds data; `None` for a header page or beyond the end.
    pub fn page(&self, page: u64) -> Option<&'static AtomicU64> {
        let page = usize::try_from(page).ok()?;
        if page.is_multiple_of(SEGMENT_PAGES) { None } else { self.pages.get(page) }
    }

    /// Takes a segment to fill, and gives its number and its sequence; `None` unless `reserve` more can be had after it.
    pub fn claim(&self, reserve: usize) -> Option<(usize, u64)> {
        let count = self.segments.len();
        let hint = self.control[FREE_HINT].load(Ordering::Acquire) as usize % count.max(1);
        let mut left = reserve;
        let mut found = None;
        for segment in (hint..count).chain(0..hint) {
            let word = self.word(segment);
            if !word.is_claimable() {
                continue;
            }
            if found.is_none() {
                found = Some((segment, word));
            } else {
                left -= 1;
            }
            if left == 0 {
                let (segment, word) = found?;
                let next =
                    word.next_turn().with_segment(Segment::Open(process::getpid())).with_live(0).with_victim(false);
                if self.swap(segment, word, next) {
                    self.control[FREE_HINT].store(segment as u64 + 1, Ordering::Release);
                    self.control[TOP].fetch_max(segment as u64 + 1, Ordering::AcqRel);
                    return Some((segment, self.control[SEQUENCE].fetch_add(1, Ordering::AcqRel)));
                }
                // Another process was faster: look on from there.
                (found, left) = (None, reserve);
            }
        }
        None
    }

    /// The sequences that segments get from now on begin after `sequence`.
    pub fn begin_after(&self, sequence: u64) {
        self.control[SEQUENCE].fetch_max(sequence.saturating_add(1), Ordering::AcqRel);
    }

    /// Closes a segment that we filled.
    pub fn seal(&self, segment: usize) {
        self.change(segment, |word| {
            matches!(word.segment(), Segment::Open(_)).then(|| word.with_segment(Segment::Sealed))
        });
    }

    /// Counts pages that are about to get owners.
    pub fn enter(&self, segment: usize, pages: usize) {
        self.change(segment, |word| Some(word.with_live(word.live() + pages)));
        self.used_pages.fetch_add(pages as u64, Ordering::AcqRel);
    }

    /// Counts a page that has lost its last owner.
    pub fn leave(&self, segment: usize) {
        let changed = self.change(segment, |word| word.live().checked_sub(1).map(|live| word.with_live(live)));
        if changed.is_some_and(|word| word.is_claimable()) {
            self.control[FREE_HINT].fetch_min(segment as u64, Ordering::AcqRel);
        }
        let _ = self.used_pages.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| now.checked_sub(1));
    }

    /// Gives the blocks of up to `max` empty segments back by `punch`; how many it were.
    pub fn punch_empty(&self, max: usize, punch: impl Fn(usize) -> bool) -> usize {
        let mut punched = 0;
        for segment in 0..self.top() {
            if punched == max {
                break;
            }
            let word = self.word(segment);
            if word.segment() != Segment::Sealed || word.live() != 0 {
                continue;
            }
            let mine = word.with_segment(Segment::Punching(process::getpid()));
            if self.swap(segment, word, mine) {
                let next = if punch(segment) { Segment::Free } else { Segment::Sealed };
                punched += (next == Segment::Free) as usize;
                self.segments[segment].store(mine.with_segment(next).with_victim(false).0, Ordering::Release);
                self.control[FREE_HINT].fetch_min(segment as u64, Ordering::AcqRel);
            }
        }
        punched
    }

    /// Takes back the segments that dead processes filled or punched; how many it were.
    pub fn recover(&self, is_alive: impl Fn(u32) -> bool) -> usize {
        let mut recovered = 0;
        for segment in 0..self.top() {
            let word = self.word(segment);
            let (Segment::Open(pid) | Segment::Punching(pid)) = word.segment() else { continue };
            // A segment that was being punched is empty, and sealed it is punched again.
            recovered += (!is_alive(pid) && self.swap(segment, word, word.with_segment(Segment::Sealed))) as usize;
        }
        self.control[FREE_HINT].store(0, Ordering::Release);
        recovered
    }

    /// Makes the sparsest sealed segments victims: at most `max`, and at most three quarters full.
    pub fn pick_victims(&self, max: usize) -> (usize, usize) {
        let (mut segments, mut pages) = (0, 0);
        for eighths in 1..7 {
            for segment in 0..self.top() {
                if segments == max {
                    return (segments, pages);
                }
                let word = self.word(segment);
                if word.segment() == Segment::Sealed
                    && !word.is_victim()
                    && (1..=SEGMENT_PAGES * eighths / 8).contains(&word.live())
                    && self.swap(segment, word, word.with_victim(true))
                {
                    segments += 1;
                    pages += word.live();
                }
            }
        }
        (segments, pages)
    }

    /// No segment is a victim any more.
    pub fn spare_victims(&self) {
        for segment in 0..self.top() {
            self.change(segment, |word| word.is_victim().then(|| word.with_victim(false)));
        }
    }

    /// Makes every page free and every segment that was in use sealed. No other process may use the log meanwhile.
    pub fn forget_owners(&self) {
        for segment in 0..self.top() {
            for page in &self.pages[segment * SEGMENT_PAGES..(segment + 1) * SEGMENT_PAGES] {
                page.fetch_and(!OWNERS, Ordering::AcqRel);
            }
            self.change(segment, |word| {
                let sealed = if word.segment() == Segment::Free { Segment::Free } else { Segment::Sealed };
                Some(word.with_segment(sealed).with_live(0).with_victim(false))
            });
        }
        self.used_pages.store(0, Ordering::Release);
        self.control[FREE_HINT].store(0, Ordering::Release);
    }

    /// Adds an owner to a page while owners are counted anew; false when there is no such page.
    pub fn own(&self, page: u64) -> bool {
        let Some(word) = self.page(page) else { return false };
        let segment = page as usize / SEGMENT_PAGES;
        if self.word(segment).segment() != Segment::Sealed {
            return false;
        }
        let before =
            word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now & OWNERS != OWNERS).then(|| now + 1));
        if before.is_ok_and(|before| before & OWNERS == 0) {
            self.enter(segment, 1);
        }
        before.is_ok()
    }

    /// Makes a segment of the file sealed that this table knows nothing of.
    pub fn adopt(&self, segment: usize) {
        self.control[TOP].fetch_max(segment as u64 + 1, Ordering::AcqRel);
        self.change(segment, |word| Some(word.with_segment(Segment::Sealed)));
    }

    fn swap(&self, segment: usize, seen: SegmentWord, next: SegmentWord) -> bool {
        self.segments[segment].compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Applies `step` until it takes effect, and gives the word after it; `None` when it does not apply.
    fn change(&self, segment: usize, step: impl Fn(SegmentWord) -> Option<SegmentWord>) -> Option<SegmentWord> {
        let next = |now| step(SegmentWord(now)).map(|word| word.0);
        let before = self.segments[segment].fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok()?;
        step(SegmentWord(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(segments: usize) -> Table {
        let words = |count: usize| -> &'static [AtomicU64] {
            Box::leak((0..count).map(|_| AtomicU64::new(0)).collect::<Box<[_]>>())
        };
        Table {
            control: words(CONTROL_WORDS),
            segments: words(segments),
            pages: words(segments * SEGMENT_PAGES),
            used_pages: &words(1)[0],
        }
    }

    #[test]
    fn a_reserve_is_kept_back() {
        let table = table(5);
        let claimed: Vec<_> = (0..5).map(|_| table.claim(2).map(|(segment, _)| segment)).collect();
        assert_eq!(claimed, [Some(0), Some(1), Some(2), None, None]);
        assert_eq!(table.claim(0).map(|(segment, _)| segment), Some(3));
    }

    #[test]
    fn a_segment_is_claimed_again_only_when_it_is_sealed_and_empty() {
        let table = table(1);
        let (segment, sequence) = table.claim(0).unwrap();
        assert!(table.claim(0).is_none());
        table.enter(segment, 2);
        table.leave(segment);
        table.seal(segment);
        assert!(table.claim(0).is_none());
        assert_eq!(table.punch_empty(9, |_| true), 0);
        table.leave(segment);
        assert_eq!(table.claim(0), Some((segment, sequence + 1)));
    }

    #[test]
    fn segments_of_the_dead_come_back_and_those_of_the_living_do_not() {
        let table = table(2);
        let (mine, _) = table.claim(0).unwrap();
        assert_eq!(table.recover(|pid| pid == process::getpid()), 0);
        assert_eq!(table.recover(|_| false), 1);
        assert_eq!(table.word(mine).segment(), Segment::Sealed);
    }
}
