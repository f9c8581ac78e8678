//! What is expected of a scenario, and whether it came true.
//!
//! | expectation | came true when |
//! | --- | --- |
//! | `figure` of a group | its mean over time and spaces, or the ratio of it to another such mean, is within bounds. Amounts without `over` are parts of the host's DRAM at the start; `throughput` is a part of that with all in DRAM; `error` is how far the sampled active part is from the true one |
//! | `always = "host"` | at no look was more charged than there is beside what others use |
//! | `always = "reservations"` | no space was told less than its reservation for longer than [`RESERVED_WITHIN_NS`] |
//! | `follows`, `within` | after each change of phase that needs more, [`FOLLOWED_PART`] of the working set was in DRAM in time |

use crate::scenario::units::told;
use crate::scenario::{Group, Scenario};
use crate::series::{Chase, Series, Spread, Sums};
use serde::{Deserialize, Serialize};

/// So much of a working set in DRAM is as good as all.
pub const FOLLOWED_PART: f64 = 0.9;
/// A reservation of a space that is new, or that was changed, is there after so long: what others hold must come back first.
pub const RESERVED_WITHIN_NS: u64 = 5_000_000_000;

/// What is expected.
#[derive(Clone, PartialEq, Debug)]
pub enum Expectation {
    /// A mean, or the ratio of two, is within bounds.
    Figure {
        /// Of what.
        figure: Figure,
        /// Where and when.
        of: Mean,
        /// Divided by this.
        over: Option<(Figure, Mean)>,
        /// The bounds.
        bounds: Bounds,
    },
    /// Something holds at every look.
    Always(Always),
    /// The DRAM of a group follows its working set.
    Follows {
        /// Which group, by its place.
        group: usize,
        /// In which time.
        within_ns: u64,
    },
}

/// What is measured of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// What the plan grants.
    Target,
    /// What is charged.
    Charged,
    /// What is wanted.
    Wanted,
    /// What the policy was told is in use.
    Active,
    /// Touches done, as a part of those with all in DRAM.
    Throughput,
    /// Distance of the sampled active part from the true one.
    Error,
}

/// The mean over the spaces of a group and a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mean {
    /// Which group, by its place.
    pub group: usize,
    /// From when.
    pub from_ns: u64,
    /// Until when.
    pub to_ns: u64,
}

/// What a number may be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds {
    /// No less.
    pub at_least: Option<f64>,
    /// No more.
    pub at_most: Option<f64>,
}

/// What holds at every look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Always {
    /// What is charged fits the host.
    Host,
    /// Reservations are kept.
    Reservations,
}

/// What came of an expectation.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Finding {
    /// Whether it came true.
    pub holds: bool,
    /// The figure; `None` when there is none, as when nobody was there.
    pub figure: Option<f64>,
    /// The sentence.
    pub text: String,
}

impl Scenario {
    /// What came of each expectation.
    pub fn judge(&self, series: &Series) -> Vec<Finding> {
        self.expectations.iter().map(|expectation| expectation.judge(self, series)).collect()
    }
}

impl Expectation {
    fn judge(&self, scenario: &Scenario, series: &Series) -> Finding {
        match self {
            Self::Figure { figure, of, over, bounds } => judge_figure(scenario, series, *figure, of, over, bounds),
            Self::Always(Always::Host) => {
                let part = series.fullest_part;
                let text = format!("at no look more charged than there is: at most {:.2} % of it", part * 100.0);
                Finding { holds: part <= 1.0, figure: Some(part), text }
            }
            Self::Always(Always::Reservations) => {
                let short_ns = series.unreserved_ns_max;
                let text = format!("reservations kept: short for at most {}", told(short_ns));
                Finding { holds: short_ns <= RESERVED_WITHIN_NS, figure: Some(short_ns as f64 / 1e9), text }
            }
            Self::Follows { group, within_ns } => judge_follows(&scenario.groups[*group], *group, *within_ns, series),
        }
    }
}

fn judge_figure(
    scenario: &Scenario,
    series: &Series,
    figure: Figure,
    of: &Mean,
    over: &Option<(Figure, Mean)>,
    bounds: &Bounds,
) -> Finding {
    let mean = |figure: Figure, mean: &Mean| series.mean(mean, |sums| sums.of(figure));
    let divisor = match (over, figure) {
        (Some((figure, over)), _) => mean(*figure, over),
        (None, Figure::Throughput | Figure::Error) => Some(1.0),
        (None, Figure::Target | Figure::Charged | Figure::Wanted | Figure::Active) => Some(scenario.dram_bytes as f64),
    };
    let value = mean(figure, of).zip(divisor.filter(|divisor| *divisor > 0.0)).map(|(of, divisor)| of / divisor);
    let holds = value.is_some_and(|value| {
        bounds.at_least.is_none_or(|least| value >= least) && bounds.at_most.is_none_or(|most| value <= most)
    });
    let said = value.map_or_else(|| "nothing".to_owned(), |value| format!("{value:.3}"));
    let over =
        over.map_or_else(String::new, |(figure, over)| format!(" over {} of {}", figure.told(), over.told(scenario)));
    let text = format!("{} of {}{over}: {said}, {}", figure.told(), of.told(scenario), bounds.told());
    Finding { holds, figure: value, text }
}

fn judge_follows(group: &Group, at: usize, within_ns: u64, series: &Series) -> Finding {
    let chases = series.chases.iter().filter(|chase| chase.group == at);
    // A phase that ended sooner says nothing.
    let is_missed = |chase: &&Chase| chase.took_ns.is_none() && chase.watched_ns > within_ns;
    let (count, missed) = (chases.clone().count(), chases.clone().filter(is_missed).count());
    let longest_ns = chases.filter_map(|chase| chase.took_ns).max();
    let longest =
        longest_ns.map_or_else(|| "none in the end".to_owned(), |ns| format!("the slowest after {}", told(ns)));
    let holds = missed == 0 && longest_ns.is_some_and(|ns| ns <= within_ns);
    let text = format!(
        "DRAM of {} follows {count} changes: {longest}, {missed} not at all; at most {} wanted",
        group.name,
        told(within_ns)
    );
    Finding { holds, figure: longest_ns.map(|ns| ns as f64 / 1e9), text }
}

impl Mean {
    fn told(&self, scenario: &Scenario) -> String {
        format!("{} ({} to {})", scenario.groups[self.group].name, told(self.from_ns), told(self.to_ns))
    }
}

impl Bounds {
    fn told(&self) -> String {
        match (self.at_least, self.at_most) {
            (Some(least), Some(most)) => format!("wanted {least} to {most}"),
            (Some(least), None) => format!("wanted at least {least}"),
            (None, Some(most)) => format!("wanted at most {most}"),
            (None, None) => "nothing wanted".to_owned(),
        }
    }
}

impl Figure {
    fn told(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Charged => "charged",
            Self::Wanted => "wanted",
            Self::Active => "active",
            Self::Throughput => "throughput",
            Self::Error => "error of the active part",
        }
    }
}

impl Sums {
    /// A figure of the spaces.
    fn of(&self, figure: Figure) -> Spread {
        match figure {
            Figure::Target => self.target_bytes,
            Figure::Charged => self.charged_bytes,
            Figure::Wanted => self.wanted_bytes,
            Figure::Active => self.active_bytes,
            Figure::Throughput => self.throughput,
            Figure::Error => self.error,
        }
    }
}
