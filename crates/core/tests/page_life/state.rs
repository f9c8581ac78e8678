//! The whole small world at one instant: words, memory, staging frames, slots, and where each actor is.

use memvisor_core::{Frame, Page, PageWord, SlotRef};

pub const PAGES_MAX: usize = 2;
pub const FRAMES_MAX: usize = 2;
pub const SLOTS_MAX: usize = 4;
pub const ACTORS: usize = 9;

/// Bytes are version numbers: 0 is zeros, each write makes the next. This one means that no bytes are there.
pub const HOLE: u8 = 0xff;
/// Bytes that the store has spoilt, and knows by their hash to be so.
pub const SPOILT: u8 = 0xfe;

/// A frame of the staging area and the slot that is kept for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StagingFrame {
    pub used: bool,
    pub bytes: u8,
    pub retained: u8,
}

/// A slot of the store. What it holds stays readable after it is free, until it is used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Slot {
    pub references: u8,
    pub bytes: u8,
    pub hash: u8,
}

/// What a server of a fault found the page to be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Found {
    Untouched,
    Stored,
    /// Resident by its word: another server was faster, or the program has dropped it.
    Resident,
}

/// Where an actor is in what it does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum At {
    Idle,
    Dead,
    // evictor
    Parking { page: u8, frame: u8 },
    Moved { page: u8, frame: u8 },
    Refused { page: u8, frame: u8 },
    FoundHole { page: u8, frame: u8 },
    // savers
    Claimed { page: u8, frame: u8 },
    Read { page: u8, frame: u8, bytes: u8, retained: u8 },
    Written { page: u8, frame: u8, retained: u8, slot: u8, fresh: bool },
    Published { frame: u8, replaced: u8 },
    // servers
    Loading { page: u8, ticket: u8, slot: u8 },
    Loaded { page: u8, ticket: u8, slot: u8, bytes: u8 },
    Checked { page: u8, ticket: u8, slot: u8, bytes: u8, found: Found },
    Filled { page: u8, ticket: u8, slot: u8, found: Found, existed: bool },
    Unparking { page: u8, frame: u8, stolen: bool },
    Unparked { page: u8, frame: u8 },
    CopyingBack { page: u8, frame: u8 },
    CopiedBack { page: u8, frame: u8 },
    // discarder
    Discarding { page: u8, wrote: bool },
    Discarded { page: u8, wrote: bool },
    // relocator
    Pinning { page: u8, slot: u8 },
    Pinned { page: u8, slot: u8 },
    Relocating { page: u8, slot: u8, to: u8 },
}

/// How often a thing may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Budgets {
    pub writes: u8,
    pub discards: u8,
    pub refusals: u8,
    pub spoilings: u8,
    pub deaths: u8,
}

/// The world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub words: [u64; PAGES_MAX],
    /// What the program sees without a fault.
    pub memory: [u8; PAGES_MAX],
    /// The versions that the program may see, as bits.
    pub truth: [u8; PAGES_MAX],
    pub frames: [StagingFrame; FRAMES_MAX],
    pub slots: [Slot; SLOTS_MAX],
    pub at: [At; ACTORS],
    pub budgets: Budgets,
    /// The actor that the one monitor thread is busy with.
    pub monitor: u8,
    pub version: u8,
}

/// What went wrong.
pub type Wrong = &'static str;

impl State {
    pub fn new(budgets: Budgets) -> Self {
        Self {
            words: [PageWord::UNTOUCHED.0; PAGES_MAX],
            memory: [HOLE; PAGES_MAX],
            truth: [1; PAGES_MAX],
            frames: [StagingFrame { used: false, bytes: HOLE, retained: 0 }; FRAMES_MAX],
            slots: [Slot { references: 0, bytes: 0, hash: 0 }; SLOTS_MAX],
            at: [At::Idle; ACTORS],
            budgets,
            monitor: 0,
            version: 0,
        }
    }

    pub fn word(&self, page: u8) -> PageWord {
        PageWord(self.words[page as usize])
    }

    /// One compare-and-swap loop that took effect, as a single event: what [`memvisor_core::PageCell::apply`] does.
    pub fn apply(&mut self, page: u8, step: impl Fn(PageWord) -> Option<PageWord>) -> Option<PageWord> {
        let seen = self.word(page);
        self.words[page as usize] = step(seen)?.0;
        Some(seen)
    }

    /// A ticket that no load in flight has.
    pub fn fresh_ticket(&self) -> u8 {
        let used = |ticket: u8| {
            self.at.iter().any(|at| match *at {
                At::Loading { ticket: t, .. }
                | At::Loaded { ticket: t, .. }
                | At::Checked { ticket: t, .. }
                | At::Filled { ticket: t, .. } => t == ticket,
                _ => false,
            })
        };
        (1..).find(|&ticket| !used(ticket)).expect("there are fewer actors than tickets")
    }

