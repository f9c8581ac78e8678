//! The RAM store: compressed pages in slabs of memory that all processes of a space share.
//!
//! ```text
//!  object: ┌───────────────────────────┬────────┬──────────────────────────┬─────────┐
//!          │ hash (48) · owners (16)   │ length │ lz4 block                │ (slack) │
//!          └───────────────────────────┴────────┴──────────────────────────┴─────────┘
//!           8 bytes                     2 bytes  length bytes
//! ```
//! An object is written once, before its slot is known to anybody but its writer, and read-only until its last owner
//! releases it. Its header says 0 owners at all other times that the object is allocated. A page that is one 32-bit
//! pattern is no object at all: the slot holds the pattern.
//!
//! What is not here: who owns a slot (the page words say that), and when to compact or give memory back (the keeper
//! decides).

mod arena;
mod claim;
mod codec;
mod compact;
mod rebuild;
mod slab;

pub use codec::Scratch;
pub use compact::{Compacted, Victims};
pub use slab::{OBJECT_BYTES_MAX, SLAB_BYTES};

use crate::faulty::{FaultPlan, Faults, SaveFault};
use crate::{Errno, HASH_MASK, LoadError, PageBytes, RetainError, SaveOutcome, SlotRef, Why, fill, fill_of, hash48};
use arena::{Arena, CONTROL_WORDS, Object};
use memvisor_proto::{Header, Layout};
use memvisor_sys::shared::SharedMap;
use slab::{BITMAP_WORDS, Class};
use std::sync::atomic::Ordering;

/// Bytes before the lz4 block of an object.
const HEADER_BYTES: usize = 10;
/// The longest lz4 block that is stored.
const PACKED_BYTES_MAX: usize = OBJECT_BYTES_MAX - HEADER_BYTES;
/// The owners' part of an object's first word.
const OWNERS: u64 = 0xffff;

/// Where a RAM store lies in a space file.
#[derive(Clone, Copy, Debug)]
pub struct RamParts {
    /// Byte offset of its own words.
    pub meta: usize,
    /// Byte offset of its slabs.
    pub data: usize,
    /// Bytes of its slabs, a multiple of [`SLAB_BYTES`].
    pub data_bytes: usize,
}

impl RamParts {
    /// Where it lies in the file of a space.
    pub const SPACE: Self = Self { meta: Layout::RAM_META, data: Layout::RAM_DATA, data_bytes: Layout::RAM_DATA_BYTES };

    /// Bytes that its own words take.
    pub const fn meta_bytes(data_bytes: usize) -> usize {
        (CONTROL_WORDS + data_bytes / SLAB_BYTES * (1 + BITMAP_WORDS)) * 8
    }
}

const _: () = assert!(RamParts::meta_bytes(Layout::RAM_DATA_BYTES) <= Layout::RAM_META_BYTES);

/// A view of the RAM store of a space; every process that maps the space has its own. Fresh shared memory, all zeros,
/// is an empty store.
#[derive(Clone, Copy)]
pub struct RamStore {
    arena: Arena,
    map: SharedMap,
    parts: RamParts,
    hash_seed: u64,
    faults: Faults,
}

impl RamStore {
    /// The name of this store in errors.
    pub const NAME: &'static str = "ram";

    /// The store in `parts` of `map`; its limit, its account and the key of its hashes are in `header`.
    pub fn open(map: SharedMap, parts: RamParts, header: Header<'static>) -> Self {
        let slabs = parts.data_bytes / SLAB_BYTES;
        let (states, bitmaps) = (parts.meta + CONTROL_WORDS * 8, parts.meta + (CONTROL_WORDS + slabs) * 8);
        let arena = Arena {
            control: map.words(parts.meta, CONTROL_WORDS),
            slabs: map.words(states, slabs),
            bitmaps: map.words(bitmaps, slabs * BITMAP_WORDS),
            data: map.words(parts.data, parts.data_bytes / 8),
            limit_bytes: header.ram_limit_bytes(),
            used_bytes: header.ram_bytes(),
        };
        Self {
            arena,
            map,
            parts,
            hash_seed: header.hash_seed().load(Ordering::Acquire),
            faults: Faults::of_run(header),
        }
    }

    /// The same store, which injects the faults of `plan` into what goes through this view.
    pub fn with_faults(self, plan: &'static FaultPlan) -> Self {
        Self { faults: self.faults.planned(plan), ..self }
    }

