//! The experiments of the ESX paper (Waldspurger, "Memory resource management in VMware ESX Server", OSDI 2002), on real
//! processes.
//!
//! ```text
//!   Host: a node with little DRAM ──┬── Tenant: memvisor run ── workingset     whose use of memory is known
//!                                   └── Tenant …
//!   Watch: the words of all spaces, every 50 ms: is the sum of what they are charged for within the DRAM?
//!   Outside: what the kernel says of it, once a second
//! ```
//! Each experiment is a claim; its [`Finding`] says whether it holds, with the figures.
//!
//! Absent on purpose: hosts of other sizes, and time that is not real: those are in `memvisor-sim`.

mod dynamic;
mod finding;
mod host;
mod idle_tax;
mod kin;
mod node_kill;
mod noisy_neighbour;
mod outside;
mod sampling;
mod shares;
mod tenant;
mod watch;
mod words;

pub use finding::Finding;

use crate::stats::Spread;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

/// What experiments are made with.
#[derive(Clone, Debug)]
pub struct Lab {
    /// The product.
    pub memvisor: PathBuf,
    /// Another build of it.
    pub other_build: PathBuf,
    /// The program whose use of memory is known.
    pub workingset: PathBuf,
    /// Where results and stores go.
    pub out: PathBuf,
    /// A look, not a claim.
    pub quick: bool,
}

impl Lab {
    /// Another program of ours.
    ///
    /// # Errors
    /// When it was not built.
    fn program(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.workingset.with_file_name(name);
        if path.is_file() { Ok(path) } else { Err(format!("there is no {}: cargo build --release", path.display())) }
    }

    /// One of two times: of a claim, of a quick look.
    fn seconds(&self, claim: u64, quick: u64) -> Duration {
        Duration::from_secs(if self.quick { quick } else { claim })
    }
}

/// An experiment.
pub struct Experiment {
    /// As it is called on the command line.
    pub name: &'static str,
    /// The claim.
    pub about: &'static str,
    /// Makes it.
    ///
    /// # Errors
    /// When it cannot be made, which says nothing of the claim.
    pub run: fn(&Lab) -> Result<Finding, String>,
}

/// All experiments.
pub const ALL: [Experiment; 6] = [
    Experiment {
        name: "idle-tax",
        about: "without a tax an idle and a busy space have the same; with a tax of 0.75 the busy one is faster by 30 %",
        run: idle_tax::run,
    },
    Experiment {
        name: "shares",
        about: "shares of 2:1 give DRAM of 2:1 to spaces that are equally busy",
        run: shares::run,
    },
    Experiment {
        name: "noisy-neighbour",
        about: "a space that scans takes no more than its target, and costs a neighbour with a reservation 5 % at most",
        run: noisy_neighbour::run,
    },
    Experiment {
        name: "sampling",
        about: "what the node believes to be in use follows a working set that is known",
        run: sampling::run,
    },
    Experiment {
        name: "dynamic",
        about: "five real servers want 60 % more DRAM than there is; when their load changes DRAM follows within 10 s",
        run: dynamic::run,
    },
    Experiment {
        name: "node-kill",
        about: "a node that is killed, hangs or is exchanged delays no fault and loses nothing; spaces come back to it",
        run: node_kill::run,
    },
];

/// The middle of some numbers; 0 of none.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    Spread::of(values).map_or(0.0, |spread| spread.median)
}

fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / MIB as f64)
}
