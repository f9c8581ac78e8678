//! The servers of faults, and the thread that gives memory away: those that change what the program sees.

use crate::actors::{DISCARDER, Events, discarded_page, owned_slot};
use crate::rules::{Broken, Pager};
use crate::state::{At, Found, HOLE, SPOILT, State, Wrong, decode};
use memvisor_core::{Frame, Page, PageWord};

impl Events<'_> {
    /// A server looks at any page at any time: a fault may be old news, and pages are brought along unasked.
    pub(crate) fn server(&mut self, me: usize) {
        match self.state.at[me] {
            At::Idle if self.has_monitor(me) => {
                for page in self.pages() {
                    self.begin_service(me, page);
                }
            }
            // The device reads the slot; no thread is busy with it.
            At::Loading { page, ticket, slot } => {
                let one = self.rules.pager == Pager::OneMonitor;
                self.add_beside(me, "reads the slot of", page, |next| {
                    let bytes = next.load(slot);
                    let found = Found::Stored;
                    Ok(Some(match one {
                        true => At::Loaded { page, ticket, slot, bytes },
                        false => At::Checked { page, ticket, slot, bytes, found },
                    }))
                });
                if self.state.budgets.refusals > 0 && self.has_monitor(me) {
                    self.add(me, "gives up the load of", page, |next| {
                        next.budgets.refusals -= 1;
                        next.apply(page, |word| word.load_undone(ticket.into(), 0));
                        Ok(Some(At::Idle))
                    });
                }
            }
            At::Loaded { .. } | At::Checked { .. } | At::Filled { .. } if self.has_monitor(me) => self.load(me),
            At::Unparking { .. } | At::Unparked { .. } if self.has_monitor(me) => self.unpark(me),
            At::CopyingBack { .. } | At::CopiedBack { .. } if self.has_monitor(me) => self.copy_back(me),
            _ => {}
        }
    }

    fn begin_service(&mut self, me: usize, page: u8) {
        let broken = self.rules.broken;
        let ticket = self.state.fresh_ticket();
        let copies_back = self.rules.pager == Pager::OneMonitor || broken == Broken::CopyBackByMany;
        match self.state.word(page).page() {
            Page::Untouched => self.begin_load(me, page, ticket, Found::Untouched),
            Page::Stored(_) => self.begin_load(me, page, ticket, Found::Stored),
            Page::Resident(_) if broken != Broken::TrustResident => self.begin_load(me, page, ticket, Found::Resident),
            Page::Parked(Frame(frame)) => self.add(me, "unparks", page, |next| {
                next.apply(page, PageWord::unpark_begin);
                Ok(Some(At::Unparking { page, frame: frame as u8, stolen: false }))
            }),
            Page::Saving(Frame(frame), _) if copies_back => {
                self.add(me, "copies back", page, |_| Ok(Some(At::CopyingBack { page, frame: frame as u8 })));
            }
            Page::Saving(Frame(frame), saver) => self.add(me, "takes from its saver", page, |next| {
                next.apply(page, |word| word.unclaim(Frame(frame), saver)?.unpark_begin());
                Ok(Some(At::Unparking { page, frame: frame as u8, stolen: true }))
            }),
            // Held by somebody who will let go of it; or beyond help.
            Page::Outside
            | Page::Resident(_)
            | Page::Parking(_)
            | Page::Loading(_)
            | Page::Unparking(_)
            | Page::Lost => {}
        }
    }

    fn begin_load(&mut self, me: usize, page: u8, ticket: u8, found: Found) {
        self.add(me, "begins to load", page, |next| {
            let seen = next.apply(page, |word| match found {
                Found::Untouched | Found::Stored => word.load_begin(ticket.into()),
                // Either another server was faster, and nothing is overwritten; or the program has dropped the page.
                Found::Resident => word.discard()?.load_begin(ticket.into()),
            });
            let slot = owned_slot(seen.ok_or("a page that can be loaded cannot be loaded")?);
            if found == Found::Resident {
                next.free_slot(slot)?;
            }
            Ok(Some(match found {
                Found::Stored => At::Loading { page, ticket, slot },
                Found::Untouched | Found::Resident => At::Checked { page, ticket, slot: 0, bytes: 0, found },
            }))
        });
    }

    fn load(&mut self, me: usize) {
        let (rules, at) = (*self.rules, self.state.at[me]);
        let ignored = rules.broken == Broken::IgnoreTicket;
        match at {
            At::Loaded { page, ticket, slot, bytes } => self.add(me, "looks at the load of", page, |next| {
                // With one monitor nobody can take the page between this look and the fill.
                let overtaken = next.word(page).load_done(ticket.into(), decode(slot), 0, 0).is_none();
                if overtaken && !ignored {
                    return Ok(Some(At::Idle));
                }
                Ok(Some(At::Checked { page, ticket, slot, bytes, found: Found::Stored }))
            }),
            At::Checked { page, ticket, slot, bytes: SPOILT, .. } => self.add(me, "loses", page, |next| {
                if next.apply(page, |word| word.lose(ticket.into())).is_some() {
                    next.free_slot(slot)?;
                    // From now on no bytes are right until the program gives the page away.
                    next.truth[page as usize] = u8::from(discarded_page(next) == Some(page));
                }
                Ok(Some(At::Idle))
            }),
            At::Checked { page, ticket, slot, bytes, found } => self.add(me, "fills", page, |next| {
                let memory = &mut next.memory[page as usize];
                let existed = *memory != HOLE;
                if !existed {
                    *memory = bytes;
                }
                Ok(Some(At::Filled { page, ticket, slot, found, existed }))
            }),
            At::Filled { page, ticket, slot, found, existed } => self.add(me, "has filled", page, |next| {
                // An untouched page that is in its place is one whose removal is on the way: leave it to that.
                let undo = existed && found == Found::Untouched && rules.broken != Broken::TrustExisting;
                let done = next.apply(page, |word| match word.page() {
                    _ if undo => word.load_undone(ticket.into(), 0),
                    Page::Loading(_) if ignored => word.load_done(word.stamp(), decode(slot), 0, 0),
                    _ => word.load_done(ticket.into(), decode(slot), 0, 0),
                });
                match done {
                    Some(_) => Ok(Some(At::Idle)),
                    None if ignored => Ok(Some(At::Idle)),
                    None => Err("a page was filled by a load that was overtaken"),
                }
            }),
            _ => {}
        }
    }

    fn unpark(&mut self, me: usize) {
        match self.state.at[me] {
            At::Unparking { page, frame, stolen } => {
                self.add(me, "moves back", page, |next| {
                    if next.memory[page as usize] != HOLE {
                        return Err("a parked page was in its place too");
                    }
                    // A frame that a saver may still read is copied, not moved.
                    let at = &mut next.frames[frame as usize];
                    next.memory[page as usize] = if stolen { at.bytes } else { std::mem::replace(&mut at.bytes, HOLE) };
                    if next.memory[page as usize] == HOLE {
                        return Err("an empty frame was moved back");
                    }
                    Ok(Some(At::Unparked { page, frame }))
                });
                if self.state.budgets.refusals > 0 && !stolen {
                    self.add(me, "cannot move back", page, |next| {
                        next.budgets.refusals -= 1;
                        next.apply(page, PageWord::unpark_undone).ok_or("an unparking page was taken")?;
                        Ok(Some(At::Idle))
                    });
                }
            }
            At::Unparked { page, frame } => self.add(me, "has unparked", page, |next| {
                let retained = decode(next.frames[frame as usize].retained);
                next.apply(page, |word| word.unpark_done(retained, 0)).ok_or("an unparking page was taken")?;
                next.free_frame(frame)?;
                Ok(Some(At::Idle))
            }),
            _ => {}
        }
    }

    /// Fill first, then say so; when the saver was faster, the page is resident and has a stored copy.
    fn copy_back(&mut self, me: usize) {
        let unnoticed = self.rules.broken == Broken::CopyBackUnnoticed;
        match self.state.at[me] {
            At::CopyingBack { page, frame } => self.add(me, "fills from the frame", page, |next| {
                if next.memory[page as usize] == HOLE {
                    next.memory[page as usize] = next.frames[frame as usize].bytes;
                }
                Ok(Some(At::CopiedBack { page, frame }))
            }),
            At::CopiedBack { page, frame } => self.add(me, "has copied back", page, |next| {
                let retained = decode(next.frames[frame as usize].retained);
                let seen = next.apply(page, |word| match word.page() {
                    Page::Saving(..) => word.copied_back(retained, 0),
                    _ if unnoticed => None,
                    _ => word.copied_back(retained, 0),
                });
                let Some(seen) = seen else {
                    return if unnoticed {
                        Ok(Some(At::Idle))
                    } else {
                        Err("a page was taken while it was copied back")
                    };
                };
                if !matches!(seen.page(), Page::Stored(_)) {
                    next.free_frame(frame)?;
                }
                Ok(Some(At::Idle))
            }),
            _ => {}
        }
    }

    /// The program's other thread gives a page away.
    pub(crate) fn discarder(&mut self) {
        let me = DISCARDER;
        let (rules, at) = (*self.rules, self.state.at[me]);
        match at {
            At::Idle if self.state.budgets.discards > 0 => {
                for page in self.pages() {
                    self.add_beside(me, "gives away", page, |next| {
                        next.budgets.discards -= 1;
                        next.truth[page as usize] |= 1;
                        Ok(Some(At::Discarding { page, wrote: false }))
                    });
                }
            }
            At::Discarding { page, wrote } if rules.broken == Broken::DropFirst => {
                self.add_beside(me, "drops", page, |next| {
                    next.memory[page as usize] = HOLE;
                    Ok(Some(At::Discarded { page, wrote }))
                });
            }
            At::Discarded { page, wrote } if rules.broken == Broken::DropFirst => {
                self.add(me, "discards", page, |next| {
                    let Some(seen) = next.apply(page, PageWord::discard) else { return Ok(None) };
                    give_back(next, seen)?;
                    close_window(next, page, wrote);
                    Ok(Some(At::Idle))
                });
            }
            // The word first: the kernel tells of a removal before it does it. A load in flight is waited for, unless
            // whoever loads looks at the word before the fill and nobody can come between.
            At::Discarding { page, wrote } if self.has_monitor(me) => self.add(me, "discards", page, |next| {
                let waits = rules.pager == Pager::ManyThreads && rules.broken != Broken::DiscardLoading;
                if waits && matches!(next.word(page).page(), Page::Loading(_)) {
                    return Ok(None);
                }
                let Some(seen) = next.apply(page, PageWord::discard) else { return Ok(None) };
                give_back(next, seen)?;
                Ok(Some(At::Discarded { page, wrote }))
            }),
            At::Discarded { page, wrote } => self.add_beside(me, "drops", page, |next| {
                next.memory[page as usize] = HOLE;
                close_window(next, page, wrote);
                Ok(Some(At::Idle))
            }),
            _ => {}
        }
    }

    /// An event of a device, or of the program's own thread in the kernel, whatever the monitor does.
    fn add_beside(
        &mut self,
        me: usize,
        what: &'static str,
        page: u8,
        change: impl FnOnce(&mut State) -> Result<Option<At>, Wrong>,
    ) {
        let monitor = self.state.monitor;
        self.add(me, what, page, change);
        if let Some(Ok(next)) = self.out.last_mut().map(|event| event.next.as_mut()) {
            next.monitor = monitor;
        }
    }
}

/// Gives back what the word owned that was discarded.
fn give_back(next: &mut State, seen: PageWord) -> Result<(), Wrong> {
    if let Page::Parked(Frame(frame)) | Page::Saving(Frame(frame), _) = seen.page() {
        let retained = next.frames[frame as usize].retained;
        next.free_frame(frame as u8)?;
        next.free_slot(retained)?;
    }
    next.free_slot(owned_slot(seen))
}

/// The page is given away: it reads as zeros, or as what was written to it meanwhile.
fn close_window(next: &mut State, page: u8, wrote: bool) {
    if !wrote {
        next.truth[page as usize] = 1;
    }
}
