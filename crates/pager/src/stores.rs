//! The stores of a space as savers and servers use them: pages are saved by the batch, and stores are kept in order.

use crate::space::{MemberIndex, Space};
use memvisor_core::full::log_usable_pages;
use memvisor_core::{PAGE_BYTES, PageIndex, SlotRef};
use memvisor_proto::Header;
use memvisor_proto::segment::SEGMENT_PAGES;
use memvisor_store::log::{AppendError, LogParts, LogStore, LogWriter};
use memvisor_store::ram::{RamParts, Scratch};
use memvisor_store::tiers::{SinkPlan, Tiers};
use memvisor_store::{LoadError, PageBytes, RamStore, RetainError, SaveOutcome};
use memvisor_sys::Errno;
use memvisor_sys::file::{self, AlignedBuffer};
use memvisor_sys::shared::SharedMap;
use std::ffi::CStr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Slabs and segments whose memory is given back in one go.
const PUNCH_MAX: usize = 64;
/// Sparse slabs that one compaction empties at most, and from how many on one is worth the sweep over all page words.
const COMPACT_SLABS: (usize, usize) = (4, 64);
/// Sparse segments that one cleaning empties at most.
const CLEAN_SEGMENTS: usize = 8;
/// Page words that one step of sinking changes at most.
const SINK_WORDS: usize = 2048;
/// Turns of tidying, of 20 ms each, in which no copies are looked for after a sweep over all page words found none.
const COPIES_REST: u32 = 50;
/// Ticks of the eviction clock after which a stored page is old: a quarter of the target was evicted since.
const OLD_TICKS: u16 = 64;

/// A page that is to be saved.
#[derive(Clone, Copy)]
pub struct Pending {
    /// Which page of the member.
    pub page: PageIndex,
    /// The stored copy that it had when it was last filled.
    pub retained: SlotRef,
}

impl Default for Pending {
    fn default() -> Self {
        Self { page: PageIndex(0), retained: SlotRef::None }
    }
}

/// The stores of a space, as one thread uses them.
pub struct Stores {
    /// What any thread may do with them.
    pub tiers: Tiers,
    header: Header<'static>,
    scratch: Box<Scratch>,
    writer: Option<LogWriter>,
    /// Where the next sinking goes on, in page words of the member.
    hand: usize,
    /// Turns of tidying until copies are looked for again.
    copies_rest: u32,
}

