//! The ring of parked frames of one member.
//!
//! ```text
//!   dropped ≤ freed ≤ kept ≤ parked            (counts since the start; frame = count % frames)
//!   ─────────┬────────────┬──────────────┬──────────────┬──────────
//!    memory  │ nobody's,  │ saved or     │ wait for the │ free
//!    is back │ not yet    │ refused      │ keeper       │
//!            │ dropped    │              │              │
//! ```
//! `parked` and `kept` are shared with the keeper, in the member block; the rest is the pager's. Frames leave the ring in
//! order, so memory goes back to the kernel in long pieces: one TLB shoot-down for a quarter of the ring.

use crate::space::{FrameEntry, MemberIndex, Space};
use memvisor_core::{Frame, PAGE_BYTES, PageIndex, RUN_PAGES, SlotRef};
use memvisor_proto::Member;
use memvisor_proto::space::FRAMES_MAX;
use memvisor_sys::memory::Staging as StagingArea;
use memvisor_sys::process;
use std::sync::atomic::Ordering;

/// The smallest ring: four runs.
const FRAMES_MIN: u64 = 4 * RUN_PAGES as u64;
/// The part of the target that the ring may take. Frames are DRAM in limbo; below a 128th the ring runs dry under load.
const TARGET_PART: u64 = 64;

/// The staging ring of a member.
pub struct Staging {
    area: StagingArea,
    space: Space,
    member: MemberIndex,
    frames: u64,
    parked: u64,
    freed: u64,
    dropped: u64,
    holds: Box<[bool]>,
}

/// Reads frames of the staging area at `base` of a process by one call. Gives how many were read whole, in order.
pub(crate) fn read_frames(pid: u32, base: usize, frames: &[Frame], out: &mut [u8]) -> usize {
    let mut ranges = [(0usize, 0usize); crate::save::BATCH];
    for (range, frame) in ranges.iter_mut().zip(frames) {
        *range = (base + frame.0 as usize * PAGE_BYTES, PAGE_BYTES);
    }
    process::read_from(pid, &ranges[..frames.len()], out).unwrap_or(0) / PAGE_BYTES
}

impl Staging {
    /// Frames of the ring for a space with this target.
    pub fn frames_for(target_pages: u64) -> u64 {
        (target_pages / TARGET_PART).clamp(FRAMES_MIN, FRAMES_MAX as u64) / RUN_PAGES as u64 * RUN_PAGES as u64
    }

    /// A ring over `area`.
    pub fn new(space: Space, member: MemberIndex, area: StagingArea, frames: u64) -> Self {
        let block = space.member(member);
        block.staging_base().store(area.base() as u64, Ordering::Relaxed);
        block.staging_frames().store(frames, Ordering::Release);
        Self {
            area,
            space,
            member,
            frames,
            parked: 0,
            freed: 0,
            dropped: 0,
            holds: vec![false; frames as usize].into_boxed_slice(),
        }
    }

