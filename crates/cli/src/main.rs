//! `memvisor`: the command that people see.
//!
//! ```text
//!  args ──▶ program, preload, budget, store_file   what was asked for, checked
//!            └─▶ space ──▶ supervise ──▶ sample ──▶ report, status    what happens
//!  node                                            divides the host
//!  client, top ──▶ a node                          what people ask it
//!  doctor, bench, sim, manual                                         what else can be asked
//!  exit                                            how it all ends
//! ```
//!
//! Every command gives an outcome; failures are printed here and nowhere else.
#![forbid(unsafe_code)]

mod ability;
mod args;
mod attaching;
mod bench;
mod budget;
mod client;
mod counters;
mod curve;
mod doctor;
mod exit;
mod findings;
mod host;
mod keeping;
mod manual;
mod node;
mod preload;
mod program;
mod report;
mod run;
mod sample;
mod sim;
mod space;
mod status;
mod store_bench;
mod store_file;
mod supervise;
mod top;
mod touch;
mod watch;

use args::{Cli, Command};
use clap::Parser;
use exit::{Exit, Outcome};
use memvisor_proto::size;
use std::process::ExitCode;

fn main() -> ExitCode {
    let exit = match Cli::try_parse() {
        Ok(cli) => execute(cli.command).unwrap_or_else(|failure| {
            eprintln!("{}", exit::explain(&*failure));
            failure.exit()
        }),
        Err(error) => refuse(&error),
    };
    ExitCode::from(exit.code())
}

fn execute(command: Command) -> Outcome {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Node(args) => node::node(&args),
        Command::Top(args) => top::top(&args),
        Command::Ps(args) => client::ps(&args),
        Command::Stats(args) => client::stats(&args),
        Command::Explain(args) => client::explain(&args),
        Command::Set(args) => client::set(&args),
        Command::Drain(args) => client::drain(&args),
        Command::Curve(args) => client::curve(&args),
        Command::Reload(args) => client::reload(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Sim(args) => sim::sim(&args),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { directory } => manual::man(&directory),
        Command::Bench(args) => bench::bench(&args),
        Command::BenchTouch(args) => touch::main(&args),
    }
}

/// Prints what is wrong with the arguments, or the help that was asked for.
fn refuse(error: &clap::Error) -> Exit {
    // Nothing can be done for a reader that has gone away.
    let _ = error.print();
    let is_run = std::env::args_os().nth(1).is_some_and(|word| word == "run");
    match (error.use_stderr(), is_run) {
        (false, _) => Exit::Success,
        // 2 could be the program's.
        (true, true) => Exit::Memvisor,
        (true, false) => Exit::Usage,
    }
}
