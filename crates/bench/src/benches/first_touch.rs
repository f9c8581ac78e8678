//! The first touch of fresh memory: in managed memory that fits its DRAM beside plain memory, and beyond its DRAM beside
//! zram.

use memvisor_bench::context::{CPU, Context, OURS, WALL, peer_name};
use memvisor_bench::machine::warm;
use memvisor_bench::peer::{Kind, Tuning};
use memvisor_bench::report::{Bench, Goal};
use memvisor_bench::touching::{self, PLAIN};
use serde_json::json;

/// How often fresh memory is mapped and touched in one run.
const TIMES: u64 = 8;

pub fn run(context: &Context) -> Result<Bench, String> {
    let set_mib: u64 = if context.quick { 128 } else { 256 };
    let mut bench = context.bench("first-touch", json!({ "set_mib": set_mib, "times": TIMES }));
    let pages = set_mib << 8;
    warm(set_mib << 22);

    let name = "within DRAM";
    let launch = context.workload("touch", ["first", &set_mib.to_string(), "--ops", &(pages * TIMES).to_string()])?;
    let sides = std::iter::once(touching::plain(context, &launch)).chain(touching::ours(
        context,
        &launch,
        set_mib << 20,
        set_mib << 21,
    ));
    bench.series.push(context.interleave(name, sides.collect()));
    let goal = |what: &str, peer: String, series: &str, cost, at_most| Goal {
        what: format!("{series}, {what}"),
        series: series.into(),
        ours: OURS.into(),
        peers: vec![peer],
        cost,
        at_most,
    };
    bench.goals.push(goal("wall time", PLAIN.into(), name, WALL, Some(1.1)));
    bench.goals.push(goal("CPU time", PLAIN.into(), name, CPU, None));

    let name = "beyond DRAM";
    let launch = context.workload("touch", ["first", &set_mib.to_string(), "--ops", &(pages * 2).to_string()])?;
    let peer = context.peer(Kind::Zram, set_mib << 21).ok();
    let half = set_mib << 19;
    let total = touching::total_dram(peer.as_ref(), &launch, set_mib << 20, half)?;
    bench.settings["total_dram_bytes"] = json!(total);
    let theirs = peer.iter().map(|peer| touching::zram(peer, &launch, half, Tuning::SINGLE));
    bench
        .series
        .push(context.interleave(name, theirs.chain(touching::ours(context, &launch, set_mib << 20, total)).collect()));
    let theirs = peer_name(Kind::Zram, Tuning::SINGLE);
    bench.goals.push(goal("wall time", theirs.clone(), name, WALL, None));
    bench.goals.push(goal("CPU time", theirs, name, CPU, None));
    // Only tags are written into fresh pages, so zram holds them in next to nothing.
    bench.notes.push("beyond DRAM, pages are nearly all zeros: both sides store them in a few bytes".into());
    Ok(bench)
}
