use super::*;
use memvisor_core::PageIndex;
use memvisor_core::curve::{CURVE_WORDS, CurveWords, GROUP_BUCKETS, GROUPS, Recorded, Recorder, TIMES, Use};
use memvisor_core::sync::AtomicU64;
use proptest::prelude::*;

struct Pager {
    recorder: Recorder,
    words: Vec<AtomicU64>,
    known: std::collections::HashSet<u32>,
}

impl Pager {
    fn new() -> Self {
        let words = (0..CURVE_WORDS).map(|_| AtomicU64::new(0)).collect();
        Self { recorder: Recorder::new(), words, known: Default::default() }
    }

    fn touch(&mut self, page: u32) {
        let how = if self.known.insert(page) { Use::First } else { Use::Back };
        self.recorder.used(PageIndex(page), how, 0, CurveWords(&self.words));
        self.recorder.hidden(PageIndex(page), 0, CurveWords(&self.words));
    }

    fn recorded(&self) -> Recorded {
        CurveWords(&self.words).read()
    }

    fn curve(&self, seconds: f64) -> Curve {
        Curve::new(&Sums::of(&self.recorded(), seconds)).expect("something was recorded")
    }
}

/// Two rounds of 20,000 pages and 100 rounds of 2,000 others, in 10 s.
fn two_loops() -> Pager {
    let mut pager = Pager::new();
    (0..2).for_each(|_| (0..20_000).for_each(|page| pager.touch(page)));
    (0..101).for_each(|_| (20_000..22_000).for_each(|page| pager.touch(page)));
    pager
}

#[test]
fn two_loops_make_two_steps() {
    let curve = two_loops().curve(10.0);
    let [below, between, above] = [1_000, 8_000, 40_000].map(|pages| curve.faults_at(pages));
    assert!((below.expected / 22_000.0 - 1.0).abs() < 0.2, "{below:?}");
    assert!((between.expected / 2_000.0 - 1.0).abs() < 0.2, "{between:?}");
    assert_eq!(above.expected, 0.0);
    for (estimate, truth) in [(below, 22_000.0), (between, 2_000.0), (above, 0.0)] {
        assert!(estimate.low <= truth && truth <= estimate.high, "{truth}: {estimate:?}");
    }
    assert!((curve.first_touches() / 2_200.0 - 1.0).abs() < 0.15, "{}", curve.first_touches());
}

#[test]
fn what_would_fit_is_between_the_loops() {
    let curve = two_loops().curve(10.0);
    let fit = curve.fits(4_000.0);
    let likely = fit.likely_pages.expect("the small loop fits");
    assert!((1_500..2_700).contains(&likely), "{likely}");
    assert!(fit.sure_pages.expect("it surely fits somewhere") >= likely);
    let none = curve.fits(1.0).likely_pages.expect("both loops fit");
    assert!((17_000..26_000).contains(&none), "{none}");
    assert_eq!(curve.fits(1e9), Fit { likely_pages: Some(0), sure_pages: Some(0) });
    assert_eq!(curve.fits(-1.0).likely_pages, None);
}

#[test]
fn the_ladder_has_the_five_parts_of_the_present_dram() {
    let ladder = two_loops().curve(10.0).ladder(10_000);
    assert_eq!(ladder.map(|rung| rung.pages), [2_500, 5_000, 7_500, 10_000, 15_000]);
    assert!(ladder.is_sorted_by(|small, large| small.faults.expected >= large.faults.expected));
}

#[test]
fn the_faults_that_happened_move_the_curve_but_not_far() {
    let curve = two_loops().curve(10.0);
    let before = curve.faults_at(10_000).expected;
    let moved = curve.anchored(10_000, before * 1.3).faults_at(10_000);
    assert!((moved.expected / before - 1.3).abs() < 1e-9 && moved.high >= moved.expected && moved.low <= before);
    assert_eq!(curve.anchored(10_000, before * 50.0).faults_at(10_000).expected, before * 2.0);
    assert_eq!(curve.anchored(40_000, 50.0), curve);
}

#[test]
fn below_what_is_used_unseen_only_the_least_is_known() {
    let mut pager = Pager::new();
    let words = CurveWords(&pager.words);
    // All of 400 pages are used before the first of them is hidden.
    (0..400).for_each(|page| _ = pager.recorder.used(PageIndex(page), Use::First, 0, words));
    (0..400).for_each(|page| pager.recorder.hidden(PageIndex(page), 0, words));
    (0..400).for_each(|page| _ = pager.recorder.used(PageIndex(page), Use::Back, 0, words));
    let curve = pager.curve(1.0);
    assert!((390..=400).contains(&curve.resolved_pages()), "{}", curve.resolved_pages());
    assert!(curve.faults_at(300).high.is_infinite());
    assert!(curve.faults_at(500).high.is_finite());
    assert!(curve.fits(0.0).sure_pages.is_some_and(|pages| pages >= 384));
}

