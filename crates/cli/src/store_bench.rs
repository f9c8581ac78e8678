//! How fast the stores of a space save and load, one page after another and, where it helps, many at once.

use crate::bench::BenchError;
use crate::budget::Budget;
use crate::size::Size;
use crate::space::{Space, Terms};
use crate::store_file::StoreFile;
use crate::touch;
use memvisor_core::PAGE_BYTES;
use memvisor_store::log::{BATCH_PAGES, LogParts};
use memvisor_store::ram::{RamParts, Scratch};
use memvisor_store::{LogStore, PageBytes, RamStore, SaveOutcome, SlotRef};
use memvisor_sys::file;
use serde::Serialize;
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Instant;

/// Requests under way at once in the deep test.
const DEPTH: usize = 32;

/// What one store can do.
#[derive(Debug, Serialize)]
pub struct StoreFigures {
    /// Its name.
    pub store: &'static str,
    /// Saving a page that compresses to half.
    pub save_ns: f64,
    /// Loading a page at random, and waiting for it.
    pub load_ns: f64,
    /// The same with many under way; none where there is nothing to wait for.
    pub load_deep_ns: Option<f64>,
    /// Bytes of pages by bytes that the store takes for them.
    pub bytes_held_per_byte: f64,
}

/// Pages for a test, as the built-in program has them.
fn pages(bytes: u64) -> Vec<PageBytes> {
    let mut words = [0u64; PAGE_BYTES / 8];
    (0..bytes as usize / PAGE_BYTES)
        .map(|page| {
            touch::fill(page, &mut words);
            let mut out = [0; PAGE_BYTES];
            for (bytes, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(words) {
                *bytes = word.to_le_bytes();
            }
            out
        })
        .collect()
}

/// Numbers of pages in an order without a pattern.
fn shuffled(count: usize) -> impl Iterator<Item = usize> {
    let mut random = 7;
    (0..count).map(move |_| {
        random = touch::mix(random);
        random as usize % count
    })
}

fn each_ns(began: Instant, count: usize) -> f64 {
    began.elapsed().as_nanos() as f64 / count.max(1) as f64
}

fn space(bytes: u64, log_pages: u64) -> Result<Space, BenchError> {
    // Twice the pages, so that the limit plays no part.
    let budget = Budget { dram: 4 * bytes, ram_store: 2 * bytes, reservation: 0, limit: None, shares: 1 };
    Space::make(Terms { budget, log_pages, options: 0 })
        .map_err(|error| BenchError::Broken("RAM", crate::exit::explain(&error)))
}

/// Tests the RAM store with this many bytes of pages.
///
/// # Errors
/// When it does not take them, or does not give them back.
pub fn ram(bytes: u64) -> Result<StoreFigures, BenchError> {
    let broken = |why: String| BenchError::Broken("RAM", why);
    let space = space(bytes, 0)?;
    let store = RamStore::open(space.map(), RamParts::SPACE, space.header());
    let pages = pages(bytes);
    let mut scratch = Box::new(Scratch::new());
    let mut slots = Vec::with_capacity(pages.len());
    let began = Instant::now();
    for page in &pages {
        match store.save(&mut scratch, page, None) {
            SaveOutcome::Saved(slot) => slots.push(slot),
            refused => return Err(broken(format!("a page was not saved ({refused:?})"))),
        }
    }
    let save_ns = each_ns(began, pages.len());
    let mut out = [0; PAGE_BYTES];
    let began = Instant::now();
    for at in shuffled(pages.len()) {
        store.load(slots[at], &mut out).map_err(|error| broken(error.to_string()))?;
        if out != pages[at] {
            return Err(broken("a page came back changed".into()));
        }
    }
    let load_ns = each_ns(began, pages.len());
    let taken = store.bytes_used() + store.meta_bytes_used();
    Ok(StoreFigures {
        store: "ram",
        save_ns,
        load_ns,
        load_deep_ns: None,
        bytes_held_per_byte: bytes as f64 / taken.max(1) as f64,
    })
}

/// Tests a file store at `path` with this many bytes of pages.
///
/// # Errors
/// When the place cannot be used, or the store does not give back what it took.
pub fn log(path: &Path, bytes: u64) -> Result<StoreFigures, BenchError> {
    let broken = |why: String| BenchError::Broken("file", why);
    let file = StoreFile::open(path, Some(Size(2 * bytes))).map_err(BenchError::Store)?;
    let space = space(bytes, file.pages())?;
    let own = CString::new(format!("/proc/self/fd/{}", file.file().as_raw_fd())).expect("there is no zero byte");
    let (fd, _) = file::open_direct(&own, file::O_RDWR, 0).map_err(|errno| broken(errno.to_string()))?;
    let store = LogStore::attach(fd, space.map(), LogParts::SPACE, space.header())
        .map_err(|errno| broken(errno.to_string()))?;
    let mut writer = store.writer().map_err(|errno| broken(errno.to_string()))?;
    let pages = pages(bytes);
    let mut slots = Vec::with_capacity(pages.len());
    let began = Instant::now();
    for batch in pages.chunks(BATCH_PAGES) {
        let named: Vec<(u64, &PageBytes)> = batch.iter().map(|page| (0, page)).collect();
        slots.extend_from_slice(&writer.append(&named).map_err(|error| broken(error.to_string()))?);
    }
    let save_ns = each_ns(began, pages.len());
    // One at a time is slow on a disk: a tenth of the pages tells enough.
    let sample: Vec<usize> = shuffled(pages.len()).take(pages.len() / 10).collect();
    let mut out = [0; PAGE_BYTES];
    let began = Instant::now();
    for &at in &sample {
        store.load(slots[at], &mut out).map_err(|error| broken(error.to_string()))?;
        if out != pages[at] {
            return Err(broken("a page came back changed".into()));
        }
    }
    let load_ns = each_ns(began, sample.len());
    let began = Instant::now();
    load_many(&store, &slots, &pages)?;
    Ok(StoreFigures {
        store: "file",
        save_ns,
        load_ns,
        load_deep_ns: Some(each_ns(began, pages.len())),
        bytes_held_per_byte: bytes as f64 / store.bytes_used().max(1) as f64,
    })
}

/// Loads as many pages as there are, at random, with [`DEPTH`] under way.
fn load_many(store: &LogStore, slots: &[SlotRef], pages: &[PageBytes]) -> Result<(), BenchError> {
    let broken = |why: String| BenchError::Broken("file", why);
    let mut reader = store.reader(DEPTH, 1).map_err(|errno| broken(errno.to_string()))?;
    let mut wrong = 0;
    let mut check = |done: memvisor_store::log::ReadDone<'_>| {
        wrong += usize::from(done.page != Ok(&pages[done.token as usize]));
    };
    for at in shuffled(pages.len()) {
        while reader.pending() >= DEPTH {
            reader.wait(&mut check);
        }
        reader.submit(slots[at], at as u64).map_err(|error| broken(error.to_string()))?;
    }
    while reader.pending() > 0 {
        reader.wait(&mut check);
    }
    if wrong > 0 { Err(broken(format!("{wrong} pages did not come back true"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_which_half_is_alike_are_held_in_less_than_they_are() {
        let figures = ram(4 << 20).unwrap();
        assert!(figures.bytes_held_per_byte > 1.2, "{figures:?}");
        assert!(figures.save_ns > 0.0 && figures.load_ns > 0.0);
    }

    #[test]
    fn a_file_store_in_a_directory_takes_pages_and_gives_them_back() {
        let figures = log(&std::env::temp_dir(), 32 << 20).unwrap();
        assert!(figures.load_deep_ns.is_some() && figures.bytes_held_per_byte > 0.5, "{figures:?}");
    }
}
