//! The demo: a Redis with more than a gigabyte of data in 256 MiB of DRAM, every value read back and compared.
//!
//! Beside it the same server with all the DRAM that it wants, and the same server over the kernel's swap in the same total. One
//! run each: a demonstration, not a measurement; `cargo x bench redis` measures.

use memvisor_bench::context::Context;
use memvisor_bench::kv::rival::Rival;
use memvisor_bench::kv::session::{Place, Plan, Session};
use memvisor_bench::machine::warm;
use serde_json::{Value, json};
use std::time::Instant;

/// What the server gets.
const DRAM_BYTES: u64 = 256 << 20;

/// Values that are more than a gigabyte together.
const KEYS: u64 = 270_000;
const VALUE_BYTES: u64 = 4000;

/// Where a server ran, and what came of it.
struct Row {
    place: String,
    dram: String,
    outcome: Result<Session, String>,
}

/// Runs the three servers and prints what lay where. False if memvisor could not show what it should.
pub fn run(context: &Context) -> Result<bool, String> {
    let start = Instant::now();
    let phases = ["load", "run:zipf:4s", "run:uniform:4s", "verify"].map(String::from).to_vec();
    let plan = Plan { keys: KEYS, value: VALUE_BYTES, pipeline: 16, phases };
    println!(
        "Redis, {} values of {} bytes ({:.2} GiB), half random and half blanks; each value is read back and compared.",
        plan.keys,
        plan.value,
        plan.bytes() as f64 / (1u64 << 30) as f64
    );
    warm(plan.bytes() * 2);

    println!("… with all the DRAM that it wants");
    let plain = plan.live(context, Place::Plain);
    let footprint = plain.as_ref().map_or(plan.bytes() * 21 / 20, Session::footprint_bytes);
    let mut rows = vec![Row { place: "all in DRAM".into(), dram: mib(footprint), outcome: plain }];

    println!("… under memvisor run --dram {}M --store FILE", DRAM_BYTES >> 20);
    let store = context.store("demo");
    let ours = plan.live(context, Place::Ours { dram_bytes: DRAM_BYTES, store: Some(store.path()) });
    let mut report = ours.as_ref().map_or(Value::Null, |session| session.report.clone());
    report["outside_bytes_max"] = json!(ours.as_ref().map_or(None, |session| session.group_bytes_max));
    let shown = ours.is_ok();
    rows.push(Row { place: "memvisor".into(), dram: mib(DRAM_BYTES), outcome: ours });

    println!("… over the kernel's swap in the same total of DRAM");
    let mut remarks = Vec::new();
    match Rival::find(context, &plan, footprint, DRAM_BYTES) {
        Ok(rival) => {
            remarks.extend(rival.tried.iter().map(|why| format!("not taken as the kernel's side: {why}")));
            // The kernel now and then kills a server in a tight group; that once is no reason to leave it out.
            let outcome = rival.live(context, &plan).or_else(|_| rival.live(context, &plan));
            rows.push(Row { place: format!("kernel: {}", rival.name()), dram: mib(DRAM_BYTES), outcome });
        }
        Err(why) => remarks.push(format!("CANNOT RUN the kernel's swap beside it: {why}")),
    }

    println!("\n{}", servers(&rows));
    if shown {
        println!("{}", tiers(&report));
    }
    remarks.iter().for_each(|remark| println!("{remark}"));
    keep(context, &rows, &remarks)?;
    println!("took {:.0} s", start.elapsed().as_secs_f64());
    Ok(shown)
}

/// One line a server.
fn servers(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<20} {:>9} {:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>16}\n",
        "", "DRAM", "skewed GET/s", "uniform", "p50 us", "p99 us", "p50 us", "p99 us", "values compared"
    );
    for row in rows {
        let line = match &row.outcome {
            Ok(session) => {
                let [skewed, uniform] = ["zipf", "uniform"].map(|name| session.figures(name).unwrap_or_default());
                format!(
                    "{:<20} {:>9} {:>12.0} {:>12.0} {:>10.0} {:>10.0} {:>10.0} {:>10.0} {:>10} right",
                    row.place,
                    row.dram,
                    1e6 / skewed.us_per_op,
                    1e6 / uniform.us_per_op,
                    skewed.p50_us,
                    skewed.p99_us,
                    uniform.p50_us,
                    uniform.p99_us,
                    session.values_checked
                )
            }
            Err(why) => format!("{:<20} {:>9} NOT SHOWN: {}", row.place, row.dram, why.trim()),
        };
        text += &line;
        text.push('\n');
    }
    text
}

/// What lay where under memvisor, from its report.
fn tiers(report: &Value) -> String {
    let at = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let mut text = String::from("under memvisor, at the fullest moment:\n");
    for (name, path) in [
        ("resident in DRAM", "/bytes_by_tier/dram"),
        ("compressed in DRAM", "/bytes_by_tier/ram"),
        ("in the file", "/bytes_by_tier/log"),
        ("charged to DRAM, most", "/dram_charged_bytes_max"),
        ("target", "/dram_target_bytes"),
        ("unmanaged beside it", "/overhead_bytes"),
        ("all, as the kernel counts", "/outside_bytes_max"),
    ] {
        text += &format!("  {name:<26} {:>10}\n", mib(at(path)));
    }
    text += &format!("  {:<26} {:>10}, {} pages moved out\n", "faults", at("/faults"), at("/evictions"));
    text += &format!(
        "  {:<26} {:>10.1} us, 99 of 100 within {:.1} us, all within {:.0} us\n",
        "half of them within",
        at("/fault_ns/p50") as f64 / 1e3,
        at("/fault_ns/p99") as f64 / 1e3,
        at("/fault_ns/max") as f64 / 1e3
    );
    text + &format!("  {:<26} {:>10}\n", "errors", at("/errors"))
}

/// Writes what was shown beside the results of the benches.
fn keep(context: &Context, rows: &[Row], remarks: &[String]) -> Result<(), String> {
    let servers: Vec<Value> = rows
        .iter()
        .map(|row| match &row.outcome {
            Ok(session) => {
                let figures = |name: &str| {
                    let figures = session.figures(name).unwrap_or_default();
                    json!({ "us_per_op": figures.us_per_op, "p50_us": figures.p50_us, "p99_us": figures.p99_us })
                };
                json!({
                    "place": row.place, "dram": row.dram, "skewed": figures("zipf"), "uniform": figures("uniform"),
                    "values_checked": session.values_checked, "report": session.report,
                })
            }
            Err(why) => json!({ "place": row.place, "dram": row.dram, "failure": why }),
        })
        .collect();
    let mut results =
        context.bench("demo", json!({ "keys": KEYS, "value_bytes": VALUE_BYTES, "dram_bytes": DRAM_BYTES })).settings;
    results["servers"] = json!(servers);
    results["remarks"] = json!(remarks);
    let path = context.out.join("demo.json");
    let text = serde_json::to_string_pretty(&results).map_err(|error| error.to_string())?;
    std::fs::write(&path, text + "\n").map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
