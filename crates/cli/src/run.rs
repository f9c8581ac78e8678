//! `memvisor run`: plan, start, supervise, report.
//!
//! ```text
//!  plan      program, budget, obstacle, library, store, report file: all that can be refused is refused here
//!  start     space, keeper, watch, program
//!  supervise signals, orphans, until the last process of the tree has ended
//!  report    what was seen
//! ```

use crate::ability;
use crate::args::{Inject, RunArgs};
use crate::attaching::{Attachment, Refused};
use crate::budget::Budget;
use crate::counters::Ledger;
use crate::exit::{Exit, Failure, Outcome};
use crate::host::{self, Memory};
use crate::keeping::Keeping;
use crate::preload;
use crate::program::Program;
use crate::report::{KeeperCounts, Report, StoreReport};
use crate::sample::{Peaks, Sample};
use crate::size::Size;
use crate::space::{SPACE_VARIABLE, Space, Strictness, Terms};
use crate::status::StatusLine;
use crate::store_file::{STORE_MIN, StoreFile};
use crate::supervise::{Notice, Tree};
use crate::watch::{SharedLedger, Watch};
use clap::ValueEnum;
use memvisor_proto::attach::{self, Attach, StoreSize, Wish};
use memvisor_proto::space::option;
use memvisor_sys::probe::Probe;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The stores' room under `--inject full`: enough to start, not to work.
const FULL_BYTES: u64 = 1 << 20;

/// Why a run cannot be.
#[derive(Debug)]
pub enum RunError {
    /// `--strict`, and the program cannot be managed.
    Unmanageable(Unmanaged),
    /// The report cannot be written.
    Report(PathBuf, io::Error),
    /// The kernel does not say how much memory there is.
    Memory(io::Error),
    /// The stores cannot be opened, or a thread cannot be had.
    Keeper(io::Error),
}

/// Why a program is not managed.
#[derive(Clone, Debug)]
pub struct Unmanaged {
    because: String,
    way_out: &'static str,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Unmanageable(why) => write!(f, "the program cannot be managed: {}", why.because),
            RunError::Report(path, _) => write!(f, "cannot write the report {}", path.display()),
            RunError::Memory(_) => f.write_str("cannot read /proc/meminfo"),
            RunError::Keeper(_) => f.write_str("cannot start saving pages"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Report(_, source) | RunError::Memory(source) | RunError::Keeper(source) => Some(source),
            RunError::Unmanageable(_) => None,
        }
    }
}

impl Failure for RunError {
    fn way_out(&self) -> Option<String> {
        Some(match self {
            RunError::Unmanageable(why) => format!("{}; or leave --strict out to run it plain", why.way_out),
            RunError::Report(..) => {
                "let --report name a file in a directory that is there and that you may write to".into()
            }
            RunError::Memory(_) => "mount /proc".into(),
            RunError::Keeper(_) => {
                "see `memvisor doctor`, and the limits of threads and locked memory (ulimit -u, ulimit -l)".into()
            }
        })
    }
}

/// A run that was checked and can be started.
struct Plan<'a> {
    args: &'a RunArgs,
    program: Program,
    name: String,
    budget: Budget,
    report: Option<(PathBuf, File)>,
    managed: Result<Managed, Option<Unmanaged>>,
}

/// What a managed run has.
struct Managed {
    shim: PathBuf,
    store: Option<StoreFile>,
    space: Arc<Space>,
}

/// What goes on beside the program.
struct Work {
    space: Arc<Space>,
    keeping: Keeping,
    watch: Watch,
    attachment: Option<Attachment>,
}

impl Work {
    fn finish(self) -> (Sample, Peaks) {
        if let Some(attachment) = self.attachment {
            attachment.end();
        }
        self.keeping.stop(&self.space);
        self.watch.finish()
    }
}

