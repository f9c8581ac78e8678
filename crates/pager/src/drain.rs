//! Everything back to plain DRAM, and let go: what the operator asks for to be rid of memvisor while the program runs.
//!
//! While the header says `drain` the space has all the room there is ([`crate::Space::headroom_pages`]), so nothing leaves
//! any more. The monitor brings back what is away, some pages a turn between the faults, and when nothing is away it
//! ends the registration of all memory: the kernel alone serves it from then on.
//!
//! `drain` may be taken back at any instant, and asked for again before a monitor has seen that it was. Who has not let go goes on
//! as before, its pages leaving again; who has let go has plain memory that is not armed yet, as at the start. Nothing is lost by
//! that: memory is let go in the turn in which every page was looked at and none was away, and this thread alone lets pages leave.
//! That rule is [`memvisor_core::drain`], where every order of events is tried.

use crate::monitor::Monitor;
use crate::regions::Arming;
use memvisor_core::Page;
use memvisor_core::drain::Pages;
use std::sync::atomic::Ordering::Relaxed;

/// Pages brought back before the monitor listens again: half a millisecond.
const PAGES_PER_TURN: usize = 256;

impl Monitor {
    /// Whether pages are still to be brought back: the monitor does not sleep then.
    pub(crate) fn is_draining(&self) -> bool {
        self.space.is_draining() && self.block.drained().load(Relaxed) == 0
    }

    /// Goes on with a drain, if one is asked for; or with the usual life, if it was taken back.
    pub(crate) fn drain_some(&mut self) {
        if !self.space.is_draining() {
            self.block.drained().store(0, Relaxed);
            return;
        }
        if self.block.drained().load(Relaxed) != 0 {
            // It may have been taken back for a moment, and memory armed in that.
            self.block.drained().store(u64::from(self.has_let_go()), Relaxed);
            return;
        }
        if self.nascent.is_some() {
            return;
        }
        self.settle_staging();
        let mut walk = std::mem::take(&mut self.drain);
        let may_let_go = walk.turn(self, PAGES_PER_TURN);
        self.drain = walk;
        if may_let_go {
            self.let_go();
        }
    }

    /// Nothing is away: ends the registration of everything that is armed. What the kernel still has to say of it is heard
    /// first, and nobody changes the layout meanwhile.
    fn let_go(&mut self) {
        if !self.hold_layout() {
            return;
        }
        let armed: Vec<(usize, usize)> = self
            .regions
            .iter()
            .filter(|piece| piece.arming == Arming::Armed)
            .map(|piece| (piece.start, piece.end))
            .collect();
        if armed.iter().all(|&(start, end)| self.is_all_there(start, end)) {
            self.unregister_all(&armed);
        }
        self.let_layout_go();
    }

    fn unregister_all(&mut self, armed: &[(usize, usize)]) {
        for &(start, end) in armed {
            if self.uffd.unregister(start, end - start).is_err() {
                // Part of it is no memory any more; the message that says so comes.
                continue;
            }
            self.unmapped(start, end);
            self.mapped(start, end, crate::door::Charged::NotYet);
        }
        self.looking.forget_places();
        self.block.drained().store(u64::from(self.has_let_go()), Relaxed);
    }

    /// Whether the pages that are in their place by their words are there: in plain memory one that is not would read as zeros. Such
    /// a page is lost from now on, or memory is changing; either way another walk comes first.
    fn is_all_there(&mut self, start: usize, end: usize) -> bool {
        let mut absent: Vec<(usize, usize)> = Vec::new();
        let mut at = start;
        let scanned = self.pagemap.present_runs(start, end, |from, to, _zero| {
            absent.push((at, from));
            at = to;
        });
        if scanned.is_err() {
            return false;
        }
        absent.push((at, end));
        let mut is_all_there = true;
        for (from, to) in absent.into_iter().filter(|(from, to)| from < to) {
            self.for_each_page(from, to, |monitor, page| {
                let word = monitor.space.page(page).get();
                if word.is_resident() && !word.may_be_missing() {
                    is_all_there &= monitor.is_there(page, monitor.space.address(page));
                }
            });
        }
        is_all_there
    }

