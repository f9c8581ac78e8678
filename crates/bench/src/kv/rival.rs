//! The kernel's best answer for a Redis in a given total of DRAM: zram if it can hold the set, else a swap file with or without
//! zswap before it, each in the better of two read-aheads.

use crate::context::{Context, peer_name};
use crate::kv::session::{Place, Plan, Session};
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
        match search.of(Kind::Zram) {
            Ok((rival, _)) => Ok(rival),
            Err(why) => {
                let mut tried = vec![format!("zram: {why}")];
                let mut found: Vec<(Kind, f64)> = Vec::new();
                for kind in [Kind::File, Kind::Zswap] {
                    match search.of(kind) {
                        Ok((_, cost)) => found.push((kind, cost)),
                        Err(why) => tried.push(format!("{kind:?}: {why}")),
                    }
                }
                // Only one may be set up at a time, so the better one is set up again.
                let best = found.into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
                let (kind, _) = best.ok_or_else(|| tried.join("; "))?;
                let (mut rival, _) = search.of(kind)?;
                rival.tried = tried;
                Ok(rival)
            }
        }
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

struct Search<'a> {
    context: &'a Context,
    trial: &'a Plan,
    set_bytes: u64,
    total_bytes: u64,
}

impl Search<'_> {
    /// Sets up `kind`, finds its limit and its tuning, and what an operation costs then.
    fn of(&self, kind: Kind) -> Result<(Rival, f64), String> {
        let peer = self.context.peer(kind, self.set_bytes * 2)?;
        let run = |limit_bytes, tuning| self.trial.live(self.context, Place::Peer { peer: &peer, limit_bytes, tuning });
        let limit_bytes = match kind {
            Kind::File => self.total_bytes,
            Kind::Zram | Kind::Zswap => {
                calibrate(self.set_bytes, self.total_bytes, |limit| Ok(run(limit, Tuning::SINGLE)?.pool_bytes_max))?
                    .limit_bytes
            }
        };
        let mut best: Option<(Tuning, f64)> = None;
        for tuning in TUNINGS {
            let cost = run(limit_bytes, tuning)?.figures("uniform")?.us_per_op;
            if best.is_none_or(|(_, least)| cost < least) {
                best = Some((tuning, cost));
            }
        }
        let (tuning, cost) = best.ok_or("no tuning was tried")?;
        Ok((Rival { peer, limit_bytes, tuning, tried: Vec::new() }, cost))
    }
}
