//! What several test files need: forked children, random numbers with a printed seed.
#![allow(dead_code, reason = "no test file needs all of it")]

use memvisor_sys::call::{self, number as nr};
use memvisor_sys::{PAGE_BYTES, process, random};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A forked child that runs a piece of the test, and is killed when dropped.
pub struct Child {
    pid: u32,
    ended: bool,
}

impl Child {
    /// Forks. `body` runs in the child, where only the calling thread is left: it may make system calls and touch
    /// memory, and nothing else. What it returns is the exit code.
    pub fn fork(body: impl FnOnce() -> u8) -> Child {
        const SIGCHLD: usize = 17;
        // SAFETY: as fork(2); the child touches no lock that another thread may have held.
        let pid = unsafe { call::syscall5(nr::__NR_clone, SIGCHLD, 0, 0, 0, 0) }.expect("a child");
        if pid == 0 {
            let code = body();
            // SAFETY: ends the child without running what Rust would run at exit.
            let _ = unsafe { call::syscall1(nr::__NR_exit_group, code as usize) };
        }
        Child { pid: pid as u32, ended: false }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the child to end by itself, and gives its exit code.
    pub fn exit_code(mut self) -> u8 {
        let status = self.wait();
        assert_eq!(status & 0x7f, 0, "the child was killed by signal {}", status & 0x7f);
        (status >> 8) as u8
    }

    /// Waits for the child to be ended by a signal, and gives its number.
    pub fn killed_by(mut self) -> i32 {
        let status = self.wait();
        assert_ne!(status & 0x7f, 0, "the child ended by itself with exit code {}", status >> 8);
        (status & 0x7f) as i32
    }

    fn wait(&mut self) -> u32 {
        let mut status = 0u32;
        // SAFETY: the kernel writes one word there.
        let waited = unsafe { call::syscall4(nr::__NR_wait4, self.pid as usize, &raw mut status as usize, 0, 0) };
        waited.expect("our child");
        self.ended = true;
        status
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            process::kill(self.pid, process::SIGKILL).expect("our child can be killed");
            self.wait();
        }
    }
}

/// Held by tests that fork, and shared by those whose pages no child may share meanwhile: a test program forks as a whole.
static FORKING: RwLock<()> = RwLock::new(());

/// For tests that fork: no other test runs that minds.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    // Another test's failure says nothing about this one.
    FORKING.write().unwrap_or_else(PoisonError::into_inner)
}

/// For tests that mind forks.
pub fn unforked() -> RwLockReadGuard<'static, ()> {
    FORKING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Sleeps until the process is killed: for children.
pub fn sleep_for_ever() -> u8 {
    loop {
        let _ = memvisor_sys::poll::poll(&mut [], -1);
    }
}

/// Random numbers (xorshift64*), whose seed is printed and can be given by `MEMVISOR_TEST_SEED`.
pub struct Random(u64);

impl Random {
    pub fn new() -> Random {
        let seed = match std::env::var("MEMVISOR_TEST_SEED") {
            Ok(seed) => seed.parse().expect("MEMVISOR_TEST_SEED is a number"),
            Err(_) => random::number().expect("a random number") | 1,
        };
        println!("MEMVISOR_TEST_SEED={seed}");
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }
}

/// A page whose every byte depends on `seed` and its place.
pub fn pattern(seed: u64) -> [u8; PAGE_BYTES] {
    let mut page = [0; PAGE_BYTES];
    for (at, byte) in page.iter_mut().enumerate() {
        *byte = (seed.wrapping_mul(31).wrapping_add(at as u64).wrapping_mul(0x9e37_79b9) >> 13) as u8;
    }
    page
}
