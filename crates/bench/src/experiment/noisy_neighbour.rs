//! A noisy neighbour: a space that scans more than there is, beside one that keeps to its reservation.
//!
//! What is compared is the neighbour with itself: in turn the scanner scans and rests, so that what else the machine does meets
//! both alike. Each has a CPU of its own, since CPUs are not what is divided here.

use super::host::{Host, Settings};
use super::tenant::{Tenant, Terms};
use super::{Finding, Lab, median, mib};
use crate::plot::lines::Panel;
use serde_json::json;
use std::time::{Duration, Instant};

const HOST_MIB: u64 = 400;
const RESERVED_MIB: u64 = 200;
/// The neighbour has more memory than its reservation, and uses three quarters of that at a time.
const NEIGHBOUR_MIB: u64 = 256;
const NEIGHBOUR: &str = "busy 600";
const SCANNER_MIB: u64 = 400;
/// What the scanner may cost the neighbour.
const COST: f64 = 0.05;
/// How far a space may be above what it was told: running memory is not stopped in mid-air.
const SLACK: f64 = 1.02;
/// The beginning of each turn, which does not count.
const RUN_IN: Duration = Duration::from_secs(1);

/// Makes it.
///
/// # Errors
/// When it cannot be made.
pub(super) fn run(lab: &Lab) -> Result<Finding, String> {
    let mut host = Host::start(lab, "noisy", Settings::new(HOST_MIB))?;
    let terms = Terms { exactly_mib: Some(RESERVED_MIB), cpu: Some(0), ..Terms::set(NEIGHBOUR_MIB) };
    let mut neighbour = Tenant::start(lab, &host, "neighbour", &terms)?;
    let mut scanner = Tenant::start(lab, &host, "scanner", &Terms { cpu: Some(1), ..Terms::set(SCANNER_MIB) })?;
    neighbour.tell(NEIGHBOUR)?;
    scanner.tell("scan")?;
    let began = Instant::now();
    std::thread::sleep(lab.seconds(20, 8));
    let turns = if lab.quick { 5 } else { 12 };
    let mut pairs = Vec::new();
    let turn = |scanner: &mut Tenant, order: &str| -> Result<(f64, f64), String> {
        scanner.tell(order)?;
        std::thread::sleep(RUN_IN);
        let from = Instant::now();
        std::thread::sleep(lab.seconds(5, 3));
        let to = Instant::now();
        Ok((neighbour.ops_per_s(from, to), scanner.ops_per_s(from, to)))
    };
    for at in 0..turns {
        // Alternating which comes first: what drifts meets both alike.
        let orders = if at % 2 == 0 { ["idle", "scan"] } else { ["scan", "idle"] };
        let mut seen = [turn(&mut scanner, orders[0])?, turn(&mut scanner, orders[1])?];
        if at % 2 == 1 {
            seen.reverse();
        }
        pairs.push(seen);
    }
    let ended = Instant::now();
    let line = neighbour.ops_line(host.watch().began());
    let panel = Panel::new("touches each second, thousands").with("neighbour", thousands(line));
    for tenant in [neighbour, scanner] {
        tenant.verify(&host)?;
    }
    let watched = host.watched()?;

    let ratio = median(pairs.iter().map(|[alone, beside]| beside.0 / alone.0.max(1.0)));
    let over = watched.between(1, began, ended).map(|amounts| amounts.charged as f64 / amounts.told.max(1) as f64);
    let over = over.fold(0.0, f64::max);
    let told = watched.between(0, began, ended).map(|amounts| amounts.told).min().unwrap_or(0);
    let row = |(at, [alone, beside]): (usize, &[(f64, f64); 2])| {
        vec![
            (at + 1).to_string(),
            format!("{:.0}", alone.0),
            format!("{:.0}", beside.0),
            format!("{:.3}", beside.0 / alone.0.max(1.0)),
            format!("{:.0}", beside.1),
        ]
    };
    let finding = Finding {
        columns: ["turn", "alone, touches/s", "beside the scanner", "ratio", "scanner"].map(String::from).to_vec(),
        rows: pairs.iter().enumerate().map(row).collect(),
        panels: vec![panel],
        figures: json!({"ratio": ratio, "scanner_over": over, "neighbour_told_bytes_min": told, "pairs": pairs}),
        sentence: format!(
            "a scanner costs its neighbour {:.1} % of its throughput (5 % is allowed), which was never told less than {}; it was \
             charged for {over:.3} of what it was told at most",
            (1.0 - ratio) * 100.0,
            mib(told)
        ),
        holds: ratio >= 1.0 - COST && over <= SLACK && told >= RESERVED_MIB << 20,
    };
    Ok(finding.watched(&watched))
}

fn thousands(line: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    line.into_iter().map(|(at, ops)| (at, ops / 1000.0)).collect()
}
