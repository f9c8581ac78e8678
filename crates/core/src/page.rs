//! The life of a page, in one atomic word.
//!
//! ```text
//!                 first touch                     park              claim by a saver
//!  Outside ─ arm ─▶ Untouched ──▶ Loading ──▶ Resident ─▶ Parking ─▶ Parked ────▶ Saving
//!                       ▲            ▲  │        ▲ ▲                   │  ▲          │ │
//!                    discard         │  │ lost   │ └──── Unparking ◀───┘  └ refused ─┘ │ published
//!                  (from any)        │  ▼        └──────────── copied back ◀──────────┤
//!                                    │ Lost                                           ▼
//!                                    └─────────────────── fault ◀────────────────── Stored
//! ```
//!
//! Whoever changes a page's state does so by one compare-and-swap of the whole word; the transition functions below
//! say which word may follow which. A transition that does not apply gives `None` and the caller looks again. What a
//! word owns – a stored slot, a staging frame – is owned by the state that names it: the thread whose swap takes the
//! word out of that state must pass it on or give it back.
//!
//! ```text
//!   63                              24 23            8 7   6 5   4 3     0
//!  ┌──────────────────────────────────┬───────────────┬─────┬─────┬───────┐
//!  │ slot (40 bits) or frame (24)     │ stamp         │ 0 G │heat │ state │
//!  └──────────────────────────────────┴───────────────┴─────┴─────┴───────┘
//! ```
//!
//! The stamp is a coarse eviction clock: of the last fill while resident, of the eviction while parked or stored, and
//! the loader's ticket while loading, so that a load that was overtaken cannot be mistaken for a later one.
//!
//! `G` says that the program gave the page's contents away since they were last saved. The kernel tells of it first and
//! takes the page afterwards, so such a page may still vanish without a word, and then reads as zeros. Any other page that
//! is missing is lost: it must not be made up.

use crate::slot::{SLOT_BITS, SlotRef};
use crate::sync::{AtomicU64, Ordering};

const STATE_MASK: u64 = 0xf;
const HEAT_SHIFT: u32 = 4;
const GIVEN: u64 = 1 << 6;
const STAMP_SHIFT: u32 = 8;
const BODY_SHIFT: u32 = 24;
/// The highest heat a page can have.
pub const HEAT_MAX: u8 = 3;

/// A place in a member's staging area.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Frame(pub u32);

/// Who reads a parked frame in order to save it. The two have distinct states, so that a pager that saves by itself
/// and a keeper that was slow cannot publish each other's work.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Saver {
    /// The keeper process.
    Keeper,
    /// The pager of the member itself.
    Pager,
}

/// Where a page is, as the state of its word says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Page {
    /// Not managed: no fault will come for it, nothing is kept of it.
    Outside,
    /// Managed, and nobody has given it contents: the next touch fills it with zeros.
    Untouched,
    /// In its place. The slot, if any, held the same bytes when the page was last filled.
    Resident(SlotRef),
    /// The evictor is moving it out.
    Parking(SlotRef),
    /// Its frame is in the staging area, whole, and nobody reads it.
    Parked(Frame),
    /// Its frame is in the staging area and a saver reads it.
    Saving(Frame, Saver),
    /// Its bytes are in a store only.
    Stored(SlotRef),
    /// A server of a fault is filling it from this slot (`None`: with zeros).
    Loading(SlotRef),
    /// A server of a fault is moving its frame back.
    Unparking(Frame),
    /// Its bytes cannot be brought back true: every touch is a SIGBUS.
    Lost,
}

/// The word of a page: its state, its heat and its stamp.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageWord(pub u64);

impl std::fmt::Debug for PageWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let given = if self.may_be_missing() { " given away" } else { "" };
        write!(f, "{:?} heat {} stamp {}{given}", self.page(), self.heat(), self.stamp())
    }
}

impl PageWord {
    /// The word of a page that is not managed: all zeros, as fresh shared memory is.
    pub const OUTSIDE: Self = Self(0);
    /// The word of a managed page without contents.
    pub const UNTOUCHED: Self = Self(1);

