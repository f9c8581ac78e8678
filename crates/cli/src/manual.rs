//! Shell completions and manual pages, made from the definition of the arguments so that they cannot lag behind it.

use crate::args::Cli;
use crate::exit::{Exit, Failure, Outcome};
use clap::CommandFactory;
use clap_complete::Shell;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why the texts cannot be written.
#[derive(Debug)]
pub struct WriteError(Option<PathBuf>, io::Error);

impl WriteError {
    /// Standard output takes nothing.
    pub fn to_output(error: io::Error) -> Self {
        Self(None, error)
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(path) => write!(f, "cannot write the manual pages into {}", path.display()),
            None => f.write_str("cannot write to standard output"),
        }
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.1)
    }
}

impl Failure for WriteError {
    fn way_out(&self) -> Option<String> {
        self.0.as_ref().map(|_| "name a directory that you may write to".into())
    }
}

/// Prints the completions for `shell`.
///
/// # Errors
/// When nobody takes them.
pub fn completions(shell: Shell) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "memvisor", &mut text);
    match io::stdout().write_all(&text) {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(WriteError::to_output(error).into()),
        _ => Ok(Exit::Success),
    }
}

/// Writes `memvisor.1` and a page for each command into `directory`, which is made if it is not there.
///
/// # Errors
/// When it cannot be written to.
pub fn man(directory: &Path) -> Outcome {
    let failed = |error| WriteError(Some(directory.into()), error);
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)?;
    Ok(Exit::Success)
}
