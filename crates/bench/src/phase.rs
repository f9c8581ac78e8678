//! How a workload tells the harness where its measured phase lies.
//!
//! A workload prints `@begin NAME` before and `@end NAME` after the phase that counts, each on a line of its own;
//! on reading them the harness notes the time and the CPU seconds that the whole tree has used so far. Filling
//! memory before, and verifying it after, thus stay out of the measure. All other lines but the last are ignored;
//! the last is one JSON object.

use std::io::Write;

/// First word of the line that opens a phase.
pub const BEGIN: &str = "@begin";

/// First word of the line that closes a phase.
pub const END: &str = "@end";

/// Runs `work` as the phase `name` and gives its result.
///
/// # Errors
/// When the standard output is closed.
pub fn measured<T>(name: &str, work: impl FnOnce() -> T) -> std::io::Result<T> {
    say(BEGIN, name)?;
    let result = work();
    say(END, name)?;
    Ok(result)
}

fn say(edge: &str, name: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{edge} {name}")?;
    out.flush()
}
