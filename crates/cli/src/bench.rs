//! `memvisor bench`: a quick self-test of this machine. How fast pages are saved and loaded by each store, and what a
//! touch costs a program that has half of its memory in DRAM, beside the same program without memvisor.
//!
//! It answers "what will it cost here" in seconds. It is no comparison with the kernel's swap.

use crate::args::{BenchArgs, Order};
use crate::exit::{Exit, Failure, Outcome};
use crate::host;
use crate::size::Size;
use crate::status::Nanoseconds;
use crate::store_bench::{self, StoreFigures};
use crate::store_file::StoreError;
use crate::touch::Touched;
use rustix::process::{Pid, Signal};
use serde::Serialize;
use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Times each run is repeated; the median counts. A run takes about a second.
const REPEATS: usize = 3;
/// Time after which a run is given up: a hundred times what it takes.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);
/// Touches of a run: enough for a p99 of faults.
const TOUCHES: u64 = 100_000;
/// Memory that the stores are tested with: more than the processor caches.
const STORE_BYTES: u64 = 64 << 20;

/// Why there are no figures.
#[derive(Debug)]
pub enum BenchError {
    /// The place for the file store cannot be used.
    Store(StoreError),
    /// A store refuses pages or loses them.
    Broken(&'static str, String),
    /// The program could not be run.
    Run(io::Error),
    /// The run ended badly, and said this.
    Ended(String),
    /// The program found words that were not what they must be.
    Wrong(u64),
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BenchError::Store(error) => fmt::Display::fmt(error, f),
            BenchError::Broken(store, why) => write!(f, "the {store} store does not work: {why}"),
            BenchError::Run(_) => f.write_str("cannot start the built-in program"),
            BenchError::Ended(said) => write!(f, "the built-in program did not end well: {}", said.trim()),
            BenchError::Wrong(words) => write!(f, "{words} words came back wrong: do not use memvisor on this machine"),
        }
    }
}

impl std::error::Error for BenchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BenchError::Run(source) => Some(source),
            BenchError::Store(_) | BenchError::Broken(..) | BenchError::Ended(_) | BenchError::Wrong(_) => None,
        }
    }
}

impl Failure for BenchError {
    fn way_out(&self) -> Option<String> {
        match self {
            BenchError::Store(error) => error.way_out(),
            BenchError::Broken(..) | BenchError::Wrong(_) => {
                Some("report it, with the output of memvisor doctor".into())
            }
            BenchError::Run(_) | BenchError::Ended(_) => Some("see memvisor doctor".into()),
        }
    }
}

/// All that was measured.
#[derive(Debug, Serialize)]
struct Figures {
    version: &'static str,
    kernel: String,
    stores: Vec<StoreFigures>,
    programs: Vec<ProgramFigures>,
}

/// What a program costs that touches memory in some order.
#[derive(Debug, Serialize)]
struct ProgramFigures {
    order: &'static str,
    size_bytes: u64,
    dram_bytes: u64,
    /// One first touch of a page, without memvisor and with it.
    fill_ns: Pair,
    /// One touch after that.
    touch_ns: Pair,
    /// Service times of faults in the last managed run.
    fault_ns: serde_json::Value,
    /// Faults in that run.
    faults: u64,
}

/// The same without memvisor and with it.
#[derive(Debug, Serialize)]
struct Pair {
    plain: f64,
    managed: f64,
}

/// Measures and prints.
///
/// # Errors
/// When something could not be measured.
pub fn bench(args: &BenchArgs) -> Outcome {
    let store = args.store.clone().unwrap_or_else(std::env::temp_dir);
    let stores = vec![store_bench::ram(STORE_BYTES)?, store_bench::log(&store, STORE_BYTES)?];
    let dram = args.dram.map_or(args.size.0 / 2, |dram| dram.0);
    let programs = [Order::Random, Order::Sequential]
        .into_iter()
        .map(|order| program(Job { size: args.size, dram, store: &store, order }))
        .collect::<Result<Vec<_>, _>>()?;
    let figures = Figures { version: env!("CARGO_PKG_VERSION"), kernel: host::kernel_release(), stores, programs };
    let text = if args.json {
        serde_json::to_string_pretty(&figures).expect("figures are numbers and strings") + "\n"
    } else {
        table(&figures)
    };
    print!("{text}");
    Ok(Exit::Success)
}

/// What the built-in program is to do, and with what.
#[derive(Clone, Copy)]
struct Job<'a> {
    size: Size,
    dram: u64,
    store: &'a Path,
    order: Order,
}

