//! Moving stored pages: what a sweep over page words remembers of slots that several words name.

use crate::SlotRef;

/// Slots with several owners that one sweep keeps apart. One that finds no place is not moved this time.
const SHARED_MAX: usize = 128;

/// The slots with several owners that a sweep has moved, and where to. The sweep is an owner of both.
pub(crate) struct Moves {
    pairs: [(SlotRef, SlotRef); SHARED_MAX],
    count: usize,
}

impl Moves {
    pub fn new() -> Self {
        Moves { pairs: [(SlotRef::None, SlotRef::None); SHARED_MAX], count: 0 }
    }

    /// Where `from` was moved to.
    pub fn find(&self, from: SlotRef) -> Option<SlotRef> {
        self.pairs[..self.count].iter().find(|(old, _)| *old == from).map(|(_, new)| *new)
    }

    /// Whether another slot finds a place.
    pub fn has_room(&self) -> bool {
        self.count < SHARED_MAX
    }

    /// Remembers a move; the owners that the sweep is pass to this table. False when there is no place.
    pub fn insert(&mut self, from: SlotRef, to: SlotRef) -> bool {
        let Some(pair) = self.pairs.get_mut(self.count) else { return false };
        *pair = (from, to);
        self.count += 1;
        true
    }

    /// All moves.
    pub fn all(&self) -> &[(SlotRef, SlotRef)] {
        &self.pairs[..self.count]
    }
}