    pub fn take_frame(&mut self, frames: usize, retained: u8) -> Option<u8> {
        let at = self.frames[..frames].iter().position(|frame| !frame.used)?;
        self.frames[at] = StagingFrame { used: true, bytes: HOLE, retained };
        Some(at as u8)
    }

    pub fn free_frame(&mut self, frame: u8) -> Result<(), Wrong> {
        let frame = &mut self.frames[frame as usize];
        if !frame.used {
            return Err("a frame was given back twice");
        }
        *frame = StagingFrame { used: false, bytes: HOLE, retained: 0 };
        Ok(())
    }

    /// Saves bytes; zeros cost no slot.
    pub fn save(&mut self, slots: usize, bytes: u8) -> Option<u8> {
        if bytes == 0 {
            return Some(encode(SlotRef::Filled(0)));
        }
        let at = self.slots[..slots].iter().position(|slot| slot.references == 0)?;
        self.slots[at] = Slot { references: 1, bytes, hash: bytes };
        Some(encode(SlotRef::Ram(at as u64)))
    }

    pub fn free_slot(&mut self, slot: u8) -> Result<(), Wrong> {
        if let SlotRef::Ram(at) = decode(slot) {
            let slot = &mut self.slots[at as usize];
            if slot.references == 0 {
                return Err("a slot was given back twice");
            }
            slot.references -= 1;
        }
        Ok(())
    }

    /// What a load gives; [`SPOILT`] when the hash tells.
    pub fn load(&self, slot: u8) -> u8 {
        match decode(slot) {
            SlotRef::None | SlotRef::Filled(_) => 0,
            SlotRef::Ram(at) | SlotRef::Log(at) => {
                let slot = self.slots[at as usize];
                if slot.bytes == slot.hash { slot.bytes } else { SPOILT }
            }
        }
    }

    /// Whether the hash of `bytes` is that of the slot: the page was not changed since.
    pub fn is_unchanged(&self, slot: u8, bytes: u8) -> bool {
        match decode(slot) {
            SlotRef::None => false,
            SlotRef::Filled(_) => bytes == 0,
            SlotRef::Ram(at) | SlotRef::Log(at) => self.slots[at as usize].hash == bytes,
        }
    }

    /// Whether nobody is in the middle of anything.
    pub fn is_quiet(&self) -> bool {
        self.at.iter().all(|at| matches!(at, At::Idle | At::Dead))
    }

    /// At rest every slot and every frame belongs to as many as hold it: to words and to frames.
    pub fn check_owners(&self) -> Result<(), Wrong> {
        let mut slots = [0u8; SLOTS_MAX];
        let mut frames = [false; FRAMES_MAX];
        let mut count = |slot: SlotRef| {
            if let SlotRef::Ram(at) = slot {
                slots[at as usize] += 1;
            }
        };
        for (word, memory) in self.words.into_iter().zip(self.memory) {
            let page = PageWord(word).page();
            if memory != HOLE && !matches!(page, Page::Resident(_)) {
                return Err("a page is in its place and its word does not say so");
            }
            match page {
                Page::Resident(slot) | Page::Stored(slot) => count(slot),
                Page::Parked(Frame(frame)) | Page::Saving(Frame(frame), _) => {
                    if std::mem::replace(&mut frames[frame as usize], true) {
                        return Err("two pages own one frame");
                    }
                    count(decode(self.frames[frame as usize].retained));
                }
                Page::Outside | Page::Untouched | Page::Lost => {}
                Page::Parking(_) | Page::Loading(_) | Page::Unparking(_) => {
                    return Err("a page is held by nobody");
                }
            }
        }
        if (0..FRAMES_MAX).any(|at| self.frames[at].used && !frames[at]) {
            return Err("a frame leaked");
        }
        if (0..FRAMES_MAX).any(|at| !self.frames[at].used && frames[at]) {
            return Err("a word names a frame that is free");
        }
        if (0..SLOTS_MAX).any(|at| self.slots[at].references > slots[at]) {
            return Err("a slot leaked");
        }
        if (0..SLOTS_MAX).any(|at| self.slots[at].references < slots[at]) {
            return Err("a word names a slot that is free");
        }
        Ok(())
    }
}

/// A slot reference in one byte.
pub fn encode(slot: SlotRef) -> u8 {
    match slot {
        SlotRef::None => 0,
        SlotRef::Filled(_) => 1,
        SlotRef::Ram(at) | SlotRef::Log(at) => 2 + at as u8,
    }
}

/// The slot reference in a byte.
pub fn decode(byte: u8) -> SlotRef {
    match byte {
        0 => SlotRef::None,
        1 => SlotRef::Filled(0),
        at => SlotRef::Ram(u64::from(at) - 2),
    }
}
