//! The arguments as typed. What they mean together is decided by the commands.

use crate::client::args as client;
use crate::size::Size;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs unmodified programs in less DRAM than they need.
#[derive(Parser, Debug)]
#[command(name = "memvisor", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a program, and everything it starts, within a budget of DRAM
    Run(Box<RunArgs>),
    /// Divide this machine's DRAM among the programs that run under memvisor
    Node(NodeArgs),
    /// Show the spaces of the node, and go on showing them
    Top(client::TopArgs),
    /// List the spaces of the node
    Ps(client::PsArgs),
    /// Tell all that the node knows of the host and its spaces
    Stats(client::StatsArgs),
    /// Say why a space has the DRAM that it has, and who else was cut
    Explain(client::ExplainArgs),
    /// Change what is wanted for a space: its reservation, limit, shares or class
    Set(client::SetArgs),
    /// Bring all pages of spaces back to plain DRAM and let go of them
    Drain(client::DrainArgs),
    /// Draw how often a space would load pages, at each amount of DRAM
    Curve(client::CurveArgs),
    /// Let the node read its configuration again
    Reload(client::ReloadArgs),
    /// Say what this kernel and machine allow, and what memvisor will therefore do
    Doctor(DoctorArgs),
    /// Measure this machine: how fast pages are saved and loaded, and what a fault costs
    Bench(BenchArgs),
    /// Live through an invented host and its spaces under the real policy, or make recorded plans again
    Sim(SimArgs),
    /// Print a script that completes memvisor's arguments in a shell
    Completions {
        /// The shell to complete in
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// Where to write them
        #[arg(value_hint = ValueHint::DirPath)]
        directory: PathBuf,
    },
    /// Touch memory in a known order and say how long it took (`bench` runs it)
    #[command(hide = true)]
    BenchTouch(TouchArgs),
}

const RUN_AFTER_HELP: &str = "\
Sizes:
  512M, 2GiB, 1.5G: powers of 1024 (KB, MB, GB, TB: powers of 1000); a number alone is bytes.

Exit codes:
  0-255  the program's own exit code
  128+N  the program was ended by signal N
  125    memvisor itself failed, or was asked for what cannot be
  126    the program was found but cannot be run
  127    the program was not found

Signals:
  SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 that another process sends to memvisor are passed on to the \
program. Those that a terminal sends reach the program by themselves. memvisor ends when the last process that the \
program started has ended; a signal that comes after the program itself has ended goes to those that are left, and a second one makes memvisor leave them.

Examples:
  memvisor run --dram 256M --store /var/tmp -- redis-server --port 6400
  memvisor run --dram 2GiB --report usage.json -- python3 train.py";

