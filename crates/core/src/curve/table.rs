//! The watched pages: a hash table of fixed size with open addressing, in which nothing is allocated and no tombstone
//! stays behind.

use super::SAMPLES_MAX;
use crate::PageIndex;

/// Twice as many as pages: a search looks at 1.5 slots on average.
const SLOTS: usize = 2 * SAMPLES_MAX;

/// Whether the next use of a page will be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sight {
    /// The page is in its place: its uses are unseen since then. The last try to park it was at `tried_ns`.
    Unseen { since_ns: u64, tried_ns: u64, is_probe: bool },
    /// The page is parked or out: its next use is a fault. It has been so since this tick and time; a probe by chance.
    Awaited { from: u16, since_ns: u64, is_probe: bool },
}

/// A page of the sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Watched {
    pub(super) page: PageIndex,
    pub(super) hash: u32,
    /// The tick of the last use that was told.
    pub(super) used: u16,
    pub(super) sight: Sight,
    /// It was found in its place: when it was used last is not known.
    pub(super) is_met: bool,
}

/// Up to [`SAMPLES_MAX`] watched pages, by hash. The hash is one to one, so it stands for the page.
pub(super) struct Table {
    slots: Box<[Option<Watched>; SLOTS]>,
    len: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { slots: Box::new([None; SLOTS]), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= SAMPLES_MAX
    }

    pub(super) fn get(&mut self, hash: u32) -> Option<&mut Watched> {
        let at = self.find(hash)?;
        self.slots[at].as_mut()
    }

    /// Adds a page that is not there. Does nothing when the table is full.
    pub(super) fn insert(&mut self, watched: Watched) {
        if self.is_full() {
            return;
        }
        let mut at = home(watched.hash);
        while self.slots[at].is_some() {
            at = (at + 1) % SLOTS;
        }
        self.slots[at] = Some(watched);
        self.len += 1;
    }

    /// Takes a page out, and closes the gap so that every other is still found.
    pub(super) fn remove(&mut self, hash: u32) -> Option<Watched> {
        let mut gap = self.find(hash)?;
        let taken = self.slots[gap].take();
        self.len -= 1;
        let mut at = (gap + 1) % SLOTS;
        while let Some(next) = self.slots[at] {
            // It may close the gap unless its home lies behind the gap.
            if (at + SLOTS - home(next.hash)) % SLOTS >= (at + SLOTS - gap) % SLOTS {
                self.slots[gap] = self.slots[at].take();
                gap = at;
            }
            at = (at + 1) % SLOTS;
        }
        taken
    }

    pub(super) fn clear(&mut self) {
        self.slots.fill(None);
        self.len = 0;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Watched> {
        self.slots.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Watched> {
        self.slots.iter_mut().flatten()
    }

    /// Half of the slots are free, so the search ends.
    fn find(&self, hash: u32) -> Option<usize> {
        let mut at = home(hash);
        while let Some(watched) = self.slots[at] {
            if watched.hash == hash {
                return Some(at);
            }
            at = (at + 1) % SLOTS;
        }
        None
    }
}

/// Where a page belongs. By the low bits: the high ones say whether it is in the sample at all.
fn home(hash: u32) -> usize {
    hash as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn watched(hash: u32) -> Watched {
        let sight = Sight::Unseen { since_ns: 0, tried_ns: 0, is_probe: false };
        Watched { page: PageIndex(hash), hash, used: 0, sight, is_met: false }
    }

    proptest! {
        /// Hashes are few and of few homes, so that they crowd together, also around the end of the table.
        #[test]
        fn what_was_put_in_and_not_taken_out_is_found(
            steps in prop::collection::vec((0..40u32, 0..4u32, any::<bool>()), 0..400),
        ) {
            let (mut table, mut model) = (Table::new(), BTreeMap::new());
            for (low, high, put) in steps {
                let hash = (SLOTS as u32 - 20 + low) % SLOTS as u32 + high * SLOTS as u32;
                if put && !model.contains_key(&hash) {
                    table.insert(watched(hash));
                    model.insert(hash, watched(hash));
                } else if !put {
                    prop_assert_eq!(table.remove(hash), model.remove(&hash));
                }
                prop_assert_eq!(table.len(), model.len());
                for &hash in model.keys() {
                    prop_assert_eq!(table.get(hash).map(|of| of.hash), Some(hash));
                }
            }
        }
    }

    #[test]
    fn a_full_table_takes_no_more() {
        let mut table = Table::new();
        (0..2 * SAMPLES_MAX as u32).for_each(|hash| table.insert(watched(hash)));
        assert_eq!((table.len(), table.iter().count()), (SAMPLES_MAX, SAMPLES_MAX));
        assert!(table.get(SAMPLES_MAX as u32).is_none());
    }
}
