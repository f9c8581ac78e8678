//! The library that this crate is linked into exports `mmap` and its like: the crate must not call them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What compiled Rust may ask of the C library: functions that only move bytes.
const ALLOWED: &[&str] = &["memcpy", "memmove", "memset", "memcmp", "bcmp", "strlen", "_Unwind_Resume"];

/// The newest build of this crate beside the test program.
fn library() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let built = std::fs::read_dir(program.parent()?).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let ours = name.starts_with("libmemvisor_sys-") && name.ends_with(".rlib");
        ours.then_some((entry.metadata().ok()?.modified().ok()?, entry.path()))
    });
    built.max().map(|(_, path)| path)
}

fn undefined_symbols(library: &Path) -> Option<Vec<String>> {
    let output = Command::new("nm").args(["--undefined-only", "--format=just-symbols"]).arg(library).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
}

fn is_of_rust(symbol: &str) -> bool {
    ["_ZN", "_R", "rust_", "__rust", "DW.ref.rust_", "anon."].iter().any(|prefix| symbol.starts_with(prefix))
}

#[test]
fn the_compiled_crate_calls_nothing_of_the_c_library_but_byte_movers() {
    let library = library().expect("the crate's rlib lies beside its tests");
    let Some(symbols) = undefined_symbols(&library) else {
        return println!("CANNOT RUN: no nm(1); install binutils");
    };
    assert!(symbols.iter().any(|symbol| is_of_rust(symbol)), "nm gave nothing of {}", library.display());
    let foreign: Vec<_> = symbols
        .iter()
        .filter(|symbol| !is_of_rust(symbol) && !symbol.ends_with(':') && !ALLOWED.contains(&symbol.as_str()))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?} in {}", library.display());
}
