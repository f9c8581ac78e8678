//! A space as one process sees it: the mapped memory file and the names of its parts.

use memvisor_core::full;
use memvisor_core::{PageCell, PageIndex, RUN_PAGES, RunIndex, WINDOW_PAGES};
use memvisor_proto::space::{FRAMES_MAX, MEMBERS_MAX, WINDOWS_MAX, member_state};
use memvisor_proto::{Header, Layout, Member};
use memvisor_sys::shared::SharedMap;
use std::sync::atomic::{AtomicU64, Ordering};

const WORD: usize = 8;
const TABLE_BYTES: usize = WINDOW_PAGES * WORD;

/// How much compressed memory is believed to hold, at the very best, when a program asks for memory.
const COMPRESSION_AT_BEST: u64 = 4;

/// The number of a member in its space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberIndex(pub usize);

/// A mapped space.
#[derive(Clone, Copy)]
pub struct Space {
    map: SharedMap,
}

/// What lies in one frame of a staging area: which page, and the stored copy that the page had.
#[derive(Clone, Copy)]
pub struct FrameEntry {
    page: &'static AtomicU64,
    slot: &'static AtomicU64,
}

impl FrameEntry {
    /// The page whose frame this is; `None` for a frame that was skipped.
    pub fn page(&self) -> Option<PageIndex> {
        match self.page.load(Ordering::Acquire) {
            0 => None,
            stored => Some(PageIndex((stored - 1) as u32)),
        }
    }

    /// Writes both halves, before the frame is published.
    pub fn set(&self, page: Option<PageIndex>, slot: memvisor_core::SlotRef) {
        self.slot.store(slot.pack(), Ordering::Relaxed);
        self.page.store(page.map_or(0, |page| page.0 as u64 + 1), Ordering::Release);
    }

    /// The stored copy that the page had when it was moved out. It belongs to the frame while the page's word names
    /// the frame, and to whoever takes the word out of that state.
    pub fn slot(&self) -> memvisor_core::SlotRef {
        memvisor_core::SlotRef::unpack(self.slot.load(Ordering::Acquire))
    }
}

impl Space {
    /// Sees `map` as a space.
    pub fn new(map: SharedMap) -> Self {
        Self { map }
    }

    /// The mapping.
    pub fn map(&self) -> SharedMap {
        self.map
    }

