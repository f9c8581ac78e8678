//! What the program does to its address space: maps, unmaps, moves and gives away; and how its memory is armed.

use crate::door::{Charged, Note};
use crate::monitor::Monitor;
use crate::regions::{Arming, Piece};
use memvisor_core::replace::{Fill, Replacement};
use memvisor_core::{PAGE_BYTES, Page, PageIndex, PageWord, RunIndex, SlotRef, WINDOW_BYTES, WINDOW_RUNS};
use memvisor_sys::{Errno, maps, uffd};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// How much plain memory is armed in one step when DRAM is short. Arming reads the page map, so it is not free:
/// 8 MiB cost about 0.1 ms.
const ARM_STEP_BYTES: usize = 8 << 20;

impl Monitor {
    /// Reads the notes of the program's threads that are older than `horizon`.
    pub(crate) fn read_notes(&mut self, horizon: u64) {
        while let Some(note) = self.door.take(horizon) {
            self.act_on(note);
        }
    }

    fn act_on(&mut self, note: Note) {
        // The thread that moves leaves the next note when it has moved; nobody leaves one before.
        self.moving = 0..0;
        match note {
            Note::Mapped { start, end, charged } => self.mapped(start, end, charged),
            Note::Unmapped { start, end } => self.unmapped(start, end),
            Note::Moving { start, end } => self.moving = start..end,
            Note::ForkPrepare => {
                // Who forks has the turn and keeps it until it is answered, so room can be made for the child.
                self.layout_holds += 1;
                let was_locked = self.dropper.set_malloc_locked(true);
                let child = self.prepare_fork();
                self.dropper.set_malloc_locked(was_locked);
                self.layout_holds -= 1;
                self.door.set_answer(child.map_or(0, |member| member.0 as u64 + 1));
            }
            Note::ForkDone => self.nascent = None,
        }
    }

    /// New plain memory. What of it does not fit into the target is armed before anybody touches it: it is empty, which
    /// makes that cheap.
    pub(crate) fn mapped(&mut self, start: usize, end: usize, charged: Charged) {
        let bytes = self.regions.add(start, end);
        let already = match charged {
            Charged::Already => end - start,
            Charged::NotYet => 0,
        };
        self.count_unarmed(bytes as i64 - already as i64);
        self.block.managed_bytes().fetch_add(bytes as u64, Relaxed);
        self.fresh = start..end;
    }

    /// Arms what of the newest plain memory does not fit into the target.
    pub(crate) fn arm_fresh(&mut self) {
        let Range { start, end } = std::mem::take(&mut self.fresh);
        let short = (-self.slack()).max(0) as usize * PAGE_BYTES;
        self.arm(end - short.min(end - start), end);
    }

    /// Takes the door's lock if no thread has it, and reads the notes: until [`Monitor::let_layout_go`], what is mapped
    /// where is known and stays as it is. A thread that rings waits for this one, so its turn is as good as ours. `false`:
    /// some thread is changing the layout, or a message was put aside; nothing may leave or be armed until it was
    /// heard. Messages that were read must have been heard.
    pub(crate) fn hold_layout(&mut self) -> bool {
        if self.layout_holds == 0 {
            if !self.deferred.is_empty() || !self.door.try_lock() {
                return false;
            }
            self.read_notes(self.door.head());
        }
        self.layout_holds += 1;
        true
    }

    /// Gives the door's lock back.
    pub(crate) fn let_layout_go(&mut self) {
        self.layout_holds -= 1;
        if self.layout_holds == 0 {
            self.door.unlock();
        }
    }

    /// The kernel has moved `from..from+len` to `to`. Notes that are older than the move are read first, and none that is
    /// younger: one of them could say that other memory, which lay at `to` before, is gone.
    pub(crate) fn moved(&mut self, from: usize, to: usize, len: usize) {
        while !(self.moving.start <= from && from + len <= self.moving.end) {
            let Some(note) = self.door.take(self.door.head()) else { break };
            self.act_on(note);
        }
        self.remapped(from, to, len);
    }

