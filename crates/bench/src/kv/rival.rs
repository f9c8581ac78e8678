//! The kernel's best answer for a Redis in a given total of DRAM: zram if it can hold the set, else a swap file with or without
//! zswap before it, each in the better of two read-aheads.

use crate::context::{Context, peer_name};
use crate::kv::session::{Place, Plan, Session};
use crate::machine::memory_bytes;
use crate::peer::calibrate::calibrate;
use crate::peer::{Kind, Peer, Tuning};

/// Read-aheads that are tried.
const TUNINGS: [Tuning; 2] = [Tuning::SINGLE, Tuning::DEFAULT];

/// What a trial draws after loading.
const TRIAL: &str = "run:uniform:1s";

/// Swap set up and tuned.
pub struct Rival {
    peer: Peer,
    limit_bytes: u64,
    tuning: Tuning,
    /// What was tried before, and why it was not taken.
    pub tried: Vec<String>,
}

impl Rival {
    /// The best for `plan`, which needs `set_bytes`, in `total_bytes`.
    ///
    /// # Errors
    /// When there is no peer here, or none that could run it.
    pub fn find(context: &Context, plan: &Plan, set_bytes: u64, total_bytes: u64) -> Result<Self, String> {
        let trial = Plan { phases: vec!["load".into(), TRIAL.into()], ..plan.clone() };
        let search = Search { context, trial: &trial, set_bytes, total_bytes };
        let mut tried = Vec::new();
        let mut found: Vec<Found> = Vec::new();
        for kind in [Kind::Zram, Kind::File, Kind::Zswap] {
            // A disk has nothing to say where compressed memory is enough.
            if kind != Kind::Zram && found.iter().any(|found| found.kind == Kind::Zram) {
                break;
            }
            match search.of(kind) {
                Ok(it) => found.push(it),
                Err(why) => tried.push(format!("{kind:?}: {why}")),
            }
        }
        let best = found.into_iter().min_by(|a, b| a.cost.total_cmp(&b.cost)).ok_or_else(|| tried.join("; "))?;
        // Only one may be set up at a time, so the best is set up again.
        let peer = context.peer(best.kind, set_bytes * 2)?;
        Ok(Self { peer, limit_bytes: best.limit_bytes, tuning: best.tuning, tried })
    }

    /// For tables.
    #[must_use]
    pub fn name(&self) -> String {
        peer_name(self.peer.kind(), self.tuning)
    }

    /// Whether it lies on a disk, where ours may then spill too.
    #[must_use]
    pub fn is_on_disk(&self) -> bool {
        self.peer.kind() != Kind::Zram
    }

    /// The limit that leaves the rest of the total to the pool.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// One session over it.
    ///
    /// # Errors
    /// As [`Plan::live`].
    pub fn live(&self, context: &Context, plan: &Plan) -> Result<Session, String> {
        plan.live(context, self.place())
    }

    fn place(&self) -> Place<'_> {
        Place::Peer { peer: &self.peer, limit_bytes: self.limit_bytes, tuning: self.tuning }
    }
}

/// A kind of swap with the limit and the tuning that it needs, and what an operation costs then.
struct Found {
    kind: Kind,
    limit_bytes: u64,
    tuning: Tuning,
    cost: f64,
}

struct Search<'a> {
    context: &'a Context,
    trial: &'a Plan,
    set_bytes: u64,
    total_bytes: u64,
}

impl Search<'_> {
    fn of(&self, kind: Kind) -> Result<Found, String> {
        if kind == Kind::Zswap && zswap_pool_max() > self.total_bytes / 2 {
            let (pool, total) = (zswap_pool_max() >> 20, self.total_bytes >> 20);
            return Err(format!(
                "its pool can be limited to whole percents of memory only: {pool} MiB here, too much of {total} MiB"
            ));
        }
        let peer = self.context.peer(kind, self.set_bytes * 2)?;
        let once =
            |limit_bytes, tuning| self.trial.live(self.context, Place::Peer { peer: &peer, limit_bytes, tuning });
        // The kernel now and then kills a server in a tight group; that alone does not disqualify it.
        let run = |limit_bytes, tuning| once(limit_bytes, tuning).or_else(|_| once(limit_bytes, tuning));
        let limit_bytes = match kind {
            Kind::File => self.total_bytes,
            Kind::Zram | Kind::Zswap => {
                calibrate(self.set_bytes, self.total_bytes, |limit| Ok(run(limit, Tuning::SINGLE)?.pool_bytes_max))?
                    .limit_bytes
            }
        };
        let mut best: Option<Found> = None;
        for tuning in TUNINGS {
            let cost = run(limit_bytes, tuning)?.figures("uniform")?.us_per_op;
            if best.as_ref().is_none_or(|best| cost < best.cost) {
                best = Some(Found { kind, limit_bytes, tuning, cost });
            }
        }
        best.ok_or_else(|| "no tuning was tried".into())
    }
}

/// The least that the zswap pool may be limited to: one percent of the machine's memory.
fn zswap_pool_max() -> u64 {
    memory_bytes("MemTotal") / 100
}
