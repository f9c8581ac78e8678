//! Which pages are there: `PAGEMAP_SCAN` (Linux 6.7) on `/proc/PID/pagemap`, or the file's entries one by one.
//!
//! Nothing here allocates. A page counts as present when something is in its page table entry: a frame, an entry of
//! the kernel's swap, or a marker (poison, write-protection of nothing).
//!
//! See `Documentation/admin-guide/mm/pagemap.rst` of the kernel.

use crate::call::{self, ioctl_number, number as nr};
use crate::file::Fd;
use crate::procfs::ProcPath;
use crate::{PAGE_BYTES, Result, errno, memory};

const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;

#[repr(C)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

const PAGEMAP_SCAN: usize = ioctl_number(3, size_of::<ScanArgument>(), b'f', 16);
const _: () = assert!(size_of::<ScanArgument>() == 96 && size_of::<Region>() == 24 && PAGEMAP_SCAN == 0xc060_6610);

/// Regions that one scan gives at most: 3 KiB of stack.
const REGIONS_MAX: usize = 128;
/// Entries that are read at once without the scan: 4 KiB of stack.
const ENTRIES_MAX: usize = 512;

/// An entry of the file.
#[derive(Clone, Copy)]
struct Entry(u64);

impl Entry {
    fn is_present(self) -> bool {
        self.0 >> 62 != 0
    }

    fn is_exclusive(self) -> bool {
        self.0 >> 63 & 1 != 0 && self.0 >> 56 & 1 != 0
    }

    /// The frame's number; 0 when the kernel hides it from us, or there is none.
    fn frame(self) -> u64 {
        if self.0 >> 63 & 1 != 0 { self.0 & ((1 << 55) - 1) } else { 0 }
    }
}

/// How runs are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Means {
    Scan,
    /// With the number of the kernel's zero page, 0 when it is hidden from us.
    Entries {
        zero_frame: u64,
    },
}

/// The page map of a process.
pub struct Pagemap {
    fd: Fd,
    means: Means,
}

impl Pagemap {
    /// Opens the page map of `pid` (`None`: of this process).
    ///
    /// # Errors
    /// `ENOENT` or `ESRCH` when the process is gone, `EACCES` when it is not ours to look at.
    pub fn open(pid: Option<u32>) -> Result<Pagemap> {
        let fd = ProcPath::of(pid).text("/pagemap").open()?;
        match scan(&fd, PAGE_BYTES, 2 * PAGE_BYTES, &mut [Region { start: 0, end: 0, categories: 0 }]) {
            Ok(_) => Ok(Pagemap { fd, means: Means::Scan }),
            Err(errno::ENOTTY | errno::EINVAL | errno::ENOSYS) => Ok(Pagemap { fd, means: entries() }),
            Err(errno) => Err(errno),
        }
    }

    /// The same, by entries even where the kernel has the scan.
    pub fn open_without_scan(pid: Option<u32>) -> Result<Pagemap> {
        let fd = ProcPath::of(pid).text("/pagemap").open()?;
        Ok(Pagemap { fd, means: entries() })
    }

    /// Whether runs are found by the scan.
    pub fn has_scan(&self) -> bool {
        self.means == Means::Scan
    }

    /// Calls `f(start, end, zero_page)` for each run of present pages in a range of whole pages, in rising order. Neighbouring
    /// runs may touch. `zero_page` says that all pages of the run are the kernel's zero page, and so cost nothing; some
    /// kernels do not know it of huge pages, and without the scan it takes privilege to know. A process that has ended
    /// has no pages. Hot.
    ///
    /// # Errors
    /// `EINVAL` when the range is not of whole pages.
    pub fn present_runs(&self, start: usize, end: usize, f: impl FnMut(usize, usize, bool)) -> Result<()> {
        if !start.is_multiple_of(PAGE_BYTES) || !end.is_multiple_of(PAGE_BYTES) || start > end {
            return Err(errno::EINVAL);
        }
        match self.means {
            Means::Scan => self.runs_by_scan(start, end, f),
            Means::Entries { zero_frame } => self.runs_by_entries(start, end, zero_frame, f),
        }
    }

