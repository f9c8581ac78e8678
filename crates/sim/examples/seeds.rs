//! A scenario under many seeds: what each expectation came to, least, median and most, and how often it did not hold.
//!
//! `cargo run --release -p memvisor-sim --example seeds -- crates/sim/scenarios/dynamic.toml 100`

use memvisor_policy::plan;
use memvisor_sim::scenario::Scenario;
use memvisor_sim::world;

/// The first seed beside a scenario's own.
const FIRST: u64 = 1001;

fn main() {
    let mut words = std::env::args().skip(1);
    let (Some(path), Some(count)) = (words.next(), words.next().and_then(|count| count.parse::<u64>().ok())) else {
        eprintln!("seeds SCENARIO.toml COUNT");
        std::process::exit(2);
    };
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let scenario = Scenario::parse(&text).unwrap_or_else(|refusal| panic!("{path}: {refusal}"));
    let seeds: Vec<u64> = std::iter::once(scenario.seed).chain(FIRST..FIRST + count.saturating_sub(1)).collect();
    let runs: Vec<_> = seeds
        .iter()
        .map(|&seed| {
            let scenario = Scenario { seed, ..scenario.clone() };
            scenario.judge(&world::live(&scenario, &mut plan))
        })
        .collect();
    for (at, first) in runs[0].iter().enumerate() {
        let mut figures: Vec<f64> = runs.iter().map(|run| run[at].figure.unwrap_or(f64::INFINITY)).collect();
        figures.sort_by(f64::total_cmp);
        let broken: Vec<u64> =
            seeds.iter().zip(&runs).filter(|(_, run)| !run[at].holds).map(|(seed, _)| *seed).collect();
        println!(
            "{:>8.3} {:>8.3} {:>8.3}  {:>3} of {} broken  {}{}",
            figures[0],
            figures[figures.len() / 2],
            figures[figures.len() - 1],
            broken.len(),
            seeds.len(),
            first.text.split(": ").next().unwrap_or_default(),
            broken.first().map_or_else(String::new, |seed| format!("  (seed {seed})")),
        );
    }
}
