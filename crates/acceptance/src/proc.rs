//! What /proc says of processes. A process that ends while it is read is simply not there.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// A process, told from a later one with the same number by its start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks after boot.
    pub started: u64,
}

/// A process and its parent.
#[derive(Clone, Copy, Debug)]
pub struct Kin {
    /// The process.
    pub process: Process,
    /// The number of its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Whether it has ended and waits to be waited for.
    pub zombie: bool,
}

/// Reads one process.
pub fn kin(pid: i32) -> Option<Kin> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in brackets and may hold anything, brackets and blanks included.
    let mut fields = text[text.rfind(')')? + 2..].split(' ');
    let zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let started = fields.nth(16)?.parse().ok()?;
    Some(Kin { process: Process { pid, started }, parent, group, zombie })
}

/// Whether all threads of a process are stopped, or it is gone.
pub fn is_stopped(pid: i32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.flatten().all(|task| {
        let text = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        text.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with(['T', 't', 'Z', 'X']))
    })
}

/// All processes there are.
pub fn everyone() -> Vec<Kin> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| kin(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// The processes of `everyone` that descend from `root`, which comes first.
pub fn tree(everyone: &[Kin], root: i32) -> Vec<Kin> {
    let mut children: HashMap<i32, Vec<Kin>> = HashMap::new();
    for kin in everyone {
        children.entry(kin.parent).or_default().push(*kin);
    }
    let mut found: Vec<Kin> = everyone.iter().filter(|kin| kin.process.pid == root).copied().collect();
    let mut at = 0;
    let mut parent = root;
    loop {
        found.extend(children.remove(&parent).unwrap_or_default());
        at += 1;
        match found.get(at) {
            Some(next) => parent = next.process.pid,
            None => return found,
        }
    }
}

/// A memory file whose name starts with `memvisor`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SpaceFile {
    /// Its inode, which tells it from the memory file of another space.
    pub inode: u64,
    /// Bytes of it that hold memory now.
    pub bytes: u64,
}

/// Whether `link`, as /proc shows it, is the memory file of a space.
fn is_space(link: &str) -> bool {
    link.strip_prefix("/memfd:").is_some_and(|name| name.starts_with("memvisor"))
}

/// The largest space file that `pid` has open or mapped.
pub fn space_file(pid: i32) -> Option<SpaceFile> {
    ["fd", "map_files"].iter().find_map(|place| {
        let entries = fs::read_dir(format!("/proc/{pid}/{place}")).ok()?;
        entries
            .flatten()
            .filter(|entry| fs::read_link(entry.path()).is_ok_and(|link| is_space(&link.to_string_lossy())))
            .filter_map(|entry| fs::metadata(entry.path()).ok())
            .max_by_key(|meta| meta.len())
            .map(|meta| SpaceFile { inode: meta.ino(), bytes: meta.blocks() * 512 })
    })
}

/// Whether `pid` maps or holds open the space file with `inode`.
pub fn holds_space(pid: i32, inode: u64) -> bool {
    maps_space(pid) == Some(inode) || space_file(pid).is_some_and(|file| file.inode == inode)
}

/// The inode of the space file that `pid` maps.
pub fn maps_space(pid: i32) -> Option<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let inode = fields.nth(4)?.parse().ok()?;
        is_space(fields.next()?).then_some(inode)
    })
}

/// Bytes of private anonymous memory of a process that it alone pays for: what it shares with others by fork counts by
/// its share.
pub fn anonymous_bytes(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines().find_map(|line| kilobytes(line, "Pss_Anon:"))
}

