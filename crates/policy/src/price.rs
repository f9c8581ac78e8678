//! The price: how many shares a space pays for its memory, an idle byte counted dearer than an active one.
//!
//! Waldspurger (OSDI 2002, §5.2) takes memory from whoever pays least, by the adjusted ratio of shares to memory
//!
//! ```text
//!   ρ = S / (P · (f + k·(1 − f)))        S shares, P memory, f active part of it, k = 1/(1−τ)
//! ```
//!
//! Here f is no constant. What is sampled is how much memory a space uses, A; it uses that whatever it is granted, and
//! what is taken from it is what it does not use, by any fair replacement. So of a grant P the active part is f = min(1, A/P),
//! and what stands below the line, the *cost* of the grant, is
//!
//! ```text
//!   P·(f + k(1−f)) = P              for P ≤ A          cost │       ╱ slope k
//!                    A + k·(P − A)  for P > A               │      ╱
//!                                                           │    ·  A
//!                                                           │  ╱ slope 1
//!                                                           └────────── P
//! ```
//!
//! That is where the paper's loop comes to rest, which measures f anew after each reclamation; with f held constant one
//! plan would take active memory along with the idle and the next would give it back. At A = 0 and at A ≥ P the two are the same.
//!
//! The cost rises with P, so it can be turned round: [`Payer::bytes_at`] is what may be held at a *level*, the cost that
//! each share may bear, which is 1/ρ.

use crate::Tax;
use std::num::NonZeroU32;

/// Bytes in the unit in which prices are told.
const MIB: f64 = (1 << 20) as f64;

/// Who pays for memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Payer {
    /// What it pays with.
    pub shares: NonZeroU32,
    /// What it uses, in bytes.
    pub active_bytes: u64,
}

impl Payer {
    /// What holding `bytes` costs: in bytes, an idle one counted k times.
    pub fn cost(&self, bytes: f64, tax: Tax) -> f64 {
        let active = bytes.min(self.active_bytes as f64);
        active + tax.idle_price() * (bytes - active)
    }

    /// 1/ρ: the cost of `bytes` that each share bears, in bytes a share.
    pub fn level_of(&self, bytes: f64, tax: Tax) -> f64 {
        self.cost(bytes, tax) / self.shares()
    }

    /// What may be held when each share bears `level`, in bytes: the inverse of [`Payer::level_of`].
    pub fn bytes_at(&self, level: f64, tax: Tax) -> f64 {
        let (cost, active) = (level * self.shares(), self.active_bytes as f64);
        if cost <= active { cost } else { active + (cost - active) / tax.idle_price() }
    }

    /// ρ of holding `bytes`, in shares a MiB; `None` for nothing, which costs nothing.
    pub fn price(&self, bytes: u64, tax: Tax) -> Option<f64> {
        price_at(self.level_of(bytes as f64, tax))
    }

    /// f: the active part of `bytes`, 0 to 1; all of nothing is active.
    pub fn active_fraction(&self, bytes: u64) -> f64 {
        if bytes <= self.active_bytes { 1.0 } else { self.active_bytes as f64 / bytes as f64 }
    }

    fn shares(&self) -> f64 {
        f64::from(self.shares.get())
    }
}

/// ρ at a level, in shares a MiB; `None` at the level of nothing.
pub fn price_at(level: f64) -> Option<f64> {
    (level > 0.0).then(|| MIB / level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payer(shares: u32, active_bytes: u64) -> Payer {
        Payer { shares: NonZeroU32::new(shares).unwrap(), active_bytes }
    }

    #[test]
    fn the_price_is_that_of_the_paper() {
        let (shares, bytes, active) = (1000.0, 256.0, 64u64);
        let (f, k) = (0.25, 4.0);
        let price = payer(1000, active << 20).price(256 << 20, Tax::USUAL).unwrap();
        assert!((price - shares / (bytes * (f + k * (1.0 - f)))).abs() < 1e-12);
        assert_eq!(payer(1000, active).active_fraction(256), 0.25);
    }

    #[test]
    fn nothing_has_no_price() {
        assert_eq!(payer(1000, 0).price(0, Tax::USUAL), None);
    }

    #[test]
    fn without_a_tax_use_makes_no_difference() {
        assert_eq!(payer(10, 0).price(4096, Tax::NONE), payer(10, 4096).price(4096, Tax::NONE));
    }

    proptest! {
        #[test]
        fn what_is_held_at_the_level_of_an_amount_is_that_amount(
            shares in 1u32..1_000_000, active in 0u64..1 << 45, bytes in 0u64..1 << 45, tax in 0.0..0.99,
        ) {
            let (payer, tax) = (payer(shares, active), Tax::try_from(tax).unwrap());
            let back = payer.bytes_at(payer.level_of(bytes as f64, tax), tax);
            prop_assert!((back - bytes as f64).abs() <= bytes as f64 * 1e-12 + 0.01, "{back} of {bytes}");
        }
    }
}
