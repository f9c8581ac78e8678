//! The division: everybody pays the same price, but for who is held by a bound.
//!
//! Min-funding revocation (Waldspurger and Weihl 1996) takes memory, piece by piece, from whoever pays the least for it. It comes to
//! rest where nobody who could still give pays less than another who could still take. Seen from the other side that is
//! water: let the level that each share bears rise from nothing, each space holding what it may at that level, within its bounds,
//! until all there is is held.
//!
//! ```text
//!   held │            ______ most               The sum over all spaces rises with the level and bends
//!        │         ╱                            only where a space bends: where it leaves its least,
//!        │      · active                        where its use ends, where it reaches its most.
//!        │    ╱
//!        │___╱ least
//!        └────────────────── level
//! ```
//!
//! So it is enough to sort the three bends of each space, to find by bisection the two between which the sum meets the
//! capacity, and to draw a straight line between them: O(n log n). The sums are made anew at each step of the bisection:
//! a running sum of slopes would be O(n), and would gather errors over 30,000 bends.

use crate::Tax;
use crate::price::Payer;

/// What one space brings to the division.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Who pays.
    pub payer: Payer,
    /// It has this whatever it pays, in bytes.
    pub least_bytes: u64,
    /// It has no more than this, in bytes; at least `least_bytes`.
    pub most_bytes: u64,
}

impl Claim {
    /// What it holds at a level, within its bounds, in bytes.
    fn held_at(&self, level: f64, tax: Tax) -> f64 {
        self.payer.bytes_at(level, tax).clamp(self.least_bytes as f64, self.most_bytes as f64)
    }

    /// Levels at which what it holds bends.
    fn bends(&self, tax: Tax) -> [f64; 3] {
        let active = self.payer.active_bytes.clamp(self.least_bytes, self.most_bytes);
        [self.least_bytes, active, self.most_bytes].map(|bytes| self.payer.level_of(bytes as f64, tax))
    }
}

/// How a capacity is divided.
#[derive(Clone, PartialEq, Debug)]
pub struct Division {
    /// What each share bears, in bytes; `None` when everybody has its most.
    pub level: Option<f64>,
    /// What each claim gets, in bytes, in their order.
    pub bytes: Vec<u64>,
}

/// Divides `capacity_bytes` among `claims`. The leasts are kept even if they do not fit; else the parts add up to no more than
/// the capacity, and to no less than it or the sum of the mosts, but for a byte for each claim.
///
/// # Panics
///
/// When a claim's least is more than its most.
pub fn divide(claims: &[Claim], capacity_bytes: u64, tax: Tax) -> Division {
    let most = claims.iter().fold(0u64, |sum, claim| sum.saturating_add(claim.most_bytes));
    if most <= capacity_bytes {
        return Division { level: None, bytes: claims.iter().map(|claim| claim.most_bytes).collect() };
    }
    let level = level(claims, capacity_bytes as f64, tax);
    // Above 2^53 the nearest integer may be out of bounds.
    let held = |claim: &Claim| (claim.held_at(level, tax).round() as u64).clamp(claim.least_bytes, claim.most_bytes);
    let mut bytes: Vec<u64> = claims.iter().map(held).collect();
    trim(claims, &mut bytes, capacity_bytes);
    Division { level: Some(level), bytes }
}

/// The level at which all together hold `capacity` bytes, which is less than all want.
fn level(claims: &[Claim], capacity: f64, tax: Tax) -> f64 {
    let held = |level: f64| -> f64 { claims.iter().map(|claim| claim.held_at(level, tax)).sum() };
    let mut bends: Vec<f64> = claims.iter().flat_map(|claim| claim.bends(tax)).collect();
    bends.sort_unstable_by(f64::total_cmp);
    let above = bends.partition_point(|&level| held(level) <= capacity);
    match (above.checked_sub(1).map(|below| bends[below]), bends.get(above)) {
        (Some(below), Some(&above)) => between(below, above, held(below), held(above), capacity),
        // Not even the leasts fit, or only just; or all fits, but for rounding.
        (None, Some(&bend)) | (Some(bend), None) => bend,
        (None, None) => 0.0,
    }
}

