//! Moving stored pages into a log: how cleaning and sinking change the slots of page words.
//!
//! As in compaction of the RAM store, the sweep is an owner of the old slot from before it reads the page until the
//! word is swapped, so that the old slot cannot become another page's between.

use super::{BATCH_PAGES, LogStore, LogWriter};
use crate::moves::Moves;
use crate::{LoadError, PageBytes, RetainError, SlotRef};
use memvisor_core::PageCell;
use std::sync::atomic::AtomicU64;

/// A store from which pages are moved.
pub(crate) trait Holder {
    fn retain(&self, slot: SlotRef) -> Result<(), RetainError>;
    fn release(&self, slot: SlotRef);
    fn owners(&self, slot: SlotRef) -> u16;
    fn load(&self, slot: SlotRef, out: &mut PageBytes) -> Result<(), LoadError>;
}

/// What a transfer has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Moved {
    /// Page words that name a new slot.
    pub words: usize,
    /// Pages that were written.
    pub pages: usize,
    /// Pages that could not be read; they stay where they are.
    pub unreadable: usize,
    /// The log takes no more.
    pub is_stuck: bool,
}

/// A sweep that moves pages of `from` to the log of `writer`.
pub(crate) struct Transfer<'c, 'w, H: Holder> {
    from: H,
    log: LogStore,
    writer: &'w mut LogWriter,
    batch: [(Option<&'c AtomicU64>, SlotRef); BATCH_PAGES],
    staged: usize,
    shared: Moves,
    pub moved: Moved,
}

impl<'c, 'w, H: Holder> Transfer<'c, 'w, H> {
    pub fn new(from: H, writer: &'w mut LogWriter) -> Self {
        Transfer {
            from,
            log: writer.store(),
            writer,
            batch: [(None, SlotRef::None); BATCH_PAGES],
            staged: 0,
            shared: Moves::new(),
            moved: Moved::default(),
        }
    }

    /// Moves the page in `slot`, which the word `cell` named; the log will know it as `owner`'s.
    pub fn offer(&mut self, owner: u64, cell: &'c AtomicU64, slot: SlotRef) {
        if self.batch[..self.staged].iter().any(|(_, staged)| *staged == slot) {
            self.flush();
        }
        if let Some(to) = self.shared.find(slot) {
            self.swap(cell, slot, to);
            return;
        }
        if self.moved.is_stuck || self.from.retain(slot).is_err() {
            return;
        }
        let Some((name, page)) = self.writer.stage(self.staged) else { return };
        *name = owner;
        if self.from.load(slot, page).is_err() {
            self.moved.unreadable += 1;
            self.from.release(slot);
            return;
        }
        self.batch[self.staged] = (Some(cell), slot);
        self.staged += 1;
        if self.staged == BATCH_PAGES {
            self.flush();
        }
    }

    /// Writes what is staged and changes the words.
    pub fn flush(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        match self.writer.commit(staged) {
            Ok(slots) => {
                self.moved.pages += staged;
                for (at, to) in slots.iter().enumerate() {
                    let (cell, from) = self.batch[at];
                    if let Some(cell) = cell {
                        self.swap(cell, from, *to);
                    }
                    // Of more owners than ourselves some may come later in the sweep.
                    if self.from.owners(from) <= 1 || !self.shared.insert(from, *to) {
                        self.from.release(from);
                        self.log.release(*to);
                    }
                }
            }
            Err(_) => {
                self.moved.is_stuck = true;
                self.batch[..staged].iter().for_each(|(_, from)| self.from.release(*from));
            }
        }
    }

    /// Ends the sweep.
    pub fn finish(mut self) -> Moved {
        self.flush();
        for (from, to) in self.shared.all() {
            self.from.release(*from);
            self.log.release(*to);
        }
        self.moved
    }

    /// Makes a word name `to` if it still names `from`. We are owners of both, before and after.
    fn swap(&mut self, cell: &AtomicU64, from: SlotRef, to: SlotRef) {
        if self.log.retain(to).is_err() {
            return;
        }
        match PageCell(cell).apply(|word| word.relocate(from, to)) {
            Some(_) => {
                self.from.release(from);
                self.moved.words += 1;
            }
            None => self.log.release(to),
        }
    }
}
