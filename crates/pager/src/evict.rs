//! Room is made: runs of pages leave for staging, savers take them from there, and their frames go back to the kernel.

use crate::monitor::{Monitor, Parking};
use crate::save::save_frames;
use memvisor_core::budget::floor_pages;
use memvisor_core::full::{self, Situation};
use memvisor_core::page::HEAT_MAX;
use memvisor_core::replace::{Judged, Replacement, Verdict};
use memvisor_core::{Frame, PAGE_BYTES, Page, PageCell, PageIndex, RUN_PAGES, Saver, SlotRef};
use memvisor_sys::{Errno, clock, uffd};
use std::sync::atomic::Ordering::Relaxed;

/// Runs looked at in one go before the monitor listens again.
const RUNS_PER_TURN: usize = 64;
/// Room that is made when there is none: two runs, so that not every fault finds none.
const ROOM_PAGES: i64 = 2 * RUN_PAGES as i64;
/// How long the monitor yields to a keeper that holds the oldest frame before it takes the page back itself: a keeper that
/// runs saves a batch in a tenth of that. Time, not turns: on a busy machine a turn is a time slice of somebody else's.
const KEEPER_PATIENCE_NS: u64 = 2_000_000;

/// What became of pages that should leave, a bit each.
struct Left {
    wanted: u16,
    left: u16,
    /// Why the first that stayed did.
    refused: Errno,
}

impl Monitor {
    /// Moves pages out until there is slack again, or nothing is left that can leave.
    pub(crate) fn make_room(&mut self) {
        if self.slack() < 0 && self.may_evict() {
            self.make_slack(ROOM_PAGES);
        }
        self.note_room();
        self.free_frames();
        if self.staging.undropped() >= self.staging.frames() / 4 {
            self.drop_frames();
        }
        self.call_keeper();
    }

    /// Moves pages out until there are `wanted` pages of slack. Gives whether there are. The number of tries is bounded,
    /// and ends early when no store takes pages: they come back, and would be moved out again for ever.
    pub(crate) fn make_slack(&mut self, wanted: i64) -> bool {
        // What leaves now would be missing in a child that is being forked.
        if self.nascent.is_some() || self.is_at_floor() || !self.hold_layout() {
            return false;
        }
        let made = self.evict_until(wanted);
        self.let_layout_go();
        made
    }

    fn evict_until(&mut self, wanted: i64) -> bool {
        if !self.fresh.is_empty() && self.slack() < 0 {
            self.arm_fresh();
        }
        let short = (wanted - self.slack()).max(0) as usize;
        let tries = RUNS_PER_TURN + 4 * short.div_ceil(RUN_PAGES);
        for _ in 0..tries {
            if self.slack() >= wanted {
                return true;
            }
            if !self.deferred.is_empty() {
                // Memory may have changed: hear of it before anything else leaves.
                return false;
            }
            // What of plain memory was never touched is charged all the same: with full stores it is looked for first.
            if (self.is_stuck() || self.header.store_full().load(Relaxed) != 0) && self.arm_some() {
                continue;
            }
            if self.is_stuck() {
                break;
            }
            if self.is_at_floor() {
                return false;
            }
            if self.evict_run() == 0 {
                self.arm_some();
            }
        }
        self.note_no_room();
        false
    }

    /// Whether this member has so little in DRAM that the others must give way.
    fn is_at_floor(&self) -> bool {
        let floor = floor_pages(self.header.target_bytes().load(Relaxed), self.header.members().load(Relaxed));
        self.block.resident_pages().load(Relaxed) <= floor && self.block.unarmed_bytes().load(Relaxed) == 0
    }

    /// Whether it is of use to move pages out now: there are stores that take some, or it is time to ask them again.
    fn may_evict(&mut self) -> bool {
        let situation = Situation {
            now_ns: clock::now_ns(),
            short_pages: (-self.slack()).max(0) as u64,
            room_pages: self.stores.room_pages(),
        };
        self.refusals.may_try(self.staging.frames(), situation)
    }

    /// Whether nothing can leave, so that there is nothing to do until something changes.
    pub(crate) fn is_stuck(&self) -> bool {
        self.refusals.is_stuck(self.staging.frames())
    }

