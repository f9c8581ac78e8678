//! `stalls BYTES ROUNDS`: one thread goes through more memory than fits; another counts in a few pages that it uses all
//! the time. It is over after the rounds, or after enough long waits.
//!
//! Prints the longest wait of the first for one page, and how far the other counted meanwhile.

use super::{number, say, tried};
use crate::os::{Mapping, PAGE_BYTES};
use crate::pattern::{Pattern, scattered};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const HOT_PAGES: usize = 8;
/// A wait for one page that is no ordinary one.
const LONG: Duration = Duration::from_millis(500);
/// Long waits after which there is nothing more to learn: each takes a second and more.
const LONG_WAITS: u32 = 8;

/// Runs it.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let bytes = number(arguments, 0, "BYTES")?;
    let rounds = number(arguments, 1, "ROUNDS")?;
    let mut cold = Mapping::new(bytes as usize).map_err(tried("mmap"))?;
    let mut hot = Mapping::new(HOT_PAGES * PAGE_BYTES).map_err(tried("mmap"))?;
    let hot = hot.atomics();
    let (count, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let walked = thread::scope(|scope| {
        let counter = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                hot.iter().for_each(|word| assert_eq!(word.fetch_add(1, Ordering::Relaxed), rounds));
                rounds += 1;
                count.store(rounds, Ordering::Relaxed);
            }
        });
        let walked = walk(&mut cold, rounds, &count);
        over.store(true, Ordering::Relaxed);
        counter.join().map_err(|_| "the counting thread found other contents than it left")?;
        walked
    })?;
    say(&format!("longest_wait_ms {}", walked.wait.as_millis()));
    say(&format!("counted_meanwhile {}", walked.counted));
    say("verified");
    Ok(())
}

struct Longest {
    wait: Duration,
    counted: u64,
}

fn walk(cold: &mut Mapping, rounds: u64, count: &AtomicU64) -> Result<Longest, String> {
    let pages = cold.pages() as u64;
    (0..pages).for_each(|page| Pattern::new(page, 0).fill(cold.page_mut(page as usize)));
    let mut longest = Longest { wait: Duration::ZERO, counted: 0 };
    let mut long_waits = 0;
    for round in 0..rounds {
        for page in scattered(pages, round) {
            let (began, counted) = (Instant::now(), count.load(Ordering::Relaxed));
            let words = cold.page_mut(page as usize);
            let first = words[0];
            let wait = began.elapsed();
            if wait > longest.wait {
                longest = Longest { wait, counted: count.load(Ordering::Relaxed) - counted };
            }
            long_waits += u32::from(wait >= LONG);
            let found = Pattern::new(page, round).check(words);
            found.map_err(|mismatch| format!("page {page} starting with {first:#x}: {mismatch}"))?;
            Pattern::new(page, round + 1).fill(words);
            if long_waits >= LONG_WAITS {
                return Ok(longest);
            }
        }
    }
    Ok(longest)
}