    /// Builds the word of `page`.
    pub const fn new(page: Page, heat: u8, stamp: u16) -> Self {
        let (state, body) = match page {
            Page::Outside => (0, 0),
            Page::Untouched => (1, 0),
            Page::Resident(slot) => (2, slot.pack()),
            Page::Parking(slot) => (3, slot.pack()),
            Page::Parked(frame) => (4, frame.0 as u64),
            Page::Saving(frame, Saver::Keeper) => (5, frame.0 as u64),
            Page::Saving(frame, Saver::Pager) => (6, frame.0 as u64),
            Page::Stored(slot) => (7, slot.pack()),
            Page::Loading(slot) => (8, slot.pack()),
            Page::Unparking(frame) => (9, frame.0 as u64),
            Page::Lost => (10, 0),
        };
        Self(state | (heat as u64 & 3) << HEAT_SHIFT | (stamp as u64) << STAMP_SHIFT | body << BODY_SHIFT)
    }

    /// Where the page is.
    ///
    /// # Panics
    /// When the word holds a state that no transition makes: the page table was overwritten.
    pub const fn page(self) -> Page {
        let body = self.0 >> BODY_SHIFT & ((1 << SLOT_BITS) - 1);
        match self.0 & STATE_MASK {
            0 => Page::Outside,
            1 => Page::Untouched,
            2 => Page::Resident(SlotRef::unpack(body)),
            3 => Page::Parking(SlotRef::unpack(body)),
            4 => Page::Parked(Frame(body as u32)),
            5 => Page::Saving(Frame(body as u32), Saver::Keeper),
            6 => Page::Saving(Frame(body as u32), Saver::Pager),
            7 => Page::Stored(SlotRef::unpack(body)),
            8 => Page::Loading(SlotRef::unpack(body)),
            9 => Page::Unparking(Frame(body as u32)),
            10 => Page::Lost,
            _ => panic!("page word in no known state: the page table was overwritten"),
        }
    }

    /// How often the page was wanted back soon, 0..=[`HEAT_MAX`].
    pub const fn heat(self) -> u8 {
        (self.0 >> HEAT_SHIFT & 3) as u8
    }

    /// The eviction clock when the page came to its state, or the loader's ticket.
    pub const fn stamp(self) -> u16 {
        (self.0 >> STAMP_SHIFT) as u16
    }

    /// Whether the page is in its place.
    pub const fn is_resident(self) -> bool {
        self.0 & STATE_MASK == 2
    }

    /// Whether the program gave the contents away since they were last saved: the page may then be missing.
    pub const fn may_be_missing(self) -> bool {
        self.0 & GIVEN != 0
    }

    /// The word of `page`, as far given away as this one.
    const fn next(self, page: Page, heat: u8, stamp: u16) -> Self {
        Self(Self::new(page, heat, stamp).0 | self.0 & GIVEN)
    }

    /// The same page with another heat.
    pub const fn with_heat(self, heat: u8) -> Self {
        Self(self.0 & !(3 << HEAT_SHIFT) | (heat as u64 & 3) << HEAT_SHIFT)
    }

    /// The evictor takes a resident page.
    pub const fn park_begin(self) -> Option<Self> {
        match self.page() {
            Page::Resident(slot) => Some(self.next(Page::Parking(slot), self.heat(), self.stamp())),
            _ => None,
        }
    }

    /// The page has left its place for `frame`, at eviction time `now`. Its retained slot passes to the frame.
    pub const fn park_done(self, frame: Frame, now: u16) -> Option<Self> {
        match self.page() {
            Page::Parking(_) => Some(self.next(Page::Parked(frame), self.heat(), now)),
            _ => None,
        }
    }

    /// The page refused to leave: it is resident as before.
    pub const fn park_refused(self) -> Option<Self> {
        match self.page() {
            Page::Parking(slot) => Some(self.next(Page::Resident(slot), self.heat(), self.stamp())),
            _ => None,
        }
    }

    /// There was nothing to move: the program gave the page away itself. The slot of the old word is the caller's.
    pub const fn park_found_hole(self) -> Option<Self> {
        match self.page() {
            Page::Parking(_) => Some(Self(Self::UNTOUCHED.0 | GIVEN)),
            _ => None,
        }
    }

    /// A saver takes a parked page.
    pub const fn claim(self, saver: Saver) -> Option<Self> {
        match self.page() {
            Page::Parked(frame) => Some(self.next(Page::Saving(frame, saver), self.heat(), self.stamp())),
            _ => None,
        }
    }

