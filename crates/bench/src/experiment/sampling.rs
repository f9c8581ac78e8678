//! Sampling (§5.3, figure 6 of the paper): the working set toggles, and the estimate follows.

use super::host::{Host, Settings};
use super::tenant::{Tenant, Terms};
use super::{Finding, Lab, MIB, median};
use crate::plot::lines::Panel;
use serde_json::json;
use std::time::{Duration, Instant};

/// More than the set: nothing is short, and what is in use must be known all the same.
const HOST_MIB: u64 = 512;
const SET_MIB: u64 = 256;
/// The parts of the set that are used in turn, in thousandths.
const PARTS: [u64; 4] = [750, 250, 750, 250];
/// Time between two looks at the estimate.
const LOOK: Duration = Duration::from_millis(500);
/// How far the settled estimate may be off on the average, as a part of the set.
const ERROR: f64 = 0.10;
/// An estimate that is so near to the truth, as a part of the set, has followed it.
const NEAR: f64 = 0.10;
/// Who begins to use memory is to be believed within this time.
const RISE_S: f64 = 10.0;

struct Phase {
    part: f64,
    from_s: f64,
    /// Mean distance of the estimate from the truth in the last third, as a part of the set.
    error: f64,
    /// When the estimate came near.
    followed_s: Option<f64>,
}

/// Makes it.
///
/// # Errors
/// When it cannot be made.
pub(super) fn run(lab: &Lab) -> Result<Finding, String> {
    let mut host = Host::start(lab, "sampling", Settings::new(HOST_MIB))?;
    let mut tenant = Tenant::start(lab, &host, "toggling", &Terms::set(SET_MIB))?;
    let began = host.watch().began();
    let (mut truth, mut believed, mut phases) = (Vec::new(), Vec::new(), Vec::new());
    for permille in PARTS {
        tenant.tell(&format!("busy {permille}"))?;
        let part = permille as f64 / 1000.0;
        let (from, first) = (Instant::now(), believed.len());
        let length = lab.seconds(90, 50);
        while from.elapsed() < length {
            std::thread::sleep(LOOK);
            let space = host.space("toggling")?;
            let active = space["active_bytes"].as_f64().ok_or("the node says nothing of what is in use")?;
            let at = began.elapsed().as_secs_f64();
            truth.push((at, part * SET_MIB as f64));
            believed.push((at, active / MIB as f64));
        }
        phases.push(phase(part, (from - began).as_secs_f64(), &believed[first..]));
    }
    tenant.verify(&host)?;
    let watched = host.watched()?;
    Ok(judge(&phases, truth, believed).watched(&watched))
}

fn phase(part: f64, from_s: f64, believed: &[(f64, f64)]) -> Phase {
    let off = |point: &(f64, f64)| (point.1 / SET_MIB as f64 - part).abs();
    let settled = &believed[believed.len() * 2 / 3..];
    let error = settled.iter().map(off).sum::<f64>() / settled.len().max(1) as f64;
    let followed_s = believed.iter().find(|point| off(point) <= NEAR).map(|point| point.0 - from_s);
    Phase { part, from_s, error, followed_s }
}

fn judge(phases: &[Phase], truth: Vec<(f64, f64)>, believed: Vec<(f64, f64)>) -> Finding {
    let error = phases.iter().map(|phase| phase.error).sum::<f64>() / phases.len().max(1) as f64;
    let seconds = |seconds: Option<f64>| seconds.map_or("never".to_owned(), |seconds| format!("{seconds:.1} s"));
    let followed = |is_rise: bool| {
        // The first phase comes after the set was filled, when all of it was in use.
        let phases = phases.iter().skip(1).filter(|phase| (phase.part > 0.5) == is_rise);
        let all: Option<Vec<f64>> = phases.map(|phase| phase.followed_s).collect();
        all.map(median)
    };
    let (rise, fall) = (followed(true), followed(false));
    let row = |phase: &Phase| {
        vec![
            format!("{:.0} s", phase.from_s),
            format!("{:.0} %", phase.part * 100.0),
            format!("{:.1} %", phase.error * 100.0),
            seconds(phase.followed_s),
        ]
    };
    Finding {
        columns: ["from", "in use", "error when settled", "within 10 % after"].map(String::from).to_vec(),
        rows: phases.iter().map(row).collect(),
        panels: vec![Panel::new("in use, MiB").with("truth", truth).with("estimate", believed)],
        figures: json!({"error": error, "rise_s": rise, "fall_s": fall}),
        sentence: format!(
            "the settled estimate is off by {:.1} % of the set on the average ({:.0} % is allowed); it follows a rise in {} and a \
             fall in {}, with samples of a second",
            error * 100.0,
            ERROR * 100.0,
            seconds(rise),
            seconds(fall)
        ),
        holds: phases.iter().all(|phase| phase.error <= ERROR)
            && rise.is_some_and(|rise| rise <= RISE_S)
            && fall.is_some(),
    }
}
