use super::*;
use crate::sync::AtomicU64;
use proptest::prelude::*;
use std::collections::HashMap;

struct Shared(Vec<AtomicU64>);

impl Shared {
    fn new() -> Self {
        Self((0..CURVE_WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    fn words(&self) -> CurveWords<'_> {
        CurveWords(&self.0)
    }
}

/// A program that knows when it used which page, and a pager that is told only of what it can see.
struct Model {
    recorder: Recorder,
    shared: Shared,
    /// Of each page with contents: its last use, and whether the next one will be told.
    pages: HashMap<u32, (u64, bool)>,
    time: u64,
}

impl Model {
    fn new() -> Self {
        Self { recorder: Recorder::new(), shared: Shared::new(), pages: HashMap::new(), time: 0 }
    }

    /// Gives the true distance and what the recorder says, when the use is told and was not the first.
    fn touch(&mut self, page: u32) -> Option<(u64, Reuse)> {
        self.time += 1;
        let (before, is_awaited) = self.pages.insert(page, (self.time, false)).unwrap_or((0, true));
        if !is_awaited {
            return None;
        }
        let how = if before == 0 { Use::First } else { Use::Back };
        let truth = self.pages.iter().filter(|&(&other, &(at, _))| other != page && at > before).count();
        let reuse = self.recorder.used(PageIndex(page), how, self.time, self.shared.words());
        assert_eq!(reuse.is_some(), before != 0);
        reuse.map(|reuse| (truth as u64, reuse))
    }

    fn hide(&mut self, page: u32) {
        if let Some((_, is_awaited)) = self.pages.get_mut(&page) {
            *is_awaited = true;
            self.recorder.hidden(PageIndex(page), self.time, self.shared.words());
        }
    }

    fn forget(&mut self, page: u32) {
        self.pages.remove(&page);
        self.recorder.forgotten(PageIndex(page));
    }
}

/// The bookkeeping agrees with the table.
fn is_whole(recorder: &Recorder) -> bool {
    let unseen = recorder.table.iter().filter(|watched| matches!(watched.sight, Sight::Unseen { .. })).count();
    let first_use = recorder.table.iter().map(|watched| watched.used).min();
    let after_first = first_use.map_or(0, |first| recorder.uses.after(first) as usize + 1);
    recorder.unseen as usize == unseen
        && after_first == recorder.table.len()
        && recorder.hidings.after(0) as usize <= recorder.table.len() - unseen
        && recorder.table.iter().all(|watched| u64::from(watched.hash) < recorder.threshold)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Touch(u32),
    Hide(u32),
    Forget(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let page = || prop_oneof![0..6u32, 0..200u32];
    prop_oneof![
        6 => page().prop_map(Step::Touch),
        4 => page().prop_map(Step::Hide),
        1 => page().prop_map(Step::Forget),
    ]
}

proptest! {
    #[test]
    fn while_all_pages_are_watched_the_true_distance_is_between_the_nearest_and_the_farthest(
        steps in prop::collection::vec(step(), 0..400),
    ) {
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Touch(page) => {
                    if let Some((truth, reuse)) = model.touch(page) {
                        prop_assert!(reuse.nearest <= truth && truth <= reuse.farthest, "{truth}: {reuse:?}");
                        prop_assert!(reuse.nearest <= reuse.expected && reuse.expected <= reuse.farthest, "{reuse:?}");
                    }
                }
                Step::Hide(page) => model.hide(page),
                Step::Forget(page) => model.forget(page),
            }
            prop_assert!(is_whole(&model.recorder));
        }
    }

    #[test]
    fn pages_that_are_hidden_at_once_have_exact_distances(pages in prop::collection::vec(0..300u32, 0..600)) {
        let mut model = Model::new();
        for page in pages {
            if let Some((truth, reuse)) = model.touch(page) {
                prop_assert_eq!(reuse, Reuse { nearest: truth, expected: truth, farthest: truth });
            }
            model.hide(page);
        }
    }

    #[test]
    fn no_order_of_calls_upsets_the_recorder(
        calls in prop::collection::vec((0..6u8, 0..2000u32, 0..100u64), 0..2000),
    ) {
        let (mut recorder, shared, mut now_ns) = (Recorder::new(), Shared::new(), 0);
        for (call, page, ms) in calls {
            now_ns += ms * 1_000_000;
            match call {
                0 => _ = recorder.used(PageIndex(page), Use::First, now_ns, shared.words()),
                1 => _ = recorder.used(PageIndex(page), Use::Back, now_ns, shared.words()),
                2 => recorder.hidden(PageIndex(page), now_ns, shared.words()),
                3 => recorder.forgotten(PageIndex(page)),
                4 => recorder.met(PageIndex(page), now_ns),
                _ => _ = recorder.next_to_hide(now_ns, shared.words()),
            }
            prop_assert!(is_whole(&recorder));
        }
    }
}

#[test]
fn distances_stay_exact_when_the_clock_is_wound_back() {
    let mut model = Model::new();
    let mut seed = 1u64;
    let mut wound_back = 0;
    for _ in 0..40_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (page, tick) = ((seed >> 33) as u32 % 200, model.recorder.tick);
        if let Some((truth, reuse)) = model.touch(page) {
            assert_eq!((reuse.nearest, reuse.expected, reuse.farthest), (truth, truth, truth));
        }
        model.hide(page);
        wound_back += u32::from(model.recorder.tick < tick);
    }
    assert!(wound_back >= 10, "{wound_back}");
}

