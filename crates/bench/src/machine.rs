//! The machine that a figure was measured on, and making its memory ready.

use memmap2::{Advice, MmapMut};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// Share of the available memory that [`warm`] touches at most.
const WARM_SHARE_MAX: u64 = 2;

/// CPUs that a run may use unless told otherwise: as many as the smallest machine that these benches were made for.
const CPUS_DEFAULT: usize = 2;

/// What is worth knowing about the machine beside a figure.
#[must_use]
pub fn facts(cpus: &[usize]) -> Value {
    let line = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let cpu_info = line("/proc/cpuinfo");
    let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    json!({
        "kernel": line("/proc/sys/kernel/osrelease"),
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "cpus_online": std::thread::available_parallelism().map_or(1, usize::from),
        "cpus_used": cpus,
        "virtual_machine": cpu_info.contains(" hypervisor"),
        "memory_bytes": memory_bytes("MemTotal"),
        "memory_available_bytes": memory_bytes("MemAvailable"),
        "transparent_huge_pages": line("/sys/kernel/mm/transparent_hugepage/enabled"),
        "page_cluster": line("/proc/sys/vm/page-cluster"),
        "swappiness": line("/proc/sys/vm/swappiness"),
        "load_average": line("/proc/loadavg"),
        "seconds_since_epoch": since_epoch.as_secs(),
        "revision": revision(),
    })
}

/// A field of `/proc/meminfo` in bytes; zero if there is none of that name.
#[must_use]
pub fn memory_bytes(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name == field).then(|| value.trim().trim_end_matches("kB").trim().parse::<u64>().ok())?
    });
    kib.unwrap_or(0) << 10
}

/// The first CPUs of this machine that this process may use.
#[must_use]
pub fn cpus() -> Vec<usize> {
    let allowed = rustix::thread::sched_getaffinity(None);
    let may = |cpu: usize| allowed.as_ref().map_or(true, |set| set.is_set(cpu));
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| may(cpu)).take(CPUS_DEFAULT).collect()
}

/// Touches `bytes` of memory once and gives it back, and says how long that took.
///
/// A virtual machine's host backs memory at its first touch, which costs many times what is measured here, and
/// takes it back when it is idle. Never touches more than half of what is available.
pub fn warm(bytes: u64) -> Duration {
    let start = Instant::now();
    let bytes = bytes.min(memory_bytes("MemAvailable") / WARM_SHARE_MAX);
    if let Ok(mut memory) = MmapMut::map_anon(bytes as usize) {
        // Huge pages make the kernel hand out large pieces, which covers more of what it will hand out later.
        let _ = memory.advise(Advice::HugePage);
        memory.iter_mut().step_by(crate::pages::PAGE).for_each(|byte| *byte = 1);
    }
    start.elapsed()
}

fn revision() -> String {
    let done = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    done.ok()
        .filter(|done| done.status.success())
        .map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory_and_a_kernel() {
        let facts = facts(&[0]);
        assert!(facts["memory_bytes"].as_u64() > Some(1 << 20));
        assert!(!facts["kernel"].as_str().unwrap_or_default().is_empty());
        assert_eq!(memory_bytes("NoSuchField"), 0);
        assert!(!cpus().is_empty());
    }
}
