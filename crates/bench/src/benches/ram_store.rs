//! The RAM store beside zram: bytes of DRAM for a held byte, and time to store and to load a page, over the same pages.
//!
//! Our side is the example `ram_density` of the store's crate, which writes the pages that it stored into a file for the peer.

use memvisor_bench::context::{Context, OURS};
use memvisor_bench::ours::sibling;
use memvisor_bench::pairs::{Sample, Side};
use memvisor_bench::peer::raw::RawZram;
use memvisor_bench::report::{Bench, Goal};
use memvisor_bench::run::Launch;
use serde_json::json;

const THEIRS: &str = "zram lz4";
const DRAM: &str = "dram_bytes_per_byte";
const STORE: &str = "store_us_per_page";
const LOAD: &str = "load_us_per_page";
const PAGE: f64 = memvisor_bench::pages::PAGE as f64;

/// Kinds of pages that the example knows and that both sides hold in full.
const KINDS: [&str; 2] = ["half-random", "text"];

pub fn run(context: &Context) -> Result<Bench, String> {
    let mib: u64 = if context.quick { 32 } else { 128 };
    let mut bench = context.bench("ram-store", json!({ "mib": mib }));
    let example = sibling("examples/ram_density")?;
    if !example.exists() {
        return Err(format!("{} is not built: cargo build --release --examples", example.display()));
    }
    let zram = RawZram::new((mib as usize) << 21);
    if let Err(why) = &zram {
        println!("CANNOT RUN zram: {why}");
    }
    for kind in KINDS {
        let dump = context.store(&format!("pages-{kind}"));
        let words = [example.as_os_str().to_owned(), mib.to_string().into(), kind.into()];
        let ours = Launch::new(&words, &context.cpus);
        let mut dumping = ours.clone();
        dumping.env.push(("RAM_DENSITY_DUMP".into(), dump.path().into()));
        dumping.run(None)?;
        let pages =
            std::fs::read(dump.path()).map_err(|error| format!("{} left no pages: {error}", example.display()))?;

        let count = pages.len() as f64 / PAGE;
        let mut sides = Vec::new();
        if let Ok(zram) = &zram {
            sides.push(Side::new(THEIRS, || {
                let held = zram.hold(&pages)?;
                Ok(Sample::of([
                    (DRAM, held.dram_bytes as f64 / pages.len() as f64),
                    (STORE, held.store_time.as_secs_f64() * 1e6 / count),
                    (LOAD, held.load_time.as_secs_f64() * 1e6 / count),
                ]))
            }));
        }
        sides.push(Side::new(OURS, || {
            let outcome = ours.run(None)?;
            let mut sample = Sample::of([
                (DRAM, outcome.number("dram_bytes")? / outcome.number("bytes_stored")?),
                (STORE, PAGE / outcome.number("save_mb_s")?),
                (LOAD, PAGE / outcome.number("load_mb_s")?),
            ]);
            sample.details = outcome.said;
            Ok(sample)
        }));
        bench.series.push(context.interleave(kind, sides));
        let goal = |what: &str, cost, at_most| Goal {
            what: format!("{kind}, {what}"),
            series: kind.into(),
            ours: OURS.into(),
            peers: vec![THEIRS.into()],
            cost,
            at_most,
        };
        bench.goals.push(goal("DRAM for a held byte", DRAM, Some(1.0)));
        bench.goals.push(goal("time to store", STORE, None));
        bench.goals.push(goal("time to load", LOAD, None));
    }
    bench.notes.push(
        "zram is asked in requests of 1 MiB, past the page cache; its times hold a system call for 256 pages".into(),
    );
    Ok(bench)
}
