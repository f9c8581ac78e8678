//! `memvisor doctor`: what this kernel and machine allow, and what memvisor will therefore do.
//!
//! Everything is found by trying, as `run` would; a finding says what was found, what follows from it, and, when it is
//! not all it could be, the way out.

use crate::args::DoctorArgs;
use crate::budget::{self, Budget};
use crate::exit::{Exit, Outcome};
use crate::findings;
use crate::host::{self, Memory};
use crate::preload;
use crate::space::{Space, Terms};
use memvisor_sys::probe::Probe;
use serde::Serialize;
use std::fmt::Write as _;

/// How good a thing is for us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As good as it gets.
    Ok,
    /// It works, and less well than it could.
    Limited,
    /// Without it no program can be managed.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The thing.
    pub name: &'static str,
    /// How good it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What memvisor therefore does.
    pub consequence: String,
    /// What would make it better.
    pub way_out: Option<String>,
}

/// All that was found.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    /// The version of memvisor.
    pub version: &'static str,
    /// The release of the kernel.
    pub kernel: String,
    /// Whether programs can be managed here.
    pub can_manage: bool,
    /// Thing by thing.
    pub findings: Vec<Finding>,
}

/// What is looked at besides the probe; a value, so that the verdicts can be tested.
pub struct Surroundings {
    /// The machine's memory, if it says.
    pub memory: Option<Memory>,
    /// Where the library is, or why it is not.
    pub shim: Result<String, (String, String)>,
    /// Why the memory file of a space cannot be made.
    pub space_refused: Option<String>,
    /// `kernel.yama.ptrace_scope`; `None` without that module.
    pub ptrace_scope: Option<u64>,
    /// Whether root asks.
    pub is_root: bool,
}

/// Looks, and prints what was found.
///
/// # Errors
/// Never; what is wrong is a finding.
pub fn doctor(args: &DoctorArgs) -> Outcome {
    let diagnosis = diagnose(&Probe::run(), &Surroundings::look());
    let text = if args.json { json(&diagnosis) } else { table(&diagnosis) };
    print!("{text}");
    Ok(if diagnosis.can_manage { Exit::Success } else { Exit::No })
}

impl Surroundings {
    fn look() -> Self {
        use crate::exit::Failure;
        let terms = |dram| {
            let budget = Budget { dram, ram_store: dram / 2, reservation: 0, limit: None, shares: 1 };
            Terms { budget, log_pages: 0, options: 0 }
        };
        Self {
            memory: Memory::now().ok(),
            shim: preload::find()
                .map(|path| path.display().to_string())
                .map_err(|error| (error.to_string(), error.way_out().unwrap_or_default())),
            space_refused: Space::make(terms(budget::DRAM_MIN)).err().map(|error| crate::exit::explain(&error)),
            ptrace_scope: host::number("/proc/sys/kernel/yama/ptrace_scope"),
            is_root: rustix::process::geteuid().is_root(),
        }
    }
}

fn diagnose(probe: &Probe, around: &Surroundings) -> Diagnosis {
    let findings = vec![
        findings::userfaultfd(probe),
        findings::page_moves(probe),
        findings::poison(probe),
        findings::pagemap_scan(probe),
        findings::memory_file(probe, around),
        findings::library(around),
        findings::saving_beside(probe, around),
        findings::io_uring(probe),
        findings::memory(around),
        findings::huge_pages(probe),
        findings::mappings(probe),
        findings::overcommit(probe),
        findings::processors(probe),
    ];
    let can_manage = findings.iter().all(|finding| finding.verdict != Verdict::Missing);
    Diagnosis { version: env!("CARGO_PKG_VERSION"), kernel: probe.kernel_release.clone(), can_manage, findings }
}

fn json(diagnosis: &Diagnosis) -> String {
    serde_json::to_string_pretty(diagnosis).expect("a diagnosis has only strings and enums") + "\n"
}

