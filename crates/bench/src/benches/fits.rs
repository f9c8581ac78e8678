//! What memvisor costs a program that fits into its DRAM: a stream, a sort, a Redis.

use memvisor_bench::context::{CPU, Context, OURS, WALL};
use memvisor_bench::kv::session::{Place, Plan};
use memvisor_bench::machine::warm;
use memvisor_bench::pairs::{Sample, Side};
use memvisor_bench::report::{Bench, Goal};
use memvisor_bench::run::Outcome;
use memvisor_bench::touching::PLAIN;
use serde_json::json;

/// A loss of two in a hundred.
const GOAL: f64 = 1.02;

/// How many times its set a program gets.
const ROOM: u64 = 2;

pub fn run(context: &Context) -> Result<Bench, String> {
    let scale: u64 = if context.quick { 1 } else { 2 };
    let (stream_mib, sort_mib, keys) = (192 * scale, 128 * scale, 32_000 * scale);
    let settings =
        json!({ "stream_mib": stream_mib, "sort_mib": sort_mib, "redis_keys": keys, "redis_value_bytes": 4000 });
    let mut bench = context.bench("fits", settings);
    warm(stream_mib << 22);
    let size = stream_mib.to_string();
    program(context, &mut bench, "stream", &["stream", &size], "stream", stream_mib)?;
    program(context, &mut bench, "stream with huge pages", &["stream", &size, "--huge"], "stream", stream_mib)?;
    program(context, &mut bench, "sort", &["sortgig", &sort_mib.to_string()], "sort", sort_mib)?;
    redis(context, &mut bench, keys);
    Ok(bench)
}

fn program(
    context: &Context,
    bench: &mut Bench,
    name: &str,
    words: &[&str],
    phase: &str,
    size_mib: u64,
) -> Result<(), String> {
    let launch = context.workload(words[0], &words[1..])?;
    let costs = |outcome: &Outcome| {
        let mut sample = Sample::of([("wall_s", outcome.number("seconds")?)]);
        if outcome.memory_max_bytes.is_some() {
            sample.costs.insert("cpu_s", outcome.phase(phase)?.cpu_seconds);
        }
        Ok(sample)
    };
    let mut sides = vec![Side::new(PLAIN, || costs(&context.run_plain(&launch)?))];
    if context.ours.is_ok() {
        sides.push(Side::new(OURS, || {
            let outcome = context.run_ours(&launch, size_mib << 20, (size_mib << 20) * ROOM)?;
            let mut sample = costs(&outcome.run)?;
            sample.details = json!({ "report": outcome.report });
            Ok(sample)
        }));
    }
    bench.series.push(context.interleave(name, sides));
    goals(bench, name, "wall_s", "cpu_s");
    Ok(())
}

fn redis(context: &Context, bench: &mut Bench, keys: u64) {
    let phases = ["load", "run:uniform:3s", "verify"].map(String::from).to_vec();
    let plan = Plan { keys, value: 4000, pipeline: 16, phases };
    let dram_bytes = plan.bytes() * ROOM;
    let live = |place: Place<'_>| {
        let session = plan.live(context, place)?;
        let figures = session.figures("uniform")?;
        let mut sample = Sample::of([(WALL, figures.us_per_op), ("p99_us", figures.p99_us)]);
        sample.costs.extend(figures.cpu_us_per_op.map(|cpu| (CPU, cpu)));
        sample.details = json!({ "report": session.report });
        Ok(sample)
    };
    let mut sides = vec![Side::new(PLAIN, || live(Place::Plain))];
    if context.ours.is_ok() {
        sides.push(Side::new(OURS, || live(Place::Ours { dram_bytes, store: None })));
    }
    bench.series.push(context.interleave("redis", sides));
    goals(bench, "redis", WALL, CPU);
}

fn goals(bench: &mut Bench, name: &str, wall: &'static str, cpu: &'static str) {
    let goal = |what: &str, cost, at_most| Goal {
        what: format!("{name}, {what}"),
        series: name.into(),
        ours: OURS.into(),
        peers: vec![PLAIN.into()],
        cost,
        at_most,
    };
    bench.goals.push(goal("wall time", wall, Some(GOAL)));
    bench.goals.push(goal("CPU time", cpu, None));
}
