//! How much of its DRAM a space is using: from samples of its members to one number that the idle memory tax can
//! stand on.
//!
//! ```text
//!   Tally (core) ──▶ Averages: slow, fast, fast and the present period ── the greatest ──▶ Active, of a member
//!                                                                                            │ weighed by pages
//!   refaults, stalls ──────────────────────────────────────────────────────────────────────▶ Activity of the space
//! ```
//!
//! As in ESX (Waldspurger, "Memory resource management in VMware ESX Server", OSDI 2002, section 5.3): the greatest
//! of the averages is taken, so that a program that begins to use its memory is believed at once, and one that stops
//! after a while. Beyond that source: what was taken from a program and is wanted back counts as active, for a sample
//! of what is left cannot show it; and a program that stalls for memory is believed to use all it has.
//!
//! Beside it stands what was in use of late, if that is surely less ([`Latest`]): what is believed beyond that is benefit of the
//! doubt, which ends when others pay for it ([`crate::doubt`]).
//!
//! Absent on purpose: sampling (in `memvisor_core::sample`), and what is done about it (the plan).

mod averages;
mod latest;
mod space;
mod wilson;

pub use averages::{Averages, FAST_GAIN, SLOW_GAIN};
pub use latest::Latest;
pub use space::{Activity, Demand, MemberActivity, STALLED_WHOLE, of_space};
pub use wilson::wilson;

/// A part of something, 0.0..=1.0, and what it may be instead, 95 times in 100.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Part {
    /// At least.
    pub low: f64,
    /// Most likely.
    pub expected: f64,
    /// At most.
    pub high: f64,
}

impl Part {
    /// Nothing is known: it is taken for all, so that nobody loses memory for want of a sample.
    pub const UNKNOWN: Self = Self { low: 0.0, expected: 1.0, high: 1.0 };
}
