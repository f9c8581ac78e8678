//! `memvisor sim`: invented spaces under the real policy, and recorded plans made again.
//!
//! Files and clocks are here; what happens in invented time is in `memvisor-sim`.

use crate::args::SimArgs;
use crate::exit::{Exit, Failure, Outcome};
use memvisor_policy::{Memory, Plan, Settings, Situation, plan};
use memvisor_sim::output::{self, PlotError};
use memvisor_sim::recorded::{self, Entry, Mismatch};
use memvisor_sim::scenario::{Refusal, Scenario};
use memvisor_sim::world;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What can go wrong around a simulation.
#[derive(Debug)]
enum SimFailure {
    Read(PathBuf, io::Error),
    Refused(PathBuf, Refusal),
    Write(PathBuf, io::Error),
    Plot(PathBuf, PlotError),
}

impl fmt::Display for SimFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, _) => write!(f, "cannot read {}", path.display()),
            Self::Refused(path, _) => write!(f, "{} is no scenario", path.display()),
            Self::Write(path, _) => write!(f, "cannot write {}", path.display()),
            Self::Plot(path, _) => write!(f, "cannot plot into {}", path.display()),
        }
    }
}

impl Error for SimFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read(_, error) | Self::Write(_, error) => Some(error),
            Self::Refused(_, refusal) => Some(refusal),
            Self::Plot(_, error) => Some(error),
        }
    }
}

impl Failure for SimFailure {
    fn way_out(&self) -> Option<String> {
        match self {
            Self::Read(..) | Self::Write(..) => None,
            Self::Refused(..) => {
                Some("mend that line; crates/sim/src/scenario/mod.rs tells all that can be written".into())
            }
            Self::Plot(..) => {
                Some("name a file that ends in .png or .svg, in a directory that you may write to".into())
            }
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Refused(..) | Self::Plot(_, PlotError::Kind) => Exit::Usage,
            Self::Read(..) | Self::Write(..) | Self::Plot(_, PlotError::Draw(_)) => Exit::Memvisor,
        }
    }
}

/// Lives through a scenario or makes plans again.
pub fn sim(args: &SimArgs) -> Outcome {
    match (&args.replay, &args.scenario) {
        (Some(path), _) => replay(path, args.json),
        (None, Some(path)) => live(path, args),
        (None, None) => Ok(Exit::Usage),
    }
}

fn live(path: &Path, args: &SimArgs) -> Outcome {
    let text = std::fs::read_to_string(path).map_err(|error| SimFailure::Read(path.into(), error))?;
    let scenario = Scenario::parse(&text).map_err(|refusal| SimFailure::Refused(path.into(), refusal))?;
    let mut bench = Bench::new(args.record.as_deref())?;
    let series = world::live(&scenario, &mut |situation, settings, memory| bench.plan(situation, settings, memory));
    bench.end()?;
    let findings = scenario.judge(&series);
    let told = if args.json {
        output::json(&scenario, &series, &findings)
    } else {
        output::text(&scenario, &series, &findings)
    };
    print(&told)?;
    if let Some(path) = &args.plot {
        output::plot(&scenario, &series, path).map_err(|error| SimFailure::Plot(path.clone(), error))?;
    }
    Ok(if findings.iter().all(|finding| finding.holds) { Exit::Success } else { Exit::No })
}

fn print(text: &str) -> Result<(), SimFailure> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| SimFailure::Write("standard output".into(), error)),
    }
}

/// The real policy, timed and recorded.
struct Bench {
    took: Vec<Duration>,
    record: Option<(PathBuf, BufWriter<File>)>,
    failed: Option<io::Error>,
}

impl Bench {
    fn new(record: Option<&Path>) -> Result<Self, SimFailure> {
        let open = |path: &Path| match File::create(path) {
            Ok(file) => Ok((path.to_owned(), BufWriter::new(file))),
            Err(error) => Err(SimFailure::Write(path.into(), error)),
        };
        Ok(Self { took: Vec::new(), record: record.map(open).transpose()?, failed: None })
    }

    fn plan(&mut self, situation: &Situation, settings: &Settings, memory: &Memory) -> (Plan, Memory) {
        let begun = Instant::now();
        let (made, next) = plan(situation, settings, memory);
        self.took.push(begun.elapsed());
        if let Some((_, file)) = self.record.as_mut().filter(|_| self.failed.is_none()) {
            let entry =
                Entry { situation: situation.clone(), settings: *settings, memory: memory.clone(), plan: made.clone() };
            let written = serde_json::to_writer(&mut *file, &entry).map_err(io::Error::from);
            self.failed = written.and_then(|()| file.write_all(b"\n")).err();
        }
        (made, next)
    }

    /// Says how long plans took, and brings the record to its file.
    fn end(mut self) -> Result<(), SimFailure> {
        self.took.sort_unstable();
        if let (Some(median), Some(longest)) = (self.took.get(self.took.len() / 2), self.took.last()) {
            eprintln!("{} plans: median {median:.1?}, longest {longest:.1?}", self.took.len());
        }
        let Some((path, mut file)) = self.record else { return Ok(()) };
        match self.failed.map_or_else(|| file.flush(), Err) {
            Ok(()) => Ok(()),
            Err(error) => Err(SimFailure::Write(path, error)),
        }
    }
}

fn replay(path: &Path, json: bool) -> Outcome {
    let read = |error| SimFailure::Read(path.into(), error);
    let file = BufReader::new(File::open(path).map_err(read)?);
    let (mut plans, mut mismatch) = (0usize, None);
    for line in file.lines() {
        if let Err(found) = recorded::again(plans + 1, &line.map_err(read)?) {
            mismatch = Some(found);
            break;
        }
        plans += 1;
    }
    print(&replayed(plans, mismatch.as_ref(), json))?;
    Ok(if mismatch.is_none() { Exit::Success } else { Exit::No })
}

fn replayed(plans: usize, mismatch: Option<&Mismatch>, json: bool) -> String {
    match mismatch {
        _ if json => format!("{}\n", serde_json::json!({ "plans_same": plans, "mismatch": mismatch })),
        None => format!("{plans} plans were made again, all the same\n"),
        Some(mismatch) => format!("{mismatch}\n{plans} plans before it were the same\n"),
    }
}