    /// The saver has stored the bytes of `frame` in `slot`.
    pub const fn publish(self, frame: Frame, saver: Saver, slot: SlotRef) -> Option<Self> {
        match self.page() {
            Page::Saving(at, by) if at.0 == frame.0 && by as u8 == saver as u8 => {
                Some(Self::new(Page::Stored(slot), self.heat(), self.stamp()))
            }
            _ => None,
        }
    }

    /// The saver lets go of `frame` unsaved: no store takes the bytes, or the saver is dead.
    pub const fn unclaim(self, frame: Frame, saver: Saver) -> Option<Self> {
        match self.page() {
            Page::Saving(at, by) if at.0 == frame.0 && by as u8 == saver as u8 => {
                Some(self.next(Page::Parked(frame), self.heat(), self.stamp()))
            }
            _ => None,
        }
    }

    /// A server of a fault takes a page without contents or a stored one; `ticket` tells its load from later ones.
    pub const fn load_begin(self, ticket: u16) -> Option<Self> {
        match self.page() {
            Page::Untouched => Some(self.next(Page::Loading(SlotRef::None), 0, ticket)),
            Page::Stored(slot) => Some(self.next(Page::Loading(slot), self.heat(), ticket)),
            _ => None,
        }
    }

    /// The page is filled, at eviction time `now`; `retained` is the slot that still holds the same bytes.
    pub const fn load_done(self, ticket: u16, retained: SlotRef, heat: u8, now: u16) -> Option<Self> {
        match self.page() {
            Page::Loading(_) if self.stamp() == ticket => Some(self.next(Page::Resident(retained), heat, now)),
            _ => None,
        }
    }

    /// The load did not happen; the page is as before it. `evicted` is the stamp to put back.
    pub const fn load_undone(self, ticket: u16, evicted: u16) -> Option<Self> {
        match self.page() {
            Page::Loading(SlotRef::None) if self.stamp() == ticket => Some(self.next(Page::Untouched, 0, 0)),
            Page::Loading(slot) if self.stamp() == ticket => Some(self.next(Page::Stored(slot), self.heat(), evicted)),
            _ => None,
        }
    }

    /// The bytes cannot be brought back true. The slot of the old word is the caller's to give back.
    pub const fn lose(self, ticket: u16) -> Option<Self> {
        match self.page() {
            Page::Loading(_) if self.stamp() == ticket => Some(Self::new(Page::Lost, 0, 0)),
            _ => None,
        }
    }

    /// The page is not where it must be, and the program did not give it away.
    pub const fn lose_missing(self) -> Option<Self> {
        match self.page() {
            Page::Resident(_) | Page::Parked(_) if !self.may_be_missing() => Some(Self::new(Page::Lost, 0, 0)),
            _ => None,
        }
    }

    /// A server of a fault takes a parked frame that nobody reads, to move it back.
    pub const fn unpark_begin(self) -> Option<Self> {
        match self.page() {
            Page::Parked(frame) => Some(self.next(Page::Unparking(frame), self.heat(), self.stamp())),
            _ => None,
        }
    }

    /// The frame is back in its place, at eviction time `now`; the frame's retained slot comes back with it.
    pub const fn unpark_done(self, retained: SlotRef, now: u16) -> Option<Self> {
        match self.page() {
            Page::Unparking(_) => Some(self.next(Page::Resident(retained), self.hotter(), now)),
            _ => None,
        }
    }

    /// The frame could not go back yet; it stays parked.
    pub const fn unpark_undone(self) -> Option<Self> {
        match self.page() {
            Page::Unparking(frame) => Some(self.next(Page::Parked(frame), self.heat(), self.stamp())),
            _ => None,
        }
    }

    /// A copy of the page's parked frame was put in its place while savers went on. `retained` is the frame's stored copy.
    /// A saver that still reads the frame will find its publication refused; one that has just published has left a
    /// stored copy of the same bytes, which the page keeps.
    pub const fn copied_back(self, retained: SlotRef, now: u16) -> Option<Self> {
        match self.page() {
            Page::Parked(_) | Page::Saving(..) => Some(self.next(Page::Resident(retained), self.hotter(), now)),
            Page::Stored(slot) => Some(self.next(Page::Resident(slot), self.hotter(), now)),
            _ => None,
        }
    }

