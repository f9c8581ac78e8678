//! What a size of DRAM costs: faults in a second at any size, from the reuse distances that a pager recorded.
//!
//! ```text
//!   Recorded (core) ── since the look before ──▶ Sums ── fade with time ──▶ Curve ──▶ faults_at, ladder, fits
//!                                               sums      recent             build
//! ```
//!
//! A page that is used again after `d` others faults in every DRAM of `d` pages or fewer, so the faults at `c` pages
//! are the uses at `c` or more. This is so for LRU; other replacements are near it, and [`Curve::anchored`] moves the
//! curve to where the faults that really happened lie. First touches are apart: no DRAM spares them.
//!
//! Each number comes with what it may be instead, as far as is known; `build.rs` says from what. A curve falls or
//! stays as DRAM grows, always.
//!
//! Absent on purpose: bytes, tiers, what a fault costs. The caller knows how much of its DRAM holds pages in their
//! place.

mod build;
mod recent;
mod slope;
mod sums;

pub use recent::{HALF_LIFE_NS, Recent};
pub use sums::Sums;

use memvisor_core::curve::{BUCKETS, bucket_begin};

/// The sizes of [`Curve::ladder`], as parts of the present DRAM.
pub const RUNGS: [f64; 5] = [0.25, 0.5, 0.75, 1.0, 1.5];
/// How far the faults that happened may move a curve: beyond it they are of another time, or of another cause.
const ANCHOR_MOST: f64 = 2.0;

/// A rate in 1/s, and what it may be instead, 95 times in 100.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Estimate {
    /// At least.
    pub low: f64,
    /// Most likely.
    pub expected: f64,
    /// At most; infinite where only the least is known.
    pub high: f64,
}

impl Estimate {
    fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self { low: change(self.low), expected: change(self.expected), high: change(self.high) }
    }

    fn plus(self, other: Self) -> Self {
        Self { low: self.low + other.low, expected: self.expected + other.expected, high: self.high + other.high }
    }
}

/// One size of a [`Curve::ladder`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rung {
    /// The part of the present DRAM, one of [`RUNGS`].
    pub part: f64,
    /// The size.
    pub pages: u64,
    /// Faults in a second, first touches apart.
    pub faults: Estimate,
}

/// The least DRAM for a given rate of faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fit {
    /// In pages, by what is most likely.
    pub likely_pages: Option<u64>,
    /// In pages, by the most that the faults may be.
    pub sure_pages: Option<u64>,
}

/// Faults in a second at any size of DRAM.
#[derive(Clone, PartialEq, Debug)]
pub struct Curve {
    /// At the sizes at which buckets of distances begin.
    points: [Estimate; BUCKETS],
    /// First touches in a second.
    first: f64,
    /// Below this size only the least is known.
    resolved_pages: u64,
}

impl Curve {
    /// Faults in a second with `pages` of DRAM, first touches apart. Between two points of the curve in proportion.
    pub fn faults_at(&self, pages: u64) -> Estimate {
        let next = (0..BUCKETS).find(|&at| bucket_begin(at) > pages).unwrap_or(BUCKETS);
        let before = self.points[next.saturating_sub(1)];
        let Some(after) = self.points.get(next) else { return before };
        let (begin, end) = (bucket_begin(next.saturating_sub(1)), bucket_begin(next));
        let part = (pages - begin) as f64 / (end - begin) as f64;
        let between = |from: f64, to: f64| if from.is_finite() { from + (to - from) * part } else { from };
        Estimate {
            low: between(before.low, after.low),
            expected: between(before.expected, after.expected),
            high: between(before.high, after.high),
        }
    }

    /// First touches in a second: faults at every size.
    pub const fn first_touches(&self) -> f64 {
        self.first
    }

    /// Below this size, in pages, [`Curve::faults_at`] knows only the least.
    pub const fn resolved_pages(&self) -> u64 {
        self.resolved_pages
    }

    /// Faults for each use of a page, first touches among both, 0.0..=1.0. Uses in quick succession are one use, for
    /// they are not seen: of all touches of memory the part that misses is smaller.
    pub fn miss_ratio_at(&self, pages: u64) -> Estimate {
        let uses = self.points[0].expected + self.first;
        if uses <= 0.0 {
            return Estimate::default();
        }
        self.faults_at(pages).map(|faults| ((faults + self.first) / uses).clamp(0.0, 1.0))
    }

    /// What the [`RUNGS`] of `present_pages` would cost.
    pub fn ladder(&self, present_pages: u64) -> [Rung; RUNGS.len()] {
        RUNGS.map(|part| {
            let pages = (present_pages as f64 * part).round() as u64;
            Rung { part, pages, faults: self.faults_at(pages) }
        })
    }

    /// The least DRAM with which no more than `faults_per_second` are expected, first touches apart.
    pub fn fits(&self, faults_per_second: f64) -> Fit {
        Fit {
            likely_pages: self.least(faults_per_second, |point| point.expected),
            sure_pages: self.least(faults_per_second, |point| point.high),
        }
    }

    /// The curve moved so that it says of `present_pages` what happened there, `faults_per_second` (first touches
    /// apart): by no more than a factor of two. What it may be instead reaches from the curve as it was to the one
    /// moved.
    pub fn anchored(&self, present_pages: u64, faults_per_second: f64) -> Self {
        let expected = self.faults_at(present_pages).expected;
        if expected <= 0.0 || !faults_per_second.is_finite() {
            return self.clone();
        }
        let factor = (faults_per_second / expected).clamp(1.0 / ANCHOR_MOST, ANCHOR_MOST);
        let points = self.points.map(|point| Estimate {
            low: point.low * factor.min(1.0),
            expected: point.expected * factor,
            high: point.high * factor.max(1.0),
        });
        Self { points, ..self.clone() }
    }

    /// The curve of a space from those of its members, each with the pages that it has in their place now: DRAM is taken
    /// from them, and given to them, in proportion to those. `None` without members, or when none has any page.
    pub fn of_space(members: &[(&Self, u64)]) -> Option<Self> {
        let total: u64 = members.iter().map(|&(_, pages)| pages).sum();
        if total == 0 {
            return None;
        }
        let part = |pages: u64| pages as f64 / total as f64;
        let mut points = [Estimate::default(); BUCKETS];
        for (at, point) in points.iter_mut().enumerate() {
            for &(curve, pages) in members {
                *point = point.plus(curve.faults_at((bucket_begin(at) as f64 * part(pages)) as u64));
            }
        }
        let resolved = |&(curve, pages): &(&Self, u64)| match pages {
            0 => 0,
            _ => (curve.resolved_pages as f64 / part(pages)) as u64,
        };
        Some(Self {
            points,
            first: members.iter().map(|(curve, _)| curve.first).sum(),
            resolved_pages: members.iter().map(resolved).max().unwrap_or(0),
        })
    }

    /// The least size at which `value` is no more than `most`.
    fn least(&self, most: f64, value: impl Fn(&Estimate) -> f64) -> Option<u64> {
        let next = self.points.iter().position(|point| value(point) <= most)?;
        if next == 0 {
            return Some(0);
        }
        let (before, after) = (value(&self.points[next - 1]), value(&self.points[next]));
        let (begin, end) = (bucket_begin(next - 1), bucket_begin(next));
        let part = if before.is_finite() { (before - most) / (before - after) } else { 1.0 };
        Some(begin + ((end - begin) as f64 * part).ceil() as u64)
    }
}

#[cfg(test)]
mod tests;
