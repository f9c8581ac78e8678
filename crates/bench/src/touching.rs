//! Sides that run `touch`: plain, under memvisor, and with the kernel's swap.

use crate::context::{CPU, Context, OURS, WALL, peer_name};
use crate::ours::budget_in;
use crate::pairs::{Sample, Side};
use crate::peer::{Kind, Peer, Tuning};
use crate::run::{Launch, Outcome};
use serde_json::json;

/// The side that has no limit and no memvisor.
pub const PLAIN: &str = "plain";

/// What zram needs for half-random pages, as a share of them, where there is no zram to measure it.
const POOL_SHARE: f64 = 0.55;

/// `launch` without limit.
#[must_use]
pub fn plain<'a>(context: &'a Context, launch: &'a Launch) -> Side<'a> {
    Side::new(PLAIN, || sample(&context.run_plain(launch)?))
}

/// `launch`, which needs `set_bytes`, under memvisor that takes `total_bytes` of DRAM in all; none where there is no memvisor.
#[must_use]
pub fn ours<'a>(context: &'a Context, launch: &'a Launch, set_bytes: u64, total_bytes: u64) -> Option<Side<'a>> {
    let run = move || {
        let outcome = context.run_ours(launch, set_bytes, budget_in(total_bytes))?;
        let mut sample = sample(&outcome.run)?;
        sample.details["report"] = outcome.report;
        Ok(sample)
    };
    context.ours.is_ok().then(|| Side::new(OURS, run))
}

/// `launch` in a group of `limit_bytes` with zram behind it.
#[must_use]
pub fn zram<'a>(peer: &'a Peer, launch: &'a Launch, limit_bytes: u64, tuning: Tuning) -> Side<'a> {
    Side::new(peer_name(Kind::Zram, tuning), move || {
        let outcome = peer.run(launch, limit_bytes, tuning)?;
        let mut sample = sample(&outcome.run)?;
        sample.details["limit_bytes"] = json!(outcome.limit_bytes);
        sample.details["pool_bytes_max"] = json!(outcome.pool_bytes_max);
        Ok(sample)
    })
    .forgiven()
}

/// The total of DRAM when `limit_bytes` of `set_bytes` may be resident: limit and what the pool needed in one run.
///
/// # Errors
/// When that run fails.
pub fn total_dram(peer: Option<&Peer>, launch: &Launch, set_bytes: u64, limit_bytes: u64) -> Result<u64, String> {
    match peer {
        Some(peer) => Ok(peer.run(launch, limit_bytes, Tuning::SINGLE)?.total_bytes()),
        None => Ok(limit_bytes + ((set_bytes - limit_bytes) as f64 * POOL_SHARE) as u64),
    }
}

/// The costs of a run: wall time as the workload measured it itself, CPU time of the tree as the harness saw it.
fn sample(outcome: &Outcome) -> Result<Sample, String> {
    let mut sample = Sample::of([(WALL, outcome.number("us_per_op")?)]);
    // Without a control group the CPU time of a phase is not known, only that of ended processes.
    if outcome.memory_max_bytes.is_some() {
        sample.costs.insert(CPU, outcome.phase("touch")?.cpu_seconds * 1e6 / outcome.number("ops")?);
    }
    sample.details = json!({
        "said": outcome.said, "run_seconds": outcome.seconds, "run_cpu_seconds": outcome.cpu_seconds,
        "group_memory_max_bytes": outcome.memory_max_bytes,
    });
    Ok(sample)
}
