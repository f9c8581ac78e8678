//! How many pages may be parked only to see their next use.

/// Pages parked in a second of the caller's clock, on average. Parking one page alone and serving the fault that follows
/// costs 10–15 µs: 100 of them are 0.15 % of one CPU, whatever the program does.
pub const RECHECKS_PER_SECOND: u64 = 100;
/// Pages that may be parked at once after a pause: a burst of 16 takes the monitor 20 µs.
const BURST: u64 = 16;
const COST_NS: u64 = 1_000_000_000 / RECHECKS_PER_SECOND;

/// A purse that time fills and each page takes from.
pub(super) struct Pace {
    credit_ns: u64,
    now_ns: u64,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { credit_ns: 0, now_ns: 0 }
    }

    /// It is `now_ns`. A clock that went back adds nothing.
    pub(super) fn pass(&mut self, now_ns: u64) {
        let passed = now_ns.saturating_sub(self.now_ns);
        self.now_ns = now_ns;
        self.credit_ns = self.credit_ns.saturating_add(passed).min(BURST * COST_NS);
    }

    pub(super) const fn may(&self) -> bool {
        self.credit_ns >= COST_NS
    }

    pub(super) const fn pay(&mut self) {
        self.credit_ns = self.credit_ns.saturating_sub(COST_NS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_than_its_share_and_one_burst() {
        let mut pace = Pace::new();
        let mut parked = 0;
        for ms in 0..10_000u64 {
            pace.pass(ms * 1_000_000);
            for _ in 0..100 {
                if pace.may() {
                    pace.pay();
                    parked += 1;
                }
            }
        }
        assert!((10 * RECHECKS_PER_SECOND - 1..=10 * RECHECKS_PER_SECOND + BURST).contains(&parked), "{parked}");
    }

    #[test]
    fn a_long_pause_is_worth_one_burst() {
        let mut pace = Pace::new();
        pace.pass(u64::MAX / 2);
        let burst = (0..1000).take_while(|_| pace.may().then(|| pace.pay()).is_some()).count();
        assert_eq!(burst as u64, BURST);
    }
}
