//! Watching all spaces of a host every 50 ms, from the first to the end of the last: what each is charged for and what it was told.
//!
//! ```text
//!   tenants    a ├──fill──┬─────────────── the experiment ───────────────┬──verify──┤
//!                   b ├───┴──────────────────────────────────────────────┴──verify────┤
//!   watched     ├───────────────────────────────────────────────────────────────────────┤
//! ```
//! Whoever starts a space adds it, with the process that keeps it; it is looked for until it is there, and looked at until that
//! process has ended. What the words say is the pager's own account, so [`Outside`] asks the kernel once a second.

use super::outside::{Outside, Unlike};
use super::words::{Amounts, Words};
use super::{MIB, mib};
use crate::plot::lines::Panel;
use memvisor_acceptance::proc::{self, Process};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_millis(50);
/// A sample is late so long after the one before: five periods, in which a space can be told less and back again.
const LATE: Duration = Duration::from_millis(250);
/// Samples above the host that are written down, each with what every space had: enough to see what happened.
const OVER_MAX: usize = 50;
/// Points of a line in a picture: more than it has dots across would not be seen.
const POINTS_MAX: usize = 600;
/// Spaces that are drawn: with more lines than there are colours they could not be told apart.
const SPACES_MAX: usize = 5;

/// Threads that watch: one the words, the other what the kernel says.
pub(super) struct Watch {
    list: Arc<List>,
    words: Option<JoinHandle<Result<Watched, String>>>,
    outside: Option<JoinHandle<Result<Unlike, String>>>,
    began: Instant,
}

/// Who is watched, which grows.
#[derive(Default)]
pub(super) struct List {
    over: AtomicBool,
    spaces: Mutex<Vec<(String, Option<Process>)>>,
}

/// A space, as one of the threads sees it.
pub(super) struct Seat {
    pub(super) name: String,
    keeper: Option<Process>,
    words: Option<Words>,
    is_seen: bool,
}

/// What was seen.
pub(super) struct Watched {
    host_bytes: u64,
    names: Vec<String>,
    began: Instant,
    samples: Vec<Sample>,
    unlike: Unlike,
}

struct Sample {
    at: Instant,
    /// In the order in which spaces were added. Who came later is not there yet; who is not there at the time has none.
    spaces: Vec<Option<Amounts>>,
}

impl Sample {
    fn of(&self, at: usize) -> Option<Amounts> {
        self.spaces.get(at).copied().flatten()
    }

    fn charged(&self) -> u64 {
        self.spaces.iter().flatten().map(|space| space.charged).sum()
    }
}

impl Watch {
    /// Watches a host with so much DRAM, on which there is no space yet.
    pub(super) fn start(host_bytes: u64) -> Self {
        let (list, began) = (Arc::<List>::default(), Instant::now());
        let (one, other) = (Arc::clone(&list), Arc::clone(&list));
        Self {
            words: Some(std::thread::spawn(move || sample(&one, host_bytes, began))),
            outside: Some(std::thread::spawn(move || Outside::default().look(&other))),
            list,
            began,
        }
    }

    /// Watches space `name` too, which process `keeper` keeps or is about to.
    pub(super) fn add(&self, name: &str, keeper: u32) {
        let keeper = proc::kin(keeper as i32).map(|kin| kin.process);
        self.list.lock().push((name.to_owned(), keeper));
    }

    /// When it began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Stops, and gives what was seen.
    ///
    /// # Errors
    /// When a space could not be read, or was never there.
    pub(super) fn finish(&mut self) -> Result<Watched, String> {
        self.list.over.store(true, Ordering::Relaxed);
        let (words, outside) = self.words.take().zip(self.outside.take()).ok_or("the watch ended twice")?;
        let watched = words.join().map_err(|_| "the watch died")??;
        let unlike = outside.join().map_err(|_| "the watch from outside died")??;
        Ok(Watched { unlike, ..watched })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.list.over.store(true, Ordering::Relaxed);
    }
}

impl List {
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Gives those a seat that have none.
    pub(super) fn seat(&self, seats: &mut Vec<Seat>) {
        let spaces = self.lock();
        let new = spaces.iter().skip(seats.len());
        seats.extend(new.map(|(name, keeper)| Seat {
            name: name.clone(),
            keeper: *keeper,
            words: None,
            is_seen: false,
        }));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, Option<Process>)>> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// What it is charged for and told; nothing before there is a space, and after its keeper has ended.
    pub(super) fn amounts(&mut self) -> Result<Option<Amounts>, String> {
        let Some(keeper) = self.keeper() else {
            // Whoever holds a memory file holds its memory.
            self.words = None;
            return Ok(None);
        };
        if self.words.is_none() {
            self.words = Words::of(keeper as u32).ok();
        }
        self.is_seen |= self.words.is_some();
        self.words.as_ref().map(Words::amounts).transpose()
    }