/// Where a line that is at `from_held` at `from` and at `to_held` at `to` meets `held`.
fn between(from: f64, to: f64, from_held: f64, to_held: f64, held: f64) -> f64 {
    if to_held <= from_held { from } else { from + (to - from) * ((held - from_held) / (to_held - from_held)) }
}

/// Takes what rounding gave too much: at most half a byte for each claim and the error of a sum of floats. It is taken evenly
/// from those that the level alone holds; who has its most is to have all of it.
fn trim(claims: &[Claim], bytes: &mut [u64], capacity_bytes: u64) {
    let sum = bytes.iter().fold(0u64, |sum, part| sum.saturating_add(*part));
    let excess = take(claims, bytes, sum.saturating_sub(capacity_bytes), |claim, part| part < claim.most_bytes);
    take(claims, bytes, excess, |_, _| true);
}

/// Takes `excess` bytes evenly from those of `claims` that hold more than their least and are chosen by `from`; gives what
/// could not be taken.
fn take(claims: &[Claim], bytes: &mut [u64], mut excess: u64, from: impl Fn(&Claim, u64) -> bool) -> u64 {
    let gives = |claim: &Claim, part: u64| part > claim.least_bytes && from(claim, part);
    while excess > 0 {
        let givers = claims.iter().zip(&*bytes).filter(|(claim, part)| gives(claim, **part)).count() as u64;
        if givers == 0 {
            break;
        }
        let each = excess.div_ceil(givers);
        for (claim, part) in claims.iter().zip(bytes.iter_mut()).filter(|(claim, part)| gives(claim, **part)) {
            let taken = each.min(excess).min(*part - claim.least_bytes);
            *part -= taken;
            excess -= taken;
        }
    }
    excess
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    const MIB: u64 = 1 << 20;

    fn claim(shares: u32, active_bytes: u64, least_bytes: u64, most_bytes: u64) -> Claim {
        let shares = NonZeroU32::new(shares).unwrap();
        Claim { payer: Payer { shares, active_bytes }, least_bytes, most_bytes }
    }

    fn claims() -> impl Strategy<Value = Vec<Claim>> {
        let one = (1u32..5000, 0u64..1 << 34, 0u64..1 << 33, 0u64..1 << 34)
            .prop_map(|(shares, active, least, more)| claim(shares, active, least, least + more));
        // Leasts of zero and claims without room are what real hosts have, and what random numbers never are.
        let some = (1u32..5, 0u64..3, 0u64..3, 0u64..3).prop_map(|(shares, active, least, more)| {
            claim(shares * 1000, active << 30, least << 30, (least + more) << 30)
        });
        prop::collection::vec(prop_oneof![one, some], 1..40)
    }

    fn taxes() -> impl Strategy<Value = Tax> {
        prop_oneof![Just(Tax::NONE), Just(Tax::USUAL), (0.0..0.99).prop_map(|tax| Tax::try_from(tax).unwrap())]
    }

    /// A capacity between the sum of the leasts and a little above the sum of the mosts.
    fn capacity(claims: &[Claim], permille: u64) -> u64 {
        let least: u64 = claims.iter().map(|claim| claim.least_bytes).sum();
        let most: u64 = claims.iter().map(|claim| claim.most_bytes).sum();
        least + (u128::from(most - least) * u128::from(permille) / 1000) as u64
    }

    /// The level by blind bisection, which knows nothing of bends.
    fn slow(claims: &[Claim], capacity_bytes: u64, tax: Tax) -> Vec<f64> {
        let held = |level: f64| -> Vec<f64> { claims.iter().map(|claim| claim.held_at(level, tax)).collect() };
        let (mut below, mut above) = (0.0, 1e15);
        for _ in 0..200 {
            let middle = (below + above) / 2.0;
            if held(middle).iter().sum::<f64>() <= capacity_bytes as f64 { below = middle } else { above = middle }
        }
        held(below)
    }

    /// Min-funding revocation as the paper tells it: a piece is taken from whoever pays least for it and given to whoever
    /// would pay most, until nobody would pay more than who has it.
    fn revoke(claims: &[Claim], capacity_bytes: u64, piece: u64, tax: Tax) -> Vec<u64> {
        let mut held: Vec<u64> = claims.iter().map(|claim| claim.least_bytes).collect();
        let mut free = capacity_bytes - held.iter().sum::<u64>();
        for (claim, held) in claims.iter().zip(&mut held) {
            let first_come = free.min(claim.most_bytes - *held);
            *held += first_come;
            free -= first_come;
        }
        let level = |at: usize, bytes: u64| claims[at].payer.level_of(bytes as f64, tax);
        for _ in 0..100_000 {
            let gives = |&at: &usize| held[at] >= claims[at].least_bytes + piece;
            let takes = |&at: &usize| held[at] + piece <= claims[at].most_bytes;
            let order = |a: &usize, b: &usize| level(*a, held[*a]).total_cmp(&level(*b, held[*b]));
            let poorest = (0..claims.len()).filter(gives).max_by(order);
            let richest = (0..claims.len()).filter(takes).min_by(order);
            match (poorest, richest) {
                (Some(from), Some(to)) if level(to, held[to] + piece) < level(from, held[from]) => {
                    held[from] -= piece;
                    held[to] += piece;
                }
                _ => break,
            }
        }
        held
    }

    #[test]
    fn without_a_tax_equal_shares_split_equally_and_two_to_one_splits_two_to_one() {
        let of = |shares: [u32; 2]| divide(&shares.map(|s| claim(s, 0, 0, 1 << 30)), 3 * MIB, Tax::NONE).bytes;
        assert_eq!(of([1000, 1000]), [3 * MIB / 2, 3 * MIB / 2]);
        assert_eq!(of([2000, 1000]), [2 * MIB, MIB]);
    }

    #[test]
    fn with_the_usual_tax_a_busy_space_gets_four_times_what_an_idle_one_gets() {
        let claims = [claim(1000, 1 << 30, 0, 1 << 30), claim(1000, 0, 0, 1 << 30)];
        assert_eq!(divide(&claims, 500 * MIB, Tax::USUAL).bytes, [400 * MIB, 100 * MIB]);
    }

    #[test]
    fn a_half_idle_space_pays_the_tax_on_its_idle_half_only() {
        // Level 200: the busy one has 200; the other 80 in use and (200 − 80)/4 = 30 idle.
        let claims = [claim(1, MIB, 0, MIB), claim(1, 80, 0, MIB)];
        assert_eq!(divide(&claims, 310, Tax::USUAL), Division { level: Some(200.0), bytes: vec![200, 110] });
    }

    #[test]
    fn what_one_does_not_want_the_others_divide_by_their_shares() {
        let claims = [claim(1000, 0, 0, 10), claim(1000, 0, 0, 1000), claim(3000, 0, 0, 1000)];
        assert_eq!(divide(&claims, 410, Tax::NONE).bytes, [10, 100, 300]);
    }

    #[test]
    fn a_least_is_kept_and_paid_by_the_others() {
        let claims = [claim(1, 0, 300, 1000), claim(1000, 0, 0, 1000), claim(1000, 0, 0, 1000)];
        assert_eq!(divide(&claims, 500, Tax::NONE).bytes, [300, 100, 100]);
    }

    #[test]
    fn when_all_fits_everybody_has_its_most_and_nothing_has_a_price() {
        let claims = [claim(1, 0, 3, 10), claim(2, 0, 0, 20)];
        assert_eq!(divide(&claims, 30, Tax::USUAL), Division { level: None, bytes: vec![10, 20] });
        assert_eq!(divide(&[], 0, Tax::USUAL), Division { level: None, bytes: vec![] });
    }

    #[test]
    fn when_only_the_leasts_fit_everybody_has_its_least() {
        let claims = [claim(1, 0, 3, 10), claim(2, 0, 5, 20)];
        assert_eq!(divide(&claims, 8, Tax::USUAL).bytes, [3, 5]);
        assert_eq!(divide(&claims, 0, Tax::USUAL).bytes, [3, 5]);
    }

    #[test]
    fn what_rounding_gave_too_much_is_taken_from_nobody_who_has_its_most() {
        // One and a half for each of the last two is two for each.
        let claims = [claim(1000, 0, 0, 10), claim(1, 0, 0, 1000), claim(1, 0, 0, 1000)];
        assert_eq!(divide(&claims, 13, Tax::NONE).bytes, [10, 1, 2]);
    }

    proptest! {
        #[test]
        fn the_level_of_the_bends_is_that_of_a_blind_bisection(claims in claims(), at in 0u64..=1000, tax in taxes()) {
            let capacity = capacity(&claims, at);
            let (fast, slow) = (divide(&claims, capacity, tax).bytes, slow(&claims, capacity, tax));
            for (fast, slow) in fast.iter().zip(&slow) {
                prop_assert!((*fast as f64 - slow).abs() <= 3.0 + slow * 1e-9, "{fast} {slow}");
            }
        }

        #[test]
        fn a_division_fills_the_capacity_within_all_bounds(claims in claims(), at in 0u64..=1100, tax in taxes()) {
            let capacity = capacity(&claims, at);
            let bytes = divide(&claims, capacity, tax).bytes;
            for (claim, bytes) in claims.iter().zip(&bytes) {
                prop_assert!((claim.least_bytes..=claim.most_bytes).contains(bytes));
            }
            let (sum, most): (u64, u64) = (bytes.iter().sum(), claims.iter().map(|claim| claim.most_bytes).sum());
            prop_assert!(sum <= capacity);
            prop_assert!(sum + claims.len() as u64 >= capacity.min(most), "{sum} of {}", capacity.min(most));
        }

        #[test]
        fn more_shares_never_bring_less(
            claims in claims(), at in 0u64..=1000, who: prop::sample::Index, more in 1u32..10_000, tax in taxes(),
        ) {
            let (capacity, who) = (capacity(&claims, at), who.index(claims.len()));
            let before = divide(&claims, capacity, tax).bytes[who];
            let mut claims = claims;
            claims[who].payer.shares = claims[who].payer.shares.saturating_add(more);
            let after = divide(&claims, capacity, tax).bytes[who];
            prop_assert!(after + 2 >= before, "{before} to {after}");
        }

        #[test]
        fn more_use_never_brings_less(
            claims in claims(), at in 0u64..=1000, who: prop::sample::Index, more in 0u64..1 << 34, tax in taxes(),
        ) {
            let (capacity, who) = (capacity(&claims, at), who.index(claims.len()));
            let before = divide(&claims, capacity, tax).bytes[who];
            let mut claims = claims;
            claims[who].payer.active_bytes += more;
            let after = divide(&claims, capacity, tax).bytes[who];
            prop_assert!(after + 2 >= before, "{before} to {after}");
        }

        #[test]
        fn taking_piece_by_piece_from_whoever_pays_least_ends_at_the_same_division(
            claims in prop::collection::vec((1u32..4, 0u64..20_000, 0u64..5000, 0u64..20_000), 2..6), at in 0u64..=1000,
            tax in prop_oneof![Just(Tax::NONE), Just(Tax::USUAL)],
        ) {
            let claims: Vec<Claim> =
                claims.into_iter().map(|(shares, active, least, more)| claim(shares, active, least, least + more)).collect();
            let capacity = capacity(&claims, at);
            let (level, pieces) = (divide(&claims, capacity, tax).bytes, revoke(&claims, capacity, 1, tax));
            // A piece is a byte; an idle one weighs as much as four active ones, at a third of the shares as twelve.
            let off = 2 + 12 * claims.len() as u64;
            for (level, pieces) in level.iter().zip(&pieces) {
                prop_assert!(level.abs_diff(*pieces) <= off, "{level} {pieces} of {claims:?}");
            }
        }
    }
}
