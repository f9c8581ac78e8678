//! Reading: several requests under way at once, each of one page or a run of neighbours.

use super::LogStore;
use super::ring::Ring;
use crate::faulty::LoadFault;
use crate::{Errno, LoadError, PageBytes, SlotRef, Why, hash48};
use memvisor_core::PAGE_BYTES;
use memvisor_sys::file::AlignedBuffer;

/// A page that was read.
#[derive(Debug)]
pub struct ReadDone<'a> {
    /// The token of its request.
    pub token: u64,
    /// Its slot.
    pub slot: SlotRef,
    /// Its bytes, until the call that gave them ends; or why they cannot be brought back.
    pub page: Result<&'a PageBytes, LoadError>,
}

#[derive(Clone, Copy)]
enum State {
    Free,
    UnderWay,
    /// Read, or not, and not told yet.
    Done(Result<usize, Errno>),
}

struct Request {
    state: State,
    token: u64,
    first: u64,
    pages: usize,
    fault: LoadFault,
}

/// Reads pages of a log. One thread's. Its requests have buffers of their own, aligned for direct I/O, from which pages are
/// copied to where they belong; nothing is allocated after it is made.
pub struct LogReader {
    store: LogStore,
    ring: Option<Ring>,
    run_pages: usize,
    requests: Box<[Request]>,
    buffer: AlignedBuffer,
    under_way: usize,
}

impl LogReader {
    pub(super) fn new(store: LogStore, depth: usize, run_pages: usize) -> Result<Self, Errno> {
        let requests = (0..depth).map(|_| Request {
            state: State::Free,
            token: 0,
            first: 0,
            pages: 0,
            fault: LoadFault::default(),
        });
        Ok(LogReader {
            store,
            ring: Ring::new(depth as u32),
            run_pages,
            requests: requests.collect(),
            buffer: AlignedBuffer::new(depth * run_pages * PAGE_BYTES)?,
            under_way: 0,
        })
    }

    /// The same reader without io_uring: as where the system permits none. A request is then done when it is submitted.
    pub fn without_ring(mut self) -> Self {
        if self.under_way == 0 {
            self.ring = None;
        }
        self
    }

    /// The descriptor that is readable when a request is done; `None` where requests are done at once.
    pub fn fd(&self) -> Option<i32> {
        self.ring.as_ref().map(Ring::fd)
    }

    /// Requests that are not told yet.
    pub fn pending(&self) -> usize {
        self.requests.iter().filter(|request| !matches!(request.state, State::Free)).count()
    }

    /// Begins to read a page. The caller is an owner of the slot until it is done.
    ///
    /// # Errors
    /// [`LoadError::Busy`] when as many requests are under way as there can be; complete one first.
    pub fn submit(&mut self, slot: SlotRef, token: u64) -> Result<(), LoadError> {
        self.submit_run(slot, 1, token)
    }

    /// Begins to read `pages` pages of which `first` is the slot of the first. Of those that are nobody's nothing true
    /// comes back.
    ///
    /// # Errors
    /// [`LoadError::Busy`] as above; [`LoadError::Lost`] when the run is longer than the reader's, or not in the log.
    pub fn submit_run(&mut self, first: SlotRef, pages: usize, token: u64) -> Result<(), LoadError> {
        let bad = self.store.lost(first, Why::BadSlot);
        let SlotRef::Log(page) = first else { return Err(bad) };
        let end = page.checked_add(pages as u64).ok_or(bad)?;
        if pages == 0 || pages > self.run_pages || end > self.store.table.pages.len() as u64 {
            return Err(bad);
        }
        let free = self.requests.iter().position(|request| matches!(request.state, State::Free));
        let number = free.ok_or(LoadError::Busy)?;
        let fault = self.store.faults.on_load();
        let state = self.start(number, page, pages, fault)?;
        self.under_way += matches!(state, State::UnderWay) as usize;
        self.requests[number] = Request { state, token, first: page, pages, fault };
        Ok(())
    }

