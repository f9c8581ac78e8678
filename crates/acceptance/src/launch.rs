//! A program started, under memvisor or plain, with its output in files and a sampler beside it.

use crate::case::{NotPassed, failed, must};
use crate::ctx::{Ctx, Mode};
use crate::os;
use crate::proc;
use crate::report::Report;
use crate::sampler::{Sampler, Seen, Watched};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What is to be started.
pub struct Launch<'c> {
    ctx: &'c Ctx,
    label: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    flags: Vec<OsString>,
    dram_bytes: u64,
    managed: bool,
    must_page: bool,
}

impl<'c> Launch<'c> {
    pub(crate) fn new(ctx: &'c Ctx, program: PathBuf) -> Self {
        Self {
            ctx,
            label: "run".into(),
            program,
            arguments: Vec::new(),
            variables: Vec::new(),
            directory: None,
            flags: Vec::new(),
            dram_bytes: ctx.params.dram_bytes(),
            managed: ctx.mode == Mode::Managed,
            must_page: true,
        }
    }

    /// A name for the files of this run, where a case has several.
    pub fn label(mut self, label: &str) -> Self {
        self.label = label.into();
        self
    }

    /// One more argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// More arguments.
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// A variable of the environment.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Where it runs.
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Flags of `memvisor run`; nothing in a plain run.
    pub fn flags<A: Into<OsString>>(mut self, flags: impl IntoIterator<Item = A>) -> Self {
        self.flags.extend(flags.into_iter().map(Into::into));
        self
    }

    /// Another target than a quarter of the need.
    pub fn dram(mut self, bytes: u64) -> Self {
        self.dram_bytes = bytes;
        self
    }

    /// Without memvisor, whatever the mode: a witness.
    pub fn plain(mut self) -> Self {
        self.managed = false;
        self
    }

    /// The run may end without an eviction: it is stopped early, or it is small.
    pub fn may_fit(mut self) -> Self {
        self.must_page = false;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(self) -> Result<Running, NotPassed> {
        let files = Files::new(self.ctx.directory(), &self.label);
        fs::create_dir_all(&files.store)?;
        let mut command = self.command(&files);
        command.envs(self.variables).stdin(Stdio::piped()).process_group(0);
        command.stdout(File::create(&files.stdout)?).stderr(File::create(&files.stderr)?);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let began = Instant::now();
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return failed(format!("{} does not start: {error}", self.program.display())),
        };
        let root = child.id() as i32;
        self.ctx.started.add(root);
        let watched = Watched {
            root,
            kept: self.managed,
            target_bytes: if self.managed { self.dram_bytes } else { u64::MAX / 2 },
        };
        Ok(Running {
            input: None,
            child,
            files,
            began,
            sampler: Sampler::start(watched),
            managed: self.managed,
            must_page: self.must_page,
            dram_bytes: self.dram_bytes,
            ended: None,
        }
        .with_input())
    }

    fn command(&self, files: &Files) -> Command {
        if !self.managed {
            let mut command = Command::new(&self.program);
            command.args(&self.arguments);
            return command;
        }
        let mut command = Command::new(&self.ctx.places.memvisor);
        command.arg("run").arg("--dram").arg(size(self.dram_bytes));
        if !self.flags.iter().any(|flag| flag == "--store") {
            command.arg("--store").arg(&files.store);
        }
        command.arg("--report").arg(&files.report).args(&self.flags);
        command.arg("--").arg(&self.program).args(&self.arguments);
        command
    }

    /// Starts it, waits for its end, and counts it.
    ///
    /// # Errors
    /// It could not be started, or broke a promise that every run must keep.
    pub fn run(self) -> Result<Finished, NotPassed> {
        let ctx = self.ctx;
        self.start()?.finish(ctx)
    }
}

/// A size as memvisor takes it.
pub fn size(bytes: u64) -> String {
    format!("{}M", bytes >> 20)
}

struct Files {
    stdout: PathBuf,
    stderr: PathBuf,
    report: PathBuf,
    store: PathBuf,
}

impl Files {
    fn new(directory: &Path, label: &str) -> Self {
        let file = |ending: &str| directory.join(format!("{label}.{ending}"));
        Self { stdout: file("out"), stderr: file("err"), report: file("json"), store: file("store") }
    }
}

/// A program that was started. It is killed when this is dropped.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    files: Files,
    began: Instant,
    sampler: Sampler,
    managed: bool,
    must_page: bool,
    dram_bytes: u64,
    ended: Option<ExitStatus>,
}

/// A run that is over.
pub struct Finished {
    /// How what was started ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
    /// What was seen from outside.
    pub seen: Seen,
    /// The report; none in a plain run, or when the keeper was killed.
    pub report: Option<Report>,
    /// Wall time.
    pub took: Duration,
    /// The target it ran with.
    pub dram_bytes: u64,
}

