//! The benefit of the doubt, and when it ends.
//!
//! A space that stops using memory is believed to use it for a while ([`crate::activity`], [`crate::damping`]): it may only pause.
//! That costs nobody anything while all that is believed to be in use fits. When it does not, the doubt would be paid for by spaces
//! that use memory now; so what is only believed is cut, from all by the same part, until the rest fits or there is
//! nothing left of it.
//!
//! ```text
//!   0       latest            believed
//!   ├── used ──┬┄┄┄ in doubt ┄┄┄┤        Σ believed ≤ capacity: all of the doubt counts
//!              └─ counts ─┤              Σ believed > capacity ≥ Σ latest: as much of it as fits
//!                                        Σ latest > capacity: none
//! ```

/// What is believed of one space, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Belief {
    /// What it used in its latest sample.
    pub latest_bytes: u64,
    /// What it is believed to use; no less than the latest.
    pub believed_bytes: u64,
    /// What it gets at least and at most, whatever it uses.
    pub bounds: (u64, u64),
}

/// What of each belief counts as in use when so much is divided, in bytes, in their order.
pub fn counted_bytes(beliefs: &[Belief], capacity_bytes: u64) -> Vec<u64> {
    let sum = |bytes: fn(&Belief) -> u64| {
        let held = |belief: &Belief| bytes(belief).clamp(belief.bounds.0, belief.bounds.1);
        beliefs.iter().fold(0u64, |sum, belief| sum.saturating_add(held(belief)))
    };
    let (believed, latest) = (sum(|belief| belief.believed_bytes), sum(|belief| belief.latest_bytes));
    if believed <= capacity_bytes {
        return beliefs.iter().map(|belief| belief.believed_bytes).collect();
    }
    let (some, all) = (capacity_bytes.saturating_sub(latest), believed.saturating_sub(latest).max(1));
    let counted = |belief: &Belief| {
        let doubt = belief.believed_bytes.saturating_sub(belief.latest_bytes);
        belief.latest_bytes + (u128::from(doubt) * u128::from(some.min(all)) / u128::from(all)) as u64
    };
    beliefs.iter().map(counted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn belief(latest_bytes: u64, believed_bytes: u64) -> Belief {
        Belief { latest_bytes, believed_bytes, bounds: (0, u64::MAX) }
    }

    #[test]
    fn who_rests_is_believed_while_nobody_lacks_what_he_is_believed_to_use() {
        assert_eq!(counted_bytes(&[belief(10, 100), belief(100, 100)], 200), [100, 100]);
    }

    #[test]
    fn who_rests_gives_way_to_who_works_as_far_as_is_needed() {
        assert_eq!(counted_bytes(&[belief(10, 100), belief(100, 100)], 155), [55, 100]);
        assert_eq!(counted_bytes(&[belief(10, 100), belief(100, 100)], 110), [10, 100]);
    }

    #[test]
    fn who_works_is_believed_even_if_all_that_work_do_not_fit() {
        assert_eq!(counted_bytes(&[belief(10, 100), belief(100, 100)], 50), [10, 100]);
    }

    #[test]
    fn what_a_reservation_holds_anyway_brings_nobody_in_doubt() {
        let reserved = Belief { bounds: (100, 200), ..belief(0, 100) };
        // What counts of the first is below what it has anyway.
        assert_eq!(counted_bytes(&[reserved, belief(40, 100)], 150), [16, 50]);
    }

    proptest! {
        #[test]
        fn what_counts_lies_between_the_latest_and_what_is_believed(
            beliefs in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()), 0..20), capacity: u64,
        ) {
            let beliefs: Vec<Belief> = beliefs
                .into_iter()
                .map(|(one, other, least, most)| Belief {
                    latest_bytes: one.min(other),
                    believed_bytes: one.max(other),
                    bounds: (least.min(most), least.max(most)),
                })
                .collect();
            for (belief, counted) in beliefs.iter().zip(counted_bytes(&beliefs, capacity)) {
                prop_assert!((belief.latest_bytes..=belief.believed_bytes).contains(&counted));
            }
        }

        #[test]
        fn more_capacity_never_counts_less(
            beliefs in prop::collection::vec((0..1u64 << 40, 0..1u64 << 40), 0..20), capacity in 0..1u64 << 44, more in 0..1u64 << 40,
        ) {
            let beliefs: Vec<Belief> =
                beliefs.into_iter().map(|(latest, doubt)| belief(latest, latest + doubt)).collect();
            let (before, after) = (counted_bytes(&beliefs, capacity), counted_bytes(&beliefs, capacity + more));
            prop_assert!(before.iter().zip(&after).all(|(before, after)| before <= after));
        }
    }
}
