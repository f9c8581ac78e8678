//! The table for people: each group over the last quarter of the time, then what was expected, then one line that says
//! whether it came true.

use crate::expect::{Finding, Mean};
use crate::scenario::units::told;
use crate::scenario::{Group, Scenario};
use crate::series::{Series, Spread, Sums};
use memvisor_proto::size::Size;
use std::fmt::Write as _;

/// The table is of the end of the time: by then most scenarios stand still.
const LAST_PART: u64 = 4;

/// The table, the findings and the verdict.
pub fn text(scenario: &Scenario, series: &Series, findings: &[Finding]) -> String {
    let from_ns = scenario.length_ns - scenario.length_ns / LAST_PART;
    let mut text = head(scenario, series, from_ns);
    let _ = writeln!(
        text,
        "{:12} {:>6}  {:>8} {:>8} {:>8} {:>8} {:>8}  {:>10} {:>8} {:>8} {:>6}",
        "group", "spaces", "target", "least", "most", "charged", "wanted", "active", "of DRAM", "least", "most"
    );
    for (place, group) in scenario.groups.iter().enumerate() {
        line(&mut text, group, &Mean { group: place, from_ns, to_ns: scenario.length_ns }, series);
    }
    text.push('\n');
    for finding in findings {
        let _ = writeln!(text, "{}  {}", if finding.holds { "true " } else { "FALSE" }, finding.text);
    }
    let _ = writeln!(text, "{}", verdict(findings));
    text
}

fn head(scenario: &Scenario, series: &Series, from_ns: u64) -> String {
    let spaces: u64 = scenario.groups.iter().map(|group| u64::from(group.count)).sum();
    format!(
        "{}\n{} of DRAM, {spaces} spaces, {} plans, seed {}; means from {} to {}, `of DRAM` is throughput as a part of that \
         with all in DRAM\n\n",
        scenario.title,
        Size(scenario.dram_bytes),
        series.plans,
        scenario.seed,
        told(from_ns),
        told(scenario.length_ns),
    )
}

fn line(text: &mut String, group: &Group, mean: &Mean, series: &Series) {
    let bytes = |of: fn(&Sums) -> Spread| amount(series.mean(mean, of));
    let part = |part: Option<f64>| part.map_or_else(|| "-".to_owned(), |part| format!("{part:.3}"));
    let target = series.range(mean, |sums| sums.target_bytes);
    let throughput = series.range(mean, |sums| sums.throughput);
    let _ = writeln!(
        text,
        "{:12} {:>6}  {:>8} {:>8} {:>8} {:>8} {:>8}  {:>10} {:>8} {:>8} {:>6}",
        group.name,
        group.count,
        bytes(|sums| sums.target_bytes),
        amount(target.map(|range| range.0)),
        amount(target.map(|range| range.1)),
        bytes(|sums| sums.charged_bytes),
        bytes(|sums| sums.wanted_bytes),
        bytes(|sums| sums.active_bytes),
        part(series.mean(mean, |sums| sums.throughput)),
        part(throughput.map(|range| range.0)),
        part(throughput.map(|range| range.1)),
    );
}

fn amount(bytes: Option<f64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| Size(bytes as u64).to_string())
}

fn verdict(findings: &[Finding]) -> String {
    let held = findings.iter().filter(|finding| finding.holds).count();
    let first = findings.iter().find(|finding| !finding.holds).or(findings.first());
    let figure = first.map_or("", |finding| finding.text.as_str());
    if held == findings.len() {
        format!("holds: all {held} expectations; {figure}")
    } else {
        format!("DOES NOT HOLD: {} of {} expectations; {figure}", findings.len() - held, findings.len())
    }
}
