//! The monitor: the thread of an address space that serves its faults and decides what leaves.
//!
//! One turn of its loop reads a batch of messages and the notes of the program's threads, in an order that keeps the
//! two consistent; serves the faults; then makes room. Nothing it touches is managed memory: a monitor that faulted
//! would wait for itself.
//!
//! Absent on purpose: locks, allocation on the fault path, any knowledge of policy beyond the target in the header.

use crate::ahead::AHEAD_PAGES_MAX;
use crate::door::Door;
use crate::drop::{Dropper, SpawnThread};
use crate::follow::Follow;
use crate::fork::Nascent;
use crate::loads::Loads;
use crate::look::Looking;
use crate::postpone::{Fault, Postponed};
use crate::regions::Regions;
use crate::save::SaveBuffers;
use crate::space::{MemberIndex, Space};
use crate::staging::Staging;
use crate::stores::Stores;
use crate::watch::KeeperWatch;
use crate::windows::WindowMap;
use memvisor_core::drain::Walk;
use memvisor_core::full::Refusals;
use memvisor_core::prefetch::{Ahead, Streams};
use memvisor_core::replace::{Replacement, S3Fifo};
use memvisor_core::{PAGE_BYTES, PageIndex, SlotRef};
use memvisor_proto::space::{member_state, option};
use memvisor_proto::{Header, Member};
use memvisor_sys::file::{self, AlignedBuffer, Fd};
use memvisor_sys::memory::Staging as StagingArea;
use memvisor_sys::pagemap::Pagemap;
use memvisor_sys::poll::PollFd;
use memvisor_sys::uffd::{self, Message, MessageBuffer, Uffd};
use memvisor_sys::{Errno, clock, thread};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// While frames wait or other members run, the monitor looks around this often, in milliseconds.
const BUSY_TICK_MS: i32 = 10;
/// Otherwise this often: for a new target.
const IDLE_TICK_MS: i32 = 200;
/// Under load the same happens between faults: every so many turns the clock is looked at.
const TURNS_PER_LOOK: u32 = 64;
const BUSY_TICK_NS: u64 = BUSY_TICK_MS as u64 * 1_000_000;
/// Messages of one batch.
const BATCH: usize = 32;

/// How pages leave their place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parking {
    /// UFFDIO_MOVE: whole, atomic against the program.
    Move,
    /// Kernels before 6.8: write-protect, copy, drop.
    Copy,
}

/// Serves the faults of one address space.
pub struct Monitor {
    pub(crate) space: Space,
    pub(crate) header: Header<'static>,
    pub(crate) me: MemberIndex,
    pub(crate) block: Member<'static>,
    pub(crate) door: &'static Door,
    pub(crate) bells: usize,
    pub(crate) parking: Parking,
    /// Of the program's memory.
    pub(crate) uffd: Uffd,
    /// Of the staging area; never blocks, so that a reader of an empty frame gets an error.
    pub(crate) staging_uffd: Uffd,
    pub(crate) staging: Staging,
    pub(crate) windows: WindowMap,
    pub(crate) regions: Regions,
    pub(crate) arm_next: usize,
    /// The newest plain memory, while it was not looked at whether it fits.
    pub(crate) fresh: Range<usize>,
    pub(crate) policy: S3Fifo,
    pub(crate) evicted: u64,
    pub(crate) granule: u64,
    pub(crate) stores: Stores,
    pub(crate) save_buffers: SaveBuffers,
    pub(crate) buffer: AlignedBuffer,
    pub(crate) zeros: AlignedBuffer,
    pub(crate) loads: Loads,
    pub(crate) streams: Streams,
    pub(crate) pagemap: Pagemap,
    pub(crate) keeper: KeeperWatch,
    pub(crate) follow: Follow,
    pub(crate) ticket: u16,
    /// Pages that a walk in steps will want next.
    pub(crate) stepping: Ahead,
    pub(crate) refusals_seen: u64,
    /// What the stores refused lately of what this member wanted to leave.
    pub(crate) refusals: Refusals,
    /// It was said that nothing can leave.
    pub(crate) said_full: bool,
    /// The process's own memory, to read what the program itself may not.
    pub(crate) memory: Fd,
    pub(crate) dropper: Dropper,
    pub(crate) looking: Looking,
    /// How far a drain has come.
    pub(crate) drain: Walk,
    pub(crate) spawn: SpawnThread,
    /// Faults that wait for room.
    pub(crate) postponed: Postponed,
    /// Messages that were read while waiting for another.
    pub(crate) deferred: Vec<Message>,
    /// Room for those that come while they are heard, so that nothing is allocated.
    pub(crate) deferred_next: Vec<Message>,
    /// Notes left before the first of them was read.
    pub(crate) deferred_horizon: u64,
    /// How often this thread holds the door's lock, or a thread that holds it waits for this one.
    pub(crate) layout_holds: u32,
    /// What is being moved, as far as notes were read.
    pub(crate) moving: Range<usize>,
    /// The last turn let a thread go on.
    pub(crate) heard: bool,
    pub(crate) turns: u32,
    pub(crate) ticked_ns: u64,
    pub(crate) nascent: Option<Nascent>,
    pub(crate) maps_buffer: Vec<u8>,
}

