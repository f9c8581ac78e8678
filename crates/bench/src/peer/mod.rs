//! The peer: the kernel's own swap, given its best tuning and the same total of DRAM.
//!
//! A peer run lives in a memory control group with a limit. What does not fit goes to a zram device, or to zswap over
//! a swap file where zram could not hold it. **Total DRAM = limit of the group + most bytes that the pool ever used.**
//! The pool is the kernel's and is not counted by the group, so the limit is found by [`calibrate`].
//!
//! Everything here changes the kernel for all programs of the machine. Hence the lock (one bench at a time), the
//! deeds of [`crate::cleanup`], and the [`journal`] from which a killed bench is cleaned up by the next one.

pub mod calibrate;
pub mod journal;
pub mod raw;
mod swap;

use crate::cleanup::Undo;
use crate::group::Group;
use crate::run::{Launch, Outcome};
use journal::Change;
use std::path::Path;
use swap::Backing;

pub use journal::Leftovers;

const PAGE_CLUSTER: &str = "/proc/sys/vm/page-cluster";
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage";

/// Where pages of a peer go that do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A compressed RAM disk as swap.
    Zram,
    /// A swap file with nothing before it.
    File,
    /// A swap file with a compressed cache before it.
    Zswap,
}

/// How the kernel is tuned for one peer run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// `vm.page-cluster`: two to the power of it are the pages that are read ahead. 3 is the kernel's default.
    pub page_cluster: u8,
    /// Folios larger than a page for anonymous memory, in KiB, if any.
    pub folio_kib: Option<u16>,
}

impl Tuning {
    /// No read-ahead: the best for random touches.
    pub const SINGLE: Self = Self { page_cluster: 0, folio_kib: None };
    /// The kernel's default.
    pub const DEFAULT: Self = Self { page_cluster: 3, folio_kib: None };
    /// No read-ahead, but folios of 16 KiB.
    pub const FOLIO_16K: Self = Self { page_cluster: 0, folio_kib: Some(16) };
    /// No read-ahead, but folios of 64 KiB.
    pub const FOLIO_64K: Self = Self { page_cluster: 0, folio_kib: Some(64) };

    /// For tables: `pc0`, `pc3`, `pc0 16k`.
    #[must_use]
    pub fn name(&self) -> String {
        let folio = self.folio_kib.map(|kib| format!(" {kib}k")).unwrap_or_default();
        format!("pc{}{folio}", self.page_cluster)
    }
}

/// The kernel's swap, set up; taken down on drop.
pub struct Peer {
    backing: Backing,
    kind: Kind,
    // Last, so that the lock outlives the teardown.
    _lock: Lock,
}

/// A run of a peer.
#[derive(Clone, Debug)]
pub struct PeerOutcome {
    /// As of any run.
    pub run: Outcome,
    /// Limit of the group.
    pub limit_bytes: u64,
    /// Most bytes of DRAM that the compressed pool used during the run.
    pub pool_bytes_max: u64,
}

impl PeerOutcome {
    /// Limit plus pool.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.limit_bytes + self.pool_bytes_max
    }
}

/// Whether a peer can be set up at all, and if not, why.
///
/// # Errors
/// The reason, to be said aloud.
pub fn possible() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("the kernel's swap as peer needs root".into());
    }
    Group::new().map(drop)
}

impl Peer {
    /// Sets up swap of `kind` for up to `capacity_bytes`. A swap file is made in `dir`.
    ///
    /// # Errors
    /// Says what the kernel refused; whatever had been done is undone.
    pub fn new(kind: Kind, capacity_bytes: u64, dir: &Path) -> Result<Self, String> {
        possible()?;
        let lock = Lock::take()?;
        Leftovers::clean();
        let backing = Backing::new(kind, capacity_bytes, dir)?;
        Ok(Self { backing, kind, _lock: lock })
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Runs `launch` with at most `limit_bytes` resident under `tuning`.
    ///
    /// # Errors
    /// As [`Launch::run`]; a program that the kernel killed for want of memory is such an error.
    pub fn run(&self, launch: &Launch, limit_bytes: u64, tuning: Tuning) -> Result<PeerOutcome, String> {
        let stage = self.stage(limit_bytes, tuning)?;
        let run = launch.run(Some(&stage.group))?;
        Ok(PeerOutcome { run, limit_bytes, pool_bytes_max: stage.pool_bytes_max() })
    }

    /// Makes ready for a run that the caller does by itself, in the group of the stage.
    ///
    /// # Errors
    /// Says what the kernel refused.
    pub fn stage(&self, limit_bytes: u64, tuning: Tuning) -> Result<Stage, String> {
        let mut undo = vec![Change::set(PAGE_CLUSTER, &tuning.page_cluster.to_string())?];
        if let Some(kib) = tuning.folio_kib {
            undo.push(Change::set(&format!("{HUGE_PAGES}/hugepages-{kib}kB/enabled"), "always")?);
        }
        let group = Group::new()?;
        group.set_limit(Some(limit_bytes))?;
        Ok(Stage { group, pool: self.backing.watch()?, _undo: undo })
    }
}

/// The kernel as tuned for one run, and a control group to run in.
pub struct Stage {
    /// Where the run has to be.
    pub group: Group,
    pool: swap::PoolWatch,
    _undo: Vec<Undo>,
}

impl Stage {
    /// Most bytes of DRAM that the compressed pool has used since the stage was made.
    #[must_use]
    pub fn pool_bytes_max(&self) -> u64 {
        self.pool.bytes_max()
    }
}

/// Keeps other benches from changing the kernel meanwhile.
struct Lock {
    _file: std::fs::File,
}

impl Lock {
    fn take() -> Result<Self, String> {
        let path = journal::directory()?.join("lock");
        let file = std::fs::File::create(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("waiting for another bench that has the kernel's swap in use ({})", path.display());
            file.lock().map_err(|error| format!("cannot lock {}: {error}", path.display()))?;
        }
        Ok(Self { _file: file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The last thing of a peer to go: all that the journal names has been undone.
        journal::close();
    }
}
