//! What is mapped where: `/proc/PID/maps` and `/proc/PID/smaps_rollup`.

use crate::procfs::ProcPath;
use crate::{Result, errno};

/// One line of `/proc/PID/maps`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping<'a> {
    /// Its first address.
    pub start: usize,
    /// The address after its last.
    pub end: usize,
    /// It may be read.
    pub read: bool,
    /// It may be written.
    pub write: bool,
    /// It may be executed.
    pub exec: bool,
    /// Writes are seen by all who map it.
    pub shared: bool,
    /// The file's number on its device; 0 for anonymous memory.
    pub inode: u64,
    /// The file's path or a name such as `[heap]`; empty for anonymous memory. Cut off where the buffer was too small.
    pub path: &'a [u8],
}

impl Mapping<'_> {
    /// Bytes in it.
    pub fn len_bytes(&self) -> usize {
        self.end - self.start
    }
}

/// The least buffer for [`for_each_mapping`]: a line without its path.
pub const BUFFER_BYTES_MIN: usize = 256;

/// Calls `f` for each mapping of `pid` (`None`: of this process) in rising order. Does not allocate; `buffer` (at least
/// [`BUFFER_BYTES_MIN`], best some KiB) is where the text is read.
///
/// Lines are true singly; what is mapped while this reads may be told or not.
///
/// # Errors
/// `EINVAL` for a buffer that is too small or a line that is not understood.
pub fn for_each_mapping(pid: Option<u32>, buffer: &mut [u8], mut f: impl FnMut(Mapping<'_>)) -> Result<()> {
    if buffer.len() < BUFFER_BYTES_MIN {
        return Err(errno::EINVAL);
    }
    let file = ProcPath::of(pid).text("/maps").open()?;
    let mut filled = 0;
    let mut in_rest_of_cut_line = false;
    loop {
        let read = match file.read(&mut buffer[filled..]) {
            Err(errno::EINTR) => continue,
            read => read?,
        };
        filled += read;
        let mut taken = 0;
        while let Some(len) = buffer[taken..filled].iter().position(|byte| *byte == b'\n') {
            if !core::mem::take(&mut in_rest_of_cut_line) {
                f(parse_mapping(&buffer[taken..taken + len]).ok_or(errno::EINVAL)?);
            }
            taken += len + 1;
        }
        if taken == 0 && filled == buffer.len() {
            // A path longer than the buffer: tell what is there, skip the rest of the line.
            if !core::mem::replace(&mut in_rest_of_cut_line, true) {
                f(parse_mapping(&buffer[..filled]).ok_or(errno::EINVAL)?);
            }
            taken = filled;
        }
        buffer.copy_within(taken..filled, 0);
        filled -= taken;
        if read == 0 {
            return Ok(());
        }
    }
}

/// `start-end perms offset device inode   path`
fn parse_mapping(line: &[u8]) -> Option<Mapping<'_>> {
    let (range, rest) = split(line, b' ')?;
    let (start, end) = split(range, b'-')?;
    let (perms, rest) = split(rest, b' ')?;
    let &[read, write, exec, shared] = perms else { return None };
    let (_offset, rest) = split(rest, b' ')?;
    let (_device, rest) = split(rest, b' ')?;
    let (inode, path) = split(rest, b' ').unwrap_or((rest, b""));
    Some(Mapping {
        start: hexadecimal(start)?,
        end: hexadecimal(end)?,
        read: read == b'r',
        write: write == b'w',
        exec: exec == b'x',
        shared: shared == b's',
        inode: crate::procfs::decimal(inode)?,
        path: path.trim_ascii_start(),
    })
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let len = text.iter().position(|byte| *byte == at)?;
    Some((&text[..len], &text[len + 1..]))
}

fn hexadecimal(text: &[u8]) -> Option<usize> {
    usize::from_str_radix(core::str::from_utf8(text).ok()?, 16).ok()
}

/// The sums of `/proc/PID/smaps_rollup`, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rollup {
    /// Pages in the page table, whoever shares them.
    pub rss: u64,
    /// The same, each divided by the number of those who map it.
    pub pss: u64,
    /// Of `pss`, what was written to.
    pub pss_dirty: u64,
    /// Of `pss`, anonymous memory.
    pub pss_anon: u64,
    /// Of `pss`, files.
    pub pss_file: u64,
    /// Of `pss`, shared memory and memory files.
    pub pss_shmem: u64,
    /// Mapped by others too, unchanged since read from a file.
    pub shared_clean: u64,
    /// Mapped by others too, and changed.
    pub shared_dirty: u64,
    /// Mapped by nobody else, unchanged since read from a file.
    pub private_clean: u64,
    /// Mapped by nobody else, and changed.
    pub private_dirty: u64,
    /// Anonymous memory, whoever shares it.
    pub anonymous: u64,
    /// Of `anonymous`, in huge pages.
    pub anon_huge: u64,
    /// In the kernel's swap.
    pub swap: u64,
    /// In the kernel's swap, each page divided by the number of those who share it.
    pub swap_pss: u64,
    /// Locked in memory.
    pub locked: u64,
}

/// Reads the sums for `pid` (`None`: this process). Walks all its page tables: dear in a large process.
///
/// # Errors
/// `ENOENT` or `ESRCH` when the process is gone, `EACCES` when it is not ours to look at.
pub fn smaps_rollup(pid: Option<u32>) -> Result<Rollup> {
    /// The file has about 25 short lines.
    const FILE_BYTES_MAX: usize = 4096;
    let file = ProcPath::of(pid).text("/smaps_rollup").open()?;
    let mut text = [0; FILE_BYTES_MAX];
    let len = crate::procfs::read_up_to(&file, &mut text)?;
    Ok(parse_rollup(&text[..len]))
}

fn parse_rollup(text: &[u8]) -> Rollup {
    let mut rollup = Rollup::default();
    for line in text.split(|byte| *byte == b'\n') {
        let Some((name, rest)) = split(line, b':') else { continue };
        let field = match name {
            b"Rss" => &mut rollup.rss,
            b"Pss" => &mut rollup.pss,
            b"Pss_Dirty" => &mut rollup.pss_dirty,
            b"Pss_Anon" => &mut rollup.pss_anon,
            b"Pss_File" => &mut rollup.pss_file,
            b"Pss_Shmem" => &mut rollup.pss_shmem,
            b"Shared_Clean" => &mut rollup.shared_clean,
            b"Shared_Dirty" => &mut rollup.shared_dirty,
            b"Private_Clean" => &mut rollup.private_clean,
            b"Private_Dirty" => &mut rollup.private_dirty,
            b"Anonymous" => &mut rollup.anonymous,
            b"AnonHugePages" => &mut rollup.anon_huge,
            b"Swap" => &mut rollup.swap,
            b"SwapPss" => &mut rollup.swap_pss,
            b"Locked" => &mut rollup.locked,
            _ => continue,
        };
        *field = crate::procfs::decimal(rest).unwrap_or(0) * 1024;
    }
    rollup
}
