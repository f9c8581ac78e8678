//! Advice: a consolidation ratio that is too high is named as such.
//!
//! Wanting more than there is, is what a memory hypervisor is for. Using more is not: then pages leave that are wanted back
//! at once, whoever owns them, and no division of too little helps.

use crate::memory::Believed;
use crate::{Bound, Grant, Promise, Settings, Space};
use serde::{Deserialize, Serialize};

/// One space in so many stands still: then it is no longer the matter of one.
const STALLED_PART: usize = 10;

/// What is to be said of the consolidation ratio.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everybody has what it wants.
    Fits,
    /// Not all that is wanted fits, but what is used does.
    Overcommitted,
    /// Too high: not even what is used fits, or spaces stand still for want of memory.
    TooHigh,
    /// Too high by far: not even the reservations fit.
    PromisesBroken,
}

/// How much is asked of the host.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advice {
    /// What is to be said.
    pub verdict: Verdict,
    /// What all spaces want, each up to its limit, in bytes.
    pub wanted_bytes: u64,
    /// What all use, each up to its limit, in bytes.
    pub active_bytes: u64,
    /// What is reserved, in bytes.
    pub reserved_bytes: u64,
    /// What there is for spaces, in bytes.
    pub capacity_bytes: u64,
    /// Wanted for each byte there is: the consolidation ratio. `None` when there is nothing.
    pub ratio: Option<f64>,
    /// What is to leave the host, or to be bought, until what is used and reserved fits, in bytes.
    pub excess_bytes: u64,
    /// Spaces that have less than they want and stand still for it.
    pub stalled_spaces: u32,
}

impl Advice {
    /// What is to be said when `grants` were made to `spaces` out of `capacity_bytes`, all in the same order.
    pub(crate) fn of(
        spaces: &[Space],
        believed: &[Believed],
        grants: &[Grant],
        capacity_bytes: u64,
        settings: &Settings,
    ) -> Self {
        let sum = |bytes: &dyn Fn(&Space, &Believed) -> u64| {
            spaces.iter().zip(believed).fold(0u64, |sum, (space, believed)| sum.saturating_add(bytes(space, believed)))
        };
        let wanted = |space: &Space, believed: &Believed| space.intent.limited_bytes(believed.wanted_bytes);
        let active = |space: &Space, believed: &Believed| believed.active_bytes.min(wanted(space, believed));
        let reserved = |space: &Space, _: &Believed| space.intent.reserved_bytes();
        let needed_bytes = sum(&|space, believed| active(space, believed).max(reserved(space, believed)));
        let mut advice = Self {
            verdict: Verdict::Fits,
            wanted_bytes: sum(&wanted),
            active_bytes: sum(&active),
            reserved_bytes: sum(&reserved),
            capacity_bytes,
            ratio: (capacity_bytes > 0).then(|| sum(&wanted) as f64 / capacity_bytes as f64),
            excess_bytes: needed_bytes.saturating_sub(capacity_bytes),
            stalled_spaces: spaces.iter().zip(grants).filter(|(space, grant)| stalls(space, grant, settings)).count()
                as u32,
        };
        advice.verdict = advice.judge(grants);
        advice
    }

    fn judge(&self, grants: &[Grant]) -> Verdict {
        let stalled = self.stalled_spaces > 0 && self.stalled_spaces as usize * STALLED_PART >= grants.len();
        if grants.iter().any(|grant| matches!(grant.reason.promise, Promise::Cut { .. })) {
            Verdict::PromisesBroken
        } else if self.excess_bytes > 0 || stalled {
            Verdict::TooHigh
        } else if self.wanted_bytes > self.capacity_bytes {
            Verdict::Overcommitted
        } else {
            Verdict::Fits
        }
    }
}

/// Whether a space stands still for want of memory that others have. What its own limit costs it is its owner's wish.
fn stalls(space: &Space, grant: &Grant, settings: &Settings) -> bool {
    let short = match grant.reason.bound {
        Bound::Price | Bound::Reservation => grant.target_bytes < space.observation.wanted_bytes,
        Bound::Limit | Bound::Wanted => false,
    };
    short && space.observation.pressure >= settings.stalled
}
