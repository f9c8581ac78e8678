//! What is: what was measured of the host and its spaces at one instant.

use crate::{Intent, SpaceId};
use serde::{Deserialize, Serialize};

/// What was measured of a space.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Observation {
    /// DRAM that the space is charged for, in bytes: resident, parked and staged pages, compressed pages, tables.
    pub charged_bytes: u64,
    /// What it would be charged for if DRAM were free, in bytes: its footprint, and the room that it needs to grow
    /// until the next plan.
    pub wanted_bytes: u64,
    /// The part of its footprint that is in use, in bytes: the active fraction f times what f was sampled from.
    pub active_bytes: u64,
    /// What of that was in use of late, in bytes, when the latest samples surely show less; the rest has the benefit of the doubt.
    /// `None` when they do not: there is no doubt then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_bytes: Option<u64>,
    /// Memory of the program that is not managed, in bytes. It is in DRAM beside what is charged.
    pub overhead_bytes: u64,
    /// Faults served, each second.
    pub faults_per_s: f64,
    /// Of these, pages that had been evicted not long ago and were wanted back.
    pub refaults_per_s: f64,
    /// The part of the time in which the threads of the space waited for memory that had been taken from them, 0 to 1: what the
    /// service of refaults took. The kernel's pressure stall information does not count it (ADR 17).
    pub pressure: f64,
}

/// A space as the policy sees it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// Which.
    pub id: SpaceId,
    /// What its owner wants.
    pub intent: Intent,
    /// What it does.
    pub observation: Observation,
}

/// The DRAM of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// All there is, in bytes.
    pub dram_bytes: u64,
    /// What could be given out at once, in bytes: the kernel's `MemAvailable`. What is neither free nor charged to a space
    /// is used by others, overhead of the spaces among them.
    pub free_bytes: u64,
}

/// Everything that a plan is made from but for settings and memory. No two spaces have the same id.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Situation {
    /// When this was observed, in nanoseconds.
    pub now_ns: u64,
    /// The host.
    pub host: Host,
    /// Its spaces, in any order; a plan has the same order.
    pub spaces: Vec<Space>,
}
