//! What there is to divide.
//!
//! ```text
//!   0                                                                        all DRAM
//!   ├── used by others ──┬── overhead ──┬── charged to spaces ──┬── free ──────┤
//!                                       ├──────────── most ────────────────────┤
//!                                       ├──────────── calm ─────────┬── kept ──┤
//! ```
//!
//! What others use, the kernel among them, is not measured but left over: whatever is neither free nor charged. So a plan
//! makes room for it without being told, and memory that passes from a space to the free or back changes nothing.

use crate::{Settings, Situation};

/// What spaces may have together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// All that is not used by others, in bytes.
    pub most_bytes: u64,
    /// That without what is kept free, in bytes.
    pub calm_bytes: u64,
}

impl Capacity {
    /// The capacity when `most_bytes` are not used by others.
    pub fn new(most_bytes: u64, dram_bytes: u64, settings: &Settings) -> Self {
        let kept_bytes = settings.thresholds.kept_bytes(dram_bytes, settings.hysteresis);
        Self { most_bytes, calm_bytes: most_bytes.saturating_sub(kept_bytes) }
    }

    /// What is divided when so much is promised: promises are kept before memory is kept free.
    pub fn divided_bytes(&self, promised_bytes: u64) -> u64 {
        promised_bytes.clamp(self.calm_bytes, self.most_bytes)
    }
}

/// What is not used by others, in bytes. Numbers that were read at different instants may add up to more than there is;
/// a host does not become larger by that.
pub fn observed_bytes(situation: &Situation) -> u64 {
    let (mut charged, mut overhead) = (0u64, 0u64);
    for space in &situation.spaces {
        charged = charged.saturating_add(space.observation.charged_bytes);
        overhead = overhead.saturating_add(space.observation.overhead_bytes);
    }
    let host = situation.host;
    host.free_bytes.saturating_add(charged).min(host.dram_bytes.saturating_sub(overhead))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Host, Intent, Observation, Space, SpaceId};

    fn situation(dram_bytes: u64, free_bytes: u64, charged_bytes: u64, overhead_bytes: u64) -> Situation {
        let observation = Observation { charged_bytes, overhead_bytes, ..Observation::default() };
        let space = Space { id: SpaceId(1), intent: Intent::default(), observation };
        Situation { now_ns: 0, host: Host { dram_bytes, free_bytes }, spaces: vec![space] }
    }

    #[test]
    fn memory_that_others_use_is_not_divided() {
        assert_eq!(observed_bytes(&situation(1000, 300, 400, 50)), 700);
    }

    #[test]
    fn memory_that_becomes_charged_was_free() {
        assert_eq!(observed_bytes(&situation(1000, 300, 400, 0)), observed_bytes(&situation(1000, 0, 700, 0)));
    }

    #[test]
    fn a_host_has_no_more_than_its_dram_without_the_overhead() {
        assert_eq!(observed_bytes(&situation(1000, 900, 400, 50)), 950);
        assert_eq!(observed_bytes(&situation(1000, 900, 400, 5000)), 0);
    }

    #[test]
    fn promises_are_kept_before_memory_is_kept_free() {
        let capacity = Capacity::new(9000, 10_000, &Settings::default());
        assert_eq!(capacity.calm_bytes, 9000 - 625);
        assert_eq!(capacity.divided_bytes(5000), 9000 - 625);
        assert_eq!(capacity.divided_bytes(8800), 8800);
        assert_eq!(capacity.divided_bytes(9500), 9000);
    }
}
