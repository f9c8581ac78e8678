//! How long a thread that would make its space larger is kept waiting, when the host has next to no DRAM left and the space is
//! above its target.
//!
//! ```text
//!   asked until …   ── the space becomes smaller ─▶ kept ── it is within its target ─▶ goes on
//!                   ── it does not, for 100 ms ───▶ goes on, and so do all for the next 100 ms: to wait brings nothing
//!   not asked, or asked too long ago ─────────────▶ goes on
//! ```
//!
//! Who asks names an instant up to which, and asks again and again: when he is dead, the instant passes. And whoever asks for
//! whatever, nobody is kept while nothing becomes of it, so no thread waits for memory that cannot leave. It is let through for a
//! while and not once, because an instruction may need several pages at one time.

/// The furthest instant that is believed, in nanoseconds from now: a clock that is not ours, or a word that is not a time.
pub const ASKED_NS_MAX: u64 = 10_000_000_000;
/// So long the space may stay as large as it is: a batch of the keeper on a slow disk takes a tenth of it.
const PATIENCE_NS: u64 = 100_000_000;
/// So long all go on after that.
const BREATH_NS: u64 = 100_000_000;
/// So much smaller it must become in that time, in pages: 2.5 MiB a second. A keeper saves a hundred times as much.
const FALL_PAGES: u64 = 64;

/// What there is when a thread would make its space larger, which is above its target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The monotonic clock, in nanoseconds.
    pub now_ns: u64,
    /// The instant up to which it is asked to wait.
    pub until_ns: u64,
    /// What the space is charged for, in pages.
    pub charged_pages: u64,
}

/// What became of those that were kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Blocking {
    /// Pages charged, and when, at the last fall that was worth it.
    fell: Option<(u64, u64)>,
    breath_until_ns: u64,
}

impl Blocking {
    /// Whether the thread is kept.
    pub fn keeps(&mut self, seen: Seen) -> bool {
        let ahead_ns = seen.until_ns.saturating_sub(seen.now_ns);
        if ahead_ns == 0 || ahead_ns > ASKED_NS_MAX {
            *self = Self::default();
            return false;
        }
        if seen.now_ns < self.breath_until_ns {
            return false;
        }
        let (pages, since_ns) = *self.fell.get_or_insert((seen.charged_pages, seen.now_ns));
        if seen.charged_pages.saturating_add(FALL_PAGES) <= pages {
            self.fell = Some((seen.charged_pages, seen.now_ns));
        } else if seen.now_ns.saturating_sub(since_ns) >= PATIENCE_NS {
            *self = Self { fell: None, breath_until_ns: seen.now_ns.saturating_add(BREATH_NS) };
            return false;
        }
        true
    }

    /// The space is within its target: whoever waits next begins anew.
    pub fn found_room(&mut self) {
        self.fell = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn seen(now_ms: u64, charged_pages: u64) -> Seen {
        Seen { now_ns: now_ms * MS, until_ns: u64::MAX, charged_pages }.asked()
    }

    impl Seen {
        /// By one who lives and asks again at each instant.
        fn asked(self) -> Self {
            Self { until_ns: self.now_ns + 2000 * MS, ..self }
        }
    }

    #[test]
    fn a_thread_waits_as_long_as_the_space_becomes_smaller() {
        let mut blocking = Blocking::default();
        assert!((0..500).all(|turn| blocking.keeps(seen(turn * 90, 100_000 - turn * FALL_PAGES))));
    }

    #[test]
    fn when_nothing_leaves_all_are_let_through_for_a_while_and_then_kept_again() {
        let mut blocking = Blocking::default();
        let kept: Vec<bool> = (0..40).map(|turn| blocking.keeps(seen(turn * 10, 1000))).collect();
        let expected: Vec<bool> = (0..40).map(|turn: u64| turn % 20 < 10).collect();
        assert_eq!(kept, expected);
    }

    #[test]
    fn who_asked_and_is_dead_keeps_nobody_once_his_time_is_over() {
        let mut blocking = Blocking::default();
        let asked = |now_ms: u64| Seen { until_ns: 2000 * MS, ..seen(now_ms, 1_000_000 - now_ms * FALL_PAGES) };
        assert!((0..200).all(|turn| blocking.keeps(asked(turn * 10))));
        assert!((200..300).all(|turn| !blocking.keeps(asked(turn * 10))));
    }

    #[test]
    fn an_instant_that_is_too_far_away_is_no_instant() {
        let mut blocking = Blocking::default();
        assert!(!blocking.keeps(Seen { until_ns: u64::MAX, ..seen(5, 1000) }));
        assert!(!blocking.keeps(Seen { until_ns: 5 * MS + ASKED_NS_MAX + 1, ..seen(5, 1000) }));
        assert!(blocking.keeps(Seen { until_ns: 5 * MS + ASKED_NS_MAX, ..seen(5, 1000) }));
        assert!(!blocking.keeps(Seen { until_ns: 0, ..seen(5, 1000) }));
    }

    #[test]
    fn room_begins_the_wait_of_the_next_anew() {
        let mut blocking = Blocking::default();
        assert!(blocking.keeps(seen(0, 1000)));
        blocking.found_room();
        assert!(blocking.keeps(seen(99_000, 1000)), "nobody waited between");
    }

    proptest! {
        /// Whatever is charged and whoever asks: a thread waits a tenth of a second and as much again for each 64 pages that left.
        #[test]
        fn nobody_waits_longer_than_the_space_takes_to_become_smaller(
            turns in prop::collection::vec((1u64..30, 0u64..200, prop::bool::weighted(0.9)), 1..400),
        ) {
            let (mut blocking, mut now_ms, mut charged) = (Blocking::default(), 0, 50_000u64);
            // When the first was kept, with what was charged then, and the least since.
            let mut kept: Option<(u64, u64, u64)> = None;
            for (passed_ms, pages, is_asked) in turns {
                now_ms += passed_ms;
                charged = (charged + 80).saturating_sub(pages);
                let seen = Seen { until_ns: if is_asked { (now_ms + 2000) * MS } else { 0 }, ..seen(now_ms, charged) };
                if !blocking.keeps(seen) {
                    kept = None;
                    continue;
                }
                prop_assert!(is_asked, "nobody asked");
                let (since_ms, first, least) = kept.unwrap_or((now_ms, charged, charged));
                let least = least.min(charged);
                kept = Some((since_ms, first, least));
                prop_assert!(now_ms - since_ms <= 130 * (1 + (first - least) / FALL_PAGES), "since {since_ms}, now {now_ms}");
            }
        }
    }
}