/// Runs the program that the arguments name.
///
/// # Errors
/// When it cannot be run as they say.
pub fn run(args: &RunArgs) -> Outcome {
    let plan = Plan::make(args)?;
    plan.say_what_is_unusual();
    plan.execute()
}

impl<'a> Plan<'a> {
    fn make(args: &'a RunArgs) -> Result<Self, Box<dyn Failure>> {
        let typed = args.command.first().expect("the parser requires a program");
        let program = Program::find(typed)?;
        let memory = Memory::now().map_err(RunError::Memory)?;
        let budget = Budget::plan(args, memory)?;
        if budget.dram > memory.available && !args.quiet {
            eprintln!(
                "memvisor: --dram {} is more than the {} that the machine has available now",
                Size(budget.dram),
                Size(memory.available)
            );
        }
        let managed = match why_not(args, &program) {
            Some(Some(why)) if args.strict => return Err(RunError::Unmanageable(why).into()),
            Some(why) => Err(why),
            None => Ok(Managed::make(args, budget, args.store_size)?),
        };
        let name = args.name.clone().unwrap_or_else(|| {
            let file = Path::new(typed).file_name().unwrap_or(typed);
            file.to_string_lossy().into_owned()
        });
        let report = args.report.as_deref().map(open_report).transpose()?;
        Ok(Self { args, program, name, budget, report, managed })
    }

    fn say_what_is_unusual(&self) {
        match &self.managed {
            // What was asked for is not what happens: this is said even to those who want quiet.
            Err(Some(why)) => {
                eprintln!("memvisor: {} runs unmanaged: {}\n  way out: {}", self.name, why.because, why.way_out);
            }
            Err(None) => {}
            Ok(managed) => {
                if let Some(store) = managed.store.as_ref().filter(|store| store.is_in_memory() && !self.args.quiet) {
                    eprintln!(
                        "memvisor: the store {} lies in memory itself (tmpfs): its pages take DRAM that is not counted",
                        store.path().display()
                    );
                }
            }
        }
    }

    /// Starts what goes on beside the program; once more with a smaller store when nobody said how large it is to be and the node
    /// has less left.
    fn begin_work(&mut self) -> Result<Option<Work>, Box<dyn Failure>> {
        let Ok(managed) = &self.managed else { return Ok(None) };
        let refused = match self.start_work(managed)? {
            Ok(work) => return Ok(Some(work)),
            Err(refused) => refused,
        };
        let offered = refused.fits_store_bytes().filter(|bytes| self.args.store_size.is_none() && *bytes >= STORE_MIN);
        let Some(bytes) = offered else { return Err(refused.into()) };
        // A store with a name is one's own until it is let go.
        self.managed = Err(None);
        let managed = Managed::make(self.args, self.budget, Some(Size(bytes)))?;
        let work = self.start_work(&managed)??;
        self.managed = Ok(managed);
        Ok(Some(work))
    }

    fn start_work(&self, managed: &Managed) -> Result<Result<Work, Refused>, Box<dyn Failure>> {
        let ledger = SharedLedger::new(Mutex::new(Ledger::default()));
        let space = managed.space.clone();
        let keeping = Keeping::start(&space, managed.store.as_ref(), ledger.clone()).map_err(RunError::Keeper)?;
        let line = (!self.args.quiet).then(|| StatusLine::on_terminal(&self.name)).flatten();
        let watch = Watch::start(space.clone(), ledger, line);
        let mut work = Work { space, keeping, watch, attachment: None };
        match self.attach(managed) {
            Ok(attachment) => work.attachment = attachment,
            Err(refused) => {
                work.finish();
                return Ok(Err(refused));
            }
        }
        Ok(Ok(work))
    }