    /// Stores that were full take pages again, or so much is free that they are not asked.
    fn note_room(&self) {
        if self.header.store_full().load(Relaxed) == 0 || !self.stores.is_log_roomy() {
            return;
        }
        let (slack, target_pages) = (self.slack(), self.header.target_bytes().load(Relaxed) / PAGE_BYTES as u64);
        if (slack >= 0 && !self.refusals.any()) || full::is_calm(target_pages, slack) {
            self.header.store_full().store(0, Relaxed);
        }
    }

    /// Nothing can leave. If that is because no store takes more, the program must not get more.
    fn note_no_room(&mut self) {
        self.block.over_target().fetch_add(1, Relaxed);
        if self.space.headroom_pages() < 0 && self.is_stuck() && !std::mem::replace(&mut self.said_full, true) {
            crate::say::line(format_args!(
                "process {}: no store takes more pages, so the space is above its target; new memory is denied, \
                 what the program has stays. A larger --dram or --store-size helps",
                memvisor_sys::process::getpid()
            ));
        }
        let refusals = self.header.refusals().load(Relaxed);
        if std::mem::replace(&mut self.refusals_seen, refusals) != refusals {
            self.header.store_full().store(1, Relaxed);
        }
    }

    /// Moves the cold pages of the next run out. Gives how many left.
    fn evict_run(&mut self) -> u32 {
        let Some(run) = self.policy.next_run() else { return 0 };
        let words = self.space.run(run);
        let now = self.now();
        let (mut cold, mut kept) = (0u16, 0);
        for (at, word) in words.iter().enumerate() {
            let cell = PageCell(word);
            let seen = cell.get();
            if !seen.is_resident() {
                continue;
            }
            match self.policy.judge(seen, now) {
                Verdict::Evict => cold |= 1 << at,
                Verdict::Keep(heat) => {
                    cell.apply(|word| word.is_resident().then(|| word.with_heat(heat)));
                    kept += 1;
                }
            }
        }
        let wanted = cold.count_ones();
        let evicted = if cold == 0 { 0 } else { self.park(run.first(), cold) };
        self.policy.judged(run, Judged { evicted, kept: kept + (wanted - evicted) });
        evicted
    }

    /// Parks the pages of a run that `cold` names, in as few moves as can be. Gives how many left.
    fn park(&mut self, first: PageIndex, cold: u16) -> u32 {
        let mut evicted = 0;
        let mut at = 0;
        while at < RUN_PAGES && self.deferred.is_empty() {
            if cold & 1 << at == 0 {
                at += 1;
                continue;
            }
            let end = self.stretch(first, cold, at);
            evicted += match self.parking {
                Parking::Move => self.park_by_move(PageIndex(first.0 + at as u32), end - at, cold >> at),
                Parking::Copy => self.park_by_copy(PageIndex(first.0 + at as u32), end - at, cold >> at),
            };
            at = end;
        }
        self.evicted += u64::from(evicted);
        self.refusals.parked(u64::from(evicted));
        self.block.evictions().fetch_add(u64::from(evicted), Relaxed);
        evicted
    }

    /// One past the last cold page that can leave together with the one at `from`: between them are only holes.
    fn stretch(&self, first: PageIndex, cold: u16, from: usize) -> usize {
        let mut end = from + 1;
        for at in from + 1..RUN_PAGES {
            if cold & 1 << at != 0 {
                end = at + 1;
                continue;
            }
            match self.space.page(PageIndex(first.0 + at as u32)).get().page() {
                Page::Stored(_) => {}
                _ if self.parking == Parking::Copy => {}
                Page::Untouched => {}
                _ => break,
            }
        }
        end
    }

