//! What is marked hot does not allocate: a program may wait inside its own allocator while it runs.
//!
//! One test in a file of its own, because the allocator is the whole program's.

mod common;

use memvisor_sys::futex::FutexWord;
use memvisor_sys::maps::for_each_mapping;
use memvisor_sys::memory::{self, Staging};
use memvisor_sys::pagemap::Pagemap;
use memvisor_sys::poll::{PollFd, poll};
use memvisor_sys::shared::SharedFile;
use memvisor_sys::uffd::*;
use memvisor_sys::{PAGE_BYTES, clock, file, process, thread};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Counts what the watched thread asks for, and passes it on.
struct Counting;

static WATCHED: AtomicU32 = AtomicU32::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

// SAFETY: all of it is the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if WATCHED.load(Ordering::Relaxed) == thread::gettid() {
            COUNT.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_in(body: impl FnOnce()) -> u64 {
    COUNT.store(0, Ordering::Relaxed);
    WATCHED.store(thread::gettid(), Ordering::Relaxed);
    body();
    WATCHED.store(0, Ordering::Relaxed);
    COUNT.load(Ordering::Relaxed)
}

#[test]
fn nothing_hot_allocates() {
    assert_eq!(allocations_in(|| drop(std::hint::black_box(Box::new(1)))), 1, "the count counts");

    let file = SharedFile::create(c"memvisor-test", 1 << 20).expect("a memory file");
    let map = file.map(1 << 20).expect("a mapping");
    let (area, staging) = (Staging::new(64).expect("memory"), Staging::new(64).expect("memory"));
    let mut out = vec![0; 64 * PAGE_BYTES];
    let mut text = vec![0; 4096];
    let mut runs = 0;
    let mut mappings = 0;
    let count = allocations_in(|| {
        let ranges = [(area.base(), PAGE_BYTES); 64];
        (0..64).for_each(|at| area.write_frame(at, &[1; PAGE_BYTES]));
        assert_eq!(process::read_from(process::getpid(), &ranges, &mut out), Ok(out.len()));
        for pagemap in [Pagemap::open(None), Pagemap::open_without_scan(None)] {
            let pagemap = pagemap.expect("own page map");
            let end = area.base() + area.len_bytes();
            pagemap.present_runs(area.base(), end, |_, _, _| runs += 1).expect("runs");
            assert_eq!(pagemap.present(area.base()), Ok(true));
        }
        for_each_mapping(None, &mut text, |_| mappings += 1).expect("own mappings");
        let word = &map.words(0, 1)[0];
        FutexWord(word).wait(0, Some(1)).expect("wait");
        FutexWord(word).wake(1).expect("wake");
        map.punch(0, PAGE_BYTES).expect("punch");
        poll(&mut [PollFd::readable(file.fd())], 0).expect("poll");
        clock::now_ns();
        thread::last_cpu_of(process::getpid(), thread::gettid()).expect("the CPU");
        thread::pin(0, thread::current_cpu()).expect("pin");
        thread::block_all_signals().restore();
        process::start_ticks(process::getpid()).expect("start");
        file::open(c"/proc/self/status", file::O_RDONLY, 0).expect("a file").pread(&mut text, 0).expect("text");
        // SAFETY: nothing refers to the range.
        unsafe { memory::unmap(memory::map_anonymous(PAGE_BYTES).expect("memory"), PAGE_BYTES) }.expect("unmap");
    });
    assert_eq!(count, 0);
    assert!(runs >= 2 && mappings > 0);

    let mut messages = MessageBuffer::new();
    let count = allocations_in(|| {
        let Ok(uffd) = Uffd::open(FEATURE_MOVE) else { return println!("CANNOT RUN in full: no userfaultfd") };
        uffd.register(staging.base(), staging.len_bytes(), REGISTER_MISSING | REGISTER_WP).expect("register");
        uffd.move_pages(staging.base(), area.base(), PAGE_BYTES, 0).expect("move");
        uffd.copy(staging.address(1), area.frame(1), PAGE_BYTES, 0).expect("copy");
        uffd.zeropage(staging.address(2), PAGE_BYTES, 0).expect("zeropage");
        uffd.write_protect(staging.address(1), PAGE_BYTES, WRITEPROTECT_WP).expect("protect");
        uffd.wake(staging.base(), PAGE_BYTES).expect("wake");
        assert_eq!(uffd.read(&mut messages), Ok(0));
        assert_eq!(messages.messages().count(), 0);
        uffd.unregister(staging.base(), staging.len_bytes()).expect("unregister");
    });
    assert_eq!(count, 0);
}
