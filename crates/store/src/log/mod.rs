//! The log: pages as they are, in segments of a file, each written once from its beginning to its end.
//!
//! ```text
//!  file:  ┌────────┬──────┬──────┬ … ┬────────┬──────┬ …
//!         │ header │ page │ page │   │ header │ page │
//!         └────────┴──────┴──────┴ … ┴────────┴──────┴ …
//!  slot:    (0)      1      2          (256)    257
//! ```
//! A slot is the number of a page of the file. Who owns it and what its hash is stands in words that all processes of the space
//! share (`table`); the header of a segment repeats the hashes and says whose pages they are, so that the log can
//! be read after everything else is gone (`scan`). A writer has a segment of its own and gives out slots when the
//! bytes are written. Pages that lose their last owner leave holes; sparse segments are cleaned by moving the rest
//! (`clean`), and empty ones are filled again or given back to the file system.
//!
//! Absent: fsync. The log of a space dies with the machine; what was torn is found by its hash.

mod clean;
mod reader;
mod ring;
mod scan;
mod table;
mod transfer;
mod writer;

pub use clean::Cleaned;
pub use reader::{LogReader, ReadDone};
pub use scan::{Indexed, ScanReport};
pub(crate) use transfer::{Holder, Transfer};
pub use writer::{AppendError, Appended, BATCH_PAGES, LogWriter};

use crate::faulty::{FaultPlan, Faults};
use crate::{Errno, HASH_MASK, LoadError, PageBytes, RetainError, SlotRef, Why, hash48};
use memvisor_core::PAGE_BYTES;
use memvisor_proto::segment::{SEGMENT_BYTES, SEGMENT_PAGES};
use memvisor_proto::{Header, Layout};
use memvisor_sys::file::{self, Fd};
use memvisor_sys::shared::SharedMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use table::{CONTROL_WORDS, OWNERS, Table};

/// Segments that only cleaning may take: it needs room to make room.
const RESERVE_SEGMENTS: usize = 2;

/// A view of the log of a space; every process that maps the space has its own. It and its file live as long as the
/// process. Fresh shared memory, all zeros, is an empty log.
#[derive(Clone, Copy)]
pub struct LogStore {
    table: Table,
    fd: &'static Fd,
    space_id: [u64; 2],
    hash_seed: u64,
    faults: Faults,
}

/// Where the words of a log lie in a space file.
#[derive(Clone, Copy, Debug)]
pub struct LogParts {
    /// Their byte offset.
    pub meta: usize,
    /// Bytes set aside for them.
    pub meta_bytes: usize,
}

impl LogParts {
    /// Where they lie in the file of a space.
    pub const SPACE: Self = Self { meta: Layout::LOG_META, meta_bytes: Layout::LOG_META_BYTES };

    /// Bytes that the words of a log of `segments` take.
    pub const fn bytes_for(segments: usize) -> usize {
        (CONTROL_WORDS + segments * (1 + SEGMENT_PAGES)) * 8
    }
}

impl LogStore {
    /// The name of this store in errors.
    pub const NAME: &'static str = "log";

    /// Makes a log of `capacity_bytes` (whole segments of it): in a file without a name when `path` is a directory,
    /// else in the file or block device `path`, whose contents are given up. Its size is written to `header`.
    ///
    /// # Errors
    /// What the file system says; `EINVAL` when the capacity is less than four segments, `E2BIG` when it is more than the
    /// words in `parts` can tell.
    pub fn create(
        path: &Path,
        capacity_bytes: u64,
        map: SharedMap,
        parts: LogParts,
        header: Header<'static>,
    ) -> Result<Self, Errno> {
        let segments = usize::try_from(capacity_bytes).map_err(|_| Errno::E2BIG)? / SEGMENT_BYTES;
        if segments < RESERVE_SEGMENTS + 2 {
            return Err(Errno::EINVAL);
        }
        if LogParts::bytes_for(segments) > parts.meta_bytes {
            return Err(Errno::E2BIG);
        }
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
        let (fd, _) = if path.is_dir() {
            file::open_unnamed(&name)?
        } else {
            file::open_direct(&name, file::O_RDWR | file::O_CREAT, 0o600)?
        };
        if fd.stat()?.is_file() {
            fd.truncate(0)?;
            fd.truncate((segments * SEGMENT_BYTES) as u64)?;
        }
        header.log_pages().store((segments * SEGMENT_PAGES) as u64, Ordering::Release);
        Self::attach(fd, map, parts, header)
    }

