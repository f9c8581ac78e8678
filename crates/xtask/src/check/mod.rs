//! `cargo x check`: everything that can be said about the tree without running it.
//!
//! All steps run even if one fails, so that one call tells all. Nothing is written into the tree; whether that
//! held is itself the last step.

mod edges;
mod machine_paths;
mod named_files;

use crate::command::{Cargo, Failure, run};
use crate::tree::Tree;
use std::time::Instant;

/// Runs all steps.
pub fn all(tree: &Tree, cargo: &Cargo) -> Result<(), Failure> {
    let before = tree.state();
    let mut failed = Vec::new();
    let mut step = |name: &'static str, outcome: &dyn Fn() -> Result<(), Failure>| {
        let start = Instant::now();
        match outcome() {
            Ok(()) => println!("check {name}: well ({:.1} s)", start.elapsed().as_secs_f64()),
            Err(failure) => {
                println!("check {name}: FAILED\n{}", failure.message);
                failed.push(name);
            }
        }
    };
    step("format", &|| cargo.run(["fmt", "--all", "--check"]));
    step("crate edges", &|| edges::check(cargo));
    step("names in docs", &|| named_files::check(tree));
    step("machine paths", &|| machine_paths::check(tree));
    step("lints", &|| lints(cargo));
    step("documentation", &|| documentation(cargo));
    step("tree unchanged", &|| unchanged(&before, &tree.state()));
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(format!("failed: {}", failed.join(", ")))) }
}

/// Clippy over everything, warnings being errors.
fn lints(cargo: &Cargo) -> Result<(), Failure> {
    // For release, as tests and benches are: the C libraries of the shim and the stores are then built only once.
    cargo.run([
        "clippy",
        "--workspace",
        "--all-targets",
        "--release",
        "--locked",
        "--keep-going",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ])
}

/// The documentation of all crates, private parts included, warnings being errors.
pub fn documentation(cargo: &Cargo) -> Result<(), Failure> {
    let mut command = cargo.command([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--release",
        "--locked",
        "--keep-going",
        "--quiet",
    ]);
    let flags = std::env::var("RUSTDOCFLAGS").unwrap_or_default();
    command.env("RUSTDOCFLAGS", format!("{flags} -D warnings"));
    run(&mut command)
}

fn unchanged(before: &str, after: &str) -> Result<(), Failure> {
    let new: Vec<&str> = after.lines().filter(|line| !before.lines().any(|known| known == *line)).collect();
    if new.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("the tree changed during the check:\n{}", new.join("\n"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_appears_during_the_check_is_reported() {
        assert!(unchanged("?? a\n", "?? a\n").is_ok());
        assert!(unchanged("?? a\n", "?? a\n?? b\n").unwrap_err().message.contains("?? b"));
    }
}
