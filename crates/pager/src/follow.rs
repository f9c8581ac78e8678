//! Keeps the monitor and the thread that faults on one CPU.
//!
//! A wake-up on the same CPU costs 5 µs there and back, on another 41 µs on a virtual machine. The message says which
//! thread waits; where it ran is asked of the kernel now and then.
//!
//! The scheduler wakes a thread on an idle CPU when its own is busy, and its own is busy with the monitor that wakes it. So
//! while one thread alone faults, or faults come one after the other, a thread is held to this CPU for the moment of its
//! wake-up: its affinity is narrowed before its page comes and is put back before it runs. Threads that fault so hard wait
//! for the monitor anyway; those that fault now and then run where the scheduler wants.

use memvisor_proto::Member;
use memvisor_sys::clock;
use memvisor_sys::thread::{self, CpuSet};
use std::sync::atomic::Ordering::Relaxed;

/// Faults between two questions. One costs about as much as a fault; at 32 it is lost in the noise.
const ASK_EVERY: u32 = 32;
/// A thread faults alone when that many faults in a row were its own.
const ALONE_AFTER: u32 = 16;
/// Faults come one after the other when there is so little time from one to the next, in nanoseconds: less than a wake-up
/// on another CPU takes.
const DENSE_NS: u64 = 30_000;

/// Where the monitor is, and whom it serves.
pub struct Follow {
    cpu: Option<u32>,
    until: u32,
    thread: u32,
    in_a_row: u32,
    /// When it was last asked where a thread ran.
    asked_ns: u64,
    is_dense: bool,
}

/// What a thread's affinity was before it was held.
pub struct Held {
    thread: u32,
    cpus: CpuSet,
}

impl Follow {
    /// A monitor that is nowhere in particular.
    pub fn new() -> Self {
        Self { cpu: None, until: 0, thread: 0, in_a_row: 0, asked_ns: 0, is_dense: false }
    }

    /// A fault of `thread` was heard of.
    pub fn heard_of(&mut self, thread: u32) {
        self.in_a_row = if self.thread == thread { self.in_a_row.saturating_add(1) } else { 0 };
        self.thread = thread;
    }

    /// The thread that was heard of last.
    pub fn thread(&self) -> u32 {
        self.thread
    }

    /// Before `thread` is woken: holds it to this CPU if that is worth while. Give the answer to [`Follow::let_go`] at once.
    pub fn hold(&self, thread: u32) -> Option<Held> {
        let is_alone = self.thread == thread && self.in_a_row >= ALONE_AFTER;
        let cpu = self.cpu.filter(|_| thread != 0 && (is_alone || self.is_dense))?;
        let cpus = thread::affinity(thread).ok().filter(|cpus| cpus.count() > 1 && cpus.contains(cpu))?;
        thread::pin(thread, cpu).ok()?;
        Some(Held { thread, cpus })
    }

    /// After the thread was woken.
    pub fn let_go(held: Option<Held>) {
        if let Some(Held { thread, cpus }) = held {
            // It may have ended meanwhile.
            let _ = thread::set_affinity(thread, &cpus);
        }
    }

    /// A fault of `thread` was served.
    pub fn fault_of(&mut self, thread_id: u32, block: &Member<'_>) {
        if self.until > 0 {
            self.until -= 1;
            return;
        }
        self.until = ASK_EVERY;
        let now_ns = clock::now_ns();
        self.is_dense = now_ns - self.asked_ns < u64::from(ASK_EVERY) * DENSE_NS;
        self.asked_ns = now_ns;
        let Ok(cpu) = thread::last_cpu_of(memvisor_sys::process::getpid(), thread_id) else { return };
        if self.cpu != Some(cpu) && thread::pin(0, cpu).is_ok() {
            self.cpu = Some(cpu);
            block.cpu_moves().fetch_add(1, Relaxed);
        }
    }
}
