//! Slabs come and go: which slab a class takes objects from next, and how the memory of empty ones is given back.

use super::arena::{Arena, CURSORS, EMPTIES, FREE_HINT, Object, TOP, Take};
use super::slab::{Class, Slab, SlabWord};
use memvisor_sys::process;
use std::sync::atomic::Ordering;

/// Slabs that one search for a roomy one looks at: half a microsecond, and enough for all of a store of 64 MiB. Larger
/// ones are searched in turns, each from where the last one of the class ended.
const SEARCH_SLABS: usize = 512;
/// A slab is roomy when a sixteenth of it is free: it then pays the search that found it.
const ROOMY: usize = 16;
/// Slabs that one allocation tries: each lost one was taken by another process meanwhile.
const TRIES: usize = 8;

impl Arena {
    /// Allocates in a slab of `class` that has enough free to pay the search.
    pub fn take_roomy(&self, class: Class) -> Option<Object> {
        let roomy = class.objects() - class.objects().div_ceil(ROOMY);
        let from = self.control[CURSORS + class.index()].fetch_add(SEARCH_SLABS as u64, Ordering::Relaxed);
        self.take_partial(class, from as usize, SEARCH_SLABS, |live, _| live <= roomy)
    }

    /// Allocates in one of `count` slabs, beginning at `from`, that is of `class` and `suits` (live, touched).
    pub fn take_partial(
        &self,
        class: Class,
        from: usize,
        count: usize,
        suits: impl Fn(usize, u32) -> bool,
    ) -> Option<Object> {
        let top = self.top();
        let mut tries = 0;
        for step in 0..top.min(count) {
            let slab = (from % top + step) % top;
            let word = self.word(slab);
            let Some(Slab::InUse { class: of, live, closed: false }) = word.slab() else { continue };
            if of == class && suits(live, word.touched()) {
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
    pub fn claim_empty(&self, class: Class) -> Option<Object> {
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
    pub fn claim_free(&self, class: Class) -> Option<Object> {
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
            let _ =
                self.control[FREE_HINT].compare_exchange(hint, slab as u64 + 1, Ordering::AcqRel, Ordering::Acquire);
            return match self.settle(slab, class) {
                Take::Taken(object) => Some(object),
                Take::NoRoom | Take::AtLimit => None,
            };
        }
        None
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
                    self.slabs[slab]
                        .store(word.become_slab(Slab::InUse { class, live: 0, closed: false }).0, Ordering::Release);
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

    /// A slab that is `mine` to punch has no memory any more.
    fn punched(&self, slab: usize, mine: SlabWord) {
        self.uncharge(mine.touched().count_ones() as u64 * 4096);
        self.slabs[slab].store(mine.punched().0, Ordering::Release);
        self.control[FREE_HINT].fetch_min(slab as u64, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::super::arena::tests::{all_of, arena};
    use super::*;

    #[test]
    fn a_slab_changes_its_class_only_when_it_is_empty() {
        let arena = arena(1);
        let (large, small) = (Class::of(2000).unwrap(), Class::of(200).unwrap());
        let objects = all_of(&arena, large);
        for object in &objects[1..] {
            arena.free(*object);
        }
        assert_eq!(arena.allocate(small), None);
        assert_eq!(arena.punch_empty(1, |_| true), 0);
        arena.free(objects[0]);
        assert!(arena.allocate(small).is_some());
    }

    #[test]
    fn a_slab_whose_claimer_died_comes_back_and_one_whose_claimer_lives_does_not() {
        let arena = arena(1);
        let class = Class::of(2000).unwrap();
        let object = arena.allocate(class).unwrap();
        arena.free(object);
        let word = arena.word(0);
        for claimed in [Slab::Claiming(77), Slab::Punching(77)] {
            arena.slabs[0].store(word.become_slab(claimed).0, Ordering::Relaxed);
            assert_eq!(arena.recover(|pid| pid == 77, |_| true), 0);
            assert_eq!(arena.allocate(class), None);
            assert_eq!(arena.recover(|_| false, |_| true), 1);
            let object = arena.allocate(class).unwrap();
            arena.free(object);
        }
    }

    #[test]
    fn a_slab_that_cannot_be_punched_stays_in_use() {
        let arena = arena(1);
        let class = Class::of(2000).unwrap();
        let object = arena.allocate(class).unwrap();
        arena.free(object);
        assert_eq!(arena.punch_empty(9, |_| false), 0);
        assert_eq!(arena.used_bytes.load(Ordering::Relaxed), 4096);
        assert_eq!(arena.allocate(class), Some(object));
    }
}
