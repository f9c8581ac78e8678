//! Several threads and processes at the stores of one space, with compaction, cleaning and sinking all the while, and
//! one of them killed.
//!
//! Page words lie in the same memory file as the stores. Each worker writes its own words; compaction changes all of
//! them. What a page must hold follows from its first eight bytes, and the worker remembers these.

mod suite;

use memvisor_core::{Page, PageCell, PageWord};
use memvisor_proto::Header;
use memvisor_proto::segment::{SEGMENT_BYTES, SEGMENT_PAGES};
use memvisor_store::log::{LogParts, LogStore, LogWriter};
use memvisor_store::ram::{RamParts, RamStore, SLAB_BYTES, Scratch};
use memvisor_store::tiers::SinkPlan;
use memvisor_store::{PageBytes, SaveOutcome, SlotRef, Tiers};
use memvisor_sys::file;
use memvisor_sys::shared::{SharedFile, SharedMap};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use suite::{Random, Space, seed, slot_of, space};

const RAM_BYTES: usize = 32 << 20;
const SEGMENTS: usize = 32;
const LOG_META_BYTES: usize = LogParts::bytes_for(SEGMENTS);
const WORKERS: usize = 4;
const PAGES: usize = 400;
/// The words of the workers lie behind those of the log; behind them a counter of steps for each.
const WORDS_BYTES: usize = (WORKERS * PAGES + WORKERS) * 8;

fn shared_space() -> Space {
    space(RAM_BYTES, 2 << 20, LOG_META_BYTES + WORDS_BYTES)
}

fn words(map: SharedMap, log_meta: usize) -> &'static [AtomicU64] {
    map.words(log_meta + LOG_META_BYTES, WORKERS * PAGES)
}

fn steps(map: SharedMap, log_meta: usize, worker: usize) -> &'static AtomicU64 {
    &map.words(log_meta + LOG_META_BYTES + WORKERS * PAGES * 8, WORKERS)[worker]
}

/// The stores of a space, and a new log for them.
fn create_tiers(space: &Space) -> Tiers {
    let parts = LogParts { meta: space.log_meta, meta_bytes: LOG_META_BYTES };
    let bytes = (SEGMENTS * SEGMENT_BYTES) as u64;
    let log = LogStore::create(&std::env::temp_dir(), bytes, space.map, parts, space.header()).expect("a log");
    Tiers { ram: RamStore::open(space.map, space.parts, space.header()), log: Some(log) }
}

/// The page whose first eight bytes are `id`.
fn page_of(id: u64) -> PageBytes {
    let mut random = Random(id | 1);
    let mut page = [id as u8; 4096];
    page[..8].copy_from_slice(&id.to_le_bytes());
    let noise = [40, 600, 2040, 3900][(id >> 32) as usize % 4];
    page[8..8 + noise].iter_mut().for_each(|byte| *byte = random.next() as u8);
    page
}

struct Worker {
    store: Tiers,
    writer: LogWriter,
    scratch: Box<Scratch>,
    all: &'static [AtomicU64],
    own: std::ops::Range<usize>,
    ids: Vec<u64>,
    random: Random,
}

impl Worker {
    fn new(store: Tiers, all: &'static [AtomicU64], number: usize, seed: u64) -> Self {
        let own = number * PAGES..(number + 1) * PAGES;
        let random = Random((seed ^ (number as u64 * 0x9e37_79b9)) | 1);
        let writer = store.log.unwrap().writer().unwrap();
        Worker { store, writer, scratch: Box::default(), all, own, ids: vec![0; PAGES], random }
    }

    fn step(&mut self) {
        let at = self.random.below(PAGES);
        match self.random.below(8) {
            0..3 => self.save(at),
            3..6 => self.check(at),
            6 => self.put(at, SlotRef::None, 0),
            _ => self.share(at),
        }
    }

    fn save(&mut self, at: usize) {
        let id = self.random.next();
        let page = page_of(id);
        match self.store.save(&mut self.scratch, Some(&mut self.writer), id, &page, None) {
            SaveOutcome::Saved(slot) => self.put(at, slot, id),
            outcome => panic!("there is room for all, and yet: {outcome:?}"),
        }
    }

    /// Puts a slot that is ours into our word and releases what was there.
    fn put(&mut self, at: usize, slot: SlotRef, id: u64) {
        let page = if slot.is_some() { Page::Stored(slot) } else { Page::Untouched };
        let old = PageCell(&self.all[self.own.start + at]).put(PageWord::new(page, 0, 0));
        if let Page::Stored(old) = old.page() {
            self.store.release(old);
        }
        self.ids[at] = id;
    }

