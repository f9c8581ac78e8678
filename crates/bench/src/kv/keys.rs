//! Which key is next: uniform, Zipf or Gauss.
//!
//! Popular keys are spread over the whole range, as hashing spreads them in a real table; otherwise neighbours in
//! memory would be popular together, and any pager would look better than it is.

use crate::pages::Random;
use std::str::FromStr;

/// Exponent of the Zipf distribution, that of the Yahoo cloud serving benchmark.
const ZIPF_THETA: f64 = 0.99;

/// Standard deviations from the middle to either end of the range: memtier's default, a sixth of the range each.
const GAUSS_DEVIATIONS: f64 = 3.0;

/// A distribution over keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Every key is as likely as any other.
    Uniform,
    /// The n-th most popular key is drawn as often as 1/n.
    Zipf,
    /// A bell over the range of keys.
    Gauss,
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "uniform" => Ok(Self::Uniform),
            "zipf" => Ok(Self::Zipf),
            "gauss" => Ok(Self::Gauss),
            other => Err(format!("{other:?} is no distribution: uniform, zipf or gauss")),
        }
    }
}

/// Draws keys below a bound.
#[derive(Clone, Debug)]
pub struct Keys {
    distribution: Distribution,
    count: u64,
    stride: u64,
    random: Random,
    zipf: Zipf,
}

impl Keys {
    /// Keys `0..count`, drawn by `distribution`, repeatable by `seed`.
    ///
    /// # Panics
    /// When `count` is zero.
    #[must_use]
    pub fn new(distribution: Distribution, count: u64, seed: u64) -> Self {
        assert!(count > 0, "there must be keys to draw");
        Self { distribution, count, stride: stride(count), random: Random::new(seed), zipf: Zipf::new(count) }
    }

    /// The next key.
    pub fn draw(&mut self) -> u64 {
        let rank = match self.distribution {
            Distribution::Uniform => return self.random.below(self.count as usize) as u64,
            Distribution::Zipf => self.zipf.rank(self.random.unit()),
            Distribution::Gauss => self.gauss(),
        };
        // A bijection, as the stride shares no factor with the count.
        ((u128::from(rank) * u128::from(self.stride)) % u128::from(self.count)) as u64
    }

    /// Box and Muller; what falls outside of the range is drawn again.
    fn gauss(&mut self) -> u64 {
        loop {
            let radius = (-2.0 * (1.0 - self.random.unit()).ln()).sqrt();
            let deviation = radius * (std::f64::consts::TAU * self.random.unit()).cos();
            let at = (deviation / GAUSS_DEVIATIONS + 1.0) / 2.0 * self.count as f64;
            if (0.0..self.count as f64).contains(&at) {
                return at as u64;
            }
        }
    }
}

/// Gray et al., "Quickly generating billion-record synthetic databases", 1994.
#[derive(Clone, Debug)]
struct Zipf {
    count: f64,
    alpha: f64,
    eta: f64,
    zeta: f64,
}

impl Zipf {
    fn new(count: u64) -> Self {
        let zeta = |n: u64| (1..=n).map(|rank| (rank as f64).powf(-ZIPF_THETA)).sum::<f64>();
        let (all, two) = (zeta(count), zeta(count.min(2)));
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - ZIPF_THETA)) / (1.0 - two / all);
        Self { count: count as f64, alpha: 1.0 / (1.0 - ZIPF_THETA), eta, zeta: all }
    }

    /// The rank, counted from zero, at `unit` in `0.0..1.0` of the distribution.
    fn rank(&self, unit: f64) -> u64 {
        let scaled = unit * self.zeta;
        if scaled < 1.0 || self.count < 2.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(ZIPF_THETA) {
            return 1;
        }
        let rank = self.count * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count as u64 - 1)
    }
}

/// A number near the golden section of `count` that shares no factor with it.
fn stride(count: u64) -> u64 {
    let golden = (count as f64 * 0.618_033_988_749_895) as u64;
    (golden.max(1)..).find(|&stride| divisor(stride, count) == 1).unwrap_or(1)
}

fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Share of draws that fall on the most drawn `top` of a hundred keys.
    fn share(distribution: Distribution, top: usize) -> f64 {
        let mut keys = Keys::new(distribution, 1000, 1);
        let mut counts = vec![0u32; 1000];
        for _ in 0..100_000 {
            counts[keys.draw() as usize] += 1;
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        f64::from(counts[..top * 10].iter().sum::<u32>()) / 100_000.0
    }

    #[test]
    fn a_third_of_the_keys_is_a_third_of_uniform_and_most_of_skewed_draws() {
        assert!((0.33..0.40).contains(&share(Distribution::Uniform, 33)));
        assert!((0.64..0.72).contains(&share(Distribution::Gauss, 33)), "one deviation to either side");
        assert!((0.82..0.92).contains(&share(Distribution::Zipf, 33)));
    }

    #[test]
    fn every_key_can_be_drawn_and_none_beyond() {
        for distribution in [Distribution::Uniform, Distribution::Zipf, Distribution::Gauss] {
            for count in [1, 2, 3, 10] {
                let mut keys = Keys::new(distribution, count, 1);
                let drawn: std::collections::BTreeSet<u64> = (0..10_000).map(|_| keys.draw()).collect();
                assert_eq!(drawn, (0..count).collect(), "{distribution:?} {count}");
            }
        }
    }
}
