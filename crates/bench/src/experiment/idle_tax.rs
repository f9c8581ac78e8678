//! The idle memory tax (§5.2, figure 7 of the paper): one space uses its memory, the other does not.

use super::host::{Host, Settings};
use super::tenant::{Tenant, Terms};
use super::watch::Watched;
use super::{Finding, Lab, MIB, median, mib};
use crate::plot::lines::Panel;
use serde_json::json;
use std::time::{Duration, Instant};

const HOST_MIB: u64 = 320;
const SET_MIB: u64 = 256;
/// What the busy space must gain by the tax.
const GAIN: f64 = 0.30;
/// How far two may be apart that have the same.
const SAME: f64 = 0.10;

/// What was measured with one tax.
struct Phase {
    tax: f64,
    busy_bytes: f64,
    idle_bytes: f64,
    ops_per_s: f64,
}

/// Makes it.
///
/// # Errors
/// When it cannot be made.
pub(super) fn run(lab: &Lab) -> Result<Finding, String> {
    let mut host = Host::start(lab, "idle-tax", Settings { tax: 0.0, ..Settings::new(HOST_MIB) })?;
    let idle = Tenant::start(lab, &host, "idle", &Terms::set(SET_MIB))?;
    let mut busy = Tenant::start(lab, &host, "busy", &Terms::set(SET_MIB))?;
    busy.tell("busy 1000")?;
    let mut spans = Vec::new();
    // Memory that is idle is believed to be so after some periods of four seconds each.
    for (tax, settle) in [(0.0, lab.seconds(40, 20)), (0.75, lab.seconds(120, 60))] {
        host.set_tax(tax)?;
        std::thread::sleep(settle);
        let from = Instant::now();
        std::thread::sleep(lab.seconds(30, 10));
        spans.push((tax, from, Instant::now()));
    }
    let line = busy.ops_line(host.watch().began());
    let rates: Vec<f64> = spans.iter().map(|&(_, from, to)| touches_per_s(&busy, from, to)).collect();
    for tenant in [busy, idle] {
        tenant.verify(&host)?;
    }
    let watched = host.watched()?;
    let phases: Vec<Phase> =
        spans.iter().zip(rates).map(|(&(tax, from, to), rate)| phase(tax, from, to, rate, &watched)).collect();
    Ok(judge(&phases, line).watched(&watched))
}

fn touches_per_s(busy: &Tenant, from: Instant, to: Instant) -> f64 {
    let second = Duration::from_secs(1);
    let seconds = (to - from).as_secs() as u32;
    median((0..seconds).map(|at| busy.ops_per_s(from + second * at, from + second * (at + 1))))
}

fn phase(tax: f64, from: Instant, to: Instant, ops_per_s: f64, watched: &Watched) -> Phase {
    let told = |at| median(watched.between(at, from, to).map(|amounts| amounts.told as f64));
    // In the order in which they started.
    Phase { tax, busy_bytes: told(1), idle_bytes: told(0), ops_per_s }
}

fn judge(phases: &[Phase], line: Vec<(f64, f64)>) -> Finding {
    let (free, taxed) = (&phases[0], &phases[1]);
    let gain = taxed.ops_per_s / free.ops_per_s.max(1.0) - 1.0;
    let same = (free.busy_bytes / free.idle_bytes.max(1.0) - 1.0).abs() <= SAME;
    let row = |phase: &Phase| {
        vec![
            format!("{:.2}", phase.tax),
            mib(phase.busy_bytes as u64),
            mib(phase.idle_bytes as u64),
            format!("{:.0}", phase.ops_per_s),
        ]
    };
    let figures = phases.iter().map(|phase| {
        json!({"tax": phase.tax, "busy_bytes": phase.busy_bytes, "idle_bytes": phase.idle_bytes, "ops_per_s": phase.ops_per_s})
    });
    Finding {
        columns: ["tax", "busy is told", "idle is told", "busy, touches/s"].map(String::from).to_vec(),
        rows: phases.iter().map(row).collect(),
        panels: vec![Panel::new("touches of the busy space each second").with("busy", line)],
        figures: json!({"set_bytes": SET_MIB * MIB, "gain": gain, "phases": figures.collect::<Vec<_>>()}),
        sentence: format!(
            "without a tax the busy space has {} and the idle one {}; a tax of 0.75 makes that {} and {}, and the busy one \
             {:+.0} % faster (more than {:.0} % is claimed)",
            mib(free.busy_bytes as u64),
            mib(free.idle_bytes as u64),
            mib(taxed.busy_bytes as u64),
            mib(taxed.idle_bytes as u64),
            gain * 100.0,
            GAIN * 100.0
        ),
        holds: same && gain > GAIN,
    }
}