    /// Takes the slot out of the word while it loads, as the pager does, so that nobody moves or frees it.
    fn check(&mut self, at: usize) {
        let cell = PageCell(&self.all[self.own.start + at]);
        let Some((before, loading)) = cell.apply(|word| word.load_begin(1)) else { return };
        if let Page::Stored(slot) = before.page() {
            let mut out = [0; 4096];
            self.store.load(slot, &mut out).unwrap_or_else(|error| panic!("{error}"));
            assert!(out == page_of(self.ids[at]), "another page came back");
        }
        assert!(cell.swap(loading, loading.load_undone(1, 0).unwrap()), "a loading page was changed");
    }

    /// Becomes an owner of a slot that another worker may be about to release.
    fn share(&mut self, at: usize) {
        let other = self.random.below(self.all.len());
        let slot = slot_of(&self.all[other]);
        if slot.is_some() && self.store.retain(slot).is_ok() {
            let mut out = [0; 4096];
            self.store.load(slot, &mut out).unwrap_or_else(|error| panic!("a retained slot: {error}"));
            let id = u64::from_le_bytes(out[..8].try_into().unwrap());
            assert!(out == page_of(id), "a retained slot holds no whole page");
            self.put(at, slot, id);
        }
    }
}

fn compact(store: &Tiers, cleaner: &mut LogWriter, all: &[AtomicU64]) {
    store.ram.pick_victims(16);
    store.ram.compact(all);
    store.ram.open_closed();
    store.ram.punch_empty(8);
    let cells = || all.iter().enumerate().map(|(at, word)| (at as u64, word));
    let sunk = store.sink(cleaner, cells().take(200), SinkPlan { now: 0, age_min: 0, words_max: 40 });
    let log = store.log.unwrap();
    log.pick_victims(4);
    let cleaned = log.clean(cleaner, cells());
    log.punch_empty(4);
    assert_eq!((sunk.unreadable, cleaned.unreadable), (0, 0));
}

fn check_and_free_all(store: &Tiers, all: &[AtomicU64]) {
    let mut out = [0; 4096];
    for word in all {
        let slot = slot_of(word);
        if slot.is_some() {
            store.load(slot, &mut out).unwrap_or_else(|error| panic!("{error}"));
            assert!(out == page_of(u64::from_le_bytes(out[..8].try_into().unwrap())));
        }
        store.release(slot);
        word.store(PageWord::UNTOUCHED.0, Ordering::Relaxed);
    }
    store.ram.punch_empty(usize::MAX);
    let log = store.log.unwrap();
    log.punch_empty(usize::MAX);
    assert_eq!((store.ram.bytes_used(), log.pages_used(), log.bytes_used()), (0, 0, 0), "slots were leaked");
}

#[test]
fn threads_and_compaction_lose_no_page_and_leak_no_slot() {
    let space = shared_space();
    let (all, seed) = (words(space.map, space.log_meta), seed());
    let store = create_tiers(&space);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                scope.spawn(move || {
                    let mut worker = Worker::new(store, all, number, seed);
                    (0..8_000).for_each(|_| worker.step());
                })
            })
            .collect();
        let compactor = scope.spawn(|| {
            let mut cleaner = store.log.unwrap().cleaner().unwrap();
            while !done.load(Ordering::Acquire) {
                compact(&store, &mut cleaner, all);
            }
        });
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Release);
        compactor.join().unwrap();
        results.into_iter().for_each(|result| result.unwrap());
    });
    check_and_free_all(&store, all);
}

/// A worker in a process of its own; the test below starts it.
#[test]
#[ignore = "started by the test of killed processes"]
fn a_worker_process() {
    // It goes on for ever, so it must not outlive the test that started it, whatever that one dies of.
    memvisor_sys::process::set_parent_death_signal(9).expect("a death signal");
    let path = std::env::var("STORE_TEST_FILE").expect("the path of the memory file");
    let number = |name: &str| std::env::var(name).expect(name).parse::<u64>().expect(name);
    let path = std::ffi::CString::new(path).unwrap();
    let file = SharedFile::open(&path).expect("the memory file");
    let parts = RamParts { meta: 4096, data: number("STORE_TEST_DATA") as usize, data_bytes: RAM_BYTES };
    let map = file.map(parts.data + parts.data_bytes).expect("a mapping");
    let header = Header(map.words(0, Header::WORDS));
    let (at, worker) = (number("STORE_TEST_LOG_META") as usize, number("STORE_TEST_WORKER") as usize);
    let log_path = std::ffi::CString::new(std::env::var("STORE_TEST_LOG").unwrap()).unwrap();
    let (fd, _) = file::open_direct(&log_path, file::O_RDWR, 0).expect("the log's file");
    let log_parts = LogParts { meta: at, meta_bytes: LOG_META_BYTES };
    let log = LogStore::attach(fd, map, log_parts, header).expect("the log");
    let store = Tiers { ram: RamStore::open(map, parts, header), log: Some(log) };
    let mut cleaner = log.cleaner().unwrap();
    let all = words(map, at);
    let mut work = Worker::new(store, all, worker, number("STORE_TEST_SEED"));
    loop {
        if worker == 0 {
            compact(&store, &mut cleaner, all);
        } else {
            work.step();
        }
        steps(map, at, worker).fetch_add(1, Ordering::AcqRel);
    }
}

