//! Touches pages of a set in a chosen order and verifies each page that it touches.
//!
//! The set is filled first and only then is touching measured. The last line on standard output is one JSON object.

use clap::{Parser, ValueEnum};
use memmap2::{Advice, MmapMut};
use memvisor_bench::own::Counters;
use memvisor_bench::pages::{self, PAGE, Random};
use memvisor_bench::phase::measured;
use serde_json::json;
use std::process::ExitCode;
use std::time::Instant;

/// Touches pages of a set in a chosen order and verifies each of them.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Order of the touches
    mode: Mode,
    /// Size of the whole set in MiB
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    size_mib: u64,
    /// Touches to measure, over all threads
    #[arg(long, default_value_t = 400_000)]
    ops: u64,
    /// Threads that touch at once, each in a part of the set of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Of a hundred touches, how many also write the page
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    write_percent: u8,
    /// Distance of neighbouring touches in pages, for `stride`
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    stride: u32,
    /// Touches in one quarter of the set before going on to the next, for `phase`
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    phase_ops: u64,
    /// Huge pages: leave the kernel's setting, refuse them, or ask for them
    #[arg(long, value_enum, default_value_t = HugePages::Refuse)]
    huge: HugePages,
    /// Seed of contents and order
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Skip the check of all pages after the measured phase
    #[arg(long)]
    no_final_check: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// Each touch in a page drawn at random
    Random,
    /// One page after the other, again from the start
    Seq,
    /// Every n-th page, then the same from the next page on
    Stride,
    /// Random within a quarter of the set, then the next quarter, round and round
    Phase,
    /// First touch of fresh memory, which is mapped, filled with its tags and unmapped as often as it takes
    First,
}

#[derive(Clone, Copy, ValueEnum)]
enum HugePages {
    Default,
    Refuse,
    Ask,
}

/// A page that did not hold what was written into it.
struct Wrong {
    index: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.mode {
        Mode::First => first(&args),
        Mode::Random | Mode::Seq | Mode::Stride | Mode::Phase => filled(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("touch: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Fills the set, then measures touches in it.
fn filled(args: &Args) -> Result<(), String> {
    let threads = usize::from(args.threads);
    let part_pages = mib_to_pages(args.size_mib) / threads;
    if part_pages < 4 {
        return Err("the set is too small for so many threads: at least four pages each".into());
    }
    let mut set = map(part_pages * threads * PAGE, args.huge)?;
    let mut random = Random::new(args.seed);
    for (index, page) in set.chunks_exact_mut(PAGE).enumerate() {
        // Tags count within the part of one thread.
        pages::fill(page, args.seed, index % part_pages, &mut random);
    }

    let before = Counters::read();
    let ops_each = args.ops / u64::from(args.threads);
    let (seconds, outcomes) = measured("touch", || {
        let start = Instant::now();
        let outcomes = std::thread::scope(|scope| {
            let running: Vec<_> = set
                .chunks_exact_mut(part_pages * PAGE)
                .enumerate()
                .map(|(thread, part)| scope.spawn(move || touch(args, part, ops_each, thread as u64)))
                .collect();
            running.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        (start.elapsed().as_secs_f64(), outcomes)
    })
    .map_err(|error| error.to_string())?;
    let after = Counters::read();

    for outcome in outcomes {
        outcome
            .map_err(|_| "a thread died")?
            .map_err(|wrong| format!("page {} is not what was written", wrong.index))?;
    }
    if !args.no_final_check {
        check_all(&set, args.seed, part_pages)?;
    }
    report(ops_each * u64::from(args.threads), seconds, before, after);
    Ok(())
}

/// One thread's touches in its part of the set.
fn touch(args: &Args, part: &mut [u8], ops: u64, thread: u64) -> Result<(), Wrong> {
    let pages = part.len() / PAGE;
    let quarter = pages / 4;
    let stride = args.stride as usize;
    let mut random = Random::new(args.seed ^ pages::mix(thread + 1));
    let mut next = 0;
    let mut lane = 0;
    for op in 0..ops {
        let index = match args.mode {
            Mode::Random | Mode::First => random.below(pages),
            Mode::Seq => op as usize % pages,
            Mode::Phase => (op / args.phase_ops) as usize % 4 * quarter + random.below(quarter),
            Mode::Stride => {
                let index = next;
                next += stride;
                if next >= pages {
                    lane = (lane + 1) % stride.min(pages);
                    next = lane;
                }
                index
            }
        };
        if !pages::is_true(part, args.seed, index) {
            return Err(Wrong { index });
        }
        if args.write_percent > 0 && random.below(100) < usize::from(args.write_percent) {
            // A word behind the tag: the page becomes dirty, the tag stays true.
            part[index * PAGE + 8..][..8].copy_from_slice(&op.to_le_bytes());
        }
    }
    Ok(())
}

/// Maps, touches and unmaps fresh memory until all touches are done.
fn first(args: &Args) -> Result<(), String> {
    let pages = mib_to_pages(args.size_mib);
    let rounds = args.ops.div_ceil(pages as u64).max(1);
    let before = Counters::read();
    let (seconds, outcome) = measured("touch", || {
        let mut seconds = 0.0;
        for round in 0..rounds {
            let mut set = match map(pages * PAGE, args.huge) {
                Ok(set) => set,
                Err(message) => return (seconds, Err(message)),
            };
            let start = Instant::now();
            for index in 0..pages {
                set[index * PAGE..][..8].copy_from_slice(&pages::tag(round, index).to_le_bytes());
            }
            seconds += start.elapsed().as_secs_f64();
            if let Err(message) = check_all(&set, round, pages) {
                return (seconds, Err(message));
            }
        }
        (seconds, Ok(()))
    })
    .map_err(|error| error.to_string())?;
    outcome?;
    report(rounds * pages as u64, seconds, before, Counters::read());
    Ok(())
}

fn mib_to_pages(mib: u64) -> usize {
    (mib as usize) << 20 >> PAGE.trailing_zeros()
}

fn map(bytes: usize, huge: HugePages) -> Result<MmapMut, String> {
    let set = MmapMut::map_anon(bytes).map_err(|error| format!("cannot map {bytes} bytes: {error}"))?;
    // A kernel without huge pages refuses the advice, and does what was wanted all the same.
    let _ = match huge {
        HugePages::Default => Ok(()),
        HugePages::Refuse => set.advise(Advice::NoHugePage),
        HugePages::Ask => set.advise(Advice::HugePage),
    };
    Ok(set)
}

fn check_all(set: &[u8], seed: u64, part_pages: usize) -> Result<(), String> {
    for (thread, part) in set.chunks_exact(part_pages * PAGE).enumerate() {
        if let Some(index) = (0..part_pages).find(|&index| !pages::is_true(part, seed, index)) {
            return Err(format!("at the end, page {} is not what was written", thread * part_pages + index));
        }
    }
    Ok(())
}

fn report(ops: u64, seconds: f64, before: Counters, after: Counters) {
    println!(
        "{}",
        json!({
            "us_per_op": seconds * 1e6 / ops as f64,
            "ops": ops,
            "majflt": after.faults_major - before.faults_major,
            "minflt": after.faults_minor - before.faults_minor,
            "seconds": seconds,
        })
    );
}
