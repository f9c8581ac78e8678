//! A member is gone: what it held is given back.

use crate::space::{MemberIndex, Space};
use crate::stores::Stores;
use memvisor_core::{PAGE_BYTES, Page, PageCell, PageWord};
use memvisor_proto::space::member_state;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// Gives back the slots, windows and charges of a member whose process no longer runs, and frees its block.
/// The caller makes sure that nobody saves for this member any more.
pub fn give_back(space: &Space, stores: &Stores, member: MemberIndex) {
    let block = space.member(member);
    for window in space.windows_of(member).collect::<Vec<_>>() {
        for word in space.table(window) {
            let word = PageCell(word).put(PageWord::OUTSIDE);
            match word.page() {
                Page::Resident(slot) | Page::Stored(slot) | Page::Loading(slot) if slot.is_some() => {
                    stores.release(slot);
                }
                Page::Parking(slot) if slot.is_some() => stores.release(slot),
                Page::Parked(frame) | Page::Saving(frame, _) | Page::Unparking(frame) => {
                    let slot = space.frame(member, frame.0).slot();
                    if slot.is_some() {
                        stores.release(slot);
                    }
                }
                Page::Outside | Page::Untouched | Page::Lost => {}
                Page::Resident(_) | Page::Stored(_) | Page::Loading(_) | Page::Parking(_) => {}
            }
        }
        space.give_window(member, window);
    }
    let pages = block.resident_pages().swap(0, Relaxed)
        + block.staged_pages().swap(0, Relaxed)
        + block.unarmed_bytes().swap(0, Relaxed) / PAGE_BYTES as u64;
    space.header().charged_pages().fetch_sub(pages, Relaxed);
    block.state().store(member_state::FREE, Release);
}
