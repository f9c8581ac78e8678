//! `cargo x`: the one developer command.
//!
//! ```text
//!   check   format, lints, docs, crate edges, names in docs, paths of one machine     writes nothing into the tree
//!   test    setup, build, unit and integration tests, loom, real programs, and what could not run
//!   bench, demo                 memvisor-bench, built first
//!   experiment                  those of ESX, on real processes
//!   optimum                     the policy beside a linear program
//!   soak                        real programs for long
//!   setup, doc, man, ci
//! ```
//!
//! Absent on purpose: any dependency on the product's crates, so that this command builds whatever state they are in.
#![forbid(unsafe_code)]

mod check;
mod command;
mod packages;
mod programs;
mod setup;
mod test;
mod tree;

use clap::{Parser, Subcommand};
use command::{Cargo, Failure};
use std::process::ExitCode;
use tree::Tree;

/// Builds, checks, tests and measures memvisor.
#[derive(Parser)]
#[command(name = "cargo x", bin_name = "cargo x", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 well, 1 something failed, 2 wrong arguments, 3 a bench missed a goal or a claim does not hold."
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check format, lints, documentation, crate edges and names; writes nothing into the tree
    Check,
    /// Run all tests, and say at the end what could not run and why
    Test {
        /// Leave out the real programs
        #[arg(long)]
        no_programs: bool,
        /// Install nothing; what lacks a package says so
        #[arg(long)]
        no_setup: bool,
    },
    /// Measure memvisor beside the kernel's own swap, in interleaved pairs
    Bench {
        /// Which benches [default: all]; a wrong name lists them
        names: Vec<String>,
        /// Pairs of each comparison; ten make a claim [default: 10, with --quick 3]
        #[arg(long)]
        pairs: Option<u16>,
        /// Smaller sets and fewer pairs: a look, not a claim
        #[arg(long)]
        quick: bool,
    },
    /// Show the main job: Redis with a gigabyte of data in a quarter of the DRAM, every value read back
    Demo,
    /// Make the experiments of the ESX paper with a node and real processes
    Experiment {
        /// Which [default: all]; a wrong name lists them
        names: Vec<String>,
        /// Shorter: a look, not a claim
        #[arg(long)]
        quick: bool,
    },
    /// Compare the policy with the optimum that a linear program finds, on random instances
    #[command(
        after_help = "Needs python3 with its module venv. The solver, HiGHS, is installed from PyPI into target/highs when there \
                            is none.\n\nExit codes: 0 all goals are within 0.1 % of the optimum, 1 it cannot run, 2 wrong arguments, 3 a goal is off."
    )]
    Optimum {
        /// Instances
        #[arg(default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
        count: u64,
        /// What they are made from: the same seed makes the same instances
        #[arg(default_value_t = 1)]
        seed: u64,
    },
    /// Run the real programs for long
    Soak {
        /// Which [default: all]
        names: Vec<String>,
    },
    /// Build the documentation of all crates
    Doc,
    /// Do what a change has to pass: test and check
    Ci,
    /// Install the Debian packages that tests and benches use, or print the line that does
    Setup,
    /// Write the manual pages and shell completions into target/man
    Man,
}

fn main() -> ExitCode {
    let tree = Tree::of_this_program();
    let cargo = Cargo::new(&tree);
    let outcome = match Args::parse().command {
        Command::Check => check::all(&tree, &cargo),
        Command::Test { no_programs, no_setup } => test::all(&tree, &cargo, &test::Choice { no_programs, no_setup }),
        Command::Bench { names, pairs, quick } => programs::bench(&tree, &cargo, &names, pairs, quick),
        Command::Demo => programs::demo(&tree, &cargo),
        Command::Experiment { names, quick } => programs::experiment(&tree, &cargo, &names, quick),
        Command::Optimum { count, seed } => programs::optimum(&tree, &cargo, count, seed),
        Command::Soak { names } => programs::soak(&tree, &cargo, &names),
        Command::Doc => check::documentation(&cargo),
        Command::Ci => test::all(&tree, &cargo, &test::Choice::default()).and_then(|()| check::all(&tree, &cargo)),
        Command::Setup => setup::all(&tree),
        Command::Man => programs::man(&tree, &cargo),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, code }) => {
            eprintln!("cargo x: {message}");
            ExitCode::from(code)
        }
    }
}
