//! A program that runs, and how it ended.

use crate::case::{NotPassed, failed, must};
use crate::ctx::Ctx;
use crate::launch::Files;
use crate::os;
use crate::proc;
use crate::report::Report;
use crate::sampler::{Sampler, Seen, Watched};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ExitStatus};
use std::time::{Duration, Instant};

/// What the pager may have for itself: this much in a member,
const OWN_BYTES_FIXED: u64 = 16 << 20;
/// and this much for each managed page, its tables in the space counted.
const OWN_BYTES_PER_PAGE: u64 = 16;
const PAGE_BYTES: u64 = 4096;

/// A program that was started. It is killed when this is dropped.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    files: Files,
    began: Instant,
    sampler: Sampler,
    promises: Promises,
    ended: Option<ExitStatus>,
}

/// What is expected of a run whatever its program does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promises {
    /// memvisor runs it: there will be a report.
    pub(crate) managed: bool,
    /// Something will be evicted.
    pub(crate) pages: bool,
    /// There will be no errors: none are injected.
    pub(crate) sound: bool,
    /// The target that is kept.
    pub(crate) dram_bytes: u64,
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
    /// Whether memvisor ran it.
    pub managed: bool,
}

impl Running {
    pub(crate) fn watch(mut child: Child, files: Files, watched: Watched, promises: Promises) -> Self {
        Self {
            input: child.stdin.take(),
            child,
            files,
            began: Instant::now(),
            sampler: Sampler::start(watched),
            promises,
            ended: None,
        }
    }

    /// The process that was started: memvisor, or in a plain run the program.
    pub fn root(&self) -> i32 {
        self.child.id() as i32
    }

    /// The program itself, once it is there.
    pub fn program(&self) -> Option<i32> {
        if !self.promises.managed {
            return Some(self.root());
        }
        // The keeper may have other children; the program is the child that maps the space.
        let tree = proc::tree(&proc::everyone(), self.root());
        let mut children = tree.iter().skip(1).filter(|kin| kin.parent == self.root() && !kin.zombie);
        children.find(|kin| proc::maps_space(kin.process.pid).is_some()).map(|kin| kin.process.pid)
    }

    /// Waits until the program maps its space.
    ///
    /// # Errors
    /// The run ended before.
    pub fn wait_for_program(&mut self, ctx: &Ctx) -> Result<i32, NotPassed> {
        ctx.until("the program to map its space", || match (self.program(), self.ended()?) {
            (None, Some(status)) => failed(format!("ended with {status} and never mapped a space")),
            (found, _) => Ok(found),
        })
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
            dram_bytes: self.promises.dram_bytes,
            managed: self.promises.managed,
        })
    }

    /// Waits for its end, and counts it.
    ///
    /// # Errors
    /// The report is missing or breaks a promise that every run must keep.
    pub fn finish(mut self, ctx: &Ctx) -> Result<Finished, NotPassed> {
        let finished = self.wait()?;
        let status = finished.status;
        if !self.promises.managed || status.signal().is_some() {
            ctx.count(&finished);
            return Ok(finished);
        }
        let report = Report::read(&self.files.report)
            .map_err(|reason| NotPassed::Failed(format!("{reason}; {status}; {}", tail(&finished.stderr))))?;
        let paged = report.number("/evictions") > 0;
        let charged = report.number("/dram_charged_bytes_max");
        let members = report.number("/members_max");
        let errors = report.errors();
        let own_by_pages = report.number("/managed_bytes_max") / PAGE_BYTES * OWN_BYTES_PER_PAGE;
        let own_of_one = OWN_BYTES_FIXED + own_by_pages;
        let own_of_all = members.max(1) * OWN_BYTES_FIXED + own_by_pages;
        // The report says what is mapped for it; here it counts what of that is there, as of the member that has most.
        let own = members.max(1) * finished.seen.own_bytes_max + report.number("/pager/metadata_bytes");
        let finished = Finished { report: Some(report), ..finished };
        ctx.count(&finished);
        must(paged || !self.promises.pages || !status.success(), || {
            "nothing was evicted: this run shows nothing".into()
        })?;
        // Of several members the report sums what it read one after the other while pages moved between them; the sampler
        // looks again at a program that it stopped, and holds it to 2 %.
        let above = if members > 1 { self.promises.dram_bytes / 10 } else { self.promises.dram_bytes / 50 };
        must(charged <= self.promises.dram_bytes + above, || {
            format!("the report says that {} KiB of {} were charged", charged >> 10, self.promises.dram_bytes >> 10)
        })?;
        for (had, limit, place) in
            [(finished.seen.own_bytes_max, own_of_one, "a member"), (own, own_of_all, "all, with its tables")]
        {
            must(had <= limit, || {
                format!("the pager itself had {} KiB in {place}, {} KiB are its limit", had >> 10, limit >> 10)
            })?;
        }
        must(errors.is_none() || !self.promises.sound, || {
            format!("the report says errors: {}", errors.unwrap_or_default())
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
