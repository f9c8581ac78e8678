//! From sums to a curve: what may be wrong with them, added up.
//!
//! Three things may be wrong:
//!
//! 1. **Sight.** Of each use the least and the greatest distance were recorded: the curve of the least is the lowest, that
//!    of the greatest the highest. For less DRAM than the pages of an unseen stretch, faults are missing altogether: there
//!    the highest is infinite. Uses of pages of which nothing was known are in the highest at every size, and in the
//!    expected one as if they were like the others.
//! 2. **Distance.** `c` pages are `c · rate` watched ones, give or take the root of that: the lowest curve is read a
//!    little to the right, the highest a little to the left.
//! 3. **Uses.** The pages that are watched may be used more than others. How much the sum of all [`GROUPS`] may be off is
//!    told by how much they differ (random groups; Wolter, "Introduction to Variance Estimation", chapter 2).

use super::slope::Slope;
use super::{Curve, Estimate, Sums};
use memvisor_core::curve::{BUCKETS, GROUP_BUCKETS, GROUP_WIDTH, GROUPS, bucket_begin};

/// Standard deviations within which a sum of eight groups lies 95 times in 100: Student's t for 7 degrees of freedom.
const STUDENT: f64 = 2.365;
/// The same where the deviation is known: of a distance.
const NORMAL: f64 = 1.96;
/// What was not seen once happens no more than three times as often, 95 times in 100.
const RULE_OF_THREE: f64 = 3.0;

impl Curve {
    /// The curve of what was recorded; `None` when no time has passed or nothing is watched.
    pub fn new(sums: &Sums) -> Option<Self> {
        if sums.seconds <= 0.0 || sums.rate <= 0.0 {
            return None;
        }
        let placed: f64 = sums.expected.iter().sum();
        let like_others = if placed > 0.0 { 1.0 + sums.unplaced / placed } else { 1.0 };
        let nobody_like = if placed > 0.0 { 0.0 } else { sums.unplaced };
        let (expected, nearest, farthest) = (suffix(&sums.expected), suffix(&sums.nearest), suffix(&sums.farthest));
        let unseen_uses = RULE_OF_THREE * (1.0 - sums.rate) / sums.rate;
        let slope = Slope::new(sums);
        let mut points = [Estimate::default(); BUCKETS];
        for (at, point) in points.iter_mut().enumerate() {
            let pages = bucket_begin(at) as f64;
            let off = distance_error(pages, sums.rate);
            let uses_off = uses_error(sums, at);
            let high = value(&farthest, pages / (1.0 + off)) * (1.0 + uses_off) + unseen_uses + sums.unplaced;
            let is_resolved = bucket_begin(at) >= sums.unseen_pages;
            let unseen = if is_resolved { 0.0 } else { slope.misses_at(pages) * sums.seconds };
            *point = Estimate {
                low: value(&nearest, pages * (1.0 + off)) * (1.0 - uses_off).max(0.0),
                expected: (expected[at] * like_others + nobody_like).max(unseen),
                high: if is_resolved { high } else { f64::INFINITY },
            }
            .map(|uses| uses / sums.seconds);
        }
        descend(&mut points);
        Some(Self { points, first: sums.first / sums.seconds, resolved_pages: sums.unseen_pages })
    }
}

/// Uses at each bucket's begin and farther.
fn suffix(uses: &[f64; BUCKETS]) -> [f64; BUCKETS] {
    let mut sums = *uses;
    for at in (0..BUCKETS - 1).rev() {
        sums[at] += sums[at + 1];
    }
    sums
}

/// A curve at any size, between its points in proportion.
fn value(curve: &[f64; BUCKETS], pages: f64) -> f64 {
    let next = (0..BUCKETS).find(|&at| bucket_begin(at) as f64 > pages).unwrap_or(BUCKETS);
    let before = curve[next.saturating_sub(1)];
    let Some(after) = curve.get(next) else { return before };
    let (begin, end) = (bucket_begin(next.saturating_sub(1)) as f64, bucket_begin(next) as f64);
    before + (after - before) * (pages - begin) / (end - begin)
}

/// How far off a distance of `pages` may be, as a part of it.
fn distance_error(pages: f64, rate: f64) -> f64 {
    NORMAL * ((1.0 - rate).max(0.0) / (pages * rate).max(1.0)).sqrt()
}

/// How far off the uses at bucket `at` and farther may be, as a part of them: the greater of what the groups say at the
/// sizes below and above.
fn uses_error(sums: &Sums, at: usize) -> f64 {
    let begin = at / GROUP_WIDTH;
    group_error(sums, begin).max(group_error(sums, (begin + 1).min(GROUP_BUCKETS - 1)))
}

fn group_error(sums: &Sums, begin: usize) -> f64 {
    let of_groups = sums.groups.map(|group| group[begin..].iter().sum::<f64>());
    let total: f64 = of_groups.iter().sum();
    if total <= 0.0 {
        return 0.0;
    }
    let mean = total / GROUPS as f64;
    let squares: f64 = of_groups.iter().map(|group| (group - mean).powi(2)).sum();
    let deviation = (squares * GROUPS as f64 / (GROUPS as f64 - 1.0) * (1.0 - sums.rate).max(0.0)).sqrt();
    STUDENT * deviation / total
}

/// Makes low ≤ expected ≤ high at every size, and each of them fall or stay as DRAM grows.
fn descend(points: &mut [Estimate; BUCKETS]) {
    for point in points.iter_mut() {
        point.low = point.low.min(point.expected);
        point.high = point.high.max(point.expected);
    }
    let (mut low, mut expected) = (0.0f64, 0.0f64);
    for point in points.iter_mut().rev() {
        (low, expected) = (low.max(point.low), expected.max(point.expected));
        (point.low, point.expected) = (low, expected);
    }
    let mut high = f64::INFINITY;
    for point in points.iter_mut() {
        high = high.min(point.high);
        point.high = high;
    }
}