    /// The log whose file is `fd`, as `header` and the words in `parts` describe it. Other processes open the file of
    /// the creator by `/proc/PID/fd/N`, with direct I/O where that is possible ([`file::open_direct`]).
    ///
    /// # Errors
    /// `EINVAL` when the header says that there is no log, or one too large for its words.
    pub fn attach(fd: Fd, map: SharedMap, parts: LogParts, header: Header<'static>) -> Result<Self, Errno> {
        let pages = header.log_pages().load(Ordering::Acquire) as usize;
        let segments = pages / SEGMENT_PAGES;
        if segments == 0 || LogParts::bytes_for(segments) > parts.meta_bytes {
            return Err(Errno::EINVAL);
        }
        let segment_words = parts.meta + CONTROL_WORDS * 8;
        let table = Table {
            control: map.words(parts.meta, CONTROL_WORDS),
            segments: map.words(segment_words, segments),
            pages: map.words(segment_words + segments * 8, segments * SEGMENT_PAGES),
            used_pages: header.log_used_pages(),
        };
        Ok(LogStore {
            table,
            fd: Box::leak(Box::new(fd)),
            space_id: [header.id_low().load(Ordering::Acquire), header.id_high().load(Ordering::Acquire)],
            hash_seed: header.hash_seed().load(Ordering::Acquire),
            faults: Faults::of_run(header),
        })
    }

    /// The same log, which injects the faults of `plan` into what goes through this view.
    pub fn with_faults(self, plan: &'static FaultPlan) -> Self {
        Self { faults: self.faults.planned(plan), ..self }
    }

    /// The number of the descriptor of the file.
    pub fn fd(&self) -> i32 {
        self.fd.raw()
    }

