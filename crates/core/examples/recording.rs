//! Prints what it costs to record: nanoseconds for each use of a page that is watched and of one that is not, and for each
//! look at an unseen page.

use memvisor_core::PageIndex;
use memvisor_core::curve::{CURVE_WORDS, CurveWords, Recorder, Use};
use memvisor_core::sample::{Event, SAMPLE_WORDS, SampleWords, Sampler};
use memvisor_core::sync::AtomicU64;
use std::hint::black_box;
use std::time::Instant;

/// Of 1 GiB.
const PAGES: u32 = 1 << 18;

fn main() {
    let words: Vec<AtomicU64> = (0..CURVE_WORDS).map(|_| AtomicU64::new(0)).collect();
    let words = CurveWords(&words);
    let mut recorder = Recorder::new();
    let start = Instant::now();
    (0..PAGES).for_each(|page| _ = recorder.used(PageIndex(page), Use::First, 0, words));
    println!("first uses of {PAGES} pages, the sample narrowing: {:6.1} ns each", each(start, u64::from(PAGES)));

    let (watched, others): (Vec<_>, Vec<_>) = (0..PAGES).map(PageIndex).partition(|&page| recorder.watches(page));
    println!("watched of them: {}", watched.len());
    println!("use and hiding of a page that is not watched:     {:6.1} ns", both(&mut recorder, &others, 20, words));
    println!("use and hiding of a page that is watched:         {:6.1} ns", both(&mut recorder, &watched, 4000, words));

    watched.iter().for_each(|&page| _ = recorder.used(page, Use::Back, 0, words));
    let start = Instant::now();
    let mut hidden = 0;
    for tick in 0..100_000u64 {
        let now_ns = tick * 10_000_000;
        if let Some(page) = recorder.next_to_hide(now_ns, words) {
            recorder.hidden(page, now_ns, words);
            recorder.used(page, Use::Back, now_ns, words);
            hidden += 1;
        }
    }
    println!("look for a page to hide, hiding and use:          {:6.1} ns ({hidden} hidden)", each(start, 100_000));
    touches(&others);
}

/// Nanoseconds for one use and one hiding.
fn both(recorder: &mut Recorder, pages: &[PageIndex], rounds: u64, words: CurveWords<'_>) -> f64 {
    let start = Instant::now();
    for round in 0..rounds {
        for &page in pages {
            black_box(recorder.used(black_box(page), Use::Back, round, words));
            recorder.hidden(black_box(page), round, words);
        }
    }
    each(start, rounds * pages.len() as u64)
}

/// The sampler of activity hears of every fault as well.
fn touches(pages: &[PageIndex]) {
    let words: Vec<AtomicU64> = (0..SAMPLE_WORDS).map(|_| AtomicU64::new(0)).collect();
    let words = SampleWords(&words);
    let mut sampler = Sampler::new(100, 1);
    sampler.heard(Event::PeriodBegan, words);
    (0..100).for_each(|page| sampler.heard(Event::Parked(PageIndex(page * 977)), words));
    let start = Instant::now();
    for _ in 0..20 {
        pages.iter().for_each(|&page| sampler.heard(black_box(Event::Touched(page)), words));
    }
    println!("touch of a page, 100 of them being sampled:       {:6.1} ns", each(start, 20 * pages.len() as u64));
}

fn each(start: Instant, count: u64) -> f64 {
    start.elapsed().as_nanos() as f64 / count as f64
}