    /// Tells of the requests that are done, page by page; how many requests it were. It does not wait.
    pub fn complete(&mut self, each: impl FnMut(ReadDone<'_>)) -> usize {
        if let Some(ring) = &mut self.ring {
            ring.flush();
        }
        self.reap();
        self.tell(each)
    }

    /// As [`LogReader::complete`], but waits for one when none is done. 0 when none is under way.
    pub fn wait(&mut self, mut each: impl FnMut(ReadDone<'_>)) -> usize {
        loop {
            let told = self.complete(&mut each);
            if told > 0 || self.under_way == 0 {
                return told;
            }
            self.wait_for_one();
        }
    }

    fn start(&mut self, number: usize, page: u64, pages: usize, fault: LoadFault) -> Result<State, LoadError> {
        let (from, bytes) = (number * self.run_pages * PAGE_BYTES, pages * PAGE_BYTES);
        let offset = page * PAGE_BYTES as u64;
        let to = &mut self.buffer[from..from + bytes];
        let Some(ring) = &mut self.ring else {
            if let Some(stall) = fault.stall {
                std::thread::sleep(stall);
            }
            return Ok(State::Done(self.store.fd.pread_exact(to, offset).map(|()| bytes)));
        };
        // SAFETY: the bytes are this request's until its completion is reaped, and the reader waits for that before its
        // buffer is given back.
        unsafe { ring.read(self.store.fd(), to.as_mut_ptr(), bytes as u32, offset, number as u64, fault.stall) }
            .map(|()| State::UnderWay)
            .map_err(|_| LoadError::Busy)
    }

    /// Notes what the kernel has completed.
    fn reap(&mut self) {
        while let Some((number, result)) = self.ring.as_mut().and_then(Ring::completed) {
            if let Some(request) = self.requests.get_mut(number as usize)
                && matches!(request.state, State::UnderWay)
            {
                request.state = State::Done(result);
                self.under_way -= 1;
            }
        }
    }

    fn tell(&mut self, mut each: impl FnMut(ReadDone<'_>)) -> usize {
        let mut told = 0;
        for (number, request) in self.requests.iter_mut().enumerate() {
            let State::Done(result) = request.state else { continue };
            let from = number * self.run_pages * PAGE_BYTES;
            let piece = &mut self.buffer[from..from + request.pages * PAGE_BYTES];
            let result = match result {
                Ok(bytes) if bytes == piece.len() => Ok(()),
                // The kernel may stop early or give up; a plain read tells why.
                Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {
                    self.store.fd.pread_exact(piece, request.first * PAGE_BYTES as u64)
                }
                Err(errno) => Err(errno),
            };
            let result = if request.fault.error { Err(Errno::EIO) } else { result };
            let (pages, _) = piece.as_chunks_mut::<PAGE_BYTES>();
            request.fault.flip_in(&mut pages[0]);
            let pages: &[PageBytes] = pages;
            for (at, page) in pages.iter().enumerate() {
                let slot = SlotRef::Log(request.first + at as u64);
                let read = result.map_err(|errno| self.store.lost(slot, Why::Io(errno)));
                let page = read.and_then(|()| check(&self.store, slot, page).map(|()| page));
                each(ReadDone { token: request.token, slot, page });
            }
            request.state = State::Free;
            told += 1;
        }
        told
    }

    fn wait_for_one(&mut self) {
        if let Some(ring) = &mut self.ring {
            let _ = ring.wait();
        }
        self.reap();
    }
}

/// Whether a page is the one that was stored in `slot`.
fn check(store: &LogStore, slot: SlotRef, page: &PageBytes) -> Result<(), LoadError> {
    let hash = store.stored_hash(slot).ok_or(store.lost(slot, Why::BadSlot))?;
    if hash48(store.hash_seed, page) == hash { Ok(()) } else { Err(store.lost(slot, Why::Checksum)) }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        // The kernel still writes into the buffer.
        while self.under_way > 0 {
            self.wait_for_one();
        }
    }
}
