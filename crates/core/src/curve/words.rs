//! What a recorder writes down for other processes: a view of shared words, and a copy of them.
//!
//! ```text
//!   0         9          89         169        249             329     383            437
//!  ┌─────────┬──────────┬──────────┬──────────┬───────────────┬───────┬──────────────┐
//!  │ scalars │ expected │ nearest  │ farthest │ 8 groups × 10 │ waits │ probed waits │
//!  └─────────┴──────────┴──────────┴──────────┴───────────────┴───────┴──────────────┘
//! ```
//!
//! All but two words only grow (and wrap): who reads them twice knows what happened between. A *use* is counted by its
//! weight, the number of uses that it stands for, in units of 1/[`ONE`]. A word is written by one thread.

use crate::sync::{AtomicU64, Ordering};

/// Words of a curve.
pub const CURVE_WORDS: usize = PROBED + TIMES;
/// Weight of one use.
pub const ONE: u64 = 256;
/// Buckets of reuse distance: one for what is shorter than [`SHORTEST_PAGES`], then four for each power of two; the last
/// has all that is longer.
pub const BUCKETS: usize = 80;
/// Groups into which the sample is divided, to see by how much they differ.
pub const GROUPS: usize = 8;
/// Buckets of a group: each has [`GROUP_WIDTH`] of the others.
pub const GROUP_BUCKETS: usize = BUCKETS / GROUP_WIDTH;
/// Buckets of distance in a bucket of a group: two powers of two.
pub const GROUP_WIDTH: usize = 8;
/// Buckets of waiting time: one for what is shorter than 4,096 ns, then two for each power of two; the last begins at
/// 275 s.
pub const TIMES: usize = 54;
/// 1 MiB: no space is smaller. The last bucket begins at 0.87 TiB.
pub const SHORTEST_PAGES: u64 = 1 << SHORTEST_SHIFT;
const SHORTEST_SHIFT: u32 = 8;

const FIRST: usize = 0;
const UNPLACED: usize = 1;
const UNSEEN_PAGES: usize = 2;
const UNSEEN_COUNT: usize = 3;
const RECHECKS: usize = 4;
const RESTARTS: usize = 5;
const THRESHOLD: usize = 6;
const GAUGES: usize = 7;
const UNSEEN_MS: usize = 8;
const EXPECTED: usize = 9;
const NEAREST: usize = EXPECTED + BUCKETS;
const FARTHEST: usize = NEAREST + BUCKETS;
const GROUP_COUNTS: usize = FARTHEST + BUCKETS;
const WAITS: usize = GROUP_COUNTS + GROUPS * GROUP_BUCKETS;
const PROBED: usize = WAITS + TIMES;
const SHORTEST_TIME_SHIFT: u32 = 12;

/// The bucket that counts uses at a reuse distance of `pages`.
pub const fn bucket_of(pages: u64) -> usize {
    if pages < SHORTEST_PAGES {
        return 0;
    }
    let power = 63 - pages.leading_zeros();
    let quarter = pages >> (power - 2) & 3;
    let at = 1 + (power - SHORTEST_SHIFT) as usize * 4 + quarter as usize;
    if at < BUCKETS { at } else { BUCKETS - 1 }
}

/// The shortest distance that bucket `at` counts, in pages. `at` may be [`BUCKETS`]: where the last would end.
pub const fn bucket_begin(at: usize) -> u64 {
    if at == 0 {
        return 0;
    }
    let (power, quarter) = ((at - 1) / 4, (at - 1) as u64 % 4);
    (4 + quarter) << power << (SHORTEST_SHIFT - 2)
}

/// The bucket that counts waits of `ns`.
pub const fn time_bucket_of(ns: u64) -> usize {
    if ns < 1 << SHORTEST_TIME_SHIFT {
        return 0;
    }
    let power = 63 - ns.leading_zeros();
    let half = ns >> (power - 1) & 1;
    let at = 1 + (power - SHORTEST_TIME_SHIFT) as usize * 2 + half as usize;
    if at < TIMES { at } else { TIMES - 1 }
}

