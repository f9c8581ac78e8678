//! Handing out as a node does it: who shall have less is told at once, who shall have more as memory has really come back.
//!
//! After each step the sum of what all may take or hold is at most what it was before, or fits the supply. Of the node's
//! way only the room to grow is absent, DRAM that nobody was granted: here a space waits for the next plan.

/// A space, as far as handing out asks. All amounts in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// What its pager is told now.
    pub told_bytes: u64,
    /// What it holds now.
    pub charged_bytes: u64,
    /// What the plan grants.
    pub target_bytes: u64,
    /// What the plan would have its pager told.
    pub budget_bytes: u64,
}

/// What each is told now, in their order, when there are `supply_bytes` for all.
pub fn hand_out(claims: &[Claim], supply_bytes: u64) -> Vec<u64> {
    let wishes = wishes(claims, supply_bytes);
    let lowered: Vec<u64> = claims.iter().zip(&wishes).map(|(claim, wish)| claim.told_bytes.min(*wish)).collect();
    let held = claims.iter().zip(&lowered).map(|(claim, told)| claim.charged_bytes.max(*told));
    let free = supply_bytes.saturating_sub(held.sum());
    let ways: Vec<u64> = lowered.iter().zip(&wishes).map(|(told, wish)| wish.saturating_sub(*told)).collect();
    let all = ways.iter().sum::<u64>().max(1);
    let given = free.min(all);
    lowered
        .iter()
        .zip(ways)
        .map(|(told, way)| told + (u128::from(way) * u128::from(given) / u128::from(all)) as u64)
        .collect()
}

/// Budgets if they fit, else targets.
fn wishes(claims: &[Claim], supply_bytes: u64) -> Vec<u64> {
    let fits = claims.iter().map(|claim| claim.budget_bytes).sum::<u64>() <= supply_bytes;
    claims.iter().map(|claim| if fits { claim.budget_bytes } else { claim.target_bytes }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(told_bytes: u64, charged_bytes: u64, target_bytes: u64) -> Claim {
        Claim { told_bytes, charged_bytes, target_bytes, budget_bytes: target_bytes }
    }

    #[test]
    fn nobody_is_told_what_another_still_holds() {
        assert_eq!(hand_out(&[claim(60, 60, 20), claim(40, 40, 80)], 100), [20, 40]);
        assert_eq!(hand_out(&[claim(20, 30, 20), claim(40, 40, 80)], 100), [20, 70]);
        assert_eq!(hand_out(&[claim(20, 20, 20), claim(70, 70, 80)], 100), [20, 80]);
    }

    #[test]
    fn what_came_back_is_divided_by_the_ways() {
        assert_eq!(hand_out(&[claim(0, 0, 90), claim(0, 0, 30)], 60), [45, 15]);
    }

    #[test]
    fn budgets_that_do_not_fit_fall_back_to_targets() {
        let claims = [Claim { budget_bytes: 90, ..claim(90, 90, 40) }, claim(0, 0, 40)];
        assert_eq!(hand_out(&claims, 100), [40, 10]);
        assert_eq!(hand_out(&claims, 130), [90, 40]);
    }
}
