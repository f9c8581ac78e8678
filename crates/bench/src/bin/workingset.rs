//! A program whose use of memory is known: it fills a set and then uses of it what it is told on standard input.
//!
//! ```text
//!   idle                 nothing
//!   busy PERMILLE [OPS]  pages at random in the first so many thousandths; at most so many touches a second
//!   scan                 one page after the other, round and round
//!   quit                 verify every byte, say so, end
//! ```
//! Every touch verifies the page it reads; one in eight writes it, so that stores must hold what is newest. Five times a second
//! a line says how many touches there have been: `OPS TOTAL`. The last is `VERIFIED PAGES`.

use clap::Parser;
use memmap2::{Advice, MmapMut};
use memvisor_bench::pages::{self, PAGE, Random};
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Time between two lines.
const SAY: Duration = Duration::from_millis(200);
/// Touches between two looks at the clock and at what is wanted: of 5 µs each that is a millisecond.
const BURST: u64 = 200;
/// How long an idle or paced program sleeps at a time.
const REST: Duration = Duration::from_millis(5);
/// One touch in so many writes.
const WRITE_EVERY: usize = 8;
/// Where the tag of the last write lies in a page: behind that of the page, in its random half.
const WRITTEN_AT: usize = 8;

/// Fills a set of memory and uses of it what it is told on standard input.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Size of the set in MiB
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    size_mib: u64,
    /// Seed of contents and order
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy)]
enum Use {
    Idle,
    Busy { permille: u64, ops_per_s: Option<u64> },
    Scan,
    Quit,
}

impl Use {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        match words.next()? {
            "idle" => Some(Self::Idle),
            "scan" => Some(Self::Scan),
            "quit" => Some(Self::Quit),
            "busy" => {
                let permille = words.next()?.parse().ok().filter(|permille| (1..=1000).contains(permille))?;
                Some(Self::Busy { permille, ops_per_s: words.next().and_then(|word| word.parse().ok()) })
            }
            _ => None,
        }
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("workingset: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let mut set = Set::make(args)?;
    say(&format!("FILLED {}", set.written.len()))?;
    let wanted = Mutex::new(Use::Idle);
    std::thread::scope(|scope| {
        scope.spawn(|| listen(&wanted));
        let outcome = work(&mut set, &wanted);
        // The listener ends with the process: its end of the pipe may stay open for ever.
        if let Err(message) = outcome {
            eprintln!("workingset: {message}");
            std::process::exit(1);
        }
        std::process::exit(0);
    })
}

fn listen(wanted: &Mutex<Use>) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match Use::parse(&line) {
            Some(new) => *wanted.lock().expect("nobody panics with it") = new,
            None => eprintln!("workingset: cannot read {line:?}"),
        }
    }
    *wanted.lock().expect("nobody panics with it") = Use::Quit;
}

fn say(line: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| format!("nobody listens: {error}"))
}

fn work(set: &mut Set, wanted: &Mutex<Use>) -> Result<(), String> {
    let (mut total, mut said) = (0, Instant::now());
    let mut next = 0;
    let (mut began, mut paced) = (Instant::now(), 0u64);
    loop {
        let how = *wanted.lock().expect("nobody panics with it");
        let pages = set.written.len();
        match how {
            Use::Quit => break,
            Use::Idle => {
                std::thread::sleep(REST);
                (began, paced) = (Instant::now(), 0);
            }
            Use::Scan => {
                for _ in 0..BURST {
                    set.touch(next % pages)?;
                    next += 1;
                }
                total += BURST;
            }
            Use::Busy { permille, ops_per_s } => {
                let bound = (pages as u64 * permille / 1000).max(1) as usize;
                let burst = match ops_per_s {
                    None => BURST,
                    Some(ops_per_s) => {
                        let due = (began.elapsed().as_secs_f64() * ops_per_s as f64) as u64;
                        // What was missed is not made up for.
                        paced = paced.max(due.saturating_sub(BURST));
                        due.saturating_sub(paced).min(BURST)
                    }
                };
                for _ in 0..burst {
                    let index = set.random.below(bound);
                    set.touch(index)?;
                }
                total += burst;
                paced += burst;
                if burst < BURST {
                    std::thread::sleep(REST);
                }
            }
        }
        if said.elapsed() >= SAY {
            said = Instant::now();
            say(&format!("OPS {total}"))?;
        }
    }
    say(&format!("VERIFIED {}", set.verify()?))
}

/// The memory, and what was written last into each page of it.
struct Set {
    memory: MmapMut,
    seed: u64,
    written: Vec<u32>,
    random: Random,
}

impl Set {
    fn make(args: &Args) -> Result<Self, String> {
        let bytes = (args.size_mib << 20) as usize;
        let mut memory = MmapMut::map_anon(bytes).map_err(|error| format!("cannot map {bytes} bytes: {error}"))?;
        // A kernel without huge pages refuses the advice, and does what was wanted all the same.
        let _ = memory.advise(Advice::NoHugePage);
        let mut set = Self {
            seed: args.seed,
            written: vec![0; bytes / PAGE],
            random: Random::new(pages::mix(args.seed)),
            memory: MmapMut::map_anon(PAGE).map_err(|error| error.to_string())?,
        };
        for (index, page) in memory.chunks_exact_mut(PAGE).enumerate() {
            set.fill(page, index);
        }
        set.memory = memory;
        Ok(set)
    }

    /// What belongs into page `index`.
    fn fill(&self, page: &mut [u8], index: usize) {
        pages::fill(page, self.seed, index, &mut Random::new(self.seed ^ pages::mix(index as u64)));
        page[WRITTEN_AT..WRITTEN_AT + 8].copy_from_slice(&self.last_write(index).to_le_bytes());
    }

    fn last_write(&self, index: usize) -> u64 {
        pages::tag(self.seed ^ u64::from(self.written[index]) << 32, index)
    }

    fn touch(&mut self, index: usize) -> Result<(), String> {
        let start = index * PAGE + WRITTEN_AT;
        let is_true = pages::is_true(&self.memory, self.seed, index)
            && self.memory[start..start + 8] == self.last_write(index).to_le_bytes();
        if !is_true {
            return Err(format!("page {index} is not what was written"));
        }
        if self.random.below(WRITE_EVERY) == 0 {
            self.written[index] = self.written[index].wrapping_add(1);
            let last = self.last_write(index);
            self.memory[start..start + 8].copy_from_slice(&last.to_le_bytes());
        }
        Ok(())
    }

    /// Compares every byte; gives how many pages there are.
    fn verify(&self) -> Result<usize, String> {
        let mut right = vec![0; PAGE];
        for (index, page) in self.memory.chunks_exact(PAGE).enumerate() {
            self.fill(&mut right, index);
            if page != right {
                return Err(format!("at the end, page {index} is not what was written"));
            }
        }
        Ok(self.written.len())
    }
}