    /// Stores a page. `retained` is the slot that held its bytes when it was last filled, if it has one.
    pub fn save(&self, scratch: &mut Scratch, page: &PageBytes, retained: Option<SlotRef>) -> SaveOutcome {
        if let Some(pattern) = fill_of(page) {
            let slot = SlotRef::Filled(pattern);
            return if retained == Some(slot) { SaveOutcome::Unchanged } else { SaveOutcome::Saved(slot) };
        }
        let hash = hash48(self.hash_seed, page);
        if retained.is_some_and(|slot| self.stored_hash(slot) == Some(hash)) {
            return SaveOutcome::Unchanged;
        }
        self.save_hashed(scratch, page, hash)
    }

    /// Stores a page that is no pattern and has this hash.
    pub fn save_hashed(&self, scratch: &mut Scratch, page: &PageBytes, hash: u64) -> SaveOutcome {
        match scratch.pack(page, PACKED_BYTES_MAX) {
            None => SaveOutcome::Incompressible,
            Some(packed) => match self.insert(packed, hash) {
                Some(slot) => SaveOutcome::Saved(slot),
                None => SaveOutcome::Full,
            },
        }
    }

    /// Brings the page of `slot` back.
    ///
    /// # Errors
    /// [`LoadError::Lost`] when it cannot be brought back true; `out` is then any bytes.
    pub fn load(&self, slot: SlotRef, out: &mut PageBytes) -> Result<(), LoadError> {
        let lost = |why| LoadError::Lost { slot, store: Self::NAME, why };
        let unit = match slot {
            SlotRef::Filled(pattern) => {
                fill(pattern, out);
                return Ok(());
            }
            SlotRef::Ram(unit) => unit,
            SlotRef::None | SlotRef::Log(_) => return Err(lost(Why::BadSlot)),
        };
        let (object, _) = self.arena.locate(unit).ok_or(lost(Why::BadSlot))?;
        let header = self.arena.header(object).load(Ordering::Acquire);
        if header & OWNERS == 0 {
            return Err(lost(Why::BadSlot));
        }
        let fault = self.faults.on_load();
        if fault.error {
            return Err(lost(Why::Io(Errno::EIO)));
        }
        let is_page = self.unpack(object, out);
        fault.flip_in(out);
        if !is_page || hash48(self.hash_seed, out) != header >> 16 {
            return Err(lost(Why::Checksum));
        }
        Ok(())
    }

