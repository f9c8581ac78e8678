//! The RAM store under the suite, and what is its own: density, limits, compaction, several processes.

mod suite;

use memvisor_store::ram::{SLAB_BYTES, Scratch};
use memvisor_store::{LoadError, PageBytes, SaveOutcome, SlotRef, Why};
use std::sync::atomic::{AtomicU64, Ordering};
use suite::subjects::{Ram, ram};
use suite::{Model, Random, Subject, owners, seed};

#[test]
fn what_is_stored_comes_back_true() {
    suite::what_is_stored_comes_back_true(ram(64 << 20, u64::MAX), 3000, 60_000, 0);
}

#[test]
fn what_is_stored_comes_back_true_in_a_store_that_is_always_full() {
    suite::what_is_stored_comes_back_true(ram(64 << 20, 1 << 20), 2000, 60_000, 0);
}

fn half_random(random: &mut Random) -> PageBytes {
    let mut page = [0x20; 4096];
    page[..2048].iter_mut().for_each(|byte| *byte = random.next() as u8);
    page
}

fn saved(ram: &mut Ram, page: &PageBytes) -> SlotRef {
    match ram.save(page, None) {
        SaveOutcome::Saved(slot) => slot,
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn half_random_pages_take_less_than_zsmalloc_would_give_them() {
    let mut ram = ram(16 << 20, u64::MAX);
    let mut random = Random(seed());
    let slots: Vec<_> = (0..62 * 50).map(|_| saved(&mut ram, &half_random(&mut random))).collect();
    // zsmalloc puts 15 of them in 8 pages.
    let zsmalloc = slots.len() as u64 * 8 * 4096 / 15;
    let taken = ram.store.bytes_used() + ram.store.meta_bytes_used();
    assert!(taken < zsmalloc, "{taken} {zsmalloc}");
}

#[test]
fn the_account_is_what_the_memory_file_takes() {
    let mut ram = ram(16 << 20, u64::MAX);
    let mut random = Random(seed());
    let mut slots: Vec<_> = (0..3000).map(|_| saved(&mut ram, &half_random(&mut random))).collect();
    slots.retain(|slot| {
        let keeps = random.below(3) == 0;
        if !keeps {
            ram.store.release(*slot);
        }
        keeps
    });
    ram.store.punch_empty(usize::MAX);
    let header_page = 4096;
    let taken = ram.space.file.resident_bytes().unwrap();
    assert_eq!(ram.store.bytes_used() + ram.store.meta_bytes_used() + header_page, taken);
}

#[test]
fn a_store_at_its_limit_says_so_and_never_passes_it() {
    let limit = 3 * SLAB_BYTES as u64 + 4096 * 5;
    let mut ram = ram(16 << 20, limit);
    let mut random = Random(seed());
    let mut slots = Vec::new();
    loop {
        match ram.save(&half_random(&mut random), None) {
            SaveOutcome::Saved(slot) => slots.push(slot),
            SaveOutcome::Full => break,
            outcome => panic!("{outcome:?}"),
        }
        assert!(ram.store.bytes_used() <= limit);
    }
    assert!(slots.len() >= 3 * 62 + 9, "{}", slots.len());
    // One that goes makes room for one that comes.
    ram.store.release(slots.pop().unwrap());
    saved(&mut ram, &half_random(&mut random));
    // So does a whole slab for pages of another size, without any memory given back between.
    slots.drain(..).for_each(|slot| ram.store.release(slot));
    let used = ram.store.bytes_used();
    let mut page = half_random(&mut random);
    page[512..].fill(7);
    saved(&mut ram, &page);
    assert_eq!(ram.store.bytes_used(), used);
}

#[test]
fn compaction_gives_the_memory_of_sparse_slabs_back() {
    let mut ram = ram(64 << 20, u64::MAX);
    let mut random = Random(seed());
    let mut model = Model::new(62 * 64, 1);
    let pages: Vec<_> = model.words.iter().map(|_| half_random(&mut random)).collect();
    let slots: Vec<_> = pages.iter().map(|page| saved(&mut ram, page)).collect();
    for (at, (page, slot)) in pages.into_iter().zip(slots).enumerate() {
        if random.below(4) != 0 {
            ram.store.release(slot);
            continue;
        }
        let word = memvisor_core::PageWord::new(memvisor_core::Page::Stored(slot), 0, 0);
        model.words[at].store(word.0, Ordering::Relaxed);
        model.truth[at] = Some(page);
    }
    let before = ram.store.bytes_used();
    assert_eq!(before, 64 * SLAB_BYTES as u64);
    let victims = ram.store.pick_victims(usize::MAX);
    let done = ram.store.compact(&model.words);
    assert_eq!(done.objects, victims.objects);
    ram.store.open_closed();
    ram.store.punch_empty(usize::MAX);
    let after = ram.store.bytes_used();
    let live = model.truth.iter().flatten().count() as u64;
    assert!(after <= (live.div_ceil(62) + 1) * SLAB_BYTES as u64, "{before} {after}");
    model.check_all(&mut ram);
}

#[test]
fn a_slab_that_is_being_emptied_takes_nothing_new() {
    let mut ram = ram(16 << 20, u64::MAX);
    let mut random = Random(seed());
    let slots: Vec<_> = (0..62 * 2).map(|_| saved(&mut ram, &half_random(&mut random))).collect();
    // The second slab is the one that new pages go to, and the sparser one.
    slots[50..62].iter().chain(&slots[64..]).for_each(|slot| ram.store.release(*slot));
    assert_eq!(ram.store.pick_victims(usize::MAX).objects, 2);
    for _ in 0..40 {
        let SlotRef::Ram(unit) = saved(&mut ram, &half_random(&mut random)) else { panic!() };
        assert_ne!(unit as usize * 8 / SLAB_BYTES, 1);
    }
    ram.store.open_closed();
    for _ in 0..62 {
        saved(&mut ram, &half_random(&mut random));
    }
    assert_eq!(ram.store.bytes_used(), 3 * SLAB_BYTES as u64);
}

#[test]
fn no_two_threads_get_the_same_bytes_while_slabs_change_their_class() {
    let ram = ram(3 * SLAB_BYTES, u64::MAX);
    let (store, seed) = (ram.store, seed());
    std::thread::scope(|scope| {
        for thread in 1..5 {
            scope.spawn(move || {
                let mut random = Random(seed ^ thread << 32 | 1);
                let mut scratch = Box::new(Scratch::new());
                let mut page = [thread as u8; 4096];
                let mut held: Vec<(SlotRef, PageBytes)> = Vec::new();
                for _ in 0..30_000 {
                    let noise = [16, 400, 1000, 2500][random.below(4)];
                    page[..noise].iter_mut().for_each(|byte| *byte = random.next() as u8);
                    if let SaveOutcome::Saved(slot) = store.save(&mut scratch, &page, None) {
                        held.push((slot, page));
                    }
                    if random.below(64) == 0 {
                        store.punch_empty(1);
                    }
                    while held.len() > random.below(3) {
                        let (slot, page) = held.swap_remove(random.below(held.len()));
                        let mut out = [0; 4096];
                        store.load(slot, &mut out).unwrap_or_else(|error| panic!("{error}"));
                        assert!(out == page, "another thread wrote here");
                        store.release(slot);
                    }
                }
                held.iter().for_each(|(slot, _)| store.release(*slot));
            });
        }
    });
    store.punch_empty(usize::MAX);
    assert_eq!(store.bytes_used(), 0);
    assert_eq!(ram.space.file.resident_bytes().unwrap(), 4096 + store.meta_bytes_used());
}

#[test]
fn a_shared_object_is_moved_once() {
    let mut ram = ram(16 << 20, u64::MAX);
    let mut random = Random(seed());
    let slots: Vec<_> = (0..62 * 3).map(|_| saved(&mut ram, &half_random(&mut random))).collect();
    // Of each slab three stay, each with four owners.
    let (kept, gone): (Vec<_>, Vec<_>) = slots.iter().enumerate().partition(|(at, _)| at % 62 < 3);
    gone.iter().for_each(|(_, slot)| ram.store.release(**slot));
    let words: Vec<_> = (0..kept.len() * 4)
        .map(|at| {
            let slot = *kept[at % kept.len()].1;
            if at >= kept.len() {
                ram.store.retain(slot).unwrap();
            }
            AtomicU64::new(memvisor_core::PageWord::new(memvisor_core::Page::Stored(slot), 0, 0).0)
        })
        .collect();
    assert_eq!(ram.store.pick_victims(usize::MAX).slabs, 2);
    let done = ram.store.compact(&words);
    assert_eq!((done.objects, done.words), (6, 24));
    assert!(owners(&words).all(|slot| ram.store.owners(slot) == 4));
    assert_eq!(ram.store.punch_empty(usize::MAX), 2);
}

#[test]
fn a_flipped_bit_is_found() {
    let mut ram = ram(1 << 20, u64::MAX);
    let mut random = Random(seed());
    let page = half_random(&mut random);
    let slot = saved(&mut ram, &page);
    let data = ram.space.map.words(ram.space.parts.data, 2100 / 8);
    for _ in 0..2000 {
        let (at, bit) = (random.below(2070 / 8), 1 << random.below(64));
        data[at].fetch_xor(bit, Ordering::Relaxed);
        let mut out = [0; 4096];
        match ram.load(slot, &mut out) {
            Err(LoadError::Lost { why: Why::Checksum | Why::BadSlot, store: "ram", .. }) => {}
            // The bit was of the count of owners, or of what lz4 reads but does not use.
            Ok(()) => assert!(out == page, "a flipped bit was not found"),
            Err(error) => panic!("{error}"),
        }
        data[at].fetch_xor(bit, Ordering::Relaxed);
    }
    let mut out = [0; 4096];
    assert_eq!(ram.load(slot, &mut out), Ok(()));
}

#[test]
fn no_slot_and_no_word_of_the_store_makes_it_panic() {
    let mut ram = ram(2 << 20, u64::MAX);
    let mut random = Random(seed());
    let slots: Vec<_> = (0..200).map(|_| saved(&mut ram, &half_random(&mut random))).collect();
    let all = ram.space.map.words(4096, (ram.space.map.len() - 4096) / 8);
    let mut out = [0; 4096];
    for round in 0..20_000 {
        let wild = SlotRef::unpack(random.next() & ((1 << 40) - 1));
        let near = SlotRef::Ram(random.below((2 << 20) / 8 + 100) as u64);
        for slot in [wild, near, slots[random.below(slots.len())]] {
            let _ = ram.load(slot, &mut out);
            let _ = ram.retain(slot);
            ram.release(slot);
            ram.store.stored_hash(slot);
        }
        if round % 4 == 0 {
            all[random.below(all.len().min(4096))].store(random.next(), Ordering::Relaxed);
            let _ = ram.save(&half_random(&mut random), None);
        }
        if round % 512 == 0 {
            ram.store.pick_victims(8);
            ram.store.open_closed();
            ram.store.punch_empty(8);
            ram.store.rebuild([near, wild]);
        }
    }
}

#[test]
fn what_a_dead_process_had_in_its_hands_is_free_after_a_rebuild() {
    let mut ram = ram(16 << 20, u64::MAX);
    let mut random = Random(seed());
    let mut model = Model::new(500, seed());
    model.run(&mut ram, 5000);
    let used = ram.store.bytes_used();
    // Saved, and the saver died before it told anybody.
    for _ in 0..1000 {
        saved(&mut ram, &half_random(&mut random));
    }
    assert!(ram.store.bytes_used() > used);
    assert_eq!(ram.store.rebuild(owners(&model.words)), 0);
    model.check_all(&mut ram);
    model.free_all(&mut ram);
    ram.store.punch_empty(usize::MAX);
    assert_eq!(ram.store.bytes_used(), 0);
}
