//! The product, used from outside only: a command line and a report.

use crate::group::Group;
use crate::run::{Launch, Outcome};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far the charged memory may be above the target: running memory is not stopped in mid-air.
const BUDGET_SLACK: f64 = 1.02;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A `memvisor` binary that works.
#[derive(Clone, Debug)]
pub struct Memvisor {
    binary: PathBuf,
    scratch: PathBuf,
}

/// A run under memvisor.
#[derive(Clone, Debug)]
pub struct OursOutcome {
    /// As of any run.
    pub run: Outcome,
    /// What `--report` wrote.
    pub report: Value,
}

impl Memvisor {
    /// The `memvisor` beside this program.
    ///
    /// # Errors
    /// Says that there is none, or that it does not answer to its name.
    pub fn find(scratch: &Path) -> Result<Self, String> {
        Self::at(&sibling("memvisor")?, scratch)
    }

    fn at(binary: &Path, scratch: &Path) -> Result<Self, String> {
        let answer = Command::new(binary)
            .arg("--version")
            .output()
            .map_err(|error| format!("no {}: {error}", binary.display()))?;
        if !answer.status.success() || !answer.stdout.starts_with(b"memvisor") {
            return Err(format!("{} does not answer to --version as memvisor does", binary.display()));
        }
        Ok(Self { binary: binary.to_owned(), scratch: scratch.to_owned() })
    }

    /// `command` under memvisor with `dram_bytes`, spilling into `store` if there is one.
    pub fn wrap<T: AsRef<OsStr>>(
        &self,
        dram_bytes: u64,
        store: Option<&Path>,
        report: &Path,
        command: impl IntoIterator<Item = T>,
    ) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![self.binary.clone().into(), "run".into()];
        words.extend(["--dram".into(), size(dram_bytes).into(), "--report".into(), report.into()]);
        if let Some(store) = store {
            words.extend(["--store".into(), store.into()]);
        }
        words.push("--".into());
        words.extend(command.into_iter().map(|word| word.as_ref().to_owned()));
        words
    }

    /// Runs `launch` under memvisor, in `group` for accounting.
    ///
    /// # Errors
    /// As [`Launch::run`], or when there is no report, or when the report says that the budget did not hold.
    pub fn run(
        &self,
        launch: &Launch,
        dram_bytes: u64,
        store: Option<&Path>,
        group: Option<&Group>,
    ) -> Result<OursOutcome, String> {
        let path = self.report_path();
        let wrapped = Launch { command: self.wrap(dram_bytes, store, &path, &launch.command), ..launch.clone() };
        let run = wrapped.run(group)?;
        let report = read_report(&path)?;
        Ok(OursOutcome { run, report })
    }

    /// A path for one report that no other run uses.
    #[must_use]
    pub fn report_path(&self) -> PathBuf {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.scratch.join(format!("report-{}-{number}.json", std::process::id()))
    }
}

/// Reads a report and removes its file.
///
/// # Errors
/// When there is none, it is no JSON, it names errors, or its charge went above its target.
pub fn read_report(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("memvisor left no report {}: {error}", path.display()))?;
    let _ = std::fs::remove_file(path);
    let report: Value =
        serde_json::from_str(&text).map_err(|error| format!("memvisor's report is no JSON: {error}"))?;
    let bytes = |field: &str| report[field].as_f64();
    if let (Some(target), Some(charged)) = (bytes("dram_target_bytes"), bytes("dram_charged_bytes_max"))
        && charged > target * BUDGET_SLACK
    {
        return Err(format!("the budget did not hold: {charged} bytes charged of {target}"));
    }
    Ok(report)
}

/// A program that was built beside this one.
///
/// # Errors
/// When this program does not know where it lies.
pub fn sibling(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot tell where this program lies: {error}"))?;
    let mut dir = own.parent().unwrap_or(Path::new(".")).to_owned();
    // Test programs lie one directory deeper.
    if dir.ends_with("deps") {
        dir.pop();
    }
    Ok(dir.join(name))
}

/// Sizes for `--dram`: whole KiB, which every version of the command line understands.
fn size(bytes: u64) -> String {
    format!("{}K", bytes >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_memvisor_is_not_taken_for_it() {
        let error = Memvisor::at(Path::new("/bin/true"), Path::new("/")).unwrap_err();
        assert!(error.contains("does not answer"), "{error}");
        assert!(Memvisor::at(Path::new("/no/such/file"), Path::new("/")).is_err());
    }

    #[test]
    fn a_report_above_its_target_is_an_error() {
        let path = std::env::temp_dir().join(format!("memvisor-bench-report-{}", std::process::id()));
        let charge = |charged: u64| {
            let text = format!("{{\"dram_target_bytes\": 100, \"dram_charged_bytes_max\": {charged}}}");
            std::fs::write(&path, text).expect("the temporary directory is writable");
            read_report(&path)
        };
        assert!(charge(102).is_ok());
        assert!(charge(103).unwrap_err().contains("did not hold"));
        assert!(read_report(&path).unwrap_err().contains("no report"), "a report is read once");
    }
}
