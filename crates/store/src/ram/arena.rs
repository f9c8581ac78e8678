//! The arena: which objects of which slabs are allocated, by any process, without a lock.
//!
//! ```text
//!   slab:    Free ──claim──▶ InUse ◀──alloc, release──┐      Free ◀── Punching ◀── InUse, live 0
//!                              └──────────────────────┘     InUse ◀── Claiming ◀── InUse, live 0, another class
//!   object:  live + 1 ─▶ bit set ─▶ header written     …     header 0 owners ─▶ bit cleared ─▶ live − 1
//! ```
//! Live is raised before a bit is set and lowered after it is cleared, so it is never below the number of bits, and
//! who has raised it finds a clear bit. A process that dies between two steps leaves live too high: the slab is
//! never given back while something could be in it, and `rebuild` finds the difference.

use super::slab::{BITMAP_WORDS, CLASSES, Class, SLAB_BYTES, Slab, SlabWord};
use std::sync::atomic::{AtomicU64, Ordering};

/// Rounds through a bitmap before an allocation looks elsewhere.
const ROUNDS: usize = 8;
/// Words of the store that are not of a slab: this module's own counters, then a hint for each class.
pub(super) const CONTROL_WORDS: usize = 512;
pub(super) const TOP: usize = 0;
pub(super) const FREE_HINT: usize = 1;
pub(super) const EMPTIES: usize = 2;
const HINTS: usize = 64;
pub(super) const CURSORS: usize = 256;
const _: () = assert!(HINTS + CLASSES <= CURSORS && CURSORS + CLASSES <= CONTROL_WORDS);

/// An allocated object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Object {
    pub slab: usize,
    pub class: Class,
    pub number: usize,
}

impl Object {
    /// Where it begins, in units of 8 bytes from the beginning of the arena: what a slot holds.
    pub fn unit(self) -> usize {
        (self.slab * SLAB_BYTES + self.number * self.class.object_bytes()) / 8
    }
}

/// How an attempt to allocate in one slab ended.
pub(super) enum Take {
    Taken(Object),
    NoRoom,
    AtLimit,
}

/// A view of the words of the arena.
#[derive(Clone, Copy)]
pub(super) struct Arena {
    pub control: &'static [AtomicU64],
    pub slabs: &'static [AtomicU64],
    pub bitmaps: &'static [AtomicU64],
    /// The slabs themselves, in words.
    pub data: &'static [AtomicU64],
    pub limit_bytes: &'static AtomicU64,
    pub used_bytes: &'static AtomicU64,
}

impl Arena {
    /// Allocates an object of `class`; `None` when the limit or the end of the arena is reached. The words of its
    /// header say 0 owners.
    pub fn allocate(&self, class: Class) -> Option<Object> {
        let hint = &self.control[HINTS + class.index()];
        let last = hint.load(Ordering::Relaxed) as usize;
        if let Some(slab) = last.checked_sub(1)
            && let Take::Taken(object) = self.take(slab, class)
        {
            return Some(object);
        }
        let found = self.take_roomy(class).or_else(|| self.claim_empty(class)).or_else(|| self.claim_free(class));
        // The last resort of a store at its limit is any object that is free in memory it has.
        let found = found.or_else(|| {
            let has_room = |live, touched: u32| live < touched.count_ones() as usize * 4096 / class.object_bytes();
            self.take_partial(class, last, self.top(), has_room)
        })?;
        hint.store(found.slab as u64 + 1, Ordering::Relaxed);
        Some(found)
    }

    /// Frees an object whose last owner is gone.
    pub fn free(&self, object: Object) {
        let (word, bit) = self.bit(object);
        if word.fetch_and(!bit, Ordering::AcqRel) & bit != 0 {
            self.leave(object.slab);
        }
    }

    /// The object that begins at `unit`, if an allocated one does; with the word of its slab.
    pub fn locate(&self, unit: u64) -> Option<(Object, SlabWord)> {
        let (object, word) = self.locate_any(unit)?;
        let (bits, bit) = self.bit(object);
        (bits.load(Ordering::Acquire) & bit != 0).then_some((object, word))
    }

