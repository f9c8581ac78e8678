//! How short of DRAM the host is: high, soft, hard, low.
//!
//! ```text
//!             below 4 %        below 2 %        below 1 %           free, as a part of all DRAM;
//!     high ─────────────▶ soft ─────────▶ hard ─────────▶ low       Waldspurger, OSDI 2002, §6.3
//!          ◀───────────── ◀──────────── ◀───────────
//!             from 6 %         from 4 %         from 2 %            and the hysteresis on top
//! ```
//!
//! A plan moves by one state, so that the milder means is tried first and one wrong sample does not block a program. What
//! is kept free is where state high begins again: a host whose spaces are within their targets is in state high.

use serde::{Deserialize, Serialize};

/// How short of DRAM the host is, best first. Each state is the most that is done to a space above its target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing is taken from anybody.
    #[default]
    High,
    /// Guests are asked to give: balloons. A space without a balloon is paged.
    Soft,
    /// Everybody is paged.
    Hard,
    /// Everybody is paged, and who is above its target is blocked meanwhile.
    Low,
}

/// Free DRAM, as parts of all DRAM, at which states begin and end; falling from `high` to `low`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Kept free; at this, and [`Settings::hysteresis`](crate::Settings::hysteresis) more, state high begins again.
    pub high: f64,
    /// Below this state high ends.
    pub soft: f64,
    /// Below this state soft ends.
    pub hard: f64,
    /// Below this state hard ends.
    pub low: f64,
}

impl Default for Thresholds {
    /// Those of the paper (§6.3).
    fn default() -> Self {
        Self { high: 0.06, soft: 0.04, hard: 0.02, low: 0.01 }
    }
}

impl Thresholds {
    /// What is kept free of `dram_bytes`, in bytes.
    pub fn kept_bytes(&self, dram_bytes: u64, hysteresis: f64) -> u64 {
        part_of(dram_bytes, self.high).saturating_add(part_of(dram_bytes, hysteresis))
    }
}

impl State {
    /// The state of a host that was in this one and has so much free now: this one or a neighbour.
    pub fn next(self, dram_bytes: u64, free_bytes: u64, thresholds: &Thresholds, hysteresis: f64) -> Self {
        let below = |part: f64| free_bytes < part_of(dram_bytes, part);
        let well_above =
            |part: f64| free_bytes >= part_of(dram_bytes, part).saturating_add(part_of(dram_bytes, hysteresis));
        let at = thresholds;
        match self {
            Self::High if below(at.soft) => Self::Soft,
            Self::Soft if below(at.hard) => Self::Hard,
            Self::Hard if below(at.low) => Self::Low,
            Self::Soft if well_above(at.high) => Self::High,
            Self::Hard if well_above(at.soft) => Self::Soft,
            Self::Low if well_above(at.hard) => Self::Hard,
            Self::High | Self::Soft | Self::Hard | Self::Low => self,
        }
    }
}

/// So much of `bytes`, rounded up.
fn part_of(bytes: u64, part: f64) -> u64 {
    (bytes as f64 * part).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// States that a host of 10,000 bytes passes through, which begins in state high.
    fn states(free: &[u64]) -> Vec<State> {
        let next = |state: &mut State, free: &u64| {
            *state = state.next(10_000, *free, &Thresholds::default(), 0.0025);
            Some(*state)
        };
        free.iter().scan(State::High, next).collect()
    }

    #[test]
    fn a_state_ends_below_its_threshold_and_begins_again_well_above_it() {
        use State::{Hard, High, Low, Soft};
        assert_eq!(states(&[400, 399, 200, 199, 100, 99, 0]), [High, Soft, Soft, Hard, Hard, Low, Low]);
        assert_eq!(
            states(&[0, 0, 0, 224, 225, 424, 425, 624, 625]),
            [Soft, Hard, Low, Low, Hard, Hard, Soft, Soft, High]
        );
    }

    #[test]
    fn a_state_changes_by_one_at_a_time() {
        use State::{Hard, High, Low, Soft};
        assert_eq!(states(&[0, 0, 0, 0]), [Soft, Hard, Low, Low]);
        assert_eq!(states(&[0, 0, 0, 9999, 9999, 9999]), [Soft, Hard, Low, Hard, Soft, High]);
    }

    #[test]
    fn what_is_kept_free_is_enough_for_state_high() {
        for dram in [1, 999, 10_000, 1 << 40] {
            let kept = Thresholds::default().kept_bytes(dram, 0.0025);
            assert_eq!(State::Soft.next(dram, kept, &Thresholds::default(), 0.0025), State::High);
        }
    }

    proptest! {
        #[test]
        fn free_memory_that_trembles_within_the_hysteresis_changes_the_state_in_one_direction_only(
            around in 0u64..1_000, trembles in prop::collection::vec(0u64..25, 1..50),
        ) {
            let free: Vec<u64> = trembles.iter().map(|tremble| around + tremble).collect();
            for start in [State::High, State::Soft, State::Hard, State::Low] {
                let mut state = start;
                let mut seen = vec![start];
                for free in &free {
                    state = state.next(10_000, *free, &Thresholds::default(), 0.0025);
                    seen.push(state);
                }
                prop_assert!(seen.is_sorted() || seen.is_sorted_by(|a, b| a >= b), "{seen:?}");
            }
        }
    }
}
