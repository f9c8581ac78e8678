//! Dynamic reallocation (§6.5 of the paper): five real servers on a host that is too small for them, each busy in its turn.
//!
//! ```text
//!   phase       1     2     3     4     5     6
//!   redis     ▇▇▇▇        ▇▇▇▇              ▇▇▇▇      busy as fast as it can; else at rest
//!   mariadb   ▇▇▇▇              ▇▇▇▇        ▇▇▇▇
//!   python          ▇▇▇▇        ▇▇▇▇
//!   java            ▇▇▇▇              ▇▇▇▇
//!   sort                  ▇▇▇▇        ▇▇▇▇
//! ```
//! What is claimed, all of it seen from outside every 50 ms, from the start of the first server to the end of the last:
//!
//! * *Too small*: the footprints of the five (what each would be charged for if DRAM were free) add up to more than 1.6 times the
//!   DRAM that the node hands out, at the beginning of each phase.
//! * *Follows*: a server that becomes busy *settles* at what it is charged for in the last third of its phase, on the average. It
//!   has been granted that when it was told so much, but for a tenth, and has taken it when it is charged for so much, but for a
//!   tenth; both within 10 s of the change. A server that did not gain by becoming busy would follow at once whatever the
//!   node did, so each must gain, too; but not in the first phase, before which nobody else wanted what it has.
//! * *Reservations*: in no sample is a space told less than its reservation.
//! * *The host*: in no sample are all together charged for more than the DRAM.
//! * *Contents*: at the end each server verifies what it keeps.

mod servers;

use super::host::{Host, Settings};
use super::watch::Watched;
use super::{Finding, Lab, MIB, mib};
use serde_json::{Value, json};
use servers::{Kind, Server};
use std::time::Instant;

const HOST_MIB: u64 = 512;
/// How often the DRAM goes into what the servers want, at least.
const SMALL: f64 = 1.6;
/// The part of what a server settles at that counts as all.
const MOST: f64 = 0.9;
/// DRAM is to follow within this time.
const FOLLOWS_S: f64 = 10.0;
/// What a server that becomes busy gains at least, as a part of what it settles at.
const GAIN: f64 = 0.15;
/// The time of a sample of what is in use; that of a machine in service is 30 s. All else is as it is there.
const SAMPLE: &str = "1s";
/// Who is busy.
const PHASES: [[Kind; 2]; 6] = [
    [Kind::Redis, Kind::MariaDb],
    [Kind::Python, Kind::Java],
    [Kind::Sort, Kind::Redis],
    [Kind::MariaDb, Kind::Python],
    [Kind::Java, Kind::Sort],
    [Kind::Redis, Kind::MariaDb],
];
/// So many of them in a quick look: each server is busy at least once.
const PHASES_QUICK: usize = 4;

struct Phase {
    busy: [Kind; 2],
    from: Instant,
    to: Instant,
    /// Footprints when it began, together.
    wanted_bytes: u64,
}

/// A server that became busy.
struct Change {
    kind: Kind,
    phase: usize,
    before_bytes: f64,
    settled_bytes: f64,
    granted_s: Option<f64>,
    taken_s: Option<f64>,
}

/// Makes it.
///
/// # Errors
/// When it cannot be made.
pub(super) fn run(lab: &Lab) -> Result<Finding, String> {
    let usual = Settings { sample: SAMPLE, fall: "30s", ..Settings::new(HOST_MIB) };
    let mut host = Host::start(lab, "dynamic", usual)?;
    let mut servers = Vec::new();
    for kind in Kind::ALL {
        servers.push(Server::start(lab, &host, kind).map_err(|error| format!("{}: {error}", kind.name()))?);
    }
    std::thread::sleep(lab.seconds(20, 10));
    let mut phases = Vec::new();
    let count = if lab.quick { PHASES_QUICK } else { PHASES.len() };
    for busy in PHASES.into_iter().take(count) {
        let wanted_bytes = footprints(&host)?;
        for server in servers.iter_mut().filter(|server| !busy.contains(&server.kind)) {
            server.rest()?;
        }
        let was = phases.last().map_or([].as_slice(), |phase: &Phase| phase.busy.as_slice());
        let from = Instant::now();
        for server in servers.iter_mut().filter(|server| busy.contains(&server.kind) && !was.contains(&server.kind)) {
            server.work(host.directory())?;
        }
        std::thread::sleep(lab.seconds(40, 25));
        phases.push(Phase { busy, from, to: Instant::now(), wanted_bytes });
    }
    for server in &mut servers {
        server.rest()?;
    }
    let mut verified = Vec::new();
    for server in servers {
        verified.push((server.kind, server.verify(&host)));
    }
    let watched = host.watched()?;
    Ok(judge(&host, &phases, &watched, &verified).watched(&watched))
}

/// What all would be charged for if DRAM were free, by the node.
fn footprints(host: &Host) -> Result<u64, String> {
    let mut sum = 0;
    for kind in Kind::ALL {
        let space = host.space(kind.name())?;
        for part in ["dram_bytes", "staged_bytes", "stored_bytes", "tables_bytes"] {
            sum += space["tiers"][part].as_u64().ok_or("the node says nothing of where memory lies")?;
        }
    }
    Ok(sum)
}

