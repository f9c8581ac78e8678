//! Redis with skewed and uniform keys in 100, 66 and 33 % of the DRAM that it would take, beside all-DRAM and beside the
//! kernel's swap in the same total.

use memvisor_bench::context::{Context, OURS};
use memvisor_bench::kv::rival::Rival;
use memvisor_bench::kv::session::{Place, Plan, Session};
use memvisor_bench::machine::warm;
use memvisor_bench::ours::budget_in;
use memvisor_bench::pairs::{Sample, Side};
use memvisor_bench::report::{Bench, Goal};
use memvisor_bench::touching::PLAIN;
use serde_json::json;

/// Room above the measured footprint at 100 %: metadata of the pager, and what differs from run to run.
const SLACK: f64 = 1.03;

/// Names of the costs of the two distributions: wall, p99, CPU.
const SKEWED: [&str; 3] = ["wall_us_zipf", "p99_us_zipf", "cpu_us_zipf"];
const UNIFORM: [&str; 3] = ["wall_us_uniform", "p99_us_uniform", "cpu_us_uniform"];

pub fn run(context: &Context) -> Result<Bench, String> {
    let (keys, seconds) = if context.quick { (48_000, 2) } else { (128_000, 3) };
    let phases =
        vec!["load".into(), format!("run:zipf:{seconds}s"), format!("run:uniform:{seconds}s"), "verify".into()];
    let plan = Plan { keys, value: 4000, pipeline: 16, phases };
    let settings =
        json!({ "keys": keys, "value_bytes": plan.value, "pipeline": plan.pipeline, "seconds_each": seconds });
    let mut bench = context.bench("redis", settings);
    warm(plan.bytes() * 3);
    let footprint = plan.live(context, Place::Plain)?.footprint_bytes();
    bench.settings["footprint_bytes"] = json!(footprint);
    for percent in [100, 66, 33] {
        at(context, &mut bench, &plan, footprint, percent)?;
    }
    Ok(bench)
}

fn at(context: &Context, bench: &mut Bench, plan: &Plan, footprint: u64, percent: u64) -> Result<(), String> {
    let name = format!("{percent} % of DRAM");
    let total = (footprint as f64 * SLACK * percent as f64 / 100.0) as u64;
    let rival = Rival::find(context, plan, footprint, total);
    let theirs = rival.as_ref().map_or_else(|_| "the kernel's swap".into(), Rival::name);
    match &rival {
        Ok(rival) => {
            bench.settings[&name] =
                json!({ "total_bytes": total, "peer": theirs, "peer_limit_bytes": rival.limit_bytes() });
            bench.notes.extend(rival.tried.iter().map(|why| format!("{name}: not taken as peer: {why}")));
        }
        Err(why) => bench.notes.push(format!("{name}: no peer: {why}")),
    }
    let store = context.store("redis");
    // Where the kernel needs its disk, ours has the same disk; where zram is enough, ours has to do without.
    let spill = rival.as_ref().is_ok_and(Rival::is_on_disk).then(|| store.path());
    let mut sides = vec![Side::new(PLAIN, || sample(&plan.live(context, Place::Plain)?))];
    if let Ok(rival) = &rival {
        sides.push(Side::new(theirs.clone(), || sample(&rival.live(context, plan)?)).forgiven());
    }
    if context.ours.is_ok() {
        let place = Place::Ours { dram_bytes: budget_in(total), store: spill };
        sides.push(Side::new(OURS, move || sample(&plan.live(context, place)?)));
    }
    bench.series.push(context.interleave(&name, sides));
    for (keys, [wall, p99, cpu]) in [("skewed", SKEWED), ("uniform", UNIFORM)] {
        let goal = |what: &str, peer: &str, cost, at_most| Goal {
            what: format!("redis {keys} {name}, {what}"),
            series: name.clone(),
            ours: OURS.into(),
            peers: vec![peer.into()],
            cost,
            at_most,
        };
        bench.goals.push(goal("time per GET", &theirs, wall, (percent < 100).then_some(1.0)));
        bench.goals.push(goal("p99", &theirs, p99, None));
        bench.goals.push(goal("CPU time", &theirs, cpu, None));
        bench.goals.push(goal("time per GET", PLAIN, wall, None));
    }
    Ok(())
}

fn sample(session: &Session) -> Result<Sample, String> {
    let mut sample = Sample::default();
    for (phase, [wall, p99, cpu]) in [("zipf", SKEWED), ("uniform", UNIFORM)] {
        let figures = session.figures(phase)?;
        sample.costs.extend([(wall, figures.us_per_op), (p99, figures.p99_us)]);
        sample.costs.extend(figures.cpu_us_per_op.map(|value| (cpu, value)));
    }
    sample.details = json!({
        "report": session.report, "values_checked": session.values_checked,
        "group_bytes_max": session.group_bytes_max, "pool_bytes_max": session.pool_bytes_max,
    });
    Ok(sample)
}
