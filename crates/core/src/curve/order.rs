//! How many marks lie after a tick: a binary indexed tree (Fenwick, 1994) over a logical clock of fixed length.

/// Ticks of the clock before it is wound back. Four for each tick that is in use at most (two for every watched
/// page): the clock is wound back once in 1,500 sampled uses or more, at 20 µs.
pub(super) const TICKS: usize = 4096;

/// Ticks `0..`[`TICKS`], some of them marked. Marking, unmarking and counting take twelve steps.
pub(super) struct Order {
    /// Cell `n` (from 1) has the marks of the `n & −n` ticks that end with tick `n − 1`.
    tree: Box<[u16; TICKS + 1]>,
    marked: u32,
}

impl Order {
    pub(super) fn new() -> Self {
        Self { tree: Box::new([0; TICKS + 1]), marked: 0 }
    }

    /// Marks a tick that is not marked.
    pub(super) fn mark(&mut self, tick: u16) {
        self.climb(tick, 1);
        self.marked += 1;
    }

    /// Takes the mark of a tick that is marked away.
    pub(super) fn unmark(&mut self, tick: u16) {
        self.climb(tick, u16::MAX);
        self.marked = self.marked.saturating_sub(1);
    }

    /// Marked ticks after `tick`.
    pub(super) fn after(&self, tick: u16) -> u32 {
        let mut at = (usize::from(tick) + 1).min(TICKS);
        let mut until = 0u32;
        while at > 0 {
            until += u32::from(self.tree[at]);
            at &= at - 1;
        }
        self.marked.saturating_sub(until)
    }

    /// Takes all marks away.
    pub(super) fn clear(&mut self) {
        self.tree.fill(0);
        self.marked = 0;
    }

    fn climb(&mut self, tick: u16, add: u16) {
        let mut at = usize::from(tick) + 1;
        while at <= TICKS {
            self.tree[at] = self.tree[at].wrapping_add(add);
            at += at & at.wrapping_neg();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn marks_are_counted_as_in_a_set(flips in prop::collection::vec(0..TICKS as u16, 0..300), from in 0..TICKS as u16) {
            let (mut order, mut model) = (Order::new(), BTreeSet::new());
            for tick in flips {
                if model.insert(tick) {
                    order.mark(tick);
                } else {
                    model.remove(&tick);
                    order.unmark(tick);
                }
                prop_assert_eq!(order.after(from) as usize, model.range(from + 1..).count());
                prop_assert_eq!(order.after(tick) as usize, model.range(tick + 1..).count());
            }
        }
    }
}
