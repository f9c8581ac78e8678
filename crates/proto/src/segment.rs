//! The header page of a log segment: what its other pages are.
//!
//! ```text
//!  byte  0  magic     8  version (4), pages (4)    16  space id (16)
//!       32  sequence 40  segment                   48  crc64 of the page, this field taken as 0
//!       64  for each page: owner (8), hash (6)
//! ```
//! All numbers are little-endian. A segment is 256 pages of 4 KiB: this header, then the pages in the order of their
//! entries. The header is written after its pages, so a header that is whole speaks of pages that were written; if one
//! of them was torn, or the segment used again since, its hash tells.

/// Pages in a segment, the header too.
pub const SEGMENT_PAGES: usize = 256;
/// Pages in a segment that hold data.
pub const SEGMENT_DATA_PAGES: usize = SEGMENT_PAGES - 1;
/// Bytes in a segment.
pub const SEGMENT_BYTES: usize = SEGMENT_PAGES * 4096;
/// The first word of a header.
pub const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"mv-segmt");
/// Changes whenever a field changes its meaning.
pub const SEGMENT_VERSION: u32 = 1;

const ENTRIES: usize = 64;
const ENTRY_BYTES: usize = 14;
const CRC: usize = 48;
const _: () = assert!(ENTRIES + SEGMENT_DATA_PAGES * ENTRY_BYTES <= 4096);

/// Whose page it is, and the low 48 bits of its hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SegmentEntry {
    /// What the owner of the log calls the page.
    pub owner: u64,
    /// The low 48 bits of the page's hash.
    pub hash: u64,
}

/// What a header says of its segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// The space that the log belongs to: low half, high half.
    pub space_id: [u64; 2],
    /// Grows with every segment that is begun: of two pages of one owner the one in the higher sequence is newer.
    pub sequence: u64,
    /// The segment's place in the file.
    pub segment: u64,
    /// Its pages that hold data, 0..=[`SEGMENT_DATA_PAGES`].
    pub pages: usize,
}

/// Why a page is no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentError {
    /// It does not begin like one: the segment was never sealed.
    Magic,
    /// It is of a version that this code does not know.
    Version(u32),
    /// It was torn or overwritten.
    Crc,
    /// It says what cannot be.
    Field,
}

impl std::fmt::Display for SegmentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SegmentError::Magic => write!(f, "not the header of a segment"),
            SegmentError::Version(version) => write!(f, "a segment of version {version}, not {SEGMENT_VERSION}"),
            SegmentError::Crc => write!(f, "a torn header of a segment"),
            SegmentError::Field => write!(f, "a header of a segment that says what cannot be"),
        }
    }
}

impl std::error::Error for SegmentError {}

