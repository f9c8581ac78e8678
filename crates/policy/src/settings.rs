//! What an operator may turn: the tax, the thresholds of free memory, and how calmly the plan follows.

use crate::Thresholds;
use serde::{Deserialize, Serialize};

/// The idle memory tax τ: the part of an idle page that its owner is not left with, 0 to [`Tax::MOST`].
///
/// An idle page costs k = 1/(1−τ) times what an active one costs (Waldspurger, OSDI 2002, §5.2): at 0 idle memory is as
/// good as any, at ¾ it costs four times as much.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Tax(f64);

impl Tax {
    /// Idle memory costs as much as any other.
    pub const NONE: Self = Self(0.0);
    /// What the paper ships: most idle memory moves, and a quarter of it still buffers a jump in use.
    pub const USUAL: Self = Self(0.75);
    /// An idle page at 100 times the price; at 1 the price would be infinite.
    pub const MOST: Self = Self(0.99);

    /// k: what an idle byte costs where an active one costs 1.
    pub fn idle_price(self) -> f64 {
        1.0 / (1.0 - self.0)
    }
}

impl TryFrom<f64> for Tax {
    type Error = String;

    fn try_from(tax: f64) -> Result<Self, String> {
        if (0.0..=Self::MOST.0).contains(&tax) {
            Ok(Self(tax))
        } else {
            Err(format!("a tax is a part from 0 to {}, and {tax} is not", Self::MOST.0))
        }
    }
}

impl From<Tax> for f64 {
    fn from(tax: Tax) -> Self {
        tax.0
    }
}

/// What an operator may turn. Times are as long as they are for plans that are made about once a second.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// τ.
    pub tax: Tax,
    /// When states begin and end.
    pub thresholds: Thresholds,
    /// How much more than a threshold must be free, as a part of all DRAM, before a better state is believed.
    pub hysteresis: f64,
    /// Changes of a target below this part of it are not made.
    pub dead_band: f64,
    /// The most that a target falls each second, in bytes, while the state is high or soft.
    pub shrink_bytes_per_s: u64,
    /// How slowly inputs that fall, and DRAM that becomes free, are believed: the time constant of a first-order lag, in
    /// nanoseconds. After it about two thirds of a step are believed.
    pub fall_ns: u64,
    /// A space that waits for memory for this part of its time, 0 to 1, is stalled.
    pub stalled: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tax: Tax::USUAL,
            thresholds: Thresholds::default(),
            // A quarter of the least step between thresholds.
            hysteresis: 0.0025,
            // What an estimate from 100 samples jitters is more; but it is damped, and 1 % of DRAM is worth moving.
            dead_band: 0.01,
            // A quarter of what one keeper saves (4 µs a page).
            shrink_bytes_per_s: 256 << 20,
            // One sampling period of the paper.
            fall_ns: 30_000_000_000,
            // Services notice a tenth.
            stalled: 0.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_usual_tax_an_idle_page_costs_four_times_as_much() {
        assert_eq!(Tax::USUAL.idle_price(), 4.0);
        assert_eq!(Tax::NONE.idle_price(), 1.0);
    }

    #[test]
    fn a_tax_that_would_make_the_price_infinite_is_refused() {
        assert!(Tax::try_from(1.0).is_err() && Tax::try_from(-0.1).is_err() && Tax::try_from(f64::NAN).is_err());
        assert!(serde_json::from_str::<Settings>(r#"{"tax": 1.0}"#).is_err());
        assert_eq!(serde_json::from_str::<Settings>(r#"{"tax": 0.5}"#).unwrap().tax.idle_price(), 2.0);
    }
}