    fn attach(&self, managed: &Managed) -> Result<Option<Attachment>, Refused> {
        let Some(directory) = attach::directory(Some(&self.args.node)) else { return Ok(None) };
        let message = Attach {
            version: attach::VERSION,
            space_version: memvisor_proto::space::VERSION,
            name: self.name.clone(),
            id: managed.space.id_text(),
            space_fd: managed.space.fd(),
            program_pid: 0,
            command: self.words(),
            store_bytes: managed.store.as_ref().map_or(0, StoreFile::bytes),
            store_path: managed.store.as_ref().map(|store| absolute(store.path())),
            store_size: if self.args.store_size.is_some() { StoreSize::Given } else { StoreSize::Found },
            intent: Wish {
                reservation_bytes: self.budget.reservation,
                // What was given by hand is not exceeded: a node can give less of it, and all of it.
                limit_bytes: self.budget.limit.or(self.args.dram.map(|dram| dram.0)),
                shares: self.budget.shares,
                class: self.args.class.and_then(|class| class.to_possible_value()).map(|value| value.get_name().into()),
                size_bytes: self.args.size.map(|size| size.0),
            },
            again: false,
        };
        let quiet = self.args.quiet;
        let say = move |text: &str| {
            if !quiet {
                eprintln!("memvisor: {text}");
            }
        };
        Attachment::begin(directory, message, say).map(Some)
    }

    fn words(&self) -> Vec<String> {
        self.args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    fn execute(mut self) -> Outcome {
        let working = self.begin_work()?;
        let began = Instant::now();
        let tree = Tree::start(self.command(), self.program.path.clone());
        if let (Ok(managed), Ok(tree)) = (&self.managed, &tree) {
            managed.space.header().program_pid().store(u64::from(tree.program()), Ordering::Release);
        }
        let ended = tree.map(|tree| tree.wait(|notice| self.pass_on(notice)));
        let duration = began.elapsed();
        let seen = working.map(Work::finish);
        let exit = ended?;
        let report = self.describe(exit, duration.as_nanos() as u64, seen);
        self.publish(&report)?;
        Ok(exit)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program.path);
        command.arg0(&self.args.command[0]).args(&self.args.command[1..]);
        let theirs = std::env::var_os(preload::PRELOAD_VARIABLE);
        match &self.managed {
            Ok(managed) => {
                let log = managed.store.as_ref().map(|store| store.file().as_raw_fd());
                command.env(SPACE_VARIABLE, managed.space.invitation(log, self.strictness()));
                command.env(preload::PRELOAD_VARIABLE, preload::value(&managed.shim, theirs.as_deref()));
            }
            // memvisor may itself run in a space; a plain program is in none.
            Err(_) => {
                command.env_remove(SPACE_VARIABLE);
                match preload::without_ours(theirs.as_deref()) {
                    value if value.is_empty() => command.env_remove(preload::PRELOAD_VARIABLE),
                    value => command.env(preload::PRELOAD_VARIABLE, value),
                };
            }
        }
        command
    }

    fn strictness(&self) -> Strictness {
        if self.args.strict { Strictness::Strict } else { Strictness::Lenient }
    }

    fn pass_on(&self, notice: Notice) {
        let text = match notice {
            _ if self.args.quiet => return,
            Notice::Survivors(0) => return,
            Notice::Survivors(left) => format!(
                "{} has ended; {left} of its processes go on, and memvisor with them (a signal goes to them)",
                self.name
            ),
            Notice::Left(left) => format!("memvisor leaves; {left} processes of {} go on by themselves", self.name),
        };
        eprintln!("memvisor: {text}");
    }

