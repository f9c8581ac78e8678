//! userfaultfd against the kernel.

mod common;

use common::{Child, pattern};
use memvisor_sys::memory::{self, Staging};
use memvisor_sys::pagemap::Pagemap;
use memvisor_sys::poll::{PollFd, poll};
use memvisor_sys::uffd::*;
use memvisor_sys::{PAGE_BYTES, errno, process, thread};
use std::sync::mpsc;

/// Long enough that only a lost message takes it.
const PATIENCE_MS: i32 = 20_000;

/// A userfaultfd, or `None`, said aloud, where the kernel or our privileges do not give one.
fn open(features: u64) -> Option<Uffd> {
    match Uffd::open(features) {
        Ok(uffd) => Some(uffd),
        Err(errno) => {
            println!("CANNOT RUN: no userfaultfd with features {features:#x}: {errno}");
            None
        }
    }
}

fn next_messages(uffd: &Uffd) -> Vec<Message> {
    let mut buffer = MessageBuffer::new();
    loop {
        let ready = poll(&mut [PollFd::readable(uffd.fd())], PATIENCE_MS).expect("poll");
        assert_eq!(ready, 1, "no message came");
        // Who waited may have been woken between poll and read: then there is nothing, and more will come.
        if uffd.read(&mut buffer).expect("read") > 0 {
            return buffer.messages().collect();
        }
    }
}

fn byte_at(address: usize) -> u8 {
    // SAFETY: the tests give addresses of areas that they hold mapped.
    unsafe { (address as *const u8).read_volatile() }
}

fn set_byte_at(address: usize, byte: u8) {
    // SAFETY: the tests give addresses of areas that they hold mapped.
    unsafe { (address as *mut u8).write_volatile(byte) }
}

#[test]
fn the_kernel_has_every_feature_that_it_opens_with() {
    let _forks = common::unforked();
    let Ok(available) = Uffd::available_features() else {
        println!("CANNOT RUN: no userfaultfd");
        return;
    };
    let Some(_) = open(0) else { return };
    for bit in (0..64).map(|bit| 1u64 << bit) {
        match Uffd::open(bit) {
            Ok(_) => assert!(available & bit != 0, "feature {bit:#x} opens and is not listed"),
            Err(errno::EPERM) => assert_eq!(bit, FEATURE_EVENT_FORK),
            Err(errno) => {
                assert_eq!(errno, errno::EINVAL);
                assert!(available & bit == 0, "feature {bit:#x} is listed and does not open");
            }
        }
    }
}

#[test]
fn a_move_takes_the_bytes_along_and_leaves_a_hole() {
    let _forks = common::unforked();
    let Some(uffd) = open(FEATURE_MOVE) else { return };
    let pagemap = Pagemap::open(None).expect("own page map");
    let (program, staging) = (Staging::new(4).expect("memory"), Staging::new(4).expect("memory"));
    (0..4).for_each(|at| program.write_frame(at, &pattern(at.into())));
    uffd.register(staging.base(), staging.len_bytes(), REGISTER_MISSING).expect("register");

    uffd.move_pages(staging.base(), program.base(), 4 * PAGE_BYTES, 0).expect("move");

    for at in 0..4 {
        assert_eq!(*staging.frame_bytes(at), pattern(at.into()));
        assert_eq!(pagemap.present(program.address(at)), Ok(false));
        assert_eq!(*program.frame_bytes(at), [0; PAGE_BYTES]);
    }
}

#[test]
fn a_move_that_allows_holes_skips_them_and_one_that_does_not_stops_there() {
    let _forks = common::unforked();
    let Some(uffd) = open(FEATURE_MOVE) else { return };
    let pagemap = Pagemap::open(None).expect("own page map");
    let (program, staging) = (Staging::new(4).expect("memory"), Staging::new(4).expect("memory"));
    uffd.register(staging.base(), staging.len_bytes(), REGISTER_MISSING).expect("register");
    [0, 3].iter().for_each(|at| program.write_frame(*at, &pattern(u64::from(*at))));

    let (done, reason) = uffd.move_pages(staging.base(), program.base(), 4 * PAGE_BYTES, 0).expect_err("a hole");
    assert_eq!((done, reason), (PAGE_BYTES, errno::EAGAIN));
    let rest = uffd.move_pages(staging.address(1), program.address(1), 3 * PAGE_BYTES, 0);
    assert_eq!(rest, Err((0, errno::ENOENT)));

    let rest = uffd.move_pages(staging.address(1), program.address(1), 3 * PAGE_BYTES, MOVE_ALLOW_SRC_HOLES);
    assert_eq!(rest, Ok(()));
    assert_eq!([0, 1, 2, 3].map(|at| pagemap.present(staging.address(at))), [true, false, false, true].map(Ok));
    assert_eq!(*staging.frame_bytes(3), pattern(3));
}

