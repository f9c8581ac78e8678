//! Reading a log whose words are gone: what it holds is derived from the headers of its segments.

use super::LogStore;
use crate::{Errno, PageBytes, SlotRef, hash48};
use memvisor_core::PAGE_BYTES;
use memvisor_proto::SegmentHeader;
use memvisor_proto::segment::SEGMENT_PAGES;
use memvisor_sys::file::AlignedBuffer;

/// A page that a scan found: the newest of its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Indexed {
    /// What its owner calls it.
    pub owner: u64,
    /// The sequence of its segment.
    pub sequence: u64,
    /// Where it is, with one owner.
    pub slot: SlotRef,
    /// The low 48 bits of its hash.
    pub hash: u64,
}

/// What a scan found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScanReport {
    /// The newest page of each owner, by owner.
    pub pages: Vec<Indexed>,
    /// Owners whose newest page is not what its header says: torn, or overwritten by a segment that was never sealed.
    pub lost: Vec<u64>,
    /// Segments with a header of this space.
    pub segments: usize,
    /// Segments without one, or with a torn one: what was in them was never complete.
    pub ignored: usize,
}

impl LogStore {
    /// Reads every header and, of every owner, the newest page, and makes these pages the only stored ones, each with one
    /// owner. It allocates, and no other process may use the log meanwhile.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn rebuild_index(&self) -> Result<ScanReport, Errno> {
        let mut report = ScanReport::default();
        let mut found = Vec::new();
        let mut buffer = AlignedBuffer::new(PAGE_BYTES)?;
        for segment in 0..self.table.segments.len() {
            match self.header(segment, &mut buffer)? {
                None => report.ignored += 1,
                Some((header, page)) => {
                    report.segments += 1;
                    self.table.begin_after(header.sequence);
                    self.table.adopt(segment);
                    found.extend((0..header.pages).filter_map(|number| {
                        let entry = header.entry(page, number)?;
                        let slot = SlotRef::Log((segment * SEGMENT_PAGES + 1 + number) as u64);
                        Some(Indexed { owner: entry.owner, sequence: header.sequence, slot, hash: entry.hash })
                    }));
                }
            }
        }
        self.table.forget_owners();
        // Of one owner the newest comes last: of the highest sequence, and in that the highest slot.
        found.sort_unstable();
        for (at, page) in found.iter().enumerate() {
            if found.get(at + 1).is_none_or(|next| next.owner != page.owner) {
                self.index(*page, &mut buffer, &mut report)?;
            }
        }
        Ok(report)
    }

    /// The header of a segment and the page it is on, if it is one of this space and this place.
    fn header<'b>(
        &self,
        segment: usize,
        buffer: &'b mut AlignedBuffer,
    ) -> Result<Option<(SegmentHeader, &'b PageBytes)>, Errno> {
        self.fd.pread_exact(buffer, (segment * SEGMENT_PAGES * PAGE_BYTES) as u64)?;
        let page: Option<&'b PageBytes> = buffer.first_chunk();
        Ok(page.and_then(|page| {
            let header = SegmentHeader::decode(page).ok()?;
            (header.space_id == self.space_id && header.segment == segment as u64).then_some((header, page))
        }))
    }

    fn index(&self, found: Indexed, buffer: &mut AlignedBuffer, report: &mut ScanReport) -> Result<(), Errno> {
        let SlotRef::Log(page) = found.slot else { return Ok(()) };
        self.fd.pread_exact(buffer, page * PAGE_BYTES as u64)?;
        let is_true = buffer.first_chunk().is_some_and(|bytes| hash48(self.hash_seed, bytes) == found.hash);
        if is_true {
            self.table.enter(page as usize / SEGMENT_PAGES, 1);
            self.publish(page, found.hash);
            report.pages.push(found);
        } else {
            report.lost.push(found.owner);
        }
        Ok(())
    }
}
