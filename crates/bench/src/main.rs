//! `memvisor-bench`: runs benches and the demo. `cargo x bench` and `cargo x demo` build what is needed and call it.

mod benches;
mod demo;

use clap::{Parser, Subcommand};
use memvisor_bench::context::Context;
use memvisor_bench::{cleanup, stats};
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures memvisor beside the kernel's own swap, pair by pair.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 all goals met or not measured, 1 a bench could not run, 3 a goal was missed."
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run benches: interleaved pairs of memvisor and its peers
    Run {
        /// Which; all if none is named
        names: Vec<String>,
        /// Pairs of each comparison; ten make a claim
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
        pairs: Option<u16>,
        /// Smaller sets and three pairs: a look, not a claim
        #[arg(long)]
        quick: bool,
        /// Where NAME.json and NAME.png go
        #[arg(long, default_value = "target/bench")]
        out: PathBuf,
    },
    /// Show a Redis with a gigabyte of data in a quarter of the DRAM, and compare every value
    Demo {
        /// Where demo.json goes
        #[arg(long, default_value = "target/bench")]
        out: PathBuf,
    },
    /// List the benches
    List,
}

/// Exit code for a goal that was missed, apart from benches that broke.
const MISSED: u8 = 3;

/// Pairs of a quick look.
const QUICK_ROUNDS: usize = 3;

fn main() -> ExitCode {
    let outcome = cleanup::on_signals().map_err(|error| format!("cannot watch for signals: {error}")).and_then(|()| {
        match Args::parse().command {
            Command::Run { names, pairs, quick, out } => {
                let rounds = pairs.map_or(if quick { QUICK_ROUNDS } else { stats::CLAIM_ROUNDS }, usize::from);
                run(&names, &Context::new(rounds, quick, &out)?)
            }
            Command::Demo { out } => {
                if demo::run(&Context::new(1, false, &out)?)? {
                    Ok(true)
                } else {
                    Err("memvisor could not be shown; see above".into())
                }
            }
            Command::List => {
                for bench in &benches::ALL {
                    println!("{:14} {}", bench.name, bench.about);
                }
                Ok(true)
            }
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(MISSED),
        Err(message) => {
            eprintln!("memvisor-bench: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the named benches; true if no goal was missed.
fn run(names: &[String], context: &Context) -> Result<bool, String> {
    let known: Vec<&str> = benches::ALL.iter().map(|bench| bench.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("there is no bench {unknown:?}; there are {}", known.join(", ")));
    }
    let wanted = benches::ALL.iter().filter(|bench| names.is_empty() || names.iter().any(|name| name == bench.name));
    let mut broken = Vec::new();
    let mut met = true;
    for bench in wanted {
        println!("\n{}: {}", bench.name, bench.about);
        match (bench.run)(context).and_then(|results| results.finish(&context.out)) {
            Ok(all) => met &= all,
            Err(error) => {
                eprintln!("{}: {error}", bench.name);
                broken.push(bench.name);
            }
        }
    }
    if broken.is_empty() { Ok(met) } else { Err(format!("not all could run: {}", broken.join(", "))) }
}
