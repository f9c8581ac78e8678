//! The things that the doctor looks at, one function each: what was found, what follows, and the way out.

use crate::ability::{self, KernelObstacle};
use crate::budget;
use crate::doctor::{Finding, Surroundings, Verdict};
use crate::size::Size;
use memvisor_sys::probe::{HugePages, Probe};
use memvisor_sys::uffd::Way;

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

/// Whether faults can be served.
pub fn userfaultfd(probe: &Probe) -> Finding {
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

/// How pages leave.
pub fn page_moves(probe: &Probe) -> Finding {
    const NAME: &str = "moving pages";
    if matches!(probe.uffd, None | Some(Way::UserModeOnly)) {
        let found = "cannot be tried without a whole userfaultfd";
        return limited(NAME, found, "what the kernel can do is seen when there is one", "see userfaultfd");
    }
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

/// What becomes of lost pages.
pub fn poison(probe: &Probe) -> Finding {
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

/// How memory is found that is filled already.
pub fn pagemap_scan(probe: &Probe) -> Finding {
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

/// Whether a space can be made.
pub fn memory_file(probe: &Probe, around: &Surroundings) -> Finding {
    const NAME: &str = "shared memory";
    match &around.space_refused {
        _ if !probe.memfd_works => unmanageable(NAME, KernelObstacle::NoMemfd),
        Some(refusal) => missing(
            NAME,
            refusal.clone(),
            REFUSAL,
            "lift the limits of address space and file size: ulimit -v, ulimit -f",
        ),
        None => ok(NAME, "a space could be made", "processes of a program share one budget and one store"),
    }
}

/// Whether the library is where it must be.
pub fn library(around: &Surroundings) -> Finding {
    const NAME: &str = "library";
    match &around.shim {
        Ok(path) => ok(NAME, path.clone(), "it is put into dynamically linked programs; static ones run unmanaged"),
        Err((why, way_out)) => missing(NAME, why.clone(), REFUSAL, way_out.clone()),
    }
}

/// Whether another process can save pages.
pub fn saving_beside(probe: &Probe, around: &Surroundings) -> Finding {
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
        Some(0..=2) | None => ok(
            NAME,
            "memory of our programs can be read",
            "a keeper process compresses and writes pages while the program goes on",
        ),
    }
}

/// How a file store is read and written.
pub fn io_uring(probe: &Probe) -> Finding {
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

/// What a run gets that asks for nothing.
pub fn memory(around: &Surroundings) -> Finding {
    const NAME: &str = "memory";
    let Some(memory) = around.memory else {
        return limited(NAME, "/proc/meminfo cannot be read", "every run needs --dram", "mount /proc");
    };
    let found = format!("{} available of {}", Size(memory.available), Size(memory.total));
    let share = Size(memory.available / 100 * budget::DEFAULT_PERCENT);
    if share.0 < budget::DRAM_MIN {
        return limited(
            NAME,
            found,
            "a run without --dram takes more than its share of what is left",
            "free some memory",
        );
    }
    ok(NAME, found, format!("a run without --dram gets {share}"))
}

/// What becomes of huge pages.
pub fn huge_pages(probe: &Probe) -> Finding {
    const NAME: &str = "huge pages";
    let (found, consequence) = match probe.huge_pages {
        HugePages::Always => ("always", "memory that was not evicted yet keeps its huge pages"),
        HugePages::OnRequest => ("on request", "programs that ask for huge pages keep them until the first eviction"),
        HugePages::Never => ("never", "there are none to be split"),
        HugePages::Unknown => ("the kernel does not say", "there are none to be split"),
    };
    ok(NAME, found, consequence)
}

/// How many regions a program may have.
pub fn mappings(probe: &Probe) -> Finding {
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

/// Whether programs may have more memory than there is DRAM.
pub fn overcommit(probe: &Probe) -> Finding {
    /// The value of `vm.overcommit_memory` with which the kernel promises no more than it has.
    const NEVER: u32 = 2;
    const NAME: &str = "overcommit";
    let found = probe
        .overcommit_mode
        .map_or("the kernel does not say".into(), |mode| format!("vm.overcommit_memory is {mode}"));
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

/// Whether saving has a processor of its own.
pub fn processors(probe: &Probe) -> Finding {
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