    fn has_let_go(&self) -> bool {
        self.regions.iter().all(|piece| piece.arming == Arming::Unarmed)
    }
}

impl Pages for Monitor {
    fn count(&self) -> usize {
        self.windows.pages()
    }

    fn page(&self, at: usize) -> Page {
        self.windows.nth_page(at).map_or(Page::Outside, |page| self.space.page(page).get().page())
    }

    fn bring_back(&mut self, at: usize) {
        if let Some(page) = self.windows.nth_page(at) {
            Monitor::bring_back(self, page);
        }
    }

    fn poison(&mut self, at: usize) -> bool {
        self.windows.nth_page(at).is_none_or(|page| Monitor::poison(self, self.space.address(page)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::{Charged, Door};
    use crate::monitor::{Parking, Start};
    use crate::space::Space;
    use crate::stores::Stores;
    use memvisor_core::drain::Walk;
    use memvisor_core::{PAGE_BYTES, PageIndex, PageWord, SlotRef};
    use memvisor_proto::Layout;
    use memvisor_sys::memory::Staging;
    use memvisor_sys::shared::SharedFile;
    use memvisor_sys::{Errno, process};

    const PAGES: u32 = 3 * PAGES_PER_TURN as u32;
    /// Of all pages every other one is away: those that lie one after the other are brought back together.
    const STEP: usize = 2;
    /// So many turns nothing takes that is brought back here.
    const TURNS_MAX: usize = 8;

    /// A monitor and the memory that it manages, in which nobody but this thread has a page. The monitor goes first: memory that
    /// it had registered could not be unmapped by its own thread.
    struct Managed {
        monitor: Monitor,
        memory: Staging,
    }

    fn contents(at: u32) -> [u8; PAGE_BYTES] {
        std::array::from_fn(|byte| (at as usize * 7 + byte / 64) as u8)
    }

    impl Managed {
        /// Its last page was never touched. `None` where the kernel does not let pages be moved.
        fn armed() -> Option<Self> {
            let file = SharedFile::create(c"drain-test", Layout::FILE_BYTES as u64).unwrap();
            let map = file.map(Layout::FILE_BYTES).unwrap();
            let space = Space::new(map);
            space.header().target_bytes().store(64 << 20, Relaxed);
            space.header().ram_limit_bytes().store(64 << 20, Relaxed);
            space.header().members().store(1, Relaxed);
            let (me, stores) = (space.take_member().unwrap(), Stores::attach(map, None).unwrap());
            let door = Box::leak(Box::new(Door::new()));
            let monitor = Monitor::new(Start { space, me, door, stores, keeper_pid: 0, spawn: |_| false });
            let monitor = match monitor {
                Ok(monitor) if monitor.parking == Parking::Move => monitor,
                Ok(_) => {
                    eprintln!("CANNOT RUN: this test needs a kernel that moves pages");
                    return None;
                }
                Err(error) => {
                    eprintln!("CANNOT RUN: {error}");
                    return None;
                }
            };
            let memory = Staging::new(PAGES).unwrap();
            (0..PAGES - 1).for_each(|at| memory.write_frame(at, &contents(at)));
            let mut managed = Self { monitor, memory };
            let (start, end) = (managed.memory.base(), managed.memory.base() + managed.memory.len_bytes());
            managed.monitor.mapped(start, end, Charged::NotYet);
            managed.monitor.arm(start, end);
            Some(managed)
        }

        fn page(&mut self, at: u32) -> PageIndex {
            self.monitor.page_at(self.memory.address(at)).unwrap()
        }

        /// Pages leave for a store.
        fn leave(&mut self, pages: impl Iterator<Item = u32> + Clone) {
            for at in pages.clone() {
                let page = self.page(at);
                assert_eq!(self.monitor.park_by_move(page, 1, 1), 1);
            }
            while !self.monitor.staging.is_idle() {
                self.monitor.clear_oldest();
                self.monitor.free_frames();
            }
            for at in pages {
                let page = self.page(at);
                let word = self.monitor.space.page(page).get();
                assert!(matches!(word.page(), Page::Stored(_)), "{word:?}");
            }
        }

        /// Somebody wants a drain, or does not.
        fn wanted(&self, is_wanted: bool) {
            self.monitor.header.drain().store(u64::from(is_wanted), Relaxed);
        }

        fn is_drained(&self) -> bool {
            self.monitor.block.drained().load(Relaxed) != 0
        }

        /// The drain goes on until memory is plain.
        fn drains(&mut self) {
            let is_over = (0..TURNS_MAX).any(|_| {
                self.monitor.drain_some();
                self.is_drained()
            });
            assert!(is_over, "memory is not let go");
        }

        /// What the program finds in the first bytes of a page of plain memory.
        fn found(&self, at: u32) -> Result<u64, Errno> {
            let mut bytes = [0; 8];
            process::read_from(process::getpid(), &[(self.memory.address(at), 8)], &mut bytes)?;
            Ok(u64::from_ne_bytes(bytes))
        }

        fn is_right(&self, at: u32) -> bool {
            *self.memory.frame_bytes(at) == contents(at)
        }
    }

    /// What a kernel does that forgets that it moved pages: they are in their frames, and it says that something was there before.
    #[test]
    fn a_page_that_the_kernel_moved_and_said_it_did_not_has_left_and_comes_back() {
        const MOVED: u32 = 3;
        const WANTED: usize = 5;
        let Some(mut managed) = Managed::armed() else { return };
        let (first, frame) = (managed.page(0), managed.monitor.staging.next());
        let (from, to) = (managed.memory.address(0), managed.monitor.staging.address(frame));
        managed.monitor.staging_uffd.move_pages(to, from, MOVED as usize * PAGE_BYTES, 0).unwrap();
        assert_eq!(managed.monitor.park_by_move(first, WANTED, (1 << WANTED) - 1), WANTED as u32);
        for at in 0..WANTED as u32 {
            let page = managed.page(at);
            let word = managed.monitor.space.page(page).get();
            assert!(matches!(word.page(), Page::Parked(_)), "{word:?}");
            managed.monitor.bring_back(page);
            assert!(managed.is_right(at), "page {at}");
        }
    }

    #[test]
    fn pages_that_left_behind_the_walk_of_a_drain_that_was_called_off_are_brought_back_by_the_next() {
        for is_heard in [true, false] {
            let Some(mut managed) = Managed::armed() else { return };
            let away = (0..PAGES - 1).step_by(STEP);
            managed.leave(away.clone());
            managed.wanted(true);
            managed.monitor.drain_some();
            assert_ne!(managed.monitor.drain, Walk::default(), "the walk is at its end");
            managed.wanted(false);
            if is_heard {
                managed.monitor.drain_some();
            }
            // Before the walk all is there, and behind it something leaves.
            for at in away {
                let page = managed.page(at);
                managed.monitor.bring_back(page);
            }
            managed.leave(0..1);
            managed.wanted(true);
            managed.drains();
            assert_eq!((0..PAGES - 1).find(|&at| !managed.is_right(at)), None);
        }
    }

    #[test]
    fn a_page_that_is_missing_in_its_place_or_lost_is_an_error_and_not_zeros_when_memory_is_let_go() {
        const UNTOUCHED: u32 = PAGES - 1;
        let resident = PageWord::new(Page::Resident(SlotRef::None), 0, 0);
        let given = resident.discard().and_then(|word| word.load_begin(1));
        let given = given.and_then(|word| word.load_done(1, SlotRef::None, 0, 0)).unwrap();
        let cases = [
            (PageWord::UNTOUCHED, Ok(0)),
            (given, Ok(0)),
            (resident, Err(Errno::EFAULT)),
            (PageWord::new(Page::Lost, 0, 0), Err(Errno::EFAULT)),
        ];
        for (word, found) in cases {
            let Some(mut managed) = Managed::armed() else { return };
            let page = managed.page(UNTOUCHED);
            managed.monitor.space.page(page).put(word);
            managed.wanted(true);
            managed.drains();
            assert_eq!(managed.found(UNTOUCHED), found, "{word:?}");
            assert_eq!((0..UNTOUCHED).find(|&at| !managed.is_right(at)), None);
        }
    }
}
