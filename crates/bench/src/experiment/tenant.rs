//! A space with a program in it that does what it is told.

use super::Lab;
use super::host::Host;
use super::words::Words;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a set may take to be filled, or verified.
const FILLED: Duration = Duration::from_secs(120);
/// How long a program may take to end that was asked to.
const ENDED: Duration = Duration::from_secs(10);

/// What a space is to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    pub(super) set_mib: u64,
    pub(super) shares: Option<u32>,
    /// Reservation and limit at once.
    pub(super) exactly_mib: Option<u64>,
    /// The CPU of all its threads and of its keeper; none for all.
    pub(super) cpu: Option<usize>,
}

impl Terms {
    pub(super) fn set(set_mib: u64) -> Self {
        Self { set_mib, ..Self::default() }
    }
}

/// A space that runs.
pub(super) struct Tenant {
    /// What it is called.
    pub(super) name: String,
    run: Child,
    orders: Option<ChildStdin>,
    said: Arc<Mutex<Said>>,
}

#[derive(Default)]
struct Said {
    filled: bool,
    verified: Option<u64>,
    /// When it had touched how many pages.
    ops: Vec<(Instant, u64)>,
}

impl Tenant {
    /// Starts a program in a space of `host`, and waits until its set is filled.
    ///
    /// # Errors
    /// When it does not get so far.
    pub(super) fn start(lab: &Lab, host: &Host, name: &str, terms: &Terms) -> Result<Self, String> {
        let stores = lab.out.join("stores");
        let wrong = |what: &str, error: std::io::Error| format!("{what} for {name}: {error}");
        std::fs::create_dir_all(&stores).map_err(|error| wrong("no store", error))?;
        let mut words: Vec<OsString> = Vec::new();
        if let Some(cpu) = terms.cpu {
            words.extend(["taskset".into(), "-c".into(), cpu.to_string().into()]);
        }
        words.extend([lab.memvisor.clone().into(), "run".into(), "--quiet".into(), "--strict".into()]);
        words.extend(["--node".into(), host.directory().into(), "--name".into(), name.into()]);
        words.extend(["--store".into(), stores.into(), "--store-size".into(), "1G".into()]);
        if let Some(shares) = terms.shares {
            words.extend(["--shares".into(), shares.to_string().into()]);
        }
        if let Some(mib) = terms.exactly_mib {
            let size = || OsString::from(format!("{mib}M"));
            words.extend(["--reservation".into(), size(), "--limit".into(), size()]);
        }
        words.extend(["--".into(), lab.workingset.clone().into(), terms.set_mib.to_string().into()]);
        let log = File::create(host.directory().join(format!("{name}.log"))).map_err(|error| wrong("no log", error))?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut run = command.spawn().map_err(|error| wrong("cannot start memvisor", error))?;
        let orders = run.stdin.take();
        let said = Arc::new(Mutex::new(Said::default()));
        let out = run.stdout.take();
        std::thread::spawn({
            let said = Arc::clone(&said);
            move || {
                for line in out.into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok) {
                    lock(&said).hear(&line);
                }
            }
        });
        let mut tenant = Self { name: name.into(), run, orders, said };
        tenant.wait_until(host, |said| said.filled)?;
        Ok(tenant)
    }

    /// Tells the program what to do; see `workingset`.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn tell(&mut self, order: &str) -> Result<(), String> {
        let orders = self.orders.as_mut().ok_or("nothing can be told any more")?;
        writeln!(orders, "{order}").and_then(|()| orders.flush()).map_err(|error| format!("{}: {error}", self.name))
    }

    /// The words of its space.
    ///
    /// # Errors
    /// When there are none.
    pub(super) fn words(&self) -> Result<Words, String> {
        Words::of(self.run.id())
    }

    /// Touches each second between two instants.
    pub(super) fn ops_per_s(&self, from: Instant, to: Instant) -> f64 {
        let said = lock(&self.said);
        let within: Vec<_> = said.ops.iter().filter(|(at, _)| (from..=to).contains(at)).collect();
        match (within.first(), within.last()) {
            (Some((began, first)), Some((ended, last))) if ended > began => {
                (last - first) as f64 / (*ended - *began).as_secs_f64()
            }
            _ => 0.0,
        }
    }

    /// Touches each second, for each second since `began`.
    pub(super) fn ops_line(&self, began: Instant) -> Vec<(f64, f64)> {
        let end = lock(&self.said).ops.last().map_or(began, |(at, _)| *at);
        let second = Duration::from_secs(1);
        let seconds = end.saturating_duration_since(began).as_secs() as u32;
        (0..seconds)
            .map(|at| (f64::from(at) + 0.5, self.ops_per_s(began + second * at, began + second * (at + 1))))
            .collect()
    }

    /// Has every byte verified, and ends the program. Gives how many pages there were.
    ///
    /// # Errors
    /// When a byte is wrong, or the program ended otherwise; with what it said.
    pub(super) fn verify(mut self, host: &Host) -> Result<u64, String> {
        self.tell("quit")?;
        self.wait_until(host, |said| said.verified.is_some())?;
        let verified = lock(&self.said).verified;
        verified.ok_or_else(|| format!("{} was not verified", self.name))
    }

    fn wait_until(&mut self, host: &Host, done: impl Fn(&Said) -> bool) -> Result<(), String> {
        let until = Instant::now() + FILLED;
        loop {
            let ended: Option<ExitStatus> = self.run.try_wait().ok().flatten();
            // Looked at after it was asked whether it ended: what it said last has been heard a little later.
            if ended.is_some() {
                std::thread::sleep(Duration::from_millis(100));
            }
            if done(&lock(&self.said)) {
                return Ok(());
            }
            if ended.is_some() || Instant::now() > until {
                let log =
                    std::fs::read_to_string(host.directory().join(format!("{}.log", self.name))).unwrap_or_default();
                return Err(format!("{} does not get on ({ended:?}): {}", self.name, log.trim()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.orders = None;
        // Passed on to the program; which ends by itself too, when nobody tells it anything any more.
        if let Some(pid) = Pid::from_raw(self.run.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + ENDED;
        while Instant::now() < until {
            if !matches!(self.run.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.run.kill();
        let _ = self.run.wait();
    }
}

impl Said {
    fn hear(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let (kind, number) = (words.next(), words.next().and_then(|word| word.parse().ok()));
        match (kind, number) {
            (Some("FILLED"), Some(_)) => self.filled = true,
            (Some("OPS"), Some(total)) => self.ops.push((Instant::now(), total)),
            (Some("VERIFIED"), Some(pages)) => self.verified = Some(pages),
            _ => {}
        }
    }
}

fn lock(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}
