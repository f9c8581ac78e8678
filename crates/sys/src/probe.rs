//! What this kernel and machine allow, found by trying.

use crate::call::{self, number as nr};
use crate::file::{self, Fd};
use crate::memory::{self, Staging};
use crate::pagemap::Pagemap;
use crate::shared::SharedFile;
use crate::uffd::{self, Uffd, Way};
use crate::{PAGE_BYTES, Result, process, procfs, thread, vdso};
use core::ffi::CStr;

/// Which features of userfaultfd the kernel has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// The bits as the kernel gives them (`uffd::FEATURE_…`).
    pub bits: u64,
    /// Write-protect faults.
    pub wp: bool,
    /// Write-protect faults that the kernel resolves itself.
    pub wp_async: bool,
    /// Write-protection of pages that are not there.
    pub wp_unpopulated: bool,
    /// Pages out and in without a copy.
    pub move_pages: bool,
    /// Pages that give SIGBUS.
    pub poison: bool,
    /// Messages of forks.
    pub event_fork: bool,
    /// Messages of remaps.
    pub event_remap: bool,
    /// Messages of given-up contents.
    pub event_remove: bool,
    /// Messages of unmaps.
    pub event_unmap: bool,
    /// Faults say which thread waits.
    pub thread_id: bool,
    /// Faults as SIGBUS instead of messages.
    pub sigbus: bool,
}

impl Features {
    /// Takes the kernel's bits apart.
    pub const fn from_bits(bits: u64) -> Features {
        Features {
            bits,
            wp: bits & uffd::FEATURE_PAGEFAULT_FLAG_WP != 0,
            wp_async: bits & uffd::FEATURE_WP_ASYNC != 0,
            wp_unpopulated: bits & uffd::FEATURE_WP_UNPOPULATED != 0,
            move_pages: bits & uffd::FEATURE_MOVE != 0,
            poison: bits & uffd::FEATURE_POISON != 0,
            event_fork: bits & uffd::FEATURE_EVENT_FORK != 0,
            event_remap: bits & uffd::FEATURE_EVENT_REMAP != 0,
            event_remove: bits & uffd::FEATURE_EVENT_REMOVE != 0,
            event_unmap: bits & uffd::FEATURE_EVENT_UNMAP != 0,
            thread_id: bits & uffd::FEATURE_THREAD_ID != 0,
            sigbus: bits & uffd::FEATURE_SIGBUS != 0,
        }
    }
}

/// When the kernel makes huge pages by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HugePages {
    /// Wherever it can.
    Always,
    /// Where the program asks for them.
    OnRequest,
    /// Nowhere.
    Never,
    /// The kernel is built without them, or does not say.
    Unknown,
}

/// What this kernel and machine allow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// The kernel's release, such as `6.18.0`.
    pub kernel_release: String,
    /// How a userfaultfd can be had; `None`: not at all.
    pub uffd: Option<Way>,
    /// Which features the kernel has. To be told of forks takes `CAP_SYS_PTRACE` too, see `event_fork_works`.
    pub features: Features,
    /// A page was really moved between two areas, and arrived whole.
    pub move_works: bool,
    /// A descriptor that also tells of forks was really opened: it takes privilege.
    pub event_fork_works: bool,
    /// Present pages were really found by `PAGEMAP_SCAN`.
    pub pagemap_scan_works: bool,
    /// The call that reads the memory of other processes is there and lets us read our own.
    pub process_vm_readv_works: bool,
    /// A ring of `io_uring` could be set up.
    pub io_uring_works: bool,
    /// A memory file could be made, sealed and mapped.
    pub memfd_works: bool,
    /// When the kernel makes huge pages by itself.
    pub huge_pages: HugePages,
    /// Bytes in the kernel's smallest page.
    pub page_bytes: usize,
    /// CPUs that this process may use.
    pub cpus: u32,
    /// Bytes of memory in the machine.
    pub memory_total_bytes: u64,
    /// `vm.overcommit_memory`: 0 by guess, 1 always, 2 never.
    pub overcommit_mode: Option<u32>,
    /// `vm.max_map_count`: how many mappings a process may have.
    pub max_map_count: Option<u64>,
    /// `vm.unprivileged_userfaultfd`.
    pub unprivileged_userfaultfd: Option<bool>,
}

