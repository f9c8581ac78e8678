//! A fork: the child sees the parent's memory of that instant, and shares the parent's stored pages by reference.
//!
//! Before the fork the parent's monitor makes the child a member with page words of its own: nothing is parked, every
//! stored page counts one reference more, and the DRAM that the child could come to take is found in the budget first.
//! From then until the fork is over nothing is moved out, and what the program gives away is forgotten in the child's
//! words too. The child starts from those words and from what the kernel says is present; it takes nothing from the
//! parent's monitor, which may have been in the middle of anything.

use crate::monitor::Monitor;
use crate::regions::Arming;
use crate::space::MemberIndex;
use crate::windows::WindowMap;
use memvisor_core::replace::{Fill, Replacement};
use memvisor_core::{PAGE_BYTES, Page, PageCell, PageWord, SlotRef};
use memvisor_proto::space::member_state;
use memvisor_sys::{Errno, clock, uffd};
use std::sync::Mutex;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The plain memory of the parent, as it was when its monitor made the last child ready; for that child.
static UNARMED_AT_FORK: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// How long the savers are waited for before the monitor empties staging by itself, in nanoseconds: they save a whole ring
/// in less.
const SETTLE_NS: u64 = 20_000_000;

/// Attempts to make room for a child that may get no nearer before it is forked all the same.
const ROOM_TRIES: u32 = 4;

/// What became of the pages of a window in the child.
#[derive(Clone, Copy, Default)]
struct Copied {
    stored: u64,
    /// The parent has them, and they could not be shared.
    lost: u64,
}

/// A child that is being forked: until that is over, what the parent gives away is forgotten in its words too.
pub(crate) struct Nascent {
    member: MemberIndex,
    windows: WindowMap,
}

impl Monitor {
    /// Makes a member for the child of the fork that follows.
    pub(crate) fn prepare_fork(&mut self) -> Option<MemberIndex> {
        self.make_room_for_child();
        self.empty_staging();
        let child = self.space.take_member()?;
        let block = self.space.member(child);
        block.parent().store(self.me.0 as u64 + 1, Relaxed);
        let (mut windows, mut stored, mut lost) = (WindowMap::default(), 0, 0);
        for (address, window) in self.windows.iter().collect::<Vec<_>>() {
            let Some(copy) = self.space.take_window(child, address) else {
                crate::reap::give_back(&self.space, &self.stores, child);
                return None;
            };
            let copied = self.copy_words(window, copy);
            (stored, lost) = (stored + copied.stored, lost + copied.lost);
            windows.insert(address, copy);
        }
        if lost > 0 {
            crate::say::line(format_args!(
                "{lost} pages could not be shared at a fork: the child gets SIGBUS where it touches them"
            ));
        }
        // What the child could take is charged to it from now on.
        let resident = self.block.resident_pages().load(Relaxed);
        let unarmed = self.block.unarmed_bytes().load(Relaxed);
        block.resident_pages().store(resident, Relaxed);
        block.unarmed_bytes().store(unarmed, Relaxed);
        block.away_pages().store(stored, Relaxed);
        block.managed_bytes().store(self.block.managed_bytes().load(Relaxed), Release);
        self.charge(resident as i64 + (unarmed / PAGE_BYTES as u64) as i64);
        self.note_unarmed();
        self.nascent = Some(Nascent { member: child, windows });
        Some(child)
    }

    /// Every page of the child may come to be a copy: the budget must hold twice what is here. Ends when it does, or when
    /// tries one after the other got no nearer.
    fn make_room_for_child(&mut self) {
        let (mut tries, mut least) = (0, i64::MAX);
        while tries < ROOM_TRIES {
            let short = self.child_pages() - self.slack();
            if short <= 0 {
                return;
            }
            tries = if short < least { 0 } else { tries + 1 };
            least = least.min(short);
            // Each page that leaves makes room for one and needs one less. One go does not always find enough: pages that
            // were used lately are passed over first.
            self.make_slack(self.slack() + (short / 2).clamp(1, 1024));
        }
    }

    /// What a child that is forked now can come to take.
    fn child_pages(&self) -> i64 {
        let unarmed_pages = self.block.unarmed_bytes().load(Relaxed) / PAGE_BYTES as u64;
        self.block.resident_pages().load(Relaxed) as i64 + unarmed_pages as i64
    }

    /// Waits until every parked page is saved, or brings it back.
    fn empty_staging(&mut self) {
        self.ring_keeper();
        let began_ns = clock::now_ns();
        while !self.staging.is_idle() {
            self.free_frames();
            if clock::now_ns() - began_ns < SETTLE_NS && self.keeper.is_alive() {
                memvisor_sys::thread::yield_now();
            } else if !self.clear_oldest() {
                break;
            }
        }
        self.drop_frames();
        while self.loads.outstanding() > 0 {
            self.wait_for_loads();
        }
    }

