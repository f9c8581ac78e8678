//! A batch sort that works only while it is told to: random words are sorted and proven, round after round.
//!
//! ```text
//!   busy   go on
//!   idle   stop where it is, in the middle of a sort
//!   quit   sort what there is to its end, prove it, say so, end
//! ```
//! Says `FILLED MIB`, `OPS ROUNDS` after each round, and at last `VERIFIED WORDS`. The proof is that of `sortgig`.

use clap::Parser;
use memvisor_bench::fingerprint::Fingerprint;
use memvisor_bench::pages::Random;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};

/// Words between two looks at what is wanted, where no comparison looks: a MiB.
const STRETCH: usize = 1 << 17;

/// Sorts random words while it is told to on standard input.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Size of the array in MiB
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    size_mib: u64,
    /// Seed of the words
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Idle,
    Busy,
    Quit,
}

/// What is wanted, and who waits for it to change.
struct Gate {
    /// Nobody need wait. Looked at by each comparison, so that it costs no more than a load.
    is_open: AtomicBool,
    order: Mutex<Order>,
    changed: Condvar,
}

impl Gate {
    fn tell(&self, order: Order) {
        *self.order.lock().expect("nobody panics with it") = order;
        self.is_open.store(order != Order::Idle, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Waits while nothing is to be done; gives what is.
    fn pass(&self) -> Order {
        let order = self.order.lock().expect("nobody panics with it");
        *self.changed.wait_while(order, |order| *order == Order::Idle).expect("nobody panics with it")
    }

    fn pass_fast(&self) {
        if !self.is_open.load(Ordering::Relaxed) {
            self.pass();
        }
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        // The listener ends with the process: its end of the pipe may stay open for ever.
        Ok(()) => std::process::exit(0),
        Err(message) => {
            eprintln!("turnsort: {message}");
            std::process::exit(1);
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let gate: &'static Gate = Box::leak(Box::new(Gate {
        is_open: AtomicBool::new(false),
        order: Mutex::new(Order::Idle),
        changed: Condvar::new(),
    }));
    let mut random = Random::new(args.seed);
    let mut words = vec![0u64; (args.size_mib as usize) << 17];
    words.iter_mut().for_each(|word| *word = random.next_word());
    say(&format!("FILLED {}", args.size_mib))?;
    std::thread::spawn(|| listen(gate));
    for round in 1u64.. {
        let is_last = gate.pass() == Order::Quit;
        sort(&mut words, gate).map_err(|wrong| format!("round {round}: {wrong}"))?;
        say(&format!("OPS {round}"))?;
        if is_last {
            return say(&format!("VERIFIED {}", words.len()));
        }
        for stretch in words.chunks_mut(STRETCH) {
            gate.pass_fast();
            stretch.iter_mut().for_each(|word| *word = random.next_word());
        }
    }
    Ok(())
}

fn sort(words: &mut [u64], gate: &Gate) -> Result<(), String> {
    let before = Fingerprint::of(words);
    words.sort_unstable_by(|one, other| {
        gate.pass_fast();
        one.cmp(other)
    });
    if let Some(at) = words.windows(2).position(|pair| pair[0] > pair[1]) {
        return Err(format!("word {} is less than the one before", at + 1));
    }
    if Fingerprint::of(words) != before {
        return Err("the words that came out are not those that went in".into());
    }
    Ok(())
}

fn listen(gate: &Gate) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.trim() {
            "busy" => gate.tell(Order::Busy),
            "idle" => gate.tell(Order::Idle),
            "quit" => gate.tell(Order::Quit),
            other => eprintln!("turnsort: cannot read {other:?}"),
        }
    }
    gate.tell(Order::Quit);
}

fn say(line: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| format!("nobody listens: {error}"))
}
