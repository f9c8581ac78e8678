//! `memvisor doctor`: what this kernel and machine allow, and what memvisor will therefore do.
//!
//! Everything is found by trying, as `run` would; a finding says what was found, what follows from it, and, when it is
//! not all it could be, the way out.

use crate::ability::{self, KernelObstacle};
use crate::args::DoctorArgs;
use crate::budget::{self, Budget};
use crate::exit::{Exit, Outcome};
use crate::host::{self, Memory};
use crate::preload;
use crate::size::Size;
use crate::space::{Space, Terms};
use memvisor_sys::probe::{HugePages, Probe};
use memvisor_sys::uffd::Way;
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
struct Surroundings {
    memory: Option<Memory>,
    /// Where the library is, or why it is not.
    shim: Result<String, (String, String)>,
    /// Why the memory file of a space cannot be made.
    space_refused: Option<String>,
    /// `kernel.yama.ptrace_scope`; `None` without that module.
    ptrace_scope: Option<u64>,
    is_root: bool,
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
        userfaultfd(probe),
        page_moves(probe),
        poison(probe),
        pagemap_scan(probe),
        memory_file(probe, around),
        library(around),
        saving_beside(probe, around),
        io_uring(probe),
        memory(around),
        huge_pages(probe),
        mappings(probe),
        overcommit(probe),
        processors(probe),
    ];
    let can_manage = findings.iter().all(|finding| finding.verdict != Verdict::Missing);
    Diagnosis { version: env!("CARGO_PKG_VERSION"), kernel: probe.kernel_release.clone(), can_manage, findings }
}

fn ok(name: &'static str, found: impl Into<String>, consequence: impl Into<String>) -> Finding {
    Finding { name, verdict: Verdict::Ok, found: found.into(), consequence: consequence.into(), way_out: None }
}

fn limited(name: &'static str, found: impl Into<String>, consequence: &str, way_out: &str) -> Finding {
    let (found, consequence) = (found.into(), consequence.into());
    Finding { name, verdict: Verdict::Limited, found, consequence, way_out: Some(way_out.into()) }
}

/// The kernel lacks what it takes: programs run all the same.
fn unmanageable(name: &'static str, obstacle: KernelObstacle) -> Finding {
    let consequence = "programs run unmanaged, or not at all with --strict";
    missing(name, obstacle.to_string(), consequence, obstacle.way_out())
}

fn missing(name: &'static str, found: impl Into<String>, consequence: &str, way_out: impl Into<String>) -> Finding {
    let consequence = consequence.into();
    Finding { name, verdict: Verdict::Missing, found: found.into(), consequence, way_out: Some(way_out.into()) }
}

/// What follows when memvisor itself is not whole.
const REFUSAL: &str = "`memvisor run` refuses to run anything, but with --unmanaged";

fn userfaultfd(probe: &Probe) -> Finding {
    const NAME: &str = "userfaultfd";
    let obstacle = ability::obstacle(probe).filter(|obstacle| {
        use KernelObstacle::{NoEvents, NoMemfd, NoUserfaultfd, NoWayOut, PageSize, UserModeOnly};
        match obstacle {
            PageSize(_) | NoUserfaultfd | UserModeOnly | NoEvents => true,
            // These have lines of their own.
            NoWayOut | NoMemfd => false,
        }
    });
    if let Some(obstacle) = obstacle {
        return unmanageable(NAME, obstacle);
    }
    let how = match probe.uffd {
        Some(Way::Device) => "by /dev/userfaultfd",
        _ if probe.unprivileged_userfaultfd == Some(true) => "by system call, open to all users",
        _ => "by system call, with privilege",
    };
    ok(NAME, how, "faults of programs are served, inside system calls too")
}

fn page_moves(probe: &Probe) -> Finding {
    const NAME: &str = "moving pages";
    match (probe.move_works, probe.features.wp) {
        (true, _) => ok(NAME, "UFFDIO_MOVE works", "pages leave without a copy, 16 neighbours at a time"),
        (false, true) => limited(
            NAME,
            "no UFFDIO_MOVE",
            "pages are write-protected, copied and dropped instead, which costs about twice as much",
            "use Linux 6.8 or later",
        ),
        (false, false) => unmanageable(NAME, KernelObstacle::NoWayOut),
    }
}

fn poison(probe: &Probe) -> Finding {
    const NAME: &str = "poisoning pages";
    if probe.features.poison {
        return ok(NAME, "UFFDIO_POISON is there", "who touches a page that cannot be brought back true gets a SIGBUS");
    }
    limited(
        NAME,
        "no UFFDIO_POISON",
        "a program whose page cannot be brought back true is ended by a SIGBUS, whichever thread touched it",
        "use Linux 6.6 or later",
    )
}

fn pagemap_scan(probe: &Probe) -> Finding {
    const NAME: &str = "finding pages";
    if probe.pagemap_scan_works {
        return ok(NAME, "PAGEMAP_SCAN works", "memory that is already filled is taken over at once");
    }
    limited(
        NAME,
        "no PAGEMAP_SCAN",
        "memory that is already filled is looked through page by page before its first eviction",
        "use Linux 6.7 or later",
    )
}

fn memory_file(probe: &Probe, around: &Surroundings) -> Finding {
    const NAME: &str = "shared memory";
    match &around.space_refused {
        _ if !probe.memfd_works => unmanageable(NAME, KernelObstacle::NoMemfd),
        Some(refusal) => missing(NAME, refusal.clone(), REFUSAL, "lift the limits of address space and file size: ulimit -v, ulimit -f"),
        None => ok(NAME, "a space could be made", "processes of a program share one budget and one store"),
    }
}