/// Why a monitor could not be made.
#[derive(Debug)]
pub struct SetupError {
    /// What was tried.
    pub step: &'static str,
    /// What the kernel said.
    pub cause: Errno,
}

impl std::fmt::Display for SetupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step, self.cause)
    }
}

/// What a monitor starts from.
pub struct Start {
    /// The space.
    pub space: Space,
    /// The member this process is.
    pub me: MemberIndex,
    /// The door of this process.
    pub door: &'static Door,
    /// The stores.
    pub stores: Stores,
    /// Process id of the keeper.
    pub keeper_pid: u32,
    /// How to start a thread.
    pub spawn: SpawnThread,
}

impl Monitor {
    /// Makes the monitor of this process. Call it in the thread that will run it: its descriptors are that thread's own.
    ///
    /// # Errors
    /// When the kernel refuses what is needed; the program can then only run unmanaged.
    pub fn new(start: Start) -> Result<Self, SetupError> {
        let Start { space, me, door, stores, keeper_pid, spawn } = start;
        let step = |step| move |cause| SetupError { step, cause };
        let (header, block) = (space.header(), space.member(me));
        let available = Uffd::available_features().map_err(step("asking userfaultfd for its features"))?;
        let can_move = available & uffd::FEATURE_MOVE != 0 && !space.has_option(option::WITHOUT_MOVE);
        let parking = if can_move { Parking::Move } else { Parking::Copy };
        let events = uffd::FEATURE_EVENT_UNMAP
            | uffd::FEATURE_EVENT_REMAP
            | uffd::FEATURE_EVENT_REMOVE
            | uffd::FEATURE_THREAD_ID
            | uffd::FEATURE_PAGEFAULT_FLAG_WP;
        let (for_program, for_staging) = match parking {
            Parking::Move => (events | uffd::FEATURE_MOVE, uffd::FEATURE_MOVE | uffd::FEATURE_SIGBUS),
            Parking::Copy => (events, uffd::FEATURE_SIGBUS),
        };
        let poison = available & uffd::FEATURE_POISON;
        let uffd = Uffd::open(for_program | poison).map_err(step("opening a userfaultfd"))?;
        let staging_uffd = Uffd::open(for_staging).map_err(step("opening a userfaultfd for staging"))?;

        let target_pages = header.target_bytes().load(Relaxed) / PAGE_BYTES as u64;
        let frames = Staging::frames_for(target_pages);
        let area = StagingArea::new(frames as u32).map_err(step("mapping the staging area"))?;
        staging_uffd
            .register(area.base(), frames as usize * PAGE_BYTES, uffd::REGISTER_MISSING)
            .map_err(step("registering the staging area"))?;
        let memory = file::open(c"/proc/self/mem", file::O_RDONLY | file::O_CLOEXEC, 0);
        let memory = memory.map_err(step("opening the process's own memory"))?;
        let buffer = AlignedBuffer::new(AHEAD_PAGES_MAX * PAGE_BYTES).map_err(step("mapping a buffer"))?;
        let zeros = AlignedBuffer::new(AHEAD_PAGES_MAX * PAGE_BYTES).map_err(step("mapping a buffer"))?;
        let save_buffers = SaveBuffers::new().map_err(step("mapping buffers for saving"))?;
        let loads = Loads::new(&stores).map_err(step("mapping buffers for the log"))?;
        let pagemap = Pagemap::open(None).map_err(step("opening the page map"))?;
        let mut monitor = Self {
            space,
            header,
            me,
            block,
            door,
            bells: 0,
            parking,
            uffd,
            staging_uffd,
            staging: Staging::new(space, me, area, frames),
            windows: WindowMap::default(),
            regions: Regions::default(),
            arm_next: 0,
            fresh: 0..0,
            policy: S3Fifo::new(target_pages),
            evicted: 0,
            granule: 1,
            stores,
            save_buffers,
            buffer,
            zeros,
            loads,
            streams: Streams::default(),
            pagemap,
            keeper: KeeperWatch::new(keeper_pid),
            follow: Follow::new(door),
            ticket: 0,
            stepping: Ahead::NONE,
            refusals_seen: 0,
            refusals: Refusals::default(),
            said_full: false,
            memory,
            dropper: Dropper::default(),
            looking: Looking::new(clock::now_ns() ^ u64::from(memvisor_sys::process::getpid()) << 32),
            drain: Walk::default(),
            spawn,
            postponed: Postponed::default(),
            deferred: Vec::with_capacity(4 * BATCH),
            deferred_next: Vec::with_capacity(4 * BATCH),
            deferred_horizon: 0,
            layout_holds: 0,
            moving: 0..0,
            heard: false,
            turns: 0,
            ticked_ns: 0,
            nascent: None,
            maps_buffer: vec![0; 1 << 16],
        };
        monitor.resize();
        monitor.hang_bells().map_err(step("registering the door"))?;
        block.monitor_tid().store(u64::from(thread::gettid()), Relaxed);
        Ok(monitor)
    }

