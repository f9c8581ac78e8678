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

use super::slab::{BITMAP_WORDS, Class, SLAB_BYTES, Slab, SlabWord};
use memvisor_sys::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// Slabs that one search looks at: half a microsecond, and enough for all of a store of 64 MiB. Larger ones are
/// searched in turns, each from where the last one ended.
const SEARCH_SLABS: usize = 512;
/// A slab is roomy when a sixteenth of it is free: it then pays the search that found it.
const ROOMY: usize = 16;
/// Slabs that one allocation tries: each lost one was taken by another process meanwhile.
const TRIES: usize = 8;
/// Rounds through a bitmap before an allocation looks elsewhere.
const ROUNDS: usize = 8;
/// Words of the store that are not of a slab: this module's own counters, then a hint for each class.
pub(super) const CONTROL_WORDS: usize = 512;
const TOP: usize = 0;
const FREE_HINT: usize = 1;
const EMPTIES: usize = 2;
const HINTS: usize = 64;

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
enum Take {
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
        let hint = self.hint(class);
        let at = hint.load(Ordering::Relaxed) as usize;
        if let Some(slab) = at.checked_sub(1)
            && let Take::Taken(object) = self.take(slab, class)
        {
            return Some(object);
        }
        let found = self
            .take_partial(class, at, |class, live, _| live + class.objects().div_ceil(ROOMY) <= class.objects())
            .or_else(|| self.claim_empty(class))
            .or_else(|| self.claim_free(class))
            .or_else(|| self.take_partial(class, at, |class, live, touched| {
                live < touched.count_ones() as usize * 4096 / class.object_bytes()
            }))?;
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

    /// Gives the memory of up to `max` empty slabs back by `punch`, which is told their numbers; how many it were.
    pub fn punch_empty(&self, max: usize, punch: impl Fn(usize) -> bool) -> usize {
        let mut punched = 0;
        for slab in 0..self.top() {
            if punched == max {
                break;
            }
            let word = self.word(slab);
            if let Some(Slab::InUse { class, live: 0, .. }) = word.slab() {
                let mine = word.become_slab(Slab::Punching(process::getpid()));
                if !self.swap(slab, word, mine) {
                    continue;
                }
                self.one_empty_less();
                if mine.touched() == 0 || punch(slab) {
                    self.punched(slab, mine);
                    punched += 1;
                } else {
                    self.slabs[slab].store(
                        word.become_slab(Slab::InUse { class, live: 0, closed: false }).0,
                        Ordering::Release,
                    );
                }
            }
        }
        punched
    }

    /// Takes back the slabs that processes died at claiming or punching; `is_alive` knows a process by its id.
    pub fn recover(&self, is_alive: impl Fn(u32) -> bool, punch: impl Fn(usize) -> bool) -> usize {
        let mut recovered = 0;
        for slab in 0..self.top() {
            let word = self.word(slab);
            let (Some(Slab::Claiming(pid)) | Some(Slab::Punching(pid))) = word.slab() else { continue };
            let mine = word.become_slab(Slab::Punching(process::getpid()));
            if !is_alive(pid) && self.swap(slab, word, mine) && punch(slab) {
                self.punched(slab, mine);
                recovered += 1;
            }
        }
        self.control[FREE_HINT].store(0, Ordering::Release);
        recovered
    }

    /// Forgets every hint and counter that a death may have left wrong, and counts the memory anew.
    pub fn recount(&self) {
        for word in &self.control[EMPTIES..] {
            word.store(0, Ordering::Release);
        }
        self.control[FREE_HINT].store(0, Ordering::Release);
        let (mut pages, mut empties) = (0, 0);
        for slab in 0..self.top() {
            let word = self.word(slab);
            pages += word.touched().count_ones() as u64;
            empties += matches!(word.slab(), Some(Slab::InUse { live: 0, .. })) as u64;
        }
        self.control[EMPTIES].store(empties, Ordering::Release);
        self.used_bytes.store(pages * 4096, Ordering::Release);
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

    fn hint(&self, class: Class) -> &'static AtomicU64 {
        &self.control[HINTS + class.index()]
    }