impl Probe {
    /// Tries everything. Takes some milliseconds, changes nothing.
    pub fn run() -> Probe {
        let uffd = [Way::Device, Way::Privileged, Way::UserModeOnly].into_iter().find(|way| way_works(*way));
        let features = Features::from_bits(Uffd::available_features().unwrap_or(0));
        Probe {
            kernel_release: text_of(c"/proc/sys/kernel/osrelease").unwrap_or_default(),
            uffd,
            features,
            move_works: try_move().unwrap_or(false),
            event_fork_works: Uffd::open(uffd::FEATURE_EVENT_FORK).is_ok(),
            pagemap_scan_works: try_pagemap_scan().unwrap_or(false),
            process_vm_readv_works: try_process_vm_readv(),
            io_uring_works: try_io_uring(),
            memfd_works: try_memfd().is_ok(),
            huge_pages: huge_pages(),
            page_bytes: vdso::auxiliary(vdso::AT_PAGESZ).unwrap_or(PAGE_BYTES),
            cpus: thread::affinity(0).map_or(1, |cpus| cpus.count()),
            memory_total_bytes: memory_total_bytes().unwrap_or(0),
            overcommit_mode: number_of(c"/proc/sys/vm/overcommit_memory").map(|mode| mode as u32),
            max_map_count: number_of(c"/proc/sys/vm/max_map_count"),
            unprivileged_userfaultfd: number_of(c"/proc/sys/vm/unprivileged_userfaultfd").map(|set| set != 0),
        }
    }
}

fn way_works(way: Way) -> bool {
    Uffd::open_by(way).and_then(|uffd| uffd.handshake(0)).is_ok()
}

/// Moves a page out of one area into another and compares.
fn try_move() -> Result<bool> {
    let uffd = Uffd::open(uffd::FEATURE_MOVE)?;
    let (from, to) = (Staging::new(1)?, Staging::new(1)?);
    let mut written = [0; PAGE_BYTES];
    for (at, byte) in written.iter_mut().enumerate() {
        *byte = (at / 5) as u8;
    }
    from.write_frame(0, &written);
    uffd.register(to.base(), PAGE_BYTES, uffd::REGISTER_MISSING)?;
    uffd.move_pages(to.base(), from.base(), PAGE_BYTES, 0).map_err(|(_, errno)| errno)?;
    uffd.unregister(to.base(), PAGE_BYTES)?;
    Ok(*to.frame_bytes(0) == written && *from.frame_bytes(0) == [0; PAGE_BYTES])
}

/// Touches one page of three and asks which is there.
fn try_pagemap_scan() -> Result<bool> {
    let pagemap = Pagemap::open(None)?;
    let area = Staging::new(3)?;
    area.write_frame(1, &[1; PAGE_BYTES]);
    let mut runs = 0;
    let mut right = pagemap.has_scan();
    pagemap.present_runs(area.base(), area.base() + area.len_bytes(), |start, end, zero_page| {
        runs += 1;
        right &= start == area.address(1) && end == area.address(2) && !zero_page;
    })?;
    Ok(right && runs == 1)
}

/// Reads a word of our own through the call that reads others.
fn try_process_vm_readv() -> bool {
    let word = 0x6d65_6d76_6973_6f72_u64;
    let mut out = [0; 8];
    let read = process::read_from(process::getpid(), &[(&raw const word as usize, 8)], &mut out);
    read == Ok(8) && u64::from_ne_bytes(out) == word
}

fn try_io_uring() -> bool {
    /// The size of the kernel's `struct io_uring_params`.
    const PARAMETERS_BYTES: usize = 120;
    let mut parameters = [0u64; PARAMETERS_BYTES / 8];
    // SAFETY: the kernel reads and writes one structure of that size; a new descriptor is nobody else's.
    let made = unsafe { call::syscall2(nr::__NR_io_uring_setup, 1, parameters.as_mut_ptr() as usize) };
    made.map(|raw| drop(Fd::from_raw(raw as i32))).is_ok()
}

fn try_memfd() -> Result<()> {
    let file = SharedFile::create(c"memvisor-probe", PAGE_BYTES as u64)?;
    let (prot, flags) = (memory::PROT_READ | memory::PROT_WRITE, memory::MAP_SHARED);
    // SAFETY: without MAP_FIXED the kernel chooses a range that nobody has.
    let at = unsafe { memory::map(0, PAGE_BYTES, prot, flags, file.fd(), 0) }?;
    // SAFETY: the range was mapped above and nothing refers to it.
    unsafe { memory::unmap(at, PAGE_BYTES) }
}

fn huge_pages() -> HugePages {
    let text = text_of(c"/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    match text {
        text if text.contains("[always]") => HugePages::Always,
        text if text.contains("[madvise]") => HugePages::OnRequest,
        text if text.contains("[never]") => HugePages::Never,
        _ => HugePages::Unknown,
    }
}

fn memory_total_bytes() -> Option<u64> {
    let text = text_of(c"/proc/meminfo")?;
    let kib = text.lines().find_map(|line| procfs::decimal(line.strip_prefix("MemTotal:")?.as_bytes()))?;
    Some(kib * 1024)
}

fn number_of(path: &CStr) -> Option<u64> {
    procfs::decimal(text_of(path)?.as_bytes())
}

/// The beginning of a file, without the blanks around it.
fn text_of(path: &CStr) -> Option<String> {
    const TEXT_BYTES_MAX: usize = 4096;
    let file = file::open(path, file::O_RDONLY, 0).ok()?;
    let mut text = vec![0; TEXT_BYTES_MAX];
    let len = procfs::read_up_to(&file, &mut text).ok()?;
    Some(String::from_utf8_lossy(&text[..len]).trim().to_owned())
}
