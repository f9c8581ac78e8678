//! Programs that verify their own memory word by word. A contents error ends them with exit code 1 and says where.

mod cpus;
mod forks;
mod frees;
mod full;
mod mapwalk;
mod sort;
mod spawns;
mod stalls;
mod threads;
mod touch;

/// A program: what is wrong is its error.
pub type Program = fn(&[String]) -> Result<(), String>;

/// All programs by name.
pub const ALL: [(&str, Program); 12] = [
    ("touch", touch::run),
    ("sort", sort::run),
    ("threads64", threads::run),
    ("forks", forks::run),
    ("mapwalk", mapwalk::run),
    ("frees", frees::run),
    ("full", full::run),
    ("stalls", stalls::run),
    ("spawns", spawns::run),
    ("spawned", spawns::child),
    ("cpus", cpus::run),
    ("counted", cpus::count),
];

/// The number at place `at` of the arguments.
fn number(arguments: &[String], at: usize, name: &str) -> Result<u64, String> {
    let text = arguments.get(at).ok_or_else(|| format!("argument {name} is missing"))?;
    text.parse().map_err(|_| format!("argument {name} must be a number, not {text:?}"))
}

/// Prints a line and makes sure that it is out: others wait for it.
fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // Nobody to tell when the reader is gone.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// The text of an error of the system, with what was tried.
fn tried(what: &str) -> impl FnOnce(std::io::Error) -> String + use<'_> {
    move |error| format!("{what}: {error}")
}
