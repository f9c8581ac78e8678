//! What is done when the stores are full: when the evictor gives up and when it tries again, what of the log is kept
//! for pages that change places, and who is still given new memory.
//!
//! ```text
//!   pages leave ── stored ─────────────────▶ nothing to remember
//!        ▲    └── refused, a ring of them ──▶ stuck ── more is missing, or room came, or time ──┐
//!        └──────────────────────── a probe of 64 pages ◀────────────────────────────────────────┘
//! ```
//!
//! While the evictor is stuck the space may stand above its target: memory that the program has is never taken for the
//! target's sake. What is not promised yet is denied.

/// Pages that are tried when it is looked again: four runs.
const PROBE_PAGES: u64 = 64;
/// The first look comes when so many pages more are missing, each later one when twice as many are, up to 256: a look
/// costs about 0.3 ms, as much as some dozens of faults.
const STEP_PAGES: u64 = 16;
const STEPS_DOUBLED_MAX: u32 = 4;
/// The first look comes at the latest after this time, each later one after twice as long, up to 5 s: pages that were
/// refused are written anew and may compress then.
const WAIT_NS: u64 = 20_000_000;
const WAITS_DOUBLED_MAX: u32 = 8;

/// The log keeps this part of it free, so that cleaning finds segments that are worth it: at nine tenths full it would
/// write four pages to make room for one.
const LOG_RESERVE_PART: u64 = 8;
/// And so many segments beside: each writer has one open, cleaning keeps two, and victims are emptied eight at a time.
const LOG_RESERVE_SEGMENTS: u64 = 8;
/// A small log keeps no more than this part free.
const LOG_RESERVE_PART_MOST: u64 = 4;

/// The part of the target that is not given out when stores are full: what the evictor holds back for itself.
const HELD_BACK_PART: u64 = 32;
/// With so much of the target free, stores that were full are given another chance.
const CALM_PART: u64 = 8;

/// What there is when stores refuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Situation {
    /// The monotonic clock, in nanoseconds.
    pub now_ns: u64,
    /// Pages that should leave.
    pub short_pages: u64,
    /// Pages that the stores could take if none compressed.
    pub room_pages: u64,
}

/// What became of the pages that left since one was last stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Refusals {
    parked: u64,
    refused: u64,
    looks: u32,
    since: Option<Situation>,
}

impl Refusals {
    /// `pages` were parked; what becomes of them is heard later.
    pub fn parked(&mut self, pages: u64) {
        self.parked += pages;
    }

    /// No store took a page, and it is back in its place.
    pub fn refused(&mut self) {
        self.refused += 1;
    }

    /// A store took a page.
    pub fn stored(&mut self) {
        *self = Self::default();
    }

    /// Whether pages were refused since one was last stored.
    pub const fn any(&self) -> bool {
        self.refused > 0
    }

    /// Whether nothing can leave: a whole ring of `frames` was parked and more, and no page of it was stored. What was
    /// only wanted back does not count.
    pub const fn is_stuck(&self, frames: u64) -> bool {
        self.refused >= PROBE_PAGES && self.parked >= frames + PROBE_PAGES
    }

    /// Whether to try to move pages out; when stuck, only for a probe now and then.
    pub fn may_try(&mut self, frames: u64, now: Situation) -> bool {
        if !self.is_stuck(frames) {
            return true;
        }
        let since = *self.since.get_or_insert(now);
        let step = STEP_PAGES << self.looks.min(STEPS_DOUBLED_MAX);
        let wait = WAIT_NS << self.looks.min(WAITS_DOUBLED_MAX);
        let is_due = now.short_pages >= since.short_pages + step
            || now.room_pages >= since.room_pages + step
            || now.now_ns.saturating_sub(since.now_ns) >= wait;
        if is_due {
            self.parked = frames;
            self.since = None;
            self.looks += 1;
        }
        is_due
    }
}

/// Pages of a log of `pages` that may be used before new memory is denied.
pub const fn log_usable_pages(pages: u64, segment_pages: u64) -> u64 {
    let wanted = pages / LOG_RESERVE_PART + LOG_RESERVE_SEGMENTS * segment_pages;
    let most = pages / LOG_RESERVE_PART_MOST;
    pages - if wanted < most { wanted } else { most }
}

/// Bytes of new memory that a program may have at once while stores are full: what DRAM is free beyond what the evictor
/// holds back. `headroom_bytes` is what may be charged until the target is reached.
pub const fn grant_when_full_bytes(target_bytes: u64, headroom_bytes: i64) -> u64 {
    let free = headroom_bytes - (target_bytes / HELD_BACK_PART) as i64;
    if free > 0 { free as u64 } else { 0 }
}

