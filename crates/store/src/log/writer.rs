//! Writing: batches of pages go to the end of a segment that is the writer's own.

use super::LogStore;
use super::ring::Ring;
use crate::faulty::SaveFault;
use crate::{Errno, PageBytes, SaveOutcome, SlotRef, hash48};
use memvisor_core::PAGE_BYTES;
use memvisor_proto::segment::{SEGMENT_DATA_PAGES, SEGMENT_PAGES};
use memvisor_proto::{SegmentEntry, SegmentHeader};
use memvisor_sys::file::AlignedBuffer;

/// Pages of the largest batch: 256 KiB in one write, beyond which devices are hardly faster.
pub const BATCH_PAGES: usize = 64;

/// The slots of a batch, in the order of its pages.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    slots: [SlotRef; BATCH_PAGES],
    pages: usize,
}

impl std::ops::Deref for Appended {
    type Target = [SlotRef];

    fn deref(&self) -> &[SlotRef] {
        &self.slots[..self.pages]
    }
}

/// Why a batch was not written. None of its pages is stored then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendError {
    /// There is no free segment, or no space on the file system.
    Full,
    /// The device failed.
    Io(Errno),
    /// More pages than [`BATCH_PAGES`].
    TooMany,
}

impl std::fmt::Display for AppendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AppendError::Full => write!(f, "the log is full"),
            AppendError::Io(errno) => write!(f, "a write to the log failed: {errno:?}"),
            AppendError::TooMany => write!(f, "more than {BATCH_PAGES} pages in one batch"),
        }
    }
}

impl std::error::Error for AppendError {}

/// The segment that a writer fills.
struct Filling {
    segment: usize,
    sequence: u64,
    /// Data pages in it.
    pages: usize,
}

/// Writes pages to a log. One thread's; dropped, it seals its segment. Appending allocates nothing.
pub struct LogWriter {
    store: LogStore,
    ring: Option<Ring>,
    reserve: usize,
    /// The batch, and a header page behind it.
    buffer: AlignedBuffer,
    owners: [u64; BATCH_PAGES],
    filling: Option<Filling>,
    entries: [SegmentEntry; SEGMENT_DATA_PAGES],
}

impl LogWriter {
    pub(super) fn new(store: LogStore, reserve: usize) -> Result<Self, Errno> {
        Ok(LogWriter {
            store,
            ring: Ring::new(4),
            reserve,
            buffer: AlignedBuffer::new((BATCH_PAGES + 1) * PAGE_BYTES)?,
            owners: [0; BATCH_PAGES],
            filling: None,
            entries: [SegmentEntry::default(); SEGMENT_DATA_PAGES],
        })
    }

    /// The same writer without io_uring: as where the system permits none.
    pub fn without_ring(mut self) -> Self {
        self.ring = None;
        self
    }

