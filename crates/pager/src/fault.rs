//! A fault is served: the page comes back from wherever its word says it is.

use crate::monitor::{Monitor, Parking};
use memvisor_core::curve::Use;
use memvisor_core::replace::{Fill, Replacement};
use memvisor_core::{Frame, PAGE_BYTES, Page, PageCell, PageIndex, PageWord, SlotRef};
use memvisor_store::LoadError;
use memvisor_sys::Errno;
use std::sync::atomic::Ordering::Relaxed;

/// What became of putting a page in its place.
pub(crate) enum Placed {
    /// It is there.
    Done,
    /// Something was there already.
    Occupied,
    /// Memory is changing there; the message that says so comes first.
    Later,
    /// There is no such place any more.
    Gone,
}

impl Monitor {
    /// Serves the fault at `address`.
    pub(crate) fn serve(&mut self, address: usize, write_protect: bool) {
        let at = address & !(PAGE_BYTES - 1);
        let Some(page) = self.page_at(at) else { return self.adopt(at) };
        let cell = self.space.page(page);
        let word = cell.get();
        match word.page() {
            Page::Outside => self.adopt(at),
            Page::Untouched => self.first_touch(page, at),
            Page::Stored(SlotRef::Log(_)) => self.begin_log_load(page, at, word),
            Page::Stored(slot) => self.load(page, at, cell, word, slot),
            Page::Parked(frame) => self.unpark(page, at, cell, frame),
            Page::Saving(frame, _) => self.copy_back(page, at, cell, frame),
            Page::Resident(_) if write_protect => self.unprotect(at),
            Page::Resident(_) => self.refill_if_given(page, at),
            // Only this thread parks, loads and unparks; a load from the log wakes its threads when it ends.
            Page::Parking(_) | Page::Loading(_) | Page::Unparking(_) => {}
            Page::Lost => {
                self.poison(at);
            }
        }
    }

    /// Puts `bytes` (a whole number of pages) of the monitor's own memory at `at`.
    pub(crate) fn put(&self, at: usize, from: *const u8, bytes: usize) -> Placed {
        placed(self.uffd.copy(at, from, bytes, 0).map_err(|(_, errno)| errno))
    }

    pub(crate) fn wake(&self, at: usize) {
        // A page that vanished meanwhile has nobody to wake.
        let _ = self.uffd.wake(at, PAGE_BYTES);
    }

    fn first_touch(&mut self, page: PageIndex, at: usize) {
        let ahead = self.ahead_of(page);
        if ahead > 1 && self.fill_ahead(page, at, ahead) {
            return;
        }
        let ticket = self.next_ticket();
        let cell = self.space.page(page);
        if cell.apply(|word| word.load_begin(ticket)).is_none() {
            return;
        }
        match self.put(at, self.zeros.as_ptr(), PAGE_BYTES) {
            Placed::Done => self.block.first_touches().fetch_add(1, Relaxed),
            // What is there still is what the program is giving away at this moment: it goes without a word, so it must
            // not be taken for contents.
            Placed::Occupied | Placed::Later | Placed::Gone => {
                cell.apply(|word| word.load_undone(ticket, 0));
                return self.wake(at);
            }
        };
        self.placed(page, ticket, SlotRef::None, Fill::FirstTouch, 0);
    }

    fn load(&mut self, page: PageIndex, at: usize, cell: PageCell<'_>, word: PageWord, slot: SlotRef) {
        let ahead = self.ahead_of(page);
        if ahead > 1 && self.fill_ahead(page, at, ahead) {
            return;
        }
        let ticket = self.next_ticket();
        let Some(next) = word.load_begin(ticket) else { return };
        if !cell.swap(word, next) {
            return self.wake(at);
        }
        let buffer = self.buffer.page_mut(0);
        if let Err(error) = self.stores.load(slot, buffer) {
            return self.load_failed(page, at, ticket, word.stamp(), error);
        }
        self.place_loaded(page, at, ticket, word.stamp(), slot, self.buffer.as_ptr());
    }

    /// The true bytes of a page that was `Loading` lie at `bytes`.
    pub(crate) fn place_loaded(
        &mut self,
        page: PageIndex,
        at: usize,
        ticket: u16,
        evicted: u16,
        slot: SlotRef,
        bytes: *const u8,
    ) {
        match self.put(at, bytes, PAGE_BYTES) {
            Placed::Done => {}
            Placed::Occupied => {
                // Only the kernel's own bytes can lie there, and they are not those of the page.
                crate::say::line(format_args!("page {at:#x} is stored and present at once: the program ends"));
                memvisor_sys::process::end_with_sigbus();
            }
            Placed::Later | Placed::Gone => {
                self.space.page(page).apply(|word| word.load_undone(ticket, evicted));
                return self.wake(at);
            }
        }
        self.count_load(slot, 1);
        let retained = self.keep_or_release(slot);
        let age = self.now().wrapping_sub(evicted);
        self.placed(page, ticket, retained, Fill::Reload { age }, self.space.page(page).get().heat());
    }

