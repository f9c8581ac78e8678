//! Prints what a live curve says of each standard trace beside the truth: misses in a hundred touches, first touches
//! apart, at five sizes of DRAM.

use memvisor_sim::table::{CAPACITY, cases};
use memvisor_sim::trace::Trace;
use memvisor_sim::watched::{Compared, Outcome, Sight, compare};

/// How often the program touches another page: the sight of a pager gets worse as it does so more often.
const SIGHTS: [(&str, Sight); 4] = [
    ("every touch is seen", Sight::Everything),
    ("faults, a touch in 4 ms", Sight::Faults { touch_ns: 4_000_000 }),
    ("faults, a touch in 400 µs", Sight::Faults { touch_ns: 400_000 }),
    ("faults, a touch in 40 µs", Sight::Faults { touch_ns: 40_000 }),
];

fn main() {
    let cases = cases();
    for (name, sight) in SIGHTS {
        println!(
            "{name}; {CAPACITY} pages of DRAM; truth/estimate, ~ without an upper bound, ! where the truth is outside"
        );
        println!(
            "{:30} {:>13} {:>13} {:>13} {:>13} {:>13} │ error unseen watched rechecks misses",
            "", "25 %", "50 %", "75 %", "100 %", "150 %"
        );
        let outcomes: Vec<Outcome> = cases.iter().map(|case| show(case, sight)).collect();
        let resolved: Vec<f64> = outcomes.iter().filter_map(Outcome::error).collect();
        let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len().max(1) as f64;
        let of_all: Vec<f64> = outcomes.iter().map(Outcome::error_of_all).collect();
        let outside: usize = outcomes.iter().map(Outcome::outside).sum();
        println!(
            "mean absolute error {:.4} where there is an upper bound ({} traces), {:.4} of all; {outside} of {} outside\n",
            mean(&resolved),
            resolved.len(),
            mean(&of_all),
            5 * outcomes.len()
        );
    }
}

fn show((name, trace): &(&'static str, Trace), sight: Sight) -> Outcome {
    let outcome = compare(trace, CAPACITY, sight);
    print!("{name:30}");
    outcome.rungs.iter().for_each(|compared| print!(" {:>13}", cell(&outcome, compared)));
    let recorded = &outcome.recorded;
    println!(
        " │ {:5.3} {:6} {:7} {:8} {:6.2}",
        outcome.error_of_all(),
        outcome.resolved_pages,
        recorded.watched_pages(),
        recorded.rechecks(),
        outcome.stats.miss_percent()
    );
    outcome
}

fn cell(outcome: &Outcome, compared: &Compared) -> String {
    let percent = |faults: f64| faults * 100.0 / outcome.touches;
    let faults = compared.rung.faults;
    let floor = if faults.high.is_finite() { "" } else { "~" };
    let mark = if outcome.is_outside(compared) { "!" } else { "" };
    format!("{:.1}/{floor}{:.1}{mark}", percent(compared.truth), percent(faults.expected))
}