/// All that became busy, in their order.
fn changes(phases: &[Phase], watched: &Watched) -> Vec<Change> {
    let mut changes = Vec::new();
    for (at, phase) in phases.iter().enumerate() {
        let was = at.checked_sub(1).map_or([].as_slice(), |before| phases[before].busy.as_slice());
        for kind in phase.busy.into_iter().filter(|kind| !was.contains(kind)) {
            changes.push(change(at, phase, kind, watched));
        }
    }
    changes
}

fn change(phase: usize, of: &Phase, kind: Kind, watched: &Watched) -> Change {
    let place = Kind::ALL.iter().position(|other| *other == kind).unwrap_or(0);
    let last_third = of.from + (of.to - of.from) * 2 / 3;
    let charged: Vec<f64> = watched.between(place, last_third, of.to).map(|seen| seen.charged as f64).collect();
    let settled_bytes = charged.iter().sum::<f64>() / charged.len().max(1) as f64;
    let since = |at: Instant| at.saturating_duration_since(of.from).as_secs_f64();
    let first = |bytes: fn(&super::words::Amounts) -> u64| {
        let mut seen = watched.timed(place, of.from, of.to);
        seen.find(|(_, amounts)| bytes(amounts) as f64 >= settled_bytes * MOST).map(|(at, _)| since(at))
    };
    Change {
        kind,
        phase,
        before_bytes: watched.between(place, of.from, of.to).next().map_or(0.0, |seen| seen.charged as f64),
        settled_bytes,
        granted_s: first(|seen| seen.told),
        taken_s: first(|seen| seen.charged),
    }
}

impl Change {
    fn gain(&self) -> f64 {
        1.0 - self.before_bytes / self.settled_bytes.max(1.0)
    }

    /// When both were done; for ever when one was not.
    fn followed_s(&self) -> f64 {
        let of = |seconds: Option<f64>| seconds.unwrap_or(f64::INFINITY);
        of(self.granted_s).max(of(self.taken_s))
    }

    fn row(&self) -> Vec<String> {
        let seconds = |seconds: Option<f64>| seconds.map_or("never".into(), |seconds| format!("{seconds:.1} s"));
        vec![
            (self.phase + 1).to_string(),
            self.kind.name().into(),
            format!("{} MiB", self.kind.reserved_mib()),
            mib(self.before_bytes as u64),
            mib(self.settled_bytes as u64),
            seconds(self.granted_s),
            seconds(self.taken_s),
        ]
    }

    fn figures(&self) -> Value {
        json!({
            "phase": self.phase + 1, "server": self.kind.name(), "before_bytes": self.before_bytes,
            "settled_bytes": self.settled_bytes, "granted_s": self.granted_s, "taken_s": self.taken_s,
        })
    }
}

fn judge(host: &Host, phases: &[Phase], watched: &Watched, verified: &[(Kind, Result<String, String>)]) -> Finding {
    let are_right = verified.iter().all(|(_, outcome)| outcome.is_ok());
    let said = |(kind, outcome): &(Kind, Result<String, String>)| match outcome {
        Ok(said) => format!("{} {said}", kind.name()),
        Err(wrong) => format!("{} WRONG ({wrong})", kind.name()),
    };
    let verified = verified.iter().map(said).collect::<Vec<_>>().join(", ");
    let changes = changes(phases, watched);
    let slowest = changes.iter().map(Change::followed_s).fold(0.0, f64::max);
    let gain = changes.iter().filter(|change| change.phase > 0).map(Change::gain).fold(f64::INFINITY, f64::min);
    let wanted_bytes = phases.iter().map(|phase| phase.wanted_bytes).min().unwrap_or(0);
    let small = wanted_bytes as f64 / host.dram_bytes() as f64;
    let short = |place: usize, kind: Kind| {
        let all = watched.between(place, phases[0].from, phases[phases.len() - 1].to);
        all.filter(|seen| seen.told < kind.reserved_mib() * MIB).count()
    };
    let broken: usize = Kind::ALL.into_iter().enumerate().map(|(place, kind)| short(place, kind)).sum();
    let followed = if slowest.is_finite() { format!("{slowest:.1} s") } else { "not at all".into() };
    Finding {
        columns: ["phase", "becomes busy", "reserved", "has", "settles at", "granted after", "taken after"]
            .map(String::from)
            .to_vec(),
        rows: changes.iter().map(Change::row).collect(),
        panels: vec![watched.told_panel()],
        figures: json!({
            "host_bytes": host.dram_bytes(), "wanted_bytes": wanted_bytes, "slowest_s": slowest.is_finite().then_some(slowest),
            "gain_min": gain, "told_below_reservation": broken, "sample": SAMPLE,
            "changes": changes.iter().map(Change::figures).collect::<Vec<_>>(), "verified": verified,
        }),
        sentence: format!(
            "five servers want {} of {}, {small:.2} times what there is ({SMALL} at least); after {} changes DRAM followed within \
             {followed} ({FOLLOWS_S:.0} s are allowed), from phase 2 on each gained at least {:.0} % of what it settled at ({:.0} % at least), \
             with samples of {SAMPLE}; {broken} samples with a target below its reservation; verified: {verified}",
            mib(wanted_bytes),
            mib(host.dram_bytes()),
            changes.len(),
            gain * 100.0,
            GAIN * 100.0,
        ),
        holds: small >= SMALL && slowest <= FOLLOWS_S && gain >= GAIN && broken == 0 && are_right,
    }
}
