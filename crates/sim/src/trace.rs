//! Traces of page touches, made from a seed.

/// A sequence of pages in the order in which they are touched.
pub type Trace = Vec<u32>;

/// A small generator of random numbers (SplitMix64), the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number in `0..below`.
    pub fn below(&mut self, below: u32) -> u32 {
        (((self.bits() >> 32) * u64::from(below)) >> 32) as u32
    }

    /// How many of `throws` succeed, each with this probability.
    pub fn binomial(&mut self, throws: u32, probability: f64) -> u32 {
        if probability <= 0.0 {
            return 0;
        }
        if probability >= 1.0 {
            return throws;
        }
        (0..throws).filter(|_| self.unit() < probability).count() as u32
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Where the hot things of a skewed trace lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Each page on its own, anywhere: small objects.
    Scattered,
    /// By whole runs of neighbours: objects of 64 KiB.
    Runs,
    /// The hottest first: as an allocator lays out what is made in order of use.
    Sorted,
}

/// `touches` of `pages` pages with Zipf's law: the k-th hottest is touched in proportion to `k` to the minus `skew`.
pub fn zipf(pages: u32, skew: f64, placement: Placement, touches: usize, seed: u64) -> Trace {
    let mut random = Random(seed);
    let place = shuffled(pages, placement, &mut random);
    let mut sums = Vec::with_capacity(pages as usize);
    let mut sum = 0.0;
    for rank in 1..=pages {
        // The machine's own `powf` may differ from another's in the last bit.
        sum += libm::pow(f64::from(rank), -skew);
        sums.push(sum);
    }
    let rank = |at: f64| sums.partition_point(|&sum| sum < at).min(pages as usize - 1);
    (0..touches).map(|_| place[rank(random.unit() * sum)]).collect()
}

/// A page for each rank.
fn shuffled(pages: u32, placement: Placement, random: &mut Random) -> Vec<u32> {
    let run = match placement {
        Placement::Scattered => 1,
        Placement::Runs => memvisor_core::RUN_PAGES as u32,
        Placement::Sorted => return (0..pages).collect(),
    };
    let mut runs: Vec<u32> = (0..pages.div_ceil(run)).collect();
    for at in (1..runs.len()).rev() {
        runs.swap(at, random.below(at as u32 + 1) as usize);
    }
    runs.into_iter().flat_map(|at| at * run..(at * run + run).min(pages)).collect()
}

/// `touches` of `pages` pages, all alike.
pub fn uniform(pages: u32, touches: usize, seed: u64) -> Trace {
    let mut random = Random(seed);
    (0..touches).map(|_| random.below(pages)).collect()
}

/// The pages one after the other, round and round.
pub fn round(pages: u32, touches: usize) -> Trace {
    (0..pages).cycle().take(touches).collect()
}

/// A hot set, touched all alike, and beside it a scan over `scanned` other pages, each touched once in a round; one
/// touch in `scan_every` is of the scan.
pub fn scan_and_hot(hot: u32, scanned: u32, scan_every: u32, touches: usize, seed: u64) -> Trace {
    let mut random = Random(seed);
    let mut scan = (hot..hot + scanned).cycle();
    let mut touch = || match random.below(scan_every) {
        0 => scan.next().expect("a cycle has no end"),
        _ => random.below(hot),
    };
    (0..touches).map(|_| touch()).collect()
}

/// Skewed touches of `pages` pages, and after each of `phases` equal parts of other pages.
pub fn phases(pages: u32, phases: u32, touches: usize, seed: u64) -> Trace {
    let part = touches / phases as usize;
    let of = |phase: u32| zipf(pages, 0.8, Placement::Scattered, part, seed + u64::from(phase));
    (0..phases).flat_map(|phase| of(phase).into_iter().map(move |page| phase * pages + page)).collect()
}

/// A front that moves over `pages` pages, round after round; the touches are among the `near` last that it reached,
/// `repeats` for each: a program that makes, uses for a while and drops.
pub fn front(pages: u32, near: u32, repeats: u32, touches: usize, seed: u64) -> Trace {
    let mut random = Random(seed);
    let mut touch = |at: usize| {
        let front = (at as u32 / repeats) % pages;
        (front + pages - random.below(near)) % pages
    };
    (0..touches).map(&mut touch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_the_same_for_the_same_seed() {
        assert_eq!(zipf(1000, 0.9, Placement::Runs, 5000, 7), zipf(1000, 0.9, Placement::Runs, 5000, 7));
        assert_ne!(uniform(1000, 5000, 7), uniform(1000, 5000, 8));
    }

    #[test]
    fn a_skewed_trace_touches_a_tenth_of_the_pages_most_of_the_time() {
        let trace = zipf(10_000, 1.0, Placement::Sorted, 100_000, 1);
        let hot = trace.iter().filter(|&&page| page < 1000).count();
        assert!((70_000..82_000).contains(&hot), "{hot}");
    }

    #[test]
    fn no_page_is_beyond_the_last() {
        for placement in [Placement::Scattered, Placement::Runs, Placement::Sorted] {
            assert!(zipf(1003, 0.5, placement, 20_000, 3).into_iter().all(|page| page < 1003));
        }
        assert!(front(500, 40, 3, 10_000, 1).into_iter().all(|page| page < 500));
    }
}
