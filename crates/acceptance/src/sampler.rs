//! Measures from outside what a run takes of DRAM, every 50 ms.
//!
//! ```text
//!  charged  = Σ members: anonymous memory (smaps_rollup) − the pager's own − its unmanaged part   +   memory behind the space file
//!  overhead = Σ members: the unmanaged part   +   all anonymous memory of the keeper
//!  own      = Σ members: what the pager maps for itself in them, which has its own limit
//! ```
//! Members are the descendants of the process that was started, and those seen as such before. The unmanaged part of
//! each, and the pager's own, are found by a walk of its mappings about once a second and taken as constant in between.
//!
//! A sample is no instant: while one mapping is read, pages move to another that is read later and count twice; at ten
//! thousand evictions a second that is a MiB. So when a sample is above the target the whole run is stopped, measured,
//! and let go on; it counts as confirmed when it is above the target while nothing moves.

use crate::os;
use crate::proc::{self, Kin, Process};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Time from one sample to the next.
const PERIOD: Duration = Duration::from_millis(50);
/// After a sample at least this many times its duration passes, so that measuring does not become the load: with a
/// dozen members of 50 MiB each it costs 20 ms.
const REST: u32 = 2;
/// Time from one exact walk over the mappings to the next.
const EXACT_PERIOD: Duration = Duration::from_secs(1);
/// Time from one stop of the run to the next: a run that is above its target all the time must get on as well.
const STOP_PERIOD: Duration = Duration::from_millis(400);
/// How long all processes may take to stop. A thread that waits for a page inside a system call stops only after it got
/// the page, and who would bring it is stopped.
const STOP_WITHIN: Duration = Duration::from_millis(20);
/// Charged memory may exceed the target by a fiftieth.
const TOLERANCE: u64 = 50;
/// Of a run that is above its target so many stops are explained.
const EXPLAINED_MAX: u32 = 3;

/// What was seen of a run.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    /// Samples taken.
    pub samples: u64,
    /// Samples above the target and its tolerance.
    pub samples_over: u64,
    /// Those of them that a look at the stopped run confirmed.
    pub samples_over_confirmed: u64,
    /// The most that was charged in a stopped run, in bytes.
    pub stopped_bytes_max: u64,
    /// The most that was charged, in bytes.
    pub charged_bytes_max: u64,
    /// The most that was charged in the last sample, in bytes.
    pub charged_bytes: u64,
    /// The most that was unmanaged, in bytes.
    pub overhead_bytes_max: u64,
    /// The most that the pager itself had in one member, in bytes.
    pub own_bytes_max: u64,
    /// The most members at one time, the keeper not counted.
    pub members_max: usize,
    /// The most that the space file took, in bytes.
    pub pool_bytes_max: u64,
    /// The inode of the space file.
    pub space_inode: Option<u64>,
}

/// A thread that samples one run until it is stopped.
pub struct Sampler {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
}

/// What a sampler watches.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// The process that was started.
    pub root: i32,
    /// Whether it is a keeper, whose own memory is overhead.
    pub kept: bool,
    /// The target, in bytes.
    pub target_bytes: u64,
}

impl Sampler {
    /// Starts to sample.
    pub fn start(watched: Watched) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let thread = thread::spawn({
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            move || sample_until(&stop, &seen, watched)
        });
        Self { stop, seen, thread: Some(thread) }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        *self.seen.lock().expect("the sampler does not panic")
    }

    /// Stops, and gives what was seen.
    pub fn finish(mut self) -> Seen {
        self.end();
        self.seen()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().expect("the sampler does not panic");
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.end();
    }
}

fn sample_until(stop: &AtomicBool, seen: &Mutex<Seen>, watched: Watched) {
    let mut look = Look::new(watched);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let sample = look.take();
        let limit = look.limit_bytes();
        let over = sample.charged_bytes > limit;
        let stopped = if over { look.take_stopped() } else { None };
        let stopped_bytes = stopped.map_or(0, |sample| sample.charged_bytes);
        let mut seen = seen.lock().expect("nobody panics with the lock");
        seen.add(&sample);
        seen.samples_over += u64::from(over);
        seen.samples_over_confirmed += u64::from(stopped_bytes > limit);
        seen.stopped_bytes_max = seen.stopped_bytes_max.max(stopped_bytes);
        drop(seen);
        thread::park_timeout(PERIOD.saturating_sub(began.elapsed()).max(began.elapsed() * REST));
    }
}

impl Seen {
    fn add(&mut self, sample: &Sample) {
        self.samples += 1;
        self.charged_bytes = sample.charged_bytes;
        self.charged_bytes_max = self.charged_bytes_max.max(sample.charged_bytes);
        self.overhead_bytes_max = self.overhead_bytes_max.max(sample.overhead_bytes);
        self.own_bytes_max = self.own_bytes_max.max(sample.own_bytes);
        self.pool_bytes_max = self.pool_bytes_max.max(sample.pool_bytes);
        self.members_max = self.members_max.max(sample.members);
        self.space_inode = self.space_inode.or(sample.space_inode);
    }
}

/// One sample.
#[derive(Clone, Copy, Default, Debug)]
struct Sample {
    charged_bytes: u64,
    overhead_bytes: u64,
    /// The pager's own in the member that has most of it.
    own_bytes: u64,
    pool_bytes: u64,
    members: usize,
    space_inode: Option<u64>,
}

/// Anonymous memory of a member that is not charged, in bytes.
#[derive(Clone, Copy, Default, Debug)]
struct Uncharged {
    own: u64,
    unmanaged: u64,
}

