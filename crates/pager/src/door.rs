//! The door between the program's threads and the monitor of their address space.
//!
//! A thread that changed the layout of memory leaves a note; the monitor reads the notes in order. When the monitor must
//! have acted before the thread goes on, the thread *rings*: it touches a page of the door's own that was never filled.
//! The kernel puts the thread to sleep and gives the monitor a fault message, which is answered by filling that page. No
//! descriptor is needed that a program could close, and the answer comes on the thread's own CPU.
//!
//! Threads take turns under one lock, with signals blocked, and hold it over the system call that they report: so notes
//! and the kernel's events come in the same order (see `Monitor::turn`). The monitor never waits for that lock; it takes it
//! when it is free, and holds it while pages leave, so that what is mapped where cannot change under its hands.

use memvisor_sys::futex::FutexWord;
use std::sync::atomic::{AtomicU64, Ordering};

/// Notes that fit before the monitor must read them.
pub const NOTES_MAX: u64 = 256;
/// Pages of the door; one ring uses one up, half of them are made new at a time.
pub const BELLS: usize = 256;

/// What a thread tells the monitor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "a range is from its start to before its end, in bytes")]
pub enum Note {
    /// This range is private anonymous memory that can be written, and is charged to the member as plain memory already
    /// or not.
    Mapped { start: usize, end: usize, charged: Charged },
    /// This range is no longer what it was.
    Unmapped { start: usize, end: usize },
    /// What is in this range is about to be moved; left before the system call.
    Moving { start: usize, end: usize },
    /// A fork follows: make ready a member for the child. Answer: its number plus one, 0 when there is none.
    ForkPrepare,
    /// The fork is over in the parent.
    ForkDone,
}

/// Whether new memory is charged to its member before the monitor hears of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Charged {
    /// By the thread that mapped it, at its whole size.
    Already,
    /// Not yet: the process was no member when it was mapped.
    NotYet,
}

/// One side leaves notes, the other reads them.
pub struct Door {
    lock: AtomicU64,
    head: AtomicU64,
    tail: AtomicU64,
    notes: [[AtomicU64; 3]; NOTES_MAX as usize],
    answer: AtomicU64,
    bells: AtomicU64,
    rung: AtomicU64,
    dropped: AtomicU64,
    holding: AtomicU64,
}

impl Default for Door {
    fn default() -> Self {
        Self::new()
    }
}

impl Door {
    /// A door that nobody listens at yet.
    pub const fn new() -> Self {
        Self {
            lock: AtomicU64::new(0),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            notes: [const { [const { AtomicU64::new(0) }; 3] }; NOTES_MAX as usize],
            answer: AtomicU64::new(0),
            bells: AtomicU64::new(0),
            rung: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            holding: AtomicU64::new(0),
        }
    }

    /// Waits for the thread's turn. Signals must be blocked, and the caller must call [`Door::unlock`].
    pub fn lock(&self) {
        if self.lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return;
        }
        while self.lock.swap(2, Ordering::Acquire) != 0 {
            let _ = FutexWord(&self.lock).wait(2, None);
        }
    }

    /// Takes the turn if nobody has it.
    pub fn try_lock(&self) -> bool {
        self.lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Ends the thread's turn.
    pub fn unlock(&self) {
        if self.lock.swap(0, Ordering::Release) == 2 {
            let _ = FutexWord(&self.lock).wake(1);
        }
    }

    /// Makes the door of a forked child usable: no turn is taken, nobody listens.
    pub fn reset_in_child(&self) {
        self.bells.store(0, Ordering::Relaxed);
        self.holding.store(0, Ordering::Relaxed);
        self.tail.store(self.head.load(Ordering::Relaxed), Ordering::Relaxed);
        self.unlock();
    }

    /// Leaves a note. `false` when there is no room: ring first. Only in the thread's turn.
    pub fn leave(&self, note: Note) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        if head - self.tail.load(Ordering::Acquire) == NOTES_MAX {
            return false;
        }
        let (kind, a, b) = match note {
            Note::Mapped { start, end, charged: Charged::NotYet } => (0, start, end),
            Note::Mapped { start, end, charged: Charged::Already } => (5, start, end),
            Note::Unmapped { start, end } => (1, start, end),
            Note::ForkPrepare => (2, 0, 0),
            Note::ForkDone => (3, 0, 0),
            Note::Moving { start, end } => (4, start, end),
        };
        let slot = &self.notes[(head % NOTES_MAX) as usize];
        slot[0].store(kind, Ordering::Relaxed);
        slot[1].store(a as u64, Ordering::Relaxed);
        slot[2].store(b as u64, Ordering::Relaxed);
        self.head.store(head + 1, Ordering::Release);
        true
    }

    /// Counts a note that was lost because nobody listens yet; the memory stays unmanaged.
    pub fn drop_note(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// How many notes were left so far.
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Takes the oldest note, if it is older than `horizon`.
    pub fn take(&self, horizon: u64) -> Option<Note> {
        let tail = self.tail.load(Ordering::Relaxed);
        if tail >= horizon {
            return None;
        }
        let slot = &self.notes[(tail % NOTES_MAX) as usize];
        let (start, end) = (slot[1].load(Ordering::Relaxed) as usize, slot[2].load(Ordering::Relaxed) as usize);
        let note = match slot[0].load(Ordering::Relaxed) {
            0 => Note::Mapped { start, end, charged: Charged::NotYet },
            5 => Note::Mapped { start, end, charged: Charged::Already },
            1 => Note::Unmapped { start, end },
            2 => Note::ForkPrepare,
            3 => Note::ForkDone,
            _ => Note::Moving { start, end },
        };
        self.tail.store(tail + 1, Ordering::Release);
        Some(note)
    }

    /// The address to touch in order to ring; `None` while nobody listens. Only in the thread's turn.
    pub fn next_bell(&self) -> Option<usize> {
        let base = self.bells.load(Ordering::Acquire) as usize;
        if base == 0 {
            return None;
        }
        let at = self.rung.fetch_add(1, Ordering::AcqRel) as usize % BELLS;
        Some(base + at * memvisor_core::PAGE_BYTES)
    }

    /// The monitor listens at these pages now (0: no longer).
    pub fn listen(&self, bells: usize) {
        self.rung.store(0, Ordering::Relaxed);
        self.bells.store(bells as u64, Ordering::Release);
    }

    /// Where the bells are, 0 when nobody listens.
    pub fn bells(&self) -> usize {
        self.bells.load(Ordering::Acquire) as usize
    }

    /// The affinity of a thread is about to be narrowed, or was put back.
    pub fn set_holding(&self, holding: bool) {
        self.holding.store(u64::from(holding), Ordering::Release);
    }

    /// Whether the affinity of a thread is narrower than the program made it. A ring puts it back.
    pub fn is_holding(&self) -> bool {
        self.holding.load(Ordering::Acquire) != 0
    }

    /// What the monitor answered to the last ring.
    pub fn answer(&self) -> u64 {
        self.answer.load(Ordering::Acquire)
    }

    /// Sets the answer, before the ring is answered.
    pub fn set_answer(&self, answer: u64) {
        self.answer.store(answer, Ordering::Release);
    }
}
