//! Whether anything was delayed while there was no node: pure, from what was counted at some instants.
//!
//! ```text
//!   marks   before    killed         back      hangs      goes on    exchanged      after     end
//!           |─────────|──────────────|─────────|──────────|──────────|──────────────|─────────|
//!   node    there     none, starts   there     stopped    there      none, starts   there
//! ```
//! A span reaches from one mark to the next, so there is no instant between two spans. A fault is counted when it has been served:
//! one that waited for the node is counted only after the node came back, and one that waits for ever in no span at all. So all
//! spans but the first are judged, those with a node too; and each space is judged by its touches, which stand still when it does.

use super::super::words::Faults;
use std::time::Instant;

/// How much longer 99 of 100 faults may take than before: twice, which is what such a time varies by on a machine that does
/// other things too. One that waited for the node would take a thousand times as long.
const P99_TIMES: f64 = 2.0;
/// No fault takes so long, node or not, unless it waits for somebody.
const MAX_NS: u64 = 1_000_000_000;
/// The part of its touches of before that each space makes at least in each span. Programs that are paced do the same each second;
/// what they tell of is a fifth of a second old, which is a tenth of the shortest span.
pub(super) const TOUCHES_PART: f64 = 0.7;

/// What had been counted at an instant.
pub(super) struct Mark {
    /// What begins here.
    pub(super) name: &'static str,
    pub(super) at: Instant,
    /// Of all spaces.
    pub(super) faults: Faults,
    /// Of each space.
    pub(super) touches: Vec<u64>,
}

/// What happened between two marks.
pub(super) struct Span {
    pub(super) name: &'static str,
    pub(super) faults: Faults,
    /// Of each space.
    pub(super) touches_per_s: Vec<f64>,
}

/// The spans between marks, one less than there are marks.
pub(super) fn spans(marks: &[Mark]) -> Vec<Span> {
    marks.windows(2).map(|pair| Span::between(&pair[0], &pair[1])).collect()
}

impl Span {
    fn between(then: &Mark, now: &Mark) -> Self {
        let seconds = now.at.saturating_duration_since(then.at).as_secs_f64().max(1e-3);
        let made = then.touches.iter().zip(&now.touches).map(|(then, now)| now.saturating_sub(*then));
        Self {
            name: then.name,
            faults: now.faults.since(&then.faults),
            touches_per_s: made.map(|made| made as f64 / seconds).collect(),
        }
    }

    pub(super) fn p99_ns(&self) -> f64 {
        self.faults.quantile_ns(0.99) as f64
    }

    /// The least part of its touches in span `before` that a space made in this one.
    pub(super) fn touches_part(&self, before: &Self) -> f64 {
        let part = |(now, then): (&f64, &f64)| if *then > 0.0 { now / then } else { 0.0 };
        self.touches_per_s.iter().zip(&before.touches_per_s).map(part).fold(f64::INFINITY, f64::min)
    }
}

/// The worst of all spans but the first, beside the first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delay {
    /// How many times as long 99 of 100 faults took.
    pub(super) p99_times: f64,
    /// The bound of the longest fault.
    pub(super) max_ns: u64,
    /// The part of its touches that a space made.
    pub(super) touches_part: f64,
    /// The fewest faults in a span, the first included: of none nothing can be said.
    pub(super) faults_min: u64,
}

impl Delay {
    /// None when there is nothing beside the first span.
    pub(super) fn of(spans: &[Span]) -> Option<Self> {
        let (before, others) = spans.split_first()?;
        others.first()?;
        let most = |of: &dyn Fn(&Span) -> f64| others.iter().map(of).fold(0.0, f64::max);
        Some(Self {
            p99_times: most(&|span| span.p99_ns()) / before.p99_ns().max(1.0),
            max_ns: others.iter().map(|span| span.faults.max_ns()).max()?,
            touches_part: others.iter().map(|span| span.touches_part(before)).fold(f64::INFINITY, f64::min),
            faults_min: spans.iter().map(|span| span.faults.count()).min()?,
        })
    }