/// Arguments of `memvisor run`.
#[derive(Args, Debug)]
#[command(override_usage = "memvisor run [OPTIONS] -- CMD [ARGS]...")]
#[command(after_long_help = RUN_AFTER_HELP, after_help = "See --help for sizes, exit codes, signals and examples.")]
pub struct RunArgs {
    /// What the space is called in messages and reports [default: the program's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// DRAM that the program and its children may take together [default: 75 % of the memory that is available now]
    #[arg(long, value_name = "SIZE")]
    pub dram: Option<Size>,
    /// DRAM that is guaranteed to them
    #[arg(long, value_name = "SIZE")]
    pub reservation: Option<Size>,
    /// DRAM that they may never exceed, whatever is free
    #[arg(long, value_name = "SIZE")]
    pub limit: Option<Size>,
    /// Weight against other spaces when memory is short
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub shares: u32,
    /// Who is sacrificed first when the host lacks what it promised [default: standard]
    #[arg(long, value_enum)]
    pub class: Option<Class>,
    /// The directory of the node that divides the host's DRAM, or `none`; a space without a node keeps to --dram
    #[arg(long, value_name = "DIR", env = "MEMVISOR_NODE", default_value = "/run/memvisor", value_hint = ValueHint::DirPath)]
    pub node: PathBuf,
    /// Where pages go that DRAM does not hold: a directory (a file without a name is made there) or a file
    /// [default: none, they are compressed and stay in DRAM]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub store: Option<PathBuf>,
    /// The most that the store may take [default: 90 % of what is free there]
    #[arg(long, value_name = "SIZE", requires = "store")]
    pub store_size: Option<Size>,
    /// The most memory that they need, in DRAM and store together: a node refuses what cannot be held
    #[arg(long, value_name = "SIZE")]
    pub size: Option<Size>,
    /// Write a report to this file when the program has ended
    #[arg(long, value_name = "FILE.json", value_hint = ValueHint::FilePath)]
    pub report: Option<PathBuf>,
    /// Refuse to run what cannot be managed, instead of running it plain
    #[arg(long)]
    pub strict: bool,
    /// Run the program plain, with nothing of memvisor in it: to compare, or to get going again
    #[arg(long, conflicts_with = "strict")]
    pub unmanaged: bool,
    /// Say nothing but errors: no live status, no summary
    #[arg(long, short)]
    pub quiet: bool,
    /// Print the report as JSON on standard error instead of the summary
    #[arg(long)]
    pub json: bool,
    /// Make the stores fail, to see what happens (tests)
    #[arg(long, hide = true, value_name = "FAULT")]
    pub inject: Vec<Inject>,
    /// Move no pages, as on kernels before 6.8 (tests)
    #[arg(long, hide = true)]
    pub without_move: bool,
    /// The program and its arguments
    #[arg(required = true, value_name = "CMD", trailing_var_arg = true, num_args = 1.., value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// Classes of spaces.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Somebody waits for each answer: the last to be cut
    Latency,
    /// Everything else
    Standard,
    /// May wait: the first to be cut
    Batch,
}

/// Faults that the stores can be told to have.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inject {
    /// A bit is flipped in some loads.
    Flip,
    /// Loads fail.
    Error,
    /// Loads stall.
    Stall,
    /// The stores hold next to nothing.
    Full,
}

const NODE_AFTER_HELP: &str = "\
A configuration, in full:
  dram = \"75%\"                    # what is handed out: a size, or a part of the machine's DRAM
  period = \"1s\"                   # between plans
  directory = \"/run/memvisor\"     # attach.sock, node.sock, rules
  state = \"/var/lib/memvisor\"     # names, numbers, history
  record = \"/var/log/memvisor/plans.jsonl\"
  tax = 0.75                       # what idle memory costs its owner, 0 to 0.99
  overhead = \"8M\"                  # set aside for each space at its admission: memory of it that is not managed

  [thresholds]                     # free DRAM at which states begin, as parts
  high = 0.06
  soft = 0.04
  hard = 0.02
  low = 0.01

  [calm]                           # how fast the plan follows
  dead_band = 0.01
  fall = \"30s\"
  shrink = \"256M\"                  # a second
  hysteresis = 0.0025
  stalled = 0.1

  [sample]                         # how use is measured
  period = \"30s\"                   # of time in which the program runs
  pages = 100                      # hidden in each of them, of each process; 1 to 256

  [classes.batch]                  # also standard, latency: what a space has when nobody says
  shares = 250

  [[store]]
  name = \"nvme\"
  path = \"/var/lib/memvisor/store\"
  capacity = \"200GiB\"

  [[rule]]                         # the first that matches counts; match by exe, user, cgroup, name
  match = { exe = \"/usr/bin/redis-server\", user = \"redis\" }
  name = \"cache\"                   # also dram, limit, shares, manage = false
  reservation = \"1GiB\"
  class = \"latency\"
  store = \"nvme\"

Only `dram` has to be said.

Signals:
  SIGHUP            read the configuration again; one that cannot be used changes nothing
  SIGTERM, SIGINT   end; programs keep what they were told

Exit codes:
  0    it was told to end
  125  it cannot run; the lines say why";

/// Arguments of `memvisor node`.
#[derive(Args, Debug)]
#[command(after_long_help = NODE_AFTER_HELP, after_help = "See --help for a configuration, signals and exit codes.")]
pub struct NodeArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
    /// How lines of the log are written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Log each plan, too
    #[arg(long, short)]
    pub verbose: bool,
}

