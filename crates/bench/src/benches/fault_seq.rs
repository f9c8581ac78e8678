//! Touches with an order to them – sequential, strided, in phases – with half of the set in DRAM.
//!
//! The peer may read ahead, or use folios of 16 and 64 KiB, which neither hurt nor help random touches as much.

use memvisor_bench::context::{CPU, Context, OURS, WALL, peer_name};
use memvisor_bench::machine::warm;
use memvisor_bench::peer::{Kind, Tuning};
use memvisor_bench::report::{Bench, Goal};
use memvisor_bench::touching;
use serde_json::json;

const TUNINGS: [Tuning; 4] = [Tuning::SINGLE, Tuning::DEFAULT, Tuning::FOLIO_16K, Tuning::FOLIO_64K];

/// Of page-cluster 0.
const GOAL: f64 = 0.5;

pub fn run(context: &Context) -> Result<Bench, String> {
    let (set_mib, ops) = if context.quick { (256u64, 150_000u64) } else { (512, 400_000) };
    let mut bench = context.bench("fault-seq", json!({ "set_mib": set_mib, "ops": ops }));
    let peer = context.peer(Kind::Zram, set_mib << 21).ok();
    warm(set_mib << 22);
    for (mode, name) in [("seq", "sequential"), ("stride", "every eighth page"), ("phase", "phases")] {
        // Each quarter of the set is visited twice.
        let words = [mode, &set_mib.to_string(), "--ops", &ops.to_string(), "--phase-ops", &(ops / 8).to_string()];
        let single = context.workload("touch", words)?;
        let folios = context.workload("touch", words.into_iter().chain(["--huge", "default"]))?;
        let half = set_mib << 19;
        let total = touching::total_dram(peer.as_ref(), &single, set_mib << 20, half)?;
        bench.settings[format!("total_dram_bytes_{mode}")] = json!(total);
        let theirs = peer.iter().flat_map(|peer| {
            TUNINGS.map(|tuning| {
                let launch = if tuning.folio_kib.is_some() { &folios } else { &single };
                touching::zram(peer, launch, half, tuning)
            })
        });
        bench.series.push(
            context.interleave(name, theirs.chain(touching::ours(context, &single, set_mib << 20, total)).collect()),
        );
        let goal = |what: &str, peers: &[Tuning], cost, at_most| Goal {
            what: format!("{name}, {what}"),
            series: name.into(),
            ours: OURS.into(),
            peers: peers.iter().map(|&tuning| peer_name(Kind::Zram, tuning)).collect(),
            cost,
            at_most,
        };
        bench.goals.push(goal("wall time, no read-ahead", &TUNINGS[..1], WALL, Some(GOAL)));
        bench.goals.push(goal("wall time, best tuning", &TUNINGS, WALL, None));
        bench.goals.push(goal("CPU time, best tuning", &TUNINGS, CPU, None));
    }
    Ok(bench)
}