fn table(diagnosis: &Diagnosis) -> String {
    let mut text = format!("memvisor {} on Linux {}\n\n", diagnosis.version, diagnosis.kernel);
    for finding in &diagnosis.findings {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Limited => "limited",
            Verdict::Missing => "MISSING",
        };
        let _ = writeln!(text, "{verdict:<8} {:<16} {}", finding.name, finding.found);
        let _ = writeln!(text, "{:<8} {:<16} → {}", "", "", finding.consequence);
        if let Some(way_out) = &finding.way_out {
            let _ = writeln!(text, "{:<8} {:<16} way out: {way_out}", "", "");
        }
    }
    let conclusion = if diagnosis.can_manage {
        "Programs can be managed here: memvisor run --dram 256M -- PROGRAM"
    } else {
        "No program can be managed here until what is MISSING is there."
    };
    let _ = writeln!(text, "\n{conclusion}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ability;
    use crate::ability::tests::machine;
    use memvisor_sys::uffd::Way;

    fn around() -> Surroundings {
        Surroundings {
            memory: Some(Memory { total: 24 << 30, available: 20 << 30 }),
            shim: Ok("/usr/lib/memvisor/libmemvisor_shim.so".into()),
            space_refused: None,
            ptrace_scope: Some(1),
            is_root: false,
        }
    }

    fn verdict_of(diagnosis: &Diagnosis, name: &str) -> Verdict {
        diagnosis.findings.iter().find(|finding| finding.name == name).expect(name).verdict
    }

    #[test]
    fn a_good_machine_has_nothing_to_mend() {
        let diagnosis = diagnose(&machine(), &around());
        assert!(diagnosis.can_manage);
        for finding in &diagnosis.findings {
            assert_eq!((finding.verdict, &finding.way_out), (Verdict::Ok, &None), "{finding:?}");
        }
    }

    #[test]
    fn what_is_slower_is_limited_and_what_is_needed_is_missing() {
        let features = machine().features;
        let no_poison = memvisor_sys::probe::Features { poison: false, ..features };
        for (name, verdict, probe) in [
            ("userfaultfd", Verdict::Missing, Probe { uffd: None, ..machine() }),
            ("userfaultfd", Verdict::Missing, Probe { uffd: Some(Way::UserModeOnly), ..machine() }),
            ("moving pages", Verdict::Limited, Probe { move_works: false, ..machine() }),
            ("poisoning pages", Verdict::Limited, Probe { features: no_poison, ..machine() }),
            ("finding pages", Verdict::Limited, Probe { pagemap_scan_works: false, ..machine() }),
            ("shared memory", Verdict::Missing, Probe { memfd_works: false, ..machine() }),
            ("saving beside", Verdict::Limited, Probe { process_vm_readv_works: false, ..machine() }),
            ("file I/O", Verdict::Limited, Probe { io_uring_works: false, ..machine() }),
            ("mappings", Verdict::Limited, Probe { max_map_count: Some(1000), ..machine() }),
            ("overcommit", Verdict::Limited, Probe { overcommit_mode: Some(2), ..machine() }),
            ("processors", Verdict::Limited, Probe { cpus: 1, ..machine() }),
        ] {
            let diagnosis = diagnose(&probe, &around());
            assert_eq!(verdict_of(&diagnosis, name), verdict, "{name}");
            assert_eq!(diagnosis.can_manage, verdict == Verdict::Limited);
            assert!(
                diagnosis.findings.iter().all(|finding| (finding.verdict == Verdict::Ok) == finding.way_out.is_none())
            );
        }
    }

    #[test]
    fn whatever_stops_run_stops_the_doctor_too() {
        let features = memvisor_sys::probe::Features::default();
        for probe in [Probe { page_bytes: 1 << 14, ..machine() }, Probe { features, move_works: false, ..machine() }] {
            assert!(ability::obstacle(&probe).is_some());
            assert!(!diagnose(&probe, &around()).can_manage);
        }
        let no_shim = Surroundings { shim: Err(("gone".into(), "bring it back".into())), ..around() };
        assert!(!diagnose(&machine(), &no_shim).can_manage);
        let no_space = Surroundings { space_refused: Some("EFBIG".into()), ..around() };
        assert!(!diagnose(&machine(), &no_space).can_manage);
    }

    #[test]
    fn a_strict_ptrace_scope_limits_users_and_spares_root() {
        let scoped = |scope, is_root| {
            let around = Surroundings { ptrace_scope: Some(scope), is_root, ..around() };
            verdict_of(&diagnose(&machine(), &around), "saving beside")
        };
        assert_eq!(
            [scoped(1, false), scoped(2, false), scoped(3, false)],
            [Verdict::Ok, Verdict::Limited, Verdict::Limited]
        );
        assert_eq!([scoped(2, true), scoped(3, true)], [Verdict::Ok, Verdict::Limited]);
    }

    #[test]
    fn the_table_names_every_way_out() {
        let diagnosis = diagnose(&Probe { uffd: None, ..machine() }, &around());
        let text = table(&diagnosis);
        assert!(text.contains("MISSING  userfaultfd") && text.contains("way out: as root: `chmod"), "{text}");
        assert!(text.ends_with("is there.\n"));
    }
}
