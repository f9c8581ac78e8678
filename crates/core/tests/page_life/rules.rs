//! What is explored: how many of each thing, who takes part, and which rule is broken on purpose.

use crate::state::Budgets;

/// Who serves faults, evicts and discards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pager {
    /// Any thread, at any time: each event of each is on its own.
    ManyThreads,
    /// One monitor thread does all of it, and turns to something else only while a load is in flight.
    OneMonitor,
}

/// A rule that is broken, to see that the exploration finds out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    Nothing,
    /// A publication does not look at the frame and the saver.
    PublishAnything,
    /// A publication does not look at the saver.
    PublishForTheOther,
    /// A saver does not ask whether its publication took effect.
    PublishUnasked,
    /// A saver gives back the replaced slot although its publication failed.
    FreeUnpublished,
    /// A saver believes that the retained slot holds what the frame holds.
    BelieveRetained,
    /// A load is completed whatever its ticket.
    IgnoreTicket,
    /// A compactor copies a slot that may be freed meanwhile.
    RelocateUnpinned,
    /// A compactor does not ask whether the word changed.
    RelocateUnasked,
    /// A discard drops memory first, then changes the word.
    DropFirst,
    /// A discard does not wait for a load.
    DiscardLoading,
    /// A server copies a frame back without taking the page first, although it is not the only one.
    CopyBackByMany,
    /// A server that copied a frame back does not see that its saver was faster.
    CopyBackUnnoticed,
    /// A fault on a page that is resident by its word is taken for served.
    TrustResident,
    /// A page that is there although it was untouched is taken for filled, although its removal is on the way.
    TrustExisting,
    /// A move that found nothing is taken for done.
    ParkHole,
    /// A dead keeper's claims are left alone.
    LeaveDeadClaims,
}

/// The world to explore.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub pager: Pager,
    pub broken: Broken,
    pub pages: usize,
    pub frames: usize,
    pub slots: usize,
    pub keeper: bool,
    pub second_keeper_thread: bool,
    pub pager_saver: bool,
    pub servers: usize,
    pub relocator: bool,
    pub budgets: Budgets,
}