    pub(crate) fn count_load(&self, slot: SlotRef, pages: u64) {
        let counter = match slot {
            SlotRef::Ram(_) => self.block.ram_loads(),
            SlotRef::Log(_) => self.block.log_loads(),
            SlotRef::Filled(_) => self.block.filled_loads(),
            SlotRef::None => self.block.first_touches(),
        };
        counter.fetch_add(pages, Relaxed);
    }

    /// A loaded page keeps its stored copy while the store has room to spare: if it leaves unchanged it is not saved
    /// again. A copy in RAM is dear, so it goes as soon as RAM is short.
    pub(crate) fn keep_or_release(&self, slot: SlotRef) -> SlotRef {
        if self.stores.has_room_to_retain(slot) {
            return slot;
        }
        self.release(slot);
        SlotRef::None
    }

    /// Ends a load: the page is resident.
    pub(crate) fn placed(&mut self, page: PageIndex, ticket: u16, retained: SlotRef, fill: Fill, heat: u8) {
        let now = self.now();
        let heat = self.policy.filled(page.run(), fill, heat);
        // Discarded meanwhile: whoever discarded it gave its slot back.
        if self.space.page(page).apply(|word| word.load_done(ticket, retained, heat, now)).is_some() {
            self.count_resident(1);
            let is_reload = matches!(fill, Fill::Reload { .. });
            if is_reload {
                self.count_away(-1);
            }
            self.told_used(page, if is_reload { Use::Back } else { Use::First });
        }
    }

    /// The page cannot be brought back, or not now.
    pub(crate) fn load_failed(&mut self, page: PageIndex, at: usize, ticket: u16, evicted: u16, error: LoadError) {
        self.header.store_errors().fetch_add(1, Relaxed);
        match error {
            LoadError::Busy => {
                self.block.retries().fetch_add(1, Relaxed);
                self.space.page(page).apply(|word| word.load_undone(ticket, evicted));
                self.wake(at);
            }
            LoadError::Lost { slot, store, why } => {
                if self.space.page(page).apply(|word| word.lose(ticket)).is_none() {
                    return self.wake(at);
                }
                self.count_away(-1);
                self.told_gone(page);
                self.block.lost().fetch_add(1, Relaxed);
                crate::say::lost_page(&self.space, self.me, at, store, slot, &why);
                self.release(slot);
                self.poison(at);
            }
        }
    }

    /// Every touch of the page is a SIGBUS from now on. Where the kernel cannot do that, the process ends. Gives `false` when it
    /// could not be done yet, as memory is changing: who touches the page asks again.
    pub(crate) fn poison(&mut self, at: usize) -> bool {
        let is_done = match self.uffd.poison(at, PAGE_BYTES) {
            Ok(()) | Err((_, Errno::EEXIST | Errno::ENOENT)) => true,
            Err((_, Errno::EAGAIN)) => false,
            Err(_) => memvisor_sys::process::end_with_sigbus(),
        };
        self.wake(at);
        is_done
    }

    fn unpark(&mut self, page: PageIndex, at: usize, cell: PageCell<'_>, frame: Frame) {
        if self.parking == Parking::Copy {
            return self.copy_back(page, at, cell, frame);
        }
        if cell.apply(|word| word.unpark_begin()).is_none() {
            // A saver took it between: look again.
            return self.serve(at, false);
        }
        match self.uffd.move_pages(at, self.staging.address(frame), PAGE_BYTES, 0) {
            Ok(()) => {
                self.staging.emptied(frame);
                self.count_staged(-1);
            }
            Err((_, Errno::EEXIST)) => self.wake(at),
            Err((_, Errno::EAGAIN)) => {
                cell.apply(|word| word.unpark_undone());
                return self.wake(at);
            }
            // Shared with a forked child, pinned, or the place is executable or read-only, where nothing can be moved to: it
            // can be copied all the same. Only a frame that cannot be read is one that the program gave away unseen.
            Err(_) => {
                cell.apply(|word| word.unpark_undone());
                return self.copy_back(page, at, cell, frame);
            }
        }
        let (now, slot) = (self.now(), self.staging.entry(frame).slot());
        self.policy.filled(page.run(), Fill::Unparked, cell.get().heat());
        cell.apply(|word| word.unpark_done(slot, now));
        self.block.parked_hits().fetch_add(1, Relaxed);
        self.count_resident(1);
        self.count_away(-1);
        self.told_used(page, Use::Back);
    }

