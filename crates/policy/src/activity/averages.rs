//! Moving averages of the active part of one member: quick up, slow down.

use super::{Part, wilson};
use memvisor_core::sample::Tally;

/// What a period adds to the fast average: half of what is new is believed after one period, 30 s.
pub const FAST_GAIN: f64 = 0.5;
/// What a period adds to the slow average: a program is believed idle half after five periods, 2½ minutes. A server that
/// pauses for a minute keeps four fifths of its standing.
pub const SLOW_GAIN: f64 = 0.125;
/// Periods that can be missed between two looks and still be believed to have been like the last: beyond 64 the averages
/// are those of the last alone.
const MISSED_MOST: u32 = 64;

/// The averages of one member. Begin with new ones when the member's process is another.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Averages {
    slow: f64,
    fast: f64,
    /// Pages sampled in a period, averaged as fast.
    pages: f64,
    /// Of the last period that is in the averages; 0 for none.
    period: u32,
    /// Periods that were looked at.
    periods: u32,
    present: Tally,
}

impl Averages {
    /// Takes a look at a member's words: the last period that ended, and the present one so far. Looks may come as
    /// often or as seldom as one likes. Periods that nobody looked at count as the last one; a period without a page
    /// counts as none.
    pub fn observe(&mut self, ended: Tally, present: Tally) {
        self.present = present;
        let passed = if self.period == 0 { 1 } else { ended.period.wrapping_sub(self.period) };
        if ended.period == 0 || passed == 0 || ended.pages == 0 {
            return;
        }
        let (active, pages) = (f64::from(ended.touched) / f64::from(ended.pages), f64::from(ended.pages));
        if self.period == 0 {
            (self.slow, self.fast, self.pages) = (active, active, pages);
        }
        for _ in 0..passed.min(MISSED_MOST) {
            self.slow += SLOW_GAIN * (active - self.slow);
            self.fast += FAST_GAIN * (active - self.fast);
            self.pages += FAST_GAIN * (pages - self.pages);
        }
        self.period = ended.period;
        self.periods = self.periods.saturating_add(1);
    }

    /// The active part of the pages that are in their place: the greatest of the slow average, the fast one, and the
    /// fast one as it will be if no page of the present period is touched any more.
    ///
    /// The bounds are those of as many pages as that average rests on. That the greatest of three is taken adds 0.02
    /// when nothing changes; the bounds do not know that. [`Part::UNKNOWN`] before the first period ended.
    pub fn active(&self) -> Part {
        if self.period == 0 {
            return Part::UNKNOWN;
        }
        let (mut expected, mut gain) = (self.slow, SLOW_GAIN);
        for other in [self.fast, self.with_present()] {
            if other > expected {
                (expected, gain) = (other, FAST_GAIN);
            }
        }
        // The variance of an average with gain g is g / (2 − g) of that of one period, once there were so many.
        let pages = self.pages * ((2.0 - gain) / gain).min(f64::from(self.periods));
        let (low, high) = wilson(expected * pages, pages);
        Part { low, expected, high }
    }

    fn with_present(&self) -> f64 {
        if self.present.period == self.period || self.present.pages == 0 {
            return self.fast;
        }
        let so_far = f64::from(self.present.touched) / f64::from(self.present.pages);
        self.fast + FAST_GAIN * (so_far - self.fast)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tally(period: u32, touched: u16) -> Tally {
        Tally { period, pages: 100, touched }
    }

    fn after(touched: &[u16]) -> Averages {
        let mut averages = Averages::default();
        for (at, &touched) in touched.iter().enumerate() {
            averages.observe(tally(at as u32 + 1, touched), Tally::default());
        }
        averages
    }

    #[test]
    fn a_program_that_wakes_up_is_believed_before_the_period_ends() {
        let mut averages = after(&[5; 20]);
        let idle = averages.active().expected;
        averages.observe(tally(20, 5), tally(21, 90));
        let awake = averages.active().expected;
        assert!((idle - 0.05).abs() < 1e-9 && (0.45..0.5).contains(&awake), "{idle} {awake}");
        averages.observe(tally(21, 90), tally(22, 90));
        assert!(averages.active().expected > 0.65, "{:?}", averages.active());
    }

    #[test]
    fn a_program_that_goes_idle_keeps_most_of_its_standing_for_a_minute_and_loses_it_in_minutes() {
        let idle = |periods: usize| after(&[vec![80; 20], vec![0; periods]].concat()).active().expected;
        assert!(idle(2) > 0.6, "{}", idle(2));
        assert!((0.35..0.45).contains(&idle(5)), "{}", idle(5));
        assert!(idle(25) < 0.04, "{}", idle(25));
    }

    #[test]
    fn up_takes_fewer_periods_than_down() {
        let until = |touched: [u16; 2], done: &dyn Fn(f64) -> bool| {
            (1..100).find(|&periods| {
                done(after(&[vec![touched[0]; 30], vec![touched[1]; periods]].concat()).active().expected)
            })
        };
        let (up, down) = (until([10, 90], &|active| active > 0.7), until([90, 10], &|active| active < 0.3));
        assert_eq!((up, down), (Some(3), Some(11)));
    }

    #[test]
    fn the_beginning_of_a_period_takes_nothing_away() {
        let mut averages = after(&[60; 10]);
        averages.observe(tally(10, 60), tally(11, 0));
        assert!((averages.active().expected - 0.6).abs() < 1e-9);
    }

    #[test]
    fn nobody_is_idle_before_the_first_sample() {
        assert_eq!(Averages::default().active(), Part::UNKNOWN);
        let mut averages = Averages::default();
        averages.observe(Tally { period: 1, pages: 0, touched: 0 }, Tally::default());
        assert_eq!(averages.active(), Part::UNKNOWN);
    }

    #[test]
    fn looking_more_often_changes_nothing_and_missed_periods_count() {
        let mut often = after(&[80; 5]);
        (0..50).for_each(|_| often.observe(tally(5, 80), Tally::default()));
        assert_eq!(often, after(&[80; 5]));
        often.observe(tally(9, 0), Tally::default());
        assert_eq!(often.active().expected, after(&[80, 80, 80, 80, 80, 0, 0, 0, 0]).active().expected);
    }

    #[test]
    fn an_average_of_many_periods_is_surer_than_one_period() {
        let width = |part: Part| part.high - part.low;
        let (one, many) = (after(&[30]).active(), after(&[30; 30]).active());
        assert!(width(many) < 0.05 && width(one) > 0.17, "{many:?} {one:?}");
    }

    proptest! {
        #[test]
        fn the_active_part_is_a_part_whatever_is_seen(
            looks in prop::collection::vec((any::<u32>(), 0..300u16, 0..300u16, any::<u32>(), 0..300u16, 0..300u16), 0..50),
        ) {
            let mut averages = Averages::default();
            for (period, pages, touched, present, now_pages, now_touched) in looks {
                averages.observe(
                    Tally { period, pages, touched: touched.min(pages) },
                    Tally { period: present, pages: now_pages, touched: now_touched.min(now_pages) },
                );
                let Part { low, expected, high } = averages.active();
                prop_assert!(0.0 <= low && low <= expected && expected <= high && high <= 1.0);
            }
        }
    }
}
