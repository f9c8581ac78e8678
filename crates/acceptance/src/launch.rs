//! What is to be started, under memvisor or plain, with its output in files and a sampler beside it.

use crate::case::{NotPassed, failed};
use crate::ctx::{Ctx, Mode};
use crate::running::{Finished, Promises, Running};
use crate::sampler::Watched;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
    node: Option<Host>,
}

/// A node to run under.
struct Host {
    directory: PathBuf,
    /// What it divides: the most that the space can come to have.
    dram_bytes: u64,
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
            node: None,
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

    /// Under the node at `directory`, which divides `dram_bytes`: that is all that the space is held to.
    pub fn node(mut self, directory: &Path, dram_bytes: u64) -> Self {
        self.node = Some(Host { directory: directory.into(), dram_bytes });
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
        let most_bytes = self.most_bytes();
        let mut command = self.command(&files);
        command.envs(self.variables).stdin(Stdio::piped()).process_group(0);
        command.stdout(File::create(&files.stdout)?).stderr(File::create(&files.stderr)?);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return failed(format!("{} does not start: {error}", self.program.display())),
        };
        self.ctx.started.add(child.id() as i32);
        let watched = Watched {
            root: child.id() as i32,
            kept: self.managed,
            target_bytes: if self.managed { most_bytes } else { u64::MAX / 2 },
        };
        let promises = Promises {
            managed: self.managed,
            pages: self.must_page,
            sound: !self.flags.iter().any(|flag| flag == "--inject"),
            dram_bytes: most_bytes,
        };
        Ok(Running::watch(child, files, watched, promises))
    }

    /// The most DRAM that it may come to have.
    fn most_bytes(&self) -> u64 {
        self.node.as_ref().map_or(self.dram_bytes, |node| node.dram_bytes)
    }

    fn command(&self, files: &Files) -> Command {
        if !self.managed {
            let mut command = Command::new(&self.program);
            command.args(&self.arguments);
            return command;
        }
        let mut command = Command::new(&self.ctx.places.memvisor);
        let node = self.node.as_ref().map_or(Path::new("none"), |node| &node.directory);
        command.args(["run", "--node"]).arg(node).arg("--dram").arg(size(self.dram_bytes));
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

/// Where a run leaves what it leaves.
pub(crate) struct Files {
    pub(crate) stdout: PathBuf,
    pub(crate) stderr: PathBuf,
    pub(crate) report: PathBuf,
    pub(crate) store: PathBuf,
}

impl Files {
    fn new(directory: &Path, label: &str) -> Self {
        let file = |ending: &str| directory.join(format!("{label}.{ending}"));
        Self { stdout: file("out"), stderr: file("err"), report: file("json"), store: file("store") }
    }
}