#[test]
fn however_many_pages_there_are_few_are_watched_and_they_stand_for_all() {
    let (mut recorder, shared) = (Recorder::new(), Shared::new());
    for page in 0..400_000 {
        recorder.used(PageIndex(page), Use::First, 0, shared.words());
        assert!(recorder.table.len() <= SAMPLES_MAX);
    }
    let recorded = shared.words().read();
    let standing = recorded.watched_pages() as f64 / recorded.rate();
    assert!((standing / 400_000.0 - 1.0).abs() < 0.1, "{standing}");
    let first = recorded.first() as f64 / ONE as f64;
    assert!((first / 400_000.0 - 1.0).abs() < 0.1, "{first}");
}

#[test]
fn a_round_over_many_pages_is_as_far_apart_as_there_are_pages() {
    let (mut recorder, shared) = (Recorder::new(), Shared::new());
    let pages = 50_000u32;
    for round in 0..3 {
        for page in (0..pages).map(PageIndex) {
            let how = if round == 0 { Use::First } else { Use::Back };
            let reuse = recorder.used(page, how, 0, shared.words());
            recorder.hidden(page, 0, shared.words());
            if round > 0
                && let Some(reuse) = reuse
            {
                // Of 512 pages the error is 1/√512 = 4.4 %; three times that is hardly ever exceeded.
                assert!((reuse.expected as f64 / f64::from(pages) - 1.0).abs() < 0.14, "{reuse:?}");
            }
        }
    }
}

#[test]
fn a_page_is_hidden_again_after_a_while_the_longest_unseen_first() {
    let (mut recorder, shared) = (Recorder::new(), Shared::new());
    let ms = |ms: u64| ms * 1_000_000;
    recorder.next_to_hide(ms(5000), shared.words());
    recorder.used(PageIndex(1), Use::First, ms(5000), shared.words());
    recorder.next_to_hide(ms(5100), shared.words());
    recorder.used(PageIndex(2), Use::First, ms(5100), shared.words());
    assert_eq!(recorder.choose_longest(ms(5249)), None, "too early");
    assert_eq!(recorder.next_to_hide(ms(5500), shared.words()), Some(PageIndex(1)));
    recorder.hidden(PageIndex(1), ms(5500), shared.words());
    assert_eq!(recorder.next_to_hide(ms(5500), shared.words()), Some(PageIndex(2)), "the one left, by chance");
    assert_eq!(recorder.next_to_hide(ms(5500), shared.words()), None, "it was just tried");
    assert_eq!(recorder.next_to_hide(ms(5800), shared.words()), Some(PageIndex(2)), "it would not leave");
    assert_eq!(shared.words().read().rechecks(), 3);
}

#[test]
fn the_hottest_program_is_looked_at_no_more_than_it_may_cost() {
    let (mut recorder, shared) = (Recorder::new(), Shared::new());
    (0..1000).for_each(|page| _ = recorder.used(PageIndex(page), Use::First, 0, shared.words()));
    for tick in 0..2000u64 {
        let now_ns = tick * 10_000_000;
        for _ in 0..100 {
            let Some(page) = recorder.next_to_hide(now_ns, shared.words()) else { break };
            recorder.hidden(page, now_ns, shared.words());
            recorder.used(page, Use::Back, now_ns, shared.words());
        }
    }
    let rechecks = shared.words().read().rechecks();
    assert!(rechecks <= 20 * RECHECKS_PER_SECOND + 16, "{rechecks}");
    assert!(rechecks >= 19 * RECHECKS_PER_SECOND, "{rechecks}");
}

