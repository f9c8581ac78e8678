//! When a period of the sampler ends.

/// A program that hardly runs is idle after so many periods of wall time without one of run time.
const IDLE_PERIODS: u64 = 4;
/// A program that ran for less than this part of a whole period of wall time rests: what it did not touch by then it does not use now. One
/// that is not scheduled, as one of eight on a CPU, is not taken for that.
const RUNS_PART: u64 = 16;

/// A moment by two clocks, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moment {
    /// Wall time.
    pub now_ns: u64,
    /// The time for which the program has run until now.
    pub run_ns: u64,
}

/// The present period: it ends by the time for which the program ran, so that one that was not scheduled is not taken for idle;
/// but not for ever, and one that rests is known to after as much wall time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Period {
    began: Moment,
    /// When it had last run for long enough not to rest.
    ran: Moment,
}

impl Period {
    /// The first one, which begins now.
    pub fn begun(at: Moment) -> Self {
        Self { began: at, ran: at }
    }

    /// Whether it is over now, when one is to last `period_ns`; then the next has begun. Ask several times in a period.
    pub fn is_over(&mut self, at: Moment, period_ns: u64) -> bool {
        if self.ran.until(at).1 >= period_ns / RUNS_PART {
            self.ran = at;
        }
        let (passed_ns, ran_ns) = self.began.until(at);
        let rests = self.ran.until(at).0 >= period_ns;
        let is_over = passed_ns >= period_ns && (rests || ran_ns >= period_ns)
            || passed_ns >= period_ns.saturating_mul(IDLE_PERIODS);
        if is_over {
            self.began = at;
        }
        is_over
    }
}

impl Moment {
    /// How much of both times passed.
    fn until(self, at: Self) -> (u64, u64) {
        (at.now_ns.saturating_sub(self.now_ns), at.run_ns.saturating_sub(self.run_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When periods of a hundred end for a program that runs so many of each hundred moments at first, and not at all from a moment on.
    fn ends(runs: u64, rests_from: u64) -> Vec<u64> {
        let mut period = Period::begun(Moment::default());
        let run_ns = |now_ns: u64| now_ns.min(rests_from) * runs / 100;
        (1..=1000).filter(|&now_ns| period.is_over(Moment { now_ns, run_ns: run_ns(now_ns) }, 100)).collect()
    }

    #[test]
    fn a_period_is_one_of_run_time() {
        assert_eq!(ends(100, 1000)[..3], [100, 200, 300]);
        assert_eq!(ends(50, 1000)[..3], [200, 400, 600]);
    }

    #[test]
    fn a_program_that_is_hardly_scheduled_is_idle_after_four() {
        assert_eq!(ends(10, 1000), [400, 800]);
    }

    #[test]
    fn a_program_that_comes_to_rest_is_sampled_anew_after_one() {
        // It ran last at 250, with half a CPU: 12 moments later it would have run for a sixteenth of a period again.
        let ends = ends(50, 250);
        assert_eq!(ends[0], 200);
        assert!((340..=350).contains(&ends[1]), "{ends:?}");
        assert_eq!(ends[2] - ends[1], 100);
    }
}
