//! Keeps the monitor and the thread that faults on one CPU.
//!
//! A wake-up on the same CPU costs 5 µs there and back, on another 41 µs on a virtual machine. The message says which
//! thread waits; where it ran is asked of the kernel now and then.
//!
//! The scheduler wakes a thread on an idle CPU when its own is busy, and its own is busy with the monitor that wakes it. So
//! while one thread alone faults, or faults come one after the other, the thread is held to this CPU: its affinity is
//! narrowed before its page comes and is put back when no fault of anybody waits any more. A thread that was held runs at
//! once when its page is there, faults again, and only then the monitor goes on: so while it faults it is held all the
//! time. Threads that fault now and then run where the scheduler wants.
//!
//! Nobody must see that. What looks at affinities or hands them on (`clone`, `exec`) goes through the door first, and the
//! thread is let go (`memvisor-shim`, `whole`).

use crate::door::Door;
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

/// A thread is let go that often, in nanoseconds, so that the scheduler may move it away from a CPU that others want.
const HOLD_NS_MAX: u64 = 50_000_000;

/// Where the monitor is, and whom it serves.
pub struct Follow {
    door: &'static Door,
    cpu: Option<u32>,
    until: u32,
    thread: u32,
    in_a_row: u32,
    /// When it was last asked where a thread ran.
    asked_ns: u64,
    is_dense: bool,
    held: Option<Held>,
}

/// A thread that is held, and what its affinity was before.
struct Held {
    thread: u32,
    cpu: u32,
    since_ns: u64,
    cpus: CpuSet,
}

impl Follow {
    /// A monitor that is nowhere in particular.
    pub fn new(door: &'static Door) -> Self {
        Self { door, cpu: None, until: 0, thread: 0, in_a_row: 0, asked_ns: 0, is_dense: false, held: None }
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

    /// Whether a thread is held.
    pub fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Before `thread` is woken: holds it to this CPU if that is worth while.
    pub fn hold(&mut self, thread: u32, now_ns: u64) {
        if let Some(held) = self.held.as_ref().filter(|held| held.thread == thread) {
            if now_ns - held.since_ns > HOLD_NS_MAX {
                self.let_go();
            }
            return;
        }
        let is_alone = self.thread == thread && self.in_a_row >= ALONE_AFTER;
        let Some(cpu) = self.cpu.filter(|_| thread != 0 && (is_alone || self.is_dense)) else { return };
        self.let_go();
        let is_free = |cpus: &CpuSet| cpus.contains(cpu) && *cpus != CpuSet::only(cpu);
        let Some(cpus) = thread::affinity(thread).ok().filter(is_free) else { return };
        self.door.set_holding(true);
        if thread::pin(thread, cpu).is_ok() {
            self.held = Some(Held { thread, cpu, since_ns: now_ns, cpus });
        } else {
            self.door.set_holding(false);
        }
    }

    /// Nobody is held any more. Who was moved by somebody else meanwhile stays there.
    pub fn let_go(&mut self) {
        if let Some(Held { thread, cpu, cpus, .. }) = self.held.take() {
            if thread::affinity(thread) == Ok(CpuSet::only(cpu)) {
                // It may have ended meanwhile.
                let _ = thread::set_affinity(thread, &cpus);
            }
            self.door.set_holding(false);
        }
    }

    /// Lets go, and holds nobody before somebody faults hard again.
    pub fn forget(&mut self) {
        self.let_go();
        (self.in_a_row, self.is_dense) = (0, false);
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
        if self.held.as_ref().is_some_and(|held| held.thread == thread_id) {
            return;
        }
        let Ok(cpu) = thread::last_cpu_of(memvisor_sys::process::getpid(), thread_id) else { return };
        if self.cpu != Some(cpu) && thread::pin(0, cpu).is_ok() {
            // Who was held to the CPU that the monitor leaves would stay there alone.
            self.let_go();
            self.cpu = Some(cpu);
            block.cpu_moves().fetch_add(1, Relaxed);
        }
    }
}