    /// Whether nothing was delayed.
    pub(super) fn is_none(&self) -> bool {
        self.faults_min > 0
            && self.p99_times <= P99_TIMES
            && self.max_ns < MAX_NS
            && (TOUCHES_PART..f64::INFINITY).contains(&self.touches_part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const USUAL_NS: u64 = 50_000;
    const SPACES: usize = 10;
    const TOUCHES: u64 = 4000;

    /// Ten seconds of ten spaces that get on: what is counted in them.
    struct Ten {
        faults: Faults,
        touches: Vec<u64>,
    }

    fn usual() -> Ten {
        Ten { faults: Faults::of(1000, USUAL_NS), touches: vec![TOUCHES; SPACES] }
    }

    /// Marks of seven spans of ten seconds each, in which `counted` is counted.
    fn judge(change: impl Fn(&'static str, &mut Ten)) -> Delay {
        let names = ["before", "killed", "back", "hangs", "goes on", "exchanged", "after", "end"];
        let mut at = Instant::now();
        let (mut faults, mut touches) = (Faults::NONE, vec![0; SPACES]);
        let mut marks = Vec::new();
        for name in names {
            marks.push(Mark { name, at, faults: faults.clone(), touches: touches.clone() });
            let mut ten = usual();
            change(name, &mut ten);
            at += Duration::from_secs(10);
            faults = faults.plus(&ten.faults);
            touches.iter_mut().zip(ten.touches).for_each(|(sum, made)| *sum += made);
        }
        Delay::of(&spans(&marks)).unwrap()
    }

    #[test]
    fn spaces_that_get_on_are_not_delayed() {
        let delay = judge(|_, _| {});
        assert!(delay.is_none() && delay.faults_min == 1000, "{delay:?}");
        // What a machine that does other things does.
        let delay = judge(|name, ten| {
            if name == "hangs" {
                ten.faults = Faults::of(900, USUAL_NS).plus(&Faults::of(100, USUAL_NS * 3 / 2));
                ten.touches = vec![TOUCHES * 9 / 10; SPACES];
            }
        });
        assert!(delay.is_none(), "{delay:?}");
    }

    #[test]
    fn one_space_of_ten_that_stands_still_without_a_node_is_delayed() {
        for outage in ["killed", "hangs", "exchanged"] {
            let delay = judge(|name, ten| {
                if name == outage {
                    ten.touches[3] = 0;
                }
            });
            assert!(!delay.is_none() && delay.touches_part == 0.0, "{outage}: {delay:?}");
        }
    }

    #[test]
    fn spaces_that_all_stand_still_are_delayed_though_no_fault_is_counted() {
        let delay = judge(|name, ten| {
            if name == "killed" {
                *ten = Ten { faults: Faults::NONE, touches: vec![0; SPACES] };
            }
        });
        assert!(!delay.is_none() && delay.faults_min == 0, "{delay:?}");
        // Nor does it help that nobody faults who gets on, or that nobody got on before either.
        let no_faults = judge(|name, ten| {
            if name == "killed" {
                ten.faults = Faults::NONE;
            }
        });
        assert!(!no_faults.is_none(), "{no_faults:?}");
        let never = judge(|_, ten| *ten = Ten { faults: Faults::NONE, touches: vec![0; SPACES] });
        assert!(!never.is_none(), "{never:?}");
    }

    #[test]
    fn one_fault_that_is_served_only_when_the_node_is_back_is_delayed() {
        for (with_a_node, outage) in [("back", "killed"), ("goes on", "hangs"), ("after", "exchanged")] {
            let delay = judge(|name, ten| {
                if name == with_a_node {
                    ten.faults = usual().faults.plus(&Faults::of(1, 3_000_000_000));
                }
                if name == outage {
                    // It waited for a second of ten: its touches alone would pass.
                    ten.touches[0] = TOUCHES * 9 / 10;
                }
            });
            assert!(!delay.is_none() && delay.max_ns > MAX_NS, "{with_a_node}: {delay:?}");
        }
    }

    #[test]
    fn many_faults_that_take_some_times_as_long_are_delayed() {
        let delay = judge(|name, ten| {
            if name == "exchanged" {
                ten.faults = Faults::of(980, USUAL_NS).plus(&Faults::of(20, USUAL_NS * 5));
            }
        });
        assert!(!delay.is_none() && delay.max_ns < MAX_NS, "{delay:?}");
    }

    #[test]
    fn of_one_span_nothing_can_be_said() {
        assert!(Delay::of(&[]).is_none() && Delay::of(&spans(&[])).is_none());
        let span = Span { name: "before", faults: Faults::of(1, USUAL_NS), touches_per_s: vec![1.0] };
        assert!(Delay::of(&[span]).is_none());
    }
}