/// How lines of the log are written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Arguments of `memvisor doctor`.
#[derive(Args, Debug)]
#[command(after_long_help = "Exit codes:\n  0  programs can be managed here\n  1  they cannot; the lines say why")]
pub struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `memvisor bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Print the figures as JSON
    #[arg(long)]
    pub json: bool,
    /// Memory that the built-in program touches
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    pub size: Size,
    /// DRAM that it gets [default: half of the size]
    #[arg(long, value_name = "SIZE")]
    pub dram: Option<Size>,
    /// Where the file store that is measured lies: a directory or a file [default: the directory for temporary files]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub store: Option<PathBuf>,
}

const SIM_AFTER_HELP: &str = "\
The same scenario gives the same bytes on standard output, on any machine. How long plans took is said on standard error.

Exit codes:
  0    all that the scenario expects came true; all recorded plans came out again
  1    something did not; the last line, or the first difference, says what
  2    the scenario is refused: the line and the reason are said
  125  a file cannot be read or written

Examples:
  memvisor sim crates/sim/scenarios/idle-tax.toml --plot idle-tax.png
  memvisor sim --replay plans.jsonl";

/// Arguments of `memvisor sim`.
#[derive(Args, Debug)]
#[command(after_long_help = SIM_AFTER_HELP, after_help = "See --help for exit codes and examples.")]
pub struct SimArgs {
    /// The scenario: an invented host, its spaces, and what is expected of them
    #[arg(value_name = "SCENARIO.toml", value_hint = ValueHint::FilePath, required_unless_present = "replay")]
    pub scenario: Option<PathBuf>,
    /// Print the time series, or what came of a replay, as JSON
    #[arg(long)]
    pub json: bool,
    /// Draw the time series into this file
    #[arg(long, value_name = "FILE.png|svg", value_hint = ValueHint::FilePath)]
    pub plot: Option<PathBuf>,
    /// Record each plan with what it was made from, one JSON object a line
    #[arg(long, value_name = "FILE.jsonl", value_hint = ValueHint::FilePath)]
    pub record: Option<PathBuf>,
    /// Make the plans again that were recorded in this file, by a node or with --record
    #[arg(long, value_name = "FILE.jsonl", value_hint = ValueHint::FilePath, conflicts_with_all = ["scenario", "plot", "record"])]
    pub replay: Option<PathBuf>,
}

/// Arguments of the built-in program of `bench`.
#[derive(Args, Debug)]
pub struct TouchArgs {
    /// Memory to touch
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    pub size: Size,
    /// How many pages to touch after the memory is filled
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub touches: u64,
    /// In which order
    #[arg(long, value_enum, default_value_t = Order::Random)]
    pub order: Order,
}

/// The order of touches.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Any page, each equally likely.
    Random,
    /// One after the other, again and again.
    Sequential,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(args: &[&str]) -> Result<RunArgs, clap::Error> {
        let typed = ["memvisor", "run"].iter().chain(args);
        match Cli::try_parse_from(typed)?.command {
            Command::Run(args) => Ok(*args),
            other => panic!("{other:?} is not run"),
        }
    }

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn everything_after_the_program_is_the_programs() {
        for typed in [&["--", "redis", "--dram", "1G", "--", "x"][..], &["redis", "--dram", "1G", "--", "x"]] {
            let args = run(typed).unwrap();
            assert_eq!(args.command, ["redis", "--dram", "1G", "--", "x"]);
            assert_eq!(args.dram, None);
        }
    }

    #[test]
    fn an_option_before_the_program_is_ours() {
        let args = run(&["--dram", "1G", "redis"]).unwrap();
        assert_eq!(args.dram, Some(Size(1 << 30)));
        assert!(run(&["--drm", "1G", "--", "redis"]).is_err());
        assert!(run(&["--dram", "1G"]).is_err(), "a program is required");
    }
}
