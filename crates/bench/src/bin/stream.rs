//! Streams through three arrays: copy, scale, add and triad over more memory than any cache holds.
//!
//! After the given rounds every element is compared with what arithmetic says it must be. The last line on standard output is one JSON
//! object.

use clap::Parser;
use memmap2::{Advice, MmapMut};
use memvisor_bench::phase::measured;
use serde_json::json;
use std::process::ExitCode;
use std::time::Instant;

/// Streams through three arrays and checks every element at the end.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Size of the three arrays together, in MiB
    #[arg(default_value_t = 384, value_parser = clap::value_parser!(u64).range(3..))]
    size_mib: u64,
    /// Rounds of copy, scale, add and triad
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Ask for huge pages
    #[arg(long)]
    huge: bool,
}

/// The factor of scale and triad: small, so that numbers stay exact in a word.
const FACTOR: u64 = 3;

/// An array of words in memory of its own.
struct Array(MmapMut);

impl Array {
    fn new(words: usize, huge: bool) -> Result<Self, String> {
        let map = MmapMut::map_anon(words * 8).map_err(|error| format!("cannot map {words} words: {error}"))?;
        // A kernel without huge pages refuses the advice, which changes speed and nothing else.
        let _ = if huge { map.advise(Advice::HugePage) } else { Ok(()) };
        Ok(Self(map))
    }

    fn words(&self) -> &[[u8; 8]] {
        self.0.as_chunks().0
    }

    fn words_mut(&mut self) -> &mut [[u8; 8]] {
        self.0.as_chunks_mut().0
    }

    fn set(&mut self, value: impl Fn(u64) -> u64) {
        for (at, word) in self.words_mut().iter_mut().enumerate() {
            *word = value(at as u64).to_ne_bytes();
        }
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("stream: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let words = ((args.size_mib as usize) << 20) / 3 / 4096 * 512;
    let mut a = Array::new(words, args.huge)?;
    let mut b = Array::new(words, args.huge)?;
    let mut c = Array::new(words, args.huge)?;
    a.set(|at| at);
    b.set(|_| 2);
    c.set(|_| 0);
    let seconds = measured("stream", || {
        let start = Instant::now();
        for _ in 0..args.rounds {
            each(&mut c, &a, &b, |a, _| a);
            each(&mut b, &c, &a, |c, _| c.wrapping_mul(FACTOR));
            each(&mut c, &a, &b, u64::wrapping_add);
            each(&mut a, &b, &c, |b, c| b.wrapping_add(c.wrapping_mul(FACTOR)));
        }
        start.elapsed().as_secs_f64()
    })
    .map_err(|error| error.to_string())?;
    check(args.rounds, [a.words(), b.words(), c.words()])?;
    // Copy and scale move two words an element, add and triad three.
    let bytes = 10.0 * 8.0 * words as f64 * f64::from(args.rounds);
    println!(
        "{}",
        json!({ "seconds": seconds, "gb_per_s": bytes / 1e9 / seconds, "rounds": args.rounds, "words": words })
    );
    Ok(())
}

/// Sets each element of `to` from those of `left` and `right` at the same place.
fn each(to: &mut Array, left: &Array, right: &Array, value: impl Fn(u64, u64) -> u64) {
    for ((to, left), right) in to.words_mut().iter_mut().zip(left.words()).zip(right.words()) {
        *to = value(u64::from_ne_bytes(*left), u64::from_ne_bytes(*right)).to_ne_bytes();
    }
}

/// Computes each element anew by itself and compares.
fn check(rounds: u32, arrays: [&[[u8; 8]]; 3]) -> Result<(), String> {
    let [a, b, c] = arrays;
    // All four steps are multiples of the element of `a`, so one factor for each array is enough.
    let (mut of_a, mut of_b, mut of_c) = (1u64, 0u64, 0u64);
    for _ in 0..rounds {
        of_b = of_a.wrapping_mul(FACTOR);
        of_c = of_a.wrapping_add(of_b);
        of_a = of_b.wrapping_add(of_c.wrapping_mul(FACTOR));
    }
    for (name, array, factor) in [("a", a, of_a), ("b", b, of_b), ("c", c, of_c)] {
        for (at, word) in array.iter().enumerate() {
            if u64::from_ne_bytes(*word) != (at as u64).wrapping_mul(factor) {
                return Err(format!("element {at} of array {name} is not what was computed into it"));
            }
        }
    }
    Ok(())
}
