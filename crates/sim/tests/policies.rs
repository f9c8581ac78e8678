//! What the replacement policies promise, on the standard traces.

use memvisor_core::replace::{Clock, Fifo, Replacement, S3Fifo};
use memvisor_sim::table::{CAPACITY, HEAD, Line, cases, line};
use memvisor_sim::trace::{self, Placement};
use memvisor_sim::{Stats, reference, replay};
use std::sync::OnceLock;

fn lines() -> &'static [Line] {
    static LINES: OnceLock<Vec<Line>> = OnceLock::new();
    LINES.get_or_init(|| {
        println!("{HEAD}");
        let of = |(name, trace): (&'static str, trace::Trace)| {
            let line = line(name, &trace);
            println!("{line}");
            line
        };
        cases().into_iter().map(of).collect()
    })
}

fn s3fifo(trace: &[u32]) -> Stats {
    replay(trace, &mut S3Fifo::new(0), CAPACITY)
}

#[test]
fn no_policy_misses_less_than_the_best_possible() {
    for line in lines() {
        for stats in [line.fifo, line.clock, line.s3fifo] {
            assert!(stats.miss_percent() >= line.belady, "{}", line.name);
        }
    }
}

#[test]
fn s3fifo_misses_no_more_than_the_clock_by_one_in_a_hundred() {
    for line in lines().iter().filter(|line| line.name.starts_with("zipf")) {
        let [s3fifo, clock] = [line.s3fifo, line.clock].map(|stats| stats.miss_percent());
        assert!(s3fifo <= clock * 1.01, "{}: {s3fifo} {clock}", line.name);
    }
}

#[test]
fn s3fifo_without_hardware_bits_is_near_lru_with_perfect_knowledge_of_use() {
    for line in lines().iter().filter(|line| line.name.starts_with("zipf")) {
        let s3fifo = line.s3fifo.miss_percent();
        assert!(s3fifo <= line.lru * 1.2, "{}: {s3fifo} {}", line.name, line.lru);
    }
}

#[test]
fn no_policy_is_much_worse_than_first_in_first_out() {
    for line in lines() {
        for stats in [line.clock, line.s3fifo] {
            // What was hot in the phase before leaves later: 7 % more where phases are short.
            let [misses, fifo] = [stats.miss_percent(), line.fifo.miss_percent()];
            assert!(misses <= fifo * 1.08, "{}: {misses} {fifo}", line.name);
        }
    }
}

#[test]
fn a_scan_does_not_throw_out_the_hot_set() {
    let dram = CAPACITY as u32;
    for (hot, scan_every) in [(dram / 2, 2), (dram / 2, 10), (dram * 4 / 5, 10)] {
        let trace = trace::scan_and_hot(hot, 16 * dram, scan_every, 400_000, 3);
        // After the first touches, the scan's own pages are all that misses.
        let warm = 100_000;
        let misses = |stats: Stats| stats.first_touches + stats.reloads;
        let late = misses(s3fifo(&trace)) - misses(s3fifo(&trace[..warm]));
        let scanned = trace[warm..].iter().filter(|&&page| page >= hot).count() as u64;
        assert!(late <= scanned + scanned / 25, "{hot} hot: {late} misses, {scanned} pages scanned");
    }
}

#[test]
fn a_new_phase_takes_the_place_of_the_old_one() {
    let dram = CAPACITY as u32;
    let trace = trace::phases(dram * 3 / 4, 6, 600_000, 4);
    let best = reference::belady(&trace, CAPACITY);
    let stats = s3fifo(&trace);
    let misses = stats.first_touches + stats.reloads;
    assert!(misses <= best + best / 2, "{misses} {best}");
}

#[test]
fn parking_catches_pages_that_are_wanted_back_at_once() {
    let trace = trace::zipf(4 * CAPACITY as u32, 0.99, Placement::Scattered, 200_000, 5);
    for policy in [&mut Fifo::new(0) as &mut dyn Replacement, &mut Clock::new(0), &mut S3Fifo::new(0)] {
        let stats = replay(&trace, policy, CAPACITY);
        assert!(stats.parked_hits * 100 > stats.reloads, "{stats:?}");
    }
}

#[test]
fn few_pages_are_judged_for_each_that_leaves() {
    for line in lines() {
        assert!(line.s3fifo.judged <= 4 * line.s3fifo.evictions, "{}: {:?}", line.name, line.s3fifo);
    }
}
