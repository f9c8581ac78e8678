//! `forks BYTES CHILDREN ONE_IN`: forks children, each of which verifies the memory of the instant of its fork, changes it,
//! and verifies again, while the parent changes its own.
//!
//! Children come in batches that run at once, in series, and one level deeper: a nested child forks a child of its own
//! after it has changed its memory, which must see that change. Each verification looks at one page in ONE_IN, each child
//! at others.
//!
//! Before that, a handler that the C library calls in each child verifies pages that were not changed since the start, and
//! each child writes to streams that were opened then: both are as cold as memory gets.

use super::{number, say, tried};
use crate::os::{self, Mapping, PAGE_BYTES, Streams};
use crate::pattern::{Dice, Pattern};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Children that run at once: the memory that they change is charged to the same space.
const AT_ONCE: u64 = 8;
/// A child or the parent changes one page in this many between two verifications.
const CHANGED_ONE_IN: u64 = 16;

/// Pages that only children's handlers look at.
const COLD_PAGES: usize = 1024;
/// Of those, each child looks at so many.
const COLD_PAGES_EACH: usize = 16;
/// Streams that only children write to.
const STREAMS: usize = 64;

static COLD: OnceLock<Cold> = OnceLock::new();

/// What nobody touches but the handler in children.
struct Cold {
    memory: Mapping,
    /// How many children looked: each looks at other pages.
    looks: AtomicUsize,
}

impl Cold {
    fn new() -> Result<Self, String> {
        let mut memory = Mapping::new(COLD_PAGES * PAGE_BYTES).map_err(tried("mmap"))?;
        (0..COLD_PAGES).for_each(|page| Pattern::new(page as u64, 1).fill(memory.page_mut(page)));
        Ok(Self { memory, looks: AtomicUsize::new(0) })
    }

    fn verify(&self) -> Result<(), String> {
        let first = self.looks.load(Ordering::Relaxed) * COLD_PAGES_EACH;
        for page in (first..first + COLD_PAGES_EACH).map(|page| page % COLD_PAGES) {
            let found = Pattern::new(page as u64, 1).check(self.memory.page(page));
            found.map_err(|mismatch| format!("page {page}: {mismatch}"))?;
        }
        Ok(())
    }
}

extern "C" fn verify_cold() {
    if let Some(Err(reason)) = COLD.get().map(Cold::verify) {
        eprintln!("handler of a child: {reason}");
        std::process::abort();
    }
}

/// Memory whose pages each have a version, which a fork copies along with it.
struct Versioned {
    memory: Mapping,
    versions: Vec<u32>,
    /// One page in this many is verified.
    one_in: u64,
    dice: Dice,
}

impl Versioned {
    fn new(bytes: u64, one_in: u64) -> Result<Self, String> {
        let pages = bytes as usize / PAGE_BYTES;
        let mut memory = Mapping::new(bytes as usize).map_err(tried("mmap"))?;
        (0..pages).for_each(|page| Pattern::new(page as u64, 0).fill(memory.page_mut(page)));
        Ok(Self { memory, versions: vec![0; pages], one_in, dice: Dice::new(bytes) })
    }

    /// Verifies one page in `one_in`; `turn` says which.
    fn verify(&self, turn: u64) -> Result<(), String> {
        for page in ((turn % self.one_in) as usize..self.versions.len()).step_by(self.one_in as usize) {
            let version = u64::from(self.versions[page]);
            let found = Pattern::new(page as u64, version).check(self.memory.page(page));
            found.map_err(|mismatch| format!("page {page} version {version}: {mismatch}"))?;
        }
        Ok(())
    }

    /// Gives some pages a version that nobody else writes: `author` tells parent and children apart.
    fn change(&mut self, author: u64) {
        let pages = self.versions.len() as u64;
        for _ in 0..pages / CHANGED_ONE_IN {
            let page = self.dice.below(pages) as usize;
            let version = (author as u32) << 16 | (self.versions[page] as u16 as u32 + 1);
            Pattern::new(page as u64, u64::from(version)).fill(self.memory.page_mut(page));
            self.versions[page] = version;
        }
    }
}

/// Runs it.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let bytes = number(arguments, 0, "BYTES")?;
    let children = number(arguments, 1, "CHILDREN")?;
    let cold = Cold::new()?;
    COLD.get_or_init(|| cold);
    let streams = Streams::open(STREAMS).map_err(tried("fopen"))?;
    os::after_fork_in_child(verify_cold).map_err(tried("pthread_atfork"))?;
    let mut memory = Versioned::new(bytes, number(arguments, 2, "ONE_IN")?.max(1))?;
    say("filled");
    let mut made = 0;
    while made < children {
        // Batches of one are the children in series, and each of them has a child of its own.
        let batch = if (made / AT_ONCE).is_multiple_of(2) { AT_ONCE } else { 1 }.min(children - made);
        let nested = batch == 1;
        let mut pids = Vec::new();
        for _ in 0..batch {
            made += 1;
            let author = made;
            COLD.get().expect("set above").looks.fetch_add(1, Ordering::Relaxed);
            pids.push(os::fork(|| child(&mut memory, &streams, author, nested)).map_err(tried("fork"))?);
            memory.change(0);
        }
        for pid in pids {
            expect_success(pid)?;
        }
        memory.verify(made).map_err(|reason| format!("parent: {reason}"))?;
    }
    memory.one_in = 1;
    memory.verify(0).map_err(|reason| format!("parent at the end: {reason}"))?;
    say(&format!("{made} children verified"));
    Ok(())
}

fn expect_success(pid: i32) -> Result<(), String> {
    let status = os::wait(pid).map_err(tried("waitpid"))?;
    if status.success() { Ok(()) } else { Err(format!("child {pid} ended with {status}")) }
}

fn child(memory: &mut Versioned, streams: &Streams, author: u64, nested: bool) -> u8 {
    match verify_and_change(memory, streams, author, nested) {
        Ok(()) => 0,
        Err(reason) => {
            eprintln!("child {author}: {reason}");
            1
        }
    }
}

fn verify_and_change(memory: &mut Versioned, streams: &Streams, author: u64, nested: bool) -> Result<(), String> {
    streams.write().map_err(|error| format!("a stream: {error}"))?;
    memory.verify(author).map_err(|reason| format!("before its change: {reason}"))?;
    memory.change(author);
    let grandchild = match nested {
        true => Some(os::fork(|| child(memory, streams, author + 10_000, false)).map_err(tried("fork"))?),
        false => None,
    };
    if grandchild.is_some() {
        memory.change(author);
    }
    memory.verify(author + 1).map_err(|reason| format!("after its change: {reason}"))?;
    grandchild.map_or(Ok(()), expect_success)
}
