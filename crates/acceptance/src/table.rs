//! The table of verdicts.

use crate::case::NotPassed;
use crate::ctx::Verdict;

/// The head of the table.
pub fn head() -> String {
    format!(
        "{:<14} {:<7} {:>7} {:>8} {:>8} {:>8} {:>6} {:>10} {:>10} {:>9} {:>11}",
        "case",
        "verdict",
        "seconds",
        "target M",
        "most M",
        "overh. M",
        "own M",
        "faults",
        "evictions",
        "p99 us",
        "over/samples"
    )
}

/// The line of one case, and the reason when it did not pass.
pub fn line(name: &str, verdict: &Verdict) -> String {
    let (word, reason) = match &verdict.outcome {
        Ok(()) => ("passed", None),
        Err(NotPassed::Failed(reason)) => ("FAILED", Some(reason)),
        Err(NotPassed::Skipped(reason)) => ("skipped", Some(reason)),
    };
    let seen = &verdict.measures;
    let line = format!(
        "{name:<14} {word:<7} {:>7.1} {:>8} {:>8.2} {:>8} {:>6.1} {:>10} {:>10} {:>9.1} {:>11}",
        verdict.took.as_secs_f64(),
        seen.dram_bytes >> 20,
        seen.charged_bytes_max as f64 / f64::from(1 << 20),
        seen.overhead_bytes_max >> 20,
        seen.own_bytes_max as f64 / f64::from(1 << 20),
        seen.faults,
        seen.evictions,
        seen.fault_ns_p99 as f64 / 1e3,
        format!("{}({})/{}", seen.samples_over, seen.samples_over_confirmed, seen.samples),
    );
    match reason {
        Some(reason) => format!("{line}\n    {name}: {word}: {reason}"),
        None => line,
    }
}

/// The last line: how many ended how.
pub fn summary<'v>(verdicts: impl IntoIterator<Item = &'v Verdict>) -> (String, usize) {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for verdict in verdicts {
        match verdict.outcome {
            Ok(()) => passed += 1,
            Err(NotPassed::Failed(_)) => failed += 1,
            Err(NotPassed::Skipped(_)) => skipped += 1,
        }
    }
    (format!("{passed} passed, {failed} failed, {skipped} skipped"), failed)
}
