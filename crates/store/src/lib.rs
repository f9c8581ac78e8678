//! Where pages lie that are not in DRAM as they are: the compressed RAM store and the log on a file.
//!
//! ```text
//!  page ──▶ Tiers ──┬──▶ ram: lz4 in size-class slabs, in memory shared by all processes of the space
//!                   └──▶ log: raw pages in segments of a file
//! ```
//!
//! A stored page is named by a [`SlotRef`]. Slots are immutable and counted: who copies a slot retains it, who drops
//! one releases it, and the last release frees the place. The stores are views over shared words; they are used by
//! many processes at once and any of these may be killed at any instruction. So every change is one
//! compare-and-swap, nothing is locked, and a death can leak a place but never free one that is in use: what leaked
//! is found again by `rebuild`, from the page words. A page that is loaded is compared with the hash that was
//! taken when it was saved; it comes back true or not at all.

pub mod faulty;
pub mod log;
mod moves;
pub mod ram;
pub mod tiers;

pub use log::LogStore;
pub use memvisor_core::SlotRef;
pub use memvisor_sys::Errno;
pub use ram::RamStore;
pub use tiers::Tiers;

use memvisor_core::PAGE_BYTES;

/// The bytes of one page.
pub type PageBytes = [u8; PAGE_BYTES];

/// What became of a page that was to be saved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SaveOutcome {
    /// It lies in this slot, which is the caller's.
    Saved(SlotRef),
    /// The retained slot already holds these bytes; it stays the caller's.
    Unchanged,
    /// It does not compress well enough for this store.
    Incompressible,
    /// The store is at its limit.
    Full,
}

/// Why a page could not be loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// The bytes cannot be brought back true.
    Lost {
        /// The slot that was to be loaded.
        slot: SlotRef,
        /// The name of the store that should have it.
        store: &'static str,
        /// What is wrong.
        why: Why,
    },
    /// The store is occupied: try again.
    Busy,
}

/// What is wrong with a lost page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The bytes are not the ones that were saved.
    Checksum,
    /// The device failed.
    Io(Errno),
    /// The slot names no stored page.
    BadSlot,
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadError::Lost { slot, store, why } => {
                write!(f, "page lost: slot {slot:?} of store {store}: ")?;
                match why {
                    Why::Checksum => write!(f, "the bytes are not the ones that were saved"),
                    Why::Io(errno) => write!(f, "the device answered {errno:?}"),
                    Why::BadSlot => write!(f, "the slot names no stored page"),
                }
            }
            LoadError::Busy => write!(f, "the store is occupied"),
        }
    }
}

impl std::error::Error for LoadError {}

/// Why a slot could not be retained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetainError {
    /// The slot names no stored page.
    BadSlot,
    /// The slot has as many owners as can be counted; store the page again.
    Saturated,
}

impl std::fmt::Display for RetainError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RetainError::BadSlot => write!(f, "the slot names no stored page"),
            RetainError::Saturated => write!(f, "the slot has as many owners as can be counted"),
        }
    }
}

impl std::error::Error for RetainError {}

/// The hash by which a page is recognised and verified: 48 bits of xxh3-64 under the key of the space.
pub fn hash48(seed: u64, page: &PageBytes) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(page, seed) & HASH_MASK
}

const HASH_MASK: u64 = (1 << 48) - 1;

/// The pattern that fills the page, if it is one 32-bit word repeated.
pub fn fill_of(page: &PageBytes) -> Option<u32> {
    let (words, _) = page.as_chunks::<8>();
    let first = words[0];
    // The last word differs in most pages that begin like a pattern, so it spares most scans.
    if first[..4] != first[4..] || words[words.len() - 1] != first {
        return None;
    }
    let value = u64::from_ne_bytes(first);
    let differs = words.iter().fold(0, |sum, word| sum | (u64::from_ne_bytes(*word) ^ value));
    (differs == 0).then_some(value as u32)
}

/// Fills `out` with `pattern`.
pub fn fill(pattern: u32, out: &mut PageBytes) {
    for word in out.as_chunks_mut::<4>().0 {
        *word = pattern.to_ne_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_pattern_only_when_every_word_of_it_is() {
        let mut page = [0; PAGE_BYTES];
        fill(0x0102_0304, &mut page);
        assert_eq!(fill_of(&page), Some(0x0102_0304));
        for at in 0..PAGE_BYTES {
            page[at] ^= 0x40;
            assert_eq!(fill_of(&page), None, "byte {at}");
            page[at] ^= 0x40;
        }
    }
}