#[test]
fn a_space_costs_what_its_members_cost_together() {
    let pager = two_loops();
    let curve = pager.curve(10.0);
    let both = Curve::of_space(&[(&curve, 500), (&curve, 500)]).expect("there are members");
    for pages in [500, 4_000, 16_000, 60_000] {
        let (one, two) = (curve.faults_at(pages).expected, both.faults_at(2 * pages).expected);
        assert!((two - 2.0 * one).abs() <= 0.25 * one + 1.0, "{pages}: {one} {two}");
    }
    assert_eq!(Curve::of_space(&[(&curve, 0)]), None);
    assert_eq!(Curve::of_space(&[(&curve, 7)]), Some(curve));
}

#[test]
fn nothing_recorded_is_no_curve() {
    assert_eq!(Curve::new(&Sums::default()), None);
    let mut recent = Recent::default();
    recent.observe(&two_loops().recorded(), 5);
    assert_eq!(recent.curve(), None);
}

#[test]
fn what_is_long_ago_does_not_count() {
    let mut pager = two_loops();
    let mut recent = Recent::default();
    let second = 1_000_000_000;
    recent.observe(&Recorded::default(), 0);
    recent.observe(&pager.recorded(), 10 * second);
    let early = recent.curve().expect("a second look was taken").faults_at(8_000).expected;
    assert!((early / 2_000.0 - 1.0).abs() < 0.2, "{early}");
    for look in 1..=100 {
        (20_000..22_000).for_each(|page| pager.touch(page));
        recent.observe(&pager.recorded(), 10 * second + look * 60 * second);
    }
    let late = recent.curve().expect("looks were taken");
    assert!(late.faults_at(8_000).expected < 1.0, "{:?}", late.faults_at(8_000));
    let small = late.faults_at(1_000).expected;
    assert!((small / (2_000.0 / 60.0) - 1.0).abs() < 0.2, "{small}");
}

#[test]
fn a_clock_that_goes_back_adds_nothing() {
    let pager = two_loops();
    let mut recent = Recent::default();
    recent.observe(&Recorded::default(), 1_000);
    recent.observe(&pager.recorded(), 500);
    recent.observe(&pager.recorded(), 500);
    assert_eq!(recent.curve(), None);
    recent.observe(&pager.recorded(), 1_000_001_000);
    assert!(recent.curve().is_some_and(|curve| curve.faults_at(1_000).expected > 200_000.0));
}

proptest! {
    #[test]
    fn more_dram_never_costs_more_and_the_expected_is_between_the_bounds(
        touches in prop::collection::vec((0..3000u32, any::<bool>()), 1..3000),
        sizes in prop::collection::vec(0..100_000u64, 20),
    ) {
        let mut pager = Pager::new();
        for (page, is_hidden) in touches {
            let how = if pager.known.insert(page) { Use::First } else { Use::Back };
            pager.recorder.used(PageIndex(page), how, 0, CurveWords(&pager.words));
            if is_hidden {
                pager.recorder.hidden(PageIndex(page), 0, CurveWords(&pager.words));
            }
        }
        let curve = pager.curve(3.0);
        let mut sizes = sizes;
        sizes.sort();
        let costs: Vec<Estimate> = sizes.iter().map(|&pages| curve.faults_at(pages)).collect();
        for (small, large) in costs.iter().zip(&costs[1..]) {
            prop_assert!(small.low >= large.low && small.expected >= large.expected && small.high >= large.high);
        }
        for cost in costs {
            prop_assert!(0.0 <= cost.low && cost.low <= cost.expected && cost.expected <= cost.high);
        }
        for pages in sizes {
            let cost = curve.faults_at(pages).expected;
            let least = curve.fits(cost).likely_pages.expect("it is had at that size");
            prop_assert!(least <= pages + 1, "{least} {pages}");
            prop_assert!(curve.faults_at(least).expected <= cost + 1e-6);
        }
    }

    #[test]
    fn whatever_was_recorded_a_curve_falls_and_its_bounds_hold_it(
        uses in prop::collection::vec(0.0..100.0f64, 3 * BUCKETS),
        groups in prop::collection::vec(0.0..1000.0f64, GROUPS * GROUP_BUCKETS),
        waits in prop::collection::vec((0.0..100.0f64, 0.0..1.0f64), TIMES),
        (unseen_pages, unseen_seconds, unplaced) in (0..20_000u64, 0.0..1e4f64, 0.0..1e3f64),
        rate in 0.001..=1.0f64,
    ) {
        let of = |from: usize| std::array::from_fn(|at| uses[from * BUCKETS + at]);
        let sums = Sums {
            expected: of(0),
            nearest: of(1),
            farthest: of(2),
            groups: std::array::from_fn(|group| std::array::from_fn(|at| groups[group * GROUP_BUCKETS + at])),
            waits: std::array::from_fn(|at| waits[at].0),
            probed_waits: std::array::from_fn(|at| waits[at].0 * waits[at].1),
            unseen_seconds,
            first: 1.0,
            unplaced,
            seconds: 60.0,
            unseen_pages,
            rate,
        };
        let points = Curve::new(&sums).expect("time has passed").points;
        for Estimate { low, expected, high } in points {
            prop_assert!(0.0 <= low && low <= expected && expected <= high);
        }
        for (small, large) in points.iter().zip(&points[1..]) {
            prop_assert!(small.low >= large.low && small.expected >= large.expected && small.high >= large.high);
        }
    }
}
