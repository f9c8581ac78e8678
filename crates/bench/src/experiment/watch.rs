//! Watching all spaces of a host every 50 ms: what each is charged for and what it was told.

use super::words::{Amounts, Words};
use super::{MIB, mib};
use crate::plot::lines::Panel;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_millis(50);
/// Points of a line in a picture: more than it has dots across would not be seen.
const POINTS_MAX: usize = 600;
/// Spaces that are drawn: with more lines than there are colours they could not be told apart.
const SPACES_MAX: usize = 5;

/// A thread that watches.
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Watched, String>>>,
}

/// What was seen.
pub(super) struct Watched {
    host_bytes: u64,
    names: Vec<String>,
    began: Instant,
    samples: Vec<Sample>,
}

struct Sample {
    at: Instant,
    spaces: Vec<Amounts>,
}

impl Sample {
    fn charged(&self) -> u64 {
        self.spaces.iter().map(|space| space.charged).sum()
    }
}

impl Watch {
    /// Watches the named spaces of a host with so much DRAM.
    pub(super) fn start(host_bytes: u64, spaces: Vec<(String, Words)>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let (names, words): (Vec<_>, Vec<_>) = spaces.into_iter().unzip();
            let mut watched = Watched { host_bytes, names, began: Instant::now(), samples: Vec::new() };
            while !seen.load(Ordering::Relaxed) {
                let spaces = words.iter().map(Words::amounts).collect::<Result<Vec<_>, _>>()?;
                watched.samples.push(Sample { at: Instant::now(), spaces });
                std::thread::sleep(PERIOD);
            }
            Ok(watched)
        });
        Self { over, thread: Some(thread) }
    }

    /// Stops, and gives what was seen.
    ///
    /// # Errors
    /// When a space could not be read.
    pub(super) fn finish(mut self) -> Result<Watched, String> {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or("the watch ended twice")?;
        thread.join().map_err(|_| "the watch died")?
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Watched {
    /// The most that was charged at once, in bytes.
    pub(super) fn charged_max(&self) -> u64 {
        self.samples.iter().map(Sample::charged).max().unwrap_or(0)
    }

    pub(super) fn is_within(&self) -> bool {
        !self.samples.is_empty() && self.charged_max() <= self.host_bytes
    }

    pub(super) fn sentence(&self) -> String {
        format!(
            "all spaces together were charged for at most {} of {} in {} samples",
            mib(self.charged_max()),
            mib(self.host_bytes),
            self.samples.len()
        )
    }

    /// Seconds from the start of the watch to `at`.
    pub(super) fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.began).as_secs_f64()
    }

    /// What space number `at` was charged for and told between two instants.
    pub(super) fn between(&self, at: usize, from: Instant, to: Instant) -> impl Iterator<Item = Amounts> {
        let samples = self.samples.iter().filter(move |sample| (from..=to).contains(&sample.at));
        samples.map(move |sample| sample.spaces[at])
    }

    /// The same, each with its instant.
    pub(super) fn timed(&self, at: usize, from: Instant, to: Instant) -> impl Iterator<Item = (Instant, Amounts)> {
        let samples = self.samples.iter().filter(move |sample| (from..=to).contains(&sample.at));
        samples.map(move |sample| (sample.at, sample.spaces[at]))
    }

    pub(super) fn figures(&self) -> Value {
        json!({
            "samples": self.samples.len(), "host_bytes": self.host_bytes, "charged_bytes_max": self.charged_max(),
            "samples_over": self.samples.iter().filter(|sample| sample.charged() > self.host_bytes).count(),
        })
    }

    pub(super) fn panel(&self) -> Panel {
        let panel = Panel::new("DRAM charged, MiB")
            .with("all", self.line(&Sample::charged))
            .with("host", self.line(&|_| self.host_bytes));
        self.of_spaces(panel, |amounts| amounts.charged)
    }

    /// What each space was told.
    pub(super) fn told_panel(&self) -> Panel {
        self.of_spaces(Panel::new("DRAM told, MiB"), |amounts| amounts.told)
    }

    fn of_spaces(&self, panel: Panel, bytes: fn(&Amounts) -> u64) -> Panel {
        let names = self.names.iter().enumerate().take(SPACES_MAX);
        names.fold(panel, |panel, (at, name)| panel.with(name, self.line(&|sample| bytes(&sample.spaces[at]))))
    }

    fn line(&self, bytes: &dyn Fn(&Sample) -> u64) -> Vec<(f64, f64)> {
        let step = self.samples.len().div_ceil(POINTS_MAX).max(1);
        let points = self.samples.iter().step_by(step);
        points.map(|sample| (self.seconds(sample.at), bytes(sample) as f64 / MIB as f64)).collect()
    }
}
