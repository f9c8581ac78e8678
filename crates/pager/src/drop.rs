//! Memory is given up by another thread than the monitor.
//!
//! The kernel tells the monitor of every MADV_DONTNEED in registered memory and lets the caller wait until the message was
//! read. So the monitor cannot call it itself: a thread beside it does, and the monitor reads on until it sees the
//! message of that call. What else it reads meanwhile is put aside for the next turn.

use crate::monitor::Monitor;
use memvisor_sys::futex::FutexWord;
use memvisor_sys::uffd::{Message, MessageBuffer};
use memvisor_sys::{memory, thread};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const IDLE: u64 = 0;
const ASKED: u64 = 1;
const DONE: u64 = 2;
const FAILED: u64 = 3;
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
}

impl Dropper {
    fn request(&mut self, spawn: SpawnThread) -> Option<Arc<Request>> {
        if self.request.is_none() {
            let request = Arc::new(Request::default());
            let served = Arc::clone(&request);
            if !spawn(Box::new(move || serve(&served))) {
                return None;
            }
            self.request = Some(request);
        }
        self.request.clone()
    }
}

fn serve(request: &Request) {
    let _ = thread::name(c"memvisor-drop");
    loop {
        match request.state.load(Acquire) {
            ASKED => {
                let (start, bytes) = (request.start.load(Relaxed) as usize, request.bytes.load(Relaxed) as usize);
                let dropped = memory::drop_pages(start, bytes).is_ok();
                request.state.store(if dropped { DONE } else { FAILED }, Release);
                let _ = FutexWord(&request.state).wake(1);
            }
            state => {
                let _ = FutexWord(&request.state).wait(state as u32, None);
            }
        }
    }
}

impl Monitor {
    /// Gives the pages of `start..start+bytes` up. `false` when the kernel refuses.
    pub(crate) fn drop_program_pages(&mut self, start: usize, bytes: usize) -> bool {
        let Some(request) = self.dropper.request(self.spawn) else { return false };
        request.start.store(start as u64, Relaxed);
        request.bytes.store(bytes as u64, Relaxed);
        request.state.store(ASKED, Release);
        let _ = FutexWord(&request.state).wake(1);
        let mut messages = MessageBuffer::new();
        while request.state.load(Acquire) == ASKED {
            if self.deferred.is_empty() {
                self.deferred_horizon = self.door.head();
            }
            if self.uffd.read(&mut messages).unwrap_or(0) == 0 {
                thread::yield_now();
                continue;
            }
            let own = Message::Remove { start, end: start + bytes };
            self.deferred.extend(messages.messages().filter(|message| *message != own));
        }
        request.state.swap(IDLE, Release) == DONE
    }
}
