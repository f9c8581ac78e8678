//! What a member used in its latest period, without the benefit of the doubt that averages give.

use memvisor_core::sample::Tally;

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
    /// When its end was seen, in nanoseconds, and how long it and the one before had lasted.
    ended_ns: u64,
    lasted_ns: [u64; 2],
    /// The part that was touched in it.
    ended: f64,
    /// The part that was touched since, once that can be said.
    present: Option<f64>,
}

impl Latest {
    /// Takes a look at a member's words, as [`super::Averages::observe`] does, at an instant in nanoseconds.
    pub fn observe(&mut self, ended: Tally, present: Tally, now_ns: u64) {
        if ended.period != self.period && ended.pages > 0 {
            let periods = if self.period == 0 { 1 } else { ended.period.wrapping_sub(self.period).max(1) };
            let lasted_ns = now_ns.saturating_sub(self.ended_ns) / u64::from(periods);
            let lasted_ns = [lasted_ns, if periods > 1 { lasted_ns } else { self.lasted_ns[0] }];
            *self = Self { period: ended.period, ended_ns: now_ns, lasted_ns, ended: part(ended), present: None };
        }
        let is_next = present.period != self.period && present.pages >= PAGES_MIN;
        let is_ripe = now_ns.saturating_sub(self.ended_ns) >= self.lasted_ns[0].min(self.lasted_ns[1]);
        self.present = match is_next {
            true if is_ripe => Some(part(present)),
            // What is touched already stays so.
            true => Some(part(present)).filter(|present| *present > self.ended),
            false => None,
        };
    }

    /// The part that is in use, 0 to 1; all before the first period ended.
    pub fn active(&self) -> f64 {
        if self.period == 0 { 1.0 } else { self.present.unwrap_or(self.ended) }
    }
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
        assert_eq!(Latest::default().active(), 1.0);
    }

    #[test]
    fn a_program_that_rests_is_known_to_rest_when_a_period_would_have_ended() {
        let mut latest = busy();
        latest.observe(tally(3, 90), tally(4, 2), 3 * SECOND + SECOND / 2);
        assert_eq!(latest.active(), 0.9);
        latest.observe(tally(3, 90), tally(4, 2), 4 * SECOND);
        assert_eq!(latest.active(), 0.02);
    }

    #[test]
    fn the_period_in_which_a_program_came_to_rest_does_not_make_its_rest_be_known_later() {
        let mut latest = busy();
        // It worked for half a second of this one, and the sampler waited for more in vain.
        latest.observe(tally(4, 70), tally(5, 0), 7 * SECOND);
        assert_eq!(latest.active(), 0.7);
        latest.observe(tally(4, 70), tally(5, 1), 8 * SECOND);
        assert_eq!(latest.active(), 0.01);
    }

    #[test]
    fn a_program_that_begins_is_known_to_have_begun_before_its_period_ends() {
        let mut latest = Latest::default();
        (1..=3).for_each(|at| latest.observe(tally(at, 5), tally(at + 1, 0), u64::from(at) * 4 * SECOND));
        latest.observe(tally(3, 5), tally(4, 60), 12 * SECOND + 1);
        assert_eq!(latest.active(), 0.6);
    }

    #[test]
    fn a_sample_of_few_pages_says_nothing() {
        let mut latest = busy();
        latest.observe(tally(3, 90), Tally { period: 4, pages: 3, touched: 0 }, 9 * SECOND);
        assert_eq!(latest.active(), 0.9);
    }

    #[test]
    fn periods_that_nobody_looked_at_lasted_as_long_as_each_other() {
        let mut latest = busy();
        latest.observe(tally(7, 50), tally(8, 0), 7 * SECOND);
        latest.observe(tally(7, 50), tally(8, 1), 8 * SECOND);
        assert_eq!(latest.active(), 0.01);
    }
}
