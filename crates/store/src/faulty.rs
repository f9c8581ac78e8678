//! Faults that the stores inject into themselves, for tests: by a plan with a seed, or by the options of a run.
//!
//! A fault happens below the check that has to find it: a flipped bit comes before the hash is compared, a torn
//! write is reported as done. The plan is a pure function of its seed and the number of the operation, so a single
//! thread sees the same faults in every run. Without a plan and without an option this costs one load of a word that
//! nobody writes.

use memvisor_proto::Header;
use memvisor_proto::space::option;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often which fault happens: one time in so many, never for 0.
#[derive(Debug, Default)]
pub struct FaultPlan {
    /// Plans with different seeds have their faults at different times.
    pub seed: u64,
    /// Operations that go well before the first fault may happen.
    pub after: u64,
    /// A load finds one bit flipped.
    pub flip_one_in: u64,
    /// A load or a write is answered with an error of the device.
    pub error_one_in: u64,
    /// A load from the log stalls.
    pub stall_one_in: u64,
    /// For so long.
    pub stall: Duration,
    /// A write is cut off in the middle and said to be done.
    pub torn_one_in: u64,
    /// A save is told that the store is full.
    pub full_one_in: u64,
    /// Operations so far.
    pub operations: AtomicU64,
}

/// The plan of runs whose options ask for faults.
static RUN: FaultPlan = FaultPlan {
    seed: 0x6d65_6d76,
    after: 1000,
    flip_one_in: 64,
    error_one_in: 64,
    stall_one_in: 64,
    stall: Duration::from_secs(1),
    torn_one_in: 0,
    full_one_in: 0,
    operations: AtomicU64::new(0),
};

/// What happens to one load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LoadFault {
    /// The number of the bit that is flipped.
    pub flip: Option<usize>,
    /// The device fails.
    pub error: bool,
    /// The device takes so long.
    pub stall: Option<Duration>,
}

/// What happens to one save.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SaveFault {
    /// There is no room.
    Full,
    /// The device fails.
    Error,
    /// So many parts in 256 of the bytes reach the medium.
    Torn(usize),
}

/// Where a store looks for the faults that it is to inject.
#[derive(Clone, Copy)]
pub(crate) struct Faults {
    plan: Option<&'static FaultPlan>,
    options: &'static AtomicU64,
}

impl Faults {
    /// As the options in `header` say, at any time.
    pub fn of_run(header: Header<'static>) -> Self {
        Faults { plan: None, options: header.options() }
    }

    /// By this plan.
    pub fn planned(self, plan: &'static FaultPlan) -> Self {
        Faults { plan: Some(plan), ..self }
    }

    /// What happens to a load that begins now.
    pub fn on_load(&self) -> LoadFault {
        const ANY: u64 = option::FAULTY_FLIP | option::FAULTY_STALL | option::FAULTY_ERROR;
        let (plan, asked) = match self.plan {
            Some(plan) => (plan, ANY),
            None => match self.options.load(Ordering::Relaxed) & ANY {
                0 => return LoadFault::default(),
                asked => (&RUN, asked),
            },
        };
        let Some(dice) = plan.throw() else { return LoadFault::default() };
        LoadFault {
            flip: (asked & option::FAULTY_FLIP != 0 && dice.hits(1, plan.flip_one_in))
                .then(|| dice.number(2) as usize % (4096 * 8)),
            error: asked & option::FAULTY_ERROR != 0 && dice.hits(3, plan.error_one_in),
            stall: (asked & option::FAULTY_STALL != 0 && dice.hits(4, plan.stall_one_in)).then_some(plan.stall),
        }
    }

    /// What happens to a save that begins now. Options of a run ask for none.
    pub fn on_save(&self) -> Option<SaveFault> {
        let plan = self.plan?;
        let dice = plan.throw()?;
        if dice.hits(5, plan.full_one_in) {
            Some(SaveFault::Full)
        } else if dice.hits(6, plan.error_one_in) {
            Some(SaveFault::Error)
        } else if dice.hits(7, plan.torn_one_in) {
            Some(SaveFault::Torn(dice.number(8) as usize % 256))
        } else {
            None
        }
    }
}

impl LoadFault {
    /// Flips the bit, if one is to be.
    pub fn flip_in(&self, page: &mut crate::PageBytes) {
        if let Some(bit) = self.flip {
            page[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

impl FaultPlan {
    /// The dice of the next operation; `None` while nothing may happen.
    fn throw(&self) -> Option<Dice> {
        let number = self.operations.fetch_add(1, Ordering::Relaxed);
        (number >= self.after).then(|| Dice(mix(self.seed ^ mix(number))))
    }
}

/// The random numbers of one operation.
#[derive(Clone, Copy)]
struct Dice(u64);

impl Dice {
    fn number(self, which: u64) -> u64 {
        mix(self.0.wrapping_add(which))
    }

    fn hits(self, which: u64, one_in: u64) -> bool {
        one_in != 0 && self.number(which).is_multiple_of(one_in)
    }
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014).
fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    static OPTIONS: AtomicU64 = AtomicU64::new(0);

    fn plan(seed: u64) -> Faults {
        let plan = FaultPlan { seed, after: 100, flip_one_in: 64, full_one_in: 8, ..FaultPlan::default() };
        Faults { plan: Some(Box::leak(Box::new(plan))), options: &OPTIONS }
    }

    #[test]
    fn a_plan_with_the_same_seed_has_the_same_faults() {
        let faults = |seed| {
            let plan = plan(seed);
            (0..2000).map(|_| plan.on_load()).collect::<Vec<_>>()
        };
        assert_eq!(faults(1), faults(1));
        assert_ne!(faults(1), faults(2));
    }

    #[test]
    fn faults_begin_late_and_are_about_as_many_as_planned() {
        let plan = plan(3);
        assert!((0..100).all(|_| plan.on_load() == LoadFault::default()));
        let flips = (0..64 * 100).filter(|_| plan.on_load().flip.is_some()).count();
        assert!((60..150).contains(&flips), "{flips}");
    }

    #[test]
    fn a_run_that_asks_for_nothing_has_no_faults() {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let faults = Faults { plan: None, options: &ASKED };
        assert!((0..5000).all(|_| faults.on_load() == LoadFault::default() && faults.on_save().is_none()));
        ASKED.store(option::FAULTY_FLIP, Ordering::Relaxed);
        let hit = (0..5000).map(|_| faults.on_load()).filter(|fault| fault.flip.is_some());
        assert!(hit.inspect(|fault| assert!(!fault.error && fault.stall.is_none())).count() > 20);
    }
}
