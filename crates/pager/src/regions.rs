//! Which parts of an address space are managed, and which of them are armed.
//!
//! A piece that is not armed is plain memory: it is never metered, and so it is charged at its whole size. A piece that
//! is armed is registered with userfaultfd: every page of it has a word.

use std::collections::BTreeMap;

/// Whether a piece is registered for missing faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arming {
    /// Plain memory, charged whole.
    Unarmed,
    /// Registered; each page has a word.
    Armed,
}

/// A contiguous managed piece of address space, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The first byte.
    pub start: usize,
    /// One past the last.
    pub end: usize,
    /// Whether it is armed.
    pub arming: Arming,
}

impl Piece {
    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.end - self.start
    }
}

/// The managed pieces of an address space; they do not overlap.
#[derive(Default)]
pub struct Regions {
    pieces: BTreeMap<usize, (usize, Arming)>,
}

impl Regions {
    /// Adds what of `start..end` is not managed yet, unarmed. Gives the bytes added.
    pub fn add(&mut self, start: usize, end: usize) -> usize {
        let mut added = 0;
        let mut at = start;
        while at < end {
            match self.next_overlap(at, end) {
                Some(piece) => {
                    added += self.insert_gap(at, piece.start.max(at));
                    at = piece.end.max(at);
                }
                None => {
                    added += self.insert_gap(at, end);
                    at = end;
                }
            }
        }
        added
    }

    /// Takes `start..end` out and gives the pieces that were there, cut to the range.
    pub fn remove(&mut self, start: usize, end: usize) -> Vec<Piece> {
        let mut taken = Vec::new();
        while let Some(piece) = self.next_overlap(start, end) {
            self.pieces.remove(&piece.start);
            if piece.start < start {
                self.pieces.insert(piece.start, (start, piece.arming));
            }
            if piece.end > end {
                self.pieces.insert(end, (piece.end, piece.arming));
            }
            taken.push(Piece { start: piece.start.max(start), end: piece.end.min(end), arming: piece.arming });
        }
        taken
    }

    /// Marks `start..end` as armed, whether it was managed or not.
    pub fn set_armed(&mut self, start: usize, end: usize) {
        self.remove(start, end);
        let mut start = start;
        if let Some((&before, &(before_end, Arming::Armed))) = self.pieces.range(..start).next_back()
            && before_end == start
        {
            start = before;
        }
        self.pieces.insert(start, (end, Arming::Armed));
    }

    /// The piece that holds `address`.
    pub fn at(&self, address: usize) -> Option<Piece> {
        self.next_overlap(address, address + 1)
    }

    /// The unarmed piece with the lowest address at or after `from`, else the lowest of all.
    pub fn unarmed_from(&self, from: usize) -> Option<Piece> {
        let unarmed = |(&start, &(end, arming)): (&usize, &(usize, Arming))| {
            (arming == Arming::Unarmed).then_some(Piece { start, end, arming })
        };
        self.pieces.range(from..).find_map(unarmed).or_else(|| self.pieces.iter().find_map(unarmed))
    }

    /// Every piece, in order of address.
    pub fn iter(&self) -> impl Iterator<Item = Piece> + '_ {
        self.pieces.iter().map(|(&start, &(end, arming))| Piece { start, end, arming })
    }

    fn next_overlap(&self, start: usize, end: usize) -> Option<Piece> {
        if let Some((&from, &(to, arming))) = self.pieces.range(..=start).next_back()
            && to > start
        {
            return Some(Piece { start: from, end: to, arming });
        }
        let (&from, &(to, arming)) = self.pieces.range(start..end).next()?;
        Some(Piece { start: from, end: to, arming })
    }

    fn insert_gap(&mut self, start: usize, end: usize) -> usize {
        if start >= end {
            return 0;
        }
        self.pieces.insert(start, (end, Arming::Unarmed));
        end - start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces as a map from each unit to its arming, to compare with.
    fn flat(regions: &Regions) -> Vec<(usize, Arming)> {
        regions.iter().flat_map(|piece| (piece.start..piece.end).map(move |at| (at, piece.arming))).collect()
    }

    #[test]
    fn pieces_are_what_a_map_of_single_units_says() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize % below
        };
        let mut regions = Regions::default();
        let mut model: BTreeMap<usize, Arming> = BTreeMap::new();
        for _ in 0..20_000 {
            let start = random(60);
            let end = start + 1 + random(12);
            match random(3) {
                0 => {
                    let added = regions.add(start, end);
                    let before = model.len();
                    (start..end).for_each(|at| {
                        model.entry(at).or_insert(Arming::Unarmed);
                    });
                    assert_eq!(added, model.len() - before);
                }
                1 => {
                    let taken: usize = regions.remove(start, end).iter().map(Piece::bytes).sum();
                    let before = model.len();
                    model.retain(|at, _| !(start..end).contains(at));
                    assert_eq!(taken, before - model.len());
                }
                _ => {
                    regions.set_armed(start, end);
                    (start..end).for_each(|at| {
                        model.insert(at, Arming::Armed);
                    });
                }
            }
            assert_eq!(flat(&regions), model.iter().map(|(&at, &arming)| (at, arming)).collect::<Vec<_>>());
        }
    }
}
