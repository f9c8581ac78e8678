//! A fault waits while the space is at its target and there is nothing to put in the place of the page it wants.
//!
//! As a rule a fault is served at once, and what it took is made good after it: the slack that is kept covers that. When
//! members start, fork or map at once, it does not, and each page more would stand above the target. Then the fault is
//! put aside, this member and the others make room, and it is served as soon as there is some. The wait is bounded: a
//! program may be made slow, and never be stopped, by what other members do.
//!
//! When the host has next to no DRAM left, a node asks that nobody wait in vain ([`memvisor_core::blocking`]): then it takes as
//! long as pages leave. A thread that faults is all that is kept: whoever has what he needs goes on.

use crate::monitor::Monitor;
use memvisor_core::blocking::{Blocking, Seen};
use memvisor_core::{Page, SlotRef};
use memvisor_sys::{clock, thread};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

/// How long a fault waits at most: two looks of another member at what it has too much, and the eviction of that.
const PATIENCE_NS: u64 = 30_000_000;
/// How long when the last one waited in vain: nobody has anything to give.
const PATIENCE_IN_VAIN_NS: u64 = 500_000;
/// How long the monitor sleeps between looks while faults wait because they were asked to, in milliseconds.
const BLOCKED_TICK_MS: i32 = 1;

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
    blocking: Blocking,
    /// When the first of them was kept last because a node asked for it.
    kept_ns: u64,
    is_kept: bool,
}

impl Postponed {
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// How long the monitor may sleep, in milliseconds: not at all as a rule, for the keeper may share its CPU.
    pub fn timeout_ms(&self) -> i32 {
        if self.is_kept { BLOCKED_TICK_MS } else { 0 }
    }

    fn found_room(&mut self) {
        self.in_vain = false;
        self.is_kept = false;
        self.blocking.found_room();
    }

    /// A thread that a signal called away asks again for the same page when it is back.
    fn has(&self, fault: &Fault) -> bool {
        self.faults.iter().any(|other| (other.address, other.thread) == (fault.address, fault.thread))
    }
}

impl Monitor {
    /// Whether the fault is put aside until there is room.
    pub(crate) fn must_wait(&mut self, fault: &Fault) -> bool {
        if self.has_room_for_one() {
            self.postponed.found_room();
            return false;
        }
        if self.nascent.is_some() || self.header.store_full().load(Relaxed) != 0 || !self.takes_a_page(fault) {
            return false;
        }
        if !self.postponed.has(fault) {
            self.postponed.faults.push_back(*fault);
        }
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
                self.postponed.found_room();
            } else {
                let patience = if self.postponed.in_vain { PATIENCE_IN_VAIN_NS } else { PATIENCE_NS };
                let now_ns = clock::now_ns();
                self.postponed.is_kept = self.is_kept(now_ns);
                if self.postponed.is_kept || now_ns.saturating_sub(fault.begun_ns) < patience {
                    // The keeper may share this CPU.
                    return thread::yield_now();
                }
                self.postponed.in_vain = true;
                self.block.over_target().fetch_add(1, Relaxed);
            }
            self.postponed.faults.pop_front();
            self.count_kept(&fault);
            self.serve_fault(fault);
        }
    }

    /// Whether a node asked that faults wait as long as pages leave, and they do. Where none can leave nobody waits for it.
    fn is_kept(&mut self, now_ns: u64) -> bool {
        let until_ns = self.header.blocked_until_ns().load(Relaxed);
        let can_leave = self.nascent.is_none() && self.header.store_full().load(Relaxed) == 0 && !self.is_stuck();
        let seen =
            Seen { now_ns, until_ns: if can_leave { until_ns } else { 0 }, charged_pages: self.space.dram_pages() };
        let is_kept = self.postponed.blocking.keeps(seen);
        if is_kept {
            self.postponed.kept_ns = now_ns;
        }
        is_kept
    }

    fn count_kept(&self, fault: &Fault) {
        if fault.begun_ns < self.postponed.kept_ns {
            self.header.blocked_faults().fetch_add(1, Relaxed);
            self.header.blocked_ns().fetch_add(self.postponed.kept_ns - fault.begun_ns, Relaxed);
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