/// A worker that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(space: &Space, store: &Tiers, worker: usize, seed: u64) -> Running {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "a_worker_process"])
        .env("STORE_TEST_FILE", format!("/proc/{}/fd/{}", std::process::id(), space.file.fd()))
        .env("STORE_TEST_DATA", space.parts.data.to_string())
        .env("STORE_TEST_LOG_META", space.log_meta.to_string())
        .env("STORE_TEST_LOG", format!("/proc/{}/fd/{}", std::process::id(), store.log.unwrap().fd()))
        .env("STORE_TEST_WORKER", worker.to_string())
        .env("STORE_TEST_SEED", seed.to_string())
        .stdout(Stdio::null())
        .spawn()
        .expect("this test program again");
    Running(child)
}

/// Waits until the worker has gone `more` steps; false when it is dead.
fn wait_for(space: &Space, child: &mut Child, worker: usize, more: u64) -> bool {
    let counter = steps(space.map, space.log_meta, worker);
    let goal = counter.load(Ordering::Acquire) + more;
    while counter.load(Ordering::Acquire) < goal {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// The log as one finds it who has its file and nothing else.
fn scan_as_a_stranger(store: &Tiers) {
    let stranger = space(0, 0, LOG_META_BYTES);
    stranger.header().log_pages().store((SEGMENTS * SEGMENT_PAGES) as u64, Ordering::Relaxed);
    let path = format!("/proc/self/fd/{}", store.log.unwrap().fd());
    let (fd, _) = file::open_direct(&std::ffi::CString::new(path).unwrap(), file::O_RDWR, 0).expect("the log's file");
    let parts = LogParts { meta: stranger.log_meta, meta_bytes: LOG_META_BYTES };
    let log = LogStore::attach(fd, stranger.map, parts, stranger.header()).expect("the log");
    let report = log.rebuild_index().expect("a scan");
    assert!(report.pages.len() > PAGES, "{} pages in {} segments", report.pages.len(), report.segments);
    let mut out = [0; 4096];
    for page in &report.pages {
        log.load(page.slot, &mut out).unwrap_or_else(|error| panic!("{page:?}: {error}"));
        assert!(
            out == page_of(u64::from_le_bytes(out[..8].try_into().unwrap())),
            "{page:?} is no page that was written"
        );
    }
    assert_eq!(log.pages_used(), report.pages.len() as u64);
}

fn is_alive(pid: u32) -> bool {
    memvisor_sys::process::kill(pid, 0).is_ok()
}

#[test]
fn processes_that_are_killed_at_any_instruction_cost_no_page_of_others() {
    let space = shared_space();
    let all = words(space.map, space.log_meta);
    let seed = seed();
    let store = create_tiers(&space);
    let mut random = Random(seed);
    let mut children: Vec<_> = (0..WORKERS).map(|worker| start(&space, &store, worker, seed)).collect();
    for round in 0..24 {
        let worker = random.below(WORKERS);
        let more = if worker == 0 { 2 } else { 100 + random.next() % 300 };
        assert!(wait_for(&space, &mut children[worker].0, worker, more), "worker {worker} died by itself");
        children[worker].0.kill().unwrap();
        children[worker].0.wait().unwrap();
        // What the dead one held is given back by another process, as the keeper does.
        store.recover(is_alive);
        if worker != 0 {
            for word in &all[worker * PAGES..(worker + 1) * PAGES] {
                let old = PageCell(word).put(PageWord::UNTOUCHED);
                match old.page() {
                    Page::Stored(slot) | Page::Loading(slot) => store.release(slot),
                    _ => {}
                }
            }
        } else {
            store.ram.open_closed();
        }
        children[worker] = start(&space, &store, worker, seed + round);
    }
    for (worker, child) in children.iter_mut().enumerate() {
        // Long enough that segments are filled and sealed, and so can be found by a scan.
        let more = if worker == 0 { 2 } else { 3000 };
        assert!(wait_for(&space, &mut child.0, worker, more), "worker {worker} died by itself");
        child.0.kill().unwrap();
        child.0.wait().unwrap();
    }
    scan_as_a_stranger(&store);
    for word in all {
        // A worker that died while it loaded had its slot still.
        let word = PageCell(word);
        if let Page::Loading(slot) = word.get().page() {
            word.put(PageWord::new(if slot.is_some() { Page::Stored(slot) } else { Page::Untouched }, 0, 0));
        }
    }
    store.recover(is_alive);
    let bad = store.rebuild(all.iter().map(slot_of));
    // Between the swap of a word and the release of its old slot nothing can be lost; the other way round it could.
    assert_eq!(bad, 0, "a word names an object that is not there");
    check_and_free_all(&store, all);
    assert!(space.file.resident_bytes().unwrap() < 40 * SLAB_BYTES as u64, "memory was not given back");
}
