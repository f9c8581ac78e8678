//! Page maps against the kernel.

mod common;

use common::{Child, Random, pattern};
use memvisor_sys::PAGE_BYTES;
use memvisor_sys::memory::Staging;
use memvisor_sys::pagemap::Pagemap;
use memvisor_sys::{errno, process};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    Absent,
    Zero,
    Present,
}

fn seen(pagemap: &Pagemap, area: &Staging) -> Vec<Seen> {
    let mut pages = vec![Seen::Absent; area.pages() as usize];
    let mut before = area.base();
    let end = area.base() + area.len_bytes();
    let scanned = pagemap.present_runs(area.base(), end, |run_start, run_end, zero_page| {
        assert!(before <= run_start && run_start < run_end && run_end <= end, "runs rise and stay inside");
        before = run_end;
        let first = (run_start - area.base()) / PAGE_BYTES;
        let count = (run_end - run_start) / PAGE_BYTES;
        pages[first..first + count].fill(if zero_page { Seen::Zero } else { Seen::Present });
    });
    scanned.expect("the area is of whole pages");
    pages
}

fn means() -> Vec<Pagemap> {
    let scan = Pagemap::open(None).expect("own page map");
    if !scan.has_scan() {
        println!("CANNOT RUN in full: this kernel has no PAGEMAP_SCAN, the entries alone are tested");
    }
    vec![
        scan,
        Pagemap::open_without_scan(None).expect("own page map"),
        Pagemap::open(Some(process::getpid())).expect("own page map by number"),
    ]
}

/// Whether this process may see frame numbers: without them the entries do not tell zero pages.
fn sees_frames(pagemap: &Pagemap) -> bool {
    let area = Staging::new(1).expect("memory");
    area.read_frame(0, &mut [0; PAGE_BYTES]);
    seen(pagemap, &area) == [Seen::Zero]
}

#[test]
fn scan_and_entries_find_what_was_touched_at_random() {
    let _forks = common::unforked();
    let mut random = Random::new();
    for pages in [1, 7, 512, 513, 3000] {
        let area = Staging::new(pages).expect("memory");
        let mut truth = vec![Seen::Absent; pages as usize];
        // Dense and sparse stretches, so that runs are long and short and more than one scan's worth.
        let mut density = 1;
        for at in 0..pages {
            if random.below(100) == 0 {
                density = 1 + random.below(8);
            }
            if random.below(density) == 0 {
                truth[at as usize] = Seen::Present;
                area.write_frame(at, &pattern(at.into()));
            } else if random.below(4) == 0 {
                truth[at as usize] = Seen::Zero;
                area.read_frame(at, &mut [0; PAGE_BYTES]);
            }
        }
        for pagemap in means() {
            let mut expected = truth.clone();
            if !sees_frames(&pagemap) {
                println!("CANNOT RUN in full: no privilege to tell zero pages by entries");
                expected.iter_mut().filter(|page| **page == Seen::Zero).for_each(|page| *page = Seen::Present);
            }
            assert_eq!(seen(&pagemap, &area), expected);
        }
    }
}

#[test]
fn a_dropped_frame_is_present_no_more() {
    let _forks = common::unforked();
    let area = Staging::new(5).expect("memory");
    (0..5).for_each(|at| area.write_frame(at, &pattern(1)));
    area.drop_frames(1, 3);
    area.drop_frames(4, 0);
    for pagemap in means() {
        let expected = [Seen::Present, Seen::Absent, Seen::Absent, Seen::Absent, Seen::Present];
        assert_eq!(seen(&pagemap, &area), expected);
        assert_eq!(pagemap.present(area.address(0)), Ok(true));
        assert_eq!(pagemap.present(area.address(1)), Ok(false));
    }
}

#[test]
fn a_page_is_exclusive_until_a_child_shares_it() {
    let _forks = common::alone();
    let area = Staging::new(1).expect("memory");
    let pagemap = Pagemap::open(None).expect("own page map");
    assert_eq!(pagemap.exclusively_mapped(area.base()), Ok(false), "a page that is not there is nobody's");
    area.write_frame(0, &pattern(1));
    assert_eq!(pagemap.exclusively_mapped(area.base()), Ok(true));
    let child = Child::fork(common::sleep_for_ever);
    assert_eq!(pagemap.exclusively_mapped(area.base()), Ok(false));
    drop(child);
    assert_eq!(pagemap.exclusively_mapped(area.base()), Ok(true));
}

#[test]
fn a_childs_pages_are_seen_in_its_own_map() {
    let _forks = common::alone();
    let area = Staging::new(3).expect("memory");
    area.write_frame(0, &pattern(1));
    let child = Child::fork(common::sleep_for_ever);
    area.drop_frames(0, 1);
    area.write_frame(2, &pattern(1));
    let of_child = Pagemap::open(Some(child.pid())).expect("the child's page map");
    assert_eq!(seen(&of_child, &area), [Seen::Present, Seen::Absent, Seen::Absent]);
    let own = Pagemap::open(None).expect("own page map");
    assert_eq!(seen(&own, &area), [Seen::Absent, Seen::Absent, Seen::Present]);
}

#[test]
fn a_range_that_is_not_of_whole_pages_is_refused() {
    let _forks = common::unforked();
    for pagemap in means() {
        for (start, end) in [(1, PAGE_BYTES), (0, PAGE_BYTES + 1), (2 * PAGE_BYTES, PAGE_BYTES)] {
            let refused = pagemap.present_runs(start, end, |_, _, _| panic!("nothing was asked"));
            assert_eq!(refused, Err(errno::EINVAL));
        }
        assert_eq!(pagemap.present_runs(PAGE_BYTES, PAGE_BYTES, |_, _, _| panic!("nothing was asked")), Ok(()));
    }
}

#[test]
fn a_process_that_is_not_there_has_no_page_map() {
    let _forks = common::unforked();
    assert!(matches!(Pagemap::open(Some(u32::MAX)), Err(errno::ENOENT)));
}
