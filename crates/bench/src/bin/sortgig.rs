//! Sorts random words and proves that what comes out is what went in, in order.
//!
//! The proof: each word is not less than the one before, and sum and product over a prime field of all words are the
//! same before and after. The last line on standard output is one JSON object.

use clap::Parser;
use memvisor_bench::fingerprint::Fingerprint;
use memvisor_bench::pages::Random;
use memvisor_bench::phase::measured;
use serde_json::json;
use std::process::ExitCode;
use std::time::Instant;

/// Sorts random words and checks order and contents.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Size of the array in MiB
    #[arg(default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    size_mib: u64,
    /// How often to fill and sort it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seed of the words
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("sortgig: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let mut words = vec![0u64; (args.size_mib as usize) << 17];
    let mut random = Random::new(args.seed);
    let mut seconds = 0.0;
    for round in 0..args.rounds {
        words.iter_mut().for_each(|word| *word = random.next_word());
        let before = Fingerprint::of(&words);
        seconds += measured("sort", || {
            let start = Instant::now();
            words.sort_unstable();
            start.elapsed().as_secs_f64()
        })
        .map_err(|error| error.to_string())?;
        if let Some(at) = words.windows(2).position(|pair| pair[0] > pair[1]) {
            return Err(format!("round {round}: word {} is less than the one before", at + 1));
        }
        if Fingerprint::of(&words) != before {
            return Err(format!("round {round}: the words that came out are not those that went in"));
        }
    }
    let sorted = u64::from(args.rounds) * words.len() as u64;
    println!("{}", json!({ "seconds": seconds, "words": sorted, "words_per_s": sorted as f64 / seconds }));
    Ok(())
}