    /// Adds an owner to a slot that has one.
    ///
    /// # Errors
    /// See [`RetainError`].
    pub fn retain(&self, slot: SlotRef) -> Result<(), RetainError> {
        let unit = match slot {
            SlotRef::Filled(_) | SlotRef::None => return Ok(()),
            SlotRef::Ram(unit) => unit,
            SlotRef::Log(_) => return Err(RetainError::BadSlot),
        };
        let (object, word) = self.arena.locate(unit).ok_or(RetainError::BadSlot)?;
        let header = self.arena.header(object);
        let mut seen = header.load(Ordering::Acquire);
        loop {
            // A caller that does not own the slot (compaction) may see it freed at any moment. What was read is a
            // header if the slab is still in the same turn, and its owners are then alive until the swap fails.
            if self.arena.word(object.slab).turn() != word.turn() || seen & OWNERS == 0 {
                return Err(RetainError::BadSlot);
            }
            if seen & OWNERS == OWNERS {
                return Err(RetainError::Saturated);
            }
            match header.compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
    }

    /// Takes an owner from a slot; the last one frees it. A slot that has no owner is left alone.
    pub fn release(&self, slot: SlotRef) {
        let SlotRef::Ram(unit) = slot else { return };
        let Some((object, _)) = self.arena.locate(unit) else { return };
        let header = self.arena.header(object);
        let before =
            header.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now & OWNERS != 0).then(|| now - 1));
        if before.is_ok_and(|before| before & OWNERS == 1) {
            self.arena.free(object);
        }
    }

    /// The hash of the page in `slot`, if it has one.
    pub fn stored_hash(&self, slot: SlotRef) -> Option<u64> {
        let header = self.header_of(slot)?;
        (header & OWNERS != 0).then_some(header >> 16)
    }

    /// Owners of `slot`, 0 when it is free.
    pub fn owners(&self, slot: SlotRef) -> u16 {
        self.header_of(slot).map_or(0, |header| (header & OWNERS) as u16)
    }

    pub(crate) fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    /// Bytes of memory that the slabs hold now.
    pub fn bytes_used(&self) -> u64 {
        self.arena.used_bytes.load(Ordering::Acquire)
    }

    /// Bytes of the store's own words that hold memory now, beside the slabs.
    pub fn meta_bytes_used(&self) -> u64 {
        let top = self.arena.top();
        if top == 0 {
            return 0;
        }
        let states_end = (CONTROL_WORDS + top) * 8;
        let bitmaps = (CONTROL_WORDS + self.arena.slabs.len()) * 8;
        let bitmaps_end = bitmaps + top * BITMAP_WORDS * 8;
        let pages = states_end.div_ceil(4096) + bitmaps_end.div_ceil(4096) - (bitmaps / 4096);
        let shared = (bitmaps / 4096 < states_end.div_ceil(4096)) as usize;
        (pages - shared) as u64 * 4096
    }

    /// Gives the memory of up to `max` empty slabs back to the system; how many it were. Releasing the last object of
    /// a slab does not do so by itself: it is a system call of tens of microseconds, and saving reuses empty slabs.
    pub fn punch_empty(&self, max: usize) -> usize {
        self.arena.punch_empty(max, |slab| self.punch(slab))
    }

    /// Takes back the slabs that dead processes held at the moment of their death; how many it were. `is_alive` knows
    /// a process by its id.
    pub fn recover(&self, is_alive: impl Fn(u32) -> bool) -> usize {
        self.arena.recover(is_alive, |slab| self.punch(slab))
    }

    fn header_of(&self, slot: SlotRef) -> Option<u64> {
        let SlotRef::Ram(unit) = slot else { return None };
        let (object, _) = self.arena.locate(unit)?;
        Some(self.arena.header(object).load(Ordering::Acquire))
    }

    fn punch(&self, slab: usize) -> bool {
        self.map.punch(self.parts.data + slab * SLAB_BYTES, SLAB_BYTES).is_ok()
    }

    /// The address of the length of an object; `bytes_of(object)` bytes from there are mapped.
    fn body(&self, object: Object) -> *mut u8 {
        let bytes = object.class.object_bytes() - 8;
        self.map.bytes_ptr(self.parts.data + object.unit() * 8 + 8, bytes)
    }

    /// Stores an lz4 block; `None` when there is no room.
    fn insert(&self, packed: &[u8], hash: u64) -> Option<SlotRef> {
        let mut written = packed.len();
        match self.faults.on_save() {
            None => {}
            Some(SaveFault::Full | SaveFault::Error) => return None,
            Some(SaveFault::Torn(parts)) => written = written * parts / 256,
        }
        let object = self.arena.allocate(Class::of(packed.len() + HEADER_BYTES)?)?;
        let body = self.body(object);
        // SAFETY: the object is ours alone until its slot is known, and is mapped and large enough for its class: the
        // class was chosen for this length.
        unsafe {
            body.cast::<[u8; 2]>().write((packed.len() as u16).to_le_bytes());
        }
        // SAFETY: as above; the block comes from private memory.
        unsafe {
            body.add(2).copy_from_nonoverlapping(packed.as_ptr(), written);
        }
        self.publish(object, hash)
    }

    /// Gives a written object its first owner.
    fn publish(&self, object: Object, hash: u64) -> Option<SlotRef> {
        self.arena.header(object).store((hash & HASH_MASK) << 16 | 1, Ordering::Release);
        Some(SlotRef::Ram(object.unit() as u64))
    }

    /// Decompresses an object; false when it is not a page.
    fn unpack(&self, object: Object, out: &mut PageBytes) -> bool {
        let body = self.body(object);
        // SAFETY: the object is mapped. Its owner keeps it from being written; if it is written in spite of that, the
        // length is any two bytes and checked below.
        let length = u16::from_le_bytes(unsafe { body.cast::<[u8; 2]>().read_volatile() }) as usize;
        // SAFETY: the length is checked to lie within the object, which is mapped.
        length <= object.class.object_bytes() - HEADER_BYTES && unsafe { codec::unpack(body.add(2), length, out) }
    }
}
