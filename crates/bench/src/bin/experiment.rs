//! Makes the experiments of the ESX paper on real processes. `cargo x experiment` builds what is needed and calls it.

use clap::Parser;
use memvisor_bench::cleanup;
use memvisor_bench::experiment::{ALL, Experiment, Lab};
use std::path::PathBuf;
use std::process::ExitCode;

/// Makes experiments with a node and real processes.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 all claims hold, 1 an experiment could not be made, 3 a claim does not hold."
)]
struct Args {
    /// Which; all if none is named
    names: Vec<String>,
    /// Shorter: a look, not a claim
    #[arg(long)]
    quick: bool,
    /// Another build of memvisor, which node-kill exchanges its node for
    #[arg(long, value_name = "PATH", default_value = "target/debug/memvisor")]
    other_build: PathBuf,
    /// Where NAME.json and NAME.png go
    #[arg(long, default_value = "target/experiment")]
    out: PathBuf,
}

/// Exit code for a claim that does not hold, apart from experiments that broke.
const MISSED: u8 = 3;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(MISSED),
        Err(message) => {
            eprintln!("experiment: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<bool, String> {
    cleanup::on_signals().map_err(|error| format!("cannot watch for signals: {error}"))?;
    let lab = lab(args)?;
    let known: Vec<&str> = ALL.iter().map(|experiment| experiment.name).collect();
    if let Some(unknown) = args.names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("there is no experiment {unknown:?}; there are {}", known.join(", ")));
    }
    let is_wanted =
        |experiment: &&Experiment| args.names.is_empty() || args.names.iter().any(|name| name == experiment.name);
    let (mut all_hold, mut broken) = (true, Vec::new());
    for experiment in ALL.iter().filter(is_wanted) {
        println!("\n{}: {}", experiment.name, experiment.about);
        let outcome = (experiment.run)(&lab).and_then(|finding| {
            finding.publish(experiment.name, &lab.out)?;
            Ok(finding.holds)
        });
        match outcome {
            Ok(holds) => all_hold &= holds,
            Err(error) => broken.push(format!("{}: {error}", experiment.name)),
        }
    }
    if broken.is_empty() { Ok(all_hold) } else { Err(broken.join("\n")) }
}

fn lab(args: &Args) -> Result<Lab, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let beside = |name: &str| {
        let path = own.with_file_name(name);
        if path.is_file() { Ok(path) } else { Err(format!("there is no {}: cargo build --release", path.display())) }
    };
    std::fs::create_dir_all(&args.out).map_err(|error| format!("cannot make {}: {error}", args.out.display()))?;
    let out = args.out.canonicalize().map_err(|error| format!("cannot find {}: {error}", args.out.display()))?;
    let (memvisor, workingset) = (beside("memvisor")?, beside("workingset")?);
    Ok(Lab { memvisor, other_build: args.other_build.clone(), workingset, out, quick: args.quick })
}
