//! The sampler of activity without pages: how many of the sampled pages would have been touched, drawn at random.
//!
//! It stands for `memvisor_core::sample`, which needs page words, and gives the same tallies; when a period ends, and what is
//! made of tallies, is production's ([`memvisor_core::sample::Period`], [`memvisor_policy::activity`]). As in the pager,
//! no page is chosen while some must leave.

use crate::trace::Random;
use memvisor_core::sample::{Moment, PAGES_DEFAULT, Period, Tally};

/// Samples of one space.
#[derive(Clone, Debug)]
pub struct Sampling {
    random: Random,
    period_ns: u64,
    current: Period,
    /// For how long the program ran until now.
    run_ns: u64,
    period: u32,
    ended: Tally,
    /// Pages of this period have been chosen.
    is_chosen: bool,
    /// Sampled pages of the working set that were not touched yet.
    warm: u32,
    touched: u32,
    /// Sampled pages beside the working set.
    cold: u32,
}

/// What a space did in a step, as far as the sampler sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The end of the step.
    pub now_ns: u64,
    /// For how long the program ran in it.
    pub ran_ns: u64,
    /// The part of the DRAM of the space that is its working set.
    pub used_part: f64,
    /// The part of that which was touched in the step.
    pub reached_part: f64,
    /// Whether pages can be parked to see whether they are used: none must leave.
    pub may_look: bool,
}

impl Sampling {
    /// A sampler with periods of `period_ns`, of which the first began at some instant within a period before now.
    pub fn new(now_ns: u64, period_ns: u64, mut random: Random) -> Self {
        let before_ns = random.bits() % period_ns;
        let run_ns = before_ns;
        // Time may begin within that period: it is longer by as much.
        let began = Moment { now_ns: now_ns.saturating_sub(before_ns), run_ns: before_ns.saturating_sub(now_ns) };
        Self {
            random,
            period_ns,
            current: Period::begun(began),
            run_ns,
            period: 0,
            ended: Tally::default(),
            is_chosen: true,
            warm: 0,
            touched: 0,
            cold: 0,
        }
    }

    /// Time goes on.
    pub fn step(&mut self, seen: Seen) {
        if self.warm > 0 {
            let touched = self.random.binomial(self.warm, seen.reached_part);
            self.warm -= touched;
            self.touched += touched;
        }
        self.run_ns += seen.ran_ns;
        let at = Moment { now_ns: seen.now_ns, run_ns: self.run_ns };
        if self.current.is_over(at, self.period_ns) {
            self.ended = self.present();
            self.period += 1;
            (self.warm, self.touched, self.cold, self.is_chosen) = (0, 0, 0, false);
        }
        if !self.is_chosen && seen.may_look {
            self.warm = self.random.binomial(PAGES_DEFAULT, seen.used_part);
            self.cold = PAGES_DEFAULT - self.warm;
            self.is_chosen = true;
        }
    }

    /// The working set is another: so much of what was beside it is in it now, and so much of it is beside it now.
    pub fn changed(&mut self, joined_part: f64, left_part: f64) {
        let joined = self.random.binomial(self.cold, joined_part);
        let left = self.random.binomial(self.warm, left_part);
        self.cold = self.cold - joined + left;
        self.warm = self.warm - left + joined;
    }

    /// The last period that ended, and the present one so far.
    pub fn tallies(&self) -> (Tally, Tally) {
        (self.ended, self.present())
    }

    fn present(&self) -> Tally {
        if self.period == 0 {
            return Tally::default();
        }
        let pages = self.warm + self.touched + self.cold;
        Tally { period: self.period, pages: pages as u16, touched: self.touched as u16 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memvisor_core::sample::PERIOD_NS_DEFAULT;

    const SECOND: u64 = 1_000_000_000;

    fn seen(second: u64, used_part: f64, reached_part: f64) -> Seen {
        Seen { now_ns: second * SECOND, ran_ns: SECOND, used_part, reached_part, may_look: true }
    }

    fn touched(used_part: f64, seed: u64) -> Vec<u16> {
        let mut sampling = Sampling::new(0, PERIOD_NS_DEFAULT, Random(seed));
        let mut touched = Vec::new();
        for second in 1..2000u64 {
            let before = sampling.period;
            sampling.step(seen(second, used_part, 0.5));
            if sampling.period > before && before > 0 {
                touched.push(sampling.tallies().0.touched);
            }
        }
        touched
    }

    #[test]
    fn samples_scatter_around_the_truth_as_a_hundred_throws_do() {
        let touched = touched(0.3, 7);
        let mean = touched.iter().map(|touched| f64::from(*touched)).sum::<f64>() / touched.len() as f64;
        assert!((27.0..33.0).contains(&mean), "{mean}");
        assert!(touched.iter().min() < touched.iter().max());
        assert!(touched.iter().all(|touched| (10..55).contains(touched)), "{touched:?}");
    }

    #[test]
    fn all_and_nothing_are_sampled_as_such() {
        assert!(touched(0.0, 1).iter().all(|touched| *touched == 0));
        assert!(touched(1.0, 1).iter().all(|touched| *touched == 100));
    }

    #[test]
    fn pages_that_join_the_working_set_are_touched_in_the_same_period() {
        let mut sampling = Sampling::new(0, PERIOD_NS_DEFAULT, Random(3));
        (1..=31).for_each(|second| sampling.step(seen(second, 0.0, 1.0)));
        sampling.changed(1.0, 0.0);
        sampling.step(seen(32, 1.0, 1.0));
        assert_eq!(sampling.tallies().1.touched, 100);
    }
}