/// What is remembered from sample to sample.
struct Look {
    watched: Watched,
    /// Members seen so far, alive or not.
    members: HashSet<Process>,
    /// Processes that were looked at and are no members.
    strangers: HashSet<Process>,
    /// What of each member was not charged when it was last walked.
    uncharged: HashMap<Process, Uncharged>,
    space_inode: Option<u64>,
    walked: Option<Instant>,
    stopped: Option<Instant>,
    /// Samples above the target that were explained.
    explained: u32,
}

impl Look {
    fn new(watched: Watched) -> Self {
        Self {
            watched,
            members: HashSet::new(),
            strangers: HashSet::new(),
            uncharged: HashMap::new(),
            space_inode: None,
            walked: None,
            stopped: None,
            explained: 0,
        }
    }

    fn take(&mut self) -> Sample {
        let exact = self.walked.is_none_or(|at| at.elapsed() >= EXACT_PERIOD);
        if exact {
            self.walked = Some(Instant::now());
            self.uncharged.clear();
        }
        self.sum()
    }

    /// Measures while all processes of the run are stopped; `None` when they were only just stopped.
    fn take_stopped(&mut self) -> Option<Sample> {
        if self.stopped.is_some_and(|at| at.elapsed() < STOP_PERIOD) {
            return None;
        }
        let pids: Vec<i32> = self.alive().iter().map(|kin| kin.process.pid).collect();
        pids.iter().for_each(|&pid| os::stop(pid));
        let began = Instant::now();
        while began.elapsed() < STOP_WITHIN && !pids.iter().all(|&pid| proc::is_stopped(pid)) {
            thread::yield_now();
        }
        self.walked = Some(Instant::now());
        self.uncharged.clear();
        let sample = self.sum();
        if sample.charged_bytes > self.limit_bytes() && self.explained < EXPLAINED_MAX {
            self.explained += 1;
            self.explain(&sample, &pids);
        }
        pids.iter().for_each(|&pid| os::resume(pid));
        self.stopped = Some(Instant::now());
        Some(sample)
    }

    fn sum(&mut self) -> Sample {
        let alive = self.alive();
        let mut sample = Sample::default();
        for process in alive.iter().map(|kin| kin.process) {
            let Some(anonymous) = proc::anonymous_bytes(process.pid) else { continue };
            if self.watched.kept && process.pid == self.watched.root {
                sample.overhead_bytes += anonymous;
                continue;
            }
            let Uncharged { own, unmanaged } = self.uncharged(process, anonymous);
            sample.members += 1;
            sample.own_bytes = sample.own_bytes.max(own);
            sample.overhead_bytes += unmanaged.min(anonymous);
            sample.charged_bytes += anonymous.saturating_sub(own + unmanaged);
        }
        if self.watched.kept
            && let Some(file) = alive.iter().find_map(|kin| proc::space_file(kin.process.pid))
        {
            self.space_inode = Some(file.inode);
            sample.pool_bytes = file.bytes;
            sample.charged_bytes += file.bytes;
        }
        sample.space_inode = self.space_inode;
        sample
    }

    fn uncharged(&mut self, process: Process, anonymous: u64) -> Uncharged {
        if !self.watched.kept {
            return Uncharged::default();
        }
        *self.uncharged.entry(process).or_insert_with(|| match proc::anonymous(process.pid) {
            Some(found) => {
                Uncharged { own: found.own, unmanaged: anonymous.saturating_sub(found.managed() + found.own) }
            }
            None => Uncharged { own: 0, unmanaged: anonymous },
        })
    }

    fn limit_bytes(&self) -> u64 {
        self.watched.target_bytes + self.watched.target_bytes / TOLERANCE
    }

    /// Says of a stopped run that is above its target what each process has.
    fn explain(&self, sample: &Sample, pids: &[i32]) {
        let kib = |bytes: u64| bytes >> 10;
        eprintln!(
            "above the target of {} KiB: {} KiB are charged, of which the space file {} KiB",
            kib(self.watched.target_bytes),
            kib(sample.charged_bytes),
            kib(sample.pool_bytes)
        );
        for &pid in pids {
            let (Some(all), Some(found)) = (proc::anonymous_bytes(pid), proc::anonymous(pid)) else { continue };
            eprintln!(
                "  process {pid}: armed {} KiB, plain {} KiB; not charged: the pager's own {} KiB, unmanaged {} KiB",
                kib(found.armed),
                kib(found.plain),
                kib(found.own),
                kib(all.saturating_sub(found.managed() + found.own))
            );
        }
    }

    /// The members that live, the process that was started first.
    fn alive(&mut self) -> Vec<Kin> {
        let everyone = proc::everyone();
        let below: HashSet<Process> = proc::tree(&everyone, self.watched.root).iter().map(|kin| kin.process).collect();
        self.members.extend(below);
        let mut alive: Vec<Kin> = everyone.into_iter().filter(|kin| !kin.zombie && self.is_member(kin)).collect();
        alive.sort_by_key(|kin| kin.process.pid != self.watched.root);
        alive
    }

    /// Whether a process belongs to the run. One that lost its parents before it was seen is known by the space file.
    fn is_member(&mut self, kin: &Kin) -> bool {
        if self.members.contains(&kin.process) {
            return true;
        }
        let Some(inode) = self.space_inode else { return false };
        if !self.strangers.insert(kin.process) {
            return false;
        }
        let member = proc::maps_space(kin.process.pid) == Some(inode);
        if member {
            self.members.insert(kin.process);
        }
        member
    }
}
