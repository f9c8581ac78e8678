//! The probe tells the truth about the machine that the tests run on.

use memvisor_sys::probe::{Features, HugePages, Probe};
use memvisor_sys::uffd::{self, Uffd, Way};
use memvisor_sys::{pagemap::Pagemap, thread};

#[test]
fn the_probe_says_what_the_system_says_elsewhere() {
    let probe = Probe::run();
    println!("{probe:#?}");
    let read = |path| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    assert_eq!(probe.kernel_release, read("/proc/sys/kernel/osrelease"));
    assert_eq!(probe.max_map_count.map(|count| count.to_string()), Some(read("/proc/sys/vm/max_map_count")));
    assert_eq!(probe.overcommit_mode.map(|mode| mode.to_string()), Some(read("/proc/sys/vm/overcommit_memory")));
    assert_eq!(probe.cpus, thread::affinity(0).expect("affinity").count());
    assert_eq!(probe.page_bytes, 4096);
    assert!(probe.memory_total_bytes > 64 << 20 && probe.memory_total_bytes.is_multiple_of(1024));
    let huge_pages = read("/sys/kernel/mm/transparent_hugepage/enabled");
    assert_eq!(probe.huge_pages == HugePages::Unknown, huge_pages.is_empty());
    assert!(probe.memfd_works && probe.process_vm_readv_works);
}

#[test]
fn what_the_probe_says_works_can_be_opened() {
    let probe = Probe::run();
    assert_eq!(probe.pagemap_scan_works, Pagemap::open(None).is_ok_and(|pagemap| pagemap.has_scan()));
    assert_eq!(probe.event_fork_works, Uffd::open(uffd::FEATURE_EVENT_FORK).is_ok());
    let Some(way) = probe.uffd else {
        assert_eq!(probe.features, Features::default());
        assert!(!probe.move_works && !probe.event_fork_works);
        return println!("CANNOT RUN in full: no userfaultfd here");
    };
    if way == Way::UserModeOnly {
        assert!(Uffd::open(0).is_err());
        return println!("CANNOT RUN in full: userfaultfd for user mode only");
    }
    assert!(Uffd::open(0).is_ok());
    assert_eq!(Ok(probe.features.bits), Uffd::available_features());
    assert_eq!(probe.move_works, probe.features.move_pages);
}

#[test]
fn each_feature_has_its_own_bit() {
    let decoded = |bits| {
        let features = Features::from_bits(bits);
        [
            features.wp,
            features.event_fork,
            features.event_remap,
            features.event_remove,
            features.event_unmap,
            features.sigbus,
            features.thread_id,
            features.wp_unpopulated,
            features.poison,
            features.wp_async,
            features.move_pages,
        ]
    };
    for (at, bit) in [0, 1, 2, 3, 6, 7, 8, 13, 14, 15, 16].into_iter().enumerate() {
        let mut expected = [false; 11];
        expected[at] = true;
        assert_eq!(decoded(1 << bit), expected, "bit {bit}");
    }
    assert_eq!(decoded(0x1ffff), [true; 11]);
}