    /// The header.
    pub fn header(&self) -> Header<'static> {
        Header(self.map.words(Layout::HEADER, Header::WORDS))
    }

    /// The block of a member.
    pub fn member(&self, member: MemberIndex) -> Member<'static> {
        Member(self.map.words(Layout::MEMBERS + member.0 * Member::WORDS * WORD, Member::WORDS))
    }

    /// Every member block that was ever taken, with its number. Blocks are taken from the front.
    pub fn members(&self) -> impl Iterator<Item = (MemberIndex, Member<'static>)> + '_ {
        self.blocks().take_while(|(_, block)| {
            block.state().load(Ordering::Acquire) != member_state::FREE
                || block.joined_ns().load(Ordering::Relaxed) != 0
        })
    }

    fn blocks(&self) -> impl Iterator<Item = (MemberIndex, Member<'static>)> + '_ {
        (0..MEMBERS_MAX).map(|at| (MemberIndex(at), self.member(MemberIndex(at))))
    }

    /// The entry of a frame of a member's staging area.
    pub fn frame(&self, member: MemberIndex, frame: u32) -> FrameEntry {
        let at = Layout::FRAMES + (member.0 * FRAMES_MAX + frame as usize) * 2 * WORD;
        let words = self.map.words(at, 2);
        FrameEntry { page: &words[0], slot: &words[1] }
    }

    /// The directory entry of a window: owner plus one (0: free), and address.
    pub fn window(&self, window: u32) -> (&'static AtomicU64, &'static AtomicU64) {
        let words = self.map.words(Layout::WINDOWS + window as usize * 2 * WORD, 2);
        (&words[0], &words[1])
    }

    /// The page words of a window.
    pub fn table(&self, window: u32) -> &'static [AtomicU64] {
        self.map.words(Layout::TABLES + window as usize * TABLE_BYTES, WINDOW_PAGES)
    }

    /// The word of a page.
    pub fn page(&self, page: PageIndex) -> PageCell<'static> {
        PageCell(&self.table(page.window())[page.offset()])
    }

    /// The words of a run.
    pub fn run(&self, run: RunIndex) -> &'static [AtomicU64] {
        let first = run.first();
        &self.table(first.window())[first.offset()..first.offset() + RUN_PAGES]
    }

    /// The address of a page.
    pub fn address(&self, page: PageIndex) -> usize {
        self.window(page.window()).1.load(Ordering::Acquire) as usize + page.offset() * memvisor_core::PAGE_BYTES
    }

    /// The windows that a member owns.
    pub fn windows_of(&self, member: MemberIndex) -> impl Iterator<Item = u32> + '_ {
        let owner = member.0 as u64 + 1;
        (0..self.windows_end()).filter(move |&window| self.window(window).0.load(Ordering::Acquire) == owner)
    }

    /// One past the highest window that was ever taken.
    pub fn windows_end(&self) -> u32 {
        self.header().window_hint().load(Ordering::Acquire) as u32
    }

    /// Takes a free window for the pages at `address` (aligned to a window). `None` when the space has no more.
    pub fn take_window(&self, member: MemberIndex, address: usize) -> Option<u32> {
        let owner = member.0 as u64 + 1;
        for window in 0..WINDOWS_MAX as u32 {
            let (holder, at) = self.window(window);
            if holder.load(Ordering::Relaxed) != 0 {
                continue;
            }
            if holder.compare_exchange(0, owner, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                at.store(address as u64, Ordering::Release);
                self.header().window_hint().fetch_max(window as u64 + 1, Ordering::AcqRel);
                self.header().windows_used().fetch_add(1, Ordering::Relaxed);
                self.header().meta_bytes().fetch_add(TABLE_BYTES as u64, Ordering::Relaxed);
                self.member(member).table_windows().fetch_add(1, Ordering::Relaxed);
                return Some(window);
            }
        }
        None
    }

    /// Gives a window back; its words must own nothing.
    pub fn give_window(&self, member: MemberIndex, window: u32) {
        let offset = Layout::TABLES + window as usize * TABLE_BYTES;
        if self.map.punch(offset, TABLE_BYTES).is_err() {
            self.table(window).iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        self.header().windows_used().fetch_sub(1, Ordering::Relaxed);
        self.header().meta_bytes().fetch_sub(TABLE_BYTES as u64, Ordering::Relaxed);
        self.member(member).table_windows().fetch_sub(1, Ordering::Relaxed);
        self.window(window).0.store(0, Ordering::Release);
    }

    /// Takes a free member block. `None` when the space is full.
    pub fn take_member(&self) -> Option<MemberIndex> {
        let (at, block) = self.blocks().find(|(_, block)| {
            block
                .state()
                .compare_exchange(member_state::FREE, member_state::TAKEN, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        })?;
        block.0.iter().skip(1).for_each(|word| word.store(0, Ordering::Relaxed));
        block.joined_ns().store(memvisor_sys::clock::now_ns(), Ordering::Relaxed);
        block.state().store(member_state::JOINING, Ordering::Release);
        Some(at)
    }

    /// Charges `bytes` more of plain memory to a member.
    pub fn charge_unarmed(&self, member: MemberIndex, bytes: i64) {
        self.header().charged_pages().fetch_add((bytes / memvisor_core::PAGE_BYTES as i64) as u64, Ordering::Relaxed);
        self.member(member).unarmed_bytes().fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Pages that may still be charged before the space is at its target; negative when it is above.
    /// A space that drains has all the room there is.
    pub fn headroom_pages(&self) -> i64 {
        let header = self.header();
        if self.is_draining() {
            return i64::MAX / 4;
        }
        let pools = header.ram_bytes().load(Ordering::Relaxed) + header.meta_bytes().load(Ordering::Relaxed);
        let target = header.target_bytes().load(Ordering::Relaxed);
        (target as i64 - pools as i64) / memvisor_core::PAGE_BYTES as i64
            - header.charged_pages().load(Ordering::Relaxed) as i64
    }

    /// Pages of DRAM that the space is charged for, compressed pages and tables among them.
    pub fn dram_pages(&self) -> u64 {
        let header = self.header();
        let pools = header.ram_bytes().load(Ordering::Relaxed) + header.meta_bytes().load(Ordering::Relaxed);
        header.charged_pages().load(Ordering::Relaxed).wrapping_add(pools / memvisor_core::PAGE_BYTES as u64)
    }

    /// Whether the stores could not hold `bytes` more. Like the kernel's own rule for memory, it refuses what is beyond
    /// all means; and what free DRAM does not hold once nothing more can be moved out.
    pub fn refuses(&self, bytes: u64) -> bool {
        let header = self.header();
        let word = |word: &AtomicU64| word.load(Ordering::Relaxed);
        if word(header.store_full()) != 0 {
            let headroom_bytes = self.headroom_pages() * memvisor_core::PAGE_BYTES as i64;
            return bytes > full::grant_when_full_bytes(word(header.target_bytes()), headroom_bytes);
        }
        let log =
            word(header.log_pages()).saturating_sub(word(header.log_used_pages())) * memvisor_core::PAGE_BYTES as u64;
        // A node gives more as it is needed, up to the limit: what it gives at this moment says nothing of what can be had.
        let most = match word(header.planned_ns()) {
            0 => word(header.target_bytes()),
            _ => word(header.target_bytes()).max(word(header.limit_bytes())),
        };
        bytes > (word(header.ram_limit_bytes()) * COMPRESSION_AT_BEST + log).saturating_add(most)
    }

    /// Whether everything shall come back to plain DRAM.
    pub fn is_draining(&self) -> bool {
        self.header().drain().load(Ordering::Relaxed) != 0
    }

    /// Whether an option of the run is set.
    pub fn has_option(&self, bit: u64) -> bool {
        self.header().options().load(Ordering::Relaxed) & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memvisor_proto::Layout;
    use memvisor_sys::shared::SharedFile;
    use std::sync::atomic::AtomicBool;

    fn space(target_bytes: u64) -> Space {
        let file = SharedFile::create(c"memvisor-test", Layout::FILE_BYTES as u64).expect("a sparse file is made");
        let space = Space::new(file.map(Layout::FILE_BYTES).expect("it is mapped"));
        space.header().target_bytes().store(target_bytes, Ordering::Relaxed);
        space.header().limit_bytes().store(u64::MAX, Ordering::Relaxed);
        space
    }

    #[test]
    fn memory_beyond_all_means_is_refused_unless_a_node_may_give_more() {
        let space = space(64 << 20);
        assert!(space.refuses(300 << 20) && !space.refuses(60 << 20));
        space.header().planned_ns().store(1, Ordering::Relaxed);
        assert!(!space.refuses(300 << 20), "nobody has said how much the node has");
        space.header().limit_bytes().store(128 << 20, Ordering::Relaxed);
        assert!(space.refuses(300 << 20) && !space.refuses(100 << 20));
    }

    #[test]
    fn a_block_says_that_somebody_joins_only_when_nothing_of_who_had_it_before_is_left() {
        let space = space(64 << 20);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..200_000 {
                    let block = space.member(space.take_member().expect("one block is enough"));
                    block.state().store(member_state::LIVE, Ordering::Release);
                    block.pid().store(7, Ordering::Release);
                    block.state().store(member_state::FREE, Ordering::Release);
                }
                is_over.store(true, Ordering::Release);
            });
            let block = space.member(MemberIndex(0));
            let look = || (block.state().load(Ordering::Acquire), block.joined_ns().load(Ordering::Acquire));
            while !is_over.load(Ordering::Acquire) {
                let (state, joined_ns) = look();
                let pid = block.pid().load(Ordering::Acquire);
                // The same joining before and after.
                if state == member_state::JOINING && look() == (state, joined_ns) {
                    assert_eq!((pid, joined_ns == 0), (0, false));
                }
            }
        });
    }

    #[test]
    fn a_space_that_drains_has_room_whatever_is_charged() {
        let space = space(64 << 20);
        space.header().charged_pages().store(1 << 20, Ordering::Relaxed);
        assert!(space.headroom_pages() < 0);
        space.header().drain().store(1, Ordering::Relaxed);
        assert!(space.headroom_pages() > 1 << 40);
    }
}
