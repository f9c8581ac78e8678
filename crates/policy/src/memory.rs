//! What one plan leaves for the next, and what is believed with it of a new situation.

use crate::capacity;
use crate::damping::Lag;
use crate::{Settings, Situation, Space, SpaceId, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is believed of a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Believed {
    /// The target that it was granted, in bytes; of a space that was not met before, what it holds.
    pub target_bytes: u64,
    /// What it wants, in bytes.
    pub wanted_bytes: u64,
    /// What it uses, in bytes.
    pub active_bytes: u64,
}

/// What one plan leaves for the next. The empty one is for the first.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// When the last plan was made, in nanoseconds; `None` before the first.
    pub planned_ns: Option<u64>,
    /// The state that it found.
    pub state: State,
    /// What was believed not to be used by others, in bytes.
    pub capacity_bytes: u64,
    /// Its spaces, as they were left.
    pub spaces: BTreeMap<SpaceId, Believed>,
}

/// What is believed of a situation.
#[derive(Clone, PartialEq, Debug)]
pub struct Beliefs {
    /// Time since the last plan, in nanoseconds; none at the first.
    pub elapsed_ns: u64,
    /// What is not used by others, in bytes.
    pub capacity_bytes: u64,
    /// The spaces, in the order of the situation.
    pub spaces: Vec<Believed>,
}

impl Memory {
    /// What is believed of `situation`.
    pub fn believe(&self, situation: &Situation, settings: &Settings) -> Beliefs {
        let elapsed_ns = self.planned_ns.map_or(0, |planned_ns| situation.now_ns.saturating_sub(planned_ns));
        let lag = Lag::over(elapsed_ns, settings.fall_ns);
        let observed_bytes = capacity::observed_bytes(situation);
        let capacity_bytes = match self.planned_ns {
            Some(_) => lag.rise(self.capacity_bytes, observed_bytes),
            None => observed_bytes,
        };
        let spaces = situation.spaces.iter().map(|space| self.believe_space(space, lag)).collect();
        Beliefs { elapsed_ns, capacity_bytes, spaces }
    }

    fn believe_space(&self, space: &Space, lag: Lag) -> Believed {
        let seen = &space.observation;
        match self.spaces.get(&space.id) {
            Some(last) => Believed {
                target_bytes: last.target_bytes,
                wanted_bytes: lag.fall(last.wanted_bytes, seen.wanted_bytes),
                active_bytes: lag.fall(last.active_bytes, seen.active_bytes),
            },
            None => Believed {
                target_bytes: seen.charged_bytes,
                wanted_bytes: seen.wanted_bytes,
                active_bytes: seen.active_bytes,
            },
        }
    }

    /// What is left for the next plan by one that granted `targets` bytes, in the order of the situation. Spaces that are gone
    /// are forgotten.
    pub fn after(situation: &Situation, state: State, beliefs: &Beliefs, targets: impl Iterator<Item = u64>) -> Self {
        let spaces = situation.spaces.iter().zip(&beliefs.spaces).zip(targets);
        let spaces = spaces
            .map(|((space, believed), target_bytes)| (space.id, Believed { target_bytes, ..*believed }))
            .collect();
        Self { planned_ns: Some(situation.now_ns), state, capacity_bytes: beliefs.capacity_bytes, spaces }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Host, Intent, Observation};

    fn situation(now_ns: u64, free_bytes: u64, wanted_bytes: u64) -> Situation {
        let observation =
            Observation { charged_bytes: 100, wanted_bytes, active_bytes: wanted_bytes, ..Default::default() };
        let space = Space { id: SpaceId(1), intent: Intent::default(), observation };
        Situation { now_ns, host: Host { dram_bytes: 10_000, free_bytes }, spaces: vec![space] }
    }

    fn after(situation: &Situation) -> Memory {
        let beliefs = Memory::default().believe(situation, &Settings::default());
        Memory::after(situation, State::High, &beliefs, [77].into_iter())
    }

    #[test]
    fn a_space_that_was_not_met_was_granted_what_it_holds() {
        let believed = Memory::default().believe(&situation(5, 0, 900), &Settings::default());
        assert_eq!(believed.spaces, [Believed { target_bytes: 100, wanted_bytes: 900, active_bytes: 900 }]);
        assert_eq!((believed.elapsed_ns, believed.capacity_bytes), (0, 100));
    }

    #[test]
    fn a_space_that_was_met_has_its_target_and_is_believed_slowly_that_it_rests() {
        let settings = Settings { fall_ns: 10, ..Settings::default() };
        let believed = after(&situation(5, 0, 900)).believe(&situation(15, 1000, 500), &settings);
        assert_eq!(believed.spaces, [Believed { target_bytes: 77, wanted_bytes: 700, active_bytes: 700 }]);
        assert_eq!((believed.elapsed_ns, believed.capacity_bytes), (10, 600));
    }

    #[test]
    fn when_the_clock_goes_back_no_time_has_passed() {
        let believed = after(&situation(5, 0, 900)).believe(&situation(3, 0, 500), &Settings::default());
        assert_eq!((believed.elapsed_ns, believed.spaces[0].wanted_bytes), (0, 900));
    }

    #[test]
    fn a_space_that_is_gone_is_forgotten() {
        let mut memory = after(&situation(5, 0, 900));
        let empty = Situation { spaces: vec![], ..situation(6, 0, 0) };
        memory = Memory::after(&empty, State::High, &memory.believe(&empty, &Settings::default()), [].into_iter());
        assert!(memory.spaces.is_empty());
    }
}
