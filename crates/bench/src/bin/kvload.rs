//! Loads a Redis server, draws from it and verifies every value that comes back.
//!
//! Phases run in their order: `load` stores every key once, `run:DISTRIBUTION:AMOUNT[:SETS]` draws keys for so many
//! operations (`100000`) or seconds (`5s`), of which SETS in a hundred write, and `verify` reads every key. Each phase is bracketed
//! for the harness; the last line on standard output is one JSON object.

use clap::Parser;
use memvisor_bench::kv::keys::{Distribution, Keys};
use memvisor_bench::kv::latency::Latencies;
use memvisor_bench::kv::resp::{Answer, Connection};
use memvisor_bench::kv::values;
use memvisor_bench::pages::Random;
use memvisor_bench::phase::measured;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Loads a Redis server, draws from it and verifies every value that comes back.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Unix socket, or host:port
    #[arg(long)]
    server: String,
    /// Number of keys
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    keys: u64,
    /// Bytes of a value: one half random, the other blanks
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(values::LENGTH_MIN as i64..=1 << 26))]
    value: u32,
    /// Commands under way at once while drawing
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pipeline: u16,
    /// Seed of the draws
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Accept any version of a value: for a server that another kvload has written to
    #[arg(long)]
    any_version: bool,
    /// Phases: load, run:DISTRIBUTION:AMOUNT, run:DISTRIBUTION:AMOUNT:SETS, verify
    #[arg(required = true)]
    phases: Vec<Phase>,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Load,
    Run { distribution: Distribution, amount: Amount, sets_percent: u8 },
    Verify,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    Operations(u64),
    Time(Duration),
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split(':').collect::<Vec<_>>()[..] {
            ["load"] => Ok(Self::Load),
            ["verify"] => Ok(Self::Verify),
            ["run", distribution, amount] => {
                Ok(Self::Run { distribution: distribution.parse()?, amount: amount.parse()?, sets_percent: 0 })
            }
            ["run", distribution, amount, sets] => {
                let sets_percent =
                    sets.parse().ok().filter(|percent| *percent <= 100).ok_or("SETS is a number from 0 to 100")?;
                Ok(Self::Run { distribution: distribution.parse()?, amount: amount.parse()?, sets_percent })
            }
            _ => Err("a phase is load, verify or run:DISTRIBUTION:AMOUNT[:SETS], as in run:zipf:5s:10".into()),
        }
    }
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither a number of operations nor of seconds, as in 5s");
        match text.strip_suffix('s') {
            Some(seconds) => {
                let seconds: f64 = seconds.parse().map_err(|_| wrong())?;
                Duration::try_from_secs_f64(seconds).map(Self::Time).map_err(|_| wrong())
            }
            None => text.parse().map(Self::Operations).map_err(|_| wrong()),
        }
    }
}

/// Commands under way at once while loading and verifying, where latency does not matter.
const BULK: usize = 64;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("kvload: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let connection =
        Connection::open(&args.server).map_err(|error| format!("cannot connect to {}: {error}", args.server))?;
    let mut client = Client {
        connection,
        length: args.value as usize,
        versions: vec![0; args.keys as usize],
        any_version: args.any_version,
        value: Vec::new(),
        scratch: Vec::new(),
        checked: 0,
    };
    let mut done = Vec::new();
    for phase in &args.phases {
        let (name, outcome) = match phase {
            Phase::Load => ("load", measured("load", || client.all(Deed::Set))),
            Phase::Verify => ("verify", measured("verify", || client.all(Deed::Get))),
            Phase::Run { distribution, amount, sets_percent } => {
                let name = match distribution {
                    Distribution::Uniform => "uniform",
                    Distribution::Zipf => "zipf",
                    Distribution::Gauss => "gauss",
                };
                let mut keys = Keys::new(*distribution, args.keys, args.seed);
                let batch = usize::from(args.pipeline);
                (name, measured(name, || client.draw(&mut keys, *amount, *sets_percent, batch)))
            }
        };
        done.push(outcome.map_err(|error| error.to_string())??.said(name));
    }
    println!("{}", json!({ "phases": done, "values_checked": client.checked, "values_wrong": 0 }));
    Ok(())
}

/// What a phase gave.
#[derive(Default)]
struct Counted {
    operations: u64,
    seconds: f64,
    latencies: Latencies,
}

