//! What the machine has: memory, kernel, processors.

use std::path::{Path, PathBuf};

/// Memory of the machine, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// All there is.
    pub total: u64,
    /// What programs can get now without anything being swapped, as far as the cgroup of this process allows.
    pub available: u64,
}

impl Memory {
    /// Reads it now.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn now() -> std::io::Result<Self> {
        let text = std::fs::read_to_string("/proc/meminfo")?;
        let field = |name| meminfo_bytes(&text, name).unwrap_or(0);
        let available = field("MemAvailable:");
        Ok(Self {
            total: field("MemTotal:"),
            available: cgroup_headroom().map_or(available, |room| room.min(available)),
        })
    }
}

/// The value of one line of meminfo (or of smaps), which is written in kilobytes.
pub fn meminfo_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// What the cgroups around this process still allow it to take; `None` without a limit.
fn cgroup_headroom() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().filter_map(headroom_of).min()
}

/// The headroom under one line of `/proc/self/cgroup`: `0::/path` (v2) or `7:memory:/path` (v1). Every group above
/// counts, up to the root.
fn headroom_of(line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (root, limit, usage) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
        "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        _ => return None,
    };
    let group = Path::new(root).join(path.trim_start_matches('/'));
    let number =
        |group: &Path, name| -> Option<u64> { std::fs::read_to_string(group.join(name)).ok()?.trim().parse().ok() };
    group
        .ancestors()
        .take_while(|group| group.starts_with(root))
        .filter_map(|group| Some(number(group, limit)?.saturating_sub(number(group, usage)?)))
        .min()
}

/// The release of the kernel, such as `6.8.0`.
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// A number that a file of the kernel holds.
pub fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The processes that `pid` has started and that have not been waited for.
pub fn children_of(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(PathBuf::from(format!("/proc/{pid}/task"))) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|text| text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory_and_a_kernel() {
        let memory = Memory::now().unwrap();
        assert!(memory.available > 0 && memory.available <= memory.total, "{memory:?}");
        assert!(kernel_release().contains('.'));
    }

    #[test]
    fn a_line_of_meminfo_is_found_by_its_whole_name() {
        let text = "MemTotal:  100 kB\nMemAvailable:   7 kB\n";
        assert_eq!(meminfo_bytes(text, "MemAvailable:"), Some(7 * 1024));
        assert_eq!(meminfo_bytes(text, "Swap:"), None);
    }

    #[test]
    fn a_child_is_found_among_the_children() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = children_of(std::process::id()).contains(&child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
    }
}