    /// The process that keeps it, while that runs.
    pub(super) fn keeper(&mut self) -> Option<i32> {
        let runs = |keeper: &Process| proc::kin(keeper.pid).is_some_and(|kin| kin.process == *keeper && !kin.zombie);
        self.keeper = self.keeper.filter(runs);
        self.keeper.map(|keeper| keeper.pid)
    }
}

fn sample(list: &List, host_bytes: u64, began: Instant) -> Result<Watched, String> {
    let (mut seats, mut samples) = (Vec::new(), Vec::new());
    while !list.is_over() {
        let at = Instant::now();
        list.seat(&mut seats);
        let spaces = seats.iter_mut().map(Seat::amounts).collect::<Result<Vec<_>, _>>()?;
        if !samples.is_empty() || spaces.iter().any(Option::is_some) {
            samples.push(Sample { at, spaces });
        }
        std::thread::sleep(PERIOD.saturating_sub(at.elapsed()));
    }
    list.seat(&mut seats);
    if let Some(never) = seats.iter().find(|seat| !seat.is_seen) {
        return Err(format!("{} was never seen", never.name));
    }
    let names = seats.into_iter().map(|seat| seat.name).collect();
    Ok(Watched { host_bytes, names, began, samples, unlike: Unlike::default() })
}

impl Watched {
    /// The most that was charged at once, in bytes.
    pub(super) fn charged_max(&self) -> u64 {
        self.samples.iter().map(Sample::charged).max().unwrap_or(0)
    }

    /// Whether that was within the host's DRAM, by the words and by the kernel.
    pub(super) fn is_within(&self) -> bool {
        let is_said = !self.samples.is_empty() && self.charged_max() <= self.host_bytes;
        is_said && self.unlike.is_within(self.host_bytes)
    }

    pub(super) fn sentence(&self) -> String {
        let gaps = Gaps::of(self.samples.iter().map(|sample| sample.at));
        format!(
            "all spaces together were charged for at most {} of {} in {} samples from the first to the end of the last{} ({}); {}",
            mib(self.charged_max()),
            mib(self.host_bytes),
            self.samples.len(),
            self.over_sentence(),
            gaps.sentence(),
            self.unlike.sentence(),
        )
    }

    /// Samples in which more was charged than there is.
    fn over(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(|sample| sample.charged() > self.host_bytes)
    }

    fn figure(&self, sample: &Sample) -> Value {
        let of = |(name, at): (&String, usize)| {
            sample.of(at).map(|seen| json!({"space": name, "charged_bytes": seen.charged, "told_bytes": seen.told}))
        };
        let spaces: Vec<Value> = self.names.iter().zip(0..).filter_map(of).collect();
        json!({"at_s": self.seconds(sample.at), "charged_bytes": sample.charged(), "spaces": spaces})
    }

    /// How many samples were above the host, if any, and when.
    fn over_sentence(&self) -> String {
        let at: Vec<f64> = self.over().map(|sample| self.seconds(sample.at)).collect();
        match (at.first(), at.last()) {
            (Some(first), Some(last)) => {
                format!(", ABOVE IT IN {} ({first:.1} to {last:.1} s after the start)", at.len())
            }
            _ => String::new(),
        }
    }

    /// Seconds from the start of the watch to `at`.
    pub(super) fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.began).as_secs_f64()
    }

    /// What space number `at` was charged for and told between two instants.
    pub(super) fn between(&self, at: usize, from: Instant, to: Instant) -> impl Iterator<Item = Amounts> {
        self.timed(at, from, to).map(|(_, amounts)| amounts)
    }

    /// The same, each with its instant.
    pub(super) fn timed(&self, at: usize, from: Instant, to: Instant) -> impl Iterator<Item = (Instant, Amounts)> {
        let samples = self.samples.iter().filter(move |sample| (from..=to).contains(&sample.at));
        samples.filter_map(move |sample| Some((sample.at, sample.of(at)?)))
    }

    pub(super) fn figures(&self) -> Value {
        let gaps = Gaps::of(self.samples.iter().map(|sample| sample.at));
        json!({
            "samples": self.samples.len(), "host_bytes": self.host_bytes, "charged_bytes_max": self.charged_max(),
            "samples_over": self.over().count(), "over": self.over().take(OVER_MAX).map(|over| self.figure(over)).collect::<Vec<_>>(),
            "gap_ms_max": gaps.max.as_millis() as u64, "gap_ms_p99": gaps.p99.as_millis() as u64,
            "samples_late": gaps.late, "late_after_ms": LATE.as_millis() as u64, "kernel": self.unlike.figures(),
        })
    }

    pub(super) fn panel(&self) -> Panel {
        let panel = Panel::new("DRAM charged, MiB")
            .with("all", self.line(&|sample| Some(sample.charged())))
            .with("host", self.line(&|_| Some(self.host_bytes)));
        self.of_spaces(panel, |amounts| amounts.charged)
    }

    /// What each space was told.
    pub(super) fn told_panel(&self) -> Panel {
        self.of_spaces(Panel::new("DRAM told, MiB"), |amounts| amounts.told)
    }

    fn of_spaces(&self, panel: Panel, bytes: fn(&Amounts) -> u64) -> Panel {
        let names = self.names.iter().enumerate().take(SPACES_MAX);
        names.fold(panel, |panel, (at, name)| panel.with(name, self.line(&|sample| sample.of(at).as_ref().map(bytes))))
    }

    fn line(&self, bytes: &dyn Fn(&Sample) -> Option<u64>) -> Vec<(f64, f64)> {
        let step = self.samples.len().div_ceil(POINTS_MAX).max(1);
        let points = self.samples.iter().step_by(step);
        points.filter_map(|sample| Some((self.seconds(sample.at), bytes(sample)? as f64 / MIB as f64))).collect()
    }
}

