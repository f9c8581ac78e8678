//! How the command ends: its exit codes, what a failure is, and the one place that prints one.

use std::error::Error;
use std::fmt::Write as _;

/// The exit code of the command, as documented in `memvisor run --help`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// All went well.
    Success,
    /// A question was asked and the answer is no (`doctor`: this machine cannot manage programs).
    No,
    /// The arguments are wrong. Outside `run`, where 2 could be the program's.
    Usage,
    /// The program ended by itself, with this code.
    Program(u8),
    /// The program was ended by this signal: 128 + signal, as shells say it.
    Signal(u8),
    /// memvisor itself failed, or was asked for what cannot be.
    Memvisor,
    /// The program was found and cannot be run.
    CannotRun,
    /// The program was not found.
    NotFound,
}

impl Exit {
    /// The number that the parent process sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::No => 1,
            Exit::Usage => 2,
            Exit::Program(code) => code,
            Exit::Signal(signal) => 128u8.saturating_add(signal),
            Exit::Memvisor => 125,
            Exit::CannotRun => 126,
            Exit::NotFound => 127,
        }
    }
}

/// What went wrong, in a form that helps the person who reads it.
///
/// `Display` says what went wrong, `source` why, and neither repeats the other.
pub trait Failure: Error {
    /// What the person can do about it, as a sentence without a full stop.
    fn way_out(&self) -> Option<String>;
    /// How the command ends because of it.
    fn exit(&self) -> Exit {
        Exit::Memvisor
    }
}

impl<F: Failure + 'static> From<F> for Box<dyn Failure> {
    fn from(failure: F) -> Self {
        Box::new(failure)
    }
}

/// What a command gives to `main`.
pub type Outcome = Result<Exit, Box<dyn Failure>>;

/// The text of a failure: cause by cause, then the way out.
pub fn explain(failure: &dyn Failure) -> String {
    let mut text = format!("memvisor: {failure}");
    let mut source = failure.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    if let Some(way_out) = failure.way_out() {
        let _ = write!(text, "\n  way out: {way_out}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Broken(std::io::Error);
    impl std::fmt::Display for Broken {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("cannot open the store")
        }
    }
    impl Error for Broken {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
    impl Failure for Broken {
        fn way_out(&self) -> Option<String> {
            Some("name a directory that you may write to".into())
        }
    }

    #[test]
    fn a_failure_is_printed_with_each_cause_once_and_the_way_out() {
        let failure = Broken(std::io::Error::other("the disk is gone"));
        assert_eq!(
            explain(&failure),
            "memvisor: cannot open the store: the disk is gone\n  way out: name a directory that you may write to"
        );
    }

    #[test]
    fn the_codes_are_those_of_env_and_of_shells() {
        assert_eq!(Exit::Program(7).code(), 7);
        assert_eq!(Exit::Signal(15).code(), 143);
        assert_eq!([Exit::Memvisor, Exit::CannotRun, Exit::NotFound].map(Exit::code), [125, 126, 127]);
    }
}
