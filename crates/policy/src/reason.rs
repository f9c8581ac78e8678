//! Why a space has the target that it has, as data: what a person is told in sentences and a machine compares.

use serde::{Deserialize, Serialize};

/// What held a goal where it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Its reservation: at the price of the others it would have less.
    Reservation,
    /// Its limit: at the price of the others it would have more.
    Limit,
    /// What it wants: it has all that.
    Wanted,
    /// The price: it has as much as anybody with its shares and its use of memory.
    Price,
}

/// What became of the reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// There was none.
    None,
    /// Kept, in bytes.
    Kept(u64),
    /// The host lacks the DRAM: of what was reserved only a part is there.
    Cut {
        /// What was promised, in bytes.
        reserved_bytes: u64,
        /// What was kept, in bytes.
        kept_bytes: u64,
    },
}

/// How the target came from the goal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The target is the goal.
    Whole,
    /// The change would be too small to be worth it: the target stays.
    DeadBand,
    /// The target falls to the goal no faster than is allowed.
    Rate,
    /// The target rises to the goal as others give.
    Waiting,
}

/// Why a space has its target.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// What the division gives; the target is on its way there, in bytes.
    pub goal_bytes: u64,
    /// What held the goal there.
    pub bound: Bound,
    /// How the target came from the goal.
    pub step: Step,
    /// What became of the reservation.
    pub promise: Promise,
    /// ρ at the goal: shares for each MiB, an idle one counted k times. The lower it is, the sooner memory is taken from
    /// this space. `None` when the goal is nothing.
    pub price: Option<f64>,
    /// The active part of the goal, f, 0 to 1.
    pub active_fraction: f64,
    /// The goal with τ = 0, in bytes.
    pub untaxed_bytes: u64,
}

impl Reason {
    /// What the tax took from the space, in bytes; negative when it gained.
    pub fn tax_bytes(&self) -> i64 {
        self.untaxed_bytes as i64 - self.goal_bytes as i64
    }
}