    /// The object that begins at `unit`, allocated or not.
    pub fn locate_any(&self, unit: u64) -> Option<(Object, SlabWord)> {
        let at = usize::try_from(unit).ok()?.checked_mul(8)?;
        let (slab, inside) = (at / SLAB_BYTES, at % SLAB_BYTES);
        let word = SlabWord(self.slabs.get(slab)?.load(Ordering::Acquire));
        let Some(Slab::InUse { class, .. }) = word.slab() else { return None };
        let number = inside / class.object_bytes();
        if number >= class.objects() || number * class.object_bytes() != inside {
            return None;
        }
        Some((Object { slab, class, number }, word))
    }

    /// The first word of an object.
    pub fn header(&self, object: Object) -> &'static AtomicU64 {
        &self.data[object.unit()]
    }

    /// What slab number `slab` is.
    pub fn word(&self, slab: usize) -> SlabWord {
        SlabWord(self.slabs[slab].load(Ordering::Acquire))
    }

    /// Slabs from 0 that were ever used.
    pub fn top(&self) -> usize {
        (self.control[TOP].load(Ordering::Acquire) as usize).min(self.slabs.len())
    }

    /// Puts `next` if the slab is still `seen`.
    pub fn swap(&self, slab: usize, seen: SlabWord, next: SlabWord) -> bool {
        self.slabs[slab].compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The words of the bitmap of a slab.
    pub fn bitmap(&self, slab: usize) -> &'static [AtomicU64] {
        &self.bitmaps[slab * BITMAP_WORDS..(slab + 1) * BITMAP_WORDS]
    }

    /// The word and the bit that say whether an object is allocated.
    pub fn bit(&self, object: Object) -> (&'static AtomicU64, u64) {
        (&self.bitmap(object.slab)[object.number / 64], 1 << (object.number % 64))
    }

    /// Calls `each` with every header of `class` that lies in memory of the slab. Elsewhere are zeros already, and even
    /// to read them would take memory.
    pub fn for_touched_headers(&self, slab: usize, class: Class, touched: u32, each: impl Fn(&AtomicU64)) {
        for number in 0..class.objects() {
            let object = Object { slab, class, number };
            if touched >> (object.unit() * 8 % SLAB_BYTES / 4096) & 1 != 0 {
                each(self.header(object));
            }
        }
    }

    /// Allocates in this slab.
    pub fn take(&self, slab: usize, class: Class) -> Take {
        let Some(cell) = self.slabs.get(slab) else { return Take::NoRoom };
        let mut seen = SlabWord(cell.load(Ordering::Acquire));
        loop {
            match seen.slab() {
                Some(Slab::InUse { class: of, live, closed: false }) if of == class && live < class.objects() => {
                    let next = seen.become_slab(Slab::InUse { class, live: live + 1, closed: false });
                    match cell.compare_exchange_weak(seen.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                        Ok(_) => {
                            if live == 0 {
                                self.one_empty_less();
                            }
                            return self.settle(slab, class);
                        }
                        Err(now) => seen = SlabWord(now),
                    }
                }
                _ => return Take::NoRoom,
            }
        }
    }

    /// Finds a clear bit in a slab whose live count already has us in it, and memory for the object.
    pub fn settle(&self, slab: usize, class: Class) -> Take {
        for _ in 0..ROUNDS {
            for (at, word) in self.bitmap(slab).iter().enumerate().take(class.objects().div_ceil(64)) {
                let mut clear = !word.load(Ordering::Acquire) & class.bits_of(at);
                while clear != 0 {
                    let bit = clear & clear.wrapping_neg();
                    let before = word.fetch_or(bit, Ordering::AcqRel);
                    if before & bit == 0 {
                        let object = Object { slab, class, number: at * 64 + bit.trailing_zeros() as usize };
                        if self.charge(object) {
                            return Take::Taken(object);
                        }
                        self.free(object);
                        return Take::AtLimit;
                    }
                    clear = !before & class.bits_of(at);
                }
            }
        }
        self.leave(slab);
        Take::NoRoom
    }

    /// Accounts the pages that the object is the first to touch; false when they do not fit under the limit.
    fn charge(&self, object: Object) -> bool {
        let cell = &self.slabs[object.slab];
        let pages = object.class.pages_of(object.number);
        let missing = pages & !SlabWord(cell.load(Ordering::Acquire)).touched();
        if missing == 0 {
            return true;
        }
        let bytes = missing.count_ones() as u64 * 4096;
        let before = self.used_bytes.fetch_add(bytes, Ordering::AcqRel);
        if before.saturating_add(bytes) > self.limit_bytes.load(Ordering::Relaxed) {
            self.uncharge(bytes);
            return false;
        }
        let was = SlabWord(cell.fetch_or(SlabWord::touch_bits(missing), Ordering::AcqRel)).touched();
        self.uncharge((was & missing).count_ones() as u64 * 4096);
        true
    }

    pub fn uncharge(&self, bytes: u64) {
        if bytes != 0 {
            decrease(self.used_bytes, bytes);
        }
    }

    /// Leaves a slab that we were counted in.
    pub fn leave(&self, slab: usize) {
        let cell = &self.slabs[slab];
        let mut seen = SlabWord(cell.load(Ordering::Acquire));
        loop {
            let Some(Slab::InUse { class, live: live @ 1.., closed }) = seen.slab() else { return };
            let next = seen.become_slab(Slab::InUse { class, live: live - 1, closed });
            match cell.compare_exchange_weak(seen.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    if live == 1 {
                        self.control[EMPTIES].fetch_add(1, Ordering::AcqRel);
                    }
                    return;
                }
                Err(now) => seen = SlabWord(now),
            }
        }
    }

    pub fn one_empty_less(&self) {
        decrease(&self.control[EMPTIES], 1);
    }
}

