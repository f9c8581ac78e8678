//! The log under the suite, and what is its own: cleaning, scanning, requests under way, what a crash leaves.

mod suite;

use memvisor_core::{Page, PageWord};
use memvisor_proto::segment::{SEGMENT_BYTES, SEGMENT_DATA_PAGES, SEGMENT_PAGES};
use memvisor_store::log::{AppendError, BATCH_PAGES, LogParts, LogStore};
use memvisor_store::{LoadError, PageBytes, SlotRef, Why};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use suite::subjects::{Log, log, log_at};
use suite::{Model, Random, Subject, seed, slot_of, space};

#[test]
fn what_is_stored_comes_back_true() {
    // The segment that the writer has open cannot be given back.
    suite::what_is_stored_comes_back_true(log(64), 3000, 12_000, SEGMENT_BYTES as u64);
}

#[test]
fn what_is_stored_comes_back_true_without_io_uring() {
    suite::what_is_stored_comes_back_true(log(64).without_ring(), 3000, 6_000, SEGMENT_BYTES as u64);
}

#[test]
fn what_is_stored_comes_back_true_in_a_log_that_is_always_full() {
    suite::what_is_stored_comes_back_true(log(6), 1200, 12_000, SEGMENT_BYTES as u64);
}

#[test]
fn what_is_stored_comes_back_true_where_direct_io_is_not_possible() {
    if !Path::new("/dev/shm").is_dir() {
        println!("not run: no /dev/shm");
        return;
    }
    suite::what_is_stored_comes_back_true(log_at(Path::new("/dev/shm"), 16), 1000, 6_000, SEGMENT_BYTES as u64);
}

fn random_page(random: &mut Random) -> PageBytes {
    let mut page = [0; 4096];
    page.as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = random.next().to_le_bytes());
    page
}

/// Appends `pages` pages, owned by their numbers, and gives them and their slots.
fn fill_log(log: &mut Log, pages: usize, random: &mut Random) -> (Vec<PageBytes>, Vec<SlotRef>) {
    let pages: Vec<_> = (0..pages).map(|_| random_page(random)).collect();
    let mut slots = Vec::new();
    for (number, batch) in pages.chunks(BATCH_PAGES).enumerate() {
        let first = number * BATCH_PAGES;
        let batch: Vec<_> = batch.iter().enumerate().map(|(at, page)| ((first + at) as u64, page)).collect();
        slots.extend_from_slice(&log.writer.append(&batch).expect("room"));
    }
    (pages, slots)
}

