//! What is wanted: what an owner says about a space, and nothing that is measured.

use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// A space, by the number that the host gave it; never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SpaceId(pub u64);

/// A sharing domain: a tenant. Pages are merged within one only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct DomainId(pub u32);

/// Who is sacrificed first when the host lacks what it promised; in that order. A class does not weigh: shares do, so
/// that one number says how memory is divided. It decides two things only:
///
/// 1. When not all reservations fit the DRAM, those of the higher class are kept first
///    ([`promise`](crate::promise)).
/// 2. In state low a space above its target is blocked, unless it is [`Class::Latency`]: that one is paged, as in state
///    hard. It cannot grow meanwhile, since a pager above its target evicts before it fills.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// May wait: the first to be cut.
    Batch,
    /// Everything else.
    #[default]
    Standard,
    /// Somebody waits for each answer: the last to be cut, never blocked.
    Latency,
}

/// What an owner wants for a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// DRAM that is there for the space at any instant, used or not, in bytes. Above the limit it counts as the limit;
    /// admission refuses such an intent.
    #[serde(default)]
    pub reservation_bytes: u64,
    /// The most DRAM that the space may ever have, in bytes; `None` for no such wish.
    #[serde(default)]
    pub limit_bytes: Option<u64>,
    /// Weight against other spaces for what is not reserved.
    #[serde(default = "Intent::usual_shares")]
    pub shares: NonZeroU32,
    /// Who is sacrificed first.
    #[serde(default)]
    pub class: Class,
    /// Whose memory it is. It does not change how much the space gets.
    #[serde(default)]
    pub domain: DomainId,
}

impl Intent {
    /// What a space has that nobody said anything about. A round number with room for a tenth and for ten times.
    pub const SHARES: NonZeroU32 = NonZeroU32::new(1000).unwrap();

    const fn usual_shares() -> NonZeroU32 {
        Self::SHARES
    }

    /// The reservation as far as the limit allows it, in bytes.
    pub fn reserved_bytes(&self) -> u64 {
        self.limited_bytes(self.reservation_bytes)
    }

    /// So much of `bytes` as the limit allows, in bytes.
    pub fn limited_bytes(&self, bytes: u64) -> u64 {
        self.limit_bytes.map_or(bytes, |limit| bytes.min(limit))
    }
}

impl Default for Intent {
    fn default() -> Self {
        Self {
            reservation_bytes: 0,
            limit_bytes: None,
            shares: Self::SHARES,
            class: Class::default(),
            domain: DomainId::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_in_the_order_in_which_they_are_sacrificed() {
        assert!(Class::Batch < Class::Standard && Class::Standard < Class::Latency);
    }

    #[test]
    fn an_intent_may_be_written_in_part_but_not_misspelt() {
        let intent: Intent = serde_json::from_str(r#"{"shares": 7, "class": "latency"}"#).unwrap();
        assert_eq!((intent.shares.get(), intent.class, intent.limit_bytes), (7, Class::Latency, None));
        assert!(serde_json::from_str::<Intent>(r#"{"share": 7}"#).is_err());
        assert!(serde_json::from_str::<Intent>(r#"{"shares": 0}"#).is_err());
    }
}