    /// Serves faults until the process ends.
    pub fn run(mut self) -> ! {
        self.block.state().store(member_state::LIVE, std::sync::atomic::Ordering::Release);
        let mut messages = MessageBuffer::new();
        loop {
            self.wait();
            self.turn(&mut messages);
        }
    }

    fn wait(&mut self) {
        let busy = !self.staging.is_idle()
            || self.header.members().load(Relaxed) > 1
            || self.nascent.is_some()
            || (self.slack() < 0 && !self.is_stuck());
        if !self.deferred.is_empty() {
            return;
        }
        let timeout = match () {
            () if self.is_draining() => 0,
            () if !self.postponed.is_empty() => self.postponed.timeout_ms(),
            () if busy => BUSY_TICK_MS,
            () => IDLE_TICK_MS,
        };
        if std::mem::take(&mut self.heard) && self.follow.is_holding() {
            // The next fault of the thread that is held is there already, as a rule.
            return self.tick_under_load();
        }
        self.follow.let_go();
        let mut fds = [PollFd::readable(self.uffd.fd()), PollFd::readable(self.loads.fd())];
        let count = if self.loads.outstanding() > 0 { 2 } else { 1 };
        let quiet = memvisor_sys::poll::poll(&mut fds[..count], timeout) == Ok(0) && timeout > 0;
        if quiet {
            return self.tick();
        }
        self.tick_under_load();
    }

    fn tick_under_load(&mut self) {
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(TURNS_PER_LOOK) && clock::now_ns() - self.ticked_ns > BUSY_TICK_NS {
            self.tick();
        }
    }

    /// One turn. Notes that were left before the messages were read are taken before the events among them: a thread
    /// that unmaps and another that maps the same place then are seen in that order (they share the door's lock, and the
    /// first returns only when its event was read).
    fn turn(&mut self, messages: &mut MessageBuffer) {
        self.hear_deferred();
        let horizon = self.door.head();
        let count = self.uffd.read(messages).unwrap_or(0);
        self.heard = count > 0;
        self.read_notes(horizon);
        let read = messages.messages();
        self.hear(read);
        self.hear_deferred();
        self.finish_loads();
        if count > 0 {
            self.read_notes(self.door.head());
        }
        self.make_room();
        self.serve_postponed();
        self.drain_some();
    }

    /// Acts on messages that were put aside, before any note that was left after they were read: a thread that moved memory
    /// leaves its note when its message was read, and a note that came first would throw away what the message moves.
    fn hear_deferred(&mut self) {
        while !self.deferred.is_empty() {
            self.read_notes(self.deferred_horizon);
            let mut deferred = std::mem::replace(&mut self.deferred, std::mem::take(&mut self.deferred_next));
            self.hear(deferred.drain(..));
            self.deferred_next = deferred;
        }
    }

