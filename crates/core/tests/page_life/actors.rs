//! What each actor can do next. Every function adds the worlds that one event of the actor leads to.

use crate::rules::{Broken, Pager, Rules};
use crate::state::{At, HOLE, SPOILT, State, Wrong, decode, encode};
use memvisor_core::{Frame, Page, PageWord, Saver, SlotRef};

pub const PROGRAM: usize = 0;
pub const EVICTOR: usize = 1;
pub const KEEPER: usize = 2;
pub const PAGER_SAVER: usize = 3;
pub const SERVERS: [usize; 2] = [4, 5];
pub const DISCARDER: usize = 6;
pub const RELOCATOR: usize = 7;
pub const SECOND_KEEPER: usize = 8;

/// One event: who, what on which page, and the world after it.
pub struct Event {
    pub actor: u8,
    pub what: &'static str,
    pub page: u8,
    pub next: Result<State, Wrong>,
}

/// Collects the events of one world.
pub struct Events<'a> {
    pub rules: &'a Rules,
    pub state: &'a State,
    pub out: Vec<Event>,
}

impl Events<'_> {
    /// An event that `change` makes of the present world; `None`: it cannot happen now.
    pub(crate) fn add(
        &mut self,
        actor: usize,
        what: &'static str,
        page: u8,
        change: impl FnOnce(&mut State) -> Result<Option<At>, Wrong>,
    ) {
        let mut next = *self.state;
        match change(&mut next) {
            Ok(None) => {}
            Ok(Some(at)) => {
                next.at[actor] = at;
                if self.rules.pager == Pager::OneMonitor && is_of_monitor(actor) {
                    next.monitor = if yields(at) { 0 } else { actor as u8 };
                }
                self.out.push(Event { actor: actor as u8, what, page, next: Ok(next) });
            }
            Err(wrong) => self.out.push(Event { actor: actor as u8, what, page, next: Err(wrong) }),
        }
    }

    /// Whether the monitor thread is free for `actor`.
    pub(crate) fn has_monitor(&self, actor: usize) -> bool {
        self.rules.pager == Pager::ManyThreads || self.state.monitor == 0 || self.state.monitor == actor as u8
    }

    pub(crate) fn pages(&self) -> std::ops::Range<u8> {
        0..self.rules.pages as u8
    }

    /// Everything that can happen now.
    pub fn all(&mut self) {
        self.program();
        self.store_and_keeper_fail();
        if self.has_monitor(EVICTOR) {
            self.evictor();
        }
        if self.rules.keeper {
            self.saver(KEEPER, Saver::Keeper);
        }
        if self.rules.second_keeper_thread {
            self.saver(SECOND_KEEPER, Saver::Keeper);
        }
        if self.rules.pager_saver && self.has_monitor(PAGER_SAVER) {
            self.saver(PAGER_SAVER, Saver::Pager);
        }
        for server in &SERVERS[..self.rules.servers] {
            self.server(*server);
        }
        self.discarder();
        if self.rules.relocator {
            self.relocator();
        }
    }

    /// Touches that need no fault. Those that do wait for a server; a server may come at any time.
    fn program(&mut self) {
        for page in self.pages() {
            let p = page as usize;
            let discarding = discarded_page(self.state) == Some(page);
            if self.state.memory[p] == HOLE {
                continue;
            }
            self.add(PROGRAM, "reads", page, |next| {
                let bytes = next.memory[p];
                if bytes >= 8 || next.truth[p] >> bytes & 1 == 0 {
                    return Err("the program saw bytes that are not its own");
                }
                if !discarding {
                    next.truth[p] = 1 << bytes;
                }
                Ok(Some(At::Idle))
            });
            if self.state.budgets.writes > 0 {
                self.add(PROGRAM, "writes", page, |next| {
                    next.budgets.writes -= 1;
                    next.version += 1;
                    next.memory[p] = next.version;
                    next.truth[p] = 1 << next.version | u8::from(discarding);
                    if discarding {
                        match &mut next.at[DISCARDER] {
                            At::Discarding { wrote, .. } | At::Discarded { wrote, .. } => *wrote = true,
                            _ => {}
                        }
                    }
                    Ok(Some(At::Idle))
                });
            }
        }
    }

    fn store_and_keeper_fail(&mut self) {
        let budgets = self.state.budgets;
        if budgets.spoilings > 0 {
            for slot in 0..self.rules.slots {
                if self.state.slots[slot].references > 0 && self.state.slots[slot].bytes != SPOILT {
                    self.add(PROGRAM, "loses its stored copy", slot as u8, |next| {
                        next.budgets.spoilings -= 1;
                        next.slots[slot].bytes = SPOILT;
                        Ok(Some(At::Idle))
                    });
                }
            }
        }
        // Only the monitor, where there is one, sweeps: it is not in the middle of anything then.
        let swept = !matches!(self.state.at[KEEPER], At::Published { .. }) || self.has_monitor(PROGRAM);
        if budgets.deaths > 0 && self.rules.keeper && swept {
            self.add(KEEPER, "dies", 0, |next| {
                next.budgets.deaths -= 1;
                // What it alone knew of is found by the sweep of the tables that follows the death of a keeper.
                match next.at[KEEPER] {
                    At::Written { slot, fresh: true, .. } => next.free_slot(slot)?,
                    At::Published { frame, replaced } => {
                        next.free_frame(frame)?;
                        next.free_slot(replaced)?;
                    }
                    _ => {}
                }
                Ok(Some(At::Dead))
            });
        }
        let leave = self.rules.broken == Broken::LeaveDeadClaims;
        if self.state.at[KEEPER] == At::Dead && !leave && self.has_monitor(PROGRAM) {
            for page in self.pages() {
                if let Page::Saving(frame, Saver::Keeper) = self.state.word(page).page() {
                    self.add(PROGRAM, "gets the dead keeper's claim back", page, |next| {
                        next.apply(page, |word| word.unclaim(frame, Saver::Keeper));
                        Ok(Some(At::Idle))
                    });
                }
            }
        }
    }

    fn evictor(&mut self) {
        let me = EVICTOR;
        match self.state.at[me] {
            At::Idle => {
                for page in self.pages() {
                    let frames = self.rules.frames;
                    self.add(me, "begins to park", page, |next| {
                        let Some(seen) = next.apply(page, PageWord::park_begin) else { return Ok(None) };
                        let Page::Resident(slot) = seen.page() else { return Err("parked what was not resident") };
                        Ok(next.take_frame(frames, encode(slot)).map(|frame| At::Parking { page, frame }))
                    });
                    self.add(me, "forgets the stored copy of", page, |next| {
                        let Some(seen) = next.apply(page, PageWord::forget_slot) else { return Ok(None) };
                        next.free_slot(owned_slot(seen))?;
                        Ok(Some(At::Idle))
                    });
                }
            }
            At::Parking { page, frame } => {
                let p = page as usize;
                if self.state.memory[p] == HOLE && self.rules.broken != Broken::ParkHole {
                    self.add(me, "finds a hole at", page, |_| Ok(Some(At::FoundHole { page, frame })));
                    return;
                }
                self.add(me, "moves out", page, |next| {
                    next.frames[frame as usize].bytes = std::mem::replace(&mut next.memory[p], HOLE);
                    Ok(Some(At::Moved { page, frame }))
                });
                if self.state.budgets.refusals > 0 {
                    self.add(me, "cannot move", page, |next| {
                        next.budgets.refusals -= 1;
                        Ok(Some(At::Refused { page, frame }))
                    });
                }
            }
            At::Moved { page, frame } => self.add(me, "has parked", page, |next| {
                next.apply(page, |word| word.park_done(Frame(frame.into()), 0)).ok_or("a parked page was taken")?;
                Ok(Some(At::Idle))
            }),
            At::Refused { page, frame } => self.add(me, "leaves in its place", page, |next| {
                next.apply(page, PageWord::park_refused).ok_or("a parking page was taken")?;
                next.free_frame(frame)?;
                Ok(Some(At::Idle))
            }),
            At::FoundHole { page, frame } => self.add(me, "takes for untouched", page, |next| {
                next.apply(page, PageWord::park_found_hole).ok_or("a parking page was taken")?;
                let retained = next.frames[frame as usize].retained;
                next.free_frame(frame)?;
                next.free_slot(retained)?;
                Ok(Some(At::Idle))
            }),
            _ => {}
        }
    }

    fn saver(&mut self, me: usize, saver: Saver) {
        let broken = self.rules.broken;
        match self.state.at[me] {
            At::Idle => {
                for page in self.pages() {
                    self.add(me, "claims", page, |next| {
                        let Some(seen) = next.apply(page, |word| word.claim(saver)) else { return Ok(None) };
                        let Page::Parked(Frame(frame)) = seen.page() else { return Err("claimed what was not parked") };
                        Ok(Some(At::Claimed { page, frame: frame as u8 }))
                    });
                }
            }
            At::Claimed { page, frame } => self.add(me, "reads the frame of", page, |next| {
                let StagingView { bytes, retained } = view(next, frame);
                Ok(Some(At::Read { page, frame, bytes, retained }))
            }),
            At::Read { page, frame, bytes, retained } => {
                let slots = self.rules.slots;
                self.add(me, "stores", page, |next| {
                    let same = next.is_unchanged(retained, bytes)
                        || broken == Broken::BelieveRetained && decode(retained).is_some();
                    // An empty frame is read while somebody gives it back: what comes of it is never published.
                    let slot = if same { Some(retained) } else { next.save(slots, bytes) };
                    Ok(slot.map(|slot| At::Written { page, frame, retained, slot, fresh: !same }))
                });
                self.add(me, "lets go of", page, |next| {
                    next.apply(page, |word| word.unclaim(Frame(frame.into()), saver));
                    Ok(Some(At::Idle))
                });
            }
            At::Written { page, frame, retained, slot, fresh } => self.add(me, "publishes", page, |next| {
                let (at, to) = (Frame(frame.into()), decode(slot));
                let published = next.apply(page, |word| match (broken, word.page()) {
                    (Broken::PublishAnything, Page::Saving(at, by)) => word.publish(at, by, to),
                    (Broken::PublishForTheOther, Page::Saving(_, by)) => word.publish(at, by, to),
                    _ => word.publish(at, saver, to),
                });
                if published.is_some() || broken == Broken::PublishUnasked {
                    // Equal references would not tell: a slot that was freed meanwhile may be the new one.
                    return Ok(Some(At::Published { frame, replaced: if fresh { retained } else { 0 } }));
                }
                if fresh {
                    next.free_slot(slot)?;
                }
                if broken == Broken::FreeUnpublished {
                    next.free_slot(retained)?;
                }
                Ok(Some(At::Idle))
            }),
            // Frames are given back by the pager: by the monitor, where there is one only.
            At::Published { frame, replaced } if self.has_monitor(me) => {
                self.add(me, "gives back frame", frame, |next| {
                    next.free_frame(frame)?;
                    next.free_slot(replaced)?;
                    Ok(Some(At::Idle))
                });
            }
            _ => {}
        }
    }

    fn relocator(&mut self) {
        let me = RELOCATOR;
        let (broken, slots) = (self.rules.broken, self.rules.slots);
        match self.state.at[me] {
            At::Idle => {
                for page in self.pages() {
                    let (Page::Stored(slot) | Page::Resident(slot)) = self.state.word(page).page() else { continue };
                    if matches!(slot, SlotRef::Ram(_)) {
                        self.add(me, "wants to relocate", page, |_| Ok(Some(At::Pinning { page, slot: encode(slot) })));
                    }
                }
            }
            At::Pinning { page, slot } => self.add(me, "pins the slot of", page, |next| {
                if broken == Broken::RelocateUnpinned {
                    return Ok(Some(At::Pinned { page, slot }));
                }
                let slot_of = &mut next.slots[slot as usize - 2];
                if slot_of.references == 0 {
                    return Ok(Some(At::Idle));
                }
                slot_of.references += 1;
                Ok(Some(At::Pinned { page, slot }))
            }),
            At::Pinned { page, slot } => self.add(me, "copies the slot of", page, |next| {
                let old = next.slots[slot as usize - 2];
                let Some(to) = next.save(slots, old.hash.max(1)) else {
                    if broken != Broken::RelocateUnpinned {
                        next.free_slot(slot)?;
                    }
                    return Ok(Some(At::Idle));
                };
                next.slots[to as usize - 2].bytes = old.bytes;
                next.slots[to as usize - 2].hash = old.hash;
                Ok(Some(At::Relocating { page, slot, to }))
            }),
            At::Relocating { page, slot, to } => self.add(me, "relocates", page, |next| {
                let moved = next.apply(page, |word| word.relocate(decode(slot), decode(to))).is_some();
                if moved || broken == Broken::RelocateUnasked {
                    next.free_slot(slot)?;
                } else {
                    next.free_slot(to)?;
                }
                if broken != Broken::RelocateUnpinned {
                    next.free_slot(slot)?;
                }
                Ok(Some(At::Idle))
            }),
            _ => {}
        }
    }
}

