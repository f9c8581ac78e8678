//! Queues of runs: doubly linked lists whose links lie in one table by run, so that a run is in one list at most, is
//! taken out of the middle at once, and queueing never allocates.
//!
//! ```text
//!   63 62  61 60   56 55           28 27            0
//!  ┌─────┬────┬───────┬───────────────┬──────────────┐
//!  │list │mark│ pages │ previous run  │ next run     │    8 bytes a run: half a byte a page
//!  └─────┴────┴───────┴───────────────┴──────────────┘
//! ```
//!
//! The table is in pieces of one window, because the windows of one member lie scattered among those of the others.

use crate::{RUN_PAGES, RunIndex, WINDOW_RUNS};
use std::ops::Range;

const LINK_BITS: u32 = 28;
const LINK_MASK: u64 = (1 << LINK_BITS) - 1;
/// No run: its window would be number 2²⁰ − 1, four times as many as a space can have.
const NIL: u32 = LINK_MASK as u32;
const PAGES_SHIFT: u32 = 2 * LINK_BITS;
const MARK_SHIFT: u32 = 61;
const LIST_SHIFT: u32 = 62;

/// What the table knows of a run. `list` is 0 when it is in none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    list: u8,
    mark: bool,
    pages: u8,
    previous: u32,
    next: u32,
}

impl Entry {
    const ABSENT: Self = Self { list: 0, mark: false, pages: 0, previous: NIL, next: NIL };

    const fn pack(self) -> u64 {
        (self.list as u64) << LIST_SHIFT
            | (self.mark as u64) << MARK_SHIFT
            | (self.pages as u64) << PAGES_SHIFT
            | (self.previous as u64) << LINK_BITS
            | self.next as u64
    }

    const fn unpack(bits: u64) -> Self {
        Self {
            list: (bits >> LIST_SHIFT) as u8,
            mark: bits >> MARK_SHIFT & 1 != 0,
            pages: (bits >> PAGES_SHIFT & 31) as u8,
            previous: (bits >> LINK_BITS & LINK_MASK) as u32,
            next: (bits & LINK_MASK) as u32,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
    pages: u64,
}

type Piece = [u64; WINDOW_RUNS];

/// What a run brings along when it leaves its list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Popped {
    pub(super) run: RunIndex,
    /// See [`RunLists::push`].
    pub(super) mark: bool,
}

/// `LISTS` (1..=3) queues of runs.
pub(super) struct RunLists<const LISTS: usize> {
    pieces: Vec<Option<Box<Piece>>>,
    pieces_held: usize,
    ends: [Ends; LISTS],
}

impl<const LISTS: usize> RunLists<LISTS> {
    pub(super) const fn new() -> Self {
        assert!(LISTS >= 1 && LISTS <= 3, "two bits say which list");
        Self { pieces: Vec::new(), pieces_held: 0, ends: [Ends { first: NIL, last: NIL, pages: 0 }; LISTS] }
    }

    /// Makes room for every window that `runs` touch.
    pub(super) fn reserve(&mut self, runs: Range<RunIndex>) {
        if runs.is_empty() {
            return;
        }
        let last = RunIndex(runs.end.0 - 1);
        for window in runs.start.window()..=last.window() {
            self.reserve_window(window as usize);
        }
    }

    /// Makes room for the window of `run`, if there is none.
    fn reserve_window(&mut self, window: usize) {
        assert!(window * WINDOW_RUNS + WINDOW_RUNS <= NIL as usize, "window number {window} is beyond every space");
        if self.pieces.len() <= window {
            self.pieces.resize_with(window + 1, || None);
        }
        if self.pieces[window].is_none() {
            self.pieces[window] = Some(Box::new([Entry::ABSENT.pack(); WINDOW_RUNS]));
            self.pieces_held += 1;
        }
    }

    fn entry(&self, run: RunIndex) -> Entry {
        match self.pieces.get(run.window() as usize) {
            Some(Some(piece)) => Entry::unpack(piece[run.0 as usize % WINDOW_RUNS]),
            Some(None) | None => Entry::ABSENT,
        }
    }

    /// Changes the entry of a run whose window has room.
    fn change(&mut self, run: u32, change: impl FnOnce(&mut Entry)) {
        if let Some(Some(piece)) = self.pieces.get_mut(RunIndex(run).window() as usize) {
            let bits = &mut piece[run as usize % WINDOW_RUNS];
            let mut entry = Entry::unpack(*bits);
            change(&mut entry);
            *bits = entry.pack();
        }
    }

    /// Whether `run` is in a list.
    pub(super) fn is_queued(&self, run: RunIndex) -> bool {
        self.entry(run).list != 0
    }

