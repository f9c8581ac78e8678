//! The kernel's swap as peer: it swaps, it is measured, and it is gone afterwards, however the bench ended.

use memvisor_bench::context::Scratch;
use memvisor_bench::group::Group;
use memvisor_bench::peer::{self, Kind, Peer, Tuning};
use memvisor_bench::run::Launch;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a bench may change, as it is now.
#[derive(Debug, PartialEq, Eq)]
struct Kernel {
    swaps: String,
    page_cluster: String,
    folios: String,
    groups: Vec<PathBuf>,
}

impl Kernel {
    fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        // Groups of whoever still runs are theirs.
        let orphan = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let owner = name.strip_prefix("memvisor-bench-").and_then(|rest| rest.split('-').next());
            owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists())
        };
        let entries = std::fs::read_dir("/sys/fs/cgroup/memory").into_iter().flatten().flatten();
        Self {
            swaps: read("/proc/swaps"),
            page_cluster: read("/proc/sys/vm/page-cluster"),
            folios: read("/sys/kernel/mm/transparent_hugepage/hugepages-16kB/enabled"),
            groups: entries.map(|entry| entry.path()).filter(orphan).collect(),
        }
    }
}

/// Whether the kernel's swap can be used here; says aloud if not.
fn can_run() -> bool {
    peer::possible().inspect_err(|why| println!("CANNOT RUN: {why}")).is_ok()
}

fn touch(words: &[&str]) -> Launch {
    Launch::new([env!("CARGO_BIN_EXE_touch")].iter().chain(words), &[0])
}

/// Looks until `seen` or half a minute has passed.
fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !seen() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// All that changes the kernel is one test, so that its parts do not see each other's changes.
#[test]
fn the_kernel_swaps_for_the_peer_and_is_as_before_afterwards() {
    if !can_run() {
        return;
    }
    let scratch = std::env::temp_dir();
    // Takes the lock first: another bench of this machine may be in the middle of its changes.
    drop(Peer::new(Kind::Zram, 64 << 20, &scratch).expect("a zram device"));
    let before = Kernel::now();
    a_peer_run_swaps(&scratch);
    assert_eq!(Kernel::now(), before, "after a run");
    let out = Scratch::at(scratch.join(format!("memvisor-bench-test-{}", std::process::id())));
    for (signal, what) in [("TERM", "after SIGTERM"), ("KILL", "after SIGKILL and the next start")] {
        let mut bench = started_bench(out.path());
        until("the bench to switch its swap on", || Kernel::now().swaps != before.swaps);
        let id = bench.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().expect("kill runs").success());
        let status = bench.wait().expect("the bench can be waited for");
        assert!(!status.success());
        if signal == "KILL" {
            drop(Peer::new(Kind::Zram, 64 << 20, &scratch).expect("a zram device"));
        }
        assert_eq!(Kernel::now(), before, "{what}");
    }
}

fn a_peer_run_swaps(scratch: &Path) {
    let peer = Peer::new(Kind::Zram, 128 << 20, scratch).expect("a zram device");
    let launch = touch(&["random", "48", "--ops", "20000"]);
    let outcome = peer.run(&launch, 24 << 20, Tuning::FOLIO_16K).expect("touch runs");
    assert!(outcome.run.number("majflt").expect("touch says its faults") > 1000.0, "{:?}", outcome.run.said);
    let pool_mib = outcome.pool_bytes_max >> 20;
    assert!((8..24).contains(&pool_mib), "half-random pages take about half: {pool_mib} MiB");
    assert!(outcome.run.phase("touch").expect("a phase").cpu_seconds > 0.0);
}

fn started_bench(out: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_memvisor-bench"))
        .args(["run", "fault-random", "--quick", "--out"])
        .arg(out)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the bench starts")
}

#[test]
fn a_group_counts_the_time_of_its_whole_tree_and_of_nobody_else() {
    let group = match Group::new() {
        Ok(group) => group,
        Err(why) => return println!("CANNOT RUN: {why}"),
    };
    let burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    Launch::new(["sh", "-c", burn], &[0]).run(None).expect("the shell runs");
    assert!(group.cpu() < Duration::from_millis(5), "nobody was in the group");
    Launch::new(["sh", "-c", &format!("sh -c '{burn}'; true")], &[0]).run(Some(&group)).expect("the shell runs");
    assert!(group.cpu() > Duration::from_millis(20), "the child of a child was: {:?}", group.cpu());
    assert!(group.processes().is_empty());
}
