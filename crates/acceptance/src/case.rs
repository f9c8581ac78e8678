//! What a case is, and how it ends.

use crate::ctx::Ctx;
use std::time::Duration;

/// How large a case is.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    /// Bytes of memory that the program needs; it is given a quarter of them in DRAM.
    pub bytes: u64,
    /// How often: rounds, operations, children, whatever the case counts.
    pub rounds: u64,
    /// The hard limit of the whole case.
    pub limit: Duration,
}

impl Params {
    /// `mib` MiB, `rounds` rounds, `seconds` seconds.
    pub const fn new(mib: u64, rounds: u64, seconds: u64) -> Self {
        Self { bytes: mib << 20, rounds, limit: Duration::from_secs(seconds) }
    }

    /// A quarter of what the program needs, in whole MiB.
    pub const fn dram_bytes(self) -> u64 {
        (self.bytes / 4).next_multiple_of(1 << 20)
    }
}

/// A real program, and how its results are checked.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name, as typed.
    pub name: &'static str,
    /// What must be there: programs by name, `root`, `file:PATH`.
    pub needs: &'static [&'static str],
    /// For every day.
    pub short: Params,
    /// For a soak.
    pub long: Params,
    /// Runs it and checks what it did.
    pub run: fn(&Ctx) -> Outcome,
}

/// How a case ended.
pub type Outcome = Result<(), NotPassed>;

/// Why a case did not pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotPassed {
    /// Something is wrong.
    Failed(String),
    /// It could not run here.
    Skipped(String),
}

/// A failure with its reason.
pub fn failed<T>(reason: impl Into<String>) -> Result<T, NotPassed> {
    Err(NotPassed::Failed(reason.into()))
}

/// A case that cannot run, with its reason.
pub fn skipped<T>(reason: impl Into<String>) -> Result<T, NotPassed> {
    Err(NotPassed::Skipped(reason.into()))
}

/// Fails with `reason` unless `truth`.
///
/// # Errors
/// The reason.
pub fn must(truth: bool, reason: impl FnOnce() -> String) -> Outcome {
    if truth { Ok(()) } else { failed(reason()) }
}

impl From<std::io::Error> for NotPassed {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What of `needs` is not there: the first, with the way out.
pub fn missing(needs: &[&str]) -> Option<String> {
    needs.iter().find_map(|need| match need.strip_prefix("file:") {
        Some(path) => (!std::path::Path::new(path).exists()).then(|| format!("{path} is not there")),
        None if *need == "root" => (crate::os::user_id() != 0).then(|| "only root can run this case".into()),
        None => program_path(need).is_none().then(|| format!("{need} is not installed (`cargo x setup` installs it)")),
    })
}

/// Where the program `name` lies. Daemons may lie in directories that are not in everybody's PATH.
pub fn program_path(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(daemons).map(|place| place.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_what_is_there_is_not() {
        assert_eq!(missing(&["sh", "file:/proc/self/stat"]), None);
        assert!(missing(&["sh", "no-such-program"]).unwrap().contains("no-such-program"));
        assert!(missing(&["file:/no/such/file"]).unwrap().contains("/no/such/file"));
    }
}
