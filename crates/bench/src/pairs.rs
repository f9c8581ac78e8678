//! The interleaving loop: A B A B …, and the ratio within each round.
//!
//! The machine drifts: its host lends and takes CPU and memory from hour to hour. Two sides of one round stand in
//! the same weather, so only ratios within a round are looked at, and of those the median.

use crate::stats::Spread;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What one run of one side gave: named numbers, of which less is better, and whatever else is worth keeping.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Named costs, such as `wall_us_per_op`.
    pub costs: BTreeMap<&'static str, f64>,
    /// Details for the JSON file.
    pub details: Value,
}

impl Sample {
    /// A sample of these costs, with no details.
    #[must_use]
    pub fn of(costs: impl IntoIterator<Item = (&'static str, f64)>) -> Self {
        Self { costs: costs.into_iter().collect(), details: Value::Null }
    }
}

/// One of the things that are compared.
pub struct Side<'a> {
    /// How tables and plots call it.
    pub name: String,
    stumbles_max: usize,
    run: Box<dyn FnMut() -> Result<Sample, String> + 'a>,
}

impl<'a> Side<'a> {
    /// A side whose one run is `run`.
    pub fn new(name: impl Into<String>, run: impl FnMut() -> Result<Sample, String> + 'a) -> Self {
        Self { name: name.into(), stumbles_max: 0, run: Box::new(run) }
    }
}

impl Side<'_> {
    /// A side whose run may fail now and then and is then run again: a peer that the kernel kills for want of memory is
    /// still a peer. How often it happened is told beside its figures.
    #[must_use]
    pub fn forgiven(self) -> Self {
        Self { stumbles_max: STUMBLES_MAX, ..self }
    }

    /// One sample, or the error that was not to be forgiven.
    fn sample(&mut self, stumbles: &mut Vec<String>) -> Result<Sample, String> {
        loop {
            match (self.run)() {
                Ok(sample) => return Ok(sample),
                Err(error) if stumbles.len() < self.stumbles_max => stumbles.push(error),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Failures of one series after which a peer is no peer any more.
const STUMBLES_MAX: usize = 3;

/// The samples of one side, one a round; and why it was given up, if it was.
#[derive(Clone, Debug)]
pub struct Track {
    /// How tables and plots call it.
    pub name: String,
    /// By round. Shorter than those of other sides if this one failed.
    pub samples: Vec<Sample>,
    /// Errors that were forgiven.
    pub stumbles: Vec<String>,
    /// The error that ended this side.
    pub failure: Option<String>,
}

/// All samples of one comparison.
#[derive(Clone, Debug)]
pub struct Series {
    /// What was compared.
    pub name: String,
    /// The sides in the order in which they ran within a round.
    pub tracks: Vec<Track>,
}

/// Runs each side once a round, in their order, for `rounds` rounds. A side that fails is not run again.
///
/// `told` is called after each round with its number, counted from one.
pub fn interleave(name: &str, mut sides: Vec<Side<'_>>, rounds: usize, mut told: impl FnMut(usize, &Series)) -> Series {
    let tracks = sides
        .iter()
        .map(|side| Track { name: side.name.clone(), samples: Vec::new(), stumbles: Vec::new(), failure: None })
        .collect();
    let mut series = Series { name: name.to_owned(), tracks };
    for round in 1..=rounds {
        for (side, track) in sides.iter_mut().zip(&mut series.tracks) {
            if track.failure.is_some() {
                continue;
            }
            match side.sample(&mut track.stumbles) {
                Ok(sample) => track.samples.push(sample),
                Err(error) => {
                    eprintln!("{name}: {} failed in round {round}: {error}", track.name);
                    track.failure = Some(error);
                }
            }
        }
        told(round, &series);
    }
    series
}

impl Series {
    /// The track called `name`.
    #[must_use]
    pub fn track(&self, name: &str) -> Option<&Track> {
        self.tracks.iter().find(|track| track.name == name)
    }

    /// Spread of one cost of one side.
    #[must_use]
    pub fn spread(&self, side: &str, cost: &str) -> Option<Spread> {
        Spread::of(self.track(side)?.samples.iter().filter_map(|sample| sample.costs.get(cost).copied()))
    }

    /// The ratios `ours / peer` of `cost`, one for each round in which both ran.
    #[must_use]
    pub fn ratios(&self, ours: &str, peer: &str, cost: &str) -> Vec<f64> {
        let (Some(ours), Some(peer)) = (self.track(ours), self.track(peer)) else {
            return Vec::new();
        };
        let pairs = ours.samples.iter().zip(&peer.samples);
        pairs.filter_map(|(ours, peer)| Some(ours.costs.get(cost)? / peer.costs.get(cost)?)).collect()
    }

    /// The side among `names` whose median `cost` is least.
    #[must_use]
    pub fn best_of<'n>(&self, names: &[&'n str], cost: &str) -> Option<&'n str> {
        let costed = names.iter().filter_map(|&name| Some((name, self.spread(name, cost)?.median)));
        costed.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name)
    }

    /// Every sample of every side.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let sides: Map<String, Value> = self.tracks.iter().map(|track| (track.name.clone(), track.to_json())).collect();
        serde_json::json!({ "name": self.name, "sides": sides })
    }
}

