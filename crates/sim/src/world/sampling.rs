//! The sampler of activity without pages: how many of the sampled pages would have been touched, drawn at random.
//!
//! It stands for `memvisor_core::sample`, which needs page words, and gives the same tallies; what is made of them is
//! production's ([`memvisor_policy::activity`]). A period is 30 s of the world's time; in production the time in which a
//! program rests does not count.

use crate::trace::Random;
use memvisor_core::sample::{PAGES_DEFAULT, PERIOD_NS_DEFAULT, Tally};

/// Samples of one space.
#[derive(Clone, Debug)]
pub struct Sampling {
    random: Random,
    ends_ns: u64,
    period: u32,
    ended: Tally,
    /// Sampled pages of the working set that were not touched yet.
    warm: u32,
    touched: u32,
    /// Sampled pages beside the working set.
    cold: u32,
}

impl Sampling {
    /// A sampler whose first period begins at some instant within a period from now.
    pub fn new(now_ns: u64, mut random: Random) -> Self {
        let ends_ns = now_ns + random.bits() % PERIOD_NS_DEFAULT;
        Self { random, ends_ns, period: 0, ended: Tally::default(), warm: 0, touched: 0, cold: 0 }
    }

    /// Time goes on: `used_part` of the DRAM of the space is its working set, of which `reached_part` was touched since.
    pub fn step(&mut self, now_ns: u64, used_part: f64, reached_part: f64) {
        if self.warm > 0 {
            let touched = self.random.binomial(self.warm, reached_part);
            self.warm -= touched;
            self.touched += touched;
        }
        if now_ns >= self.ends_ns {
            self.ended = self.present();
            self.period += 1;
            self.ends_ns += PERIOD_NS_DEFAULT;
            self.touched = 0;
            self.warm = self.random.binomial(PAGES_DEFAULT, used_part);
            self.cold = PAGES_DEFAULT - self.warm;
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
        Tally { period: self.period, pages: PAGES_DEFAULT as u16, touched: self.touched as u16 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched(used_part: f64, seed: u64) -> Vec<u16> {
        let mut sampling = Sampling::new(0, Random(seed));
        let mut touched = Vec::new();
        for second in 1..2000u64 {
            let before = sampling.period;
            sampling.step(second * 1_000_000_000, used_part, 0.5);
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
        let mut sampling = Sampling::new(0, Random(3));
        sampling.step(31_000_000_000, 0.0, 1.0);
        sampling.changed(1.0, 0.0);
        sampling.step(32_000_000_000, 1.0, 1.0);
        assert_eq!(sampling.tallies().1.touched, 100);
    }
}
