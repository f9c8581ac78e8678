//! Mappings, staging and shared memory against the kernel.

mod common;

use common::{Child, pattern};
use memvisor_sys::maps::{for_each_mapping, smaps_rollup};
use memvisor_sys::memory::{self, *};
use memvisor_sys::pagemap::Pagemap;
use memvisor_sys::shared::{SharedFile, SharedMap};
use memvisor_sys::{PAGE_BYTES, errno, process};
use std::sync::atomic::Ordering;

/// Reads a byte the way a debugger would: where it cannot be read this is an error, not a signal.
fn byte_at(address: usize) -> memvisor_sys::Result<u8> {
    let mut out = [0];
    process::read_from(process::getpid(), &[(address, 1)], &mut out).map(|_| out[0])
}

/// Runs steps in a forked child, where no other thread can map what was just unmapped. The first step that is false is
/// named by its number.
fn in_a_child(steps: impl FnOnce(&mut dyn FnMut(bool))) {
    let child = Child::fork(|| {
        let (mut number, mut failed) = (0, 0);
        steps(&mut |true_step| {
            number += 1;
            failed = if failed == 0 && !true_step { number } else { failed };
        });
        failed
    });
    let failed = child.exit_code();
    assert_eq!(failed, 0, "step {failed} (counted from 1) is not true");
}

#[test]
fn memory_is_mapped_protected_moved_and_unmapped() {
    let _forks = common::alone();
    in_a_child(|step| {
        let at = map_anonymous(2 * PAGE_BYTES).unwrap_or(0);
        step(at != 0 && byte_at(at) == Ok(0));
        // SAFETY: the byte was mapped above.
        unsafe { (at as *mut u8).write_volatile(42) };
        // SAFETY: nothing refers to the range.
        step(unsafe { protect(at, PAGE_BYTES, PROT_NONE) } == Ok(()));
        step(byte_at(at) == Err(errno::EFAULT));
        // SAFETY: as above.
        step(unsafe { protect(at, PAGE_BYTES, PROT_READ) } == Ok(()));
        step(byte_at(at) == Ok(42));
        // SAFETY: nothing refers to the range.
        let moved = unsafe { remap(at, PAGE_BYTES, 4 * PAGE_BYTES, MREMAP_MAYMOVE, 0) }.unwrap_or(0);
        step(moved != 0 && moved != at);
        step(byte_at(moved) == Ok(42) && byte_at(at) == Err(errno::EFAULT));
        for (start, len) in [(moved, 4 * PAGE_BYTES), (at + PAGE_BYTES, PAGE_BYTES)] {
            // SAFETY: nothing refers to the range.
            step(unsafe { unmap(start, len) } == Ok(()));
            step(byte_at(start) == Err(errno::EFAULT));
        }
        // SAFETY: the kernel refuses it.
        step(unsafe { advise(at, PAGE_BYTES, MADV_DONTNEED) } == Err(errno::ENOMEM));
    });
}

#[test]
fn a_dropped_staging_area_is_unmapped() {
    let _forks = common::alone();
    in_a_child(|step| {
        let Ok(staging) = Staging::new(8) else { return step(false) };
        let (first, last) = (staging.base(), staging.address(7));
        step(byte_at(first) == Ok(0) && byte_at(last) == Ok(0));
        drop(staging);
        step(byte_at(first) == Err(errno::EFAULT) && byte_at(last) == Err(errno::EFAULT));
    });
}

#[test]
fn a_staging_frame_keeps_what_is_written_until_it_is_dropped() {
    let staging = Staging::new(8).expect("memory");
    (0..8).for_each(|at| staging.write_frame(at, &pattern(at.into())));
    staging.drop_frames(2, 2);
    for at in 0..8 {
        let mut read = [1; PAGE_BYTES];
        staging.read_frame(at, &mut read);
        let expected = if (2..4).contains(&at) { [0; PAGE_BYTES] } else { pattern(at.into()) };
        assert!(read == expected && *staging.frame_bytes(at) == expected, "frame {at}");
        assert_eq!(staging.frame(at) as usize, staging.base() + at as usize * PAGE_BYTES);
    }
}

#[test]
#[should_panic(expected = "frame 8 of a staging area of 8")]
fn a_frame_beyond_the_staging_area_is_a_panic() {
    Staging::new(8).expect("memory").frame(8);
}

#[test]
#[should_panic(expected = "frames 7+2")]
fn dropping_frames_beyond_the_staging_area_is_a_panic() {
    Staging::new(8).expect("memory").drop_frames(7, 2);
}

#[test]
#[should_panic(expected = "frames 1+4294967295")]
fn dropping_more_frames_than_numbers_is_a_panic() {
    Staging::new(8).expect("memory").drop_frames(1, u32::MAX);
}

fn shared(len: usize) -> (SharedFile, SharedMap) {
    let file = SharedFile::create(c"memvisor-test", len as u64).expect("a memory file");
    let map = file.map(len).expect("a mapping");
    (file, map)
}

