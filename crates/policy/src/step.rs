//! From where targets are to where they shall be: changes too small are not made, large ones not at once.
//!
//! Three things hold after each step: every target is within its bounds, all together are within the capacity, and with
//! constant goals the steps end in a point from which nothing moves.
//!
//! 1. *Dead band.* A target that would move by little stays where it is: each is moved by the jitter of everybody's
//!    estimates. If not all that stay fit, those that should shrink do. If there is room to spare, those that lack only little of
//!    their most get it, so that a space that fits is not kept a little short of what it wants.
//! 2. *Rate.* Targets fall by a portion. Those that rise divide what was given, each by the same part of its way.
//!    When even so there is not enough, those that fall hurry: what others are promised comes before the rate.

use crate::Step;

/// What becomes of one target, all in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// The target of now.
    pub from: u64,
    /// Where it shall be, within the bounds.
    pub goal: u64,
    /// The bounds.
    pub least: u64,
    /// At least `least`.
    pub most: u64,
}

/// How calmly targets move.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pace {
    /// Changes by less than this part of a target are not made.
    pub dead_band: f64,
    /// No target falls by more, in bytes, but to make room for a promise.
    pub fall_bytes: u64,
}

/// The targets after one step, with how they came from the goals. The goals, and so the targets, fit `capacity`.
pub fn step(ways: &[Way], capacity: u64, pace: Pace) -> Vec<(u64, Step)> {
    let aims = aims(ways, capacity, pace.dead_band);
    let targets = targets(ways, &aims, capacity, pace.fall_bytes);
    let why = |way: &Way, target: u64| match target.cmp(&way.goal) {
        std::cmp::Ordering::Equal => Step::Whole,
        _ if way.rests(pace.dead_band) && target == way.from => Step::DeadBand,
        std::cmp::Ordering::Greater => Step::Rate,
        std::cmp::Ordering::Less => Step::Waiting,
    };
    ways.iter().zip(targets).map(|(way, target)| (target, why(way, target))).collect()
}

impl Way {
    /// Whether the change is too small to be made; what is out of bounds is never.
    fn rests(&self, dead_band: f64) -> bool {
        let small = self.goal.abs_diff(self.from) as f64 <= self.from as f64 * dead_band;
        small && (self.least..=self.most).contains(&self.from)
    }

    /// Where the target is after it fell by no more than a portion; a target that shall rise has not moved yet. Bounds hold
    /// at once.
    fn fallen(&self, aim: u64, fall_bytes: u64) -> u64 {
        let first = if aim < self.from { self.from.saturating_sub(fall_bytes).max(aim) } else { self.from };
        first.clamp(self.least, self.most)
    }
}

/// The goals, but for those targets that stay. All fit the capacity.
fn aims(ways: &[Way], capacity: u64, dead_band: f64) -> Vec<u64> {
    let aim = |way: &Way| if way.rests(dead_band) { way.from } else { way.goal };
    let aims: Vec<u64> = ways.iter().map(aim).collect();
    let held = sum(aims.iter().copied());
    if held > capacity {
        return ways.iter().zip(aims).map(|(way, aim)| aim.min(way.goal)).collect();
    }
    let missing = |way: &Way, aim: u64| if way.goal == way.most { way.goal.saturating_sub(aim) } else { 0 };
    let all_missing = sum(ways.iter().zip(&aims).map(|(way, aim)| missing(way, *aim)));
    let spare = Part::of(capacity - held, all_missing);
    ways.iter().zip(aims).map(|(way, aim)| aim + spare.floor(missing(way, aim))).collect()
}

/// The targets on their way to the aims.
fn targets(ways: &[Way], aims: &[u64], capacity: u64, fall_bytes: u64) -> Vec<u64> {
    let fallen: Vec<u64> = ways.iter().zip(aims).map(|(way, aim)| way.fallen(*aim, fall_bytes)).collect();
    let pairs = || aims.iter().copied().zip(fallen.iter().copied());
    let held = sum(fallen.iter().copied());
    if held <= capacity {
        let missing = sum(pairs().map(|(aim, fallen)| aim.saturating_sub(fallen)));
        let spare = Part::of(capacity - held, missing);
        return pairs().map(|(aim, fallen)| fallen + spare.floor(aim.saturating_sub(fallen))).collect();
    }
    let over = sum(pairs().map(|(aim, fallen)| fallen.saturating_sub(aim)));
    let hurry = Part::of(held - capacity, over);
    pairs().map(|(aim, fallen)| fallen - hurry.ceil(fallen.saturating_sub(aim))).collect()
}

fn sum(bytes: impl IntoIterator<Item = u64>) -> u64 {
    bytes.into_iter().fold(0, u64::saturating_add)
}

/// A part of a whole, at most all of it.
#[derive(Clone, Copy)]
struct Part {
    some: u128,
    all: u128,
}

impl Part {
    fn of(some: u64, all: u64) -> Self {
        Self { some: some.min(all).into(), all: all.max(1).into() }
    }

    fn floor(self, bytes: u64) -> u64 {
        (u128::from(bytes) * self.some / self.all) as u64
    }

