//! The benches, one file each; a bench is a function from the context to its results.

mod fault_random;
mod fault_seq;
mod first_touch;
mod fits;
mod ram_store;
mod redis;

use memvisor_bench::context::Context;
use memvisor_bench::report::Bench;

/// A bench, as it is called on the command line.
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Runs it.
    pub run: fn(&Context) -> Result<Bench, String>,
}

/// All benches in the order in which they run.
pub const ALL: [Entry; 6] = [
    Entry {
        name: "fault-random",
        about: "random 4 KiB touches by one and two threads, half of the set in DRAM, beside zram",
        run: fault_random::run,
    },
    Entry {
        name: "fault-seq",
        about: "sequential, strided and phased touches, half of the set in DRAM, beside zram in four tunings",
        run: fault_seq::run,
    },
    Entry {
        name: "first-touch",
        about: "first touch of fresh memory, within DRAM beside plain memory, beyond it beside zram",
        run: first_touch::run,
    },
    Entry {
        name: "fits",
        about: "stream, sort and Redis that fit into DRAM, beside the same without memvisor",
        run: fits::run,
    },
    Entry {
        name: "redis",
        about: "Redis in 100, 66 and 33 % of its DRAM, skewed and uniform keys, beside all-DRAM and the kernel's swap",
        run: redis::run,
    },
    Entry {
        name: "ram-store",
        about: "density and speed of the RAM store beside zram, on the same pages",
        run: ram_store::run,
    },
];