    /// A writer with a segment of its own. It allocates; its use does not.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn writer(&self) -> Result<LogWriter, Errno> {
        LogWriter::new(*self, RESERVE_SEGMENTS)
    }

    /// A writer for cleaning, which may take the segments that others leave free for it.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn cleaner(&self) -> Result<LogWriter, Errno> {
        LogWriter::new(*self, 0)
    }

    /// A reader with `depth` requests of up to `run_pages` neighbours under way at a time. It allocates; its use does
    /// not.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` when one of the numbers is 0.
    pub fn reader(&self, depth: usize, run_pages: usize) -> Result<LogReader, Errno> {
        LogReader::new(*self, depth, run_pages)
    }

    /// Brings the page of `slot` back and waits for it.
    ///
    /// # Errors
    /// [`LoadError::Lost`] when it cannot be brought back true; `out` is then any bytes.
    pub fn load(&self, slot: SlotRef, out: &mut PageBytes) -> Result<(), LoadError> {
        /// Memory that direct I/O takes.
        #[repr(C, align(4096))]
        struct Aligned(PageBytes);

        let hash = self.stored_hash(slot).ok_or(self.lost(slot, Why::BadSlot))?;
        let SlotRef::Log(page) = slot else { return Err(self.lost(slot, Why::BadSlot)) };
        let fault = self.faults.on_load();
        if let Some(stall) = fault.stall {
            std::thread::sleep(stall);
        }
        if fault.error {
            return Err(self.lost(slot, Why::Io(Errno::EIO)));
        }
        let offset = page * PAGE_BYTES as u64;
        let read = if out.as_ptr().addr().is_multiple_of(PAGE_BYTES) {
            self.fd.pread_exact(out, offset)
        } else {
            let mut aligned = Aligned([0; PAGE_BYTES]);
            let read = self.fd.pread_exact(&mut aligned.0, offset);
            *out = aligned.0;
            read
        };
        read.map_err(|errno| self.lost(slot, Why::Io(errno)))?;
        fault.flip_in(out);
        if hash48(self.hash_seed, out) == hash { Ok(()) } else { Err(self.lost(slot, Why::Checksum)) }
    }

    /// Adds an owner to a slot that has one.
    ///
    /// # Errors
    /// See [`RetainError`].
    pub fn retain(&self, slot: SlotRef) -> Result<(), RetainError> {
        let word = self.word_of(slot).ok_or(RetainError::BadSlot)?;
        let retained = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| match now & OWNERS {
            0 | OWNERS => None,
            _ => Some(now + 1),
        });
        match retained {
            Ok(_) => Ok(()),
            Err(now) if now & OWNERS == 0 => Err(RetainError::BadSlot),
            Err(_) => Err(RetainError::Saturated),
        }
    }

    /// Takes an owner from a slot; the last one frees it. A slot that has no owner is left alone.
    pub fn release(&self, slot: SlotRef) {
        let (SlotRef::Log(page), Some(word)) = (slot, self.word_of(slot)) else { return };
        let before = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now & OWNERS != 0).then(|| now - 1));
        if before.is_ok_and(|before| before & OWNERS == 1) {
            self.table.leave(page as usize / SEGMENT_PAGES);
        }
    }

    /// The hash of the page in `slot`, if it has one.
    pub fn stored_hash(&self, slot: SlotRef) -> Option<u64> {
        let word = self.word_of(slot)?.load(Ordering::Acquire);
        (word & OWNERS != 0).then_some(word >> 16)
    }

    /// Owners of `slot`, 0 when it is free.
    pub fn owners(&self, slot: SlotRef) -> u16 {
        self.word_of(slot).map_or(0, |word| (word.load(Ordering::Acquire) & OWNERS) as u16)
    }

    /// Pages that have owners.
    pub fn pages_used(&self) -> u64 {
        self.table.used_pages.load(Ordering::Acquire)
    }

    /// Bytes of the segments that are not given back.
    pub fn bytes_used(&self) -> u64 {
        let used = (0..self.table.top()).filter(|segment| self.table.word(*segment).segment() != table::Segment::Free);
        used.count() as u64 * SEGMENT_BYTES as u64
    }

    /// Bytes of the log's own words that hold memory now.
    pub fn meta_bytes_used(&self) -> u64 {
        let pages = |bytes: usize| bytes.div_ceil(4096) as u64 * 4096;
        let top = self.table.top();
        pages((CONTROL_WORDS + top) * 8) + pages(top * SEGMENT_PAGES * 8)
    }

    /// Gives the blocks of up to `max` empty segments back to the file system; how many it were. Where the file system
    /// cannot, they stay the log's, and are filled again.
    pub fn punch_empty(&self, max: usize) -> usize {
        let mode = file::FALLOC_PUNCH_HOLE | file::FALLOC_KEEP_SIZE;
        self.table.punch_empty(max, |segment| {
            self.fd.fallocate(mode, (segment * SEGMENT_BYTES) as u64, SEGMENT_BYTES as u64).is_ok()
        })
    }

    /// Takes back the segments that dead processes were filling or punching; how many it were. `is_alive` knows a
    /// process by its id.
    pub fn recover(&self, is_alive: impl Fn(u32) -> bool) -> usize {
        self.table.recover(is_alive)
    }

    /// Makes the slots in `owners` – one for each owner, of every page word and every frame – the only ones that are
    /// stored; how many of them named no page. No other process may use the log meanwhile.
    pub fn rebuild(&self, owners: impl IntoIterator<Item = SlotRef>) -> usize {
        self.table.forget_owners();
        let mut bad = 0;
        for slot in owners {
            if let SlotRef::Log(page) = slot {
                bad += !self.table.own(page) as usize;
            }
        }
        bad
    }

    fn lost(&self, slot: SlotRef, why: Why) -> LoadError {
        LoadError::Lost { slot, store: Self::NAME, why }
    }

    fn word_of(&self, slot: SlotRef) -> Option<&'static std::sync::atomic::AtomicU64> {
        let SlotRef::Log(page) = slot else { return None };
        self.table.page(page)
    }

    /// Gives a written page its first owner.
    fn publish(&self, page: u64, hash: u64) {
        if let Some(word) = self.table.page(page) {
            word.store((hash & HASH_MASK) << 16 | 1, Ordering::Release);
        }
    }
}