impl Stores {
    /// Opens the stores of the space in `map`; `log` is the path of the log's file.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub fn attach(map: SharedMap, log: Option<&CStr>) -> Result<Self, Errno> {
        let header = Space::new(map).header();
        let ram = RamStore::open(map, RamParts::SPACE, header);
        let log = match log {
            Some(path) => {
                let (fd, _) = file::open_direct(path, file::O_RDWR | file::O_CLOEXEC, 0)?;
                Some(LogStore::attach(fd, map, LogParts::SPACE, header)?)
            }
            None => None,
        };
        Ok(Self {
            tiers: Tiers { ram, log },
            header,
            scratch: Box::new(Scratch::new()),
            writer: None,
            hand: 0,
            copies_rest: 0,
        })
    }

    /// Takes an owner from a slot.
    pub fn release(&self, slot: SlotRef) {
        self.tiers.release(slot);
    }

    /// Adds an owner to a slot.
    ///
    /// # Errors
    /// When it has none, or too many.
    pub fn retain(&self, slot: SlotRef) -> Result<(), RetainError> {
        self.tiers.retain(slot)
    }

    /// Brings a page back.
    ///
    /// # Errors
    /// When it cannot be brought back true.
    pub fn load(&self, slot: SlotRef, out: &mut PageBytes) -> Result<(), LoadError> {
        self.tiers.load(slot, out)
    }

    /// Whether a page that is loaded from `slot` may keep its stored copy. In RAM a copy costs what a page could have, so
    /// it is kept only while the store is less than half full; a copy in the log saves a write.
    pub fn has_room_to_retain(&self, slot: SlotRef) -> bool {
        let word = |word: &AtomicU64| word.load(Relaxed);
        match slot {
            SlotRef::Filled(_) | SlotRef::None => true,
            SlotRef::Ram(_) => word(self.header.ram_bytes()) < word(self.header.ram_limit_bytes()) / 2,
            SlotRef::Log(_) => word(self.header.log_used_pages()) < self.log_usable_pages() / 4 * 3,
        }
    }

    fn log_usable_pages(&self) -> u64 {
        log_usable_pages(self.header.log_pages().load(Relaxed), SEGMENT_PAGES as u64)
    }

    /// Whether RAM passes seven eighths of its share.
    fn is_ram_short(&self) -> bool {
        self.header.ram_bytes().load(Relaxed) > self.header.ram_limit_bytes().load(Relaxed) / 8 * 7
    }

    /// Whether there is a log and only its reserve is free.
    fn is_log_short(&self) -> bool {
        self.tiers.log.is_some() && self.header.log_used_pages().load(Relaxed) > self.log_usable_pages()
    }

    /// Whether there is no log, or an eighth of it is free beside its reserve.
    pub fn is_log_roomy(&self) -> bool {
        self.tiers.log.is_none() || self.header.log_used_pages().load(Relaxed) <= self.log_usable_pages() / 8 * 7
    }

    /// Pages that the stores could take if none compressed.
    pub fn room_pages(&self) -> u64 {
        let word = |word: &AtomicU64| word.load(Relaxed);
        let ram = word(self.header.ram_limit_bytes()).saturating_sub(word(self.header.ram_bytes()));
        ram / PAGE_BYTES as u64 + word(self.header.log_pages()).saturating_sub(word(self.header.log_used_pages()))
    }

    /// Saves `pages`, whose contents lie one after the other in `bytes`: in RAM what goes in there, the rest in the log by
    /// one write.
    pub fn save_batch(
        &mut self,
        member: MemberIndex,
        pages: &[Pending],
        bytes: &AlignedBuffer,
        outcomes: &mut [SaveOutcome; crate::save::BATCH],
    ) {
        let contents = bytes.as_chunks::<PAGE_BYTES>().0;
        let mut rest = [(0u64, &contents[0]); crate::save::BATCH];
        let mut rest_at = [0; crate::save::BATCH];
        let mut count = 0;
        for (at, pending) in pages.iter().enumerate() {
            let retained = pending.retained.is_some().then_some(pending.retained);
            outcomes[at] = self.tiers.save_ram(&mut self.scratch, &contents[at], retained);
            if matches!(outcomes[at], SaveOutcome::Full | SaveOutcome::Incompressible) {
                rest[count] = (owner(member, pending.page), &contents[at]);
                rest_at[count] = at;
                count += 1;
            }
        }
        let Some(writer) = self.writer().filter(|_| count > 0) else { return };
        match writer.append(&rest[..count]) {
            Ok(appended) => {
                for (slot, at) in appended.iter().zip(&rest_at) {
                    outcomes[*at] = SaveOutcome::Saved(*slot);
                }
                // RAM did not take them: the program must not get more than can still change places.
                if self.is_log_short() {
                    self.header.store_full().store(1, Relaxed);
                }
            }
            Err(AppendError::Full) => {}
            Err(AppendError::Io(_) | AppendError::TooMany) => {
                self.header.store_errors().fetch_add(1, Relaxed);
            }
        }
    }

    /// The writer of the log, made when it is first needed.
    fn writer(&mut self) -> Option<&mut LogWriter> {
        if self.writer.is_none() {
            self.writer = self.tiers.log.and_then(|log| log.writer().ok());
        }
        self.writer.as_mut()
    }

    /// Gives memory of empty slabs and segments back, empties sparse ones, and sinks pages from RAM to the log when RAM
    /// passes its share. The keeper's alone.
    pub fn tidy(&mut self, space: &Space, members: &[MemberIndex]) {
        self.tiers.ram.punch_empty(PUNCH_MAX);
        self.compact(space, members);
        self.drop_copies(space, members);
        if self.is_ram_short() && self.tiers.log.is_some() {
            for &member in members {
                self.sink(space, member);
            }
        }
        self.clean(space, members);
    }

    /// Makes resident pages forget their copies in a store that is short of room.
    fn drop_copies(&mut self, space: &Space, members: &[MemberIndex]) {
        let (ram_short, log_short) = (self.is_ram_short(), !self.is_log_roomy());
        if !(ram_short || log_short) || self.copies_rest > 0 {
            self.copies_rest = self.copies_rest.saturating_sub(1);
            return;
        }
        let is_meant = |slot| match slot {
            SlotRef::Ram(_) => ram_short,
            SlotRef::Log(_) => log_short,
            SlotRef::None | SlotRef::Filled(_) => false,
        };
        let mut dropped = 0;
        for &member in members {
            let words = words_of(space, member).map(|(_, word)| word);
            dropped += self.tiers.drop_copies(words, is_meant, SINK_WORDS);
        }
        if dropped == 0 {
            self.copies_rest = COPIES_REST;
        }
    }

    fn compact(&self, space: &Space, members: &[MemberIndex]) {
        let victims = self.tiers.ram.pick_victims(COMPACT_SLABS.1);
        if victims.slabs >= COMPACT_SLABS.0 {
            self.tiers.ram.compact(members.iter().flat_map(|&member| words_of(space, member)).map(|(_, word)| word));
        }
        if victims.slabs > 0 {
            self.tiers.ram.open_closed();
        }
    }

    fn sink(&mut self, space: &Space, member: MemberIndex) {
        let target_pages = self.header.target_bytes().load(Relaxed) / PAGE_BYTES as u64;
        let now = (space.member(member).evictions().load(Relaxed) / (target_pages / 256).max(1)) as u16;
        let (tiers, hand) = (self.tiers, self.hand);
        let Some(writer) = self.writer() else { return };
        let plan = SinkPlan { now, age_min: OLD_TICKS, words_max: SINK_WORDS };
        let sunk = tiers.sink(writer, words_of(space, member).skip(hand), plan);
        self.hand = if sunk.words < SINK_WORDS { 0 } else { hand + sunk.scanned };
        self.header.sunk_pages().fetch_add(sunk.pages as u64, Relaxed);
    }

    /// Cleans the log when less than a quarter of it is free although much of what is used is dead.
    fn clean(&mut self, space: &Space, members: &[MemberIndex]) {
        let Some(log) = self.tiers.log else { return };
        log.punch_empty(PUNCH_MAX);
        let (segments, pages) = log.occupancy();
        let total = self.header.log_pages().load(Relaxed) as usize / SEGMENT_PAGES;
        if segments * 4 < total * 3 || pages * 8 > segments * SEGMENT_PAGES * 7 {
            return;
        }
        if log.pick_victims(CLEAN_SEGMENTS).0 > 0
            && let Ok(mut writer) = log.cleaner()
        {
            let cells = members.iter().flat_map(|&member| words_of(space, member));
            log.clean(&mut writer, cells);
        }
    }
}

/// What the log calls a page.
fn owner(member: MemberIndex, page: PageIndex) -> u64 {
    (member.0 as u64) << 32 | u64::from(page.0)
}

/// The page words of a member, each with what the log calls its page.
fn words_of(space: &Space, member: MemberIndex) -> impl Iterator<Item = (u64, &'static AtomicU64)> + use<> {
    let space = *space;
    let windows: Vec<u32> = space.windows_of(member).collect();
    windows.into_iter().flat_map(move |window| {
        let words = space.table(window).iter().enumerate();
        words.map(move |(at, word)| (owner(member, PageIndex::new(window, at)), word))
    })
}
