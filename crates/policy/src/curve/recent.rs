//! What a member did lately: looks at its words, the older the fainter.

use super::{Curve, Sums};
use memvisor_core::curve::Recorded;

/// After so long what was recorded counts half: 10 minutes. A sample of 512 pages needs some minutes to say anything of
/// pages that are used once in a minute; a phase of a program that was over half an hour ago should not count.
pub const HALF_LIFE_NS: u64 = 600_000_000_000;

/// The recent uses of one member. Begin with a new one when the member's process is another.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    last: Option<(u64, Recorded)>,
    sums: Sums,
}

impl Recent {
    /// Takes a look at what `recorded` says at `now_ns`. The first look only says where to count from. A clock that
    /// stands or went back adds nothing.
    pub fn observe(&mut self, recorded: &Recorded, now_ns: u64) {
        let Some((before_ns, before)) = self.last.replace((now_ns, *recorded)) else { return };
        let passed_ns = now_ns.saturating_sub(before_ns);
        if passed_ns == 0 {
            self.last = Some((before_ns.max(now_ns), before));
            return;
        }
        self.sums.fade((-(passed_ns as f64) / HALF_LIFE_NS as f64).exp2());
        self.sums.add(&Sums::of(&recorded.since(&before), passed_ns as f64 / 1e9));
    }

    /// The curve of what was seen; `None` before the second look.
    pub fn curve(&self) -> Option<Curve> {
        Curve::new(&self.sums)
    }
}
