//! Starts a program, passes signals on to it, and waits for it and for everything it leaves behind.
//!
//! memvisor stays in the program's process group, as `env` and `nice` do, so a terminal that signals the group (Ctrl-C,
//! Ctrl-Z, hang-up) reaches the program without us; the kernel marks such signals as its own and they are not passed
//! on. A signal that a process sent to memvisor is. Orphans of the tree come to memvisor, because it is their subreaper.

use crate::exit::{Exit, Failure};
use crate::host;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::Command;

/// Signals that are passed on.
const PASSED_ON: [i32; 6] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];

/// Why supervision failed.
#[derive(Debug)]
pub enum SuperviseError {
    /// Signals cannot be received.
    Signals(io::Error),
    /// The kernel does not start the program.
    Start(PathBuf, io::Error),
}

impl fmt::Display for SuperviseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SuperviseError::Signals(_) => f.write_str("cannot prepare for signals"),
            SuperviseError::Start(path, _) => write!(f, "cannot start {}", path.display()),
        }
    }
}

impl std::error::Error for SuperviseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SuperviseError::Signals(source) | SuperviseError::Start(_, source) => Some(source),
        }
    }
}

impl Failure for SuperviseError {
    fn way_out(&self) -> Option<String> {
        match self {
            SuperviseError::Signals(_) => None,
            SuperviseError::Start(path, source) => Some(match source.raw_os_error() {
                Some(libc_errno::NOEXEC) => {
                    format!("name its interpreter, as in: memvisor run -- sh {}", path.display())
                }
                Some(libc_errno::TOO_LONG) => "pass fewer or shorter arguments".into(),
                _ => "check that the program runs without memvisor".into(),
            }),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            SuperviseError::Signals(_) => Exit::Memvisor,
            SuperviseError::Start(_, source) if source.kind() == io::ErrorKind::NotFound => Exit::NotFound,
            SuperviseError::Start(..) => Exit::CannotRun,
        }
    }
}

/// Error numbers that get advice of their own.
mod libc_errno {
    pub const NOEXEC: i32 = 8;
    pub const TOO_LONG: i32 = 7;
}

/// What the person should know while a tree runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The program has ended, and this many of its processes go on.
    Survivors(usize),
    /// memvisor leaves, and this many processes go on.
    Left(usize),
}

/// A tree of processes that memvisor started.
pub struct Tree {
    program: Pid,
    /// Children that this process had before: they are none of ours.
    strangers: Vec<u32>,
    signals: SignalsInfo<WithOrigin>,
    ended: Option<Exit>,
    signals_to_survivors: u32,
}

impl Tree {
    /// Starts `command`.
    ///
    /// # Errors
    /// When signals cannot be received or the kernel does not start the program.
    pub fn start(mut command: Command, program: PathBuf) -> Result<Self, SuperviseError> {
        let signals_failed = |error: io::Error| SuperviseError::Signals(error);
        // A kernel that refuses only costs us the orphans.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let strangers = host::children_of(std::process::id());
        let ignored = ignored_signals();
        let heard = PASSED_ON.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0).chain([SIGCHLD]);
        let signals = SignalsInfo::<WithOrigin>::new(heard).map_err(signals_failed)?;
        let child = command.spawn().map_err(|error| SuperviseError::Start(program, error))?;
        let program = Pid::from_raw(child.id() as i32).expect("the kernel gives no process the number 0");
        Ok(Self { program, strangers, signals, ended: None, signals_to_survivors: 0 })
    }

    /// The process id of the program.
    pub fn program(&self) -> u32 {
        self.program.as_raw_pid() as u32
    }

    /// Waits until the whole tree has ended, and says how the program did.
    pub fn wait(mut self, mut notice: impl FnMut(Notice)) -> Exit {
        loop {
            let was_running = self.ended.is_none();
            if let Some(exit) = self.reap() {
                return exit;
            }
            if was_running && self.ended.is_some() {
                notice(Notice::Survivors(self.survivors().len()));
            }
            let arrived: Vec<Origin> = self.signals.wait().collect();
            for origin in arrived.iter().filter(|origin| origin.signal != SIGCHLD) {
                self.pass_on(origin);
            }
            if self.signals_to_survivors > 1 {
                // Asked twice to end: the survivors go on without us, which they can.
                notice(Notice::Left(self.survivors().len()));
                return self.ended.unwrap_or(Exit::Memvisor);
            }
        }
    }

    /// Takes in every child that has ended; gives the program's exit when no one of the tree is left.
    fn reap(&mut self) -> Option<Exit> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.program => self.ended = Some(exit_of(status)),
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => break,
                // No child at all.
                Err(_) => return Some(self.ended.unwrap_or(Exit::Memvisor)),
            }
        }
        // Children are left; they may all be strangers. A kernel that does not list children says none, and is waited for.
        match self.ended {
            Some(exit) if !self.strangers.is_empty() && self.survivors().is_empty() => Some(exit),
            _ => None,
        }
    }

    /// The children of this process that belong to the tree.
    fn survivors(&self) -> Vec<u32> {
        let mut children = host::children_of(std::process::id());
        children.retain(|pid| !self.strangers.contains(pid));
        children
    }

    fn pass_on(&mut self, origin: &Origin) {
        // Only numbers of named signals were asked for.
        let Some(signal) = Signal::from_named_raw(origin.signal) else { return };
        let by_terminal = matches!(origin.cause, Cause::Kernel);
        if self.ended.is_none() {
            if !(by_terminal && in_our_group(self.program)) {
                let _ = rustix::process::kill_process(self.program, signal);
            }
            return;
        }
        self.signals_to_survivors += 1;
        for pid in self.survivors().into_iter().filter_map(|pid| Pid::from_raw(pid as i32)) {
            if !(by_terminal && in_our_group(pid)) {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    }
}

fn in_our_group(pid: Pid) -> bool {
    rustix::process::getpgid(Some(pid)).is_ok_and(|group| group == rustix::process::getpgrp())
}

fn exit_of(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Program(code as u8),
        (None, Some(signal)) => Exit::Signal(signal as u8),
        (None, None) => Exit::Memvisor,
    }
}

/// Signals that whoever started us wants ignored (`nohup`), a bit each: a handler of ours would undo that for the
/// program.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
