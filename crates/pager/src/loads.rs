//! Pages on their way from the log. The thread that wants one waits; the monitor goes on with others.

use crate::ahead::AHEAD_PAGES_MAX;
use crate::monitor::Monitor;
use crate::stores::Stores;
use memvisor_core::{PAGE_BYTES, Page, PageIndex, PageWord, SlotRef};
use memvisor_store::log::LogReader;
use memvisor_store::{LoadError, Why};
use memvisor_sys::file::AlignedBuffer;
use memvisor_sys::{Errno, clock};
use std::sync::atomic::Ordering::Relaxed;

/// Reads under way at a time: beyond 64, devices only queue.
const DEPTH: usize = 64;
/// A read that the device refuses is tried so often in all.
const TRIES_MAX: u8 = 3;

/// A page that is being read.
#[derive(Clone, Copy)]
struct Load {
    page: PageIndex,
    slot: SlotRef,
    ticket: u16,
    evicted: u16,
    tries: u8,
    /// The thread that waits for it; 0 when none does yet.
    thread: u32,
}

/// What came back for one load.
#[derive(Clone, Copy)]
enum Came {
    Bytes,
    Failed(LoadError),
}

/// The reads of one monitor.
pub(crate) struct Loads {
    reader: Option<LogReader>,
    under_way: [Option<Load>; DEPTH],
    outstanding: usize,
    bytes: AlignedBuffer,
}

impl Loads {
    /// Reads from the log of `stores`, if it has one.
    pub fn new(stores: &Stores) -> Result<Self, Errno> {
        let reader = stores.tiers.log.map(|log| log.reader(DEPTH, 1)).transpose()?;
        let pages = if reader.is_some() { DEPTH } else { 1 };
        Ok(Self { reader, under_way: [None; DEPTH], outstanding: 0, bytes: AlignedBuffer::new(pages * PAGE_BYTES)? })
    }

    /// The descriptor that says that a read has ended.
    pub fn fd(&self) -> i32 {
        self.reader.as_ref().and_then(LogReader::fd).unwrap_or(-1)
    }

    /// Pages that are being read.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// The program moved a page that is being read.
    pub fn moved(&mut self, from: PageIndex, to: PageIndex) {
        for load in self.under_way.iter_mut().flatten().filter(|load| load.page == from) {
            load.page = to;
        }
    }

    fn begin(&mut self, load: Load) -> bool {
        let Some(reader) = &mut self.reader else { return false };
        let Some(free) = self.under_way.iter().position(Option::is_none) else { return false };
        if reader.submit(load.slot, free as u64).is_err() {
            return false;
        }
        self.under_way[free] = Some(load);
        self.outstanding += 1;
        true
    }
}

impl Monitor {
    /// Begins to read a page from the log, and those behind it when they are wanted next.
    pub(crate) fn begin_log_load(&mut self, page: PageIndex, at: usize, word: PageWord) {
        let ahead = self.ahead_of(page).min(AHEAD_PAGES_MAX / 2);
        if !self.begin_read(page, word, self.follow.thread()) {
            self.wait_for_loads();
            return self.wake(at);
        }
        for next in page.0 + 1..page.0 + ahead as u32 {
            let word = self.space.page(PageIndex(next)).get();
            if !matches!(word.page(), Page::Stored(SlotRef::Log(_))) || !self.begin_read(PageIndex(next), word, 0) {
                return;
            }
            self.block.prefetched().fetch_add(1, Relaxed);
        }
    }

    fn begin_read(&mut self, page: PageIndex, word: PageWord, thread: u32) -> bool {
        let Page::Stored(slot @ SlotRef::Log(_)) = word.page() else { return false };
        let ticket = self.next_ticket();
        let Some(next) = word.load_begin(ticket) else { return false };
        if !self.space.page(page).swap(word, next) {
            return false;
        }
        let evicted = word.stamp();
        let begun = self.loads.begin(Load { page, slot, ticket, evicted, tries: 1, thread });
        if !begun {
            self.space.page(page).apply(|word| word.load_undone(ticket, evicted));
        }
        begun
    }

    /// Puts the pages whose reads have ended in their places.
    pub(crate) fn finish_loads(&mut self) {
        self.take_loads(false);
    }

    /// Waits until at least one read has ended.
    pub(crate) fn wait_for_loads(&mut self) {
        self.take_loads(true);
    }

    fn take_loads(&mut self, wait: bool) {
        if self.loads.outstanding == 0 {
            return;
        }
        let mut came = [None; DEPTH];
        let Loads { reader: Some(reader), bytes, .. } = &mut self.loads else { return };
        let take = |done: memvisor_store::log::ReadDone<'_>| {
            let at = done.token as usize;
            came[at] = Some(match done.page {
                Ok(page) => {
                    bytes.page_mut(at).copy_from_slice(page);
                    Came::Bytes
                }
                Err(error) => Came::Failed(error),
            });
        };
        if wait {
            reader.wait(take);
        } else {
            reader.complete(take);
        }
        for (at, came) in came.iter().enumerate() {
            if let Some(came) = came {
                self.finish_load(at, *came);
            }
        }
    }

    fn finish_load(&mut self, at: usize, came: Came) {
        let Some(load) = self.loads.under_way[at].take() else { return };
        self.loads.outstanding -= 1;
        let word = self.space.page(load.page).get();
        if !matches!(word.page(), Page::Loading(_)) || word.stamp() != load.ticket {
            // Given away meanwhile: what was read is nobody's.
            return;
        }
        let address = self.space.address(load.page);
        match came {
            Came::Bytes => {
                let bytes = self.loads.bytes[at * PAGE_BYTES..].as_ptr();
                if load.thread == 0 {
                    self.told_along(load.page);
                }
                self.hold(load.thread, clock::now_ns());
                self.heard = true;
                self.place_loaded(load.page, address, load.ticket, load.evicted, load.slot, bytes);
            }
            Came::Failed(LoadError::Lost { why: Why::Io(_), .. } | LoadError::Busy) if load.tries < TRIES_MAX => {
                self.block.retries().fetch_add(1, Relaxed);
                if !self.loads.begin(Load { tries: load.tries + 1, ..load }) {
                    self.space.page(load.page).apply(|word| word.load_undone(load.ticket, load.evicted));
                    self.wake(address);
                }
            }
            Came::Failed(error) => self.load_failed(load.page, address, load.ticket, load.evicted, error),
        }
    }
}
