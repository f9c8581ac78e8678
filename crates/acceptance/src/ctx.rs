//! What a case is given: where things lie, how large it is to be, and how to start programs.

use crate::case::{Case, NotPassed, Outcome, Params, failed, missing};
use crate::launch::Launch;
use crate::os;
use crate::running::Finished;
use crate::watchdog::{Started, Watchdog};
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Samples of a running program are no instants, so some are above the target though it is kept (see [`crate::sampler`]): at
/// most this part of them, and one.
const OVER_PART: u64 = 20;

/// Whether programs run under memvisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Under memvisor.
    Managed,
    /// Without: the case itself is put to the test.
    Plain,
}

/// How long a case is to take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Every day.
    Short,
    /// A soak.
    Long,
}

/// Where things lie.
#[derive(Clone, Debug)]
pub struct Places {
    /// The `memvisor` binary.
    pub memvisor: PathBuf,
    /// Our own programs.
    pub program: PathBuf,
    /// Where builds go; all that cases write lies below it.
    pub target: PathBuf,
    /// The sources of this crate, with scripts and sources of programs.
    pub sources: PathBuf,
}

impl Places {
    /// Finds everything from where this crate was built. `program` is the binary of our own programs; without it the
    /// one beside the running binary.
    pub fn find(program: Option<&str>) -> Self {
        let sources = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let from_variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let target = from_variable("CARGO_TARGET_DIR").unwrap_or_else(|| sources.join("../../target"));
        let target = target.canonicalize().unwrap_or(target);
        let beside = || {
            let this = std::env::current_exe().expect("a running program has a path");
            this.with_file_name("acceptance-program")
        };
        Self {
            memvisor: from_variable("MEMVISOR_BIN").unwrap_or_else(|| target.join("release/memvisor")),
            program: program.map_or_else(beside, PathBuf::from),
            target,
            sources,
        }
    }
}

/// What was measured in the runs of a case: sums, and maxima of maxima.
#[derive(Clone, Copy, Default, Debug)]
pub struct Measures {
    /// The largest target.
    pub dram_bytes: u64,
    /// The most that was charged in any run, seen from outside.
    pub charged_bytes_max: u64,
    /// The most that was charged in any stopped run.
    pub stopped_bytes_max: u64,
    /// The most that was unmanaged.
    pub overhead_bytes_max: u64,
    /// The most that the pager itself had in one member.
    pub own_bytes_max: u64,
    /// Samples taken.
    pub samples: u64,
    /// Samples above the target.
    pub samples_over: u64,
    /// Those confirmed by a look at the stopped run.
    pub samples_over_confirmed: u64,
    /// Faults served.
    pub faults: u64,
    /// Pages evicted.
    pub evictions: u64,
    /// The largest p99 of the service of faults, in nanoseconds.
    pub fault_ns_p99: u64,
}

/// What a case is given.
pub struct Ctx {
    /// Under memvisor or not.
    pub mode: Mode,
    /// Every day or soak.
    pub form: Form,
    /// How large.
    pub params: Params,
    /// Where things lie.
    pub places: Places,
    /// The processes that were started.
    pub started: Started,
    directory: PathBuf,
    end: Instant,
    measures: RefCell<Measures>,
}

impl Ctx {
    /// A directory of this case's own, empty when the case begins.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A directory that is kept from run to run, for what is fetched and built once.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn cache(&self) -> Result<PathBuf, NotPassed> {
        let cache = self.places.target.join("guest");
        fs::create_dir_all(&cache)?;
        Ok(cache)
    }

    /// One of our own programs.
    pub fn own(&self, name: &str) -> Launch<'_> {
        Launch::new(self, self.places.program.clone()).arg(name)
    }

    /// A program of the machine, by name or path.
    pub fn program(&self, name: &str) -> Launch<'_> {
        Launch::new(self, crate::case::program_path(name).unwrap_or_else(|| name.into()))
    }

    /// Whether programs run under memvisor.
    pub fn managed(&self) -> bool {
        self.mode == Mode::Managed
    }

    /// Looks until `found` gives something.
    ///
    /// # Errors
    /// What `found` fails with, or the time of the case is over.
    pub fn until<T>(&self, what: &str, found: impl FnMut() -> Result<Option<T>, NotPassed>) -> Result<T, NotPassed> {
        self.within(self.end.saturating_duration_since(Instant::now()), what, found)
    }

    /// Looks until `found` gives something, for `limit` at most.
    ///
    /// # Errors
    /// What `found` fails with, or the time is over.
    pub fn within<T>(
        &self,
        limit: Duration,
        what: &str,
        mut found: impl FnMut() -> Result<Option<T>, NotPassed>,
    ) -> Result<T, NotPassed> {
        /// Between two looks: short beside what is waited for, long beside what a look costs.
        const PAUSE: Duration = Duration::from_millis(5);
        let end = Instant::now() + limit;
        loop {
            match found()? {
                Some(it) => return Ok(it),
                None if Instant::now() >= end => return failed(format!("waited {limit:.1?} in vain for {what}")),
                None => thread::park_timeout(PAUSE),
            }
        }
    }

    /// Adds a finished run to the measures; witnesses, which run plain, are none.
    pub fn count(&self, run: &Finished) {
        if self.managed() && !run.managed {
            return;
        }
        let mut sum = self.measures.borrow_mut();
        sum.charged_bytes_max = sum.charged_bytes_max.max(run.seen.charged_bytes_max);
        sum.overhead_bytes_max = sum.overhead_bytes_max.max(run.seen.overhead_bytes_max);
        sum.own_bytes_max = sum.own_bytes_max.max(run.seen.own_bytes_max);
        sum.stopped_bytes_max = sum.stopped_bytes_max.max(run.seen.stopped_bytes_max);
        sum.samples += run.seen.samples;
        sum.samples_over += run.seen.samples_over;
        sum.samples_over_confirmed += run.seen.samples_over_confirmed;
        if self.managed() {
            sum.dram_bytes = sum.dram_bytes.max(run.dram_bytes);
        }
        if let Some(report) = &run.report {
            sum.faults += report.number("/faults");
            sum.evictions += report.number("/evictions");
            sum.fault_ns_p99 = sum.fault_ns_p99.max(report.number("/fault_ns/p99"));
        }
    }
}

