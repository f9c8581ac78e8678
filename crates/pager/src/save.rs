//! Parked frames are saved: claimed, read, hashed, compressed or written, and published. Keeper and pager run this code.

use crate::space::{MemberIndex, Space};
use crate::stores::{Pending, Stores};
use memvisor_core::{Frame, PAGE_BYTES, Page, Saver};
use memvisor_store::SaveOutcome;
use memvisor_sys::Errno;
use memvisor_sys::file::AlignedBuffer;
use std::sync::atomic::Ordering::Relaxed;

/// Frames of one batch: what one process_vm_readv brings.
pub(crate) const BATCH: usize = 32;

/// What a saver works with; made once, so that saving does not allocate.
pub struct SaveBuffers {
    bytes: AlignedBuffer,
}

impl SaveBuffers {
    /// Buffers for one saver.
    ///
    /// # Errors
    /// When memory cannot be had.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self { bytes: AlignedBuffer::new(BATCH * PAGE_BYTES)? })
    }
}

/// Saves those of `frames` that are parked and that nobody else saves. `read` copies frames out, in order, and gives how
/// many it could read whole: an empty frame or a process that is gone ends it. Gives how many pages were saved.
pub(crate) fn save_frames(
    space: &Space,
    member: MemberIndex,
    frames: impl Iterator<Item = Frame>,
    saver: Saver,
    stores: &mut Stores,
    buffers: &mut SaveBuffers,
    read: impl Fn(&[Frame], &mut [u8]) -> usize,
) -> u32 {
    let mut claimed = [Frame(0); BATCH];
    let mut pages = [Pending::default(); BATCH];
    let mut count = 0;
    for frame in frames.take(BATCH) {
        let entry = space.frame(member, frame.0);
        let Some(page) = entry.page() else { continue };
        let mine = space.page(page).apply(|word| match word.page() {
            Page::Parked(at) if at == frame => word.claim(saver),
            _ => None,
        });
        if mine.is_some() {
            claimed[count] = frame;
            pages[count] = Pending { page, retained: entry.slot() };
            count += 1;
        }
    }
    let mut saved = 0;
    let mut from = 0;
    while from < count {
        let read = read(&claimed[from..count], &mut buffers.bytes[..(count - from) * PAGE_BYTES]);
        let batch = &pages[from..from + read];
        let mut outcomes = [SaveOutcome::Full; BATCH];
        stores.save_batch(member, batch, &buffers.bytes, &mut outcomes);
        for (at, outcome) in outcomes[..read].iter().enumerate() {
            saved += u32::from(publish(space, stores, saver, claimed[from + at], batch[at], *outcome));
        }
        from += read;
        if from < count {
            // Could not be read: the program gave it away unseen, or is gone. It stays parked for its pager to see.
            space.page(pages[from].page).apply(|word| word.unclaim(claimed[from], saver));
            from += 1;
        }
    }
    saved
}

fn publish(
    space: &Space,
    stores: &Stores,
    saver: Saver,
    frame: Frame,
    Pending { page, retained }: Pending,
    outcome: SaveOutcome,
) -> bool {
    let header = space.header();
    let cell = space.page(page);
    match outcome {
        SaveOutcome::Unchanged => {
            header.clean_saves().fetch_add(1, Relaxed);
            // The frame's stored copy passes to the word as it is.
            cell.apply(|word| word.publish(frame, saver, retained)).is_some()
        }
        SaveOutcome::Saved(slot) => {
            header.saves().fetch_add(1, Relaxed);
            if cell.apply(|word| word.publish(frame, saver, slot)).is_some() {
                if retained.is_some() {
                    stores.release(retained);
                }
                return true;
            }
            // Wanted back or given away meanwhile: nobody knows of the new slot.
            stores.release(slot);
            false
        }
        SaveOutcome::Incompressible | SaveOutcome::Full => {
            header.refusals().fetch_add(1, Relaxed);
            cell.apply(|word| word.unclaim(frame, saver));
            false
        }
    }
}