    /// Writes the child's words of a window.
    fn copy_words(&self, from: u32, to: u32) -> Copied {
        let mut copied = Copied::default();
        for (old, new) in self.space.table(from).iter().zip(self.space.table(to)) {
            let word = PageCell(old).get();
            let copy = match word.page() {
                // A compaction may move the slot at this moment: what counts is the word at the time of the count.
                Page::Stored(_) => share_stored(
                    PageCell(old),
                    |slot| self.stores.retain(slot).is_ok(),
                    |slot| self.stores.release(slot),
                ),
                Page::Resident(_) => PageWord::new(Page::Resident(SlotRef::None), word.heat(), word.stamp()),
                Page::Untouched | Page::Lost => word,
                Page::Outside => continue,
                Page::Parking(_) | Page::Parked(_) | Page::Saving(..) | Page::Loading(_) | Page::Unparking(_) => {
                    PageWord::new(Page::Lost, 0, 0)
                }
            };
            copied.stored += u64::from(matches!(copy.page(), Page::Stored(_)));
            copied.lost += u64::from(copy.page() == Page::Lost && word.page() != Page::Lost);
            PageCell(new).put(copy);
        }
        copied
    }

    /// While a fork is under way, what the parent gives away is given away in the child's words too.
    pub(crate) fn forget_in_child(&mut self, page: memvisor_core::PageIndex) {
        let address = self.space.address(page);
        let Some(nascent) = self.nascent.as_mut() else { return };
        let (child, Some(page)) = (nascent.member, nascent.windows.find(address)) else { return };
        let cell = self.space.page(page);
        if let Some((before, _)) = cell.apply(|word| word.discard())
            && let Page::Stored(slot) = before.page()
        {
            self.release(slot);
            self.space.member(child).away_pages().fetch_sub(1, Relaxed);
        }
    }

    /// In a forked child: registers what the parent had armed and finds out what is present. Nothing of the program may
    /// run before this is done.
    ///
    /// # Errors
    /// When memory that the parent had armed cannot be registered, or what was prepared for the child was given back: evicted
    /// pages would read as zeros, so the child must not run.
    pub fn inherit(&mut self) -> Result<(), Errno> {
        let windows: Vec<u32> = self.space.windows_of(self.me).collect();
        self.block.managed_bytes().store(0, Relaxed);
        // What was charged before the fork stays charged until it is known what is here: else the others would take it
        // for free.
        let (mut present, charged) = (0, self.block.resident_pages().load(Relaxed));
        for window in windows {
            let address = self.space.window(window).1.load(Relaxed) as usize;
            self.windows.insert(address, window);
            self.policy.reserve(crate::layout::runs_of(window));
            for (start, end) in self.managed_stretches(window, address) {
                present += self.inherit_stretch(start, end)?;
            }
        }
        self.count_resident(present as i64 - charged as i64);
        self.inherit_unarmed();
        let is_ours = self.block.state().load(Acquire) == member_state::JOINING
            && self.block.pid().load(Relaxed) == u64::from(memvisor_sys::process::getpid());
        if is_ours { Ok(()) } else { Err(Errno::ESRCH) }
    }

    fn managed_stretches(&self, window: u32, address: usize) -> Vec<(usize, usize)> {
        let mut stretches: Vec<(usize, usize)> = Vec::new();
        for (at, word) in self.space.table(window).iter().enumerate() {
            if memvisor_core::PageCell(word).get().page() == Page::Outside {
                continue;
            }
            let start = address + at * PAGE_BYTES;
            match stretches.last_mut() {
                Some(last) if last.1 == start => last.1 += PAGE_BYTES,
                _ => stretches.push((start, start + PAGE_BYTES)),
            }
        }
        stretches
    }

    /// Gives how many pages are present.
    fn inherit_stretch(&mut self, start: usize, end: usize) -> Result<u64, Errno> {
        let modes = uffd::REGISTER_MISSING | uffd::REGISTER_WP;
        let mut present = 0;
        for (from, to) in self.anonymous_in(start, end) {
            self.uffd.register(from, to - from, modes)?;
            self.regions.set_armed(from, to);
            self.block.managed_bytes().fetch_add((to - from) as u64, Relaxed);
            present += self.settle_words(from, to)?;
        }
        Ok(present)
    }