/// The shortest wait that bucket `at` counts, in nanoseconds. `at` may be [`TIMES`]: where the last would end.
pub const fn time_bucket_begin(at: usize) -> u64 {
    if at == 0 {
        return 0;
    }
    let (power, half) = ((at - 1) / 2, (at - 1) as u64 % 2);
    (2 + half) << power << (SHORTEST_TIME_SHIFT - 1)
}

/// How many other pages were used since a page was used last, in pages of the whole member. The truth is not less than
/// `nearest` and not more than `farthest`, but for the error of the sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reuse {
    /// At least: pages whose use was told after this one was awaited.
    pub nearest: u64,
    /// Most likely: pages whose use was told since the use of this one was.
    pub expected: u64,
    /// At most: the same, and those that may have been used unseen.
    pub farthest: u64,
}

/// A view of [`CURVE_WORDS`] shared words.
#[derive(Clone, Copy)]
pub struct CurveWords<'a>(pub &'a [AtomicU64]);

impl CurveWords<'_> {
    pub(super) fn count_reuse(&self, reuse: Reuse, group: usize, weight: u64) {
        let expected = bucket_of(reuse.expected);
        self.add(EXPECTED + expected, weight);
        self.add(NEAREST + bucket_of(reuse.nearest), weight);
        self.add(FARTHEST + bucket_of(reuse.farthest), weight);
        self.add(GROUP_COUNTS + group % GROUPS * GROUP_BUCKETS + expected / GROUP_WIDTH, weight);
    }

    /// A page was awaited for `waited_ns`, since a moment that was chosen at random or not.
    pub(super) fn count_wait(&self, waited_ns: u64, is_probe: bool, weight: u64) {
        let at = time_bucket_of(waited_ns);
        self.add(WAITS + at, weight);
        if is_probe {
            self.add(PROBED + at, weight);
        }
    }

    pub(super) fn count_first(&self, weight: u64) {
        self.add(FIRST, weight);
    }

    pub(super) fn count_unplaced(&self, weight: u64) {
        self.add(UNPLACED, weight);
    }

    /// A page was unseen for `ns`, while `pages` may have been used.
    pub(super) fn count_unseen(&self, ns: u64, pages: u64, weight: u64) {
        self.add(UNSEEN_MS, weight.wrapping_mul(ns / 1_000_000));
        self.add(UNSEEN_PAGES, pages);
        self.add(UNSEEN_COUNT, 1);
    }

    pub(super) fn count_recheck(&self) {
        self.add(RECHECKS, 1);
    }

    pub(super) fn count_restart(&self) {
        self.add(RESTARTS, 1);
    }

    pub(super) fn show(&self, threshold: u64, watched: usize, unseen: u32) {
        self.set(THRESHOLD, threshold);
        self.set(GAUGES, (watched as u64) << 32 | u64::from(unseen));
    }

    /// What watching has cost so far, without the rest, see [`Recorded::rechecks`].
    pub fn rechecks(&self) -> u64 {
        self.get(RECHECKS)
    }

    /// Pages that are watched now.
    pub fn watched_pages(&self) -> u64 {
        self.get(GAUGES) >> 32
    }

    /// What the words say now. They are read one by one, so a use that is being counted may be in some and not in
    /// others.
    pub fn read(&self) -> Recorded {
        let mut words = [0; CURVE_WORDS];
        for (copy, word) in words.iter_mut().zip(self.0) {
            *copy = word.load(Ordering::Relaxed);
        }
        Recorded(words)
    }

    fn get(&self, at: usize) -> u64 {
        self.0.get(at).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn add(&self, at: usize, amount: u64) {
        if let Some(word) = self.0.get(at) {
            word.fetch_add(amount, Ordering::Relaxed);
        }
    }

    fn set(&self, at: usize, value: u64) {
        if let Some(word) = self.0.get(at) {
            word.store(value, Ordering::Relaxed);
        }
    }
}

/// A copy of a curve's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recorded([u64; CURVE_WORDS]);

impl Default for Recorded {
    fn default() -> Self {
        Self([0; CURVE_WORDS])
    }
}