    /// Allocates in this slab.
    fn take(&self, slab: usize, class: Class) -> Take {
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
    fn settle(&self, slab: usize, class: Class) -> Take {
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

    fn uncharge(&self, bytes: u64) {
        if bytes != 0 {
            decrease(self.used_bytes, bytes);
        }
    }

    /// Leaves a slab that we were counted in.
    fn leave(&self, slab: usize) {
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

    /// Allocates in some slab of `class` that is already in use and `suits` (class, live, touched).
    fn take_partial(&self, class: Class, from: usize, suits: impl Fn(Class, usize, u32) -> bool) -> Option<Object> {
        let top = self.top();
        let mut tries = 0;
        for step in 0..top.min(SEARCH_SLABS) {
            let slab = (from % top + step) % top;
            let word = self.word(slab);
            let Some(Slab::InUse { class: of, live, closed: false }) = word.slab() else { continue };
            if of == class && suits(class, live, word.touched()) {
                if let Take::Taken(object) = self.take(slab, class) {
                    return Some(object);
                }
                tries += 1;
                if tries == TRIES {
                    break;
                }
            }
        }
        None
    }

    /// Cuts an empty slab of another class anew. Its memory is ours already.
    fn claim_empty(&self, class: Class) -> Option<Object> {
        if self.control[EMPTIES].load(Ordering::Acquire) == 0 {
            return None;
        }
        for slab in 0..self.top() {
            let word = self.word(slab);
            let Some(Slab::InUse { live: 0, .. }) = word.slab() else { continue };
            let mine = word.become_slab(Slab::Claiming(process::getpid()));
            if self.swap(slab, word, mine) {
                self.one_empty_less();
                self.for_touched_headers(slab, class, word.touched(), |header| header.store(0, Ordering::Release));
                let next = mine.next_turn(Slab::InUse { class, live: 1, closed: false });
                self.slabs[slab].store(next.0, Ordering::Release);
                return match self.settle(slab, class) {
                    Take::Taken(object) => Some(object),
                    Take::NoRoom | Take::AtLimit => None,
                };
            }
        }
        // The counter was wrong: a process died before it counted.
        self.control[EMPTIES].store(0, Ordering::Release);
        None
    }

    /// Takes a slab that is nobody's.
    fn claim_free(&self, class: Class) -> Option<Object> {
        if self.used_bytes.load(Ordering::Relaxed).saturating_add(4096) > self.limit_bytes.load(Ordering::Relaxed) {
            return None;
        }
        let hint = self.control[FREE_HINT].load(Ordering::Acquire);
        let end = self.slabs.len().min(self.top() + TRIES);
        for slab in hint as usize..end {
            let word = self.word(slab);
            if word.slab() != Some(Slab::Free) {
                continue;
            }
            let next = word.become_slab(Slab::InUse { class, live: 1, closed: false });
            if !self.swap(slab, word, next) {
                continue;
            }
            self.control[TOP].fetch_max(slab as u64 + 1, Ordering::AcqRel);
            // Not when a lower slab was freed meanwhile.
            let _ = self.control[FREE_HINT].compare_exchange(
                hint,
                slab as u64 + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            return match self.settle(slab, class) {
                Take::Taken(object) => Some(object),
                Take::NoRoom | Take::AtLimit => None,
            };
        }
        None
    }

    /// A slab that is `mine` to punch has no memory any more.
    fn punched(&self, slab: usize, mine: SlabWord) {
        self.uncharge(mine.touched().count_ones() as u64 * 4096);
        self.slabs[slab].store(mine.punched().0, Ordering::Release);
        self.control[FREE_HINT].fetch_min(slab as u64, Ordering::AcqRel);
    }

    fn one_empty_less(&self) {
        decrease(&self.control[EMPTIES], 1);
    }
}

/// Subtracts from a counter that a death may have left too low.
fn decrease(counter: &AtomicU64, by: u64) {
    let _ = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(now.saturating_sub(by)));
}
