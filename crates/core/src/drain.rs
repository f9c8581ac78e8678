//! When memory may be let go: what a drain does in a turn, and what that says.
//!
//! ```text
//!   a walk over all pages, some in each turn: what is away is brought back ──┐
//!        ▲      while the program runs, and anything may change behind it    │
//!        └── took several turns, or met a page that must not be let go ──────┤
//!                                                                            └── neither ──▶ memory may be let go
//! ```
//!
//! Nothing is kept from turn to turn but how far the walk is, so nothing of it can be out of date: a drain that was called off and
//! asked for again, memory that the program moved and pages that left meanwhile need no word here. Whoever lets go does so in
//! the turn that said so: no page leaves in it.

use crate::Page;

/// The pages of a member, in an order that stays as it is while a turn goes on.
pub trait Pages {
    /// How many there are.
    fn count(&self) -> usize;

    /// Where a page is.
    fn page(&self, at: usize) -> Page;

    /// Brings a page back that is away, or begins to. It may stay away: memory changes, or the store is busy.
    fn bring_back(&mut self, at: usize);

    /// Makes every touch of a lost page a SIGBUS, also when memory is let go. Gives whether it is; `false` while memory changes.
    fn poison(&mut self, at: usize) -> bool;
}

/// How far a drain has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Walk {
    next: usize,
}

impl Walk {
    /// Goes on, until all pages were looked at or `most` were brought back. Gives whether memory may be let go in this
    /// turn: all pages were looked at in it, and each reads as it should without a pager.
    pub fn turn(&mut self, pages: &mut impl Pages, most: usize) -> bool {
        let is_whole = self.next == 0;
        let (mut brought, mut is_lost_unsaid) = (0, false);
        while self.next < pages.count() {
            if brought == most {
                return false;
            }
            let at = self.next;
            self.next += 1;
            match pages.page(at) {
                Page::Outside | Page::Untouched | Page::Resident(_) => {}
                // Nobody may have touched it yet, and in plain memory it would read as zeros.
                Page::Lost => is_lost_unsaid |= !pages.poison(at),
                Page::Stored(_)
                | Page::Parked(_)
                | Page::Saving(..)
                | Page::Parking(_)
                | Page::Loading(_)
                | Page::Unparking(_) => {
                    pages.bring_back(at);
                    brought += 1;
                }
            }
        }
        self.next = 0;
        is_whole && brought == 0 && !is_lost_unsaid
    }
}
