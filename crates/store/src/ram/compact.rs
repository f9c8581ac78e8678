//! Compaction: the objects of sparse slabs move to others, so that whole slabs become empty and their memory returns.
//!
//! Slots are named by page words, and only the words know who holds one. So compaction is a sweep over them: an object
//! in a victim slab is copied, and each word that names the old place is swapped to the new one. The sweep owns both
//! places while it copies; so the old one cannot be freed and used again between the copy and the swap, and a
//! word that changed meanwhile just keeps what it has. Owners that are no page words are not found: their objects stay.

use super::RamStore;
use super::slab::{CLASSES, Slab};
use crate::SlotRef;
use crate::moves::Moves;
use memvisor_core::{Page, PageCell};
use std::sync::atomic::{AtomicU64, Ordering};

/// The slabs that are being emptied. They take no new objects until they are opened again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Victims {
    /// How many there are.
    pub slabs: usize,
    /// Objects in them.
    pub objects: usize,
}

/// What a sweep did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Compacted {
    /// Page words that name another place now.
    pub words: usize,
    /// Objects that were copied.
    pub objects: usize,
}

impl RamStore {
    /// Closes the sparsest slabs whose objects fit into the other slabs of their class, at most `max`.
    pub fn pick_victims(&self, max: usize) -> Victims {
        let mut spare = self.spare_slabs();
        let mut victims = Victims::default();
        // Those that are less than an eighth full first, at last those that are seven eighths full.
        for eighths in 1..8 {
            for slab in 0..self.arena.top() {
                if victims.slabs == max {
                    return victims;
                }
                let word = self.arena.word(slab);
                let Some(Slab::InUse { class, live: live @ 1.., closed: false }) = word.slab() else { continue };
                if spare[class.index()] > 0
                    && live * 8 <= class.objects() * eighths
                    && self.arena.swap(slab, word, word.become_slab(Slab::InUse { class, live, closed: true }))
                {
                    spare[class.index()] -= 1;
                    victims.slabs += 1;
                    victims.objects += live;
                }
            }
        }
        victims
    }

    /// Moves what the page words `cells` have in closed slabs elsewhere.
    pub fn compact<'a>(&self, cells: impl IntoIterator<Item = &'a AtomicU64>) -> Compacted {
        let mut done = Compacted::default();
        let mut shared = Moves::new();
        for cell in cells {
            let cell = PageCell(cell);
            let from = match cell.get().page() {
                Page::Stored(slot) | Page::Resident(slot) => slot,
                _ => continue,
            };
            if !self.is_closed(from) {
                continue;
            }
            let Some((to, is_new)) = self.copy_for(from, &mut shared) else { continue };
            done.objects += is_new as usize;
            if self.retain(to).is_ok() {
                match cell.apply(|word| word.relocate(from, to)) {
                    Some(_) => {
                        self.release(from);
                        done.words += 1;
                    }
                    None => self.release(to),
                }
            }
            if shared.find(from).is_none() {
                self.release(from);
                self.release(to);
            }
        }
        for (from, to) in shared.all() {
            self.release(*from);
            self.release(*to);
        }
        done
    }

    /// Opens the closed slabs again, those that could not be emptied too.
    pub fn open_closed(&self) {
        for slab in 0..self.arena.top() {
            loop {
                let word = self.arena.word(slab);
                let Some(Slab::InUse { class, live, closed: true }) = word.slab() else { break };
                if self.arena.swap(slab, word, word.become_slab(Slab::InUse { class, live, closed: false })) {
                    break;
                }
            }
        }
    }

    /// Copies the object in `from` to another slab: the copy has one owner, the caller, who also becomes an owner of
    /// `from`. `None` when it is gone, has too many owners, or nothing is free.
    pub fn relocate(&self, from: SlotRef) -> Option<SlotRef> {
        self.retain(from).ok()?;
        let copy = self.copy(from);
        if copy.is_none() {
            self.release(from);
        }
        copy
    }

    fn copy(&self, from: SlotRef) -> Option<SlotRef> {
        let SlotRef::Ram(unit) = from else { return None };
        let (old, _) = self.arena.locate(unit)?;
        let new = self.arena.allocate(old.class)?;
        let bytes = old.class.object_bytes() - 8;
        // SAFETY: both objects are mapped and of this size; we are an owner of the old one, so nobody writes to it, and
        // nobody else knows the new one.
        unsafe { self.body(new).copy_from_nonoverlapping(self.body(old), bytes) };
        let hash = self.arena.header(old).load(Ordering::Acquire) >> 16;
        self.publish(new, hash)
    }

    /// Where the object in `from` is moved to, and whether it is copied just now.
    fn copy_for(&self, from: SlotRef, shared: &mut Moves) -> Option<(SlotRef, bool)> {
        if let Some(to) = shared.find(from) {
            return Some((to, false));
        }
        let several = self.owners(from) > 1;
        if several && !shared.has_room() {
            return None;
        }
        let to = self.relocate(from)?;
        if several {
            shared.insert(from, to);
        }
        Some((to, true))
    }

    fn is_closed(&self, slot: SlotRef) -> bool {
        let SlotRef::Ram(unit) = slot else { return false };
        self.arena.locate(unit).is_some_and(|(_, word)| matches!(word.slab(), Some(Slab::InUse { closed: true, .. })))
    }

    /// For each class, how many slabs its objects would leave free if they lay close together.
    fn spare_slabs(&self) -> [usize; CLASSES] {
        let (mut slabs, mut live) = ([0; CLASSES], [0; CLASSES]);
        let mut objects = [1; CLASSES];
        for slab in 0..self.arena.top() {
            if let Some(Slab::InUse { class, live: now @ 1.., closed: false }) = self.arena.word(slab).slab() {
                slabs[class.index()] += 1;
                live[class.index()] += now;
                objects[class.index()] = class.objects();
            }
        }
        std::array::from_fn(|class| slabs[class] - usize::min(slabs[class], live[class].div_ceil(objects[class])))
    }
}
