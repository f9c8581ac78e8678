//! Processes, threads, futexes and waiting against the kernel.

mod common;

use common::Child;
use memvisor_sys::clock::{now_ns, now_ticks};
use memvisor_sys::file::{self, O_RDONLY};
use memvisor_sys::futex::{self, FutexWord, Waited};
use memvisor_sys::memory::Staging;
use memvisor_sys::poll::{POLLIN, POLLNVAL, PollFd, poll, ppoll};
use memvisor_sys::shared::SharedFile;
use memvisor_sys::thread::{self, CpuSet, Policy, ThreadStat};
use memvisor_sys::{PAGE_BYTES, errno, process, random};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Long enough that only a lost wake-up takes it.
const PATIENCE_NS: u64 = 20_000_000_000;

fn words(count: usize) -> &'static [AtomicU64] {
    let file = SharedFile::create(c"memvisor-test", 4096).expect("a memory file");
    file.map(4096).expect("a mapping").words(0, count)
}

/// What a thread runs here leaves the other tests' threads alone.
fn in_a_thread(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(body).join().expect("the thread"));
}

fn wait_until(word: &AtomicU64, expected: u64) {
    loop {
        let seen = word.load(Ordering::SeqCst);
        if seen == expected {
            return;
        }
        let waited = FutexWord(word).wait(seen as u32, Some(PATIENCE_NS)).expect("wait");
        assert_ne!(waited, Waited::TimedOut, "the word stays {seen}");
    }
}

fn tell(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::SeqCst);
    let _ = FutexWord(word).wake(u32::MAX);
}

#[test]
fn a_child_wakes_its_parent_through_a_shared_word() {
    let words = words(2);
    let child = Child::fork(|| {
        tell(&words[0], 1);
        // A child that is never told ends the wait by its patience, and says so by its exit code.
        match FutexWord(&words[1]).wait(0, Some(PATIENCE_NS)) {
            Ok(Waited::Woken | Waited::Changed) => 3,
            _ => 4,
        }
    });
    wait_until(&words[0], 1);
    tell(&words[1], 1 << 32 | 5);
    assert_eq!(child.exit_code(), 3);
}

#[test]
fn a_futex_looks_at_the_low_half_only() {
    let word = AtomicU64::new(7 << 32 | 5);
    assert_eq!(FutexWord(&word).load(), 5);
    assert_eq!(FutexWord(&word).wait(7, None), Ok(Waited::Changed));
    assert_eq!(FutexWord(&word).wait(5, Some(1)), Ok(Waited::TimedOut));
    assert_eq!(FutexWord(&word).wake(1), Ok(0));
    assert_eq!(futex::wait(&AtomicU32::new(1), 2, None), Ok(Waited::Changed));
}

#[test]
fn wake_reports_how_many_slept() {
    const SLEEPERS: usize = 3;
    let word = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..SLEEPERS {
            scope.spawn(|| assert_eq!(FutexWord(&word).wait(0, Some(PATIENCE_NS)), Ok(Waited::Woken)));
        }
        let mut woken = 0;
        while woken < SLEEPERS {
            woken += FutexWord(&word).wake(1).expect("wake");
            std::thread::yield_now();
        }
        assert_eq!(woken, SLEEPERS);
    });
}

