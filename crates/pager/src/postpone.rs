//! A fault waits while the space is at its target and there is nothing to put in the place of the page it wants.
//!
//! As a rule a fault is served at once, and what it took is made good after it: the slack that is kept covers that. When
//! members start, fork or map at once, it does not, and each page more would stand above the target. Then the fault is
//! put aside, this member and the others make room, and it is served as soon as there is some. The wait is bounded: a
//! program may be made slow, and never be stopped, by what other members do.

use crate::monitor::Monitor;
use memvisor_core::{Page, SlotRef};
use memvisor_sys::{clock, thread};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

/// How long a fault waits at most: two looks of another member at what it has too much, and the eviction of that.
const PATIENCE_NS: u64 = 30_000_000;
/// How long when the last one waited in vain: nobody has anything to give.
const PATIENCE_IN_VAIN_NS: u64 = 500_000;

/// A fault, as the kernel told of it.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub address: usize,
    pub write_protect: bool,
    pub thread: u32,
    /// When it was heard of.
    pub begun_ns: u64,
}

/// Faults that wait for room, in order.
#[derive(Default)]
pub(crate) struct Postponed {
    faults: VecDeque<Fault>,
    in_vain: bool,
}

impl Postponed {
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }
}

impl Monitor {
    /// Whether the fault is put aside until there is room.
    pub(crate) fn must_wait(&mut self, fault: &Fault) -> bool {
        if self.has_room_for_one() {
            self.postponed.in_vain = false;
            return false;
        }
        if self.nascent.is_some() || self.header.store_full().load(Relaxed) != 0 || !self.takes_a_page(fault) {
            return false;
        }
        self.postponed.faults.push_back(*fault);
        true
    }

    /// Serves those that waited, as far as there is room for them or their time is over.
    pub(crate) fn serve_postponed(&mut self) {
        if self.postponed.is_empty() {
            return;
        }
        self.settle_staging();
        while let Some(&fault) = self.postponed.faults.front() {
            if self.has_room_for_one() {
                self.postponed.in_vain = false;
            } else {
                let patience = if self.postponed.in_vain { PATIENCE_IN_VAIN_NS } else { PATIENCE_NS };
                if clock::now_ns().saturating_sub(fault.begun_ns) < patience {
                    // The keeper may share this CPU.
                    return thread::yield_now();
                }
                self.postponed.in_vain = true;
                self.block.over_target().fetch_add(1, Relaxed);
            }
            self.postponed.faults.pop_front();
            self.serve_fault(fault);
        }
    }

    fn has_room_for_one(&self) -> bool {
        self.space.headroom_pages() > 0
    }

    /// Whether serving it would put a page more into DRAM.
    fn takes_a_page(&mut self, fault: &Fault) -> bool {
        let Some(page) = self.page_at(fault.address) else { return false };
        match self.space.page(page).get().page() {
            Page::Untouched | Page::Stored(SlotRef::Ram(_) | SlotRef::Log(_) | SlotRef::Filled(_) | SlotRef::None) => {
                true
            }
            Page::Outside | Page::Resident(_) | Page::Lost | Page::Parked(_) | Page::Saving(..) => false,
            Page::Parking(_) | Page::Loading(_) | Page::Unparking(_) => false,
        }
    }
}