    /// Puts a run that is in no list at the end of `list`. Pages are counted up to those that a run has; the mark
    /// means what the policy wants. Allocates when the run's window has no room yet.
    pub(super) fn push(&mut self, list: usize, run: RunIndex, pages: u32, mark: bool) {
        debug_assert!(!self.is_queued(run), "a run is in one list at most");
        self.reserve_window(run.window() as usize);
        let pages = pages.min(RUN_PAGES as u32) as u8;
        let last = self.ends[list].last;
        self.change(run.0, |entry| *entry = Entry { list: list as u8 + 1, mark, pages, previous: last, next: NIL });
        if last == NIL {
            self.ends[list].first = run.0;
        } else {
            self.change(last, |entry| entry.next = run.0);
        }
        self.ends[list].last = run.0;
        self.ends[list].pages += u64::from(pages);
    }

    /// Counts one page more in a run that is in a list.
    pub(super) fn add_page(&mut self, run: RunIndex) {
        let entry = self.entry(run);
        if entry.list != 0 && usize::from(entry.pages) < RUN_PAGES {
            self.change(run.0, |entry| entry.pages += 1);
            self.ends[usize::from(entry.list) - 1].pages += 1;
        }
    }

    /// Takes the first run out of `list`.
    pub(super) fn pop(&mut self, list: usize) -> Option<Popped> {
        let first = self.ends[list].first;
        if first == NIL {
            return None;
        }
        let run = RunIndex(first);
        let mark = self.entry(run).mark;
        self.remove(run);
        Some(Popped { run, mark })
    }

    /// Takes `run` out of its list, if it is in one.
    pub(super) fn remove(&mut self, run: RunIndex) {
        let entry = self.entry(run);
        if entry.list == 0 {
            return;
        }
        let list = usize::from(entry.list) - 1;
        if entry.previous == NIL {
            self.ends[list].first = entry.next;
        } else {
            self.change(entry.previous, |previous| previous.next = entry.next);
        }
        if entry.next == NIL {
            self.ends[list].last = entry.previous;
        } else {
            self.change(entry.next, |next| next.previous = entry.previous);
        }
        self.ends[list].pages -= u64::from(entry.pages);
        self.change(run.0, |entry| *entry = Entry::ABSENT);
    }

    /// Pages that the runs in `list` were said to have.
    pub(super) fn pages(&self, list: usize) -> u64 {
        self.ends[list].pages
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.pieces.capacity() * size_of::<Option<Box<Piece>>>() + self.pieces_held * size_of::<Piece>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize, u32, u32, bool),
        Pop(usize),
        Remove(u32),
        AddPage(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let run = || prop_oneof![0u32..12, 250u32..260, Just((1 << 26) - 1)];
        prop_oneof![
            (0..3usize, run(), 0..20u32, any::<bool>()).prop_map(|(l, r, p, m)| Step::Push(l, r, p, m)),
            (0..3usize).prop_map(Step::Pop),
            run().prop_map(Step::Remove),
            run().prop_map(Step::AddPage),
        ]
    }

    proptest! {
        #[test]
        fn the_lists_behave_as_queues_without_duplicates(steps in prop::collection::vec(step(), 0..200)) {
            let mut lists = RunLists::<3>::new();
            let mut model: [VecDeque<(u32, u32, bool)>; 3] = Default::default();
            for step in steps {
                match step {
                    Step::Push(list, run, pages, mark) => {
                        let queued = model.iter().flatten().any(|of| of.0 == run);
                        prop_assert_eq!(lists.is_queued(RunIndex(run)), queued);
                        if !queued {
                            lists.push(list, RunIndex(run), pages, mark);
                            model[list].push_back((run, pages.min(16), mark));
                        }
                    }
                    Step::Pop(list) => {
                        let popped = lists.pop(list).map(|popped| (popped.run.0, popped.mark));
                        prop_assert_eq!(popped, model[list].pop_front().map(|(run, _, mark)| (run, mark)));
                    }
                    Step::Remove(run) => {
                        lists.remove(RunIndex(run));
                        model.iter_mut().for_each(|list| list.retain(|of| of.0 != run));
                    }
                    Step::AddPage(run) => {
                        lists.add_page(RunIndex(run));
                        for of in model.iter_mut().flatten().filter(|of| of.0 == run) {
                            of.1 = (of.1 + 1).min(16);
                        }
                    }
                }
                for (list, model) in model.iter().enumerate() {
                    prop_assert_eq!(lists.pages(list), model.iter().map(|of| u64::from(of.1)).sum::<u64>());
                }
            }
        }
    }
}