impl Running {
    fn with_input(mut self) -> Self {
        self.input = self.child.stdin.take();
        self
    }

    /// The process that was started: memvisor, or in a plain run the program.
    pub fn root(&self) -> i32 {
        self.child.id() as i32
    }

    /// The program itself, once it is there.
    pub fn program(&self) -> Option<i32> {
        if !self.managed {
            return Some(self.root());
        }
        // The keeper may have helpers of its own; the program is the child that maps the space.
        let tree = proc::tree(&proc::everyone(), self.root());
        let mut children = tree.iter().skip(1).filter(|kin| kin.parent == self.root() && !kin.zombie);
        children.find(|kin| proc::maps_space(kin.process.pid).is_some()).map(|kin| kin.process.pid)
    }

    /// Whether memvisor runs it.
    pub fn managed(&self) -> bool {
        self.managed
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        lossy(&self.files.stdout)
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        lossy(&self.files.stderr)
    }

    /// Where its store lies.
    pub fn store(&self) -> &Path {
        &self.files.store
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.sampler.seen()
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// It reads no more.
    pub fn say(&mut self, line: &str) -> Result<(), NotPassed> {
        use std::io::Write;
        let input = self.input.as_mut().expect("standard input is open until the run is finished");
        Ok(writeln!(input, "{line}").and_then(|()| input.flush())?)
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, NotPassed> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Waits until its output contains `text`, or it ends.
    ///
    /// # Errors
    /// It ended before it said so, or the time of the case is over.
    pub fn wait_for(&mut self, ctx: &Ctx, text: &str) -> Result<(), NotPassed> {
        ctx.until(&format!("the program to print {text:?}"), || {
            if self.stdout().contains(text) {
                return Ok(Some(()));
            }
            match self.ended()? {
                Some(status) if !self.stdout().contains(text) => {
                    failed(format!("ended with {status} before it printed {text:?}: {}", tail(&self.stderr())))
                }
                _ => Ok(None),
            }
        })
    }

    /// Waits for its end, and asks nothing of it: it may not have been managed at all.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn finish_any(mut self) -> Result<Finished, NotPassed> {
        self.wait()
    }

    fn wait(&mut self) -> Result<Finished, NotPassed> {
        drop(self.input.take());
        let status = match self.ended {
            Some(status) => status,
            None => self.child.wait()?,
        };
        self.ended = Some(status);
        Ok(Finished {
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
            seen: self.sampler.seen(),
            report: None,
            took: self.began.elapsed(),
            dram_bytes: self.dram_bytes,
        })
    }

    /// Waits for its end, and counts it.
    ///
    /// # Errors
    /// The report is missing or breaks a promise that every run must keep.
    pub fn finish(mut self, ctx: &Ctx) -> Result<Finished, NotPassed> {
        let finished = self.wait()?;
        let status = finished.status;
        if !self.managed || status.signal().is_some() {
            ctx.count(&finished);
            return Ok(finished);
        }
        let report = Report::read(&self.files.report)
            .map_err(|reason| NotPassed::Failed(format!("{reason}; {status}; {}", tail(&finished.stderr))))?;
        let paged = report.number("/evictions") > 0;
        let finished = Finished { report: Some(report), ..finished };
        ctx.count(&finished);
        must(paged || !self.must_page || !status.success(), || {
            "nothing was evicted: this run shows nothing".into()
        })?;
        must(is_empty(&self.files.store), || format!("files are left in {}", self.files.store.display()))?;
        Ok(finished)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let tree = proc::tree(&proc::everyone(), self.root());
            tree.iter().for_each(|kin| os::kill(kin.process.pid));
            // An error means that it was waited for already.
            let _ = self.child.wait();
        }
    }
}

impl Finished {
    /// The exit code, 128 and the number for a signal.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Passes on what succeeded.
    ///
    /// # Errors
    /// It ended otherwise: with what, and the end of its output.
    pub fn must_succeed(self) -> Result<Self, NotPassed> {
        match self.status.success() {
            true => Ok(self),
            false => failed(format!("{}; {}{}", self.status, tail(&self.stdout), tail(&self.stderr))),
        }
    }

    /// Passes on what succeeded and printed `text`.
    ///
    /// # Errors
    /// It ended otherwise or did not print it.
    pub fn must_print(self, text: &str) -> Result<Self, NotPassed> {
        let this = self.must_succeed()?;
        must(this.stdout.contains(text), || format!("did not print {text:?}: {}", tail(&this.stdout)))?;
        Ok(this)
    }
}

/// The last lines of an output, for a message.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].iter().map(|line| format!("\n    | {line}")).collect()
}

fn lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Whether a directory holds nothing.
pub fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}
