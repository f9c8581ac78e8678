use crate::monitor::Monitor;
use crate::stores::Tiers;
use memvisor_core::{PageIndex, PageWord};
use memvisor_sys::Errno;

pub(crate) struct Loads {}
impl Loads {
    pub fn new(_: &Tiers) -> Result<Self, Errno> { Ok(Self {}) }
    pub fn fd(&self) -> i32 { -1 }
    pub fn outstanding(&self) -> usize { 0 }
    pub fn moved(&mut self, _: PageIndex, _: PageIndex) {}
}
impl Monitor {
    pub(crate) fn finish_loads(&mut self) {}
    pub(crate) fn wait_for_loads(&mut self) {}
    pub(crate) fn begin_log_load(&mut self, _: PageIndex, _: usize, _: PageWord) {}
}
