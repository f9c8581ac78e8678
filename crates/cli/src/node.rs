//! `memvisor node` and `memvisor reload`.

use crate::args::{LogFormat, NodeArgs, ReloadArgs};
use crate::exit::{Exit, Failure, Outcome};
use memvisor_node::RunError;
use memvisor_node::client::{self, AskError};
use memvisor_node::wire::Reloaded;
use memvisor_proto::attach::{self, NODE_VARIABLE};
use std::fmt;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use tracing_subscriber::filter::LevelFilter;

impl Failure for RunError {
    fn way_out(&self) -> Option<String> {
        Some(self.way_out())
    }
}

impl Failure for AskError {
    fn way_out(&self) -> Option<String> {
        Some(self.way_out())
    }
}

/// `MEMVISOR_NODE` says that no node is wanted.
#[derive(Debug)]
struct NoNodeWanted;

impl fmt::Display for NoNodeWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NODE_VARIABLE} says that no node is wanted")
    }
}

impl std::error::Error for NoNodeWanted {}

impl Failure for NoNodeWanted {
    fn way_out(&self) -> Option<String> {
        Some("name the node's directory with --node".into())
    }
}

/// Runs the node until it is told to end.
///
/// # Errors
/// When it cannot run.
pub fn node(args: &NodeArgs) -> Outcome {
    log_to_stderr(args);
    memvisor_node::run(&args.config)?;
    Ok(Exit::Success)
}

fn log_to_stderr(args: &NodeArgs) {
    let level = if args.verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let log = tracing_subscriber::fmt().with_max_level(level).with_target(false).with_writer(io::stderr);
    // Nobody else in this process logs, so a subscriber cannot be there.
    match args.log_format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// Lets the node read its configuration again.
///
/// # Errors
/// When no node answers, or the configuration cannot be used.
pub fn reload(args: &ReloadArgs) -> Outcome {
    let directory = directory(args.node.as_deref()).ok_or(NoNodeWanted)?;
    let answer = client::ask(&directory, "POST", "/v1/reload", "")?;
    if args.json {
        println!("{answer}");
        return Ok(Exit::Success);
    }
    let reloaded: Reloaded = serde_json::from_str(&answer).map_err(|_| AskError::Garbled)?;
    match reloaded.changes.as_slice() {
        [] => println!("nothing changed; {} rules are in force", reloaded.rules),
        changes => println!("changed: {}; {} rules are in force", changes.join(", "), reloaded.rules),
    }
    Ok(Exit::Success)
}

/// The directory of the node that is meant.
fn directory(typed: Option<&Path>) -> Option<PathBuf> {
    let variable = std::env::var_os(NODE_VARIABLE).map(PathBuf::from);
    typed.map(Path::to_owned).or_else(|| attach::directory(variable.as_deref()))
}