/// Subtracts from a counter that a death may have left too low.
fn decrease(counter: &AtomicU64, by: u64) {
    let _ = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(now.saturating_sub(by)));
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn arena(slabs: usize) -> Arena {
        let words = |count: usize| -> &'static [AtomicU64] {
            Box::leak((0..count).map(|_| AtomicU64::new(0)).collect::<Box<[_]>>())
        };
        let limits = words(2);
        limits[0].store(u64::MAX, Ordering::Relaxed);
        Arena {
            control: words(CONTROL_WORDS),
            slabs: words(slabs),
            bitmaps: words(slabs * BITMAP_WORDS),
            data: words(slabs * SLAB_BYTES / 8),
            limit_bytes: &limits[0],
            used_bytes: &limits[1],
        }
    }

    pub fn all_of(arena: &Arena, class: Class) -> Vec<Object> {
        std::iter::from_fn(|| arena.allocate(class)).collect()
    }

    #[test]
    fn an_allocated_object_says_that_it_has_no_owners_whatever_lay_there() {
        let arena = arena(2);
        for bytes in [100, 3000, 64, 700] {
            let class = Class::of(bytes).unwrap();
            let objects = all_of(&arena, class);
            assert_eq!(objects.len(), 2 * class.objects());
            for object in &objects {
                assert_eq!(arena.header(*object).load(Ordering::Relaxed), 0, "{object:?}");
                let bytes = object.unit()..object.unit() + class.object_bytes() / 8;
                arena.data[bytes].iter().for_each(|word| word.store(!0, Ordering::Relaxed));
            }
            objects.iter().for_each(|object| arena.free(*object));
        }
    }

    #[test]
    fn objects_never_overlap_and_a_free_one_is_found_while_there_is_one() {
        let arena = arena(3);
        let class = Class::of(1000).unwrap();
        let mut objects = all_of(&arena, class);
        objects.sort_by_key(|object| object.unit());
        assert!(objects.windows(2).all(|pair| pair[1].unit() - pair[0].unit() >= class.object_bytes() / 8));
        for object in objects {
            arena.free(object);
            assert_eq!(arena.allocate(class), Some(object));
        }
    }
}