#[test]
fn many_requests_are_under_way_at_once_and_each_gets_its_own_page() {
    for mut log in [log(8), log(8).without_ring()] {
        let (pages, slots) = fill_log(&mut log, 600, &mut Random(seed()));
        let (mut next, mut seen) = (0, 0);
        while seen < pages.len() {
            while next < pages.len() {
                // Runs that end with a segment, at most as long as the reader's.
                let SlotRef::Log(page) = slots[next] else { panic!() };
                let run = (SEGMENT_PAGES - page as usize % SEGMENT_PAGES).min(16).min(pages.len() - next);
                match log.reader.submit_run(slots[next], run, next as u64) {
                    Ok(()) => next += run,
                    Err(LoadError::Busy) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            log.reader.wait(|done| {
                let at = slots.iter().position(|slot| *slot == done.slot).unwrap();
                assert!((done.token as usize..done.token as usize + 16).contains(&at));
                assert!(*done.page.unwrap() == pages[at], "page {at}");
                seen += 1;
            });
        }
        assert_eq!((seen, log.reader.pending()), (600, 0));
    }
}

#[test]
fn a_run_over_pages_that_are_nobodys_tells_which_they_are() {
    let mut log = log(8);
    let (pages, slots) = fill_log(&mut log, 16, &mut Random(seed()));
    log.store.release(slots[5]);
    log.reader.submit_run(slots[0], 16, 1).unwrap();
    let mut at = 0;
    log.reader.wait(|done| {
        match done.page {
            Ok(page) => assert!(*page == pages[at] && at != 5),
            Err(error) => {
                assert!(at == 5 && matches!(error, LoadError::Lost { why: Why::BadSlot, store: "log", .. }), "{error}")
            }
        }
        at += 1;
    });
    assert_eq!(at, 16);
}

#[test]
fn a_reader_can_be_polled() {
    let mut log = log(8);
    let (pages, slots) = fill_log(&mut log, 1, &mut Random(seed()));
    let Some(fd) = log.reader.fd() else {
        println!("not run: no io_uring here");
        return;
    };
    log.reader.submit(slots[0], 1).unwrap();
    let mut poll = [memvisor_sys::poll::PollFd::readable(fd)];
    assert_eq!(memvisor_sys::poll::poll(&mut poll, 10_000), Ok(1));
    assert_eq!(log.reader.complete(|done| assert!(*done.page.unwrap() == pages[0])), 1);
}

#[test]
fn a_reader_that_is_dropped_lets_the_kernel_finish_first() {
    let mut log = log(8);
    let (_, slots) = fill_log(&mut log, 200, &mut Random(seed()));
    for _ in 0..50 {
        let mut reader = log.store.reader(8, 16).unwrap();
        (0..8).for_each(|at| reader.submit_run(slots[at * 16], 16, 0).unwrap());
    }
}

#[test]
fn cleaning_gives_the_blocks_of_sparse_segments_back() {
    let mut log = log(32);
    let mut random = Random(seed());
    let (pages, slots) = fill_log(&mut log, SEGMENT_DATA_PAGES * 20, &mut random);
    let mut model = Model::new(pages.len(), 1);
    for at in 0..pages.len() {
        if random.below(4) == 0 {
            model.words[at].store(PageWord::new(Page::Stored(slots[at]), 0, 0).0, Ordering::Relaxed);
            model.truth[at] = Some(pages[at]);
        } else {
            log.store.release(slots[at]);
        }
    }
    let blocks = |log: &Log| log.file().metadata().unwrap().blocks() * 512;
    let before = blocks(&log);
    assert_eq!(log.store.bytes_used(), 20 * SEGMENT_BYTES as u64);
    (0..6).for_each(|_| log.compact(&model.words));
    let live = model.truth.iter().flatten().count();
    let after = log.store.bytes_used() as usize / SEGMENT_BYTES;
    assert!(after <= live * 4 / 3 / SEGMENT_DATA_PAGES + 8, "{after} segments for {live} pages");
    assert!(blocks(&log) < before / 2, "the file system got nothing back: {before} {}", blocks(&log));
    model.check_all(&mut log);
}

#[test]
fn a_page_shared_by_several_words_is_moved_once() {
    let mut log = log(8);
    let (pages, slots) = fill_log(&mut log, SEGMENT_DATA_PAGES, &mut Random(seed()));
    slots[3..].iter().for_each(|slot| log.store.release(*slot));
    let words: Vec<_> = (0..12)
        .map(|at| {
            if at >= 3 {
                log.store.retain(slots[at % 3]).unwrap();
            }
            AtomicU64::new(PageWord::new(Page::Stored(slots[at % 3]), 0, 0).0)
        })
        .collect();
    assert_eq!(log.store.pick_victims(9), (1, 3));
    let mut cleaner = log.store.cleaner().unwrap();
    let done = log.store.clean(&mut cleaner, words.iter().map(|word| (0, word)));
    assert_eq!((done.words, done.pages), (12, 3));
    assert_eq!(log.store.punch_empty(9), 1);
    for (at, word) in words.iter().enumerate() {
        let mut out = [0; 4096];
        log.store.load(slot_of(word), &mut out).unwrap();
        assert!(out == pages[at % 3]);
        assert_eq!(log.store.owners(slot_of(word)), 4);
    }
}

#[test]
fn a_full_log_says_so_and_takes_pages_again_when_some_are_freed() {
    let mut log = log(5);
    let mut random = Random(seed());
    let mut slots = Vec::new();
    loop {
        match log.writer.append(&[(1, &random_page(&mut random))]) {
            Ok(slot) => slots.push(slot[0]),
            Err(AppendError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    // Two segments are kept for cleaning.
    assert_eq!(slots.len(), 3 * SEGMENT_DATA_PAGES);
    slots[..SEGMENT_DATA_PAGES].iter().for_each(|slot| log.store.release(*slot));
    assert!(log.writer.append(&[(1, &random_page(&mut random))]).is_ok());
}

/// The log as another process would find it that has lost all words: the file is all there is.
fn after_the_crash(log: &Log) -> Log {
    let segments = log.parts().meta_bytes;
    let space = space(0, 0, segments);
    space.header().id_low().store(11, Ordering::Relaxed);
    let pages = log.space.header().log_pages().load(Ordering::Relaxed);
    space.header().log_pages().store(pages, Ordering::Relaxed);
    let path = std::ffi::CString::new(format!("/proc/self/fd/{}", log.store.fd())).unwrap();
    let (fd, _) = memvisor_sys::file::open_direct(&path, memvisor_sys::file::O_RDWR, 0).unwrap();
    let parts = LogParts { meta: space.log_meta, meta_bytes: segments };
    let store = LogStore::attach(fd, space.map, parts, space.header()).unwrap();
    let (writer, reader) = (store.writer().unwrap(), store.reader(8, 16).unwrap());
    Log { store, writer, reader, space, is_faulty: false }
}

#[test]
fn a_scan_finds_the_newest_page_of_each_owner() {
    let mut log = log(16);
    let mut random = Random(seed());
    let (mut pages, _) = fill_log(&mut log, 1000, &mut random);
    let (newer, _) = fill_log(&mut log, 300, &mut random);
    pages[..300].copy_from_slice(&newer);
    log.writer.seal().unwrap();
    // Not sealed: nobody knows whose they are.
    fill_log(&mut log, 20, &mut random);

    let mut found = after_the_crash(&log);
    let report = found.store.rebuild_index().unwrap();
    assert_eq!((report.pages.len(), report.lost.len()), (1000, 0));
    assert_eq!((report.segments, report.ignored), (6, 10));
    let mut out = [0; 4096];
    for (at, page) in report.pages.iter().enumerate() {
        assert_eq!(page.owner, at as u64);
        found.store.load(page.slot, &mut out).unwrap();
        assert!(out == pages[at], "page {at}");
    }
    assert_eq!(found.store.pages_used(), 1000);
    // What is written from now on is newer.
    let (newest, _) = fill_log(&mut found, 10, &mut random);
    found.writer.seal().unwrap();
    let last = after_the_crash(&found);
    let report = last.store.rebuild_index().unwrap();
    for (page, indexed) in newest.iter().zip(&report.pages) {
        last.store.load(indexed.slot, &mut out).unwrap();
        assert!(out == *page);
    }
}

#[test]
fn a_scan_takes_no_torn_page_and_no_torn_header_for_true() {
    let mut log = log(8);
    let mut random = Random(seed());
    let (pages, slots) = fill_log(&mut log, SEGMENT_DATA_PAGES * 3, &mut random);
    let file = log.file();
    // The header of the last segment is torn, and a page of the first.
    file.write_at(&[0; 512], (2 * SEGMENT_BYTES + 1024) as u64).unwrap();
    let SlotRef::Log(torn) = slots[17] else { panic!() };
    file.write_at(&[0; 512], torn * 4096 + 2048).unwrap();
    let found = after_the_crash(&log);
    let report = found.store.rebuild_index().unwrap();
    assert_eq!((report.segments, report.lost), (2, vec![17]));
    assert_eq!(report.pages.len(), SEGMENT_DATA_PAGES * 2 - 1);
    let mut out = [0; 4096];
    for page in &report.pages {
        found.store.load(page.slot, &mut out).unwrap();
        assert!(out == pages[page.owner as usize]);
    }
    // The log of another space is not ours.
    let stranger = after_the_crash(&log);
    stranger.space.header().id_low().store(12, Ordering::Relaxed);
    let path = std::ffi::CString::new(format!("/proc/self/fd/{}", log.store.fd())).unwrap();
    let (fd, _) = memvisor_sys::file::open_direct(&path, memvisor_sys::file::O_RDWR, 0).unwrap();
    let stranger = LogStore::attach(fd, stranger.space.map, stranger.parts(), stranger.space.header()).unwrap();
    assert_eq!(stranger.rebuild_index().unwrap().segments, 0);
}

#[test]
fn a_flipped_bit_on_the_medium_is_found() {
    let mut log = log(8);
    let mut random = Random(seed());
    let (_, slots) = fill_log(&mut log, 10, &mut random);
    let file = log.file();
    let SlotRef::Log(page) = slots[4] else { panic!() };
    let mut byte = [0];
    let at = page * 4096 + random.below(4096) as u64;
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 4], at).unwrap();
    let mut out = [0; 4096];
    for first in [0, 1] {
        out[0] = first;
        let result = log.load(slots[4], &mut out);
        assert!(matches!(result, Err(LoadError::Lost { why: Why::Checksum, .. })), "{result:?}");
    }
    for at in [3, 5] {
        log.load(slots[at], &mut out).unwrap();
    }
}

#[test]
fn no_slot_and_no_word_of_the_log_makes_it_panic() {
    let mut log = log(8);
    let mut random = Random(seed());
    let (_, slots) = fill_log(&mut log, 300, &mut random);
    let words = log.space.map.words(log.space.log_meta, log.parts().meta_bytes / 8);
    let mut out = [0; 4096];
    for round in 0..4000 {
        let wild = SlotRef::unpack(random.next() & ((1 << 40) - 1));
        let near = SlotRef::Log(random.below(9 * SEGMENT_PAGES) as u64);
        for slot in [wild, near, slots[random.below(300)]] {
            let _ = log.load(slot, &mut out);
            let _ = log.store.retain(slot);
            log.store.release(slot);
        }
        words[random.below(600)].store(random.next(), Ordering::Relaxed);
        let _ = log.writer.append(&[(1, &out)]);
        if round % 64 == 0 {
            log.store.pick_victims(4);
            log.store.punch_empty(4);
            log.store.recover(|_| false);
            log.store.rebuild([wild, near]);
        }
    }
}
