//! Rebuilding: which objects are allocated and how many owners they have, derived from the page words.

use super::slab::Slab;
use super::{OWNERS, RamStore, SlotRef};
use std::sync::atomic::Ordering;

impl RamStore {
    /// Makes the slots in `owners` – one for each owner, of every page word and every frame – the only ones that are
    /// stored; how many of them named no object. What a killed process had allocated and told nobody is free again.
    ///
    /// No other process may use the store meanwhile.
    pub fn rebuild(&self, owners: impl IntoIterator<Item = SlotRef>) -> usize {
        for slab in 0..self.arena.top() {
            self.forget(slab);
        }
        let mut bad = 0;
        for slot in owners {
            bad += !self.own(slot) as usize;
        }
        self.arena.recount();
        bad
    }

    /// Makes every object of the slab free.
    fn forget(&self, slab: usize) {
        let word = self.arena.word(slab);
        self.arena.bitmap(slab).iter().for_each(|bits| bits.store(0, Ordering::Release));
        match word.slab() {
            Some(Slab::InUse { class, .. }) => {
                self.arena.for_touched_headers(slab, class, word.touched(), |header| {
                    header.fetch_and(!OWNERS, Ordering::AcqRel);
                });
                let next = word.become_slab(Slab::InUse { class, live: 0, closed: false });
                self.arena.swap(slab, word, next);
            }
            Some(Slab::Free) => {}
            // Nothing can be stored in a slab that was being claimed or punched, nor in one whose word is no word.
            Some(Slab::Claiming(_) | Slab::Punching(_)) | None => {
                if self.punch(slab) {
                    self.arena.swap(slab, word, word.punched());
                }
            }
        }
    }

    /// Adds an owner to an object, the first or one more; false when the slot names none.
    fn own(&self, slot: SlotRef) -> bool {
        let unit = match slot {
            SlotRef::Ram(unit) => unit,
            SlotRef::None | SlotRef::Filled(_) | SlotRef::Log(_) => return true,
        };
        let Some((object, word)) = self.arena.locate_any(unit) else { return false };
        let header = self.arena.header(object);
        let now = header.load(Ordering::Acquire);
        if now & OWNERS == OWNERS {
            return false;
        }
        header.store(now + 1, Ordering::Release);
        if now & OWNERS == 0 {
            let (bits, bit) = self.arena.bit(object);
            bits.fetch_or(bit, Ordering::AcqRel);
            let Some(Slab::InUse { class, live, closed }) = word.slab() else { return false };
            self.arena.swap(object.slab, word, word.become_slab(Slab::InUse { class, live: live + 1, closed }));
        }
        true
    }
}