/// The page that the program's other thread gives away.
pub fn discarded_page(state: &State) -> Option<u8> {
    match state.at[DISCARDER] {
        At::Discarding { page, .. } | At::Discarded { page, .. } => Some(page),
        _ => None,
    }
}

struct StagingView {
    bytes: u8,
    retained: u8,
}

/// What a saver reads of a frame. One that was given back reads as zeros.
fn view(state: &State, frame: u8) -> StagingView {
    let frame = state.frames[frame as usize];
    StagingView { bytes: if frame.bytes == HOLE { 0 } else { frame.bytes }, retained: frame.retained }
}

/// The slot that a word in this state owns.
pub fn owned_slot(word: PageWord) -> u8 {
    match word.page() {
        Page::Resident(slot) | Page::Stored(slot) | Page::Loading(slot) | Page::Parking(slot) => encode(slot),
        Page::Outside | Page::Untouched | Page::Parked(_) | Page::Saving(..) | Page::Unparking(_) | Page::Lost => 0,
    }
}

fn is_of_monitor(actor: usize) -> bool {
    matches!(actor, EVICTOR | PAGER_SAVER | DISCARDER) || SERVERS.contains(&actor)
}

/// Where the one monitor thread turns to something else.
fn yields(at: At) -> bool {
    matches!(
        at,
        At::Idle | At::Dead | At::Loading { .. } | At::Loaded { .. } | At::Discarding { .. } | At::Discarded { .. }
    )
}
