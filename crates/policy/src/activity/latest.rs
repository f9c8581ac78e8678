//! What a member used of late, without the benefit of the doubt that averages give, and how sure that is.

use super::FAST_GAIN;
use super::wilson::within;
use memvisor_core::sample::Tally;

/// What is believed is contradicted by what lies so many standard deviations below it. Of a hundred seeds of the simulator's
/// `noisy-neighbour` twelve were broken with 2, three with 2.5, and none with 3; with 4 DRAM follows later in `dynamic-tight`.
const SURE: f64 = 3.0;
/// So many pages of a period's sample say something of all: with fewer it may be by chance that none was touched.
const PAGES_MIN: u16 = 16;

/// The latest of one member. Begin with a new one when the member's process is another.
///
/// A program that rests ends no period for a while: a period is one of run time. So the present period is asked as soon as it
/// has lasted as long as the shorter of the last two: what was touched by then would have been touched by now. Of two, for
/// the one in which it came to rest took long.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Latest {
    /// The last period that ended; 0 for none.
    period: u32,
    /// Periods that were looked at.
    periods: u32,
    /// When its end was seen, in nanoseconds, and how long it and the one before had lasted.
    ended_ns: u64,
    lasted_ns: [u64; 2],
    ended: Tally,
    /// The present period, once something can be said of it.
    present: Option<Tally>,
    /// The average of the periods that ended, each half of what is left, as [`super::Averages`] has it.
    fast: f64,
}

impl Latest {
    /// Takes a look at a member's words, as [`super::Averages::observe`] does, at an instant in nanoseconds.
    pub fn observe(&mut self, ended: Tally, present: Tally, now_ns: u64) {
        if ended.period != self.period && ended.pages > 0 {
            let passed = if self.period == 0 { 1 } else { ended.period.wrapping_sub(self.period).max(1) };
            let is_first = self.period == 0;
            // When the first began nobody saw.
            let lasted_ns = if is_first { u64::MAX } else { now_ns.saturating_sub(self.ended_ns) / u64::from(passed) };
            *self = Self {
                period: ended.period,
                periods: self.periods.saturating_add(1),
                ended_ns: now_ns,
                lasted_ns: [lasted_ns, if is_first || passed > 1 { lasted_ns } else { self.lasted_ns[0] }],
                ended,
                present: None,
                fast: if is_first || passed > 1 { part(ended) } else { halfway(self.fast, part(ended)) },
            };
        }
        let is_next = present.period != self.period && present.pages >= PAGES_MIN;
        let is_ripe = now_ns.saturating_sub(self.ended_ns) >= self.lasted_ns[0].min(self.lasted_ns[1]);
        // What is touched already stays so.
        self.present = (is_next && (is_ripe || part(present) > part(self.ended))).then_some(present);
    }

    /// The part that is in use, 0 to 1, if that is surely less than `believed`: by the latest period alone, or by the fast
    /// average, which knows less of now and is surer of it.
    pub fn contradicts(&self, believed: f64) -> Option<f64> {
        if self.period == 0 {
            return None;
        }
        let last = self.present.unwrap_or(self.ended);
        let fast = self.present.map_or(self.fast, |present| halfway(self.fast, part(present)));
        // An average with gain g rests on (2 − g) / g periods, once there were so many.
        let periods = ((2.0 - FAST_GAIN) / FAST_GAIN).min(f64::from(self.periods));
        let is_below = |part: f64, pages: f64| within(SURE, part * pages, pages).1 < believed;
        let pages = f64::from(last.pages);
        [(part(last), pages), (fast, pages * periods)]
            .into_iter()
            .find(|(part, pages)| is_below(*part, *pages))
            .map(|(part, _)| part)
    }
}

fn halfway(from: f64, to: f64) -> f64 {
    from + FAST_GAIN * (to - from)
}

fn part(tally: Tally) -> f64 {
    (f64::from(tally.touched) / f64::from(tally.pages.max(1))).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn tally(period: u32, touched: u16) -> Tally {
        Tally { period, pages: 100, touched }
    }

    fn busy() -> Latest {
        let mut latest = Latest::default();
        (1..=3).for_each(|at| latest.observe(tally(at, 90), tally(at + 1, 0), u64::from(at) * SECOND));
        latest
    }

    #[test]
    fn nobody_is_idle_before_the_first_period_ended() {
        assert_eq!(Latest::default().contradicts(1.0), None);
    }

    #[test]
    fn a_program_that_rests_is_known_to_rest_when_a_period_would_have_ended() {
        let mut latest = busy();
        latest.observe(tally(3, 90), tally(4, 2), 3 * SECOND + SECOND / 2);
        assert_eq!(latest.contradicts(0.9), None);
        latest.observe(tally(3, 90), tally(4, 2), 4 * SECOND);
        assert_eq!(latest.contradicts(0.9), Some(0.02));
    }

    #[test]
    fn the_period_in_which_a_program_came_to_rest_does_not_make_its_rest_be_known_later() {
        let mut latest = busy();
        // It worked for half a second of this one, and the sampler waited for more in vain.
        latest.observe(tally(4, 85), tally(5, 0), 7 * SECOND);
        assert_eq!(latest.contradicts(0.9), None);
        latest.observe(tally(4, 85), tally(5, 1), 8 * SECOND);
        assert_eq!(latest.contradicts(0.9), Some(0.01));
    }

    #[test]
    fn a_program_that_begins_contradicts_nothing() {
        let mut latest = Latest::default();
        (1..=3).for_each(|at| latest.observe(tally(at, 5), tally(at + 1, 0), u64::from(at) * 4 * SECOND));
        latest.observe(tally(3, 5), tally(4, 60), 12 * SECOND + 1);
        // What the fast average with the present period comes to.
        assert_eq!(latest.contradicts(0.33), None);
    }

    #[test]
    fn a_sample_of_few_pages_says_nothing() {
        let mut latest = busy();
        latest.observe(tally(3, 90), Tally { period: 4, pages: 3, touched: 0 }, 9 * SECOND);
        assert_eq!(latest.contradicts(0.9), None);
    }

    #[test]
    fn a_sample_that_is_off_by_chance_contradicts_nothing() {
        let mut latest = busy();
        latest.observe(tally(4, 82), tally(5, 0), 4 * SECOND);
        assert_eq!(latest.contradicts(0.9), None);
    }

    #[test]
    fn what_one_sample_leaves_open_several_are_sure_of() {
        let mut latest = Latest::default();
        let after = |latest: &mut Latest, period| {
            latest.observe(tally(period, 35), tally(period + 1, 0), u64::from(period) * SECOND)
        };
        after(&mut latest, 1);
        assert_eq!(latest.contradicts(0.47), None);
        (2..=5).for_each(|period| after(&mut latest, period));
        assert!(latest.contradicts(0.47).is_some_and(|part| (part - 0.35).abs() < 1e-9));
    }

    #[test]
    fn periods_that_nobody_looked_at_lasted_as_long_as_each_other() {
        let mut latest = busy();
        latest.observe(tally(7, 50), tally(8, 0), 7 * SECOND);
        latest.observe(tally(7, 50), tally(8, 1), 8 * SECOND);
        assert_eq!(latest.contradicts(0.9), Some(0.01));
    }
}