    pub(crate) fn park_by_move(&mut self, first: PageIndex, count: usize, cold: u16) -> u32 {
        if !self.room_for(count as u64) {
            return 0;
        }
        let frame = self.staging.next();
        self.begin_parking(first, count, cold, frame);
        let (from, to) = (self.space.address(first), self.staging.address(frame));
        let (mut done, mut refused, mut unshared) = (0, None, false);
        // A move that was partly done says EAGAIN whatever stopped it; the reason comes when the rest is tried.
        while done < count {
            let (offset, rest) = (done * PAGE_BYTES, (count - done) * PAGE_BYTES);
            match self.staging_uffd.move_pages(to + offset, from + offset, rest, uffd::MOVE_ALLOW_SRC_HOLES) {
                Ok(()) => done = count,
                Err((bytes, _)) if bytes > 0 => done += bytes / PAGE_BYTES,
                // Shared since a fork, as a rule: a write of the page's own unshares it.
                Err((_, Errno::EBUSY)) if !unshared => {
                    unshared = true;
                    self.unshare(from, cold & ((1u32 << count) - 1) as u16, done);
                }
                Err((_, errno)) => {
                    let arrived = if errno == Errno::EEXIST { self.arrived(to + offset, count - done) } else { 0 };
                    done += arrived;
                    if arrived == 0 {
                        refused = Some(errno);
                        break;
                    }
                }
            }
        }
        if done == 0 && refused == Some(Errno::EINVAL) {
            return self.park_unmovable(first, count, cold, frame);
        }
        let left = ((1u32 << done) - 1) as u16 & cold;
        self.end_parking(first, count, frame, Left { wanted: cold, left, refused: refused.unwrap_or(Errno::EAGAIN) })
    }

    /// How many of the frames from `to` on hold something, though the kernel says that they did so before: they were empty. A kernel
    /// that has to try a page again forgets that it then succeeded, and finds its own work in the way (6.18 and later, until
    /// "userfaultfd: reset err to be 0 when move_pages_ptes succeeded").
    fn arrived(&self, to: usize, count: usize) -> usize {
        (0..count).take_while(|at| self.pagemap.present(to + at * PAGE_BYTES) == Ok(true)).count()
    }

    /// The pages are not all of one mapping, or not of one that may be written: such cannot be moved, but copied; one by one
    /// where the kernel wants that.
    fn park_unmovable(&mut self, first: PageIndex, count: usize, cold: u16, frame: Frame) -> u32 {
        self.end_parking(first, count, frame, Left { wanted: cold, left: 0, refused: Errno::EAGAIN });
        let mut left = self.park_by_copy(first, count, cold);
        if left == 0 && count > 1 {
            for at in (0..count).filter(|at| cold & 1 << at != 0) {
                if self.deferred.is_empty() {
                    left += self.park_by_move(PageIndex(first.0 + at as u32), 1, 1);
                }
            }
        }
        left
    }

    /// Makes the cold pages from the `from`-th on this process's own again after a fork. Only pages that are present are
    /// written to: a hole would fault, and this thread would wait for itself.
    fn unshare(&self, address: usize, cold: u16, from: usize) {
        let mut unshared = 0;
        for at in (from..RUN_PAGES).filter(|at| cold & 1 << at != 0) {
            let address = address + at * PAGE_BYTES;
            if self.pagemap.present(address) == Ok(true)
                && memvisor_sys::memory::populate_write(address, PAGE_BYTES).is_ok()
            {
                unshared += 1;
            }
        }
        self.block.unshared().fetch_add(unshared, Relaxed);
    }

    fn begin_parking(&mut self, first: PageIndex, count: usize, cold: u16, frame: Frame) {
        for at in 0..count {
            let page = PageIndex(first.0 + at as u32);
            let entry = self.staging.entry(Frame(frame.0 + at as u32));
            let slot = (cold & 1 << at != 0)
                .then(|| self.space.page(page).apply(|word| word.park_begin()))
                .flatten()
                .map(|(before, _)| before);
            match slot.map(|word| word.page()) {
                Some(Page::Resident(slot)) => entry.set(Some(page), slot),
                _ => entry.set(None, SlotRef::None),
            }
        }
    }

    fn end_parking(
        &mut self,
        first: PageIndex,
        count: usize,
        frame: Frame,
        Left { wanted, left, refused }: Left,
    ) -> u32 {
        let now = self.now();
        let (mut parked, mut is_first_refused) = (0, true);
        for at in (0..count).filter(|at| wanted & 1 << at != 0) {
            let cell = self.space.page(PageIndex(first.0 + at as u32));
            let frame = Frame(frame.0 + at as u32);
            if left & 1 << at != 0 {
                // The slot passed to the frame's entry before the move; a relocation between is not possible, for it
                // takes resident and stored pages only.
                if cell.apply(|word| word.park_done(frame, now)).is_some() {
                    self.staging.filled(frame);
                    parked += 1;
                    self.told_hidden(PageIndex(first.0 + at as u32));
                }
            } else {
                let is_immovable = std::mem::take(&mut is_first_refused) && refused != Errno::EAGAIN;
                let heat = if is_immovable { HEAT_MAX } else { 0 };
                self.block.immovable().fetch_add(u64::from(is_immovable), Relaxed);
                cell.apply(|word| word.park_refused().map(|word| word.with_heat(word.heat().max(heat))));
                self.staging.entry(frame).set(None, SlotRef::None);
            }
        }
        if left != 0 {
            self.staging.publish(u64::from(u16::BITS - left.leading_zeros()));
        }
        self.count_resident(-i64::from(parked));
        self.count_away(i64::from(parked));
        self.count_staged(i64::from(parked));
        parked
    }