    pub(crate) fn count_unarmed(&self, bytes: i64) {
        self.space.charge_unarmed(self.me, bytes);
    }

    /// The range is no longer managed.
    pub(crate) fn unmapped(&mut self, start: usize, end: usize) {
        for piece in self.regions.remove(start, end) {
            self.block.managed_bytes().fetch_sub(piece.bytes() as u64, Relaxed);
            match piece.arming {
                Arming::Unarmed => self.count_unarmed(-(piece.bytes() as i64)),
                Arming::Armed => self.for_each_page(piece.start, piece.end, |monitor, page| {
                    monitor.discard(page);
                    monitor.space.page(page).put(PageWord::OUTSIDE);
                }),
            }
        }
    }

    /// The program gave the contents of the range away.
    pub(crate) fn removed(&mut self, start: usize, end: usize) {
        self.for_each_page(start, end, |monitor, page| {
            monitor.discard(page);
        });
    }

    pub(crate) fn for_each_page(&mut self, start: usize, end: usize, mut act: impl FnMut(&mut Self, PageIndex)) {
        let spans: Vec<_> = self.windows.spans(start, end).collect();
        for (_, first, count) in spans {
            for offset in 0..count as u32 {
                act(self, PageIndex(first.0 + offset));
            }
        }
    }

    /// The page has no contents from now on; what it owned is given back.
    pub(crate) fn discard(&mut self, page: PageIndex) {
        self.forget_in_child(page);
        let Some((before, _)) = self.space.page(page).apply(|word| word.discard()) else { return };
        self.told_gone(page);
        match before.page() {
            Page::Resident(slot) => {
                self.release(slot);
                self.count_resident(-1);
                self.block.discards().fetch_add(1, Relaxed);
            }
            Page::Stored(slot) | Page::Loading(slot) => {
                self.release(slot);
                // A page without contents may be loading too.
                self.count_away(if slot.is_some() { -1 } else { 0 });
                self.block.discards().fetch_add(1, Relaxed);
            }
            // The frame is nobody's now and is dropped in its turn.
            Page::Parked(frame) | Page::Saving(frame, _) => {
                self.release(self.staging.entry(frame).slot());
                self.count_away(-1);
                self.block.discards().fetch_add(1, Relaxed);
            }
            Page::Outside | Page::Untouched | Page::Lost | Page::Parking(_) | Page::Unparking(_) => {}
        }
    }

    /// The pages of `from..from+len` are at `to` now, with their registration.
    fn remapped(&mut self, from: usize, to: usize, len: usize) {
        let pieces = self.regions.remove(from, from + len);
        for piece in &pieces {
            self.block.managed_bytes().fetch_sub(piece.bytes() as u64, Relaxed);
            if piece.arming == Arming::Unarmed {
                self.count_unarmed(-(piece.bytes() as i64));
            }
        }
        // Whatever was at the new place is gone; the kernel has told us so, or it was plain memory.
        self.unmapped(to, to + len);
        for piece in pieces {
            let (start, end) = (piece.start - from + to, piece.end - from + to);
            self.block.managed_bytes().fetch_add(piece.bytes() as u64, Relaxed);
            match piece.arming {
                Arming::Unarmed => {
                    self.regions.add(start, end);
                    self.count_unarmed(piece.bytes() as i64);
                }
                Arming::Armed => {
                    if !self.make_windows(start, end) {
                        // Without words nobody would know where the pages are.
                        crate::say::line(format_args!(
                            "no page table is left for memory that was moved: the program ends"
                        ));
                        memvisor_sys::process::end_with_sigbus();
                    }
                    self.regions.set_armed(start, end);
                    self.move_words(piece.start, start, piece.bytes());
                }
            }
        }
    }

