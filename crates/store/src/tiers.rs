//! The stores of a space as one: first the RAM, then the log; what has lain longest sinks from one to the other.

use crate::log::{Holder, LogStore, LogWriter, Transfer};
use crate::ram::{RamStore, Scratch};
use crate::{LoadError, PageBytes, RetainError, SaveOutcome, SlotRef, Why, fill, hash48};
use memvisor_core::{Page, PageCell, PageWord};
use std::sync::atomic::AtomicU64;

/// A view of the stores of a space.
#[derive(Clone, Copy)]
pub struct Tiers {
    /// The compressed pages.
    pub ram: RamStore,
    /// The log, if the space has one.
    pub log: Option<LogStore>,
}

/// Which pages sink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SinkPlan {
    /// The eviction clock now.
    pub now: u16,
    /// The age, in steps of that clock, from which a page is old enough.
    pub age_min: u16,
    /// Page words to change at most.
    pub words_max: usize,
}

/// What sank.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sunk {
    /// Page words looked at: how far the hand has moved.
    pub scanned: usize,
    /// Page words that name a page of the log now.
    pub words: usize,
    /// Pages that were written.
    pub pages: usize,
    /// Pages that could not be read; they stay where they are.
    pub unreadable: usize,
    /// The log takes no more.
    pub is_stuck: bool,
}

impl Tiers {
    /// Stores a page: compressed in RAM if it goes in there, else in the log, if there is a writer. `retained` is the slot
    /// that held its bytes when it was last filled; `owner` is what the log is to call it. One page in one write is
    /// slow: who has many that RAM refuses appends them to the log together.
    pub fn save(
        &self,
        scratch: &mut Scratch,
        writer: Option<&mut LogWriter>,
        owner: u64,
        page: &PageBytes,
        retained: Option<SlotRef>,
    ) -> SaveOutcome {
        let outcome = self.save_ram(scratch, page, retained);
        match (outcome, writer) {
            (SaveOutcome::Full | SaveOutcome::Incompressible, Some(writer)) => writer.save(owner, page, None),
            (outcome, _) => outcome,
        }
    }

    /// Stores a page in RAM or not at all; knows a page that is unchanged in the log too.
    pub fn save_ram(&self, scratch: &mut Scratch, page: &PageBytes, retained: Option<SlotRef>) -> SaveOutcome {
        if let (Some(slot @ SlotRef::Log(_)), Some(log)) = (retained, &self.log)
            && log.stored_hash(slot).is_some_and(|hash| hash == hash48(self.ram.hash_seed(), page))
        {
            return SaveOutcome::Unchanged;
        }
        self.ram.save(scratch, page, retained)
    }

    /// Brings the page of `slot` back, and waits for it if it is in the log.
    ///
    /// # Errors
    /// See [`LoadError`]; `out` is then any bytes.
    pub fn load(&self, slot: SlotRef, out: &mut PageBytes) -> Result<(), LoadError> {
        match (slot, &self.log) {
            (SlotRef::Filled(pattern), _) => {
                fill(pattern, out);
                Ok(())
            }
            (SlotRef::None | SlotRef::Ram(_), _) => self.ram.load(slot, out),
            (SlotRef::Log(_), Some(log)) => log.load(slot, out),
            (SlotRef::Log(_), None) => Err(LoadError::Lost { slot, store: LogStore::NAME, why: Why::BadSlot }),
        }
    }

    /// Adds an owner to a slot that has one.
    ///
    /// # Errors
    /// See [`RetainError`].
    pub fn retain(&self, slot: SlotRef) -> Result<(), RetainError> {
        match (slot, &self.log) {
            (SlotRef::None | SlotRef::Filled(_), _) => Ok(()),
            (SlotRef::Ram(_), _) => self.ram.retain(slot),
            (SlotRef::Log(_), Some(log)) => log.retain(slot),
            (SlotRef::Log(_), None) => Err(RetainError::BadSlot),
        }
    }