#[test]
fn a_copy_and_a_move_stop_at_a_page_that_is_there() {
    let _forks = common::unforked();
    let Some(uffd) = open(FEATURE_MOVE) else { return };
    let (from, to) = (Staging::new(3).expect("memory"), Staging::new(3).expect("memory"));
    (0..3).for_each(|at| from.write_frame(at, &pattern(at.into())));
    to.write_frame(1, &pattern(100));
    uffd.register(to.base(), to.len_bytes(), REGISTER_MISSING).expect("register");

    let copied = uffd.copy(to.base(), from.frame(0), 3 * PAGE_BYTES, 0);
    assert_eq!(copied, Err((PAGE_BYTES, errno::EAGAIN)));
    assert_eq!(uffd.copy(to.address(1), from.frame(1), 2 * PAGE_BYTES, 0), Err((0, errno::EEXIST)));
    assert_eq!(uffd.move_pages(to.address(1), from.address(1), PAGE_BYTES, 0), Err((0, errno::EEXIST)));
    assert_eq!(uffd.move_pages(to.address(2), from.address(2), PAGE_BYTES, 0), Ok(()));
    assert_eq!([0, 1, 2].map(|at| *to.frame_bytes(at)), [pattern(0), pattern(100), pattern(2)]);
}

#[test]
fn a_page_that_a_child_shares_does_not_move() {
    let _forks = common::alone();
    let Some(uffd) = open(FEATURE_MOVE) else { return };
    let (program, staging) = (Staging::new(1).expect("memory"), Staging::new(1).expect("memory"));
    program.write_frame(0, &pattern(1));
    uffd.register(staging.base(), PAGE_BYTES, REGISTER_MISSING).expect("register");
    let child = Child::fork(common::sleep_for_ever);
    assert_eq!(uffd.move_pages(staging.base(), program.base(), PAGE_BYTES, 0), Err((0, errno::EBUSY)));
    drop(child);
    assert_eq!(*program.frame_bytes(0), pattern(1));
}

#[test]
fn a_fault_is_read_and_a_copy_lets_the_thread_go_on() {
    let _forks = common::unforked();
    let Some(uffd) = open(FEATURE_THREAD_ID) else { return };
    let area = Staging::new(3).expect("memory");
    let address = area.address(1);
    uffd.register(area.base(), area.len_bytes(), REGISTER_MISSING).expect("register");
    assert_eq!(uffd.read(&mut MessageBuffer::new()), Ok(0), "nobody touched a page yet");

    let (tell, told) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        tell.send(thread::gettid()).expect("the test waits for it");
        byte_at(address + 5)
    });
    let messages = next_messages(&uffd);
    let tid = told.recv().expect("the thread's id");
    assert_eq!(messages, [Message::Fault { address, write: false, write_protect: false, thread: tid }]);

    uffd.copy(address, pattern(9).as_ptr(), PAGE_BYTES, 0).expect("copy");
    assert_eq!(reader.join().expect("the thread"), pattern(9)[5]);
    assert_eq!(*area.frame_bytes(1), pattern(9));
}

#[test]
fn many_threads_that_wait_are_read_in_bufferfuls() {
    let _forks = common::unforked();
    const THREADS: usize = MESSAGES_MAX + 8;
    let Some(uffd) = open(FEATURE_THREAD_ID) else { return };
    let area = Staging::new(THREADS as u32).expect("memory");
    uffd.register(area.base(), area.len_bytes(), REGISTER_MISSING).expect("register");
    let writers: Vec<_> = (0..THREADS as u32)
        .map(|at| {
            let address = area.address(at);
            std::thread::spawn(move || set_byte_at(address, at as u8))
        })
        .collect();

    let mut faults = Vec::new();
    while faults.len() < THREADS {
        let messages = next_messages(&uffd);
        assert!(messages.len() <= MESSAGES_MAX);
        faults.extend(messages);
    }
    for fault in faults {
        let Message::Fault { address, write: true, write_protect: false, .. } = fault else {
            panic!("{fault:?} is not a write to a missing page");
        };
        assert_eq!(uffd.zeropage(address, PAGE_BYTES, 0), Ok(()));
    }
    writers.into_iter().for_each(|writer| writer.join().expect("a thread"));
    (0..THREADS as u32).for_each(|at| assert_eq!(area.frame_bytes(at)[0], at as u8));
}