    fn ceil(self, bytes: u64) -> u64 {
        (u128::from(bytes) * self.some).div_ceil(self.all) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACE: Pace = Pace { dead_band: 0.01, fall_bytes: 100 };

    fn way(from: u64, goal: u64) -> Way {
        Way { from, goal, least: 0, most: 1 << 50 }
    }

    #[test]
    fn a_change_below_the_dead_band_is_not_made() {
        assert_eq!(step(&[way(1000, 1010), way(1000, 990)], 2000, PACE), [(1000, Step::DeadBand); 2]);
        assert_eq!(step(&[way(1000, 1011), way(1000, 989)], 2000, PACE), [(1011, Step::Whole), (989, Step::Whole)]);
    }

    #[test]
    fn what_is_out_of_bounds_moves_however_little() {
        let below_its_least = Way { least: 1001, ..way(1000, 1001) };
        assert_eq!(step(&[below_its_least], 2000, PACE), [(1001, Step::Whole)]);
        let above_its_most = Way { most: 999, ..way(1000, 999) };
        assert_eq!(step(&[above_its_most], 2000, PACE), [(999, Step::Whole)]);
    }

    #[test]
    fn who_lacks_little_of_its_most_gets_it_from_what_is_spare_and_from_nobody() {
        let ways = [Way { most: 1008, ..way(1000, 1008) }, way(1000, 992)];
        assert_eq!(step(&ways, 2010, PACE), [(1008, Step::Whole), (1000, Step::DeadBand)]);
        assert_eq!(step(&ways, 2005, PACE), [(1005, Step::Waiting), (1000, Step::DeadBand)]);
        assert_eq!(step(&ways, 2000, PACE), [(1000, Step::DeadBand); 2]);
    }

    #[test]
    fn when_not_all_that_would_stay_fit_those_that_should_shrink_do() {
        let steps = step(&[way(1000, 995), way(1000, 1001), way(500, 504)], 2500, PACE);
        assert_eq!(steps, [(1000, Step::DeadBand), (1000, Step::DeadBand), (500, Step::DeadBand)]);
        let steps = step(&[way(1000, 995), way(1000, 1001)], 1999, PACE);
        assert_eq!(steps, [(995, Step::Whole), (1000, Step::DeadBand)]);
    }

    #[test]
    fn targets_fall_by_a_portion_and_others_divide_what_was_given() {
        let steps = step(&[way(1000, 0), way(0, 750), way(0, 250)], 1000, PACE);
        assert_eq!(steps, [(900, Step::Rate), (75, Step::Waiting), (25, Step::Waiting)]);
    }

    #[test]
    fn a_promise_comes_before_the_rate() {
        let promised = Way { least: 600, ..way(0, 600) };
        assert_eq!(step(&[way(1000, 400), promised], 1000, PACE), [(400, Step::Whole), (600, Step::Whole)]);
    }

    #[test]
    fn when_the_host_shrinks_targets_hurry_each_by_the_same_part_of_its_way() {
        // They would fall by 100 each, to 2800; half of what is left of their ways makes up for the rest.
        let steps = step(&[way(1000, 500), way(2000, 1000)], 2150, PACE);
        assert_eq!(steps, [(700, Step::Rate), (1450, Step::Rate)]);
    }

    fn ways() -> impl Strategy<Value = (Vec<Way>, u64)> {
        let rest = prop_oneof![Just(0), 0u64..5000];
        let from = prop_oneof![(0u64..10_000).prop_map(Err), (0u64..40).prop_map(Ok)];
        let one = (from, 0u64..5000, 0u64..5000, rest).prop_map(|(from, least, more, rest)| {
            let goal = least + more;
            // Anywhere, or near the goal.
            let from = from.map_or_else(|from| from, |near| (goal + near).saturating_sub(20));
            Way { from, goal, least, most: goal + rest }
        });
        (prop::collection::vec(one, 1..12), 0u64..3000).prop_map(|(ways, spare)| {
            let goals: u64 = ways.iter().map(|way| way.goal).sum();
            (ways, goals + spare)
        })
    }

    proptest! {
        #[test]
        fn each_step_holds_all_bounds_and_the_capacity((ways, capacity) in ways(), fall_bytes in 0u64..1000) {
            let targets = step(&ways, capacity, Pace { fall_bytes, ..PACE });
            prop_assert!(targets.iter().map(|step| step.0).sum::<u64>() <= capacity);
            for (way, (target, _)) in ways.iter().zip(targets) {
                prop_assert!((way.least..=way.most).contains(&target));
                let (low, high) = (way.from.min(way.goal), way.from.max(way.goal));
                let kept = way.from.clamp(way.least, way.most);
                prop_assert!((low.min(kept)..=high.max(kept)).contains(&target), "away from its goal");
            }
        }

        #[test]
        fn steps_end_where_nothing_moves((ways, capacity) in ways(), fall_bytes in 1u64..1000) {
            let (mut ways, mut rounds) = (ways, 0);
            loop {
                let steps = step(&ways, capacity, Pace { fall_bytes, ..PACE });
                if ways.iter().zip(&steps).all(|(way, step)| way.from == step.0) {
                    prop_assert!(steps.iter().all(|step| matches!(step.1, Step::Whole | Step::DeadBand)), "{steps:?}");
                    break;
                }
                ways.iter_mut().zip(steps).for_each(|(way, step)| way.from = step.0);
                rounds += 1;
                prop_assert!(rounds <= 12 * 10_000 / fall_bytes + 10);
            }
        }
    }
}
