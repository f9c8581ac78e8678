//! A histogram of durations in logarithmic buckets, kept in shared words.
//!
//! Each power of two has four buckets, so a value is known to within 19 %. 128 buckets reach from 1 ns to 4 s.

use std::sync::atomic::{AtomicU64, Ordering};

/// Words that a histogram takes.
pub const HISTOGRAM_WORDS: usize = 128;

/// A view of [`HISTOGRAM_WORDS`] shared words as counts of durations in nanoseconds.
#[derive(Clone, Copy)]
pub struct Histogram<'a>(pub &'a [AtomicU64]);

/// The bucket that counts `ns`.
fn bucket_of(ns: u64) -> usize {
    let ns = ns.max(4);
    let power = 63 - ns.leading_zeros() as usize;
    let quarter = (ns >> (power - 2) & 3) as usize;
    ((power - 2) * 4 + quarter).min(HISTOGRAM_WORDS - 1)
}

/// The largest duration that bucket `at` counts, in nanoseconds.
pub fn upper_ns(at: usize) -> u64 {
    let (power, quarter) = (at / 4 + 2, at as u64 % 4);
    ((4 + quarter + 1) << (power - 2)) - 1
}

impl Histogram<'_> {
    /// Counts one duration.
    pub fn count(&self, ns: u64) {
        self.0[bucket_of(ns)].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds the counts of this histogram to `sums`.
    pub fn add_to(&self, sums: &mut [u64; HISTOGRAM_WORDS]) {
        for (sum, word) in sums.iter_mut().zip(self.0) {
            *sum += word.load(Ordering::Relaxed);
        }
    }
}

/// The duration in nanoseconds that `share` (0.0..=1.0) of the counted ones do not exceed; 0 when none was counted.
pub fn quantile_ns(counts: &[u64; HISTOGRAM_WORDS], share: f64) -> u64 {
    let total: u64 = counts.iter().sum();
    let wanted = ((total as f64 * share).ceil() as u64).max(1);
    let mut seen = 0;
    for (at, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= wanted {
            return upper_ns(at);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_counts_exactly_the_durations_up_to_its_bound() {
        for at in 0..HISTOGRAM_WORDS - 1 {
            assert_eq!(bucket_of(upper_ns(at)), at);
            assert_eq!(bucket_of(upper_ns(at) + 1), at + 1);
        }
    }

    #[test]
    fn a_quantile_is_within_a_fifth_of_the_true_one() {
        let words: Vec<AtomicU64> = (0..HISTOGRAM_WORDS).map(|_| AtomicU64::new(0)).collect();
        let histogram = Histogram(&words);
        (1..=10_000u64).for_each(|ns| histogram.count(ns));
        let mut sums = [0; HISTOGRAM_WORDS];
        histogram.add_to(&mut sums);
        for (share, truth) in [(0.5, 5_000.0), (0.99, 9_900.0)] {
            let ratio = quantile_ns(&sums, share) as f64 / truth;
            assert!((1.0..1.25).contains(&ratio), "{ratio}");
        }
    }
}