#[test]
fn a_process_reads_its_childs_memory_and_not_its_own() {
    let words = words(2);
    let area = Staging::new(70).expect("memory");
    let child = Child::fork(|| {
        (0..70).for_each(|at| area.write_frame(at, &[at as u8 + 1; PAGE_BYTES]));
        tell(&words[0], 1);
        common::sleep_for_ever()
    });
    wait_until(&words[0], 1);
    let ranges: Vec<_> = (0..64).map(|at| (area.address(63 - at), PAGE_BYTES)).collect();
    let mut out = vec![0; 64 * PAGE_BYTES];
    assert_eq!(process::read_from(child.pid(), &ranges, &mut out), Ok(64 * PAGE_BYTES));
    for (at, page) in out.chunks(PAGE_BYTES).enumerate() {
        assert!(page.iter().all(|byte| *byte as usize == 64 - at), "page {at}");
    }
    assert_eq!(*area.frame_bytes(0), [0; PAGE_BYTES]);

    let half = &mut out[..PAGE_BYTES / 2];
    assert_eq!(process::read_from(child.pid(), &ranges, half), Ok(PAGE_BYTES / 2));
    assert_eq!(process::read_from(child.pid(), &[ranges[0], (0, 8)], &mut out), Ok(PAGE_BYTES));
    assert_eq!(process::read_from(child.pid(), &[(0, 8)], &mut out), Err(errno::EFAULT));
    let too_many = vec![(area.base(), 1); 65];
    assert_eq!(process::read_from(child.pid(), &too_many, &mut out), Err(errno::EINVAL));
}

#[test]
fn a_pidfd_tells_when_its_process_has_ended() {
    let child = Child::fork(common::sleep_for_ever);
    let pid = child.pid();
    let pidfd = process::pidfd_open(pid).expect("a pidfd");
    assert!(process::pidfd_alive(&pidfd));
    assert_eq!(process::kill(pid, 0), Ok(()));
    let started = |pid| process::start_ticks(pid).expect("a start");
    assert!(started(pid) >= started(process::getpid()) && started(process::getpid()) > 0);
    drop(child);
    assert!(!process::pidfd_alive(&pidfd));
    assert_eq!(process::kill(pid, 0), Err(errno::ESRCH));
    assert!(process::start_ticks(pid).is_err());
    assert!(process::pidfd_open(pid).is_err());
}

#[test]
fn a_process_ends_by_sigbus_even_when_it_ignores_and_blocks_it() {
    let ended = Child::fork(|| {
        const SIG_IGN: usize = 1;
        let ignore = [SIG_IGN, 0, 0, 0];
        let nr = memvisor_sys::call::number::__NR_rt_sigaction;
        // SAFETY: the kernel reads one action.
        let ignored = unsafe { memvisor_sys::call::syscall4(nr, 7, ignore.as_ptr() as usize, 0, 8) };
        let _saved = thread::block_all_signals();
        if ignored.is_ok() { process::end_with_sigbus() } else { 1 }
    });
    assert_eq!(ended.killed_by(), process::SIGBUS);
}

#[test]
fn a_signal_is_never_sent_to_a_group() {
    for pid in [0, u32::MAX, 1 << 31] {
        assert_eq!(process::kill(pid, 0), Err(errno::ESRCH));
    }
}

#[test]
fn the_ids_are_those_that_rust_knows() {
    assert_eq!(process::getpid(), std::process::id());
    assert_eq!(process::getppid(), std::os::unix::process::parent_id());
    in_a_thread(|| assert_ne!(thread::gettid(), process::getpid()));
    assert_eq!(process::is_dumpable(), Ok(true));
    assert_eq!(process::tgkill(process::getpid(), thread::gettid(), 0), Ok(()));
}

#[test]
fn an_orphan_comes_to_the_subreaper() {
    let words = words(1);
    // In a child of its own, so that the test process stays what it is.
    let reaper = Child::fork(|| {
        if process::set_subreaper().is_err() {
            return 1;
        }
        let reaper = process::getpid();
        let middle = Child::fork(|| {
            let middle = process::getpid();
            let orphan = Child::fork(|| {
                while process::getppid() == middle {
                    let _ = ppoll(&mut [], Some(1_000_000));
                }
                tell(&words[0], if process::getppid() == reaper { 1 } else { 2 });
                0
            });
            std::mem::forget(orphan);
            0
        });
        if middle.exit_code() != 0 {
            return 2;
        }
        wait_until(&words[0], 1);
        0
    });
    assert_eq!(reaper.exit_code(), 0);
}