    fn block(&self) -> Member<'static> {
        self.space.member(self.member)
    }

    /// Frames in the ring.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The address of a frame.
    pub fn address(&self, frame: Frame) -> usize {
        self.area.base() + frame.0 as usize * PAGE_BYTES
    }

    /// Copies frames into `out`, one after the other. Gives how many were read whole: an empty one ends it. Through the
    /// kernel, because a touch of an empty frame would be a SIGBUS.
    pub fn read(&self, frames: &[Frame], out: &mut [u8]) -> usize {
        read_frames(process::getpid(), self.area.base(), frames, out)
    }

    /// The table entry of a frame.
    pub fn entry(&self, frame: Frame) -> FrameEntry {
        self.space.frame(self.member, frame.0)
    }

    /// Frames that are free, wherever they lie: who parks page by page can park so many.
    pub fn free(&self) -> u64 {
        self.frames - (self.parked - self.dropped)
    }

    /// Frames that could be parked into now, in one piece without the wrap.
    fn room(&self) -> u64 {
        let until_wrap = self.frames - self.parked % self.frames;
        self.free().min(until_wrap)
    }

    /// Whether `count` frames are free in one piece; skips the end of the ring when they are not before the wrap.
    pub fn has_room(&mut self, count: u64) -> bool {
        let until_wrap = self.frames - self.parked % self.frames;
        if until_wrap < count && self.free() >= until_wrap {
            for _ in 0..until_wrap {
                let frame = Frame((self.parked % self.frames) as u32);
                self.entry(frame).set(None, SlotRef::None);
                self.parked += 1;
            }
            self.block().parked_head().store(self.parked, Ordering::Release);
        }
        self.room() >= count
    }

    /// The frame that is parked into next.
    pub fn next(&self) -> Frame {
        Frame((self.parked % self.frames) as u32)
    }

    /// The next `count` frames hold what their entries say.
    pub fn publish(&mut self, count: u64) {
        self.parked += count;
        self.block().parked_head().store(self.parked, Ordering::Release);
    }

    /// A frame got a page.
    pub fn filled(&mut self, frame: Frame) {
        self.holds[frame.0 as usize] = true;
    }

    /// The page of a frame was moved away again.
    pub fn emptied(&mut self, frame: Frame) {
        self.holds[frame.0 as usize] = false;
    }

    /// The oldest frame that is still in use, and whether the keeper has looked at it.
    pub fn oldest(&self) -> Option<(Frame, bool)> {
        let kept = self.block().kept_head().load(Ordering::Acquire);
        (self.freed < self.parked).then(|| (Frame((self.freed % self.frames) as u32), kept > self.freed))
    }

    /// The page whose word names this frame now, if any.
    pub fn tenant(&self, frame: Frame) -> Option<PageIndex> {
        use memvisor_core::Page;
        let page = self.entry(frame).page()?;
        match self.space.page(page).get().page() {
            Page::Parked(at) | Page::Saving(at, _) | Page::Unparking(at) if at == frame => Some(page),
            _ => None,
        }
    }

    /// The oldest frame is nobody's now.
    pub fn free_oldest(&mut self) {
        self.freed += 1;
    }

    /// Frames that are nobody's and whose memory is not back yet.
    pub fn undropped(&self) -> u64 {
        self.freed - self.dropped
    }

    /// Gives the memory of all free frames back to the kernel. Gives the number of pages that came back.
    pub fn drop_freed(&mut self) -> u64 {
        let mut returned = 0;
        while self.dropped < self.freed {
            let first = self.dropped % self.frames;
            let count = (self.freed - self.dropped).min(self.frames - first);
            let held = &mut self.holds[first as usize..(first + count) as usize];
            let holding = held.iter().filter(|holds| **holds).count() as u64;
            if holding > 0 {
                self.area.drop_frames(first as u32, count as u32);
                held.fill(false);
            }
            returned += holding;
            self.dropped += count;
        }
        self.block().freed_head().store(self.freed, Ordering::Relaxed);
        returned
    }

    /// Frames parked that the keeper has not looked at.
    pub fn unkept(&self) -> u64 {
        self.parked - self.block().kept_head().load(Ordering::Acquire).min(self.parked)
    }

    /// Whether every frame is nobody's.
    pub fn is_idle(&self) -> bool {
        self.freed == self.parked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memvisor_proto::Layout;
    use memvisor_sys::shared::SharedFile;

    #[test]
    fn an_empty_ring_is_free_wherever_it_stands() {
        let file = SharedFile::create(c"staging-test", Layout::FILE_BYTES as u64).unwrap();
        let space = Space::new(file.map(Layout::FILE_BYTES).unwrap());
        let area = StagingArea::new(FRAMES_MIN as u32).unwrap();
        let mut staging = Staging::new(space, MemberIndex(0), area, FRAMES_MIN);
        for _ in 0..3 * FRAMES_MIN {
            assert_eq!(staging.free(), FRAMES_MIN);
            assert!(staging.has_room(1));
            staging.publish(1);
            assert_eq!(staging.free(), FRAMES_MIN - 1);
            staging.free_oldest();
            staging.drop_freed();
        }
    }
}
