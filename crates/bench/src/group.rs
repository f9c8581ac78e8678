//! Control groups of one run: how much CPU its whole tree used, and how much memory it may use.
//!
//! Version 1 of the control groups, in which a memory limit does not count what lies in swap; that is what makes
//! the kernel's pool of compressed pages visible apart from the limit. Needs root.

use crate::cleanup::Undo;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MEMORY: &str = "/sys/fs/cgroup/memory";
const CPU: &str = "/sys/fs/cgroup/cpuacct";
const PREFIX: &str = "memvisor-bench-";

/// How long an ended tree may take to leave its group: zombies are reaped by whoever inherited them.
const LEAVE_TIME: Duration = Duration::from_secs(5);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A memory group and a CPU accounting group of the same name, removed on drop with all processes in them.
pub struct Group {
    memory: PathBuf,
    cpu: PathBuf,
    _undo: Undo,
}

impl Group {
    /// Makes the pair.
    ///
    /// # Errors
    /// Says what is missing: privilege, or control groups of version 1.
    pub fn new() -> Result<Self, String> {
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let memory = Path::new(MEMORY).join(&name);
        let cpu = Path::new(CPU).join(&name);
        let undo = {
            let (memory, cpu) = (memory.clone(), cpu.clone());
            Undo::new(move || {
                remove(&memory);
                remove(&cpu);
            })
        };
        for path in [&memory, &cpu] {
            fs::create_dir(path).map_err(|error| {
                format!(
                    "cannot make the control group {}: {error}; this needs root and control groups of version 1",
                    path.display()
                )
            })?;
        }
        Ok(Self { memory, cpu, _undo: undo })
    }

    /// Limits resident memory (and file cache) of the group to `bytes`; `None` lifts the limit.
    ///
    /// # Errors
    /// When the kernel refuses, for instance a limit below what is in use and cannot be swapped.
    pub fn set_limit(&self, bytes: Option<u64>) -> Result<(), String> {
        let text = bytes.map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string());
        let path = self.memory.join("memory.limit_in_bytes");
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    /// Files into which a process writes its id to join.
    #[must_use]
    pub fn doors(&self) -> [PathBuf; 2] {
        [self.memory.join("cgroup.procs"), self.cpu.join("cgroup.procs")]
    }

    /// CPU time of all processes that were ever in the group, user and system.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(number(&self.cpu.join("cpuacct.usage")))
    }

    /// Most memory ever charged to the group at once, in bytes: resident, file cache, shared memory, kernel memory.
    #[must_use]
    pub fn memory_max_bytes(&self) -> u64 {
        number(&self.memory.join("memory.max_usage_in_bytes"))
    }

    /// Ids of the processes in the group now.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        processes(&self.cpu)
    }
}

/// Removes the groups of benches that no longer run, and says how many there were.
pub(crate) fn remove_leftovers() -> usize {
    let mut removed = 0;
    for root in [MEMORY, CPU] {
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
                continue;
            };
            let owner = rest.split('-').next().unwrap_or_default();
            if !Path::new("/proc").join(owner).exists() {
                remove(&entry.path());
                removed += 1;
            }
        }
    }
    removed
}

/// Kills what is left in the group and removes it.
fn remove(path: &Path) {
    let deadline = Instant::now() + LEAVE_TIME;
    while path.exists() && fs::remove_dir(path).is_err() && Instant::now() < deadline {
        for id in processes(path) {
            if let Some(process) = rustix::process::Pid::from_raw(id) {
                let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn processes(path: &Path) -> Vec<i32> {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn number(path: &Path) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
