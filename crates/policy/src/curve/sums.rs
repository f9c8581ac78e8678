//! What was recorded over some time, as numbers that can fade.

use memvisor_core::curve::{BUCKETS, GROUP_BUCKETS, GROUPS, ONE, Recorded, TIMES};

/// Uses by distance, and the seconds in which they happened.
#[derive(Clone, PartialEq, Debug)]
pub struct Sums {
    pub(super) expected: [f64; BUCKETS],
    pub(super) nearest: [f64; BUCKETS],
    pub(super) farthest: [f64; BUCKETS],
    pub(super) groups: [[f64; GROUP_BUCKETS]; GROUPS],
    /// Uses by how long their page was awaited.
    pub(super) waits: [f64; TIMES],
    /// Those of them that began at a random moment.
    pub(super) probed_waits: [f64; TIMES],
    /// For how long pages were unseen.
    pub(super) unseen_seconds: f64,
    pub(super) first: f64,
    pub(super) unplaced: f64,
    pub(super) seconds: f64,
    /// Pages used in an unseen stretch, at the time of the last look at which there was one.
    pub(super) unseen_pages: u64,
    /// The part of pages that is watched, at the last look.
    pub(super) rate: f64,
}

impl Default for Sums {
    fn default() -> Self {
        Self::of(&Recorded::default(), 0.0)
    }
}

impl Sums {
    /// What was recorded in `seconds`: the difference between two looks at a member's words, [`Recorded::since`].
    pub fn of(recorded: &Recorded, seconds: f64) -> Self {
        let uses = |weight: u64| weight as f64 / ONE as f64;
        let spread = |weights: &[u64]| std::array::from_fn(|at| uses(weights[at]));
        let spread_times = |weights: &[u64]| std::array::from_fn(|at| uses(weights[at]));
        Self {
            expected: spread(recorded.expected()),
            nearest: spread(recorded.nearest()),
            farthest: spread(recorded.farthest()),
            groups: std::array::from_fn(|group| std::array::from_fn(|at| uses(recorded.group(group)[at]))),
            waits: spread_times(recorded.waits()),
            probed_waits: spread_times(recorded.probed_waits()),
            unseen_seconds: uses(recorded.unseen_ms()) / 1e3,
            first: uses(recorded.first()),
            unplaced: uses(recorded.unplaced()),
            seconds: seconds.max(0.0),
            unseen_pages: recorded.unseen_pages(),
            rate: recorded.rate(),
        }
    }

    /// Makes all of it count `factor` (0.0..=1.0) times as much, the seconds as well.
    pub fn fade(&mut self, factor: f64) {
        let sums = [&mut self.expected, &mut self.nearest, &mut self.farthest].into_iter().flatten();
        let times = [&mut self.waits, &mut self.probed_waits].into_iter().flatten();
        let scalars = [&mut self.first, &mut self.unplaced, &mut self.seconds, &mut self.unseen_seconds];
        sums.chain(times).chain(self.groups.iter_mut().flatten()).chain(scalars).for_each(|sum| *sum *= factor);
    }

    /// Adds what was recorded later.
    pub fn add(&mut self, later: &Self) {
        let add = |sums: &mut [f64], more: &[f64]| sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        add(&mut self.expected, &later.expected);
        add(&mut self.nearest, &later.nearest);
        add(&mut self.farthest, &later.farthest);
        add(&mut self.waits, &later.waits);
        add(&mut self.probed_waits, &later.probed_waits);
        self.groups.iter_mut().zip(&later.groups).for_each(|(sums, more)| add(sums, more));
        self.first += later.first;
        self.unplaced += later.unplaced;
        self.seconds += later.seconds;
        self.unseen_seconds += later.unseen_seconds;
        self.rate = later.rate;
        if later.unseen_pages > 0 {
            self.unseen_pages = later.unseen_pages;
        }
    }
}