    /// Writes pages, each with what its owner calls it; their slots, each with one owner, are given when the bytes are
    /// written.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn append(&mut self, pages: &[(u64, &PageBytes)]) -> Result<Appended, AppendError> {
        if pages.len() > BATCH_PAGES {
            return Err(AppendError::TooMany);
        }
        for (at, (owner, page)) in pages.iter().enumerate() {
            let Some((name, staged)) = self.stage(at) else { return Err(AppendError::TooMany) };
            *name = *owner;
            *staged = **page;
        }
        self.commit(pages.len())
    }

    /// Stores one page. `retained` is the slot that held its bytes when it was last filled, if it has one.
    pub fn save(&mut self, owner: u64, page: &PageBytes, retained: Option<SlotRef>) -> SaveOutcome {
        let hash = hash48(self.store.hash_seed, page);
        if retained.is_some_and(|slot| self.store.stored_hash(slot) == Some(hash)) {
            return SaveOutcome::Unchanged;
        }
        match self.append(&[(owner, page)]) {
            Ok(slots) => SaveOutcome::Saved(slots[0]),
            Err(AppendError::Full | AppendError::Io(_) | AppendError::TooMany) => SaveOutcome::Full,
        }
    }

    /// The log that it writes.
    pub(crate) fn store(&self) -> LogStore {
        self.store
    }

    /// Begins a new segment with the next batch; what is in the current one is readable by a scan.
    ///
    /// # Errors
    /// When its header cannot be written. The slots in it are good all the same.
    pub fn seal(&mut self) -> Result<(), AppendError> {
        let Some(filling) = self.filling.take() else { return Ok(()) };
        let header = SegmentHeader {
            space_id: self.store.space_id,
            sequence: filling.sequence,
            segment: filling.segment as u64,
            pages: filling.pages,
        };
        let at = BATCH_PAGES * PAGE_BYTES;
        if let Some(page) = self.buffer[at..].first_chunk_mut() {
            header.encode(&self.entries, page);
        }
        let written = self.write(at, PAGE_BYTES, (filling.segment * SEGMENT_PAGES) as u64);
        self.store.table.seal(filling.segment);
        written
    }

    /// The place of page `at` of the next batch and of what its owner calls it; `None` when the batch has none.
    pub(crate) fn stage(&mut self, at: usize) -> Option<(&mut u64, &mut PageBytes)> {
        let page = self.buffer[..BATCH_PAGES * PAGE_BYTES].as_chunks_mut().0.get_mut(at)?;
        Some((&mut self.owners[at], page))
    }

    /// Writes the first `pages` pages of the batch.
    pub(crate) fn commit(&mut self, pages: usize) -> Result<Appended, AppendError> {
        let mut done = Appended { slots: [SlotRef::None; BATCH_PAGES], pages: 0 };
        while done.pages < pages {
            if let Err(error) = self.commit_some(pages - done.pages, &mut done) {
                done.iter().for_each(|slot| self.store.release(*slot));
                return Err(error);
            }
        }
        Ok(done)
    }

    /// Writes what fits into the current segment, or into a new one, of `left` pages.
    fn commit_some(&mut self, left: usize, done: &mut Appended) -> Result<(), AppendError> {
        let (segment, filled) = match &self.filling {
            Some(filling) => (filling.segment, filling.pages),
            None => (self.begin()?, 0),
        };
        let pages = left.min(SEGMENT_DATA_PAGES - filled);
        let first = (segment * SEGMENT_PAGES + 1 + filled) as u64;
        if let Err(error) = self.write(done.pages * PAGE_BYTES, pages * PAGE_BYTES, first) {
            // What of the segment is written stays good; the rest may be bad, so it is not tried again.
            self.filling = None;
            self.store.table.seal(segment);
            return Err(error);
        }
        self.store.table.enter(segment, pages);
        for at in 0..pages {
            let staged = done.pages + at;
            let page: &PageBytes = &self.buffer.as_chunks().0[staged];
            let hash = hash48(self.store.hash_seed, page);
            self.entries[filled + at] = SegmentEntry { owner: self.owners[staged], hash };
            self.store.publish(first + at as u64, hash);
            done.slots[staged] = SlotRef::Log(first + at as u64);
        }
        done.pages += pages;
        if let Some(filling) = &mut self.filling {
            filling.pages += pages;
            if filling.pages == SEGMENT_DATA_PAGES {
                // Without a header the segment is not found by a scan; its slots are good.
                let _ = self.seal();
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<usize, AppendError> {
        let (segment, sequence) = self.store.table.claim(self.reserve).ok_or(AppendError::Full)?;
        self.filling = Some(Filling { segment, sequence, pages: 0 });
        Ok(segment)
    }

    /// Writes a piece of the buffer to the file, from page `page`.
    fn write(&mut self, from: usize, bytes: usize, page: u64) -> Result<(), AppendError> {
        let mut left = bytes;
        match self.store.faults.on_save() {
            None => {}
            Some(SaveFault::Full) => return Err(AppendError::Full),
            Some(SaveFault::Error) => return Err(AppendError::Io(Errno::EIO)),
            // Devices tear between sectors.
            Some(SaveFault::Torn(parts)) => left = (bytes * parts / 256) & !511,
        }
        let (mut from, mut offset) = (from, page * PAGE_BYTES as u64);
        while left > 0 {
            match self.write_some(from, left, offset) {
                Ok(0) => return Err(AppendError::Io(Errno::EIO)),
                Ok(written) => {
                    left = left.saturating_sub(written);
                    from += written;
                    offset += written as u64;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ENOSPC | Errno::EDQUOT) => return Err(AppendError::Full),
                Err(errno) => return Err(AppendError::Io(errno)),
            }
        }
        Ok(())
    }

    fn write_some(&mut self, from: usize, bytes: usize, offset: u64) -> Result<usize, Errno> {
        let piece = &self.buffer[from..from + bytes];
        if let Some(ring) = &mut self.ring {
            // SAFETY: the piece is borrowed for the call.
            match unsafe { ring.write(self.store.fd(), piece.as_ptr(), bytes as u32, offset) } {
                Some(result) => return result,
                None => self.ring = None,
            }
        }
        self.store.fd.pwrite(piece, offset)
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // The slots are good without the header.
        let _ = self.seal();
    }
}
