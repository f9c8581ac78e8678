//! From members to the space, and from what is in its place to what is wanted.

use super::Part;

/// The part of the time that a space waits for memory at which all it has counts as active. A judgement, not a
/// measurement: a space that waits for a fifth of its time is slower by a quarter, and whatever its samples say, taking
/// pages from it makes that worse. Below, in proportion.
pub const STALLED_WHOLE: f64 = 0.2;

/// What is known of one member.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MemberActivity {
    /// Pages in their place, and what is not armed at its whole size: what samples are taken from, or stand for.
    pub pages: u64,
    /// The active part of them.
    pub active: Part,
    /// The part of them that was active of late, 0 to 1, if that is surely less ([`super::Latest::contradicts`]).
    pub latest: Option<f64>,
}

/// What a space wants beside what it has.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Demand {
    /// Pages that were stored and were loaded again in the last period, because they were wanted.
    pub refaulted_pages: u64,
    /// Pages that are managed and not in their place.
    pub stored_pages: u64,
    /// The part of the last period that its threads waited for memory: the service time of its faults in run time.
    /// 0.0..=1.0.
    pub stalled: f64,
}

/// How much a space uses.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Activity {
    /// The active part of the DRAM that holds its pages.
    pub active: Part,
    /// Pages in DRAM that are active.
    pub active_pages: f64,
    /// Pages that it would use if it had them: the active ones, and those that were wanted back.
    pub wanted_pages: f64,
    /// The same by the latest samples, if these contradict what is believed; no more than `wanted_pages`.
    pub latest_pages: Option<f64>,
}

/// The activity of a space. [`Part::UNKNOWN`] of nothing when it has no pages.
pub fn of_space(members: &[MemberActivity], demand: Demand) -> Activity {
    let pages: f64 = members.iter().map(|member| member.pages as f64).sum();
    if pages <= 0.0 {
        let wanted_pages = refaulted(demand);
        return Activity { active: Part::UNKNOWN, active_pages: 0.0, wanted_pages, latest_pages: None };
    }
    let active = stalled(together(members, pages), demand.stalled);
    let active_pages = active.expected * pages;
    let wanted_pages = active_pages + refaulted(demand);
    let latest_pages = latest(members).map(|part| {
        let pages = raised(part / pages, demand.stalled) * pages + refaulted(demand);
        pages.min(wanted_pages)
    });
    Activity { active, active_pages, wanted_pages, latest_pages }
}

/// Pages that were in use of late, if any member is surely using less than is believed.
fn latest(members: &[MemberActivity]) -> Option<f64> {
    let used = |member: &MemberActivity| member.latest.unwrap_or(member.active.expected) * member.pages as f64;
    members.iter().any(|member| member.latest.is_some()).then(|| members.iter().map(used).sum())
}

/// Members are sampled apart, so the squares of what each may be off add up.
fn together(members: &[MemberActivity], pages: f64) -> Part {
    let (mut active, mut below, mut above) = (0.0, 0.0, 0.0);
    for member in members {
        let Part { low, expected, high } = member.active;
        let own = member.pages as f64;
        active += expected * own;
        below += ((expected - low) * own).powi(2);
        above += ((high - expected) * own).powi(2);
    }
    let bound = |pages_off: f64| ((active + pages_off) / pages).clamp(0.0, 1.0);
    Part { low: bound(-below.sqrt()), expected: bound(0.0), high: bound(above.sqrt()) }
}

/// A page is wanted back once, however often it comes and goes.
fn refaulted(demand: Demand) -> f64 {
    demand.refaulted_pages.min(demand.stored_pages) as f64
}

/// Raises what is believed by how much the space waits.
fn stalled(active: Part, stalled: f64) -> Part {
    Part { low: active.low, expected: raised(active.expected, stalled), high: raised(active.high, stalled) }
}

fn raised(part: f64, stalled: f64) -> f64 {
    let believed = if stalled.is_finite() { (stalled / STALLED_WHOLE).clamp(0.0, 1.0) } else { 0.0 };
    part + (1.0 - part) * believed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(pages: u64, expected: f64, off: f64) -> MemberActivity {
        let active = Part { low: expected - off, expected, high: expected + off };
        MemberActivity { pages, active, latest: None }
    }

    #[test]
    fn a_member_weighs_as_much_as_it_has() {
        let activity = of_space(&[member(9_000, 0.1, 0.05), member(1_000, 0.9, 0.1)], Demand::default());
        assert!((activity.active.expected - 0.18).abs() < 1e-9);
        assert!((activity.active_pages - 1_800.0).abs() < 1e-6);
        // √(450² + 100²) pages of 10,000.
        assert!((activity.active.high - 0.18 - 0.0461).abs() < 1e-4, "{activity:?}");
    }

    #[test]
    fn many_members_together_are_known_better_than_each() {
        let one = of_space(&[member(1_000, 0.5, 0.1)], Demand::default()).active;
        let hundred = of_space(&[member(1_000, 0.5, 0.1); 100], Demand::default()).active;
        assert!((one.high - 0.6).abs() < 1e-9 && (hundred.high - 0.51).abs() < 1e-9);
    }

    #[test]
    fn what_was_not_sampled_yet_is_not_taken_for_idle() {
        let new = MemberActivity { pages: 3_000, active: Part::UNKNOWN, latest: None };
        let activity = of_space(&[new, member(1_000, 0.0, 0.0)], Demand::default());
        assert!((activity.active.expected - 0.75).abs() < 1e-9, "{activity:?}");
    }

    #[test]
    fn what_was_taken_and_is_wanted_back_is_wanted_once() {
        let wants = |refaulted_pages, stored_pages| {
            let demand = Demand { refaulted_pages, stored_pages, stalled: 0.0 };
            of_space(&[member(1_000, 0.5, 0.1)], demand).wanted_pages
        };
        assert_eq!((wants(200, 5_000), wants(90_000, 5_000)), (700.0, 5_500.0));
    }

    #[test]
    fn a_space_that_waits_for_memory_uses_all_it_has() {
        let part =
            |stalled| of_space(&[member(1_000, 0.2, 0.1)], Demand { stalled, ..Demand::default() }).active.expected;
        assert!(
            (part(0.0) - 0.2).abs() < 1e-9 && (part(0.1) - 0.6).abs() < 1e-9 && part(0.2) == 1.0 && part(9.0) == 1.0
        );
        assert!((part(f64::NAN) - 0.2).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn the_whole_is_a_part_and_its_bounds_hold_it(
            members in prop::collection::vec((0..1u64 << 40, 0.0..1.0f64, 0.0..1.0f64, 0.0..1.0f64), 0..20),
            refaulted_pages: u64, stored_pages: u64, stalled in 0.0..2.0f64,
        ) {
            let members: Vec<_> = members
                .into_iter()
                .map(|(pages, one, two, three)| {
                    let mut parts = [one, two, three];
                    parts.sort_by(f64::total_cmp);
                    let [low, expected, high] = parts;
                    MemberActivity { pages, active: Part { low, expected, high }, latest: Some(low) }
                })
                .collect();
            let activity = of_space(&members, Demand { refaulted_pages, stored_pages, stalled });
            let Part { low, expected, high } = activity.active;
            prop_assert!(0.0 <= low && low <= expected && expected <= high && high <= 1.0);
            prop_assert!(activity.wanted_pages >= activity.active_pages);
            prop_assert!(activity.latest_pages.is_none_or(|pages| (0.0..=activity.wanted_pages).contains(&pages)));
        }
    }
}
