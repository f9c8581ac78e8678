//! The hard limit of a case: when it is over, everything the case started is shown and killed.

use crate::os;
use crate::proc;
use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The processes that a case has started, each the head of a process group, shared with its watchdog.
#[derive(Clone, Default)]
pub struct Started(Arc<Mutex<Vec<proc::Process>>>);

impl Started {
    /// Adds the process `pid`, which runs.
    pub fn add(&self, pid: i32) {
        if let Some(kin) = proc::kin(pid) {
            self.0.lock().expect("nobody panics with the lock").push(kin.process);
        }
    }

    /// All that were added, their groups and all that descend from them, those that still live.
    pub fn living(&self) -> Vec<proc::Process> {
        let everyone = proc::everyone();
        let roots = self.0.lock().expect("nobody panics with the lock").clone();
        let mut living: Vec<proc::Process> = Vec::new();
        for root in roots {
            // An older process cannot be of the group: the number was free when the root got it.
            let of_group = |kin: &&proc::Kin| kin.group == root.pid && kin.process.started >= root.started;
            let tree = proc::tree(&everyone, root.pid);
            let tree = tree.iter().filter(|_| tree[0].process == root);
            let related = tree.chain(everyone.iter().filter(of_group));
            living.extend(related.filter(|kin| !kin.zombie).map(|kin| kin.process));
        }
        living.sort_unstable();
        living.dedup();
        living
    }

    /// Kills all of them, until none is left or new ones keep coming.
    pub fn kill(&self) {
        /// Rounds of killing: a child may be born while its parent is being killed, which takes one round more.
        const ROUNDS: usize = 5;
        for _ in 0..ROUNDS {
            let living = self.living();
            living.iter().for_each(|process| os::kill(process.pid));
            if living.is_empty() {
                return;
            }
        }
    }

    /// What each thread of each process waits for.
    pub fn describe(&self) -> String {
        self.living().iter().map(|process| describe(process.pid)).collect()
    }
}

/// Threads of a process that are shown at most: 64 that wait for the same thing say no more than 12.
const THREADS_SHOWN: usize = 12;

fn describe(pid: i32) -> String {
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let command = read(format!("/proc/{pid}/cmdline")).replace('\0', " ");
    let mut text = format!("process {pid}: {}\n", command.chars().take(160).collect::<String>());
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return text };
    for task in tasks.flatten().take(THREADS_SHOWN) {
        let at = task.path();
        let part = |name: &str| read(format!("{}/{name}", at.display()));
        let status = part("status");
        let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or("").replace('\t', " ");
        let name = line("Name:");
        let _ = writeln!(
            text,
            "  thread {} {name} {} wchan {} {}",
            task.file_name().to_string_lossy(),
            line("State:"),
            part("wchan"),
            line("SigBlk:")
        );
        for frame in part("stack").lines().take(8) {
            let _ = writeln!(text, "    {frame}");
        }
    }
    text
}

/// A thread that ends the case when its time is over.
pub struct Watchdog {
    stop: Arc<AtomicBool>,
    found: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts to watch. When `limit` is over, what was `started` is described and killed.
    pub fn start(started: Started, limit: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let found = Arc::new(Mutex::new(None));
        let end = Instant::now() + limit;
        let thread = thread::spawn({
            let (stop, found) = (Arc::clone(&stop), Arc::clone(&found));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        *found.lock().expect("nobody panics with the lock") = Some(started.describe());
                        started.kill();
                        return;
                    }
                    thread::park_timeout(left);
                }
            }
        });
        Self { stop, found, thread: Some(thread) }
    }

    /// Stops watching: where the case hung, if its time was over.
    pub fn finish(mut self) -> Option<String> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().expect("the watchdog does not panic");
        }
        self.found.lock().expect("nobody panics with the lock").take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn what_outlives_its_limit_is_shown_and_killed_with_its_children() {
        let script = "sleep 1000 & sleep 1000; true";
        let mut child = Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap();
        let started = Started::default();
        started.add(child.id() as i32);
        while started.living().len() < 3 {
            thread::yield_now();
        }
        let watchdog = Watchdog::start(started.clone(), Duration::ZERO);
        let status = child.wait().unwrap();
        assert!(!status.success());
        let shown = watchdog.finish().unwrap();
        assert!(shown.matches("sleep 1000").count() >= 2, "{shown}");
        assert!(started.living().is_empty());
    }
}
