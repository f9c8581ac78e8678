//! Both stores as one under the suite, and sinking.

mod suite;

use memvisor_core::{Page, PageCell, PageWord};
use memvisor_proto::segment::SEGMENT_BYTES;
use memvisor_store::tiers::SinkPlan;
use memvisor_store::{PageBytes, SaveOutcome, SlotRef};
use std::sync::atomic::AtomicU64;
use suite::subjects::{Both, both};
use suite::{Random, Subject, seed, slot_of};

#[test]
fn what_is_stored_comes_back_true() {
    suite::what_is_stored_comes_back_true(both(u64::MAX, 64), 3000, 20_000, SEGMENT_BYTES as u64);
}

#[test]
fn what_is_stored_comes_back_true_when_most_of_it_has_to_sink() {
    suite::what_is_stored_comes_back_true(both(1 << 20, 64), 3000, 20_000, SEGMENT_BYTES as u64);
}

#[test]
fn what_is_stored_comes_back_true_when_both_are_full() {
    suite::what_is_stored_comes_back_true(both(1 << 20, 6), 3000, 20_000, SEGMENT_BYTES as u64);
}

fn half_random(random: &mut Random) -> PageBytes {
    let mut page = [0x20; 4096];
    page[..2048].iter_mut().for_each(|byte| *byte = random.next() as u8);
    page
}

/// Stores `count` pages; their words are stamped 0, 1, 2, …
fn store(both: &mut Both, count: usize, random: &mut Random) -> (Vec<PageBytes>, Vec<AtomicU64>) {
    let pages: Vec<_> = (0..count).map(|_| half_random(random)).collect();
    let words = pages.iter().enumerate().map(|(at, page)| match both.save(page, None) {
        SaveOutcome::Saved(slot) => AtomicU64::new(PageWord::new(Page::Stored(slot), 0, at as u16).0),
        outcome => panic!("{outcome:?}"),
    });
    let words = words.collect();
    (pages, words)
}

#[test]
fn the_oldest_pages_sink_and_no_more_than_asked() {
    let mut both = both(u64::MAX, 16);
    let (pages, words) = store(&mut both, 1000, &mut Random(seed()));
    let plan = SinkPlan { now: 999, age_min: 300, words_max: 256 };
    let mut hand = 0;
    let mut moved = 0;
    while hand < words.len() {
        let cells = words.iter().enumerate().skip(hand).map(|(at, word)| (at as u64, word));
        let sunk = both.tiers.sink(&mut both.writer, cells, plan);
        assert!((1..=256 + 64).contains(&sunk.words) || hand + sunk.scanned == words.len(), "{sunk:?}");
        hand += sunk.scanned;
        moved += sunk.words;
    }
    assert_eq!(moved, 700);
    let mut out = [0; 4096];
    for (at, word) in words.iter().enumerate() {
        assert_eq!(matches!(slot_of(word), SlotRef::Log(_)), at < 700, "page {at}");
        both.load(slot_of(word), &mut out).unwrap();
        assert!(out == pages[at]);
    }
    assert_eq!(both.tiers.log.unwrap().pages_used(), 700);
    both.tiers.ram.punch_empty(usize::MAX);
    assert!(both.tiers.ram.bytes_used() < 900 << 10, "{}", both.tiers.ram.bytes_used());
}

#[test]
fn a_page_that_several_words_name_sinks_once() {
    let mut both = both(u64::MAX, 16);
    let (pages, mut words) = store(&mut both, 100, &mut Random(seed()));
    for at in 0..100 {
        let slot = slot_of(&words[at]);
        both.retain(slot).unwrap();
        words.push(AtomicU64::new(PageWord::new(Page::Stored(slot), 0, 0).0));
    }
    let plan = SinkPlan { now: 200, age_min: 0, words_max: usize::MAX };
    let sunk = both.tiers.sink(&mut both.writer, words.iter().map(|word| (0, word)), plan);
    assert_eq!((sunk.words, sunk.pages), (200, 100));
    let mut out = [0; 4096];
    for (at, word) in words.iter().enumerate() {
        both.load(slot_of(word), &mut out).unwrap();
        assert!(out == pages[at % 100]);
        both.release(slot_of(word));
    }
    both.writer.seal().unwrap();
    both.give_back();
    assert_eq!(both.bytes_used(), 0);
}

#[test]
fn an_unchanged_page_is_known_in_the_log_too() {
    let mut both = both(u64::MAX, 16);
    let (pages, words) = store(&mut both, 10, &mut Random(seed()));
    let plan = SinkPlan { now: 200, age_min: 0, words_max: usize::MAX };
    both.tiers.sink(&mut both.writer, words.iter().map(|word| (0, word)), plan);
    assert_eq!(both.save(&pages[3], Some(slot_of(&words[3]))), SaveOutcome::Unchanged);
    assert!(matches!(both.save(&pages[3], Some(slot_of(&words[4]))), SaveOutcome::Saved(SlotRef::Ram(_))));
}

#[test]
fn resident_pages_can_give_up_their_copies() {
    let mut both = both(u64::MAX, 16);
    let (_, words) = store(&mut both, 100, &mut Random(seed()));
    for word in &words[..60] {
        let slot = slot_of(word);
        PageCell(word).put(PageWord::new(Page::Resident(slot), 0, 0));
    }
    // A copy that is a pattern or in the log costs no RAM.
    let in_ram = |slot| matches!(slot, SlotRef::Ram(_));
    let costless = [AtomicU64::new(PageWord::new(Page::Resident(SlotRef::Filled(3)), 0, 0).0)];
    assert_eq!(both.tiers.drop_copies(&costless, in_ram, 50), 0);
    assert_eq!(both.tiers.drop_copies(&words, in_ram, 50), 50);
    assert_eq!(both.tiers.drop_copies(&words, in_ram, 50), 10);
    assert_eq!(words.iter().filter(|word| slot_of(word).is_some()).count(), 40);
    words.iter().for_each(|word| both.release(slot_of(word)));
    both.give_back();
    assert_eq!(both.bytes_used(), 0);
}