fn kilobytes(line: &str, name: &str) -> Option<u64> {
    Some(line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The smallest mapping that memvisor may take into its care before it is armed, by what it says of itself.
const MANAGED_BYTES_MIN: u64 = 1 << 20;

/// Anonymous memory of a process in mappings that are the pager's or managed by it, in bytes; what is shared by fork counts
/// by its share. The rest is unmanaged: stacks, data of libraries, small mappings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Anonymous {
    /// In mappings armed with a userfaultfd: the program's and the staging area.
    pub armed: u64,
    /// In mappings that will be managed and are not armed yet.
    pub plain: u64,
    /// In the pager's own mappings, by their flags.
    pub own: u64,
    /// In mappings that would be plain but for their mark `nh`: stacks of threads, and what a program wants no huge pages in.
    /// What such a program has counts as managed only when it is armed; who knows that it is no stack may add it.
    pub marked: u64,
}

impl Anonymous {
    /// What is charged.
    pub fn managed(self) -> u64 {
        self.armed + self.plain
    }
}

/// Walks the mappings of a process. Managed are those armed with a userfaultfd, whatever their name, and those that are
/// private, anonymous, writable, not the pager's and at least `MANAGED_BYTES_MIN` long, but for what is not armed and
/// marked `nh` (never huge): stacks of threads, which the C library maps so. The zeroed data of the program's file, which
/// the kernel maps right behind its other data, is the program's text and data, and not managed.
pub fn anonymous(pid: i32) -> Option<Anonymous> {
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(sum_mappings(&fs::read_to_string(format!("/proc/{pid}/smaps")).ok()?, &program.to_string_lossy()))
}

fn sum_mappings(smaps: &str, program: &str) -> Anonymous {
    let mut sum = Anonymous::default();
    let (mut large, mut pss, mut data_end) = (false, 0, None);
    for line in smaps.lines() {
        if let Some(found) = kilobytes(line, "Pss:") {
            pss = found;
        } else if let Some(flags) = line.strip_prefix("VmFlags:") {
            let has = |wanted: &str| flags.split(' ').any(|flag| flag == wanted);
            if has("um") || has("uw") {
                sum.armed += pss;
            } else if OWN_FLAGS.iter().all(|flag| has(flag)) {
                sum.own += pss;
            } else if large && has("nh") {
                sum.marked += pss;
            } else if large {
                sum.plain += pss;
            }
        } else if !line.as_bytes().first().is_some_and(u8::is_ascii_uppercase) {
            large = is_large_anonymous(line) && data_end != line.split('-').next();
            // Parts of the data may be read-only, at the start or where the program made them so.
            let is_data = line.ends_with(&format!(" {program}"));
            data_end = is_data.then(|| line.split(['-', ' ']).nth(1)).flatten();
        }
    }
    sum
}

/// How the pager marks its own mappings in a member: no reserve, never huge, read at random. No program gives all three to
/// its memory, and if one did, the memory would count as soon as it is armed.
const OWN_FLAGS: [&str; 3] = ["nr", "nh", "rr"];

/// Whether a headline of smaps, `start-end perms offset device inode name`, is of a mapping that will be managed.
fn is_large_anonymous(line: &str) -> bool {
    let mut fields = line.split_ascii_whitespace();
    let Some((start, end)) = fields.next().and_then(|range| range.split_once('-')) else { return false };
    let (Ok(start), Ok(end)) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16)) else { return false };
    let writable = fields.next().is_some_and(|perms| perms.starts_with("rw") && perms.ends_with('p'));
    let nameless = fields.nth(2) == Some("0") && fields.next().is_none_or(|name| name.starts_with("[anon"));
    end - start >= MANAGED_BYTES_MIN && writable && nameless
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_below_its_parent() {
        let me = std::process::id() as i32;
        let all = everyone();
        let mine = kin(me).unwrap();
        assert!(tree(&all, mine.parent).iter().any(|kin| kin.process == mine.process));
        assert_eq!(tree(&all, me)[0].process, mine.process);
    }

    #[test]
    fn the_pager_s_own_memory_is_known_by_its_flags_unless_it_is_armed() {
        let mapping = |kilobytes: u64, flags: &str| {
            format!("7f0000000000-7f0000200000 rw-p 00000000 00:00 0 \nPss: {kilobytes} kB\nVmFlags: rd wr {flags}\n")
        };
        let smaps =
            [mapping(1, "rr nr nh"), mapping(2, "um rr nr nh"), mapping(4, "nr"), mapping(8, "ac"), mapping(16, "nh")];
        assert_eq!(
            sum_mappings(&smaps.concat(), "/bin/x"),
            Anonymous { armed: 2 << 10, plain: 12 << 10, own: 1 << 10, marked: 16 << 10 }
        );
    }

    #[test]
    fn only_what_lies_right_behind_the_program_s_data_is_its_data() {
        let smaps = |start: &str, file: &str| {
            let data =
                format!("550000000000-550000001000 rw-p 00000000 fe:00 77    {file}\nPss: 1 kB\nVmFlags: rd wr\n");
            format!("{data}{start}-550010000000 rw-p 00000000 00:00 0 \nPss: 9 kB\nVmFlags: rd wr\n")
        };
        let plain = |start, file| sum_mappings(&smaps(start, file), "/bin/x").plain;
        assert_eq!(plain("550000001000", "/bin/x"), 0);
        assert_eq!(plain("550000001000", "/lib/x"), 9 << 10);
        assert_eq!(plain("550000002000", "/bin/x"), 9 << 10);
    }

    #[test]
    fn large_anonymous_memory_counts_as_managed_and_the_stack_does_not() {
        assert!(is_large_anonymous("7f0000000000-7f0000100000 rw-p 00000000 00:00 0 "));
        assert!(is_large_anonymous("7f0000000000-7f0000100000 rw-p 00000000 00:00 0    [anon:heap]"));
        assert!(!is_large_anonymous("7f0000000000-7f00000ff000 rw-p 00000000 00:00 0 "));
        assert!(!is_large_anonymous("7f0000000000-7f0000100000 r--p 00000000 00:00 0 "));
        assert!(!is_large_anonymous("7f0000000000-7f0000100000 rw-s 00000000 00:00 0 "));
        assert!(!is_large_anonymous("7f0000000000-7f0000100000 rw-p 00000000 00:00 0    [stack]"));
        assert!(!is_large_anonymous("7f0000000000-7f0000100000 rw-p 00000000 fe:00 77   /lib/x.so"));
    }
}