/// Times from one sample to the next: what happened in a long one was not seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Gaps {
    max: Duration,
    p99: Duration,
    /// How many were longer than `LATE`.
    late: usize,
    count: usize,
}

impl Gaps {
    fn of(instants: impl Iterator<Item = Instant>) -> Self {
        let instants: Vec<Instant> = instants.collect();
        let mut gaps: Vec<Duration> = instants.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_unstable();
        let p99 = (gaps.len() * 99).div_ceil(100).saturating_sub(1);
        Self {
            max: gaps.last().copied().unwrap_or_default(),
            p99: gaps.get(p99).copied().unwrap_or_default(),
            late: gaps.iter().filter(|gap| **gap > LATE).count(),
            count: gaps.len(),
        }
    }

    fn sentence(self) -> String {
        format!(
            "99 of 100 within {} ms of the one before, the largest gap {} ms, {:.1} % later than {} ms",
            self.p99.as_millis(),
            self.max.as_millis(),
            self.late as f64 / self.count.max(1) as f64 * 100.0,
            LATE.as_millis()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(mib: u64) -> Option<Amounts> {
        Some(Amounts { charged: mib * MIB, told: mib * MIB })
    }

    fn watched(samples: &[&[Option<Amounts>]]) -> Watched {
        let began = Instant::now();
        let sample = |(at, spaces): (usize, &&[Option<Amounts>])| Sample {
            at: began + PERIOD * at as u32,
            spaces: spaces.to_vec(),
        };
        Watched {
            host_bytes: 100 * MIB,
            names: vec!["first".into(), "second".into()],
            began,
            samples: samples.iter().enumerate().map(sample).collect(),
            unlike: Unlike::of_one(40 * MIB),
        }
    }

    #[test]
    fn words_that_are_within_the_host_are_not_believed_when_the_kernel_counts_more() {
        let seen = watched(&[&[amounts(40)]]);
        assert!(seen.is_within());
        assert!(!Watched { unlike: Unlike::of_one(103 * MIB), ..seen }.is_within());
        // Nor when it was not asked.
        assert!(!Watched { unlike: Unlike::default(), ..watched(&[&[amounts(40)]]) }.is_within());
    }

    #[test]
    fn a_space_counts_from_when_it_comes_until_it_goes() {
        let seen = watched(&[&[amounts(60)], &[amounts(60), None], &[amounts(50), amounts(50)], &[None, amounts(70)]]);
        assert!(seen.is_within() && seen.charged_max() == 100 * MIB);
        let second: Vec<u64> = seen.between(1, seen.began, seen.began + PERIOD * 9).map(|seen| seen.told).collect();
        assert_eq!(second, [50 * MIB, 70 * MIB]);
    }

    #[test]
    fn one_sample_above_the_host_while_spaces_are_filled_or_verified_is_not_within() {
        assert!(!watched(&[&[amounts(60), amounts(41)], &[amounts(50), amounts(50)]]).is_within());
        assert!(!watched(&[&[amounts(50), amounts(50)], &[None, amounts(101)]]).is_within());
        assert!(!watched(&[]).is_within());
    }

    #[test]
    fn gaps_are_told_by_the_largest_and_by_how_many_are_late() {
        let began = Instant::now();
        let at = [0, 50, 100, 150, 600, 650].map(|ms| began + Duration::from_millis(ms));
        let gaps = Gaps::of(at.into_iter());
        assert_eq!((gaps.max, gaps.late, gaps.count), (Duration::from_millis(450), 1, 5));
        assert!(gaps.sentence().contains("20.0 % later than 250 ms"), "{}", gaps.sentence());
        assert_eq!(Gaps::of([began].into_iter()), Gaps::default());
    }

    #[test]
    fn a_space_that_never_comes_is_an_error() {
        let mut watch = Watch::start(MIB);
        // This process keeps no space.
        watch.add("nobody", std::process::id());
        assert_eq!(watch.finish().err().unwrap(), "nobody was never seen");
    }
}