    fn runs_by_scan(&self, start: usize, end: usize, mut f: impl FnMut(usize, usize, bool)) -> Result<()> {
        let mut regions = [Region { start: 0, end: 0, categories: 0 }; REGIONS_MAX];
        let mut at = start;
        while at < end {
            let (count, walked) = scan(&self.fd, at, end, &mut regions)?;
            for region in &regions[..count] {
                f(region.start as usize, region.end as usize, region.categories & PAGE_IS_PFNZERO != 0);
            }
            if walked <= at {
                return Err(errno::EIO);
            }
            at = walked;
        }
        Ok(())
    }

    fn runs_by_entries(
        &self,
        start: usize,
        end: usize,
        zero_frame: u64,
        mut f: impl FnMut(usize, usize, bool),
    ) -> Result<()> {
        let mut run: Option<(usize, usize, bool)> = None;
        let mut entries = [0u64; ENTRIES_MAX];
        let mut at = start;
        while at < end {
            let wanted = ((end - at) / PAGE_BYTES).min(ENTRIES_MAX);
            let read = self.read_entries(at, &mut entries[..wanted])?;
            if read == 0 {
                break;
            }
            for &entry in &entries[..read] {
                let entry = Entry(entry);
                let zero_page = zero_frame != 0 && entry.frame() == zero_frame;
                match &mut run {
                    Some((_, run_end, kind)) if entry.is_present() && *kind == zero_page => *run_end = at + PAGE_BYTES,
                    _ => {
                        if let Some((run_start, run_end, kind)) = run.take() {
                            f(run_start, run_end, kind);
                        }
                        run = entry.is_present().then_some((at, at + PAGE_BYTES, zero_page));
                    }
                }
                at += PAGE_BYTES;
            }
        }
        if let Some((run_start, run_end, kind)) = run {
            f(run_start, run_end, kind);
        }
        Ok(())
    }

    /// Whether the page at `addr` is there and mapped here alone: not shared with a forked relative. Hot.
    pub fn exclusively_mapped(&self, addr: usize) -> Result<bool> {
        self.entry(addr).map(Entry::is_exclusive)
    }

    /// Whether the page at `addr` is there. Hot.
    pub fn present(&self, addr: usize) -> Result<bool> {
        self.entry(addr).map(Entry::is_present)
    }

    fn entry(&self, addr: usize) -> Result<Entry> {
        let mut entry = [0];
        match self.read_entries(addr, &mut entry)? {
            0 => Err(errno::EFAULT),
            _ => Ok(Entry(entry[0])),
        }
    }

    /// Reads entries from that of the page at `addr`; gives how many, 0 beyond the end of the address space.
    fn read_entries(&self, addr: usize, out: &mut [u64]) -> Result<usize> {
        // SAFETY: any bytes are valid entries, and the slice covers `out` exactly.
        let bytes = unsafe { core::slice::from_raw_parts_mut(out.as_mut_ptr().cast::<u8>(), size_of_val(out)) };
        loop {
            match self.fd.pread(bytes, (addr / PAGE_BYTES * 8) as u64) {
                Ok(len) => return Ok(len / 8),
                Err(errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// One scan for present pages; gives how many regions it found and where it stopped.
fn scan(fd: &Fd, start: usize, end: usize, regions: &mut [Region]) -> Result<(usize, usize)> {
    let mut argument = ScanArgument {
        size: size_of::<ScanArgument>() as u64,
        flags: 0,
        start: start as u64,
        end: end as u64,
        walk_end: 0,
        regions: regions.as_mut_ptr() as u64,
        regions_len: regions.len() as u64,
        max_pages: 0,
        category_inverted: 0,
        category_mask: 0,
        category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        return_mask: PAGE_IS_PFNZERO,
    };
    // SAFETY: the kernel reads and writes the argument, and writes at most that many regions.
    let count = unsafe { call::syscall3(nr::__NR_ioctl, fd.raw() as usize, PAGEMAP_SCAN, &raw mut argument as usize) }?;
    Ok((count, argument.walk_end as usize))
}

fn entries() -> Means {
    Means::Entries { zero_frame: zero_frame().unwrap_or(0) }
}

/// The number of the kernel's zero page: that of a page of ours which was read and never written.
fn zero_frame() -> Result<u64> {
    let own = Pagemap { fd: ProcPath::of(None).text("/pagemap").open()?, means: Means::Entries { zero_frame: 0 } };
    let page = memory::Staging::new(1)?;
    // SAFETY: the page was mapped above and is ours.
    unsafe { page.frame(0).read_volatile() };
    own.entry(page.base()).map(Entry::frame)
}
