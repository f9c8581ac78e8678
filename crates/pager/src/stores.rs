use memvisor_core::{PAGE_BYTES, PageIndex, SlotRef};
use memvisor_proto::Header;
use memvisor_store::ram::{RamParts, Scratch};
use memvisor_store::{LoadError, PageBytes, RamStore, RetainError, SaveOutcome};
use memvisor_sys::Errno;
use memvisor_sys::file::AlignedBuffer;
use memvisor_sys::shared::SharedMap;
use std::ffi::CStr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Clone, Copy)]
pub struct Pending { pub page: PageIndex, pub retained: SlotRef }
impl Default for Pending { fn default() -> Self { Self { page: PageIndex(0), retained: SlotRef::None } } }
pub struct Workspace { scratch: Box<Scratch> }
impl Workspace { pub fn new() -> Self { Self { scratch: Box::new(Scratch::new()) } } }

pub struct Tiers { ram: RamStore, header: Header<'static> }
impl Tiers {
    pub fn attach(map: SharedMap, _log: Option<&CStr>) -> Result<Self, Errno> {
        let header = Header(map.words(0, Header::WORDS));
        Ok(Self { ram: RamStore::open(map, RamParts::SPACE, header), header })
    }
    pub fn release(&self, slot: SlotRef) { self.ram.release(slot) }
    pub fn retain(&self, slot: SlotRef) -> Result<(), RetainError> { self.ram.retain(slot) }
    pub fn load(&self, slot: SlotRef, out: &mut PageBytes) -> Result<(), LoadError> { self.ram.load(slot, out) }
    pub fn has_room_to_retain(&self, slot: SlotRef) -> bool {
        match slot {
            SlotRef::Filled(_) | SlotRef::None => true,
            SlotRef::Ram(_) => self.header.ram_bytes().load(Relaxed) < self.header.ram_limit_bytes().load(Relaxed) / 2,
            SlotRef::Log(_) => true,
        }
    }
    pub fn save_batch(&mut self, workspace: &mut Workspace, pages: &[Pending], bytes: &AlignedBuffer, outcomes: &mut [SaveOutcome]) {
        let (data, _) = bytes.as_chunks::<PAGE_BYTES>();
        for ((pending, page), outcome) in pages.iter().zip(data).zip(outcomes) {
            let retained = pending.retained.is_some().then_some(pending.retained);
            *outcome = self.ram.save(&mut workspace.scratch, page, retained);
        }
    }
    pub fn tidy<'a, I: Iterator<Item = &'a AtomicU64>>(&mut self, words: impl Fn() -> I) {
        self.ram.punch_empty(64);
        let _ = words;
    }
}
