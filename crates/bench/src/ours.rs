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

/// Memory that is not managed and yet belongs to the run: text and stacks of the program, memvisor itself and what its
/// pager may hold in a process (16 MiB). A program whose own memory is not managed exceeds it, and is no result.
const UNMANAGED_BYTES_MAX: u64 = 64 << 20;

/// What pager and keeper hold themselves beside what is charged: 3.2 MiB of tables, buffers and stacks for a Redis of 48,000
/// values.
const OWN_BYTES: u64 = 4 << 20;

/// The budget with which a run takes `total_bytes` of DRAM in all: the peer's total has its metadata in it too.
#[must_use]
pub fn budget_in(total_bytes: u64) -> u64 {
    total_bytes - OWN_BYTES.min(total_bytes / 8)
}

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
        let mut words: Vec<OsString> = vec![self.binary.clone().into(), "run".into(), "--node".into(), "none".into()];
        words.extend(["--dram".into(), size(dram_bytes).into(), "--report".into(), report.into()]);
        if let Some(store) = store {
            words.extend(["--store".into(), store.into()]);
        }
        words.push("--".into());
        words.extend(command.into_iter().map(|word| word.as_ref().to_owned()));
        words
    }

    /// Runs `launch`, which needs `set_bytes`, under memvisor with compressed RAM alone, in `group` for accounting.
    ///
    /// # Errors
    /// As [`Launch::run`], or when there is no report, or when the report says that the budget did not hold.
    pub fn run(
        &self,
        launch: &Launch,
        set_bytes: u64,
        dram_bytes: u64,
        group: Option<&Group>,
    ) -> Result<OursOutcome, String> {
        let path = self.report_path();
        let wrapped = Launch { command: self.wrap(dram_bytes, None, &path, &launch.command), ..launch.clone() };
        let run = wrapped.run(group)?;
        let report = read_report(&path, set_bytes, run.memory_max_bytes)?;
        Ok(OursOutcome { run, report })
    }

    /// A path for one report that no other run uses.
    #[must_use]
    pub fn report_path(&self) -> PathBuf {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.scratch.join(format!("report-{}-{number}.json", std::process::id()))
    }
}

/// Reads a report, removes its file, and makes sure that the run was what it is to be compared as: managed, without
/// errors, and within its budget both by its own account and, given `outside_bytes_max`, by the kernel's; and that of
/// its set of `set_bytes` most was managed, and something was moved out if it is larger than the budget. Without these
/// a program that memvisor overlooked would look like a triumph.
///
/// # Errors
/// When there is no report, it is no JSON, or it does not hold.
pub fn read_report(path: &Path, set_bytes: u64, outside_bytes_max: Option<u64>) -> Result<Value, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("memvisor left no report {}: {error}", path.display()))?;
    let _ = std::fs::remove_file(path);
    let report: Value =
        serde_json::from_str(&text).map_err(|error| format!("memvisor's report is no JSON: {error}"))?;
    hold(&report, set_bytes, outside_bytes_max)?;
    Ok(report)
}

fn hold(report: &Value, set_bytes: u64, outside_bytes_max: Option<u64>) -> Result<(), String> {
    if report["managed"] == false {
        return Err(format!("memvisor did not manage it: {}", report["unmanaged_because"]));
    }
    for trouble in ["errors", "lost"] {
        if report[trouble].as_u64().is_some_and(|count| count > 0) {
            return Err(format!("memvisor reports {} {trouble}", report[trouble]));
        }
    }
    let bytes = |field: &str| report[field].as_u64().unwrap_or(0);
    let target = bytes("dram_target_bytes");
    let allowed = target as f64 * BUDGET_SLACK;
    let charged = bytes("dram_charged_bytes_max");
    if charged as f64 > allowed {
        return Err(format!("the budget did not hold: {} of {} MiB charged", charged >> 20, target >> 20));
    }
    let managed = report["managed_bytes_max"].as_u64();
    if let Some(managed) = managed.filter(|managed| *managed < set_bytes / 2) {
        return Err(format!("only {} of {} MiB were managed", managed >> 20, set_bytes >> 20));
    }
    if set_bytes > target && bytes("evictions") == 0 {
        let (set, target) = (set_bytes >> 20, target >> 20);
        return Err(format!(
            "nothing of {set} MiB was moved out of {target} MiB: the program's memory was not managed"
        ));
    }
    match outside_bytes_max {
        Some(outside) if outside as f64 > allowed + UNMANAGED_BYTES_MAX as f64 => Err(format!(
            "the budget did not hold: the kernel charged up to {} MiB where {} MiB were the target",
            outside >> 20,
            target >> 20
        )),
        Some(_) | None => Ok(()),
    }
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

    fn report(changed: &str, value: Value) -> Value {
        let mut report = serde_json::json!({
            "managed": true, "errors": 0, "lost": 0,
            "dram_target_bytes": 100 << 20, "dram_charged_bytes_max": 102 << 20, "evictions": 7,
        });
        report[changed] = value;
        report
    }

    #[test]
    fn a_run_that_was_not_managed_or_broke_its_budget_is_no_result() {
        assert_eq!(hold(&report("space", "x".into()), 200 << 20, Some(150 << 20)), Ok(()));
        assert!(hold(&report("managed", false.into()), 0, None).is_err());
        assert!(hold(&report("errors", 1.into()), 0, None).is_err());
        assert!(hold(&report("lost", 1.into()), 0, None).is_err());
        assert!(hold(&report("dram_charged_bytes_max", (103 << 20).into()), 0, None).is_err());
        assert!(hold(&report("space", "x".into()), 0, Some(170 << 20)).is_err(), "the kernel saw more");
        assert!(hold(&report("evictions", 0.into()), 200 << 20, None).is_err(), "nothing was moved out");
        assert!(hold(&report("managed_bytes_max", (49 << 20).into()), 100 << 20, None).is_err(), "most was overlooked");
        assert!(hold(&report("evictions", 0.into()), 100 << 20, None).is_ok(), "nothing had to be");
    }

    #[test]
    fn a_report_is_read_once() {
        let path = std::env::temp_dir().join(format!("memvisor-bench-report-{}", std::process::id()));
        std::fs::write(&path, report("space", "x".into()).to_string()).expect("the temporary directory is writable");
        assert!(read_report(&path, 0, None).is_ok());
        assert!(read_report(&path, 0, None).unwrap_err().contains("no report"));
    }
}
