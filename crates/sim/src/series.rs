//! What was seen of a world: one sample each period, group by group, and what must never be.

use crate::expect::Mean;
use memvisor_policy::State;
use serde::{Serialize, Serializer};

/// All that was seen.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Series {
    /// One for each period, in the order of time.
    pub samples: Vec<Sample>,
    /// Most that was charged at any look, as a part of what there was beside what others use.
    pub fullest_part: f64,
    /// Longest time for which any space was told less than its reservation.
    pub unreserved_ns_max: u64,
    /// Changes of phase that needed more memory.
    pub chases: Vec<Chase>,
    /// Plans that were made.
    pub plans: u64,
}

/// One period.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Sample {
    /// Its end, in nanoseconds.
    pub at_ns: u64,
    /// The state of the host by the last plan.
    pub state: State,
    /// DRAM that was free, in bytes.
    pub free_bytes: u64,
    /// Each group, in the order of the scenario.
    pub groups: Vec<Sums>,
}

/// Sums over the spaces of a group that run.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Sums {
    /// How many run.
    pub spaces: u32,
    /// Granted by the last plan.
    pub target_bytes: Spread,
    /// Charged.
    pub charged_bytes: Spread,
    /// Wanted.
    pub wanted_bytes: Spread,
    /// What the policy was told is in use.
    pub active_bytes: Spread,
    /// What was in use.
    pub used_bytes: Spread,
    /// Touches done, as a part of those with all in DRAM.
    pub throughput: Spread,
    /// Distance of the sampled active part from the true one.
    pub error: Spread,
    /// Faults each second.
    pub faults_per_s: Spread,
}

/// A sum with its least and greatest parts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// How many were added.
    pub count: u32,
    /// The sum.
    pub sum: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl Spread {
    /// Adds a part.
    pub fn add(&mut self, part: f64) {
        self.count += 1;
        self.sum += part;
        self.min = self.min.min(part);
        self.max = self.max.max(part);
    }

    /// The mean; `None` of nothing.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Told {
            mean: f64,
            min: f64,
            max: f64,
        }
        self.mean().map(|mean| Told { mean, min: self.min, max: self.max }).serialize(to)
    }
}

/// A change of phase that needed more memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chase {
    /// The group, by its place.
    pub group: usize,
    /// When.
    pub at_ns: u64,
    /// After which time the working set was in DRAM; `None` if the phase ended before.
    pub took_ns: Option<u64>,
    /// For how long it was watched.
    pub watched_ns: u64,
}

impl Series {
    /// The mean of a figure, over spaces and time; `None` when no space was there.
    pub fn mean(&self, mean: &Mean, of: impl Fn(&Sums) -> Spread) -> Option<f64> {
        let (all, spaces) = self.within(mean).fold((0.0, 0.0), |(all, spaces), sums| {
            let spread = of(sums);
            (all + spread.sum, spaces + f64::from(spread.count))
        });
        (spaces > 0.0).then(|| all / spaces)
    }

    /// The least and the greatest of a figure, over spaces and time; `None` when no space was there.
    pub fn range(&self, mean: &Mean, of: impl Fn(&Sums) -> Spread) -> Option<(f64, f64)> {
        let spreads = self.within(mean).map(of).filter(|spread| spread.count > 0);
        spreads.map(|spread| (spread.min, spread.max)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    fn within(&self, mean: &Mean) -> impl Iterator<Item = &Sums> {
        let times = mean.from_ns + 1..=mean.to_ns;
        self.samples.iter().filter(move |sample| times.contains(&sample.at_ns)).map(|sample| &sample.groups[mean.group])
    }
}