    /// Acts on messages: first on what says that memory changed, then on the faults among them.
    fn hear(&mut self, messages: impl Iterator<Item = Message>) {
        let mut faults = [(0usize, false, 0u32); BATCH];
        let mut pending = 0;
        for message in messages {
            match message {
                Message::Fault { address, write_protect, thread, .. } if pending < BATCH => {
                    faults[pending] = (address, write_protect, thread);
                    pending += 1;
                }
                Message::Fault { .. } => self.deferred.push(message),
                Message::Remove { start, end } => self.removed(start, end),
                Message::Unmap { start, end } => self.unmapped(start, end),
                Message::Remap { from, to, len } => self.moved(from, to, len),
                Message::Fork { .. } => {}
            }
        }
        for &(address, write_protect, thread) in &faults[..pending] {
            let begun_ns = clock::now_ns();
            if self.is_bell(address) {
                self.answer(address);
                continue;
            }
            let fault = Fault { address, write_protect, thread, begun_ns };
            if !self.must_wait(&fault) {
                self.serve_fault(fault);
            }
        }
    }

    pub(crate) fn serve_fault(&mut self, Fault { address, write_protect, thread, begun_ns }: Fault) {
        self.looking.heard_ns = begun_ns;
        self.follow.heard_of(thread);
        self.hold(thread, begun_ns);
        self.serve(address, write_protect);
        self.count_service(clock::now_ns().saturating_sub(begun_ns));
        self.step_ahead();
        self.follow.fault_of(thread, &self.block);
    }

    /// Holds a thread that is woken soon to this CPU, if that is worth while. What is forked would stay held for ever.
    pub(crate) fn hold(&mut self, thread: u32, now_ns: u64) {
        if self.nascent.is_none() {
            self.follow.hold(thread, now_ns);
        }
    }

    fn count_service(&mut self, ns: u64) {
        self.block.faults().fetch_add(1, Relaxed);
        self.block.fault_ns().count(ns);
        self.block.fault_ns_max().fetch_max(ns, Relaxed);
    }

    /// What is done when nothing happens: new target, frames that wait, a fair share for others.
    fn tick(&mut self) {
        self.ticked_ns = clock::now_ns();
        self.block.pager_bytes().store(memvisor_sys::memory::own_bytes() as u64, Relaxed);
        self.resize();
        self.settle_staging();
        self.read_notes(self.door.head());
        self.give_way();
        self.make_room();
        self.look();
    }

    /// Follows the target in the header.
    pub(crate) fn resize(&mut self) {
        let target = self.header.target_bytes().load(Relaxed) / PAGE_BYTES as u64;
        self.granule = (target / 256).max(1);
        self.policy.set_capacity(target);
    }

    /// The eviction clock: one tick for a 256th of the target evicted.
    pub(crate) fn now(&self) -> u16 {
        (self.evicted / self.granule) as u16
    }

    /// Charges pages to the space.
    pub(crate) fn charge(&self, pages: i64) {
        self.header.charged_pages().fetch_add(pages as u64, Relaxed);
    }

    /// `pages` more of this member are in their place.
    pub(crate) fn count_resident(&self, pages: i64) {
        self.block.resident_pages().fetch_add(pages as u64, Relaxed);
        self.charge(pages);
    }

    /// `pages` more of this member exist and are not in their place.
    pub(crate) fn count_away(&self, pages: i64) {
        self.block.away_pages().fetch_add(pages as u64, Relaxed);
    }

    /// `pages` more frames of this member hold memory in staging.
    pub(crate) fn count_staged(&self, pages: i64) {
        self.block.staged_pages().fetch_add(pages as u64, Relaxed);
        self.charge(pages);
    }

    pub(crate) fn next_ticket(&mut self) -> u16 {
        self.ticket = self.ticket.wrapping_add(1);
        self.ticket
    }

    pub(crate) fn release(&self, slot: SlotRef) {
        if slot.is_some() {
            self.stores.release(slot);
        }
    }

    pub(crate) fn page_at(&mut self, address: usize) -> Option<PageIndex> {
        self.windows.find(address)
    }
}