    /// A page is resident in the child exactly when it is present. Gives how many are.
    fn settle_words(&mut self, start: usize, end: usize) -> Result<u64, Errno> {
        let mut present: Vec<(usize, usize)> = Vec::new();
        self.pagemap.present_runs(start, end, |from, to, _zero| present.push((from, to)))?;
        let (mut at, mut pages) = (start, 0);
        for (from, to) in present.into_iter().chain([(end, end)]) {
            self.settle_absent(at, from);
            pages += self.settle_present(from, to);
            at = to;
        }
        Ok(pages)
    }

    fn settle_absent(&mut self, start: usize, end: usize) {
        self.for_each_page(start, end, |monitor, page| {
            let cell = monitor.space.page(page);
            if cell.get().is_resident() {
                // Given away while it was copied, or lost: then a touch must say so.
                cell.apply(|word| word.lose_missing().or_else(|| word.discard()));
            }
        });
    }

    fn settle_present(&mut self, start: usize, end: usize) -> u64 {
        let mut pages = 0;
        self.for_each_page(start, end, |monitor, page| {
            let heat = monitor.policy.filled(page.run(), Fill::FirstTouch, 0);
            let old = monitor.space.page(page).put(PageWord::new(Page::Resident(SlotRef::None), heat, 0));
            match old.page() {
                // Loaded by the parent in the moment before the fork.
                Page::Stored(slot) => {
                    monitor.release(slot);
                    monitor.count_away(-1);
                }
                Page::Resident(slot) => monitor.release(slot),
                _ => {}
            }
            monitor.told_met(page);
            pages += 1;
        });
        pages
    }

    fn note_unarmed(&self) {
        let unarmed = self.regions.iter().filter(|piece| piece.arming == Arming::Unarmed);
        if let Ok(mut noted) = UNARMED_AT_FORK.lock() {
            noted.clear();
            noted.extend(unarmed.map(|piece| (piece.start, piece.end)));
        }
    }

    fn inherit_unarmed(&mut self) {
        let pieces = UNARMED_AT_FORK.lock().map(|mut noted| std::mem::take(&mut *noted)).unwrap_or_default();
        let charged = self.block.unarmed_bytes().load(Relaxed) as i64;
        let bytes: usize = pieces.into_iter().map(|(start, end)| self.regions.add(start, end)).sum();
        self.count_unarmed(bytes as i64 - charged);
        self.block.managed_bytes().fetch_add(bytes as u64, Relaxed);
    }
}

/// Counts one reference more to the slot of a stored page, for the child, and gives the child's word. The keeper may move the page to
/// another slot at any moment, and the one that was read may be nobody's then: what counts is a word that stood still.
fn share_stored(cell: PageCell<'_>, retain: impl Fn(SlotRef) -> bool, release: impl Fn(SlotRef)) -> PageWord {
    loop {
        let word = cell.get();
        let Page::Stored(slot) = word.page() else { return PageWord::new(Page::Lost, 0, 0) };
        let is_shared = retain(slot);
        if cell.get() == word {
            return if is_shared { word } else { PageWord::new(Page::Lost, 0, 0) };
        }
        if is_shared {
            release(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::sync::atomic::AtomicU64;

    const fn stored(slot: SlotRef) -> PageWord {
        PageWord::new(Page::Stored(slot), 0, 7)
    }

    /// Shares a page that moves from the first slot to the second at the moment when the first is retained, which succeeds or not.
    fn shared_amid_a_move(first_succeeds: bool) -> (PageWord, Vec<(char, SlotRef)>) {
        let (before, after) = (SlotRef::Ram(1), SlotRef::Log(2));
        let word = AtomicU64::new(stored(before).0);
        let done = RefCell::new(Vec::new());
        let retain = |slot| {
            done.borrow_mut().push(('+', slot));
            PageCell(&word).put(stored(after));
            slot == after || first_succeeds
        };
        let shared = share_stored(PageCell(&word), retain, |slot| done.borrow_mut().push(('-', slot)));
        (shared, done.into_inner())
    }

    #[test]
    fn a_page_that_moves_while_it_is_shared_is_shared_where_it_went() {
        let (before, after) = (SlotRef::Ram(1), SlotRef::Log(2));
        assert_eq!(shared_amid_a_move(false), (stored(after), vec![('+', before), ('+', after)]));
        assert_eq!(shared_amid_a_move(true), (stored(after), vec![('+', before), ('-', before), ('+', after)]));
    }

    #[test]
    fn a_slot_that_cannot_be_shared_is_a_lost_page_of_the_child() {
        let word = AtomicU64::new(stored(SlotRef::Ram(1)).0);
        let shared = share_stored(PageCell(&word), |_| false, |_| panic!("it was not retained"));
        assert_eq!(shared.page(), Page::Lost);
    }
}
