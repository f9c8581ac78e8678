//! Random touches with half of the set in DRAM, beside zram in the same total of DRAM.
//!
//! The peer's group is limited to half of the set; what its pool needs for the other half is measured, and limit and
//! pool together are our target.

use memvisor_bench::context::{CPU, Context, OURS, WALL, peer_name};
use memvisor_bench::machine::warm;
use memvisor_bench::peer::{Kind, Tuning};
use memvisor_bench::report::{Bench, Goal};
use memvisor_bench::touching;
use serde_json::json;

const TUNINGS: [Tuning; 2] = [Tuning::SINGLE, Tuning::DEFAULT];

pub fn run(context: &Context) -> Result<Bench, String> {
    let (set_mib, ops) = if context.quick { (256, 100_000) } else { (512, 400_000) };
    let mut bench = context.bench("fault-random", json!({ "set_mib": set_mib, "ops": ops }));
    let peer = context.peer(Kind::Zram, set_mib << 21).ok();
    warm(set_mib << 22);
    for threads in [1, 2] {
        let name = format!("random, {threads} thread{}", if threads == 1 { "" } else { "s" });
        let words = ["random", &set_mib.to_string(), "--ops", &ops.to_string(), "--threads", &threads.to_string()];
        let launch = context.workload("touch", words)?;
        let half = set_mib << 19;
        let total = touching::total_dram(peer.as_ref(), &launch, set_mib << 20, half)?;
        bench.settings[format!("total_dram_bytes_{threads}")] = json!(total);
        let theirs = peer.iter().flat_map(|peer| TUNINGS.map(|tuning| touching::zram(peer, &launch, half, tuning)));
        bench.series.push(
            context.interleave(&name, theirs.chain(touching::ours(context, &launch, set_mib << 20, total)).collect()),
        );
        let goal = |what: &str, cost, at_most| Goal {
            what: format!("{name}, {what}"),
            series: name.clone(),
            ours: OURS.into(),
            peers: TUNINGS.map(|tuning| peer_name(Kind::Zram, tuning)).to_vec(),
            cost,
            at_most,
        };
        // Two threads are shown without a goal: one monitor serves both, and inline delivery is not there yet.
        bench.goals.push(goal("wall time", WALL, (threads == 1).then_some(1.0)));
        bench.goals.push(goal("CPU time", CPU, None));
    }
    Ok(bench)
}
