//! Handing out: from what the plan grants to what each pager is told now, so that no byte is promised twice.
//!
//! ```text
//!   wishes   what each should be told: the plan's budget, and a part of what nobody was granted (room to grow)
//!   lower    who shall have less is told at once
//!   raise    who shall have more is told as much as has really come back: what all others may still take is what they
//!            were told or what they hold, whichever is more
//! ```
//! Two things hold after each step, whatever pagers do meanwhile: the sum of what is told is never more than the DRAM that
//! is handed out, and nobody is told more while what he would get is still held by another.
//!
//! Room costs nothing: it is DRAM that nobody holds, it is taken back by a number, and a program that has it grows without a
//! fault until the next plan.

use crate::price::Payer;
use crate::{Tax, waterfill};
use std::num::NonZeroU32;

/// A space, as far as handing out asks. All amounts in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// What its pager is told now.
    pub told_bytes: u64,
    /// What it holds now.
    pub charged_bytes: u64,
    /// What the plan grants.
    pub target_bytes: u64,
    /// What the plan would have its pager told: the target, or more while nothing is taken from anybody.
    pub budget_bytes: u64,
    /// The most that it may be told.
    pub limit_bytes: u64,
    /// Its weight for room to grow.
    pub shares: NonZeroU32,
}

/// What there is to hand out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Supply {
    /// All of it, in bytes.
    pub dram_bytes: u64,
    /// So much of it as room to grow may come from: without what is kept free, in bytes.
    pub calm_bytes: u64,
}

/// A space that holds more than this part of what it is told grows into its ceiling before the next plan.
const TIGHT_PART: u64 = 8;
/// How much more room such a space gets than one that stands still: with a hundred others it still gets a seventh.
const TIGHT_WEIGHT: u32 = 16;

impl Claim {
    /// What it has or may take without asking.
    fn held_bytes(&self) -> u64 {
        self.told_bytes.max(self.charged_bytes)
    }

    fn is_tight(&self) -> bool {
        self.told_bytes.saturating_sub(self.charged_bytes) < self.charged_bytes / TIGHT_PART
    }

    fn weight(&self) -> NonZeroU32 {
        let times = if self.is_tight() { TIGHT_WEIGHT } else { 1 };
        self.shares.saturating_mul(NonZeroU32::new(times).unwrap_or(NonZeroU32::MIN))
    }
}

fn sum(bytes: impl IntoIterator<Item = u64>) -> u64 {
    bytes.into_iter().fold(0, u64::saturating_add)
}

/// What each should be told, in their order. The sum is within the supply.
pub fn wishes(claims: &[Claim], supply: Supply) -> Vec<u64> {
    let base = bases(claims, supply.dram_bytes);
    let held = base.iter().zip(claims).map(|(base, claim)| (*base).max(claim.charged_bytes));
    let rest = supply.calm_bytes.min(supply.dram_bytes).saturating_sub(sum(held));
    let rooms: Vec<waterfill::Claim> = base
        .iter()
        .zip(claims)
        .map(|(base, claim)| waterfill::Claim {
            payer: Payer { shares: claim.weight(), active_bytes: 0 },
            least_bytes: 0,
            most_bytes: claim.limit_bytes.saturating_sub(*base).min(rest),
        })
        .collect();
    let rooms = waterfill::divide(&rooms, rest, Tax::NONE).bytes;
    base.iter().zip(rooms).map(|(base, room)| base + room).collect()
}

/// What the plan would have told, as far as it fits: budgets, else targets, else of those the same part.
fn bases(claims: &[Claim], dram_bytes: u64) -> Vec<u64> {
    let limited = |bytes: fn(&Claim) -> u64| claims.iter().map(|c| bytes(c).min(c.limit_bytes)).collect::<Vec<u64>>();
    let budgets = limited(|claim| claim.budget_bytes);
    if sum(budgets.iter().copied()) <= dram_bytes {
        return budgets;
    }
    let targets = limited(|claim| claim.target_bytes);
    let all = sum(targets.iter().copied());
    if all <= dram_bytes {
        return targets;
    }
    targets.iter().map(|bytes| part(*bytes, dram_bytes, all)).collect()
}

/// `bytes · part / all`, rounded down.
fn part(bytes: u64, part: u64, all: u64) -> u64 {
    (u128::from(bytes) * u128::from(part) / u128::from(all.max(1))) as u64
}

