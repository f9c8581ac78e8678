//! A space with a program in it that does what it is told.

use super::Lab;
use super::host::Host;
use super::kin::Kin;
use super::words::Words;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a set may take to be filled, or verified.
const FILLED: Duration = Duration::from_secs(120);

/// What a space is to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    pub(super) set_mib: u64,
    pub(super) shares: Option<u32>,
    /// Reservation and limit at once.
    pub(super) exactly_mib: Option<u64>,
    /// Reservation alone.
    pub(super) reserved_mib: Option<u64>,
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
    run: Kin,
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
    /// Starts `workingset` in a space of `host`, and waits until its set is filled.
    ///
    /// # Errors
    /// When it does not get so far.
    pub(super) fn start(lab: &Lab, host: &Host, name: &str, terms: &Terms) -> Result<Self, String> {
        let program = [lab.workingset.clone().into(), terms.set_mib.to_string().into()];
        let mut tenant = Self::run(lab, host, name, terms, &program)?;
        tenant.wait_until_filled(host)?;
        Ok(tenant)
    }

    /// Starts a program in a space of `host`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn run(lab: &Lab, host: &Host, name: &str, terms: &Terms, program: &[OsString]) -> Result<Self, String> {
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
        let size = |mib: u64| OsString::from(format!("{mib}M"));
        if let Some(mib) = terms.exactly_mib.or(terms.reserved_mib) {
            words.extend(["--reservation".into(), size(mib)]);
        }
        if let Some(mib) = terms.exactly_mib {
            words.extend(["--limit".into(), size(mib)]);
        }
        words.push("--".into());
        words.extend_from_slice(program);
        let log = File::create(host.directory().join(format!("{name}.log"))).map_err(|error| wrong("no log", error))?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let (run, pipes) = Kin::spawn(&mut command).map_err(|error| wrong("cannot start memvisor", error))?;
        host.watch().add(name, run.id());
        let said = Arc::new(Mutex::new(Said::default()));
        std::thread::spawn({
            let said = Arc::clone(&said);
            move || {
                for line in pipes.stdout.into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok) {
                    lock(&said).hear(&line);
                }
            }
        });
        Ok(Self { name: name.into(), run, orders: pipes.stdin, said })
    }

    /// Waits until the program says that its set is filled.
    ///
    /// # Errors
    /// When it does not get so far.
    pub(super) fn wait_until_filled(&mut self, host: &Host) -> Result<(), String> {
        self.wait_until(host, |said| said.filled)
    }

    /// How it ended, if it did.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        self.run.ended()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not come.
    pub(super) fn wait(&self, most: Duration) -> Result<ExitStatus, String> {
        self.run.wait(most).map_err(|error| format!("{}: {error}", self.name))
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

    /// Touches that it has told of until now: a fifth of a second ago at most, if it gets on.
    pub(super) fn touches(&self) -> u64 {
        lock(&self.said).ops.last().map_or(0, |(_, total)| *total)
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
            let ended = self.run.ended();
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
        // A program that nobody tells anything any more ends by itself; the others are ended with `run`.
        self.orders = None;
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
