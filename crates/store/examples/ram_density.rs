//! How many bytes the RAM store holds in a byte of DRAM, and how fast: one line of JSON.
//!
//! `ram_density [MIB] [half-random|text|zero|mixed] [PATH]`. Half-random pages are 2 048 random bytes and 2 048 spaces; text is
//! drawn from a vocabulary with the frequencies of words, or, with PATH, the bytes of that file over and over; mixed is all
//! of these and some random pages by turns. DRAM is what the memory file takes according to the kernel, the store's own
//! words included. `RAM_DENSITY_DUMP=FILE` also writes the pages to a file, for a peer to store.

use memvisor_proto::Header;
use memvisor_store::ram::{RamParts, RamStore, Scratch};
use memvisor_store::{PageBytes, SaveOutcome, SlotRef};
use memvisor_sys::shared::SharedFile;
use std::sync::atomic::Ordering;
use std::time::Instant;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

struct Source {
    random: Random,
    words: Vec<Vec<u8>>,
    file: Vec<u8>,
    at: usize,
}

impl Source {
    fn new(path: Option<String>) -> Self {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let words = (0..4000)
            .map(|_| (0..2 + random.next() % 9).map(|_| b'a' + (random.next() % 26) as u8).collect())
            .collect();
        let file = path.map_or(Vec::new(), |path| std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}")));
        Source { random, words, file, at: 0 }
    }

    fn half_random(&mut self, page: &mut PageBytes) {
        self.random.bytes(&mut page[..2048]);
        page[2048..].fill(0x20);
    }

    fn text(&mut self, page: &mut PageBytes) {
        if self.file.len() >= page.len() {
            for byte in page.iter_mut() {
                *byte = self.file[self.at % self.file.len()];
                self.at += 1;
            }
            return;
        }
        let mut at = 0;
        while at < page.len() {
            // Each power of two of ranks is drawn as often as the next: the frequencies of words.
            let ranks = 1 << (self.random.next() % 12);
            let word = &self.words[(self.random.next() % ranks) as usize];
            for byte in word.iter().chain(b" ").take(page.len() - at) {
                page[at] = *byte;
                at += 1;
            }
        }
    }

    fn page(&mut self, kind: &str, number: usize, page: &mut PageBytes) {
        match (kind, number % 8) {
            ("zero", _) | ("mixed", 0) => page.fill(0),
            ("text", _) | ("mixed", 1..4) => self.text(page),
            ("mixed", 4) => self.random.bytes(page),
            _ => self.half_random(page),
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mib: usize = arguments.next().map_or(64, |n| n.parse().expect("the first argument is a number of MiB"));
    let kind = arguments.next().unwrap_or("half-random".into());
    assert!(["half-random", "text", "zero", "mixed"].contains(&&*kind), "no such kind of pages: {kind}");
    let mut source = Source::new(arguments.next());

    let data_bytes = (mib << 20) * 5 / 4 + (64 << 20);
    let data = (4096 + RamParts::meta_bytes(data_bytes)).next_multiple_of(1 << 20);
    let file = SharedFile::create(c"ram_density", (data + data_bytes) as u64).expect("a memory file");
    let map = file.map(data + data_bytes).expect("a mapping");
    let header = Header(map.words(0, Header::WORDS));
    header.ram_limit_bytes().store(u64::MAX, Ordering::Relaxed);
    header.hash_seed().store(7, Ordering::Relaxed);
    let store = RamStore::open(map, RamParts { meta: 4096, data, data_bytes }, header);

    let count = mib << 8;
    let mut pages = vec![[0u8; 4096]; count];
    for (number, page) in pages.iter_mut().enumerate() {
        source.page(&kind, number, page);
    }
    if let Some(path) = std::env::var_os("RAM_DENSITY_DUMP") {
        // The same pages for another store to hold.
        std::fs::write(path, pages.as_flattened()).expect("the dump");
    }
    let mut scratch = Box::new(Scratch::new());
    // The memory is touched first: what a machine's own host asks for fresh memory is not the store's.
    let mut slots = vec![SlotRef::None; count];
    let (mut save_s, mut refused) = (0.0, 0);
    for _round in 0..2 {
        slots.iter().for_each(|slot| store.release(*slot));
        refused = 0;
        let start = Instant::now();
        for (slot, page) in slots.iter_mut().zip(&pages) {
            *slot = match store.save(&mut scratch, page, None) {
                SaveOutcome::Saved(slot) => slot,
                SaveOutcome::Incompressible => SlotRef::None,
                outcome => panic!("{outcome:?}"),
            };
            refused += (*slot == SlotRef::None) as usize;
        }
        save_s = start.elapsed().as_secs_f64();
    }
    let mut out = [0; 4096];
    let start = Instant::now();
    for slot in slots.iter().filter(|slot| slot.is_some()) {
        store.load(*slot, &mut out).expect("a stored page");
    }
    let load_s = start.elapsed().as_secs_f64();
    for (slot, page) in slots.iter().zip(&pages).filter(|(slot, _)| slot.is_some()) {
        store.load(*slot, &mut out).expect("a stored page");
        assert!(out == *page, "a page came back wrong");
    }
    let held = (count - refused) * 4096;
    // What the file takes, without the page of the header.
    let dram = file.resident_bytes().expect("its size") - 4096;
    let mb_s = |seconds: f64, bytes: usize| bytes as f64 / 1e6 / seconds;
    println!(
        "{{\"kind\":\"{kind}\",\"pages\":{count},\"refused_pages\":{refused},\"bytes_stored\":{held},\"dram_bytes\":{dram},\
         \"accounted_bytes\":{},\"density\":{:.4},\"save_mb_s\":{:.1},\"load_mb_s\":{:.1}}}",
        store.bytes_used() + store.meta_bytes_used(),
        held as f64 / dram.max(1) as f64,
        mb_s(save_s, count * 4096),
        mb_s(load_s, held),
    );
}
