//! The plan: for each space a target, what is done about it, and why.

use crate::{Advice, Reason, SpaceId, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is done to a space now.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing: it is within its target, or the state is high.
    Leave,
    /// It shall give: by its balloon if it has one, else by paging.
    Balloon,
    /// It is paged.
    Page,
    /// It is paged, and does not run until it is within its target.
    Block,
}

/// What a space gets.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Which space.
    pub id: SpaceId,
    /// DRAM granted now, in bytes.
    pub target_bytes: u64,
    /// The number for its pager, in bytes: the target; but while nothing is taken from anybody, what the space
    /// holds if that is more (and within its limit).
    pub budget_bytes: u64,
    /// What is done about it.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// What to do.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// When the situation was observed, in nanoseconds.
    pub now_ns: u64,
    /// How short of DRAM the host is.
    pub state: State,
    /// What is divided among the spaces, in bytes.
    pub capacity_bytes: u64,
    /// The price ρ that all pay who have neither reservation nor limit nor all they want, see [`Reason::price`].
    /// `None` when nobody is short.
    pub price: Option<f64>,
    /// What each space gets, in the order of the situation.
    pub grants: Vec<Grant>,
    /// What is to be said of the consolidation ratio.
    pub advice: Advice,
}

/// What a plan remembers of a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// The target that was granted, in bytes.
    pub target_bytes: u64,
    /// What it wanted, as far as it was believed, in bytes.
    pub wanted_bytes: u64,
    /// What it used, as far as it was believed, in bytes.
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
    /// What it could give out, as far as it was believed, in bytes.
    pub capacity_bytes: u64,
    /// Its spaces.
    pub spaces: BTreeMap<SpaceId, Remembered>,
}
