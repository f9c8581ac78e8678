//! `touch BYTES ROUNDS`: fills memory, then verifies and rewrites every page of it, round by round.

use super::{number, say, tried};
use crate::os::{Mapping, PAGE_BYTES};
use crate::pattern::{Pattern, scattered};

/// Runs it. Prints `filled`, `round N` after each round, and at the end `verified`.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let bytes = number(arguments, 0, "BYTES")?;
    let rounds = number(arguments, 1, "ROUNDS")?;
    let pages = bytes / PAGE_BYTES as u64;
    let mut memory = Mapping::new(bytes as usize).map_err(tried("mmap"))?;
    for page in 0..pages {
        Pattern::new(page, 0).fill(memory.page_mut(page as usize));
    }
    say("filled");
    for round in 0..rounds {
        for page in order(pages, round) {
            let words = memory.page_mut(page as usize);
            let found = Pattern::new(page, round).check(words);
            found.map_err(|mismatch| format!("page {page} in round {round}: {mismatch}"))?;
            Pattern::new(page, round + 1).fill(words);
        }
        say(&format!("round {round}"));
    }
    for page in 0..pages {
        let found = Pattern::new(page, rounds).check(memory.page(page as usize));
        found.map_err(|mismatch| format!("page {page} at the end: {mismatch}"))?;
    }
    say("verified");
    Ok(())
}

/// In turn from the first to the last page, and scattered.
fn order(pages: u64, round: u64) -> Box<dyn Iterator<Item = u64>> {
    if round.is_multiple_of(2) { Box::new(scattered(pages, round)) } else { Box::new(0..pages) }
}
