//! One suite for every store: what it holds comes back true, whatever happens to it.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod subjects;

use memvisor_core::{Page, PageCell, PageWord};
use memvisor_proto::Header;
use memvisor_store::ram::RamParts;
use memvisor_store::{LoadError, PageBytes, RetainError, SaveOutcome, SlotRef};
use memvisor_sys::shared::{SharedFile, SharedMap};
use std::sync::atomic::{AtomicU64, Ordering};

/// A store as the suite drives it.
pub trait Subject {
    fn save(&mut self, page: &PageBytes, retained: Option<SlotRef>) -> SaveOutcome;
    fn load(&mut self, slot: SlotRef, out: &mut PageBytes) -> Result<(), LoadError>;
    fn retain(&mut self, slot: SlotRef) -> Result<(), RetainError>;
    fn release(&mut self, slot: SlotRef);
    /// Bytes of the medium that are taken.
    fn bytes_used(&mut self) -> u64;
    /// Moves what is sparse together, as the words allow.
    fn compact(&mut self, words: &[AtomicU64]);
    /// Gives empty pieces back.
    fn give_back(&mut self);
    /// Derives everything from the words, as after a crash.
    fn rebuild(&mut self, words: &[AtomicU64]);
}

/// Random numbers from a printed seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 32) as usize * bound) >> 32
    }

    /// A page of one of several kinds that compress to any length, each page unlike the others.
    pub fn page(&mut self) -> PageBytes {
        let mut page = [0; 4096];
        let random = match self.below(8) {
            0 => 0,
            1 => 8,
            2..4 => 2048,
            4 => self.below(3300),
            5 => self.below(600),
            6 => 2900,
            _ => 4096,
        };
        let at = self.below(4096 - random + 1);
        page.fill(self.below(4) as u8);
        page[at..at + random].iter_mut().for_each(|byte| *byte = self.next() as u8);
        page
    }
}

/// The seed of this run: `MEMVISOR_SEED`, or another each time.
pub fn seed() -> u64 {
    let seed = std::env::var("MEMVISOR_SEED").ok().map_or_else(
        || memvisor_sys::random::number().expect("a random number") | 1,
        |seed| seed.parse().expect("MEMVISOR_SEED is a number"),
    );
    println!("MEMVISOR_SEED={seed}");
    seed
}

/// A memory file with a header and room for a RAM store and `log_meta` bytes of log words.
pub struct Space {
    pub file: SharedFile,
    pub map: SharedMap,
    pub parts: RamParts,
    pub log_meta: usize,
}

pub fn space(ram_bytes: usize, ram_limit: u64, log_meta_bytes: usize) -> Space {
    let log_meta = (4096 + RamParts::meta_bytes(ram_bytes)).next_multiple_of(4096);
    let data = (log_meta + log_meta_bytes).next_multiple_of(4096);
    let file = SharedFile::create(c"store-test", (data + ram_bytes) as u64).expect("a memory file");
    let map = file.map(data + ram_bytes).expect("a mapping");
    let header = Header(map.words(0, Header::WORDS));
    header.ram_limit_bytes().store(ram_limit, Ordering::Relaxed);
    header.hash_seed().store(0x1234_5678_9abc, Ordering::Relaxed);
    Space { file, map, parts: RamParts { meta: 4096, data, data_bytes: ram_bytes }, log_meta }
}

impl Space {
    pub fn header(&self) -> Header<'static> {
        Header(self.map.words(0, Header::WORDS))
    }
}

/// The slot that a page word owns.
pub fn slot_of(word: &AtomicU64) -> SlotRef {
    match PageCell(word).get().page() {
        Page::Stored(slot) | Page::Resident(slot) => slot,
        _ => SlotRef::None,
    }
}

pub fn owners(words: &[AtomicU64]) -> impl Iterator<Item = SlotRef> {
    words.iter().map(slot_of)
}

fn put(word: &AtomicU64, slot: SlotRef, stamp: u16) {
    let page = if slot.is_some() { Page::Stored(slot) } else { Page::Untouched };
    PageCell(word).put(PageWord::new(page, 0, stamp));
}

/// What each page holds, and the words that say where.
pub struct Model {
    pub words: Vec<AtomicU64>,
    pub truth: Vec<Option<PageBytes>>,
    random: Random,
    /// Loads that failed, if they may; `None` when every load has to succeed.
    pub failed_loads: Option<usize>,
}

