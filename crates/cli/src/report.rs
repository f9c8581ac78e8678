//! What a run says of itself at its end: as JSON for programs, as a table for people.
//!
//! The names of the fields are fixed: tests and people rely on them. Fields are added, never renamed. Sizes are in
//! bytes and end in `_bytes`, durations in nanoseconds and end in `_ns`.

use crate::exit::Exit;
use crate::sample::{BytesByTier, Peaks, Sample};
use crate::size::Size;
use crate::status::Nanoseconds;
use serde::Serialize;
use std::fmt::Write as _;

/// The report of one run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The version of memvisor.
    pub version: &'static str,
    /// The release of the kernel.
    pub kernel: String,
    /// The name of the space.
    pub space: String,
    /// Its number, which no other space has; empty when nothing was managed.
    pub space_id: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether the program was managed.
    pub managed: bool,
    /// Why it was not.
    pub unmanaged_because: Option<String>,
    /// How it ended.
    pub exit: ExitReport,
    /// From its start to the end of its last process.
    pub duration_ns: u64,
    /// DRAM that it was granted.
    pub dram_target_bytes: u64,
    /// The most DRAM that it was charged.
    pub dram_charged_bytes_max: u64,
    /// DRAM that it was guaranteed.
    pub reservation_bytes: u64,
    /// DRAM that it might never exceed.
    pub limit_bytes: Option<u64>,
    /// Its weight.
    pub shares: u32,
    /// The most memory it had that is not managed: text, stack, files, and the pager itself.
    pub overhead_bytes: u64,
    /// The most memory it had that is managed.
    pub managed_bytes_max: u64,
    /// Processes that were managed.
    pub members: u64,
    /// The most of them at one time.
    pub members_max: u64,
    /// Faults served.
    pub faults: u64,
    /// Faults on pages that had no contents yet.
    pub first_touches: u64,
    /// Pages moved out.
    pub evictions: u64,
    /// Pages that came back, by where from.
    pub loads_by_store: LoadsByStore,
    /// Pages loaded ahead of a fault.
    pub prefetched: u64,
    /// Pages compressed or written.
    pub saves: u64,
    /// Pages that still were as their stored copy.
    pub clean_saves: u64,
    /// Pages that members saved by themselves.
    pub self_saves: u64,
    /// Pages that went on from compressed RAM to the file.
    pub sunk: u64,
    /// What lay where at the fullest moment.
    pub bytes_by_tier: BytesByTier,
    /// Service times of faults.
    pub fault_ns: FaultNs,
    /// Faults that waited for a frame.
    pub stalls: u64,
    /// Pages that could not be moved out: pinned, locked or shared.
    pub immovable: u64,
    /// Pages that no store would take.
    pub refusals: u64,
    /// Errors of the stores.
    pub errors: u64,
    /// Pages that could not be brought back true; their programs were stopped.
    pub lost: u64,
    /// Memory of the pager itself.
    pub pager: PagerReport,
    /// The file under the space.
    pub store: Option<StoreReport>,
}

/// How a program ended; one of the two.
#[derive(Debug, Default, Serialize)]
pub struct ExitReport {
    /// Its exit code.
    pub code: Option<u8>,
    /// The signal that ended it.
    pub signal: Option<u8>,
}

/// Pages that came back.
#[derive(Debug, Default, Serialize)]
pub struct LoadsByStore {
    /// From compressed RAM.
    pub ram: u64,
    /// From the file.
    pub log: u64,
    /// Made from a pattern.
    pub filled: u64,
    /// Moved back before they were saved.
    pub parked: u64,
}

/// Service times of faults.
#[derive(Debug, Default, Serialize)]
pub struct FaultNs {
    /// Half of them were served within this time.
    pub p50: u64,
    /// All but one in a hundred.
    pub p99: u64,
    /// All.
    pub max: u64,
}

/// Memory of the pager itself, at its most.
#[derive(Debug, Default, Serialize)]
pub struct PagerReport {
    /// Page tables and tables of the stores, shared by all members.
    pub metadata_bytes: u64,
    /// What pagers hold in the members' processes.
    pub private_bytes: u64,
    /// Metadata by managed page; none when no page was managed.
    pub metadata_bytes_per_page: Option<f64>,
}