#[test]
fn a_copy_without_waking_leaves_the_thread_asleep_until_it_is_woken() {
    let _forks = common::unforked();
    let Some(uffd) = open(0) else { return };
    let area = Staging::new(1).expect("memory");
    let address = area.base();
    uffd.register(address, PAGE_BYTES, REGISTER_MISSING).expect("register");
    let (tell, told) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let byte = byte_at(address);
        tell.send(()).expect("the test waits for it");
        byte
    });
    next_messages(&uffd);
    uffd.copy(address, pattern(3).as_ptr(), PAGE_BYTES, COPY_DONTWAKE).expect("copy");
    assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));
    uffd.wake(address, PAGE_BYTES).expect("wake");
    assert_eq!(reader.join().expect("the thread"), pattern(3)[0]);
}

#[test]
fn a_write_to_a_protected_page_waits_until_it_is_unprotected() {
    let _forks = common::unforked();
    let Some(uffd) = open(FEATURE_PAGEFAULT_FLAG_WP) else { return };
    let area = Staging::new(1).expect("memory");
    let address = area.base();
    area.write_frame(0, &pattern(1));
    uffd.register(address, PAGE_BYTES, REGISTER_WP).expect("register");
    uffd.write_protect(address, PAGE_BYTES, WRITEPROTECT_WP).expect("protect");
    assert_eq!(byte_at(address), pattern(1)[0], "a protected page can be read");

    let writer = std::thread::spawn(move || set_byte_at(address, 77));
    let messages = next_messages(&uffd);
    assert!(matches!(messages[..], [Message::Fault { write: true, write_protect: true, .. }]), "{messages:?}");
    assert_eq!(byte_at(address), pattern(1)[0]);
    uffd.write_protect(address, PAGE_BYTES, 0).expect("unprotect");
    writer.join().expect("the thread");
    assert_eq!(byte_at(address), 77);
}

#[test]
fn a_poisoned_page_cannot_be_read_and_a_discarded_one_is_fresh_again() {
    let _forks = common::unforked();
    let Some(uffd) = open(FEATURE_POISON) else { return };
    let area = Staging::new(1).expect("memory");
    uffd.register(area.base(), PAGE_BYTES, REGISTER_MISSING).expect("register");
    uffd.poison(area.base(), PAGE_BYTES).expect("poison");
    let mut out = [0; 8];
    let read = process::read_from(process::getpid(), &[(area.base(), 8)], &mut out);
    assert_eq!(read, Err(errno::EFAULT));
    area.drop_frames(0, 1);
    uffd.zeropage(area.base(), PAGE_BYTES, 0).expect("the poison is gone");
    assert_eq!(byte_at(area.base()), 0);
}

#[test]
fn a_missing_page_is_an_error_to_system_calls_where_faults_are_signals() {
    let _forks = common::unforked();
    let Some(uffd) = open(FEATURE_SIGBUS) else { return };
    let area = Staging::new(2).expect("memory");
    area.write_frame(0, &pattern(5));
    uffd.register(area.base(), area.len_bytes(), REGISTER_MISSING).expect("register");
    let mut out = [0; 8];
    let ranges = [(area.base(), 4), (area.address(1), 4)];
    assert_eq!(process::read_from(process::getpid(), &ranges, &mut out), Ok(4));
    assert_eq!(out[..4], pattern(5)[..4]);
    assert_eq!(process::read_from(process::getpid(), &ranges[1..], &mut out), Err(errno::EFAULT));
}

#[test]
fn unregistered_memory_is_ordinary_again() {
    let _forks = common::unforked();
    let Some(uffd) = open(0) else { return };
    let area = Staging::new(1).expect("memory");
    uffd.register(area.base(), PAGE_BYTES, REGISTER_MISSING).expect("register");
    uffd.unregister(area.base(), PAGE_BYTES).expect("unregister");
    assert_eq!(byte_at(area.base()), 0);
    area.drop_frames(0, 1);
    assert_eq!(uffd.copy(area.base(), pattern(0).as_ptr(), PAGE_BYTES, 0), Err((0, errno::ENOENT)));
}