impl Track {
    fn to_json(&self) -> Value {
        let names: std::collections::BTreeSet<_> = self.samples.iter().flat_map(|sample| sample.costs.keys()).collect();
        let spreads: Map<String, Value> = names
            .into_iter()
            .filter_map(|&name| {
                let values = self.samples.iter().filter_map(|sample| sample.costs.get(name).copied());
                Some((name.to_owned(), Spread::of(values)?.to_json()))
            })
            .collect();
        let samples: Vec<Value> = self
            .samples
            .iter()
            .map(|sample| serde_json::json!({ "costs": sample.costs, "details": sample.details }))
            .collect();
        serde_json::json!({ "spread": spreads, "samples": samples, "stumbles": self.stumbles, "failure": self.failure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn sides_run_in_turn_and_a_failed_side_is_not_run_again() {
        let order = RefCell::new(String::new());
        let sides = vec![
            Side::new("a", || {
                order.borrow_mut().push('a');
                Ok(Sample::of([("cost", 1.0)]))
            }),
            Side::new("b", || {
                order.borrow_mut().push('b');
                if order.borrow().len() > 2 { Err("broken".into()) } else { Ok(Sample::of([("cost", 2.0)])) }
            }),
        ];
        let series = interleave("test", sides, 3, |_, _| {});
        assert_eq!(*order.borrow(), "ababa");
        assert_eq!(series.ratios("a", "b", "cost"), [0.5], "only the rounds in which both ran");
        assert_eq!(series.track("b").and_then(|track| track.failure.as_deref()), Some("broken"));
    }

    #[test]
    fn a_forgiven_side_runs_again_but_not_for_ever() {
        let mut runs = 0;
        let stumbling = Side::new("peer", || {
            runs += 1;
            if runs % 2 == 1 { Err("killed".into()) } else { Ok(Sample::of([("cost", 1.0)])) }
        });
        let series = interleave("test", vec![stumbling.forgiven()], 5, |_, _| {});
        let track = series.track("peer").expect("the side ran");
        assert_eq!((track.samples.len(), track.stumbles.len()), (3, STUMBLES_MAX));
        assert_eq!(track.failure.as_deref(), Some("killed"));
    }

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        let mut weather = [1.0, 10.0].into_iter();
        let now = RefCell::new(1.0);
        let sides = vec![
            Side::new("ours", || {
                *now.borrow_mut() = weather.next().unwrap_or(1.0);
                Ok(Sample::of([("cost", 3.0 * *now.borrow())]))
            }),
            Side::new("peer", || Ok(Sample::of([("cost", 2.0 * *now.borrow())]))),
        ];
        let series = interleave("test", sides, 2, |_, _| {});
        assert_eq!(series.ratios("ours", "peer", "cost"), [1.5, 1.5]);
    }

    #[test]
    fn the_best_of_several_peers_is_the_one_with_the_least_median() {
        let sides = vec![
            Side::new("slow", || Ok(Sample::of([("cost", 2.0)]))),
            Side::new("fast", || Ok(Sample::of([("cost", 1.0)]))),
        ];
        let series = interleave("test", sides, 1, |_, _| {});
        assert_eq!(series.best_of(&["slow", "fast", "absent"], "cost"), Some("fast"));
    }
}
