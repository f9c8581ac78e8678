//! The standard traces, and every replacement's misses on them.

use crate::trace::{self, Placement, Trace};
use crate::{Stats, reference, replay};
use memvisor_core::replace::{Clock, Fifo, Replacement, S3Fifo};
use std::fmt;

/// Pages of DRAM in the standard cases.
pub const CAPACITY: usize = 4096;
const TOUCHES: usize = 250_000;

/// One line of the table: misses in a hundred touches. The first three are of real policies with runs and parking, the
/// others of single pages.
pub struct Line {
    /// What is touched.
    pub name: &'static str,
    /// `core`'s first in, first out.
    pub fifo: Stats,
    /// `core`'s clock.
    pub clock: Stats,
    /// `core`'s S3-FIFO.
    pub s3fifo: Stats,
    /// First in, first out of single pages, in a hundred.
    pub fifo_pages: f64,
    /// Least recently used, in a hundred.
    pub lru: f64,
    /// The best that is possible, in a hundred.
    pub belady: f64,
}

/// The standard traces, for [`CAPACITY`] pages of DRAM.
pub fn cases() -> Vec<(&'static str, Trace)> {
    let dram = CAPACITY as u32;
    vec![
        ("zipf 0.99, scattered, 4×", trace::zipf(4 * dram, 0.99, Placement::Scattered, TOUCHES, 1)),
        ("zipf 0.99, by runs, 4×", trace::zipf(4 * dram, 0.99, Placement::Runs, TOUCHES, 2)),
        ("zipf 0.99, scattered, 1.5×", trace::zipf(dram * 3 / 2, 0.99, Placement::Scattered, TOUCHES, 3)),
        ("zipf 0.7, scattered, 4×", trace::zipf(4 * dram, 0.7, Placement::Scattered, TOUCHES, 4)),
        ("uniform, 2×", trace::uniform(2 * dram, TOUCHES, 5)),
        ("loop, 1.1×", trace::round(dram * 11 / 10, TOUCHES)),
        ("loop, 2×", trace::round(2 * dram, TOUCHES)),
        ("loop, 0.9×", trace::round(dram * 9 / 10, TOUCHES)),
        ("hot half and scan", trace::scan_and_hot(dram / 2, 16 * dram, 10, TOUCHES, 6)),
        ("hot four fifths and scan", trace::scan_and_hot(dram * 4 / 5, 16 * dram, 10, TOUCHES, 7)),
        ("hot half and heavy scan", trace::scan_and_hot(dram / 2, 16 * dram, 2, TOUCHES, 6)),
        ("four phases of zipf, 2× each", trace::phases(2 * dram, 4, TOUCHES, 8)),
        ("moving front, an eighth wide", trace::front(8 * dram, dram / 8, 6, TOUCHES, 9)),
        ("moving front, two thirds wide", trace::front(8 * dram, dram * 2 / 3, 6, TOUCHES, 10)),
    ]
}

/// Replays one trace against everything.
pub fn line(name: &'static str, trace: &[u32]) -> Line {
    let percent = |misses: u64| misses as f64 * 100.0 / trace.len() as f64;
    let of = |policy: &mut dyn Replacement| replay(trace, policy, CAPACITY);
    Line {
        name,
        fifo: of(&mut Fifo::new(0)),
        clock: of(&mut Clock::new(0)),
        s3fifo: of(&mut S3Fifo::new(0)),
        fifo_pages: percent(reference::fifo(trace, CAPACITY)),
        lru: percent(reference::lru(trace, CAPACITY)),
        belady: percent(reference::belady(trace, CAPACITY)),
    }
}

/// The head of the table.
pub const HEAD: &str = "misses in 100 touches            fifo   clock  s3fifo │  pages:fifo    lru   best │ s3fifo: \
                        parked hits, judged per eviction";

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [fifo, clock, s3fifo] = [self.fifo, self.clock, self.s3fifo].map(|stats| stats.miss_percent());
        let parked = self.s3fifo.parked_hits as f64 * 100.0 / self.s3fifo.accesses as f64;
        let judged = self.s3fifo.judged as f64 / self.s3fifo.evictions.max(1) as f64;
        write!(f, "{:30} {fifo:7.2} {clock:7.2} {s3fifo:7.2} │     ", self.name)?;
        write!(f, "{:7.2} {:6.2} {:6.2} │ {parked:7.2} {judged:7.2}", self.fifo_pages, self.lru, self.belady)
    }
}