    /// Where pages cannot be moved: nobody can write while the copy is made, and what is written after the drop faults.
    pub(crate) fn park_by_copy(&mut self, first: PageIndex, count: usize, cold: u16) -> u32 {
        if !self.room_for(count as u64) {
            return 0;
        }
        let (frame, from) = (self.staging.next(), self.space.address(first));
        self.begin_parking(first, count, cold, frame);
        let mut left = 0;
        if self.uffd.write_protect(from, count * PAGE_BYTES, uffd::WRITEPROTECT_WP).is_ok() {
            left = self.copy_out(from, frame, cold & ((1u32 << count) - 1) as u16);
            let _ = self.uffd.write_protect(from, count * PAGE_BYTES, 0);
        }
        self.end_parking(first, count, frame, Left { wanted: cold, left, refused: Errno::EFAULT })
    }

    /// Copies those of `cold` pages that are present to their frames and drops them from their place. Gives those that
    /// have left.
    fn copy_out(&mut self, from: usize, frame: Frame, cold: u16) -> u16 {
        let present = self.present_of(from, cold);
        let mut copied = 0u16;
        for at in (0..RUN_PAGES).filter(|at| present & 1 << at != 0) {
            let (offset, bytes) = (at * PAGE_BYTES, self.buffer.page_mut(0));
            if self.memory.pread_exact(bytes, (from + offset) as u64).is_ok()
                && self.staging_uffd.copy(self.staging.address(frame) + offset, bytes.as_ptr(), PAGE_BYTES, 0).is_ok()
            {
                copied |= 1 << at;
            }
        }
        let mut rest = copied;
        while rest != 0 {
            let first = rest.trailing_zeros() as usize;
            let count = (rest >> first).trailing_ones() as usize;
            self.drop_program_pages(from + first * PAGE_BYTES, count * PAGE_BYTES);
            rest &= !((((1u32 << count) - 1) as u16) << first);
        }
        let stayed = self.present_of(from, copied);
        for at in (0..RUN_PAGES).filter(|at| stayed & 1 << at != 0) {
            let _ = memvisor_sys::memory::drop_pages(self.staging.address(frame) + at * PAGE_BYTES, PAGE_BYTES);
        }
        copied & !stayed
    }

    /// Which of the pages that `pages` names are present.
    fn present_of(&self, from: usize, pages: u16) -> u16 {
        let mut present = 0;
        for at in (0..RUN_PAGES).filter(|at| pages & 1 << at != 0) {
            if self.pagemap.present(from + at * PAGE_BYTES) == Ok(true) {
                present |= 1 << at;
            }
        }
        present
    }

    /// Whether `count` frames are free in one piece; frees, waits and saves until they are.
    fn room_for(&mut self, count: u64) -> bool {
        let mut since_ns = None;
        while !self.staging.has_room(count) {
            self.free_frames();
            if self.staging.undropped() > 0 {
                self.drop_frames();
                continue;
            }
            let now_ns = clock::now_ns();
            if since_ns.is_none() {
                self.block.stalls().fetch_add(1, Relaxed);
                self.ring_keeper();
            }
            if now_ns - *since_ns.get_or_insert(now_ns) < KEEPER_PATIENCE_NS && self.keeper.is_alive() {
                memvisor_sys::thread::yield_now();
            } else if !self.clear_oldest() {
                return false;
            }
        }
        true
    }

    /// Frees frames, oldest first, up to one that is still in use. A frame whose page no store would take goes back
    /// to its place.
    pub(crate) fn free_frames(&mut self) {
        while let Some((frame, seen)) = self.staging.oldest() {
            match self.staging.tenant(frame) {
                Some(page) => {
                    if !(seen && self.is_refused(page, frame)) {
                        return;
                    }
                    self.bring_back_refused(page);
                    if self.staging.tenant(frame).is_some() {
                        return;
                    }
                }
                None => self.note_stored(frame),
            }
            self.staging.free_oldest();
        }
    }