    fn move_words(&mut self, from: usize, to: usize, bytes: usize) {
        for offset in (0..bytes).step_by(PAGE_BYTES) {
            let (Some(old), Some(new)) = (self.page_at(from + offset), self.page_at(to + offset)) else { continue };
            let word = self.space.page(old).put(PageWord::OUTSIDE);
            let word = if word.page() == Page::Outside { PageWord::UNTOUCHED } else { word };
            self.space.page(new).put(word);
            self.told_gone(old);
            match word.page() {
                Page::Resident(_) => {
                    self.policy.filled(new.run(), Fill::FirstTouch, word.heat());
                }
                Page::Parked(frame) | Page::Saving(frame, _) => {
                    let entry = self.staging.entry(frame);
                    entry.set(Some(new), entry.slot());
                }
                Page::Loading(_) => self.loads.moved(old, new),
                Page::Outside | Page::Untouched | Page::Stored(_) | Page::Lost => {}
                Page::Parking(_) | Page::Unparking(_) => {}
            }
        }
    }

    /// Arms plain memory until some DRAM is found to be free, or there is no plain memory left.
    pub(crate) fn arm_some(&mut self) -> bool {
        let Some(piece) = self.regions.unarmed_from(self.arm_next) else { return false };
        let end = piece.end.min(piece.start + ARM_STEP_BYTES);
        self.arm(piece.start, end);
        self.arm_next = end;
        true
    }

    /// Arms the plain memory in `start..end`: from now on its missing pages fault, and each page has a word.
    pub(crate) fn arm(&mut self, start: usize, end: usize) {
        let unarmed: Vec<Piece> = self
            .regions
            .remove(start, end)
            .into_iter()
            .filter(|piece| match piece.arming {
                Arming::Unarmed => true,
                Arming::Armed => {
                    self.regions.set_armed(piece.start, piece.end);
                    false
                }
            })
            .collect();
        for piece in unarmed {
            self.count_unarmed(-(piece.bytes() as i64));
            self.block.managed_bytes().fetch_sub(piece.bytes() as u64, Relaxed);
            for (from, to) in self.anonymous_in(piece.start, piece.end) {
                self.arm_mapping(from, to);
            }
        }
    }

