//! Everything back to plain DRAM, and let go: what the operator asks for to be rid of memvisor while the program runs.
//!
//! While the header says `drain` the space has all the room there is ([`crate::Space::headroom_pages`]), so nothing leaves
//! any more. The monitor brings back what is away, some pages a turn between the faults, and when nothing is away it
//! ends the registration of all memory: the kernel alone serves it from then on.
//!
//! `drain` may be taken back at any instant, and asked for again before a monitor has seen that it was. Who has not let go goes on
//! as before, its pages leaving again; who has let go has plain memory that is not armed yet, as at the start. Nothing is lost by
//! that: a walk that finds nothing away is made in one go, the end follows it in the same turn, and this thread alone lets pages leave.
//! A walk that found something, however long ago, is followed by another.

use crate::layout::runs_of;
use crate::monitor::Monitor;
use crate::regions::Arming;
use memvisor_core::{Page, PageCell, PageIndex, WINDOW_PAGES};
use std::sync::atomic::Ordering::Relaxed;

/// Pages brought back before the monitor listens again: half a millisecond.
const PAGES_PER_TURN: usize = 256;

/// How far the walk over the windows has come.
#[derive(Default)]
pub(crate) struct Drain {
    /// The window that is looked at next, by its place in the order of addresses, and the page in it.
    window: usize,
    page: usize,
    /// Something was away in the walk so far, or could not be brought back yet.
    found: bool,
}

impl Monitor {
    /// Whether pages are still to be brought back: the monitor does not sleep then.
    pub(crate) fn is_draining(&self) -> bool {
        self.space.is_draining() && self.block.drained().load(Relaxed) == 0
    }

    /// Goes on with a drain, if one is asked for; or with the usual life, if it was taken back.
    pub(crate) fn drain_some(&mut self) {
        if !self.space.is_draining() {
            self.block.drained().store(0, Relaxed);
            self.drain = Drain::default();
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
        let windows: Vec<u32> = self.windows.iter().map(|(_, window)| window).collect();
        let mut left = PAGES_PER_TURN;
        while left > 0 && self.drain.window < windows.len() {
            left -= self.bring_back_in(windows[self.drain.window], left);
            if self.drain.page == WINDOW_PAGES {
                (self.drain.window, self.drain.page) = (self.drain.window + 1, 0);
            }
        }
        if self.drain.window >= windows.len() {
            let found = std::mem::take(&mut self.drain).found;
            if !found && self.staging.is_idle() && self.loads.outstanding() == 0 {
                self.let_go();
            }
        }
    }

    /// Brings back at most `most` pages of a window, from where the walk is. Gives how many it tried.
    fn bring_back_in(&mut self, window: u32, most: usize) -> usize {
        let first = runs_of(window).start.first();
        let mut tried = 0;
        while self.drain.page < WINDOW_PAGES && tried < most {
            let page = PageIndex(first.0 + self.drain.page as u32);
            self.drain.page += 1;
            match PageCell(&self.space.table(window)[page.offset()]).get().page() {
                Page::Outside | Page::Untouched | Page::Resident(_) => {}
                // Nobody may have touched it yet. Unregistered it would read as zeros, so it is poisoned first.
                Page::Lost => self.bring_back(page),
                Page::Stored(_)
                | Page::Parked(_)
                | Page::Saving(..)
                | Page::Parking(_)
                | Page::Loading(_)
                | Page::Unparking(_) => {
                    self.drain.found = true;
                    self.bring_back(page);
                    tried += 1;
                }
            }
        }
        tried
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
        for (start, end) in armed {
            if self.uffd.unregister(start, end - start).is_err() {
                // Part of it is no memory any more; the message that says so comes.
                continue;
            }
            self.unmapped(start, end);
            self.mapped(start, end, crate::door::Charged::NotYet);
        }
        self.looking.forget_places();
        self.block.drained().store(u64::from(self.has_let_go()), Relaxed);
        self.let_layout_go();
    }

    fn has_let_go(&self) -> bool {
        self.regions.iter().all(|piece| piece.arming == Arming::Unarmed)
    }
}