#[test]
fn a_child_dies_with_its_parent_when_it_asked_for_it() {
    let words = words(1);
    let parent = Child::fork(|| {
        let child = Child::fork(|| {
            if process::set_parent_death_signal(process::SIGKILL).is_ok() {
                tell(&words[0], process::getpid().into());
            }
            common::sleep_for_ever()
        });
        std::mem::forget(child);
        common::sleep_for_ever()
    });
    while words[0].load(Ordering::SeqCst) == 0 {
        FutexWord(&words[0]).wait(0, Some(PATIENCE_NS)).expect("wait");
    }
    let pidfd = process::pidfd_open(words[0].load(Ordering::SeqCst) as u32).expect("the grandchild");
    drop(parent);
    let ended = ppoll(&mut [PollFd::readable(pidfd.raw())], Some(PATIENCE_NS));
    assert_eq!(ended, Ok(1), "the grandchild outlives its parent");
}

#[test]
fn a_pinned_thread_runs_where_it_was_put() {
    in_a_thread(|| {
        let allowed = thread::affinity(0).expect("affinity");
        assert!(allowed.count() >= 1);
        let stat = ThreadStat::open(process::getpid(), thread::gettid()).expect("stat");
        for cpu in allowed.iter() {
            thread::pin(thread::gettid(), cpu).expect("pin");
            assert_eq!(thread::affinity(0).map(|set| set.iter().collect()), Ok(vec![cpu]));
            assert_eq!(thread::current_cpu(), cpu);
            assert_eq!(thread::last_cpu_of(process::getpid(), thread::gettid()), Ok(cpu));
            assert_eq!(stat.last_cpu(), Ok(cpu));
        }
        thread::set_affinity(0, &allowed).expect("set affinity");
        assert_eq!(thread::affinity(0), Ok(allowed));
        assert_eq!(thread::pin(0, u32::MAX), Err(errno::EINVAL));
    });
    assert!(thread::last_cpu_of(process::getpid(), u32::MAX).is_err());
}

#[test]
fn a_set_of_cpus_holds_what_was_put_in() {
    let mut set = CpuSet::only(3);
    set.insert(64);
    set.insert(thread::CPUS_MAX as u32);
    assert_eq!(set.iter().collect::<Vec<_>>(), [3, 64]);
    assert!(set.contains(64) && !set.contains(65) && !set.contains(u32::MAX));
    assert_eq!(set.count(), 2);
    assert_eq!(format!("{set:?}"), "{3, 64}");
}

/// Field `at` of the calling thread's `stat` line, and its name.
fn own_stat(at: usize) -> (i64, String) {
    let text = std::fs::read_to_string(format!("/proc/self/task/{}/stat", thread::gettid())).expect("stat");
    let (name, fields) = text.rsplit_once(')').expect("a name in parentheses");
    let field = fields.split_whitespace().nth(at - 3).expect("the field").parse().expect("a number");
    (field, name.split_once('(').expect("a name in parentheses").1.to_owned())
}

#[test]
fn a_thread_has_the_name_policy_and_niceness_it_was_given() {
    in_a_thread(|| {
        thread::name(c"mv) R 1 (test").expect("name");
        assert_eq!(own_stat(41), (0, "mv) R 1 (test".to_owned()));
        thread::set_nice(0, 7).expect("nice");
        assert_eq!(own_stat(19).0, 7);
        for (policy, number) in [(Policy::Batch, 3), (Policy::Other, 0), (Policy::Idle, 5)] {
            thread::set_policy(thread::gettid(), policy).expect("policy");
            assert_eq!(own_stat(41).0, number);
        }
        match thread::set_policy(0, Policy::Other) {
            Ok(()) => assert_eq!(own_stat(41).0, 0),
            Err(errno) => println!("CANNOT RUN in full: no privilege to leave the idle policy: {errno}"),
        }
    });
}

fn blocked_signals() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/status").expect("status");
    let mask = text.lines().find_map(|line| line.strip_prefix("SigBlk:")).expect("the mask");
    u64::from_str_radix(mask.trim(), 16).expect("a mask in hexadecimal")
}

