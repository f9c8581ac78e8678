//! The arguments of the commands that ask a node, as typed.

use clap::{Args, ValueHint};
use std::path::PathBuf;
use std::time::Duration;

/// Exit codes of every command here; `concat!` takes only literals, so it is a macro.
macro_rules! exit_codes {
    () => {
        "\
Exit codes:
  0    done
  1    the node refused, or knows no such space
  2    the arguments are wrong
  125  no node answered, or memvisor itself failed"
    };
}

/// Which node is asked.
#[derive(Args, Clone, Debug)]
pub struct WhichNode {
    /// Directory of the node's sockets [default: what MEMVISOR_NODE says, else /run/memvisor]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub node: Option<PathBuf>,
    /// How long to wait for each answer
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub timeout: Duration,
}

/// Arguments of `memvisor ps`.
#[derive(Args, Debug)]
#[command(after_long_help = concat!(exit_codes!(), "

Columns:
  RESERVED  DRAM that is promised        CHARGED  DRAM that it takes: pages in place, staged and compressed, tables
  LIMIT     the most DRAM                WANTED   what it would take if DRAM were free
  TARGET    DRAM that it may take now    ACTIVE   what of that is in use
  FAULTS/s  faults served                STATE    running, giving, paging, blocked, draining, drained or full"))]
pub struct PsArgs {
    /// Which node
    #[command(flatten)]
    pub node: WhichNode,
    /// Print what the node says of its spaces as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `memvisor stats`.
#[derive(Args, Debug)]
#[command(after_long_help = exit_codes!())]
pub struct StatsArgs {
    /// Which node
    #[command(flatten)]
    pub node: WhichNode,
    /// A space [default: the host and all spaces]
    pub name: Option<String>,
    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `memvisor set`.
#[derive(Args, Debug)]
#[command(override_usage = "memvisor set [OPTIONS] NAME KEY VALUE [KEY VALUE]...")]
#[command(after_long_help = concat!("\
Keys:
  dram SIZE         exactly so much: reservation and limit at once
  reservation SIZE  DRAM that is promised; 0 promises nothing
  limit SIZE|none   the most DRAM
  shares N          weight against other spaces, 1 to 1000000
  class CLASS       batch, standard or latency: who is cut first, and who last

Sizes:
  512M, 2GiB, 1.5G: powers of 1024 (KB, MB, GB, TB: powers of 1000); a number alone is bytes.

", exit_codes!(), "

Examples:
  memvisor set redis reservation 512M
  memvisor set training class batch limit 4GiB"))]
pub struct SetArgs {
    /// Which node
    #[command(flatten)]
    pub node: WhichNode,
    /// The space
    pub name: String,
    /// What is to change, and to what
    #[arg(required = true, num_args = 2.., value_name = "KEY VALUE", allow_hyphen_values = true)]
    pub pairs: Vec<String>,
    /// Print the space as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `memvisor explain`.
#[derive(Args, Debug)]
#[command(after_long_help = exit_codes!())]
pub struct ExplainArgs {
    /// Which node
    #[command(flatten)]
    pub node: WhichNode,
    /// The space
    pub name: String,
    /// Print the reasons as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `memvisor drain`.
#[derive(Args, Debug)]
#[command(after_long_help = concat!("\
A drained space has all its pages in plain DRAM, and memvisor has let go of it: the program runs on as if it had been \
started without memvisor. The node refuses when the DRAM for that is not free.

Ending this command does not end the drain; --cancel does. Pages leave again then, as before; a space that had let go already \
is managed again from then on.

", exit_codes!()))]
pub struct DrainArgs {
    /// Which node
    #[command(flatten)]
    pub node: WhichNode,
    /// The spaces
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    pub names: Vec<String>,
    /// All spaces of the node
    #[arg(long)]
    pub all: bool,
    /// Begin, and do not wait until they are drained
    #[arg(long)]
    pub no_wait: bool,
    /// Call the drain off, however far it is
    #[arg(long, conflicts_with = "no_wait")]
    pub cancel: bool,
}

/// Arguments of `memvisor curve`.
#[derive(Args, Debug)]
#[command(after_long_help = exit_codes!())]
pub struct CurveArgs {
    /// Which node
    #[command(flatten)]
    pub node: WhichNode,
    /// The space
    pub name: String,
    /// Draw it into this file, beside the terminal
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub png: Option<PathBuf>,
    /// Draw it into this file, beside the terminal
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub svg: Option<PathBuf>,
    /// Print the points as JSON instead
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `memvisor reload`.
#[derive(Args, Debug)]
#[command(after_long_help = exit_codes!())]
pub struct ReloadArgs {
    /// Which node
    #[command(flatten)]
    pub node: WhichNode,
}

/// Arguments of `memvisor top`.
#[derive(Args, Debug)]
#[command(after_long_help = concat!("\
Keys:
  q, Ctrl-C        quit                          /           show only names with a text; Esc shows all again
  arrows, j, k     select a space                e, Enter    explain the selected space
  left, right, <, > choose the column to sort by h, ?        help
  r                turn the order around

The bar of a space shows where its memory lies:
  █ in DRAM  ▓ staged  ▒ compressed in DRAM  ░ in a file

", exit_codes!(), "
  128+N  ended by signal N"))]
pub struct TopArgs {
    /// Which node
    #[command(flatten)]
    pub node: WhichNode,
    /// Time between two questions to the node
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub interval: Duration,
    /// Print one picture as text and end
    #[arg(long)]
    pub once: bool,
    /// The column to sort by at first
    #[arg(long, value_enum, default_value = "charged")]
    pub sort: crate::top::Column,
    /// Show only names with this text at first
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub filter: String,
    /// Panic after the first picture (tests)
    #[arg(long, hide = true)]
    pub inject_panic: bool,
}

/// A time in seconds: at most a day, which nobody waits for.
fn seconds(text: &str) -> Result<Duration, String> {
    const SECONDS_MAX: f64 = 86_400.0;
    let right = "write seconds, such as 5 or 0.5";
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is not a number: {right}"))?;
    if seconds > 0.0 && seconds <= SECONDS_MAX {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("`{text}` is not between 0 and {SECONDS_MAX}: {right}"))
    }
}

/// Time between pictures: a tenth of a second is read as movement, and less costs the node for nothing.
fn interval(text: &str) -> Result<Duration, String> {
    const INTERVAL_MIN: Duration = Duration::from_millis(100);
    let interval = seconds(text)?;
    if interval < INTERVAL_MIN { Err(format!("`{text}` is less than 0.1 s")) } else { Ok(interval) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_within_reason() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["", "x", "0", "-1", "inf", "NaN", "1e9"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert_eq!(interval("0.1"), Ok(Duration::from_millis(100)));
        assert!(interval("0.05").is_err());
    }
}
