//! Sorts random words and proves that what comes out is what went in, in order.
//!
//! The proof: each word is not less than the one before, and sum and product over a prime field of all words are the
//! same before and after. The last line on standard output is one JSON object.

use clap::Parser;
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

/// A prime just below 2⁶¹, so that a product of two numbers below it fits into 128 bits with room to spare.
const PRIME: u128 = (1 << 61) - 1;

/// What a set of words is known by, in whatever order they come.
#[derive(Debug, PartialEq, Eq)]
struct Fingerprint {
    sum: u64,
    product: u128,
}

impl Fingerprint {
    fn of(words: &[u64]) -> Self {
        let sum = words.iter().fold(0u64, |sum, &word| sum.wrapping_add(word));
        // Shifted by a constant, so that a zero among the words does not hide all others.
        let product = words
            .iter()
            .fold(1u128, |product, &word| product * ((u128::from(word) + 0x9e37_79b9) % PRIME).max(1) % PRIME);
        Self { sum, product }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_knows_words_in_any_order_and_no_others() {
        let known = Fingerprint::of(&[0, 1, 2, u64::MAX]);
        assert_eq!(Fingerprint::of(&[u64::MAX, 2, 1, 0]), known);
        assert_ne!(Fingerprint::of(&[0, 1, 3, u64::MAX - 1]), known, "the same sum");
        assert_ne!(Fingerprint::of(&[0, 0, 0, 0]), known);
    }
}
