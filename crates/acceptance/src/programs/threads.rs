//! `threads64 BYTES ROUNDS`: 64 threads that fault at once on pages that they share and on pages of their own.
//!
//! Half of the memory is shared: each page has 64 slots of eight words, one for each thread, and in each round all
//! threads go through all shared pages in the same order, so that they meet in the same faults. Each thread verifies its slot and
//! its neighbour's, which may be of this round or of the one before. The other half is divided: each thread verifies and rewrites
//! its own pages in an order of its own.

use super::{number, say, tried};
use crate::os::{Mapping, PAGE_BYTES};
use crate::pattern::{PAGE_WORDS, Pattern, mix, scattered};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const THREADS: usize = 64;
const SLOT_WORDS: usize = PAGE_WORDS / THREADS;
/// Shared pages between two meetings of all threads: one each time makes them fault at the same instant.
const MEETING_PAGES: usize = 64;

/// Runs it.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let half = number(arguments, 0, "BYTES")? as usize / 2;
    let rounds = number(arguments, 1, "ROUNDS")?;
    let mut shared = Mapping::new(half).map_err(tried("mmap"))?;
    let shared = shared.atomics();
    let barrier = Barrier::new(THREADS);
    let own_bytes = (half / THREADS).next_multiple_of(PAGE_BYTES);
    let results: Vec<Result<(), String>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|me| {
                let barrier = &barrier;
                scope.spawn(move || one(me, shared, own_bytes, rounds, barrier))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    results.into_iter().collect::<Result<(), String>>()?;
    say(&format!("{THREADS} threads verified {rounds} rounds"));
    Ok(())
}

/// What thread `thread` writes into word `at` of its slot in page `page` in round `round`.
fn slot_word(page: usize, thread: usize, at: usize, round: u64) -> u64 {
    mix(((page * THREADS + thread) * SLOT_WORDS + at) as u64 ^ (round << 40))
}

fn one(me: usize, shared: &[AtomicU64], own_bytes: usize, rounds: u64, barrier: &Barrier) -> Result<(), String> {
    let mut own = Mapping::new(own_bytes).map_err(tried("mmap"));
    // A thread that found an error goes on to the meetings, so that the others do not wait for it for ever.
    let mut verdict = own.as_ref().map(|_| ()).map_err(Clone::clone);
    for round in 0..=rounds {
        for (page, words) in shared.chunks_exact(PAGE_WORDS).enumerate() {
            if page.is_multiple_of(MEETING_PAGES) {
                barrier.wait();
            }
            if verdict.is_ok() {
                verdict = visit(me, page, words, round);
            }
        }
        if let (Ok(own), true) = (&mut own, verdict.is_ok()) {
            verdict = visit_own(me, own, round);
        }
    }
    verdict
}

/// Verifies this thread's slot of the round before and its neighbour's, and writes this thread's for this round. In round 0
/// the memory is fresh.
fn visit(me: usize, page: usize, words: &[AtomicU64], round: u64) -> Result<(), String> {
    let neighbour = (me + 1) % THREADS;
    for at in 0..SLOT_WORDS {
        let mine = &words[me * SLOT_WORDS + at];
        let found = mine.load(Ordering::Relaxed);
        let before = if round == 0 { 0 } else { slot_word(page, me, at, round - 1) };
        if found != before {
            return Err(format!("thread {me} page {page} word {at} round {round}: {found:#x}, must be {before:#x}"));
        }
        let theirs = words[neighbour * SLOT_WORDS + at].load(Ordering::Relaxed);
        let old = if round == 0 { 0 } else { slot_word(page, neighbour, at, round - 1) };
        if theirs != old && theirs != slot_word(page, neighbour, at, round) {
            return Err(format!("thread {me} page {page} word {at} of its neighbour, round {round}: {theirs:#x}"));
        }
        mine.store(slot_word(page, me, at, round), Ordering::Relaxed);
    }
    Ok(())
}

fn visit_own(me: usize, own: &mut Mapping, round: u64) -> Result<(), String> {
    let pages = own.pages() as u64;
    for page in scattered(pages, me as u64 ^ round) {
        let number = (me as u64) << 32 | page;
        let words = own.page_mut(page as usize);
        if round > 0 {
            let found = Pattern::new(number, round - 1).check(words);
            found.map_err(|mismatch| format!("thread {me} own page {page} round {round}: {mismatch}"))?;
        }
        Pattern::new(number, round).fill(words);
    }
    Ok(())
}