#[test]
fn a_program_that_gave_most_of_its_memory_away_is_watched_closely_again() {
    let (mut recorder, shared) = (Recorder::new(), Shared::new());
    for page in (0..100_000).map(PageIndex) {
        recorder.used(page, Use::First, 0, shared.words());
    }
    assert!(!recorder.renew(shared.words()));
    for page in (400..100_000).map(PageIndex) {
        recorder.forgotten(page);
    }
    assert!(recorder.renew(shared.words()) && is_whole(&recorder));
    for page in (0..400).map(PageIndex) {
        recorder.used(page, Use::Back, 0, shared.words());
    }
    let recorded = shared.words().read();
    assert_eq!((recorded.watched_pages(), recorded.rate(), recorded.restarts()), (400, 1.0, 1));
    assert_eq!(recorded.unplaced(), 400 * ONE);
}

#[test]
fn a_page_that_gave_its_contents_away_is_new_when_it_is_used_again() {
    let mut model = Model::new();
    model.touch(7);
    model.hide(7);
    model.forget(7);
    assert_eq!(model.touch(7), None);
    assert_eq!(model.shared.words().read().first(), 2 * ONE);
}

#[test]
fn probes_are_of_any_unseen_page_alike() {
    let (mut recorder, shared) = (Recorder::new(), Shared::new());
    (0..100).for_each(|page| _ = recorder.used(PageIndex(page), Use::First, 0, shared.words()));
    let mut chosen = HashMap::new();
    for _ in 0..10_000 {
        let hash = recorder.choose_any().expect("all pages are unseen");
        *chosen.entry(hash).or_insert(0) += 1;
    }
    assert_eq!(chosen.len(), 100);
    // 100 each, with a standard deviation of ten.
    assert!(chosen.values().all(|&times| (55..150).contains(&times)), "{chosen:?}");
}

#[test]
fn the_wait_of_a_probe_is_counted_by_its_length() {
    let (mut recorder, shared) = (Recorder::new(), Shared::new());
    recorder.used(PageIndex(3), Use::First, 0, shared.words());
    let mut now_ns = 0;
    for _ in 0..40 {
        now_ns += 1_000_000_000;
        assert_eq!(recorder.next_to_hide(now_ns, shared.words()), Some(PageIndex(3)));
        recorder.hidden(PageIndex(3), now_ns, shared.words());
        recorder.used(PageIndex(3), Use::Back, now_ns + 100_000, shared.words());
    }
    let recorded = shared.words().read();
    let at = time_bucket_of(100_000);
    assert_eq!((recorded.waits()[at], recorded.probed_waits()[at]), (40 * ONE, 20 * ONE));
    assert_eq!(recorded.unseen_ms() / ONE, 1000 + 39 * 999);
}

#[test]
fn a_page_that_was_met_in_its_place_is_watched_and_its_first_distance_is_not_told() {
    let (mut recorder, shared) = (Recorder::new(), Shared::new());
    (0..10).for_each(|page| recorder.met(PageIndex(page), 0));
    for round in 0..2 {
        for page in (0..10).map(PageIndex) {
            recorder.hidden(page, 0, shared.words());
            let reuse = recorder.used(page, Use::Back, 0, shared.words());
            recorder.met(page, 0);
            assert_eq!(reuse.map(|reuse| reuse.expected), (round == 1).then_some(9));
        }
    }
    assert!(is_whole(&recorder));
    assert_eq!(shared.words().read().unplaced(), 10 * ONE);
}

#[test]
fn a_page_that_would_not_leave_when_it_was_probed_is_no_probe_when_it_is_evicted() {
    let (mut recorder, shared) = (Recorder::new(), Shared::new());
    let second = 1_000_000_000;
    recorder.used(PageIndex(3), Use::First, 0, shared.words());
    for (at, is_probe) in [(1, false), (2, true)] {
        assert_eq!(recorder.next_to_hide(at * second, shared.words()), Some(PageIndex(3)), "probe: {is_probe}");
    }
    recorder.hidden(PageIndex(3), 60 * second, shared.words());
    recorder.used(PageIndex(3), Use::Back, 61 * second, shared.words());
    assert_eq!(shared.words().read().probed_waits().iter().sum::<u64>(), 0);
}
