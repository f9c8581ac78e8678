//! `memvisor node`: the node itself.

use crate::args::{LogFormat, NodeArgs};
use crate::exit::{Exit, Failure, Outcome};
use memvisor_node::RunError;
use std::io::{self, IsTerminal};
use tracing_subscriber::filter::LevelFilter;

impl Failure for RunError {
    fn way_out(&self) -> Option<String> {
        Some(self.way_out())
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