fn library(around: &Surroundings) -> Finding {
    const NAME: &str = "library";
    match &around.shim {
        Ok(path) => ok(NAME, path.clone(), "it is put into dynamically linked programs; static ones run unmanaged"),
        Err((why, way_out)) => missing(NAME, why.clone(), REFUSAL, way_out.clone()),
    }
}

fn saving_beside(probe: &Probe, around: &Surroundings) -> Finding {
    const NAME: &str = "saving beside";
    const CONSEQUENCE: &str = "programs save their pages by themselves, on their own time";
    match around.ptrace_scope {
        _ if !probe.process_vm_readv_works => limited(
            NAME,
            "process_vm_readv does not work",
            CONSEQUENCE,
            "allow it in the seccomp profile (in a container: --cap-add SYS_PTRACE)",
        ),
        Some(scope @ 2) if !around.is_root => limited(
            NAME,
            format!("kernel.yama.ptrace_scope is {scope}"),
            CONSEQUENCE,
            "as root: sysctl kernel.yama.ptrace_scope=1, or run memvisor with CAP_SYS_PTRACE",
        ),
        Some(scope @ 3..) => limited(
            NAME,
            format!("kernel.yama.ptrace_scope is {scope}"),
            CONSEQUENCE,
            "set kernel.yama.ptrace_scope to 2 or less in /etc/sysctl.d and boot again",
        ),
        Some(0..=2) | None => {
            ok(NAME, "memory of our programs can be read", "a keeper process compresses and writes pages while the program goes on")
        }
    }
}

fn io_uring(probe: &Probe) -> Finding {
    const NAME: &str = "file I/O";
    if probe.io_uring_works {
        return ok(NAME, "io_uring works", "a store on a file is read and written many pages at a time");
    }
    limited(
        NAME,
        "no io_uring",
        "a store on a file is read and written one page after another",
        "allow it in the seccomp profile; as root: sysctl kernel.io_uring_disabled=0",
    )
}

fn memory(around: &Surroundings) -> Finding {
    const NAME: &str = "memory";
    let Some(memory) = around.memory else {
        return limited(NAME, "/proc/meminfo cannot be read", "every run needs --dram", "mount /proc");
    };
    let found = format!("{} available of {}", Size(memory.available), Size(memory.total));
    let share = Size(memory.available / 100 * budget::DEFAULT_PERCENT);
    if share.0 < budget::DRAM_MIN {
        return limited(NAME, found, "a run without --dram takes more than its share of what is left", "free some memory");
    }
    ok(NAME, found, format!("a run without --dram gets {share}"))
}

fn huge_pages(probe: &Probe) -> Finding {
    const NAME: &str = "huge pages";
    let (found, consequence) = match probe.huge_pages {
        HugePages::Always => ("always", "memory that was not evicted yet keeps its huge pages"),
        HugePages::OnRequest => ("on request", "programs that ask for huge pages keep them until the first eviction"),
        HugePages::Never => ("never", "there are none to be split"),
        HugePages::Unknown => ("the kernel does not say", "there are none to be split"),
    };
    ok(NAME, found, consequence)
}

fn mappings(probe: &Probe) -> Finding {
    /// The kernel's default; programs with many regions need more when each is registered by itself.
    const USUAL: u64 = 65_530;
    const NAME: &str = "mappings";
    match probe.max_map_count {
        Some(count) if count < USUAL => limited(
            NAME,
            format!("vm.max_map_count is {count}"),
            "programs with very many mappings may have some of them unmanaged",
            "as root: sysctl vm.max_map_count=65530, or more",
        ),
        Some(count) => ok(NAME, format!("vm.max_map_count is {count}"), "regions are registered as they come"),
        None => ok(NAME, "the kernel does not say", "regions are registered as they come"),
    }
}

fn overcommit(probe: &Probe) -> Finding {
    /// The value of `vm.overcommit_memory` with which the kernel promises no more than it has.
    const NEVER: u32 = 2;
    const NAME: &str = "overcommit";
    let found = probe.overcommit_mode.map_or("the kernel does not say".into(), |mode| format!("vm.overcommit_memory is {mode}"));
    if probe.overcommit_mode == Some(NEVER) {
        return limited(
            NAME,
            found,
            "the kernel refuses programs memory that it could not hold by itself, whatever the stores could hold",
            "as root: sysctl vm.overcommit_memory=0",
        );
    }
    ok(NAME, found, "programs may have more memory than there is DRAM")
}

fn processors(probe: &Probe) -> Finding {
    const NAME: &str = "processors";
    match probe.cpus {
        0 | 1 => limited(
            NAME,
            "1 may be used",
            "saving and the program share it, and the program waits for saving",
            "let memvisor run on two or more (taskset, cpuset)",
        ),
        cpus => ok(NAME, format!("{cpus} may be used"), "pages are saved on another processor than the program's"),
    }
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
    use crate::ability::tests::machine;

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
            assert!(diagnosis.findings.iter().all(|finding| (finding.verdict == Verdict::Ok) == finding.way_out.is_none()));
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
        assert_eq!([scoped(1, false), scoped(2, false), scoped(3, false)], [Verdict::Ok, Verdict::Limited, Verdict::Limited]);
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
