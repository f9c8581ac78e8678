//! What a size of DRAM costs a pattern of touches: measured once, with the replacement of production, on a small working
//! set; a space of any size is then read off.
//!
//! Sizes are parts of the working set. Where all of it is in DRAM nothing is missed, whatever staging takes: what is staged
//! is charged as what is resident, and the pager's own reserve is counted in the budget.

use crate::scenario::Pattern;
use crate::trace::{self, Placement, Trace};
use crate::{Stats, replay};
use memvisor_core::replace::S3Fifo;

/// Pages of the small working set: the least at which a sixteenth is still a staging area and some pages more.
const PAGES: u32 = 2048;
/// Touches for each page, half of them to warm up: with twice as many no figure of zipf moves by more than 0.005.
const TOUCHES: usize = 32;
/// Sizes that are measured.
const SIZES: usize = 16;
/// Ranks of a skewed pattern, each twice as many pages as the one before.
const CLASSES: u32 = 11;
/// Any: the working set is small enough that another gives the same to three digits.
const SEED: u64 = 1;

/// What a touch misses at each size.
#[derive(Clone, PartialEq, Debug)]
pub struct Misses {
    /// At (i + 1) / 16 of the working set.
    at_size: [Missed; SIZES],
    /// Parts of the pages and how often one of them is touched, where 1 is the mean.
    classes: Vec<(f64, f64)>,
    in_turn: bool,
}

/// Of each touch.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Missed {
    /// The part that loads a page.
    pub loads: f64,
    /// The part that finds it parked.
    pub unparks: f64,
}

impl Misses {
    /// What `pattern` misses.
    pub fn of(pattern: Pattern) -> Self {
        let touches = TOUCHES * PAGES as usize;
        let trace: Trace = match pattern {
            Pattern::Uniform => trace::uniform(PAGES, touches, SEED),
            Pattern::Zipf(skew) => trace::zipf(PAGES, skew, Placement::Scattered, touches, SEED),
            Pattern::Scan => trace::round(PAGES, touches),
        };
        let mut at_size: [Missed; SIZES] =
            std::array::from_fn(|at| measured(&trace, (at + 1) * PAGES as usize / SIZES));
        at_size[SIZES - 1] = Missed::default();
        Self { at_size, classes: classes(pattern), in_turn: pattern == Pattern::Scan }
    }

    /// What is missed with `part` of the working set in DRAM.
    pub fn at(&self, part: f64) -> Missed {
        let all = Missed { loads: 1.0, unparks: 0.0 };
        let place = (part.clamp(0.0, 1.0) * SIZES as f64).min(SIZES as f64);
        let below = place as usize;
        let of = |at: usize| if at == 0 { all } else { self.at_size[at - 1] };
        let (low, high, way) = (of(below), of((below + 1).min(SIZES)), place - below as f64);
        Missed {
            loads: low.loads + (high.loads - low.loads) * way,
            unparks: low.unparks + (high.unparks - low.unparks) * way,
        }
    }

    /// The part of the working set that is touched at all when each page of it is touched `times` on average.
    pub fn reached(&self, times: f64) -> f64 {
        if self.in_turn {
            return times.min(1.0);
        }
        self.classes.iter().map(|(part, often)| part * (1.0 - libm::exp(-times * often))).sum()
    }
}

/// What the second half of a trace misses.
fn measured(trace: &[u32], capacity: usize) -> Missed {
    let of = |trace: &[u32]| replay(trace, &mut S3Fifo::new(0), capacity);
    let (all, warm): (Stats, Stats) = (of(trace), of(&trace[..trace.len() / 2]));
    let part = |all: u64, warm: u64| (all - warm) as f64 / (trace.len() - trace.len() / 2) as f64;
    Missed {
        loads: part(all.reloads + all.first_touches, warm.reloads + warm.first_touches),
        unparks: part(all.parked_hits, warm.parked_hits),
    }
}

fn classes(pattern: Pattern) -> Vec<(f64, f64)> {
    let Pattern::Zipf(skew) = pattern else { return vec![(1.0, 1.0)] };
    let weight = |ranks: std::ops::Range<u32>| -> f64 { ranks.map(|rank| libm::pow(f64::from(rank), -skew)).sum() };
    let all = weight(1..PAGES + 1);
    (0..CLASSES)
        .map(|class| {
            let ranks = 1 << class..2 << class;
            let part = f64::from(1 << class) / f64::from(PAGES - 1);
            (part, weight(ranks) / all / part)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_dram_never_misses_more_and_all_of_it_misses_nothing() {
        for pattern in [Pattern::Uniform, Pattern::Zipf(0.99)] {
            let misses = Misses::of(pattern);
            let loads: Vec<f64> = (0..=100).map(|at| misses.at(f64::from(at) / 100.0).loads).collect();
            // Replacement is not exact: a little more may miss a little more.
            assert!(loads.windows(2).all(|pair| pair[1] <= pair[0] + 0.01), "{pattern:?} {loads:?}");
            assert_eq!((loads[0], loads[100]), (1.0, 0.0));
        }
    }

    #[test]
    fn a_scan_misses_nearly_all_until_nearly_all_of_it_fits() {
        // Not in order: with 13 sixteenths a loop misses half, with 15 nine in ten. That is what the replacement does.
        let misses = Misses::of(Pattern::Scan);
        let loads: Vec<f64> = (1..SIZES).map(|at| misses.at(at as f64 / SIZES as f64).loads).collect();
        assert!(loads[..8].iter().all(|loads| *loads > 0.9) && loads.iter().all(|loads| *loads > 0.4), "{loads:?}");
        assert_eq!((misses.at(0.0).loads, misses.at(1.0).loads), (1.0, 0.0));
    }

    #[test]
    fn half_the_dram_misses_half_of_uniform_touches_much_less_of_skewed_ones_and_more_of_a_scan() {
        let at_half = |pattern| Misses::of(pattern).at(0.5).loads;
        assert!((0.45..0.55).contains(&at_half(Pattern::Uniform)), "{}", at_half(Pattern::Uniform));
        assert!(at_half(Pattern::Zipf(0.99)) < 0.2, "{}", at_half(Pattern::Zipf(0.99)));
        assert!(at_half(Pattern::Scan) > 0.45, "{}", at_half(Pattern::Scan));
    }

    #[test]
    fn a_page_that_is_touched_often_on_average_is_reached_and_a_skewed_one_later() {
        let (uniform, zipf) = (Misses::of(Pattern::Uniform), Misses::of(Pattern::Zipf(0.99)));
        assert!((uniform.reached(1.0) - 0.632).abs() < 0.001 && uniform.reached(30.0) > 0.999);
        assert!(zipf.reached(1.0) < 0.5 && zipf.reached(100.0) > 0.99, "{}", zipf.reached(1.0));
        assert_eq!(zipf.reached(0.0), 0.0);
        assert_eq!(Misses::of(Pattern::Scan).reached(0.25), 0.25);
    }
}