/// The file under a space.
#[derive(Debug, Serialize)]
pub struct StoreReport {
    /// Where it is.
    pub path: String,
    /// What it may hold.
    pub capacity_bytes: u64,
    /// Whether it lies in memory itself.
    pub in_memory: bool,
}

/// Counts of the keeper's side, from the header of the space.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeeperCounts {
    /// Pages compressed or written.
    pub saves: u64,
    /// Pages that still were as their stored copy.
    pub clean_saves: u64,
    /// Pages that went on from RAM to the file.
    pub sunk: u64,
    /// Errors of the stores.
    pub errors: u64,
    /// Pages that no store would take.
    pub refusals: u64,
}

impl Report {
    /// Puts in what the sampler saw.
    pub fn fill(&mut self, last: &Sample, peaks: &Peaks, keeper: KeeperCounts) {
        let counters = &last.counters;
        self.dram_charged_bytes_max = peaks.charged_bytes;
        self.overhead_bytes = peaks.overhead_bytes;
        self.managed_bytes_max = peaks.managed_bytes;
        self.members = last.members;
        self.members_max = peaks.live;
        self.faults = counters.faults;
        self.first_touches = counters.first_touches;
        self.evictions = counters.evictions;
        self.loads_by_store = LoadsByStore {
            ram: counters.ram_loads,
            log: counters.log_loads,
            filled: counters.filled_loads,
            parked: counters.parked_hits,
        };
        self.prefetched = counters.prefetched;
        self.saves = keeper.saves;
        self.clean_saves = keeper.clean_saves;
        self.self_saves = counters.self_saves;
        self.sunk = keeper.sunk;
        self.bytes_by_tier = peaks.tiers;
        self.fault_ns = FaultNs {
            p50: counters.fault_ns_quantile(0.5),
            p99: counters.fault_ns_quantile(0.99),
            max: counters.fault_ns_max,
        };
        self.stalls = counters.stalls;
        self.immovable = counters.immovable;
        self.refusals = keeper.refusals;
        self.errors = keeper.errors;
        self.lost = counters.lost;
        let pages = peaks.managed_bytes / memvisor_core::PAGE_BYTES as u64;
        let by_page = |bytes: u64| (bytes as f64 / pages as f64 * 100.0).round() / 100.0;
        self.pager = PagerReport {
            metadata_bytes: peaks.metadata_bytes,
            private_bytes: peaks.pager_bytes,
            metadata_bytes_per_page: (pages > 0).then(|| by_page(peaks.metadata_bytes)),
        };
    }

    /// The report as JSON, readable by people too.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has only strings, numbers and structs") + "\n"
    }

    /// The report as a table.
    pub fn summary(&self) -> String {
        let mut text = format!("memvisor: {} {} after {}\n", self.space, self.ending(), Nanoseconds(self.duration_ns));
        if let Some(reason) = &self.unmanaged_because {
            let _ = writeln!(text, "  not managed  {reason}");
            return text;
        }
        for (name, value) in self.rows() {
            let _ = writeln!(text, "  {name:<10} {value}");
        }
        text
    }

    fn ending(&self) -> String {
        match (self.exit.code, self.exit.signal) {
            (Some(0), _) => "ended well".into(),
            (Some(code), _) => format!("ended with code {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "was left running".into(),
        }
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let tiers = &self.bytes_by_tier;
        let loads = &self.loads_by_store;
        let mut rows = vec![
            (
                "DRAM",
                format!(
                    "{} granted · at most {} charged · {} overhead",
                    Size(self.dram_target_bytes),
                    Size(self.dram_charged_bytes_max),
                    Size(self.overhead_bytes)
                ),
            ),
            (
                "at most",
                format!(
                    "{} in place · {} moved out · {} compressed · {} in the file · {} of tables",
                    Size(tiers.dram),
                    Size(tiers.staged),
                    Size(tiers.ram),
                    Size(tiers.log),
                    Size(self.pager.metadata_bytes)
                ),
            ),
            (
                "faults",
                format!(
                    "{} · p50 {} · p99 {} · max {} · {} had to wait",
                    self.faults,
                    Nanoseconds(self.fault_ns.p50),
                    Nanoseconds(self.fault_ns.p99),
                    Nanoseconds(self.fault_ns.max),
                    self.stalls
                ),
            ),
            (
                "loads",
                format!(
                    "{} from compressed RAM · {} from the file · {} patterns · {} moved back · {} ahead",
                    loads.ram, loads.log, loads.filled, loads.parked, self.prefetched
                ),
            ),
            (
                "evictions",
                format!(
                    "{} · {} saved · {} unchanged · {} by members",
                    self.evictions, self.saves, self.clean_saves, self.self_saves
                ),
            ),
        ];
        if self.members != 1 {
            rows.push(("processes", format!("{} · at most {} at a time", self.members, self.members_max)));
        }
        if self.lost + self.errors + self.refusals > 0 {
            rows.push((
                "trouble",
                format!(
                    "{} pages lost · {} store errors · {} pages refused by every store",
                    self.lost, self.errors, self.refusals
                ),
            ));
        }
        rows
    }
}

