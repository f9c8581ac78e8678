//! A program whose working set is known, sampled by the code that the pager runs, against what the averages say.

use memvisor_core::PageIndex;
use memvisor_core::sample::{Candidates, Event, SAMPLE_WORDS, SampleWords, Sampler};
use memvisor_core::sync::AtomicU64;
use memvisor_policy::activity::{Averages, Part};

const PAGES: u32 = 20_000;
const PERIODS_A_PHASE: u32 = 40;

struct Resident;

impl Candidates for Resident {
    fn count(&self) -> u64 {
        u64::from(PAGES)
    }

    fn resident(&self, at: u64) -> Option<PageIndex> {
        Some(PageIndex(at as u32))
    }
}

/// What was believed half-way through each period and at its end, with the true part.
fn believed(parts: &[f64], seed: u64) -> Vec<(f64, Part, Part)> {
    let words: Vec<AtomicU64> = (0..SAMPLE_WORDS).map(|_| AtomicU64::new(0)).collect();
    let words = SampleWords(&words);
    let (mut sampler, mut averages, mut seen) = (Sampler::new(100, seed), Averages::default(), Vec::new());
    for &part in parts {
        sampler.heard(Event::PeriodBegan, words);
        let mut out = Vec::new();
        while let Some(page) = sampler.choose(&Resident) {
            sampler.heard(Event::Parked(page), words);
            out.push(page);
        }
        // Pages whose number ends low are the working set; all of it is touched in a period, the sampled or not.
        let is_active = |page: PageIndex| f64::from(page.0 % 1000) < part * 1000.0;
        out.into_iter().filter(|&page| is_active(page)).for_each(|page| sampler.heard(Event::Touched(page), words));
        averages.observe(words.ended(), words.present());
        let half_way = averages.active();
        sampler.heard(Event::PeriodEnded, words);
        averages.observe(words.ended(), words.present());
        seen.push((part, half_way, averages.active()));
    }
    seen
}

/// 20 % and 80 % in turn.
fn toggling() -> Vec<f64> {
    (0..6 * PERIODS_A_PHASE)
        .map(|period| if (period / PERIODS_A_PHASE).is_multiple_of(2) { 0.2 } else { 0.8 })
        .collect()
}

#[test]
fn a_working_set_that_stays_is_known_to_within_a_twelfth() {
    let (mut sum, mut inside, mut count) = (0.0, 0, 0);
    for seed in 1..=20 {
        for (_, (part, _, at_end)) in
            (0u32..).zip(believed(&toggling(), seed)).filter(|(at, _)| at % PERIODS_A_PHASE >= 25)
        {
            sum += at_end.expected - part;
            inside += u32::from(at_end.low - 0.02 <= part && part <= at_end.high + 0.02);
            count += 1;
            assert!((at_end.expected - part).abs() < 1.0 / 12.0 + 0.04, "{part}: {at_end:?}");
        }
    }
    let bias = sum / f64::from(count);
    assert!((0.0..0.03).contains(&bias), "the greatest of averages is a little too great: {bias}");
    assert!(f64::from(inside) > 0.9 * f64::from(count), "{inside} of {count}");
}

#[test]
fn a_working_set_that_grows_is_believed_at_once_and_one_that_shrinks_after_a_while() {
    for seed in 1..=20 {
        let believed = believed(&toggling(), seed);
        let at = |period: u32| believed[period as usize];
        let up = PERIODS_A_PHASE;
        assert!(at(up).1.expected > 0.4, "in the first period: {:?}", at(up));
        assert!(at(up + 2).2.expected > 0.6, "in the third: {:?}", at(up + 2));
        let down = 2 * PERIODS_A_PHASE;
        assert!(at(down + 1).2.expected > 0.55, "in the second: {:?}", at(down + 1));
        assert!(at(down + 20).2.expected < 0.3, "after ten minutes: {:?}", at(down + 20));
    }
}