#[test]
fn two_mappings_and_a_child_see_the_same_words() {
    let _forks = common::alone();
    let (file, first) = shared(1 << 20);
    let second = SharedFile::from_fd(file.as_fd().duplicate_from(0).expect("a descriptor").into_raw());
    let second = second.map(1 << 20).expect("a mapping, after which the descriptor is closed");
    first.words(4096, 2)[1].store(7, Ordering::SeqCst);
    assert_eq!(second.words(4104, 1)[0].load(Ordering::SeqCst), 7);
    let child = Child::fork(|| {
        second.words(0, 1)[0].store(9, Ordering::SeqCst);
        0
    });
    assert_eq!(child.exit_code(), 0);
    assert_eq!(first.words(0, 1)[0].load(Ordering::SeqCst), 9);
    assert_ne!(first.base(), second.base());
}

#[test]
fn a_file_is_mapped_from_the_offset_that_was_asked_for() {
    let (file, whole) = shared(4 * PAGE_BYTES);
    whole.words(2 * PAGE_BYTES, 1)[0].store(u64::from_le_bytes([6; 8]), Ordering::SeqCst);
    // SAFETY: without MAP_FIXED the kernel chooses a range that nobody has.
    let at = unsafe { map(0, PAGE_BYTES, PROT_READ, MAP_SHARED, file.fd(), 2 * PAGE_BYTES as u64) }.expect("a mapping");
    assert_eq!(byte_at(at), Ok(6));
    // SAFETY: nothing refers to the range.
    unsafe { unmap(at, PAGE_BYTES) }.expect("unmap");
}

#[test]
fn a_shared_file_is_opened_by_the_path_of_its_descriptor() {
    let (file, map) = shared(PAGE_BYTES);
    map.words(0, 1)[0].store(5, Ordering::SeqCst);
    let path = std::ffi::CString::new(format!("/proc/self/fd/{}", file.fd())).expect("no zero byte");
    let again = SharedFile::open(&path).expect("the same file").map(PAGE_BYTES).expect("a mapping");
    assert_eq!(again.words(0, 1)[0].load(Ordering::SeqCst), 5);
}

#[test]
fn a_shared_file_costs_what_was_touched_and_a_hole_gives_it_back() {
    const TIB: usize = 1 << 40;
    let (file, map) = shared(TIB);
    assert_eq!(map.len(), TIB);
    assert_eq!(file.resident_bytes(), Ok(0));
    for page in 0..16 {
        map.words(TIB - (page + 1) * PAGE_BYTES, 1)[0].store(1, Ordering::Relaxed);
    }
    assert_eq!(file.resident_bytes(), Ok(16 * PAGE_BYTES as u64));
    map.punch(TIB - 4 * PAGE_BYTES, 4 * PAGE_BYTES).expect("punch by the map");
    assert_eq!(file.resident_bytes(), Ok(12 * PAGE_BYTES as u64));
    file.punch((TIB - 8 * PAGE_BYTES) as u64, 4 * PAGE_BYTES as u64).expect("punch by the file");
    assert_eq!(file.resident_bytes(), Ok(8 * PAGE_BYTES as u64));
    assert_eq!(map.words(TIB - PAGE_BYTES, 1)[0].load(Ordering::Relaxed), 0);
    assert_eq!(map.words(TIB - 9 * PAGE_BYTES, 1)[0].load(Ordering::Relaxed), 1);
    map.set_dontdump().expect("advice");
}

#[test]
fn a_shared_file_cannot_lose_its_end() {
    let (file, _) = shared(2 * PAGE_BYTES);
    assert_eq!(file.as_fd().truncate(PAGE_BYTES as u64), Err(errno::EPERM));
    assert!(matches!(file.map(3 * PAGE_BYTES), Err(errno::EINVAL)));
}

#[test]
#[should_panic(expected = "8 bytes at 4096 of a shared map of 4096")]
fn words_beyond_the_map_are_a_panic() {
    shared(PAGE_BYTES).1.words(PAGE_BYTES, 1);
}

#[test]
#[should_panic(expected = "of a shared map of 4096")]
fn more_words_than_addresses_are_a_panic() {
    shared(PAGE_BYTES).1.words(8, usize::MAX / 4);
}

#[test]
#[should_panic(expected = "words at 4, which is not a multiple of 8")]
fn words_between_words_are_a_panic() {
    shared(PAGE_BYTES).1.words(4, 1);
}

#[test]
fn a_page_that_was_populated_is_no_childs_and_a_dropped_one_is_nobodys() {
    let _forks = common::alone();
    let staging = Staging::new(2).expect("memory");
    (0..2).for_each(|at| staging.write_frame(at, &pattern(at.into())));
    let _child = Child::fork(common::sleep_for_ever);
    populate_write(staging.base(), PAGE_BYTES).expect("populate");
    drop_pages(staging.address(1), PAGE_BYTES).expect("drop");
    let pagemap = Pagemap::open(None).expect("own page map");
    assert_eq!(pagemap.exclusively_mapped(staging.base()), Ok(true));
    assert_eq!(*staging.frame_bytes(0), pattern(0));
    assert_eq!(pagemap.present(staging.address(1)), Ok(false));
    assert_eq!(*staging.frame_bytes(1), [0; PAGE_BYTES]);
}

