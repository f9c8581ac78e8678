//! A process that is ended on every way out: when it is dropped, and when a signal ends the experiment.

use crate::cleanup::Undo;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a process may take to end that was asked to.
const ENDED: Duration = Duration::from_secs(10);
/// Time between two looks at whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// A child of ours. Only who holds the lock may signal it: a process that was waited for has no id any more.
type Slot = Arc<Mutex<Option<Child>>>;

/// A process that was started.
pub(super) struct Kin {
    slot: Slot,
    id: u32,
    undo: Option<Undo>,
}

impl Kin {
    /// Starts `command`; gives what else is known of the child, which keeps no pipe.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn spawn(command: &mut Command) -> io::Result<(Self, Pipes)> {
        let slot = Slot::default();
        let undo = Undo::new({
            let slot = Arc::clone(&slot);
            move || end(&slot)
        });
        let mut place = lock(&slot);
        let mut child = command.spawn()?;
        let pipes = Pipes { stdin: child.stdin.take(), stdout: child.stdout.take() };
        let id = child.id();
        *place = Some(child);
        drop(place);
        Ok((Self { slot, id, undo: Some(undo) }, pipes))
    }

    /// Its number, while it has not ended.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// How it ended, if it did.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        lock(&self.slot).as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Signals it. Does nothing once it has ended.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match lock(&self.slot).as_mut() {
            Some(child) => send(child, signal),
            None => Ok(()),
        }
    }

    /// Waits for its end, at most so long.
    ///
    /// # Errors
    /// When it does not end.
    pub(super) fn wait(&self, most: Duration) -> io::Result<ExitStatus> {
        let until = Instant::now() + most;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!("it runs on after {} s", most.as_secs())));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Ends it now: asked first, killed when that takes too long.
    pub(super) fn end(mut self) {
        self.undo = None;
    }
}

/// The ends of a child's pipes that are ours.
pub(super) struct Pipes {
    pub(super) stdin: Option<std::process::ChildStdin>,
    pub(super) stdout: Option<std::process::ChildStdout>,
}

fn send(child: &mut Child, signal: Signal) -> io::Result<()> {
    // Not waited for yet, so the number is still its own.
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    let pid = Pid::from_raw(child.id() as i32).ok_or_else(|| io::Error::other("it has no number"))?;
    Ok(kill_process(pid, signal)?)
}

fn end(slot: &Slot) {
    let Some(mut child) = lock(slot).take() else { return };
    let _ = send(&mut child, Signal::TERM);
    let until = Instant::now() + ENDED;
    while Instant::now() < until {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(LOOK);
    }
    // What it started would outlive it: a space's program does.
    let own = children(child.id());
    let _ = child.kill();
    let _ = child.wait();
    for one in own {
        let _ = pidfd_send_signal(&one, Signal::KILL);
    }
}

/// Handles of the processes that process `id` started, which stay theirs whoever waits for them.
fn children(id: u32) -> Vec<OwnedFd> {
    let text = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    let ids = text.split_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?));
    ids.filter_map(|id| pidfd_open(id, PidfdFlags::empty()).ok()).collect()
}

fn lock(slot: &Slot) -> MutexGuard<'_, Option<Child>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ended_with_what_holds_it() {
        let (kin, _) = Kin::spawn(Command::new("sleep").arg("600")).unwrap();
        let place = format!("/proc/{}", kin.id());
        assert!(kin.ended().is_none() && std::path::Path::new(&place).exists());
        drop(kin);
        assert!(!std::path::Path::new(&place).exists());
    }

    #[test]
    fn a_process_that_ended_by_itself_is_not_signalled() {
        let (kin, _) = Kin::spawn(&mut Command::new("true")).unwrap();
        assert!(kin.wait(ENDED).unwrap().success());
        kin.signal(Signal::KILL).unwrap();
        kin.end();
    }
}
