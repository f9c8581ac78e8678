//! The series as JSON, for machines: one object, the same bytes for the same scenario.

use crate::expect::Finding;
use crate::scenario::Scenario;
use crate::series::{Chase, Sample, Series};
use serde::Serialize;

#[derive(Serialize)]
struct Told<'a> {
    title: &'a str,
    seed: u64,
    dram_bytes: u64,
    period_ns: u64,
    plans: u64,
    /// In the order of the groups of a sample.
    groups: Vec<&'a str>,
    holds: bool,
    findings: &'a [Finding],
    fullest_part: f64,
    changes: Vec<Change<'a>>,
    samples: &'a [Sample],
}

/// A change of phase that needed more memory, and when that was there.
#[derive(Serialize)]
struct Change<'a> {
    group: &'a str,
    at_ns: u64,
    followed_ns: Option<u64>,
}

/// The series of a scenario, and what came of its expectations.
///
/// # Panics
/// Never: everything in a series is a number or a name.
pub fn json(scenario: &Scenario, series: &Series, findings: &[Finding]) -> String {
    let name = |group: usize| scenario.groups[group].name.as_str();
    let change = |chase: &Chase| Change { group: name(chase.group), at_ns: chase.at_ns, followed_ns: chase.took_ns };
    let told = Told {
        title: &scenario.title,
        seed: scenario.seed,
        dram_bytes: scenario.dram_bytes,
        period_ns: scenario.period_ns,
        plans: series.plans,
        groups: (0..scenario.groups.len()).map(name).collect(),
        holds: findings.iter().all(|finding| finding.holds),
        findings,
        fullest_part: series.fullest_part,
        changes: series.chases.iter().map(change).collect(),
        samples: &series.samples,
    };
    let mut text = serde_json::to_string(&told).expect("numbers and names can be written as JSON");
    text.push('\n');
    text
}
