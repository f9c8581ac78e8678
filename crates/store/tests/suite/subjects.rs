//! The stores as the suite drives them.

use super::{Space, Subject, owners, slot_of, space};
use memvisor_proto::segment::{SEGMENT_BYTES, SEGMENT_PAGES};
use memvisor_store::faulty::FaultPlan;
use memvisor_store::log::{LogParts, LogReader, LogStore, LogWriter};
use memvisor_store::ram::{RamStore, Scratch};
use memvisor_store::tiers::SinkPlan;
use memvisor_store::{LoadError, PageBytes, RetainError, SaveOutcome, SlotRef, Tiers};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

pub struct Ram {
    pub store: RamStore,
    pub scratch: Box<Scratch>,
    pub space: Space,
}

pub fn ram(bytes: usize, limit: u64) -> Ram {
    let space = space(bytes, limit, 0);
    Ram { store: RamStore::open(space.map, space.parts, space.header()), scratch: Box::default(), space }
}

impl Ram {
    pub fn with_faults(self, plan: &'static FaultPlan) -> Self {
        Ram { store: self.store.with_faults(plan), ..self }
    }
}

impl Subject for Ram {
    fn save(&mut self, page: &PageBytes, retained: Option<SlotRef>) -> SaveOutcome {
        self.store.save(&mut self.scratch, page, retained)
    }
    fn load(&mut self, slot: SlotRef, out: &mut PageBytes) -> Result<(), LoadError> {
        self.store.load(slot, out)
    }
    fn retain(&mut self, slot: SlotRef) -> Result<(), RetainError> {
        self.store.retain(slot)
    }
    fn release(&mut self, slot: SlotRef) {
        self.store.release(slot);
    }
    fn bytes_used(&mut self) -> u64 {
        self.store.bytes_used()
    }
    fn compact(&mut self, words: &[AtomicU64]) {
        self.store.pick_victims(64);
        self.store.compact(words);
        self.store.open_closed();
        self.store.punch_empty(usize::MAX);
    }
    fn give_back(&mut self) {
        self.store.punch_empty(usize::MAX);
    }
    fn rebuild(&mut self, words: &[AtomicU64]) {
        let before = self.store.bytes_used();
        assert_eq!(self.store.rebuild(owners(words)), 0, "a word named no object");
        assert_eq!(self.store.bytes_used(), before, "the account was wrong");
    }
}

pub struct Log {
    pub store: LogStore,
    pub writer: LogWriter,
    pub reader: LogReader,
    pub space: Space,
    /// Whether reads and writes may fail.
    pub is_faulty: bool,
}

pub fn log_at(path: &Path, segments: usize) -> Log {
    let meta_bytes = LogParts::bytes_for(segments);
    let space = space(0, 0, meta_bytes);
    space.header().id_low().store(11, Ordering::Relaxed);
    let parts = LogParts { meta: space.log_meta, meta_bytes };
    let bytes = (segments * SEGMENT_BYTES) as u64;
    let store = LogStore::create(path, bytes, space.map, parts, space.header()).expect("a log");
    let (writer, reader) = (store.writer().unwrap(), store.reader(8, 16).unwrap());
    Log { store, writer, reader, space, is_faulty: false }
}

pub fn log(segments: usize) -> Log {
    log_at(&std::env::temp_dir(), segments)
}

impl Log {
    pub fn with_faults(self, plan: &'static FaultPlan) -> Self {
        let store = self.store.with_faults(plan);
        let (writer, reader) = (store.writer().unwrap(), store.reader(8, 16).unwrap());
        Log { store, writer, reader, is_faulty: true, ..self }
    }

    pub fn without_ring(self) -> Self {
        Log { writer: self.writer.without_ring(), reader: self.reader.without_ring(), ..self }
    }

    pub fn parts(&self) -> LogParts {
        let segments = self.space.header().log_pages().load(Ordering::Relaxed) as usize / SEGMENT_PAGES;
        LogParts { meta: self.space.log_meta, meta_bytes: LogParts::bytes_for(segments) }
    }

    /// The file, to read and write behind the log's back.
    pub fn file(&self) -> std::fs::File {
        let path = format!("/proc/self/fd/{}", self.store.fd());
        std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
    }
}

