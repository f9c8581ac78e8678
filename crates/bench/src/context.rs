//! What all benches share: how often, where, with what, and the runs of each kind of side.

use crate::group::Group;
use crate::ours::Memvisor;
use crate::pairs::{Series, Side, interleave};
use crate::peer::{self, Kind, Peer, Tuning};
use crate::report::Bench;
use crate::run::{Launch, Outcome};
use crate::{machine, ours};
use serde_json::json;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The side that is the product.
pub const OURS: &str = "memvisor";

/// Wall time of the measured phase for one operation, in microseconds.
pub const WALL: &str = "wall_us_per_op";

/// CPU time of the whole tree in the measured phase for one operation, in microseconds.
pub const CPU: &str = "cpu_us_per_op";

/// How and where benches run.
pub struct Context {
    /// Rounds of each series.
    pub rounds: usize,
    /// Smaller sets, for a look instead of a claim.
    pub quick: bool,
    /// CPUs of every run.
    pub cpus: Vec<usize>,
    /// Where results go.
    pub out: PathBuf,
    /// Where swap and spill files lie, both on the same disk.
    pub scratch: PathBuf,
    /// The product, or why it is absent.
    pub ours: Result<Memvisor, String>,
    /// Whether the kernel's swap can be a peer, or why not.
    pub peer: Result<(), String>,
}

impl Context {
    /// Finds out what can be run here, and says aloud what cannot.
    ///
    /// # Errors
    /// When the directory for scratch files cannot be made.
    pub fn new(rounds: usize, quick: bool, out: &Path) -> Result<Self, String> {
        let scratch = out.join("scratch");
        std::fs::create_dir_all(&scratch).map_err(|error| format!("cannot make {}: {error}", scratch.display()))?;
        let scratch = scratch.canonicalize().map_err(|error| format!("cannot find {}: {error}", scratch.display()))?;
        let ours = Memvisor::find(&scratch);
        let peer = peer::possible();
        for (what, absent) in [("memvisor", ours.as_ref().err()), ("the kernel's swap", peer.as_ref().err())] {
            if let Some(why) = absent {
                println!("CANNOT RUN {what}: {why}");
            }
        }
        Ok(Self { rounds, quick, cpus: machine::cpus(), out: out.to_owned(), scratch, ours, peer })
    }

    /// The command of a workload that was built beside this program.
    ///
    /// # Errors
    /// When it is not there.
    pub fn workload<T: ToString>(&self, name: &str, args: impl IntoIterator<Item = T>) -> Result<Launch, String> {
        let path = ours::sibling(name)?;
        if !path.exists() {
            return Err(format!("{} is not built: cargo build --release -p memvisor-bench", path.display()));
        }
        let mut command: Vec<OsString> = vec![path.into()];
        command.extend(args.into_iter().map(|arg| arg.to_string().into()));
        Ok(Launch::new(command, &self.cpus))
    }

    /// The head of a bench's results, with `settings` that are told beside the figures.
    #[must_use]
    pub fn bench(&self, name: &str, settings: serde_json::Value) -> Bench {
        let mut settings = settings;
        settings["rounds"] = json!(self.rounds);
        settings["quick"] = json!(self.quick);
        let facts = machine::facts(&self.cpus);
        Bench { name: name.into(), facts, settings, series: Vec::new(), goals: Vec::new(), notes: Vec::new() }
    }

    /// Runs `sides` in turn and prints how far it is.
    #[must_use]
    pub fn interleave(&self, name: &str, sides: Vec<Side<'_>>) -> Series {
        interleave(name, sides, self.rounds, |round, series| self.progress(round, series))
    }

    /// Sets up swap as the peer, or says why there is none.
    ///
    /// # Errors
    /// The reason.
    pub fn peer(&self, kind: Kind, capacity_bytes: u64) -> Result<Peer, String> {
        self.peer.clone()?;
        Peer::new(kind, capacity_bytes, &self.scratch)
    }

    /// One run without any limit and without memvisor.
    ///
    /// # Errors
    /// As [`Launch::run`].
    pub fn run_plain(&self, launch: &Launch) -> Result<Outcome, String> {
        launch.run(Group::new().ok().as_ref())
    }

    /// One run under memvisor of a program that needs `set_bytes`.
    ///
    /// # Errors
    /// As [`Memvisor::run`], or since there is no memvisor.
    pub fn run_ours(&self, launch: &Launch, set_bytes: u64, dram_bytes: u64) -> Result<ours::OursOutcome, String> {
        let ours = self.ours.as_ref().map_err(Clone::clone)?;
        ours.run(launch, set_bytes, dram_bytes, Group::new().ok().as_ref())
    }

    /// A file for the store of one run; removed by [`Scratch`] on drop.
    #[must_use]
    pub fn store(&self, name: &str) -> Scratch {
        Scratch(self.scratch.join(format!("{name}-{}.store", std::process::id())))
    }

    /// Prints how far a series is.
    fn progress(&self, round: usize, series: &Series) {
        let last = |track: &crate::pairs::Track| {
            let sample = track.samples.last().filter(|_| track.failure.is_none());
            let cost = sample.and_then(|sample| {
                let wall = sample.costs.iter().find(|(name, _)| name.starts_with("wall"));
                wall.or(sample.costs.iter().next()).map(|(_, cost)| *cost)
            });
            format!("{} {}", track.name, cost.map_or("–".into(), |cost| format!("{cost:.3}")))
        };
        let sides: Vec<String> = series.tracks.iter().map(last).collect();
        println!("{} {round}/{}: {}", series.name, self.rounds, sides.join("  "));
    }
}

/// A path whose file, or directory, is removed on drop.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Takes over `path`, whether or not there is something yet.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = if self.0.is_dir() { std::fs::remove_dir_all(&self.0) } else { std::fs::remove_file(&self.0) };
    }
}

/// How a side is called that is the kernel's swap under a tuning.
#[must_use]
pub fn peer_name(kind: Kind, tuning: Tuning) -> String {
    let kind = match kind {
        Kind::Zram => "zram",
        Kind::File => "file",
        Kind::Zswap => "zswap",
    };
    format!("{kind} {}", tuning.name())
}