    fn describe(&self, exit: Exit, duration_ns: u64, seen: Option<(Sample, Peaks)>) -> Report {
        let managed = self.managed.as_ref().ok();
        let reason =
            || Some(self.managed.as_ref().err()?.as_ref().map_or("--unmanaged".into(), |why| why.because.clone()));
        let mut report = Report {
            version: env!("CARGO_PKG_VERSION"),
            kernel: host::kernel_release(),
            space: self.name.clone(),
            space_id: managed.map(|managed| managed.space.id_text()).unwrap_or_default(),
            command: self.words(),
            managed: managed.is_some(),
            unmanaged_because: reason(),
            exit: exit.into(),
            duration_ns,
            dram_target_bytes: managed
                .map_or(self.budget.dram, |managed| managed.space.header().target_bytes().load(Ordering::Relaxed)),
            reservation_bytes: self.budget.reservation,
            limit_bytes: self.budget.limit,
            shares: self.budget.shares,
            store: managed.and_then(|managed| managed.store.as_ref()).map(|store| StoreReport {
                path: store.path().display().to_string(),
                capacity_bytes: store.bytes(),
                in_memory: store.is_in_memory(),
            }),
            ..Report::default()
        };
        if let (Some(managed), Some((last, peaks))) = (managed, seen) {
            report.fill(&last, &peaks, keeper_counts(&managed.space));
        }
        report
    }

    /// Writes the report where it was asked for, and what people want to see to standard error.
    fn publish(self, report: &Report) -> Result<(), RunError> {
        if self.args.json {
            eprint!("{}", report.json());
        } else if !self.args.quiet {
            eprint!("{}", report.summary());
        }
        let Some((path, mut file)) = self.report else { return Ok(()) };
        file.write_all(report.json().as_bytes()).map_err(|error| RunError::Report(path, error))
    }
}

impl Managed {
    fn make(args: &RunArgs, budget: Budget, store_size: Option<Size>) -> Result<Self, Box<dyn Failure>> {
        let shim = preload::find()?;
        let is_full = args.inject.contains(&Inject::Full);
        let store = match &args.store {
            Some(path) => Some(StoreFile::open(path, store_size)?).filter(|_| !is_full),
            None => None,
        };
        let budget = if is_full { Budget { ram_store: FULL_BYTES, ..budget } } else { budget };
        let terms = Terms { budget, log_pages: store.as_ref().map_or(0, StoreFile::pages), options: options(args) };
        Ok(Self { shim, store, space: Arc::new(Space::make(terms)?) })
    }
}

/// A path from the root, as it is called when all links are followed.
fn absolute(path: &Path) -> String {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// Why the program is to run plain: `Some(None)` when that was asked for.
fn why_not(args: &RunArgs, program: &Program) -> Option<Option<Unmanaged>> {
    if args.unmanaged {
        return Some(None);
    }
    if let Some(obstacle) = &program.obstacle {
        return Some(Some(Unmanaged { because: obstacle.to_string(), way_out: obstacle.way_out() }));
    }
    let obstacle = ability::obstacle(&Probe::run())?;
    Some(Some(Unmanaged { because: obstacle.to_string(), way_out: obstacle.way_out() }))
}

fn options(args: &RunArgs) -> u64 {
    let mut options = 0;
    if args.without_move {
        options |= option::WITHOUT_MOVE;
    }
    for fault in &args.inject {
        options |= match fault {
            Inject::Flip => option::FAULTY_FLIP,
            Inject::Error => option::FAULTY_ERROR,
            Inject::Stall => option::FAULTY_STALL,
            // The stores are made small instead.
            Inject::Full => 0,
        };
    }
    options
}

/// Opens the report before the run, so that nobody waits for a report that cannot be written.
fn open_report(path: &Path) -> Result<(PathBuf, File), RunError> {
    let file = File::create(path).map_err(|error| RunError::Report(path.into(), error))?;
    Ok((path.into(), file))
}

fn keeper_counts(space: &Space) -> KeeperCounts {
    let header = space.header();
    KeeperCounts {
        saves: header.saves().load(Ordering::Relaxed),
        clean_saves: header.clean_saves().load(Ordering::Relaxed),
        sunk: header.sunk_pages().load(Ordering::Relaxed),
        errors: header.store_errors().load(Ordering::Relaxed),
        refusals: header.refusals().load(Ordering::Relaxed),
    }
}
