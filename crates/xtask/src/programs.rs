//! Commands that build first and then run what was built.

use crate::command::{Cargo, Failure, run, shown};
use crate::setup;
use crate::tree::Tree;
use std::path::Path;
use std::process::Command;

/// Exit code of what measures for a goal that was missed; passed on.
const MISSED: i32 = 3;

/// `cargo x bench`.
pub fn bench(tree: &Tree, cargo: &Cargo, names: &[String], pairs: Option<u16>, quick: bool) -> Result<(), Failure> {
    prepare(tree, cargo)?;
    let mut command = Command::new(tree.built("memvisor-bench"));
    command.arg("run").arg("--out").arg(tree.target().join("bench")).args(names);
    if let Some(pairs) = pairs {
        command.arg(format!("--pairs={pairs}"));
    }
    if quick {
        command.arg("--quick");
    }
    measured(tree, &mut command)
}

/// `cargo x demo`.
pub fn demo(tree: &Tree, cargo: &Cargo) -> Result<(), Failure> {
    prepare(tree, cargo)?;
    let mut command = Command::new(tree.built("memvisor-bench"));
    command.arg("demo").arg("--out").arg(tree.target().join("bench"));
    measured(tree, &mut command)
}

/// `cargo x experiment`. The other build that a node is exchanged for is the same source without optimisation, with its checks.
pub fn experiment(tree: &Tree, cargo: &Cargo, names: &[String], quick: bool) -> Result<(), Failure> {
    prepare(tree, cargo)?;
    cargo.run(["build", "--locked", "--package", "memvisor-cli"])?;
    let mut command = Command::new(tree.built("experiment"));
    command.arg("--other-build").arg(tree.target().join("debug/memvisor"));
    command.arg("--out").arg(tree.target().join("experiment")).args(names);
    if quick {
        command.arg("--quick");
    }
    measured(tree, &mut command)
}

/// `cargo x optimum`. The program says itself why it cannot run, and makes the environment with the solver that it needs.
pub fn optimum(tree: &Tree, cargo: &Cargo, count: u64, seed: u64) -> Result<(), Failure> {
    cargo.run(["build", "--release", "--locked", "--package", "memvisor-policy", "--example", "optimum"])?;
    let mut command = Command::new(tree.built("examples/optimum"));
    measured(tree, command.args([count, seed].map(|number| number.to_string())))
}

/// `cargo x soak`.
pub fn soak(tree: &Tree, cargo: &Cargo, names: &[String]) -> Result<(), Failure> {
    prepare(tree, cargo)?;
    run(Command::new(tree.built("acceptance")).arg("long").args(names).current_dir(tree.root()))
}

/// `cargo x man`.
pub fn man(tree: &Tree, cargo: &Cargo) -> Result<(), Failure> {
    cargo.run(["build", "--release", "--locked", "--package", "memvisor-cli"])?;
    let place = tree.target().join("man");
    let wrong = |error: std::io::Error| Failure::new(format!("cannot write into {}: {error}", place.display()));
    std::fs::create_dir_all(&place).map_err(wrong)?;
    let binary = tree.built("memvisor");
    run(Command::new(&binary).arg("man").arg(&place))?;
    for (shell, file) in [("bash", "memvisor.bash"), ("zsh", "_memvisor"), ("fish", "memvisor.fish")] {
        let text = crate::command::output(Command::new(&binary).args(["completions", shell]))?;
        std::fs::write(place.join(file), text).map_err(wrong)?;
    }
    println!("written: manual pages and completions in {}", place.display());
    Ok(())
}

/// Builds everything for release: the binary, the shim that lies beside it, and the programs that test and measure.
pub fn build(cargo: &Cargo) -> Result<(), Failure> {
    cargo.run(["build", "--release", "--workspace", "--bins", "--lib", "--examples", "--locked"])
}

fn prepare(tree: &Tree, cargo: &Cargo) -> Result<(), Failure> {
    setup::all(tree)?;
    build(cargo)
}

/// Runs what measures and passes on that a goal was missed, which is a result and not a breakdown.
fn measured(tree: &Tree, command: &mut Command) -> Result<(), Failure> {
    let line = shown(command);
    println!("$ {line}");
    let status = command.current_dir(tree.root()).status().map_err(|error| {
        Failure::new(format!("cannot start {}: {error}", Path::new(command.get_program()).display()))
    })?;
    match status.code() {
        Some(0) => Ok(()),
        Some(MISSED) => Err(Failure { message: "a goal was missed; see above".into(), code: MISSED as u8 }),
        Some(_) | None => Err(Failure::new(format!("`{line}` ended with {status}"))),
    }
}