/// How a case ended and what was measured.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// How.
    pub outcome: Outcome,
    /// What was measured.
    pub measures: Measures,
    /// Wall time.
    pub took: Duration,
}

/// Runs one case, alone on the machine as far as this crate is concerned.
pub fn run(case: &Case, form: Form, mode: Mode, places: &Places) -> Verdict {
    let lock = lock(places);
    let began = Instant::now();
    let (outcome, measures) = match lock.and_then(|lock| prepare(case, form, mode, places).map(|ctx| (lock, ctx))) {
        Ok((_lock, ctx)) => guarded(case, &ctx),
        Err(reason) => (Err(reason), Measures::default()),
    };
    Verdict { outcome, measures, took: began.elapsed() }
}

/// Two of these at a time would measure each other.
fn lock(places: &Places) -> Result<fs::File, NotPassed> {
    let directory = places.target.join("acceptance");
    fs::create_dir_all(&directory)?;
    let file = fs::File::create(directory.join("lock"))?;
    file.lock()?;
    Ok(file)
}

fn prepare(case: &Case, form: Form, mode: Mode, places: &Places) -> Result<Ctx, NotPassed> {
    if let Some(reason) = missing(case.needs) {
        return Err(NotPassed::Skipped(reason));
    }
    if mode == Mode::Managed && !places.memvisor.is_file() {
        let path = places.memvisor.display();
        return Err(NotPassed::Skipped(format!("{path} is not there: `cargo build --release` makes it")));
    }
    let params = match form {
        Form::Short => case.short,
        Form::Long => case.long,
    };
    let kind = format!("{}-{form:?}-{mode:?}", case.name).to_lowercase();
    let directory = places.target.join("acceptance").join(kind);
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir_all(&directory)?,
    }
    os::adopt_orphans();
    Ok(Ctx {
        mode,
        form,
        params,
        places: places.clone(),
        started: Started::default(),
        directory,
        end: Instant::now() + params.limit,
        measures: RefCell::default(),
    })
}

fn guarded(case: &Case, ctx: &Ctx) -> (Outcome, Measures) {
    let watchdog = Watchdog::start(ctx.started.clone(), ctx.params.limit);
    let outcome = (case.run)(ctx);
    let hung = watchdog.finish();
    ctx.started.kill();
    os::bury_orphans();
    let measures = *ctx.measures.borrow();
    let outcome = match (outcome, hung) {
        (outcome, Some(shown)) => failed(format!(
            "not over after {:.0?}, so it was killed; then: {outcome:?}; where it was:\n{shown}",
            ctx.params.limit
        )),
        (Ok(()), None) if measures.samples_over_confirmed > 0 => failed(format!(
            "charged memory was above the target by more than 2 % at {} stops in {} samples: {} of {} KiB",
            measures.samples_over_confirmed,
            measures.samples,
            measures.stopped_bytes_max >> 10,
            measures.dram_bytes >> 10
        )),
        (Ok(()), None) if measures.samples_over > measures.samples / OVER_PART + 1 => failed(format!(
            "charged memory was above the target by more than 2 % in {} of {} samples of the running program",
            measures.samples_over, measures.samples
        )),
        (outcome, None) => outcome,
    };
    (outcome, measures)
}
