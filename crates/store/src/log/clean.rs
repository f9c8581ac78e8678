//! Cleaning: the pages of sparse segments move to the end of the log, and the segments become empty.

use super::table::Segment;
use super::{Holder, LogStore, LogWriter, Transfer};
use crate::{LoadError, PageBytes, RetainError, SlotRef};
use memvisor_core::{Page, PageCell};
use memvisor_proto::segment::SEGMENT_PAGES;
use std::sync::atomic::AtomicU64;

/// What a cleaning did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cleaned {
    /// Page words that name another slot now.
    pub words: usize,
    /// Pages that were written again.
    pub pages: usize,
    /// Pages that could not be read; they stay where they are.
    pub unreadable: usize,
    /// The log or its device took no more: there is less free than cleaning needs.
    pub is_stuck: bool,
}

impl LogStore {
    /// Chooses the sparsest sealed segments to be cleaned, at most `max`; how many segments and pages it are.
    pub fn pick_victims(&self, max: usize) -> (usize, usize) {
        self.table.pick_victims(max)
    }

    /// Moves what the page words of `cells` – each with what the log is to call it – have in victim segments to where
    /// `writer` writes. Owners that are no page words are not found, and keep their segments.
    pub fn clean<'c>(&self, writer: &mut LogWriter, cells: impl IntoIterator<Item = (u64, &'c AtomicU64)>) -> Cleaned {
        let mut transfer = Transfer::new(*self, writer);
        for (owner, cell) in cells {
            if let Page::Stored(slot) | Page::Resident(slot) = PageCell(cell).get().page()
                && self.is_victim(slot)
            {
                transfer.offer(owner, cell, slot);
            }
        }
        let moved = transfer.finish();
        self.table.spare_victims();
        Cleaned { words: moved.words, pages: moved.pages, unreadable: moved.unreadable, is_stuck: moved.is_stuck }
    }

    /// Segments that are neither free nor empty, and pages in them, of what was ever used: how sparse the log is.
    pub fn occupancy(&self) -> (usize, usize) {
        (0..self.table.top())
            .map(|segment| self.table.word(segment))
            .filter(|word| word.segment() == Segment::Sealed && word.live() > 0)
            .fold((0, 0), |(segments, pages), word| (segments + 1, pages + word.live()))
    }

    fn is_victim(&self, slot: SlotRef) -> bool {
        let SlotRef::Log(page) = slot else { return false };
        self.table.page(page).is_some() && self.table.word(page as usize / SEGMENT_PAGES).is_victim()
    }
}

impl Holder for LogStore {
    fn retain(&self, slot: SlotRef) -> Result<(), RetainError> {
        LogStore::retain(self, slot)
    }
    fn release(&self, slot: SlotRef) {
        LogStore::release(self, slot);
    }
    fn owners(&self, slot: SlotRef) -> u16 {
        LogStore::owners(self, slot)
    }
    fn load(&self, slot: SlotRef, out: &mut PageBytes) -> Result<(), LoadError> {
        LogStore::load(self, slot, out)
    }
}
