//! `cargo x test`: all tests, and aloud what could not run.
//!
//! A test that cannot run here passes and prints a line with `CANNOT RUN` and the reason; a real program that cannot is
//! `skipped`. Both are collected from what the runners print, and said again at the end.

use crate::command::{Cargo, Failure, shown};
use crate::tree::Tree;
use crate::{programs, setup};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Crates without real programs: tested with the checks that a release leaves out, overflow and debug assertions.
const PURE: [&str; 4] = ["memvisor-core", "memvisor-policy", "memvisor-proto", "memvisor-sim"];

/// What marks a test that could not run, and a real program that could not.
const MARKS: [&str; 2] = ["CANNOT RUN", ": skipped: "];

/// The test of core under loom, below `crates/core/tests`.
const LOOM: &str = "page_life_loom";

/// The crate that runs the real programs: they run by themselves, one at a time, at the end. What it measures with is tested
/// before.
const PROGRAMS: &str = "memvisor-acceptance";

const ALL_TESTS: &[&str] = &["--tests"];

/// What is left out.
#[derive(Default)]
pub struct Choice {
    /// The real programs.
    pub no_programs: bool,
    /// Installing packages.
    pub no_setup: bool,
}

/// Runs everything even if a part fails.
pub fn all(tree: &Tree, cargo: &Cargo, choice: &Choice) -> Result<(), Failure> {
    if !choice.no_setup {
        setup::all(tree)?;
    }
    programs::build(cargo)?;
    let mut session = Session::new(|line| println!("{line}"));
    let members = members(cargo)?;
    let pure: Vec<&str> = PURE.into_iter().filter(|name| members.iter().any(|member| member == name)).collect();

    for mut command in unit_tests(cargo, &pure) {
        session.run(&mut command);
    }
    session.run(&mut cargo.command(["test", "--doc", "--workspace", "--release", "--locked", "--quiet"]));
    match loom(tree, cargo) {
        Some(mut command) => session.run(&mut command),
        None => session.cannot("loom: crates/core has no tests under loom"),
    }
    if choice.no_programs {
        session.cannot("real programs: left out by --no-programs");
    } else {
        session.run(Command::new(tree.built("acceptance")).arg("short").current_dir(tree.root()));
    }
    session.finish()
}

/// The runners: pure crates with all checks, then everything else as it is released.
fn unit_tests(cargo: &Cargo, pure: &[&str]) -> Vec<Command> {
    let nextest = cargo.has("nextest");
    if !nextest {
        println!("cargo-nextest is not installed: cargo test runs the tests instead");
    }
    // Output of tests that pass is wanted too: it names what could not run.
    let (runner, shown): (&[&str], &[&str]) = if nextest {
        (&["nextest", "run", "--no-fail-fast", "--success-output=immediate", "--no-tests=pass", "--color=never"], &[])
    } else {
        (&["test", "--no-fail-fast", "--quiet"], &["--", "--show-output"])
    };
    let packages = |flag: &str, names: &[&str]| -> Vec<String> {
        names.iter().flat_map(|name| [flag.to_owned(), (*name).to_owned()]).collect()
    };
    let apart: Vec<&str> = pure.iter().copied().chain([PROGRAMS]).collect();
    let mut parts =
        vec![(vec!["--release".to_owned(), "--workspace".to_owned()], packages("--exclude", &apart), ALL_TESTS)];
    if !pure.is_empty() {
        parts.insert(0, (Vec::new(), packages("--package", pure), ALL_TESTS));
    }
    parts.push((vec!["--release".to_owned()], packages("--package", &[PROGRAMS]), &["--lib", "--test", "outside"]));
    let commands = parts.into_iter().map(|(profile, packages, targets)| {
        let mut command = cargo.command(runner);
        command.args(profile).args(packages).arg("--locked").args(targets).args(shown);
        command
    });
    commands.collect()
}

/// The tests of core under loom: with a target directory of their own, since the flag would rebuild everything.
fn loom(tree: &Tree, cargo: &Cargo) -> Option<Command> {
    let has_tests = tree.root().join(format!("crates/core/tests/{LOOM}.rs")).exists();
    has_tests.then(|| {
        let mut command =
            cargo.command(["test", "--package", "memvisor-core", "--release", "--locked", "--test", LOOM]);
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        command.env("RUSTFLAGS", format!("{flags} --cfg loom")).env("CARGO_TARGET_DIR", tree.target().join("loom"));
        command
    })
}