    fn is_refused(&self, page: PageIndex, frame: Frame) -> bool {
        self.space.page(page).get().page() == Page::Parked(frame)
    }

    pub(crate) fn bring_back(&mut self, page: PageIndex) {
        let at = self.space.address(page);
        self.looking.is_brought = true;
        self.serve(at, false);
        self.looking.is_brought = false;
    }

    /// Takes back a page that no store would have. It is hot now, so that others are tried before it is tried again.
    fn bring_back_refused(&mut self, page: PageIndex) {
        self.bring_back(page);
        if self.space.page(page).apply(|word| word.is_resident().then(|| word.with_heat(HEAT_MAX))).is_some() {
            self.refusals.refused();
        }
    }

    /// The frame is nobody's: was its page stored?
    fn note_stored(&mut self, frame: Frame) {
        let page = self.staging.entry(frame).page();
        if page.is_some_and(|page| matches!(self.space.page(page).get().page(), Page::Stored(_))) {
            self.refusals.stored();
        }
    }

    pub(crate) fn drop_frames(&mut self) {
        let returned = self.staging.drop_freed();
        self.count_staged(-(returned as i64));
    }

    /// Gets the oldest frame out of use without the keeper: saves its page here, or takes it back.
    pub(crate) fn clear_oldest(&mut self) -> bool {
        let Some((frame, _)) = self.staging.oldest() else { return false };
        let Some(page) = self.staging.tenant(frame) else { return true };
        match self.space.page(page).get().page() {
            Page::Saving(_, Saver::Keeper) if !self.keeper.is_alive() => {
                self.space.page(page).apply(|word| word.unclaim(frame, Saver::Keeper));
            }
            // The keeper lives but does not move on: its frame is copied back and thereby free.
            Page::Saving(..) => self.bring_back(page),
            _ => {}
        }
        if self.is_refused(page, frame) && !self.save_by_itself() && self.is_refused(page, frame) {
            self.bring_back_refused(page);
        }
        self.staging.tenant(frame).is_none()
    }

    /// Saves the oldest frames in this thread. Gives whether any was saved.
    fn save_by_itself(&mut self) -> bool {
        let Some((first, _)) = self.staging.oldest() else { return false };
        let frames = self.staging.frames();
        let count = (frames - u64::from(first.0)).min(RUN_PAGES as u64);
        let range = (0..count as u32).map(|at| Frame(first.0 + at));
        let staging = &self.staging;
        let read = |frames: &[Frame], out: &mut [u8]| staging.read(frames, out);
        let saved =
            save_frames(&self.space, self.me, range, Saver::Pager, &mut self.stores, &mut self.save_buffers, read);
        self.block.self_saves().fetch_add(u64::from(saved), Relaxed);
        saved > 0
    }

    /// Wakes the keeper when a quarter of the ring waits for it. Until then parked pages may be wanted back.
    fn call_keeper(&mut self) {
        if self.staging.unkept() >= self.staging.frames() / 4 {
            self.ring_keeper();
        }
    }

    pub(crate) fn ring_keeper(&self) {
        crate::keeper::ring(&self.space);
    }

    /// Nothing happens: what waits in staging is saved and its memory given back.
    pub(crate) fn settle_staging(&mut self) {
        if self.staging.is_idle() {
            return self.drop_frames();
        }
        if self.keeper.is_alive() {
            self.ring_keeper();
        } else {
            self.clear_oldest();
        }
        self.free_frames();
        self.drop_frames();
    }

    /// Gives DRAM up for other members that want to grow, while this one has more than its share.
    pub(crate) fn give_way(&mut self) {
        let members = self.header.members().load(Relaxed).max(1) as i64;
        if members == 1 || self.space.headroom_pages() > ROOM_PAGES {
            return;
        }
        let shared = self.space.headroom_pages() + self.header.charged_pages().load(Relaxed) as i64;
        let mine = self.block.resident_pages().load(Relaxed) as i64
            + (self.block.unarmed_bytes().load(Relaxed) / PAGE_BYTES as u64) as i64;
        let excess = mine - shared / members;
        if excess > ROOM_PAGES {
            let slack = self.slack();
            self.make_slack(slack + (excess / 4).max(ROOM_PAGES));
        }
    }
}