#[test]
fn one_range_has_one_descriptor() {
    let _forks = common::unforked();
    let (Some(first), Some(second)) = (open(0), open(0)) else { return };
    let area = Staging::new(1).expect("memory");
    first.register(area.base(), PAGE_BYTES, REGISTER_MISSING).expect("register");
    assert_eq!(second.register(area.base(), PAGE_BYTES, REGISTER_MISSING), Err(errno::EBUSY));
}

/// Runs `change` in a thread and gives the messages that come of it; the thread waits until they are read.
fn messages_of(uffd: &Uffd, change: impl FnOnce() + Send + 'static) -> Vec<Message> {
    /// How long to wait before looking again whether the thread has ended: no message says that.
    const LOOK_AGAIN_MS: i32 = 1;
    let changer = std::thread::spawn(change);
    let mut messages = Vec::new();
    let mut buffer = MessageBuffer::new();
    loop {
        let ended = changer.is_finished();
        poll(&mut [PollFd::readable(uffd.fd())], LOOK_AGAIN_MS).expect("poll");
        let read = uffd.read(&mut buffer).expect("read");
        messages.extend(buffer.messages());
        if ended && read == 0 {
            changer.join().expect("the thread");
            return messages;
        }
    }
}

#[test]
fn given_up_moved_and_unmapped_ranges_are_told_and_a_move_unmaps_the_old_place() {
    let _forks = common::unforked();
    let features = FEATURE_EVENT_REMOVE | FEATURE_EVENT_REMAP | FEATURE_EVENT_UNMAP;
    let Some(uffd) = open(features) else { return };
    let len = 4 * PAGE_BYTES;
    let start = memory::map_anonymous(len).expect("memory");
    uffd.register(start, len, REGISTER_MISSING).expect("register");

    let messages = messages_of(&uffd, move || {
        // SAFETY: nothing refers to the range.
        unsafe { memory::advise(start, len, memory::MADV_DONTNEED) }.expect("advise");
    });
    assert_eq!(messages, [Message::Remove { start, end: start + len }]);

    let goal = memory::map_anonymous(len).expect("memory");
    let messages = messages_of(&uffd, move || {
        let flags = memory::MREMAP_MAYMOVE | memory::MREMAP_FIXED;
        // SAFETY: nothing refers to either range.
        let moved = unsafe { memory::remap(start, len, len, flags, goal) };
        assert_eq!(moved, Ok(goal));
    });
    let old_place = Message::Unmap { start, end: start + len };
    assert_eq!(messages, [Message::Remap { from: start, to: goal, len }, old_place]);

    let messages = messages_of(&uffd, move || {
        // SAFETY: nothing refers to the range.
        unsafe { memory::unmap(goal, len) }.expect("unmap");
    });
    assert_eq!(messages, [Message::Unmap { start: goal, end: goal + len }]);
}

#[test]
fn a_fork_brings_a_descriptor_that_serves_the_child() {
    let _forks = common::alone();
    let Some(uffd) = open(FEATURE_EVENT_FORK) else { return };
    let area = Staging::new(1).expect("memory");
    let address = area.base();
    uffd.register(address, PAGE_BYTES, REGISTER_MISSING).expect("register");

    // The fork waits until its message is read, so another thread reads it and serves the child. That thread allocates
    // before and after only: the child may be forked while it runs.
    let server = std::thread::spawn(move || {
        let [Message::Fork { fd }] = next_messages(&uffd)[..] else { panic!("a fork's message was expected") };
        let of_child = Uffd::from_fd(fd);
        let messages = next_messages(&of_child);
        assert!(matches!(messages[..], [Message::Fault { write: false, .. }]), "{messages:?}");
        of_child.copy(address, pattern(8).as_ptr(), PAGE_BYTES, 0).expect("copy into the child");
        uffd
    });
    let child = Child::fork(|| byte_at(address + 100));
    assert_eq!(child.exit_code(), pattern(8)[100]);
    let uffd = server.join().expect("the server");
    uffd.zeropage(address, PAGE_BYTES, 0).expect("the parent's page is still missing");
    assert_eq!(byte_at(address + 100), 0);
}