impl SegmentHeader {
    /// Writes the header of a segment with these `entries`, `self.pages` of them, as the page `out`.
    ///
    /// # Panics
    /// When there are fewer entries than pages, or more pages than a segment has.
    pub fn encode(&self, entries: &[SegmentEntry], out: &mut [u8; 4096]) {
        assert!(self.pages <= SEGMENT_DATA_PAGES, "{} pages in a segment", self.pages);
        out.fill(0);
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &SEGMENT_MAGIC.to_le_bytes());
        put(8, &SEGMENT_VERSION.to_le_bytes());
        put(12, &(self.pages as u32).to_le_bytes());
        put(16, &self.space_id[0].to_le_bytes());
        put(24, &self.space_id[1].to_le_bytes());
        put(32, &self.sequence.to_le_bytes());
        put(40, &self.segment.to_le_bytes());
        for (number, entry) in entries[..self.pages].iter().enumerate() {
            let at = ENTRIES + number * ENTRY_BYTES;
            put(at, &entry.owner.to_le_bytes());
            put(at + 8, &entry.hash.to_le_bytes()[..6]);
        }
        let crc = crc64(out);
        out[CRC..CRC + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header.
    ///
    /// # Errors
    /// See [`SegmentError`].
    pub fn decode(page: &[u8; 4096]) -> Result<Self, SegmentError> {
        if word(page, 0) != SEGMENT_MAGIC {
            return Err(SegmentError::Magic);
        }
        let (version, pages) = (word(page, 8) as u32, (word(page, 8) >> 32) as usize);
        if version != SEGMENT_VERSION {
            return Err(SegmentError::Version(version));
        }
        let mut without_crc = *page;
        without_crc[CRC..CRC + 8].fill(0);
        if crc64(&without_crc) != word(page, CRC) {
            return Err(SegmentError::Crc);
        }
        if pages > SEGMENT_DATA_PAGES {
            return Err(SegmentError::Field);
        }
        Ok(Self {
            space_id: [word(page, 16), word(page, 24)],
            sequence: word(page, 32),
            segment: word(page, 40),
            pages,
        })
    }

    /// The entry of data page `number` of a header page; `None` when there is no such page.
    pub fn entry(&self, page: &[u8; 4096], number: usize) -> Option<SegmentEntry> {
        if number >= self.pages {
            return None;
        }
        let at = ENTRIES + number * ENTRY_BYTES;
        Some(SegmentEntry { owner: word(page, at), hash: word(page, at + 6) >> 16 })
    }
}

/// The little-endian number at byte `at`, which lies at least 8 bytes before the end.
fn word(page: &[u8; 4096], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&page[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// The reflected polynomial of ECMA-182.
const POLYNOMIAL: u64 = 0xc96c_5795_d787_0f42;

const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut value, mut bit) = (byte as u64, 0);
        while bit < 8 {
            value = if value & 1 != 0 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

/// CRC-64/XZ. One header in a mebibyte is checked, so a table of bytes is fast enough.
fn crc64(bytes: &[u8]) -> u64 {
    !bytes.iter().fold(!0, |crc, byte| TABLE[(crc as u8 ^ byte) as usize] ^ crc >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (SegmentHeader, Vec<SegmentEntry>) {
        let header = SegmentHeader { space_id: [3, 5], sequence: 77, segment: 9, pages: SEGMENT_DATA_PAGES };
        let entries = (0..SEGMENT_DATA_PAGES as u64)
            .map(|n| SegmentEntry { owner: n * 0x0123_4567_89ab, hash: n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16 })
            .collect();
        (header, entries)
    }

    #[test]
    fn the_crc_is_that_of_the_catalogue() {
        assert_eq!(crc64(b"123456789"), 0x995d_c9bb_df19_39fa);
    }

    #[test]
    fn a_header_survives_encoding() {
        for pages in [0, 1, 100, SEGMENT_DATA_PAGES] {
            let (mut header, entries) = sample();
            header.pages = pages;
            let mut page = [0xff; 4096];
            header.encode(&entries, &mut page);
            assert_eq!(SegmentHeader::decode(&page), Ok(header));
            for number in 0..SEGMENT_PAGES {
                let expected = entries.get(number).filter(|_| number < pages).copied();
                assert_eq!(header.entry(&page, number), expected, "{number}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (header, entries) = sample();
        let mut page = [0; 4096];
        header.encode(&entries, &mut page);
        for bit in (0..4096).map(|byte| byte * 8 + byte % 8).chain(0..64 * 8) {
            page[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&page).is_err(), "bit {bit}");
            page[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn every_torn_header_is_found() {
        let (header, entries) = sample();
        let (mut old, mut new) = ([0; 4096], [0; 4096]);
        header.encode(&entries, &mut old);
        SegmentHeader { sequence: 78, ..header }.encode(&entries[..], &mut new);
        for at in 33..56 {
            let mut torn = new;
            torn[at..].copy_from_slice(&old[at..]);
            assert!(torn == old || torn == new || SegmentHeader::decode(&torn).is_err(), "torn at {at}");
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic() {
        let mut seed = 0x2545_f491_4f6c_dd1du64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let (header, entries) = sample();
        for round in 0..20_000 {
            let mut page = [0; 4096];
            header.encode(&entries, &mut page);
            for _ in 0..1 + next() % 8 {
                page[(next() % 64) as usize] = next() as u8;
            }
            if round % 2 == 0 {
                // With a right checksum, so that the fields are looked at.
                page[CRC..CRC + 8].fill(0);
                let crc = crc64(&page);
                page[CRC..CRC + 8].copy_from_slice(&crc.to_le_bytes());
            }
            if let Ok(header) = SegmentHeader::decode(&page) {
                for number in [0, header.pages.saturating_sub(1), header.pages, usize::MAX] {
                    assert_eq!(header.entry(&page, number).is_some(), number < header.pages);
                }
            }
        }
    }
}
