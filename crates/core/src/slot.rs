//! The place of a stored page: which store, and where in it, in 40 bits.
//!
//! ```text
//!   39 38 37                                            0
//!  ┌─────┬───────────────────────────────────────────────┐
//!  │ tag │ pattern (32 bits) · RAM offset / 8 · log page │
//!  └─────┴───────────────────────────────────────────────┘
//! ```

/// Bits in the packed form of a [`SlotRef`].
pub const SLOT_BITS: u32 = 40;
const BODY_BITS: u32 = 38;
const BODY_MASK: u64 = (1 << BODY_BITS) - 1;

/// Where the bytes of a stored page are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum SlotRef {
    /// Nowhere: the page has no stored copy.
    None,
    /// The page is this 32-bit pattern, repeated; it costs no slot. A zero page is `Filled(0)`.
    Filled(u32),
    /// In the compressed arena, at this offset in units of 8 bytes (below 2³⁸).
    Ram(u64),
    /// In the log, in this page of the file (below 2³⁸).
    Log(u64),
}

impl SlotRef {
    /// Packs the reference into its 40 bits.
    pub const fn pack(self) -> u64 {
        match self {
            SlotRef::None => 0,
            SlotRef::Filled(pattern) => 1 << BODY_BITS | pattern as u64,
            SlotRef::Ram(unit) => 2 << BODY_BITS | (unit & BODY_MASK),
            SlotRef::Log(page) => 3 << BODY_BITS | (page & BODY_MASK),
        }
    }

    /// The reference that `bits` (the low 40) packs. Every value is valid.
    pub const fn unpack(bits: u64) -> Self {
        let body = bits & BODY_MASK;
        match bits >> BODY_BITS & 3 {
            0 => SlotRef::None,
            1 => SlotRef::Filled(body as u32),
            2 => SlotRef::Ram(body),
            _ => SlotRef::Log(body),
        }
    }

    /// Whether there is a stored copy.
    pub const fn is_some(self) -> bool {
        !matches!(self, SlotRef::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_reference_survives_packing() {
        for slot in [
            SlotRef::None,
            SlotRef::Filled(0),
            SlotRef::Filled(u32::MAX),
            SlotRef::Ram(0),
            SlotRef::Ram(BODY_MASK),
            SlotRef::Log(7),
            SlotRef::Log(BODY_MASK),
        ] {
            assert_eq!(SlotRef::unpack(slot.pack()), slot);
            assert!(slot.pack() >> SLOT_BITS == 0);
        }
    }
}
