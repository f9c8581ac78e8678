//! The misses of small memories, from how long pages are awaited: the slope of the working set.
//!
//! A memory that keeps a page for `t` after its last use has `w(t)` pages on average and `w′(t)` misses in a second.
//! The slope is known at every `t` (see `memvisor_core::curve`), so `w(t)` is its integral, and the misses of a
//! memory of `c` pages are the slope where the integral is `c`. A slope that rises is noise, for a memory that keeps
//! pages longer misses less: neighbours that rise are taken together (Grenander, "On the theory of mortality
//! measurement", 1956).

use super::Sums;
use memvisor_core::curve::{TIMES, time_bucket_begin};

/// Stretches of time, the slope falling from each to the next.
pub(super) struct Slope {
    /// Of each: its length in seconds, and the pages that are first used in it.
    stretches: Vec<(f64, f64)>,
}

impl Slope {
    pub(super) fn new(sums: &Sums) -> Self {
        let mut longer: f64 = sums.waits.iter().sum();
        let probes: f64 = sums.probed_waits.iter().sum();
        let unseen_of_probe = if probes > 0.0 { sums.unseen_seconds / probes } else { 0.0 };
        let mut stretches: Vec<(f64, f64)> = Vec::with_capacity(TIMES);
        for at in 0..TIMES {
            let width = (time_bucket_begin(at + 1) - time_bucket_begin(at)) as f64 / 1e9;
            let awaited = (longer - sums.waits[at] / 2.0).max(0.0) * width;
            longer -= sums.waits[at];
            let mut stretch = (width, (awaited + unseen_of_probe * sums.probed_waits[at]) / sums.seconds);
            while let Some(before) = stretches.pop_if(|before| before.1 / before.0 <= stretch.1 / stretch.0) {
                stretch = (before.0 + stretch.0, before.1 + stretch.1);
            }
            stretches.push(stretch);
        }
        Self { stretches }
    }

    /// Misses in a second of a memory of `pages`.
    pub(super) fn misses_at(&self, pages: f64) -> f64 {
        let mut kept = 0.0;
        let holds = |&&(_, more): &&(f64, f64)| {
            kept += more;
            kept > pages
        };
        self.stretches.iter().find(holds).map_or(0.0, |(width, more)| more / width)
    }
}