impl Recorded {
    /// What was added since `earlier`; the gauges are those of now.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut words = self.0;
        for (at, (word, before)) in words.iter_mut().zip(&earlier.0).enumerate() {
            if at != THRESHOLD && at != GAUGES {
                *word = word.wrapping_sub(*before);
            }
        }
        Self(words)
    }

    /// Uses of pages that had no contents, by weight.
    pub const fn first(&self) -> u64 {
        self.0[FIRST]
    }

    /// Uses of pages of which nothing was known, by weight: their distance cannot be told.
    pub const fn unplaced(&self) -> u64 {
        self.0[UNPLACED]
    }

    /// Pages that can be used, on average, between two looks at a page that is in use; 0 when there was none. Of shorter
    /// distances nothing is known.
    pub fn unseen_pages(&self) -> u64 {
        self.0[UNSEEN_PAGES].checked_div(self.0[UNSEEN_COUNT]).unwrap_or(0)
    }

    /// Pages that were parked only to see their next use: what watching costs.
    pub const fn rechecks(&self) -> u64 {
        self.0[RECHECKS]
    }

    /// Times that the sample was begun anew.
    pub const fn restarts(&self) -> u64 {
        self.0[RESTARTS]
    }

    /// The part of all pages that are watched, 0.0 (nothing was recorded yet) to 1.0.
    pub fn rate(&self) -> f64 {
        self.0[THRESHOLD] as f64 / (1u64 << 32) as f64
    }

    /// Pages that are watched now.
    pub const fn watched_pages(&self) -> u64 {
        self.0[GAUGES] >> 32
    }

    /// Uses by expected distance, by weight.
    pub fn expected(&self) -> &[u64] {
        &self.0[EXPECTED..NEAREST]
    }

    /// Uses by the least distance they can have, by weight.
    pub fn nearest(&self) -> &[u64] {
        &self.0[NEAREST..FARTHEST]
    }

    /// Uses by the greatest distance they can have, by weight.
    pub fn farthest(&self) -> &[u64] {
        &self.0[FARTHEST..GROUP_COUNTS]
    }

    /// Uses of one group (0..[`GROUPS`]) by expected distance, by weight: [`GROUP_BUCKETS`] of them.
    pub fn group(&self, group: usize) -> &[u64] {
        let begin = GROUP_COUNTS + group % GROUPS * GROUP_BUCKETS;
        &self.0[begin..begin + GROUP_BUCKETS]
    }

    /// Uses by how long the page was awaited, by weight: [`TIMES`] of them.
    pub fn waits(&self) -> &[u64] {
        &self.0[WAITS..PROBED]
    }

    /// The same of those uses whose page was awaited since a moment that was chosen at random.
    pub fn probed_waits(&self) -> &[u64] {
        &self.0[PROBED..]
    }

    /// For how long pages were unseen, in milliseconds, by weight.
    pub const fn unseen_ms(&self) -> u64 {
        self.0[UNSEEN_MS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_counts_what_is_between_its_begin_and_the_next() {
        for at in 1..BUCKETS {
            assert_eq!(bucket_of(bucket_begin(at)), at);
            assert_eq!(bucket_of(bucket_begin(at) - 1), at - 1);
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        for at in 1..TIMES {
            assert_eq!(time_bucket_of(time_bucket_begin(at)), at);
            assert_eq!(time_bucket_of(time_bucket_begin(at) - 1), at - 1);
        }
        assert_eq!(time_bucket_of(u64::MAX), TIMES - 1);
    }

    #[test]
    fn a_distance_is_known_to_within_a_quarter() {
        for at in 1..BUCKETS {
            let (begin, end) = (bucket_begin(at), bucket_begin(at + 1));
            assert!(end > begin && end as f64 <= begin as f64 * 1.25, "{begin}..{end}");
        }
    }

    #[test]
    fn what_was_added_between_two_looks_is_told_also_when_a_word_wraps() {
        let mut before = Recorded::default();
        before.0[FIRST] = u64::MAX - 1;
        let mut after = before;
        after.0[FIRST] = after.0[FIRST].wrapping_add(5);
        after.0[THRESHOLD] = 1 << 31;
        let between = after.since(&before);
        assert_eq!((between.first(), between.rate()), (5, 0.5));
    }
}