#[test]
fn blocked_signals_are_all_but_glibcs_own_until_they_are_restored() {
    in_a_thread(|| {
        let before = blocked_signals();
        let saved = thread::block_all_signals();
        // KILL (9) and STOP (19) cannot be blocked; 32 and 33 are glibc's.
        let never = 1 << 8 | 1 << 18 | 1 << 31 | 1 << 32;
        assert_eq!(blocked_signals(), !never);
        let inner = thread::block_all_signals();
        assert!(inner.blocks(15) && !inner.blocks(9) && !inner.blocks(33));
        inner.restore();
        assert_eq!(blocked_signals(), !never);
        thread::restore(saved);
        assert_eq!(blocked_signals(), before);
    });
}

#[test]
fn a_thread_that_left_the_table_closes_its_own_descriptors_only() {
    let fd = file::open(c"/proc/self/status", O_RDONLY, 0).expect("a descriptor");
    let last = fd.duplicate_from(500).expect("a descriptor");
    in_a_thread(|| {
        thread::unshare_files().expect("unshare");
        assert!(last.pread(&mut [0; 8], 0).is_ok());
        thread::close_range(500, u32::MAX).expect("close");
        assert_eq!(last.pread(&mut [0; 8], 0), Err(errno::EBADF));
        assert!(fd.pread(&mut [0; 8], 0).is_ok());
    });
    assert_eq!(last.pread(&mut [0; 8], 0), Ok(8));
}

#[test]
fn poll_tells_what_is_ready_and_when_the_time_is_over() {
    let child = Child::fork(common::sleep_for_ever);
    let pidfd = process::pidfd_open(child.pid()).expect("a pidfd");
    let mut fds = [PollFd::readable(pidfd.raw()), PollFd::readable(-1)];
    assert_eq!(poll(&mut fds, 0), Ok(0));
    assert_eq!(ppoll(&mut fds, Some(1)), Ok(0));
    assert!(!fds[0].is_ready() && !fds[1].is_ready());
    process::kill(child.pid(), process::SIGKILL).expect("kill");
    assert_eq!(poll(&mut fds, -1), Ok(1));
    assert_eq!(fds.map(|fd| fd.revents & POLLIN), [POLLIN, 0]);
    let mut closed = [PollFd::readable(i32::MAX)];
    assert_eq!(poll(&mut closed, -1), Ok(1));
    assert_eq!(closed[0].revents, POLLNVAL);
}

#[test]
fn the_clock_lies_between_two_readings_of_rusts_own() {
    let raw = || {
        // SAFETY: the kernel writes one timespec of two words.
        let mut time = [0u64; 2];
        let nr = memvisor_sys::call::number::__NR_clock_gettime;
        // SAFETY: the kernel writes one timespec, which is two words.
        unsafe { memvisor_sys::call::syscall2(nr, 1, time.as_mut_ptr() as usize) }.expect("clock");
        time[0] * 1_000_000_000 + time[1]
    };
    for _ in 0..1000 {
        let (before, now, after) = (raw(), now_ns(), raw());
        assert!(before <= now && now <= after, "{before} {now} {after}");
    }
    let (first, second) = (now_ticks(), now_ticks());
    assert!(first != 0 && second != 0);
}

#[test]
fn random_bytes_fill_the_whole_slice_and_differ() {
    let mut pages = [[0u8; 4096]; 2];
    pages.iter_mut().for_each(|page| random::fill(page).expect("random"));
    assert_ne!(pages[0], pages[1]);
    // A byte that stays zero in 4096 places is as likely as 2⁻¹¹ for 16 in a row: take 16 at both ends.
    for page in pages {
        assert_ne!(page[..16], [0; 16]);
        assert_ne!(page[4080..], [0; 16]);
    }
    assert_ne!(random::number(), random::number());
    assert_eq!(random::fill(&mut []), Ok(()));
}