impl From<Exit> for ExitReport {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Program(code) => Self { code: Some(code), signal: None },
            Exit::Signal(signal) => Self { code: None, signal: Some(signal) },
            Exit::Success | Exit::No | Exit::Usage | Exit::Memvisor | Exit::CannotRun | Exit::NotFound => {
                Self { code: None, signal: None }
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::counters::Counters;

    /// A report of a run in which nothing happened.
    pub fn empty() -> Report {
        Report {
            version: "0.0.0",
            kernel: "6.18.0".into(),
            space: "redis".into(),
            space_id: "00".into(),
            command: vec!["redis-server".into()],
            managed: true,
            exit: Exit::Program(0).into(),
            duration_ns: 1_500_000_000,
            dram_target_bytes: 256 << 20,
            ..Report::default()
        }
    }

    #[test]
    fn the_fields_that_people_rely_on_are_there() {
        let value: serde_json::Value = serde_json::from_str(&empty().json()).unwrap();
        for field in [
            "/space",
            "/dram_target_bytes",
            "/dram_charged_bytes_max",
            "/overhead_bytes",
            "/faults",
            "/evictions",
            "/loads_by_store/ram",
            "/loads_by_store/log",
            "/bytes_by_tier/dram",
            "/bytes_by_tier/ram",
            "/bytes_by_tier/log",
            "/fault_ns/p50",
            "/fault_ns/p99",
            "/fault_ns/max",
            "/stalls",
            "/errors",
            "/lost",
            "/exit/code",
        ] {
            assert!(value.pointer(field).is_some(), "{field}");
        }
    }

    #[test]
    fn what_was_seen_is_in_the_report_and_in_the_summary() {
        let mut report = empty();
        let counters = Counters { faults: 77, lost: 1, ..Counters::default() };
        let last = Sample { counters, members: 3, ..Sample::default() };
        let peaks = Peaks {
            charged_bytes: 255 << 20,
            managed_bytes: 4096 * 1000,
            metadata_bytes: 8500,
            live: 2,
            ..Peaks::default()
        };
        report.fill(&last, &peaks, KeeperCounts { saves: 9, ..KeeperCounts::default() });
        assert_eq!(report.pager.metadata_bytes_per_page, Some(8.5));
        let summary = report.summary();
        for said in
            ["redis ended well after 1.5 s", "255 MiB charged", "77 · p50", "9 saved", "3 · at most 2", "1 pages lost"]
        {
            assert!(summary.contains(said), "{said} is not in\n{summary}");
        }
    }

    #[test]
    fn a_run_that_was_not_managed_says_why() {
        let report = Report {
            managed: false,
            unmanaged_because: Some("it is static".into()),
            exit: Exit::Signal(9).into(),
            ..empty()
        };
        let summary = report.summary();
        assert!(
            summary.contains("was ended by signal 9") && summary.contains("not managed  it is static"),
            "{summary}"
        );
        assert!(!summary.contains("faults"));
    }
}