/// Whether so much is free that stores which were full are asked again.
pub const fn is_calm(target_pages: u64, slack_pages: i64) -> bool {
    slack_pages >= (target_pages / CALM_PART) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RING: u64 = 256;

    fn at(now_ns: u64, short_pages: u64, room_pages: u64) -> Situation {
        Situation { now_ns, short_pages, room_pages }
    }

    fn stuck() -> Refusals {
        let mut refusals = Refusals::default();
        refusals.parked(RING + PROBE_PAGES);
        (0..PROBE_PAGES).for_each(|_| refusals.refused());
        assert!(refusals.is_stuck(RING));
        refusals
    }

    #[test]
    fn pages_that_are_wanted_back_do_not_stop_the_evictor() {
        let mut refusals = Refusals::default();
        refusals.parked(1 << 20);
        assert!(refusals.may_try(RING, at(0, 1, 0)));
        assert!(!refusals.any());
    }

    #[test]
    fn one_stored_page_ends_it() {
        let mut refusals = stuck();
        assert!(!refusals.may_try(RING, at(0, 100, 0)));
        refusals.stored();
        assert!(refusals.may_try(RING, at(0, 100, 0)) && !refusals.any());
    }

    #[test]
    fn a_probe_is_64_pages_and_the_next_comes_later() {
        let mut refusals = stuck();
        assert!(!refusals.may_try(RING, at(0, 100, 0)));
        assert!(!refusals.may_try(RING, at(1, 100 + STEP_PAGES - 1, 0)));
        assert!(refusals.may_try(RING, at(1, 100 + STEP_PAGES, 0)));
        refusals.parked(PROBE_PAGES - 1);
        assert!(refusals.may_try(RING, at(2, 200, 0)), "the probe goes on");
        refusals.parked(1);
        assert!(!refusals.may_try(RING, at(3, 200, 0)), "it is over");
        assert!(!refusals.may_try(RING, at(4, 200 + 2 * STEP_PAGES - 1, 0)));
        assert!(refusals.may_try(RING, at(4, 200 + 2 * STEP_PAGES, 0)));
    }

    #[test]
    fn room_in_the_stores_and_time_bring_a_probe_as_well() {
        let mut refusals = stuck();
        assert!(!refusals.may_try(RING, at(0, 100, 1000)));
        assert!(refusals.may_try(RING, at(0, 100, 1000 + STEP_PAGES)));
        let mut refusals = stuck();
        assert!(!refusals.may_try(RING, at(0, 100, 0)));
        assert!(!refusals.may_try(RING, at(WAIT_NS - 1, 100, 0)));
        assert!(refusals.may_try(RING, at(WAIT_NS, 100, 0)));
    }

    #[test]
    fn while_nothing_changes_probes_become_rare() {
        let (mut refusals, mut probes, mut now) = (stuck(), 0, 0);
        while now < 60_000_000_000 {
            if refusals.may_try(RING, at(now, 100, 0)) {
                refusals.parked(PROBE_PAGES);
                probes += 1;
            }
            now += 10_000_000;
        }
        assert!((8..25).contains(&probes), "{probes} in a minute");
    }

    #[test]
    fn small_logs_keep_a_quarter_and_large_ones_an_eighth() {
        assert_eq!(log_usable_pages(64 * 256, 256), 48 * 256);
        assert_eq!(log_usable_pages(4 * 256, 256), 3 * 256);
        assert_eq!(log_usable_pages(1024 * 256, 256), (1024 - 128 - 8) * 256);
        assert_eq!(log_usable_pages(0, 256), 0);
    }

    #[test]
    fn full_stores_leave_what_dram_is_free() {
        assert_eq!(grant_when_full_bytes(64 << 20, 10 << 20), 8 << 20);
        assert_eq!(grant_when_full_bytes(64 << 20, 1 << 20), 0);
        assert_eq!(grant_when_full_bytes(64 << 20, -1), 0);
    }

    proptest! {
        #[test]
        fn what_is_tried_is_bounded_by_what_changes(
            events in prop::collection::vec((0u64..2_000_000, 0u64..4), 1..4000),
        ) {
            let (mut refusals, mut now, mut tried) = (stuck(), at(0, 0, 0), 0);
            for (ns, pages) in events {
                now = at(now.now_ns + ns, now.short_pages + pages, 0);
                while refusals.may_try(RING, now) {
                    refusals.parked(1);
                    tried += 1;
                }
            }
            let probes = now.short_pages / STEP_PAGES + now.now_ns / WAIT_NS + 1;
            prop_assert!(tried <= probes * PROBE_PAGES, "{tried} tried in {now:?}");
        }
    }
}