    /// The same stored bytes now lie in `to`. `from` is the caller's to give back.
    pub const fn relocate(self, from: SlotRef, to: SlotRef) -> Option<Self> {
        match self.page() {
            Page::Stored(slot) if slot.pack() == from.pack() => {
                Some(self.next(Page::Stored(to), self.heat(), self.stamp()))
            }
            Page::Resident(slot) if slot.pack() == from.pack() && slot.is_some() => {
                Some(self.next(Page::Resident(to), self.heat(), self.stamp()))
            }
            _ => None,
        }
    }

    /// A resident page forgets its stored copy, which is the caller's to give back.
    pub const fn forget_slot(self) -> Option<Self> {
        match self.page() {
            Page::Resident(slot) if slot.is_some() => {
                Some(self.next(Page::Resident(SlotRef::None), self.heat(), self.stamp()))
            }
            _ => None,
        }
    }

    /// The program gave the page's contents away: the next touch is a first touch. What the old word owned is the
    /// caller's to give back. While an evictor or a server holds the page (`Parking`, `Unparking`) it must finish first.
    pub const fn discard(self) -> Option<Self> {
        match self.page() {
            Page::Outside | Page::Parking(_) | Page::Unparking(_) => None,
            Page::Untouched
            | Page::Resident(_)
            | Page::Parked(_)
            | Page::Saving(..)
            | Page::Stored(_)
            | Page::Loading(_)
            | Page::Lost => Some(Self(Self::UNTOUCHED.0 | GIVEN)),
        }
    }

    const fn hotter(self) -> u8 {
        if self.heat() < HEAT_MAX { self.heat() + 1 } else { HEAT_MAX }
    }
}

/// A page word that several threads and processes change, borrowed from where it lies.
#[derive(Clone, Copy)]
pub struct PageCell<'a>(pub &'a AtomicU64);

impl PageCell<'_> {
    /// The word as it is now.
    pub fn get(self) -> PageWord {
        PageWord(self.0.load(Ordering::Acquire))
    }

    /// Puts `next` if the word is still `seen`.
    pub fn swap(self, seen: PageWord, next: PageWord) -> bool {
        self.0.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Applies `step` until it takes effect, and gives the word before and after; `None` when it does not apply.
    pub fn apply(self, step: impl Fn(PageWord) -> Option<PageWord>) -> Option<(PageWord, PageWord)> {
        let mut seen = self.get();
        loop {
            let next = step(seen)?;
            match self.0.compare_exchange_weak(seen.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some((seen, next)),
                Err(now) => seen = PageWord(now),
            }
        }
    }

    /// Puts `word` whatever was there and gives what was there: for pages that nobody else can change now.
    pub fn put(self, word: PageWord) -> PageWord {
        PageWord(self.0.swap(word.0, Ordering::AcqRel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame(3);
    const SLOT: SlotRef = SlotRef::Ram(7);

    /// A page that was first touched, moved out and is being saved.
    fn saving(from: PageWord) -> PageWord {
        let filled = from.load_begin(1).and_then(|word| word.load_done(1, SlotRef::None, 0, 1));
        let parked = filled.and_then(PageWord::park_begin).and_then(|word| word.park_done(FRAME, 2));
        parked.and_then(|word| word.claim(Saver::Keeper)).expect("each step follows the one before")
    }

    #[test]
    fn a_page_that_was_given_away_may_be_missing_until_it_is_saved() {
        let given = PageWord::new(Page::Resident(SLOT), 1, 1).discard().expect("a resident page can be given away");
        let saving = saving(given);
        assert!(saving.may_be_missing());
        let back = saving.copied_back(SlotRef::None, 3).expect("a frame that is being saved can be copied back");
        assert!(back.may_be_missing() && back.lose_missing().is_none());
        let stored = saving.publish(FRAME, Saver::Keeper, SLOT).expect("its saver publishes it");
        assert!(!stored.may_be_missing());
    }

    #[test]
    fn a_page_that_was_never_given_away_is_lost_when_it_is_missing() {
        let parked = saving(PageWord::UNTOUCHED).unclaim(FRAME, Saver::Keeper).expect("its saver lets go of it");
        assert_eq!(parked.lose_missing().map(PageWord::page), Some(Page::Lost));
        assert_eq!(PageWord::UNTOUCHED.lose_missing(), None);
    }
}