/// What each is told when those whose wish is less are told so, in their order.
pub fn lower(claims: &[Claim], wishes: &[u64]) -> Vec<u64> {
    claims.iter().zip(wishes).map(|(claim, wish)| claim.told_bytes.min(*wish)).collect()
}

/// What each is told when what has come back is handed out, in their order. The claims say what is told and held by now,
/// after [`lower`]. What the plan grants comes before room to grow.
pub fn raise(claims: &[Claim], wishes: &[u64], supply: Supply) -> Vec<u64> {
    let free = supply.dram_bytes.saturating_sub(sum(claims.iter().map(Claim::held_bytes)));
    let granted: Vec<u64> = claims.iter().zip(wishes).map(|(claim, wish)| claim.target_bytes.min(*wish)).collect();
    let told: Vec<u64> = claims.iter().map(|claim| claim.told_bytes).collect();
    let (told, free) = rise(told, &granted, free);
    rise(told, wishes, free).0
}

/// Brings all towards `to`, each by the same part of its way, as far as `free` goes; gives what is left of that.
///
/// A space that holds more than it is told may be told what it holds for nothing: but then it would never give it back, so
/// it counts as everybody does.
fn rise(from: Vec<u64>, to: &[u64], free: u64) -> (Vec<u64>, u64) {
    let ways: Vec<u64> = from.iter().zip(to).map(|(from, to)| to.saturating_sub(*from)).collect();
    let all = sum(ways.iter().copied());
    let given: Vec<u64> = if all <= free { ways } else { ways.iter().map(|way| part(*way, free, all)).collect() };
    let left = free - sum(given.iter().copied());
    (from.iter().zip(given).map(|(from, given)| from + given).collect(), left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(told: u64, charged: u64, target: u64, budget: u64) -> Claim {
        Claim {
            told_bytes: told,
            charged_bytes: charged,
            target_bytes: target,
            budget_bytes: budget,
            limit_bytes: u64::MAX,
            shares: NonZeroU32::new(1000).unwrap(),
        }
    }

    const fn supply(dram_bytes: u64) -> Supply {
        Supply { dram_bytes, calm_bytes: dram_bytes }
    }

    /// One step in which nobody moves.
    fn told(claims: &[Claim], supply: Supply) -> Vec<u64> {
        let wishes = wishes(claims, supply);
        let told = lower(claims, &wishes);
        let claims: Vec<Claim> =
            claims.iter().zip(told).map(|(claim, told_bytes)| Claim { told_bytes, ..*claim }).collect();
        raise(&claims, &wishes, supply)
    }

    #[test]
    fn who_shall_have_more_waits_until_the_other_has_given() {
        assert_eq!(told(&[claim(800, 800, 300, 300), claim(200, 200, 700, 700)], supply(1000)), [300, 200]);
        assert_eq!(told(&[claim(300, 500, 300, 300), claim(200, 200, 700, 700)], supply(1000)), [300, 500]);
        assert_eq!(told(&[claim(300, 300, 300, 300), claim(500, 500, 700, 700)], supply(1000)), [300, 700]);
    }

    #[test]
    fn what_was_told_and_is_not_held_moves_at_once() {
        assert_eq!(told(&[claim(900, 100, 200, 200), claim(100, 100, 800, 800)], supply(1000)), [200, 800]);
    }

    #[test]
    fn what_nobody_was_granted_is_room_to_grow_up_to_the_limit() {
        let limited = Claim { limit_bytes: 150, ..claim(0, 0, 100, 100) };
        assert_eq!(told(&[limited, claim(0, 0, 100, 100)], supply(1000)), [150, 850]);
    }

    #[test]
    fn who_grows_into_its_ceiling_gets_more_of_the_room() {
        let told = told(&[claim(100, 99, 100, 100), claim(100, 0, 100, 100)], supply(1900));
        assert_eq!(told, [1700, 200]);
    }

    #[test]
    fn what_is_kept_free_is_no_room_to_grow() {
        let supply = Supply { dram_bytes: 1000, calm_bytes: 900 };
        assert_eq!(told(&[claim(0, 0, 500, 500)], supply), [900]);
        assert_eq!(told(&[claim(0, 0, 950, 950)], supply), [950], "what is promised may take it");
    }

    #[test]
    fn budgets_that_do_not_fit_fall_back_to_targets() {
        // In state high nobody is asked to give, but together they must not be told more than there is.
        let claims = [claim(600, 200, 600, 600), claim(400, 600, 400, 600)];
        assert_eq!(told(&claims, supply(1000)), [600, 400]);
    }

    #[test]
    fn a_plan_that_grants_too_much_is_cut_for_all_alike() {
        assert_eq!(wishes(&[claim(0, 0, 800, 800), claim(0, 0, 1200, 1200)], supply(1000)), [400, 600]);
    }

    fn claims() -> impl Strategy<Value = Vec<Claim>> {
        let bytes = || prop_oneof![Just(0u64), 0..2000u64];
        let one = (bytes(), bytes(), bytes(), bytes(), prop_oneof![Just(u64::MAX), 0..2000u64], 1..3000u32).prop_map(
            |(told, charged, target, more, limit_bytes, shares)| Claim {
                limit_bytes,
                shares: NonZeroU32::new(shares).unwrap(),
                ..claim(told, charged, target, target + more)
            },
        );
        prop::collection::vec(one, 0..8)
    }

    /// A pager: it takes what its program asks for within what it is told, and gives back only part of what it is above.
    fn live(claim: &mut Claim, asks: u64, gives: u64) {
        if claim.charged_bytes > claim.told_bytes {
            claim.charged_bytes -= gives.min(claim.charged_bytes - claim.told_bytes);
        } else {
            claim.charged_bytes = asks.min(claim.told_bytes);
        }
    }

    proptest! {
        #[test]
        fn what_is_told_is_never_more_than_there_is_whatever_was_told_before(claims in claims(), dram in 0u64..5000, kept in 0u64..1000) {
            let supply = Supply { dram_bytes: dram, calm_bytes: dram.saturating_sub(kept) };
            prop_assert!(sum(told(&claims, supply)) <= dram);
            for (claim, told) in claims.iter().zip(told(&claims, supply)) {
                prop_assert!(told <= claim.limit_bytes);
            }
        }

        #[test]
        fn under_random_demands_neither_what_is_told_nor_what_is_held_ever_exceeds_the_dram(
            start in claims(), dram in 0u64..5000,
            days in prop::collection::vec(prop::collection::vec((0u64..3000, 0u64..300, 0u64..2000), 8), 1..30),
        ) {
            // Nobody holds more than it is told when it begins, and together they fit.
            let mut claims: Vec<Claim> = start.iter().map(|c| Claim { told_bytes: 0, charged_bytes: 0, ..*c }).collect();
            for day in days {
                for (claim, (_, _, target)) in claims.iter_mut().zip(&day) {
                    claim.target_bytes = *target;
                    claim.budget_bytes = claim.charged_bytes.max(*target);
                }
                let supply = supply(dram);
                let wishes = wishes(&claims, supply);
                let lowered = lower(&claims, &wishes);
                for ((claim, told), (asks, gives, _)) in claims.iter_mut().zip(lowered).zip(&day) {
                    claim.told_bytes = told;
                    // Between the two halves of a step programs go on.
                    live(claim, *asks, *gives);
                }
                let raised = raise(&claims, &wishes, supply);
                for ((claim, told), (asks, gives, _)) in claims.iter_mut().zip(raised).zip(&day) {
                    claim.told_bytes = told;
                    live(claim, *asks, *gives);
                }
                prop_assert!(sum(claims.iter().map(|claim| claim.told_bytes)) <= dram);
                prop_assert!(sum(claims.iter().map(|claim| claim.charged_bytes)) <= dram, "{claims:?}");
            }
        }

        #[test]
        fn when_pagers_give_all_are_told_what_they_shall_be_in_the_end(claims in claims(), dram in 0u64..5000) {
            let mut claims = claims;
            for claim in &mut claims {
                claim.budget_bytes = claim.target_bytes;
            }
            for _ in 0..3 {
                let now = told(&claims, supply(dram));
                for (claim, told_bytes) in claims.iter_mut().zip(now) {
                    *claim = Claim { told_bytes, charged_bytes: claim.charged_bytes.min(told_bytes), ..*claim };
                }
            }
            let granted = bases(&claims, dram);
            for (claim, granted) in claims.iter().zip(granted) {
                prop_assert!(claim.told_bytes >= granted, "{claim:?} {granted}");
            }
        }
    }
}
