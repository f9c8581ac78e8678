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
const PURE: [&str; 4] = [
    "memvisor-core",
    "memvisor-policy",
    "memvisor-proto",
    "memvisor-sim",
];

/// What marks a test that could not run, and a real program that could not.
const MARKS: [&str; 2] = ["CANNOT RUN", ": skipped: "];

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
    let mut session = Session::default();
    let members = members(cargo)?;
    let pure: Vec<&str> = PURE
        .into_iter()
        .filter(|name| members.iter().any(|member| member == name))
        .collect();

    for mut command in unit_tests(cargo, &pure) {
        session.run(&mut command);
    }
    session.run(&mut cargo.command([
        "test",
        "--doc",
        "--workspace",
        "--release",
        "--locked",
        "--quiet",
    ]));
    match loom(tree, cargo) {
        Some(mut command) => session.run(&mut command),
        None => session.cannot("loom: crates/core has no tests under loom"),
    }
    if choice.no_programs {
        session.cannot("real programs: left out by --no-programs");
    } else {
        session.run(
            Command::new(tree.built("acceptance"))
                .arg("short")
                .current_dir(tree.root()),
        );
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
        (
            &[
                "nextest",
                "run",
                "--no-fail-fast",
                "--success-output=immediate",
                "--no-tests=pass",
                "--color=never",
            ],
            &[],
        )
    } else {
        (
            &["test", "--no-fail-fast", "--quiet"],
            &["--", "--show-output"],
        )
    };
    let targets: &[&str] = &["--lib", "--bins", "--tests"];
    let packages = |flag: &str| {
        pure.iter()
            .flat_map(|name| [flag.to_owned(), (*name).to_owned()])
            .collect::<Vec<_>>()
    };
    let mut commands = Vec::new();
    if !pure.is_empty() {
        let mut command = cargo.command(runner);
        command
            .args(["--locked"])
            .args(targets)
            .args(packages("--package"))
            .args(shown);
        commands.push(command);
    }
    let mut command = cargo.command(runner);
    command
        .args(["--release", "--locked", "--workspace"])
        .args(targets)
        .args(packages("--exclude"))
        .args(shown);
    commands.push(command);
    commands
}

/// The tests of core under loom: with a target directory of their own, since the flag would rebuild everything.
fn loom(tree: &Tree, cargo: &Cargo) -> Option<Command> {
    let has_tests = tree.root().join("crates/core/tests/loom.rs").exists();
    has_tests.then(|| {
        let mut command = cargo.command([
            "test",
            "--package",
            "memvisor-core",
            "--release",
            "--locked",
            "--test",
            "loom",
        ]);
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        command
            .env("RUSTFLAGS", format!("{flags} --cfg loom"))
            .env("CARGO_TARGET_DIR", tree.target().join("loom"));
        command
    })
}

/// Names of the crates of the workspace.
fn members(cargo: &Cargo) -> Result<Vec<String>, Failure> {
    let text = crate::command::output(&mut cargo.command([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
        "--locked",
    ]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    Ok(packages
        .iter()
        .filter_map(|package| Some(package["name"].as_str()?.to_owned()))
        .collect())
}

/// What has run so far, what failed and what could not.
#[derive(Default)]
struct Session {
    failed: Vec<String>,
    could_not: Vec<String>,
    summary: Vec<String>,
}

impl Session {
    /// Runs one runner, shows what it prints and remembers what could not run.
    fn run(&mut self, command: &mut Command) {
        let line = shown(command);
        let start = Instant::now();
        println!("$ {line}");
        match tee(command) {
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
                println!("cannot start `{line}`: {error}");
                self.summary.push(format!("FAILED to start: {line}"));
                self.failed.push(line);
            }
        }
    }

    fn cannot(&mut self, what: &str) {
        self.could_not.push(what.to_owned());
    }

    fn finish(mut self) -> Result<(), Failure> {
        println!("\n== what ran ==");
        self.summary.iter().for_each(|line| println!("{line}"));
        self.could_not.dedup();
        println!(
            "\n== what could not run: {} ==",
            if self.could_not.is_empty() {
                "nothing"
            } else {
                "these"
            }
        );
        self.could_not.iter().for_each(|line| println!("{line}"));
        if self.failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(format!("failed: {}", self.failed.join("; "))))
        }
    }
}

/// Runs `command`, prints all that it prints, and gives the lines that say what could not run.
fn tee(command: &mut Command) -> std::io::Result<(bool, Vec<String>)> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
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
            std::thread::spawn(move || follow(stream, &noted))
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

fn follow(stream: impl Read, noted: &Mutex<Vec<String>>) {
    let mut test = String::new();
    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        println!("{line}");
        if let Some(name) = name_of_test(&line) {
            test = name;
        }
        if MARKS.iter().any(|mark| line.contains(mark)) {
            let named = if line.contains(MARKS[0]) && !test.is_empty() {
                format!("{test}: ")
            } else {
                String::new()
            };
            noted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(format!("{named}{}", line.trim()));
        }
    }
}

/// The test whose output follows this line: nextest's `PASS [time] (n/m) CRATE TEST`, libtest's `---- TEST stdout ----`.
fn name_of_test(line: &str) -> Option<String> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("---- ") {
        return rest.strip_suffix(" stdout ----").map(str::to_owned);
    }
    if line.starts_with("PASS [") || line.starts_with("FAIL [") {
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
        follow(text.as_bytes(), &noted);
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
    fn a_runner_that_fails_makes_the_session_fail_but_not_stop() {
        let mut session = Session::default();
        session.run(Command::new("sh").args(["-c", "exit 1"]));
        session.run(Command::new("sh").args(["-c", "echo CANNOT RUN: x"]));
        session.run(&mut Command::new("/no/such/runner"));
        assert_eq!(
            (
                session.failed.len(),
                session.could_not.len(),
                session.summary.len()
            ),
            (2, 1, 3)
        );
        assert!(session.finish().is_err());
    }
}