impl Model {
    pub fn new(pages: usize, seed: u64) -> Self {
        let words = (0..pages).map(|_| AtomicU64::new(PageWord::UNTOUCHED.0)).collect();
        Model { words, truth: vec![None; pages], random: Random(seed), failed_loads: None }
    }

    /// Does `steps` random things to the store and checks all that is read.
    pub fn run(&mut self, store: &mut impl Subject, steps: usize) {
        for step in 0..steps {
            let at = self.random.below(self.words.len());
            match self.random.below(64) {
                0..28 => self.save(store, at, step),
                28..44 => self.check(store, at),
                44..54 => self.free(store, at),
                54..62 => self.share(store, at),
                62 if self.random.below(16) == 0 => store.rebuild(&self.words),
                62 => store.give_back(),
                _ if self.random.below(4) == 0 => store.compact(&self.words),
                _ => {}
            }
        }
        self.check_all(store);
    }

    fn save(&mut self, store: &mut impl Subject, at: usize, step: usize) {
        let old = slot_of(&self.words[at]);
        let is_same = self.random.below(8) == 0;
        let page = match self.truth[at] {
            Some(page) if is_same => page,
            _ => self.random.page(),
        };
        match store.save(&page, old.is_some().then_some(old)) {
            SaveOutcome::Saved(slot) => {
                put(&self.words[at], slot, step as u16);
                self.truth[at] = Some(page);
                store.release(old);
            }
            SaveOutcome::Unchanged => {
                assert_eq!(self.truth[at], Some(page), "a changed page was taken for the old one")
            }
            SaveOutcome::Full | SaveOutcome::Incompressible => {
                if is_same {
                    assert_eq!(old, SlotRef::None, "a page that is stored was refused");
                }
            }
        }
    }

    fn check(&mut self, store: &mut impl Subject, at: usize) {
        let slot = slot_of(&self.words[at]);
        if let Some(page) = &self.truth[at] {
            let mut out = [0xa5; 4096];
            match (store.load(slot, &mut out), &mut self.failed_loads) {
                (Ok(()), _) => assert!(out == *page, "page {at} in {slot:?} came back as another"),
                (Err(LoadError::Lost { .. }), Some(failed)) => *failed += 1,
                (Err(error), _) => panic!("page {at}: {error}"),
            }
        }
    }

    pub fn check_all(&mut self, store: &mut impl Subject) {
        for at in 0..self.words.len() {
            self.check(store, at);
        }
    }

    fn free(&mut self, store: &mut impl Subject, at: usize) {
        let old = slot_of(&self.words[at]);
        put(&self.words[at], SlotRef::None, 0);
        self.truth[at] = None;
        store.release(old);
    }

    /// As fork does: another page is this one.
    fn share(&mut self, store: &mut impl Subject, at: usize) {
        let to = self.random.below(self.words.len());
        let (old, new) = (slot_of(&self.words[to]), slot_of(&self.words[at]));
        store.retain(new).expect("a slot that has an owner");
        put(&self.words[to], new, 1);
        self.truth[to] = self.truth[at];
        store.release(old);
    }

    pub fn free_all(&mut self, store: &mut impl Subject) {
        for at in 0..self.words.len() {
            self.free(store, at);
        }
    }
}

/// Runs the model over a store, frees everything and looks whether anything stayed.
pub fn what_is_stored_comes_back_true(store: impl Subject, pages: usize, steps: usize, left_bytes_max: u64) {
    run(store, Model::new(pages, seed()), steps, left_bytes_max);
}

/// The same for a store that injects faults: what comes back is true all the same; how often nothing came back.
pub fn nothing_false_comes_back(store: impl Subject, pages: usize, steps: usize, left_bytes_max: u64) -> usize {
    let model = Model { failed_loads: Some(0), ..Model::new(pages, seed()) };
    run(store, model, steps, left_bytes_max).failed_loads.unwrap()
}

fn run(mut store: impl Subject, mut model: Model, steps: usize, left_bytes_max: u64) -> Model {
    model.run(&mut store, steps);
    model.free_all(&mut store);
    store.give_back();
    let left = store.bytes_used();
    assert!(left <= left_bytes_max, "{left} bytes are still taken after everything was freed");
    model
}
