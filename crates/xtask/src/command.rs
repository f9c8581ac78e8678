//! Running other programs, and saying which.

use crate::tree::Tree;
use std::ffi::OsStr;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Why a command of ours ends badly, and with which exit code.
#[derive(Debug)]
pub struct Failure {
    /// For a person: what failed, and the way out if there is one.
    pub message: String,
    /// For a program.
    pub code: u8,
}

impl Failure {
    /// A failure with exit code 1.
    pub fn new(message: impl Display) -> Self {
        Self { message: message.to_string(), code: 1 }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

/// Cargo, run at the root of the tree.
pub struct Cargo {
    program: PathBuf,
    root: PathBuf,
}

impl Cargo {
    /// The cargo that runs us, or the one on the path.
    pub fn new(tree: &Tree) -> Self {
        let program = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        Self { program, root: tree.root().to_owned() }
    }

    /// A command line of cargo.
    pub fn command<T: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = T>) -> Command {
        let mut command = Command::new(&self.program);
        // What cargo told us about our own package is not for the packages that it builds now.
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR")
        {
            command.env_remove(name);
        }
        command.args(words).current_dir(&self.root);
        command
    }

    /// Runs a command line of cargo and shows all that it says.
    pub fn run<T: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = T>) -> Result<(), Failure> {
        run(&mut self.command(words))
    }

    /// Whether cargo has the subcommand `name`.
    pub fn has(&self, name: &str) -> bool {
        succeeds(self.command([name, "--version"]))
    }
}

/// Runs `command` and shows all that it says.
pub fn run(command: &mut Command) -> Result<(), Failure> {
    let line = shown(command);
    println!("$ {line}");
    let status = command.status().map_err(|error| Failure::new(format!("cannot start `{line}`: {error}")))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("`{line}` ended with {status}"))) }
}

/// Runs `command` and gives its standard output.
pub fn output(command: &mut Command) -> Result<String, Failure> {
    let line = shown(command);
    let done = command.output().map_err(|error| Failure::new(format!("cannot start `{line}`: {error}")))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(Failure::new(format!("`{line}` ended with {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim())))
}

/// Whether `command` runs and ends well, in silence.
pub fn succeeds(mut command: Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The program's name and its arguments.
pub fn shown(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_badly_is_named() {
        let failure = run(Command::new("sh").args(["-c", "exit 7"])).unwrap_err();
        assert!(failure.message.contains("sh -c exit 7") && failure.message.contains('7'), "{}", failure.message);
        assert!(output(Command::new("sh").args(["-c", "echo why >&2; exit 1"])).unwrap_err().message.contains("why"));
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failure_and_no_panic() {
        assert!(run(&mut Command::new("/no/such/program")).is_err());
        assert!(!succeeds(Command::new("/no/such/program")));
    }
}