    /// The parts of `start..end` that are private anonymous memory now, as the kernel says.
    pub(crate) fn anonymous_in(&mut self, start: usize, end: usize) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        let mut buffer = std::mem::take(&mut self.maps_buffer);
        let _ = maps::for_each_mapping(None, &mut buffer, |mapping| {
            let (from, to) = (mapping.start.max(start), mapping.end.min(end));
            let named = mapping.path.first().is_some_and(|first| *first == b'/' || mapping.path.starts_with(b"[stack"));
            if from < to && !mapping.shared && mapping.inode == 0 && !named {
                match found.last_mut() {
                    Some(last) if last.1 == from => last.1 = to,
                    _ => found.push((from, to)),
                }
            }
        });
        self.maps_buffer = buffer;
        found
    }

    fn arm_mapping(&mut self, start: usize, end: usize) {
        let modes = uffd::REGISTER_MISSING | uffd::REGISTER_WP;
        if !self.make_windows(start, end) {
            return;
        }
        if self.uffd.register(start, end - start, modes).is_err() {
            // Somebody else's userfaultfd, or special memory: it stays plain and is overhead.
            return;
        }
        self.block.managed_bytes().fetch_add((end - start) as u64, Relaxed);
        self.regions.set_armed(start, end);
        self.note_words(start, end);
    }

    /// Gives every page of freshly registered memory its word: resident where it is present.
    pub(crate) fn note_words(&mut self, start: usize, end: usize) {
        self.for_each_page(start, end, |monitor, page| {
            monitor.space.page(page).put(PageWord::UNTOUCHED);
        });
        let mut present: Vec<(usize, usize)> = Vec::new();
        let scanned = self.pagemap.present_runs(start, end, |from, to, _zero| present.push((from, to)));
        if scanned.is_err() {
            return;
        }
        let now = self.now();
        for (from, to) in present {
            self.for_each_page(from, to, |monitor, page| {
                let heat = monitor.policy.filled(page.run(), Fill::FirstTouch, 0);
                monitor.space.page(page).put(PageWord::new(Page::Resident(SlotRef::None), heat, now));
                monitor.told_met(page);
            });
            self.count_resident(((to - from) / PAGE_BYTES) as i64);
        }
    }

    pub(crate) fn make_windows(&mut self, start: usize, end: usize) -> bool {
        let mut at = start / WINDOW_BYTES * WINDOW_BYTES;
        while at < end {
            if self.windows.find(at).is_none() {
                let Some(window) = self.space.take_window(self.me, at) else { return false };
                self.windows.insert(at, window);
                self.policy.reserve(runs_of(window));
            }
            at += WINDOW_BYTES;
        }
        true
    }

    /// A fault in memory that has no words: the kernel grew a registered mapping, or two were joined. Such a page was
    /// never given contents by anybody, so it starts as zeros; the memory around it is armed as far as it is known to be
    /// plain, for a thread that is waiting for more of it.
    pub(crate) fn adopt(&mut self, at: usize) {
        if self.hold_layout() {
            let piece = self.regions.at(at).filter(|piece| piece.arming == Arming::Unarmed).unwrap_or_else(|| {
                self.unmapped(at, at + PAGE_BYTES);
                self.mapped(at, at + PAGE_BYTES, Charged::NotYet);
                Piece { start: at, end: at + PAGE_BYTES, arming: Arming::Unarmed }
            });
            self.arm(piece.start.max(at.saturating_sub(ARM_STEP_BYTES)), piece.end.min(at + ARM_STEP_BYTES));
            self.let_layout_go();
        }
        self.wake(at);
    }

    /// Registers fresh pages for the program's threads to ring at.
    pub(crate) fn hang_bells(&mut self) -> Result<(), Errno> {
        let bytes = crate::door::BELLS * PAGE_BYTES;
        self.bells = memvisor_sys::memory::map_anonymous(bytes)?;
        self.uffd.register(self.bells, bytes, uffd::REGISTER_MISSING)?;
        self.door.listen(self.bells);
        Ok(())
    }

    pub(crate) fn is_bell(&self, address: usize) -> bool {
        (self.bells..self.bells + crate::door::BELLS * PAGE_BYTES).contains(&address)
    }

    /// Answers a ring: every note is read by now. When half of the bells are used up, the other half is made new.
    pub(crate) fn answer(&mut self, address: usize) {
        self.block.requests().fetch_add(1, Relaxed);
        self.follow.forget();
        // Who rings has the turn, and keeps it until it is answered. Room is made before: a thread that maps plain memory
        // all the time would have the turn whenever this one looked, and outrun it.
        self.layout_holds += 1;
        // It may be a thread that forks or grows the heap, with malloc's locks held.
        self.dropper.set_malloc_locked(true);
        self.read_notes(self.door.head());
        if self.slack() < 0 {
            self.arm_fresh();
        }
        self.make_room();
        self.dropper.set_malloc_locked(false);
        self.layout_holds -= 1;
        let at = (address & !(PAGE_BYTES - 1)) - self.bells;
        let half = crate::door::BELLS / 2 * PAGE_BYTES;
        if at.is_multiple_of(half) {
            let other = self.bells + (half - at);
            let renewed = self.uffd.unregister(other, half).is_ok()
                && memvisor_sys::memory::drop_pages(other, half).is_ok()
                && self.uffd.register(other, half, uffd::REGISTER_MISSING).is_ok();
            debug_assert!(renewed, "the door's own memory is registered and private");
        }
        // Memory may be changing (EAGAIN): the thread is woken, rings at the same page again and is answered then.
        if self.uffd.zeropage(self.bells + at, PAGE_BYTES, 0).is_err() {
            self.wake(self.bells + at);
        }
    }
}

/// The runs of a window.
pub(crate) fn runs_of(window: u32) -> Range<RunIndex> {
    let first = window * WINDOW_RUNS as u32;
    RunIndex(first)..RunIndex(first + WINDOW_RUNS as u32)
}
