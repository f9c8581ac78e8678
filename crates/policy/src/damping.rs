//! How fast a change is believed. Inputs are damped, not outputs: a target then follows its inputs at once, limits and
//! promises hold in each plan, and no loop is closed over a delay of our own.
//!
//! What asks for memory is believed at once and what gives it back slowly, as the paper takes the maximum of a slow and a
//! fast average of use (§5.3): a space that rests for a second is not idle, and one that wakes up needs its memory now.

/// The part of a change that is believed: that of a first-order lag with time constant T, after the time Δ, taken
/// backwards in time as Δ/(Δ + T), which is the same on every machine, as `exp` is not.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Lag {
    part: f64,
}

impl Lag {
    /// The lag over `elapsed_ns` with a time constant of `constant_ns`; with none everything is believed at once.
    pub fn over(elapsed_ns: u64, constant_ns: u64) -> Self {
        let part = if constant_ns == 0 { 1.0 } else { elapsed_ns as f64 / (elapsed_ns as f64 + constant_ns as f64) };
        Self { part }
    }

    /// What is believed of an input that rises at once and falls slowly. It comes to rest on `observed`, not near it.
    pub fn fall(self, believed: u64, observed: u64) -> u64 {
        believed - self.step(believed.saturating_sub(observed)).min(believed) + observed.saturating_sub(believed)
    }

    /// What is believed of an input that falls at once and rises slowly.
    pub fn rise(self, believed: u64, observed: u64) -> u64 {
        believed.min(observed) + self.step(observed.saturating_sub(believed))
    }

    /// The part of a difference, at least a byte if any time passed, and no more than all of it.
    fn step(self, difference: u64) -> u64 {
        ((difference as f64 * self.part).ceil() as u64).min(difference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn use_rises_at_once_and_falls_by_half_in_the_time_constant() {
        let lag = Lag::over(30, 30);
        assert_eq!((lag.fall(100, 300), lag.fall(300, 100)), (300, 200));
        assert_eq!((lag.rise(100, 300), lag.rise(300, 100)), (200, 100));
    }

    #[test]
    fn when_no_time_passed_nothing_falls_and_without_a_constant_all_does() {
        assert_eq!(Lag::over(0, 30).fall(300, 100), 300);
        assert_eq!(Lag::over(0, 0).fall(300, 100), 100);
    }

    proptest! {
        #[test]
        fn what_stands_still_is_believed_in_the_end(
            from in 0u64..1 << 50, to in 0u64..1 << 50, elapsed in 1u64..100, constant in 0u64..100,
        ) {
            let lag = Lag::over(elapsed, constant);
            let end = |step: &dyn Fn(u64) -> u64| (0..100_000).try_fold(from, |at, _| {
                let next = step(at);
                if next == at { Err(at) } else { Ok(next) }
            });
            prop_assert_eq!(end(&|at| lag.fall(at, to)), Err(to));
            prop_assert_eq!(end(&|at| lag.rise(at, to)), Err(to));
        }
    }
}
