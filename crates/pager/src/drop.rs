//! Memory is given up by another thread than the monitor.
//!
//! The kernel tells the monitor of every MADV_DONTNEED in registered memory and lets the caller wait until the message was
//! read. So the monitor cannot call it itself: a thread beside it does, and the monitor reads on until it sees the
//! message of that call. What else it reads meanwhile is put aside for the next turn.

use crate::monitor::Monitor;
use memvisor_core::{PAGE_BYTES, RUN_PAGES};
use memvisor_sys::futex::FutexWord;
use memvisor_sys::uffd::{Message, MessageBuffer};
use memvisor_sys::{memory, thread};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The thread was started and does not listen yet. The C library may touch managed memory on its way, so the monitor
/// must not wait for it.
const STARTING: u64 = 0;
const IDLE: u64 = 1;
const ASKED: u64 = 2;
const DONE: u64 = 3;
/// Starts a thread that, like the monitor, never touches managed memory; `false` when there is none to be had.
pub type SpawnThread = fn(Box<dyn FnOnce() + Send>) -> bool;

#[derive(Default)]
struct Request {
    state: AtomicU64,
    start: AtomicU64,
    bytes: AtomicU64,
}

/// The thread that gives memory up, started when it is first needed.
#[derive(Default)]
pub(crate) struct Dropper {
    request: Option<Arc<Request>>,
    /// A thread that waits for the monitor may have locked malloc, which the start of a thread needs.
    malloc_is_locked: bool,
}

impl Dropper {
    /// Says whether a thread can be started now. Gives what was said before.
    pub fn set_malloc_locked(&mut self, locked: bool) -> bool {
        std::mem::replace(&mut self.malloc_is_locked, locked)
    }

    /// The request of the thread, if it listens already.
    fn request(&mut self, spawn: SpawnThread) -> Option<Arc<Request>> {
        if self.request.is_none() {
            if self.malloc_is_locked {
                return None;
            }
            let request = Arc::new(Request::default());
            let served = Arc::clone(&request);
            if !spawn(Box::new(move || serve(&served))) {
                return None;
            }
            self.request = Some(request);
        }
        self.request.clone().filter(|request| request.state.load(Acquire) != STARTING)
    }
}

fn serve(request: &Request) {
    let _ = thread::name(c"memvisor-drop");
    request.state.store(IDLE, Release);
    loop {
        match request.state.load(Acquire) {
            ASKED => {
                let (start, bytes) = (request.start.load(Relaxed) as usize, request.bytes.load(Relaxed) as usize);
                let _ = memory::drop_pages(start, bytes);
                request.state.store(DONE, Release);
                let _ = FutexWord(&request.state).wake(1);
            }
            state => {
                let _ = FutexWord(&request.state).wait(state as u32, None);
            }
        }
    }
}

/// Messages of what the program gives away while the monitor itself drops a range.
struct Overheard {
    start: usize,
    /// How often each page of the range was said to be given away.
    told: [u8; RUN_PAGES],
}

impl Overheard {
    /// Whether the message could be of our own drop: it lies in the range.
    fn takes(&mut self, message: &Message, bytes: usize) -> bool {
        let Message::Remove { start, end } = *message else { return false };
        if start < self.start || end > self.start + bytes {
            return false;
        }
        for at in (start - self.start) / PAGE_BYTES..(end - self.start) / PAGE_BYTES {
            self.told[at] = self.told[at].saturating_add(1);
        }
        true
    }

    /// The pages that the program gave away too: they were told of more than once.
    fn given_by_program(&self) -> impl Iterator<Item = Message> + '_ {
        self.told.iter().enumerate().filter(|(_, told)| **told > 1).map(|(at, _)| {
            let start = self.start + at * PAGE_BYTES;
            Message::Remove { start, end: start + PAGE_BYTES }
        })
    }
}

impl Monitor {
    /// Gives the pages of `start..start+bytes` up, a run at most. What the kernel refuses to drop stays.
    pub(crate) fn drop_program_pages(&mut self, start: usize, bytes: usize) {
        let Some(request) = self.dropper.request(self.spawn) else { return };
        request.start.store(start as u64, Relaxed);
        request.bytes.store(bytes as u64, Relaxed);
        request.state.store(ASKED, Release);
        let _ = FutexWord(&request.state).wake(1);
        let mut messages = MessageBuffer::new();
        let mut overheard = Overheard { start, told: [0; RUN_PAGES] };
        while request.state.load(Acquire) == ASKED {
            if self.deferred.is_empty() {
                self.deferred_horizon = self.door.head();
            }
            if self.uffd.read(&mut messages).unwrap_or(0) == 0 {
                thread::yield_now();
                continue;
            }
            self.deferred.extend(messages.messages().filter(|message| !overheard.takes(message, bytes)));
        }
        request.state.store(IDLE, Release);
        self.deferred.extend(overheard.given_by_program());
    }
}