impl Counted {
    fn said(&self, name: &str) -> Value {
        json!({
            "name": name,
            "ops": self.operations,
            "seconds": self.seconds,
            "us_per_op": self.seconds * 1e6 / self.operations.max(1) as f64,
            "p50_us": self.latencies.quantile_us(0.5),
            "p99_us": self.latencies.quantile_us(0.99),
            "max_us": self.latencies.max_us(),
        })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Deed {
    Get,
    Set,
}

struct Client {
    connection: Connection,
    length: usize,
    /// The version that each key has in the server.
    versions: Vec<u32>,
    any_version: bool,
    value: Vec<u8>,
    scratch: Vec<u8>,
    checked: u64,
}

impl Client {
    /// One deed on every key.
    fn all(&mut self, deed: Deed) -> Result<Counted, String> {
        let mut counted = Counted::default();
        let start = Instant::now();
        let keys: Vec<u64> = (0..self.versions.len() as u64).collect();
        for batch in keys.chunks(BULK) {
            let deeds: Vec<(u64, Deed)> = batch.iter().map(|&key| (key, deed)).collect();
            self.batch(&deeds, &mut counted)?;
        }
        counted.seconds = start.elapsed().as_secs_f64();
        Ok(counted)
    }

    /// Deeds on drawn keys.
    fn draw(&mut self, keys: &mut Keys, amount: Amount, sets_percent: u8, batch: usize) -> Result<Counted, String> {
        let mut counted = Counted::default();
        let mut dice = Random::new(0x5e75);
        let mut deeds = Vec::with_capacity(batch);
        let start = Instant::now();
        loop {
            let over = match amount {
                Amount::Operations(operations) => counted.operations >= operations,
                Amount::Time(time) => start.elapsed() >= time,
            };
            if over {
                counted.seconds = start.elapsed().as_secs_f64();
                return Ok(counted);
            }
            deeds.clear();
            deeds.extend((0..batch).map(|_| {
                let deed =
                    if sets_percent > 0 && dice.below(100) < usize::from(sets_percent) { Deed::Set } else { Deed::Get };
                (keys.draw(), deed)
            }));
            self.batch(&deeds, &mut counted)?;
        }
    }

    /// Sends all deeds, then reads and verifies all answers.
    fn batch(&mut self, deeds: &[(u64, Deed)], counted: &mut Counted) -> Result<(), String> {
        let gone = |error: std::io::Error| format!("the server: {error}");
        let start = Instant::now();
        // What each GET has to find depends on the SETs before it, also on those of this batch.
        let mut expected = Vec::with_capacity(deeds.len());
        for &(key, deed) in deeds {
            let name = format!("key:{key:012}");
            match deed {
                Deed::Get => self.connection.send(&[b"GET", name.as_bytes()]).map_err(gone)?,
                Deed::Set => {
                    self.versions[key as usize] += 1;
                    self.scratch.resize(self.length, 0);
                    values::write(&mut self.scratch, key, u64::from(self.versions[key as usize]));
                    self.connection.send(&[b"SET", name.as_bytes(), &self.scratch]).map_err(gone)?;
                }
            }
            expected.push((!self.any_version).then(|| u64::from(self.versions[key as usize])));
        }
        self.connection.flush().map_err(gone)?;
        for (&(key, deed), version) in deeds.iter().zip(expected) {
            let answer = self.connection.receive(&mut self.value).map_err(gone)?;
            counted.latencies.record(start.elapsed().as_nanos() as u64);
            match (deed, answer) {
                (Deed::Set, Answer::Done) => {}
                (Deed::Get, Answer::Value) => {
                    self.checked += 1;
                    values::check(&self.value, self.length, key, version, &mut self.scratch)
                        .map_err(|wrong| format!("WRONG VALUE: key {key} at version {version:?}: {wrong:?}"))?;
                }
                (_, answer) => return Err(format!("WRONG ANSWER: key {key}: {answer:?}")),
            }
        }
        counted.operations += deeds.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_understood_and_what_is_none_is_answered_with_an_example() {
        assert_eq!("load".parse(), Ok(Phase::Load));
        let run = Phase::Run {
            distribution: Distribution::Zipf,
            amount: Amount::Time(Duration::from_millis(1500)),
            sets_percent: 10,
        };
        assert_eq!("run:zipf:1.5s:10".parse(), Ok(run));
        let run = Phase::Run { distribution: Distribution::Uniform, amount: Amount::Operations(1000), sets_percent: 0 };
        assert_eq!("run:uniform:1000".parse(), Ok(run));
        for wrong in ["walk", "run", "run:zipf", "run:even:5s", "run:zipf:-5s", "run:zipf:5s:101", "run:zipf:many"] {
            assert!(wrong.parse::<Phase>().is_err(), "{wrong}");
        }
    }
}