    /// Takes an owner from a slot; the last one frees it.
    pub fn release(&self, slot: SlotRef) {
        match (slot, &self.log) {
            (SlotRef::Ram(_), _) => self.ram.release(slot),
            (SlotRef::Log(_), Some(log)) => log.release(slot),
            (SlotRef::Log(_), None) | (SlotRef::None | SlotRef::Filled(_), _) => {}
        }
    }

    /// The hash of the page in `slot`; `None` for a pattern, which is its own, and for a slot that is free.
    pub fn stored_hash(&self, slot: SlotRef) -> Option<u64> {
        match (slot, &self.log) {
            (SlotRef::Ram(_), _) => self.ram.stored_hash(slot),
            (SlotRef::Log(_), Some(log)) => log.stored_hash(slot),
            (SlotRef::Log(_), None) | (SlotRef::None | SlotRef::Filled(_), _) => None,
        }
    }

    /// Moves stored pages from RAM to the log. `cells` are page words, each with what the log is to call its page, from where the hand
    /// of the clock stands; the hand moves on by [`Sunk::scanned`].
    pub fn sink<'c>(
        &self,
        writer: &mut LogWriter,
        cells: impl IntoIterator<Item = (u64, &'c AtomicU64)>,
        plan: SinkPlan,
    ) -> Sunk {
        let mut sunk = Sunk::default();
        let mut transfer = Transfer::new(self.ram, writer);
        for (owner, cell) in cells {
            if transfer.moved.words >= plan.words_max || transfer.moved.is_stuck {
                break;
            }
            sunk.scanned += 1;
            let word = PageCell(cell).get();
            if let Page::Stored(slot @ SlotRef::Ram(_)) = word.page()
                && plan.now.wrapping_sub(word.stamp()) >= plan.age_min
            {
                transfer.offer(owner, cell, slot);
            }
        }
        let moved = transfer.finish();
        Sunk { words: moved.words, pages: moved.pages, unreadable: moved.unreadable, is_stuck: moved.is_stuck, ..sunk }
    }

    /// Makes resident pages forget their stored copies that `is_meant` names, as long as `words_max` allows; how many
    /// did. That frees room without a write, but each such page is saved anew when it is next evicted, even if nobody
    /// changed it.
    pub fn drop_copies<'c>(
        &self,
        cells: impl IntoIterator<Item = &'c AtomicU64>,
        is_meant: impl Fn(SlotRef) -> bool,
        words_max: usize,
    ) -> usize {
        let forget = |cell| {
            let is_copy = |word: PageWord| matches!(word.page(), Page::Resident(slot) if is_meant(slot));
            let (before, _) = PageCell(cell).apply(|word| word.forget_slot().filter(|_| is_copy(word)))?;
            if let Page::Resident(slot) = before.page() {
                self.release(slot);
            }
            Some(())
        };
        cells.into_iter().filter_map(forget).take(words_max).count()
    }

    /// Takes back from dead processes what they held in the stores at the moment of their death; how much it was.
    /// `is_alive` knows a process by its id.
    pub fn recover(&self, is_alive: impl Fn(u32) -> bool) -> usize {
        self.ram.recover(&is_alive) + self.log.map_or(0, |log| log.recover(&is_alive))
    }

    /// Makes the slots in `owners` – one for each owner, of every page word and every frame – the only ones that are
    /// stored; how many of them named nothing. No other process may use the stores meanwhile.
    pub fn rebuild<I: IntoIterator<Item = SlotRef> + Clone>(&self, owners: I) -> usize {
        self.ram.rebuild(owners.clone()) + self.log.map_or(0, |log| log.rebuild(owners))
    }
}

impl Holder for RamStore {
    fn retain(&self, slot: SlotRef) -> Result<(), RetainError> {
        RamStore::retain(self, slot)
    }
    fn release(&self, slot: SlotRef) {
        RamStore::release(self, slot);
    }
    fn owners(&self, slot: SlotRef) -> u16 {
        RamStore::owners(self, slot)
    }
    fn load(&self, slot: SlotRef, out: &mut PageBytes) -> Result<(), LoadError> {
        RamStore::load(self, slot, out)
    }
}