fn program(job: Job<'_>) -> Result<ProgramFigures, BenchError> {
    let (mut fills, mut touches) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut report = serde_json::Value::Null;
    // Plain and managed in turn, so that what else the machine does meets both.
    for run in 0..2 * REPEATS {
        let is_managed = run % 2 == 1;
        let (touched, said) = run_once(job, is_managed)?;
        fills[run % 2].push(touched.fill_ns as f64 / touched.pages as f64);
        touches[run % 2].push(touched.touch_ns as f64 / touched.touches.max(1) as f64);
        if is_managed {
            report = said;
        }
    }
    let pair = |[plain, managed]: [Vec<f64>; 2]| Pair { plain: median(plain), managed: median(managed) };
    Ok(ProgramFigures {
        order: name_of(job.order),
        size_bytes: job.size.0,
        dram_bytes: job.dram,
        fill_ns: pair(fills),
        touch_ns: pair(touches),
        fault_ns: report["fault_ns"].clone(),
        faults: report["faults"].as_u64().unwrap_or(0),
    })
}

fn name_of(order: Order) -> &'static str {
    match order {
        Order::Random => "random",
        Order::Sequential => "sequential",
    }
}

/// Runs the built-in program once; what it measured, and the report of the run.
fn run_once(job: Job<'_>, is_managed: bool) -> Result<(Touched, serde_json::Value), BenchError> {
    let own = std::env::current_exe().map_err(BenchError::Run)?;
    let mut command = Command::new(&own);
    command.args(["run", "--json"]);
    if is_managed {
        command.args(["--strict", "--dram", &job.dram.to_string(), "--store"]).arg(job.store);
    } else {
        command.arg("--unmanaged");
    }
    let (size, touches) = (job.size.0.to_string(), TOUCHES.to_string());
    command.arg("--").arg(own);
    command.args(["bench-touch", "--size", &size, "--touches", &touches, "--order", name_of(job.order)]);
    let output = output_in_time(&mut command).map_err(BenchError::Run)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let touched: Touched =
        serde_json::from_slice(&output.stdout).map_err(|_| BenchError::Ended(said.clone().into_owned()))?;
    if touched.wrong > 0 {
        return Err(BenchError::Wrong(touched.wrong));
    }
    // Warnings may stand before the report.
    let report = said.find('{').and_then(|at| serde_json::from_str(&said[at..]).ok());
    report.map(|report| (touched, report)).ok_or_else(|| BenchError::Ended(said.into_owned()))
}

/// What the command wrote until its end. One that takes too long is asked to end, and passes that on to its program.
fn output_in_time(command: &mut Command) -> io::Result<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = Pid::from_raw(child.id() as i32);
    let (ended, end) = mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if let (Err(RecvTimeoutError::Timeout), Some(pid)) = (end.recv_timeout(RUN_TIME_MAX), pid) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
    });
    let output = child.wait_with_output();
    drop(ended);
    // It has nothing left to do.
    let _ = guard.join();
    output
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn nanoseconds(value: f64) -> String {
    Nanoseconds(value.round() as u64).to_string()
}

fn table(figures: &Figures) -> String {
    let mut text = format!("memvisor {} on Linux {}\n\n", figures.version, figures.kernel);
    let _ = writeln!(
        text,
        "{:<12} {:>12} {:>12} {:>16} {:>12}",
        "store", "save a page", "load a page", "load, 32 at once", "bytes held"
    );
    for store in &figures.stores {
        let deep = store.load_deep_ns.map_or("–".into(), nanoseconds);
        let _ = writeln!(
            text,
            "{:<12} {:>12} {:>12} {deep:>16} {:>10.2} ×",
            store.store,
            nanoseconds(store.save_ns),
            nanoseconds(store.load_ns),
            store.bytes_held_per_byte
        );
    }
    for program in &figures.programs {
        let _ = writeln!(
            text,
            "\n{} touches of {} in {} of DRAM",
            program.order,
            Size(program.size_bytes),
            Size(program.dram_bytes)
        );
        let rows = [("first touch", &program.fill_ns), ("touch", &program.touch_ns)];
        for (name, pair) in rows {
            let _ = writeln!(
                text,
                "  {name:<12} {:>10} plain {:>10} managed",
                nanoseconds(pair.plain),
                nanoseconds(pair.managed)
            );
        }
        let quantile = |name: &str| Nanoseconds(program.fault_ns[name].as_u64().unwrap_or(0));
        let _ = writeln!(
            text,
            "  {:<12} {:>10} · p50 {} · p99 {} · max {}",
            "faults",
            program.faults,
            quantile("p50"),
            quantile("p99"),
            quantile("max")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
