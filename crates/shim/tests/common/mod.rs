//! Where the library under test is, and programs to run with it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock};

/// The library, built as this test was built. Cargo does not build a `cdylib` for tests of its package by itself.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target directory");
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--lib", "--package", env!("CARGO_PKG_NAME"), "--target-dir"]).arg(target);
        cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
        if profile == "release" {
            cargo.arg("--release");
        }
        text(&cargo.output().expect("cargo starts"));
        target.join(profile).join("libmemvisor_shim.so")
    })
}

/// A command that runs with the library preloaded and outside of any space.
pub fn preloaded(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("LD_PRELOAD", library()).env_remove("MEMVISOR_SPACE");
    command
}

/// Whether `program` is installed; says so when it is not.
pub fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()));
    if !found {
        eprintln!("NOT TESTED: {program} is not installed");
    }
    found
}

/// What the command printed, once it has ended well.
pub fn text(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).expect("the programs print text")
}

/// The program `tests/programs/SOURCE`, compiled; nothing when there is no compiler.
pub fn compiled(source: &'static str) -> Option<PathBuf> {
    static BUILT: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    let compiler = if source.ends_with(".c") { "cc" } else { "c++" };
    if !has(compiler) {
        return None;
    }
    let mut built = BUILT.lock().expect("no test failed while it compiled");
    Some(built.entry(source).or_insert_with(|| compile(compiler, source)).clone())
}

fn compile(compiler: &str, source: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(source);
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{source}.program"));
    // Tests in other processes may compile it at the same time: it is put in its place whole.
    let fresh = program.with_extension(std::process::id().to_string());
    let mut command = Command::new(compiler);
    command.args(["-O1", "-g", "-Wall", "-Wno-unused-result", "-fno-builtin", "-pthread", "-o"]).arg(&fresh).arg(from);
    text(&command.output().expect("the compiler starts"));
    std::fs::rename(&fresh, &program).expect("a file can be renamed in its directory");
    program
}
