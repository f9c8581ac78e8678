//! A histogram of latencies: 32 steps in each power of two, so that a quantile is right within 3 %.

const STEP_BITS: u32 = 5;
const STEPS: u64 = 1 << STEP_BITS;

/// Counts of latencies in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
    max_ns: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; bucket(u64::MAX) + 1], total: 0, max_ns: 0 }
    }
}

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.total += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// The latency that `share` of all did not exceed, in microseconds; zero of none.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return floor_ns(at + 1).min(self.max_ns) as f64 / 1e3;
            }
        }
        0.0
    }

    /// The largest, in microseconds.
    #[must_use]
    pub fn max_us(&self) -> f64 {
        self.max_ns as f64 / 1e3
    }
}

fn bucket(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let shift = ns.ilog2() - STEP_BITS;
    (u64::from(shift) * STEPS + (ns >> shift)) as usize
}

/// The least latency of a bucket; the largest number for the one after the last.
fn floor_ns(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = (bucket / STEPS - 1) as u32;
    u64::try_from(u128::from(bucket % STEPS + STEPS) << shift).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_in_its_bucket() {
        for ns in (0..64).map(|bit| 1u64 << bit).flat_map(|ns| [ns - 1, ns, ns + ns / 3]) {
            assert!(floor_ns(bucket(ns)) <= ns, "{ns}");
            assert!(ns < floor_ns(bucket(ns) + 1) || floor_ns(bucket(ns) + 1) == u64::MAX, "{ns}");
        }
    }

    #[test]
    fn quantiles_are_right_within_a_step() {
        let mut latencies = Latencies::default();
        (1..=10_000).for_each(|us| latencies.record(us * 1000));
        for (share, us) in [(0.5, 5_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let found = latencies.quantile_us(share);
            assert!((us..us * 1.04).contains(&found), "{share}: {found}");
        }
        assert_eq!(Latencies::default().quantile_us(0.5), 0.0);
    }
}