    /// Serves a page whose frame a saver may be reading: by a copy, so that the saver reads on undisturbed. The copy goes
    /// in first and the word follows, so whatever the saver does between is seen.
    pub(crate) fn copy_back(&mut self, page: PageIndex, at: usize, cell: PageCell<'_>, frame: Frame) {
        if self.staging.read(&[frame], self.buffer.page_mut(0)) == 0 {
            return self.frame_is_empty(page, at);
        }
        match self.put(at, self.buffer.as_ptr(), PAGE_BYTES) {
            Placed::Done => {}
            Placed::Occupied | Placed::Later | Placed::Gone => return self.wake(at),
        }
        let slot = self.staging.entry(frame).slot();
        let now = self.now();
        self.policy.filled(page.run(), Fill::Unparked, cell.get().heat());
        cell.apply(|word| word.copied_back(slot, now));
        self.block.parked_hits().fetch_add(1, Relaxed);
        self.count_resident(1);
        self.count_away(-1);
        self.told_used(page, Use::Back);
    }

    fn unprotect(&mut self, at: usize) {
        // Fails only when the page is gone; the thread then faults again.
        let _ = self.uffd.write_protect(at, PAGE_BYTES, 0);
        self.wake(at);
    }

    /// The frame of a parked page is empty: the kernel took the page after the program had given it away. The message that
    /// says so may be among those that were put aside.
    fn frame_is_empty(&mut self, page: PageIndex, at: usize) {
        if self.space.page(page).get().may_be_missing() {
            self.block.holes().fetch_add(1, Relaxed);
            self.discard(page);
        } else if self.deferred.is_empty() {
            self.lose_missing(page, at);
        }
        self.wake(at);
    }

    /// A fault on a page that should be in its place: it was served a moment ago, or the kernel took it after the program
    /// had given it away.
    fn refill_if_given(&mut self, page: PageIndex, at: usize) {
        if !self.space.page(page).get().may_be_missing() {
            self.is_there(page, at);
            return;
        }
        match self.put(at, self.zeros.as_ptr(), PAGE_BYTES) {
            Placed::Done => {
                self.block.holes().fetch_add(1, Relaxed);
            }
            Placed::Occupied | Placed::Later | Placed::Gone => self.wake(at),
        }
    }

    /// Whether a page is there that the program did not give away, or there is no such place any more. One that is missing is lost
    /// from now on. Also `false` while memory is changing.
    pub(crate) fn is_there(&mut self, page: PageIndex, at: usize) -> bool {
        match self.uffd.poison(at, PAGE_BYTES) {
            Ok(()) => self.lose_missing(page, at),
            Err((_, errno @ (Errno::EEXIST | Errno::EAGAIN | Errno::ENOENT))) => {
                self.wake(at);
                return errno != Errno::EAGAIN;
            }
            // Kernels that cannot poison do not say either whether the page is there.
            Err(_) => self.lose_if_absent(page, at),
        }
        false
    }

    /// Nothing is being moved while the layout is held, so a page that is absent then is missing.
    fn lose_if_absent(&mut self, page: PageIndex, at: usize) {
        if self.hold_layout() {
            if self.pagemap.present(at) == Ok(false) {
                self.lose_missing(page, at);
            }
            self.let_layout_go();
        }
        self.wake(at);
    }

    /// A page is not where its word says, and the program did not give it away: it must not be made up.
    fn lose_missing(&mut self, page: PageIndex, at: usize) {
        let Some((before, _)) = self.space.page(page).apply(|word| word.lose_missing()) else { return };
        self.told_gone(page);
        match before.page() {
            Page::Resident(slot) => {
                self.count_resident(-1);
                self.release(slot);
            }
            Page::Parked(frame) => {
                self.count_away(-1);
                self.release(self.staging.entry(frame).slot());
            }
            _ => {}
        }
        self.block.lost().fetch_add(1, Relaxed);
        crate::say::missing_page(&self.space, self.me, at, before);
        self.poison(at);
    }
}

pub(crate) fn placed(result: Result<(), Errno>) -> Placed {
    match result {
        Ok(()) => Placed::Done,
        Err(Errno::EEXIST) => Placed::Occupied,
        Err(Errno::EAGAIN | Errno::EBUSY) => Placed::Later,
        Err(_) => Placed::Gone,
    }
}