impl Subject for Log {
    fn save(&mut self, page: &PageBytes, retained: Option<SlotRef>) -> SaveOutcome {
        self.writer.save(7, page, retained)
    }
    fn load(&mut self, slot: SlotRef, out: &mut PageBytes) -> Result<(), LoadError> {
        if u64::from(out[0]) & 1 == 0 {
            return self.store.load(slot, out);
        }
        self.reader.submit(slot, 5)?;
        let mut result = Ok(());
        self.reader.wait(|done| {
            assert_eq!((done.token, done.slot), (5, slot));
            result = done.page.map(|page| *out = *page);
        });
        result
    }
    fn retain(&mut self, slot: SlotRef) -> Result<(), RetainError> {
        if slot.is_some() { self.store.retain(slot) } else { Ok(()) }
    }
    fn release(&mut self, slot: SlotRef) {
        self.store.release(slot);
    }
    fn bytes_used(&mut self) -> u64 {
        self.store.bytes_used()
    }
    fn compact(&mut self, words: &[AtomicU64]) {
        self.store.pick_victims(4);
        let mut cleaner = self.store.cleaner().unwrap();
        let done = self.store.clean(&mut cleaner, words.iter().map(|word| (9, word)));
        assert!(done.unreadable == 0 || self.is_faulty);
        drop(cleaner);
        self.store.punch_empty(usize::MAX);
    }
    fn give_back(&mut self) {
        self.store.punch_empty(usize::MAX);
    }
    fn rebuild(&mut self, words: &[AtomicU64]) {
        let before = self.store.pages_used();
        // Rebuilding is for when nobody uses the log: writers begin anew.
        assert!(self.writer.seal().is_ok() || self.is_faulty);
        assert_eq!(self.store.rebuild(owners(words)), 0, "a word named no page");
        assert_eq!(self.store.pages_used(), before, "the account was wrong");
    }
}

pub struct Both {
    pub tiers: Tiers,
    pub writer: LogWriter,
    pub scratch: Box<Scratch>,
    pub space: Space,
    pub is_faulty: bool,
}

/// A RAM store of this limit above a log of so many segments.
pub fn both(limit: u64, segments: usize) -> Both {
    let meta_bytes = LogParts::bytes_for(segments);
    let space = space(32 << 20, limit, meta_bytes);
    let parts = LogParts { meta: space.log_meta, meta_bytes };
    let bytes = (segments * SEGMENT_BYTES) as u64;
    let log = LogStore::create(&std::env::temp_dir(), bytes, space.map, parts, space.header()).expect("a log");
    let tiers = Tiers { ram: RamStore::open(space.map, space.parts, space.header()), log: Some(log) };
    Both { tiers, writer: log.writer().unwrap(), scratch: Box::default(), space, is_faulty: false }
}

impl Both {
    pub fn with_faults(self, plan: &'static FaultPlan) -> Self {
        let log = self.tiers.log.unwrap().with_faults(plan);
        let tiers = Tiers { ram: self.tiers.ram.with_faults(plan), log: Some(log) };
        Both { tiers, writer: log.writer().unwrap(), is_faulty: true, ..self }
    }
}

impl Subject for Both {
    fn save(&mut self, page: &PageBytes, retained: Option<SlotRef>) -> SaveOutcome {
        self.tiers.save(&mut self.scratch, Some(&mut self.writer), 3, page, retained)
    }
    fn load(&mut self, slot: SlotRef, out: &mut PageBytes) -> Result<(), LoadError> {
        self.tiers.load(slot, out)
    }
    fn retain(&mut self, slot: SlotRef) -> Result<(), RetainError> {
        self.tiers.retain(slot)
    }
    fn release(&mut self, slot: SlotRef) {
        self.tiers.release(slot);
    }
    fn bytes_used(&mut self) -> u64 {
        self.tiers.ram.bytes_used() + self.tiers.log.unwrap().bytes_used()
    }
    fn compact(&mut self, words: &[AtomicU64]) {
        let plan = SinkPlan { now: 0, age_min: 1 << 15, words_max: 100 };
        let sunk = self.tiers.sink(&mut self.writer, words.iter().map(|word| (5, word)), plan);
        assert!(sunk.unreadable == 0 || self.is_faulty);
        self.tiers.ram.pick_victims(64);
        self.tiers.ram.compact(words);
        self.tiers.ram.open_closed();
        let log = self.tiers.log.unwrap();
        log.pick_victims(4);
        let mut cleaner = log.cleaner().unwrap();
        log.clean(&mut cleaner, words.iter().map(|word| (9, word)));
        drop(cleaner);
        self.give_back();
    }
    fn give_back(&mut self) {
        self.tiers.ram.punch_empty(usize::MAX);
        self.tiers.log.unwrap().punch_empty(usize::MAX);
    }
    fn rebuild(&mut self, words: &[AtomicU64]) {
        let log = self.tiers.log.unwrap();
        let before = (self.tiers.ram.bytes_used(), log.pages_used());
        assert!(self.writer.seal().is_ok() || self.is_faulty);
        assert_eq!(self.tiers.rebuild(words.iter().map(slot_of)), 0, "a word named nothing");
        assert_eq!((self.tiers.ram.bytes_used(), log.pages_used()), before, "the account was wrong");
    }
}