/// What a mapping of ours should look like.
fn found(address: usize, buffer: &mut [u8]) -> Vec<(usize, usize, [bool; 4], Vec<u8>)> {
    let mut found = Vec::new();
    for_each_mapping(None, buffer, |mapping| {
        if (mapping.start..mapping.end).contains(&address) {
            let flags = [mapping.read, mapping.write, mapping.exec, mapping.shared];
            found.push((mapping.start, mapping.len_bytes(), flags, mapping.path.to_vec()));
        }
    })
    .expect("own mappings");
    found
}

#[test]
fn own_mappings_are_found_whatever_the_buffer() {
    // Longer than the smallest buffer, so that its line is cut.
    let name = std::ffi::CString::new(vec![b'n'; 240]).expect("no zero byte");
    let file = SharedFile::create(&name, 3 * PAGE_BYTES as u64).expect("a memory file");
    let map = file.map(3 * PAGE_BYTES).expect("a mapping");
    let wall = map_anonymous(3 * PAGE_BYTES).expect("memory");
    // SAFETY: nothing refers to the page.
    unsafe { protect(wall + PAGE_BYTES, PAGE_BYTES, PROT_NONE) }.expect("protect");

    for bytes in [memvisor_sys::maps::BUFFER_BYTES_MIN, 257, 300, 1000, 65536] {
        let mut buffer = vec![0; bytes];
        let of_file = found(map.base() as usize, &mut buffer);
        let [(start, len, flags, path)] = &of_file[..] else { panic!("{of_file:?} is not one mapping") };
        assert_eq!((*start, *len), (map.base() as usize, 3 * PAGE_BYTES));
        assert_eq!(*flags, [true, true, false, true]);
        assert!(path.starts_with(b"/memfd:nnn"), "{}", String::from_utf8_lossy(path));
        assert!(bytes < 400 || path.ends_with(b"nnn (deleted)"));

        let of_wall = found(wall + PAGE_BYTES, &mut buffer);
        assert_eq!(of_wall, [(wall + PAGE_BYTES, PAGE_BYTES, [false; 4], Vec::new())]);
    }
    let refused = for_each_mapping(None, &mut [0; 255], |_| panic!("nothing can be read"));
    assert_eq!(refused, Err(errno::EINVAL));
}

#[test]
fn the_mappings_of_a_child_are_read_by_its_number() {
    let _forks = common::alone();
    let at = map_anonymous(5 * PAGE_BYTES).expect("memory");
    let child = Child::fork(common::sleep_for_ever);
    // SAFETY: nothing refers to the range.
    unsafe { unmap(at, 5 * PAGE_BYTES) }.expect("unmap");
    let mut holds = false;
    for_each_mapping(Some(child.pid()), &mut [0; 4096], |mapping| {
        holds |= mapping.start <= at && at + 5 * PAGE_BYTES <= mapping.end && mapping.inode == 0;
    })
    .expect("the child's mappings");
    assert!(holds);
    let missing = for_each_mapping(Some(u32::MAX), &mut [0; 4096], |_| {});
    assert_eq!(missing, Err(errno::ENOENT));
}

#[test]
fn touched_memory_is_in_the_sums() {
    const PAGES: u32 = 4096;
    const BYTES: u64 = PAGES as u64 * PAGE_BYTES as u64;
    let before = smaps_rollup(None).expect("own sums");
    let area = Staging::new(PAGES).expect("memory");
    (0..PAGES).for_each(|at| area.write_frame(at, &[1; PAGE_BYTES]));
    let (_file, map) = shared(BYTES as usize);
    (0..PAGES as usize).for_each(|at| map.words(at * PAGE_BYTES, 1)[0].store(1, Ordering::Relaxed));
    let after = smaps_rollup(Some(process::getpid())).expect("own sums");
    assert!(after.anonymous >= BYTES && after.pss_anon >= BYTES && after.private_dirty >= BYTES, "{after:?}");
    assert!(after.pss_shmem >= BYTES, "{after:?}");
    assert!(after.rss >= after.anonymous + BYTES, "{after:?}");
    // Other tests map and unmap some hundred KiB meanwhile.
    let grown = after.rss.saturating_sub(before.rss);
    assert!((BYTES * 2 * 9 / 10..BYTES * 2 * 11 / 10).contains(&grown), "grown by {grown}");
    assert_eq!(smaps_rollup(Some(u32::MAX)), Err(errno::ENOENT));
}

#[test]
fn a_named_range_shows_its_name() {
    let at = map_anonymous(PAGE_BYTES).expect("memory");
    match memory::set_name(at, PAGE_BYTES, c"memvisor test") {
        Ok(()) => assert_eq!(found(at, &mut [0; 4096])[0].3, b"[anon:memvisor test]"),
        Err(errno) => println!("CANNOT RUN: this kernel names no anonymous memory: {errno}"),
    }
}