/// Names of the crates of the workspace.
fn members(cargo: &Cargo) -> Result<Vec<String>, Failure> {
    let text =
        crate::command::output(&mut cargo.command(["metadata", "--no-deps", "--format-version", "1", "--locked"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    Ok(packages.iter().filter_map(|package| Some(package["name"].as_str()?.to_owned())).collect())
}

/// What has run so far, what failed and what could not.
struct Session {
    /// Where lines go: the terminal, but in tests.
    show: fn(&str),
    failed: Vec<String>,
    could_not: Vec<String>,
    summary: Vec<String>,
}

impl Session {
    fn new(show: fn(&str)) -> Self {
        Self { show, failed: Vec::new(), could_not: Vec::new(), summary: Vec::new() }
    }

    /// Runs one runner, shows what it prints and remembers what could not run.
    fn run(&mut self, command: &mut Command) {
        let line = shown(command);
        let start = Instant::now();
        (self.show)(&format!("$ {line}"));
        match tee(command, self.show) {
            Ok((ended_well, could_not)) => {
                self.could_not.extend(could_not);
                self.summary.push(format!(
                    "{} {:.0} s: {line}",
                    if ended_well { "passed" } else { "FAILED" },
                    start.elapsed().as_secs_f64()
                ));
                if !ended_well {
                    self.failed.push(line);
                }
            }
            Err(error) => {
                (self.show)(&format!("cannot start `{line}`: {error}"));
                self.summary.push(format!("FAILED to start: {line}"));
                self.failed.push(line);
            }
        }
    }

    fn cannot(&mut self, what: &str) {
        self.could_not.push(what.to_owned());
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.could_not.dedup();
        (self.show)("\n== what ran ==");
        self.summary.iter().for_each(|line| (self.show)(line));
        (self.show)(&format!(
            "\n== what could not run: {} ==",
            match self.could_not.len() {
                0 => "nothing".to_owned(),
                count => count.to_string(),
            }
        ));
        self.could_not.iter().for_each(|line| (self.show)(line));
        if self.failed.is_empty() { Ok(()) } else { Err(Failure::new(format!("failed: {}", self.failed.join("; ")))) }
    }
}

/// Runs `command`, shows what it prints, and gives the lines that say what could not run.
fn tee(command: &mut Command, show: fn(&str)) -> std::io::Result<(bool, Vec<String>)> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let noted = Arc::new(Mutex::new(Vec::new()));
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|stream| Box::new(stream) as _),
        child.stderr.take().map(|stream| Box::new(stream) as _),
    ];
    let readers: Vec<_> = streams
        .into_iter()
        .flatten()
        .map(|stream| {
            let noted = Arc::clone(&noted);
            std::thread::spawn(move || follow(stream, &noted, show))
        })
        .collect();
    for reader in readers {
        // A reader that panicked has printed why; the runner's own end still counts.
        let _ = reader.join();
    }
    let status = child.wait()?;
    let could_not = std::mem::take(&mut *noted.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((status.success(), could_not))
}

/// Shows all lines but what nextest repeats of tests that passed; of that only what could not run.
fn follow(stream: impl Read, noted: &Mutex<Vec<String>>, show: impl Fn(&str)) {
    let mut test = String::new();
    let mut passed = false;
    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        let is_new = name_of_test(&line).map(|name| test = name).is_some();
        passed = if is_new { line.trim_start().starts_with(PASSED) } else { passed && is_repeated(&line) };
        let is_marked = MARKS.iter().any(|mark| line.contains(mark));
        if is_new || is_marked || !passed {
            show(&line);
        }
        if is_marked {
            let named = if line.contains(MARKS[0]) && !test.is_empty() { format!("{test}: ") } else { String::new() };
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{named}{}", line.trim()));
        }
    }
}

/// How nextest begins the line of a test that passed.
const PASSED: &str = "PASS [";

/// Whether nextest shows this line as output of a test: indented, or the rule above it, or empty.
fn is_repeated(line: &str) -> bool {
    line.is_empty() || line.starts_with("    ") || line.trim_start().starts_with("std")
}

/// The test whose output follows this line: nextest's `PASS [time] (n/m) CRATE TEST`, libtest's `---- TEST stdout ----`.
fn name_of_test(line: &str) -> Option<String> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("---- ") {
        return rest.strip_suffix(" stdout ----").map(str::to_owned);
    }
    // PASS, FAIL, SLOW, SIGSEGV and whatever else may become of a test.
    let (status, rest) = line.split_once(" [")?;
    let is_status = !status.is_empty() && status.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if is_status && rest.contains(']') {
        let words: Vec<&str> = line.split_whitespace().collect();
        return Some(words[words.len().saturating_sub(2)..].join(" "));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_run_is_remembered_with_the_name_of_its_test() {
        let noted = Mutex::new(Vec::new());
        let text = "   PASS [   0.011s] ( 1/27) memvisor-sys::uffd a_page_moves\n  CANNOT RUN: no userfaultfd\n\
                    ---- other::test stdout ----\nCANNOT RUN in full: no nm\nguest: skipped: no qemu\nfine\n";
        follow(text.as_bytes(), &noted, |_| {});
        assert_eq!(
            noted.into_inner().unwrap_or_default(),
            [
                "memvisor-sys::uffd a_page_moves: CANNOT RUN: no userfaultfd",
                "other::test: CANNOT RUN in full: no nm",
                "guest: skipped: no qemu"
            ]
        );
    }

    #[test]
    fn of_tests_that_pass_only_their_names_are_shown() {
        let shown = std::cell::RefCell::new(Vec::new());
        let text = "        PASS [   0.011s] (1/2) a b\n  stdout \u{2500}\n\n    running 1 test\n\
                    \u{20}     SIGSEGV [   0.011s] (2/2) a c\n    why\n     Summary all\n";
        follow(text.as_bytes(), &Mutex::new(Vec::new()), |line| shown.borrow_mut().push(line.trim().to_owned()));
        let shown = shown.into_inner();
        assert_eq!(shown, ["PASS [   0.011s] (1/2) a b", "SIGSEGV [   0.011s] (2/2) a c", "why", "Summary all"]);
    }

    #[test]
    fn a_runner_that_fails_makes_the_session_fail_but_not_stop() {
        let mut session = Session::new(|_| {});
        session.run(Command::new("sh").args(["-c", "exit 1"]));
        session.run(Command::new("sh").args(["-c", "echo CANNOT RUN: x"]));
        session.run(&mut Command::new("/no/such/runner"));
        assert_eq!((session.failed.len(), session.could_not.len(), session.summary.len()), (2, 1, 3));
        assert!(session.finish().is_err());
    }
}
