//! What each space did: ten minutes in full, a day by the minute.
//!
//! Samples are appended to a log as they come, so that a node that is killed loses the last ones only; when the log has grown
//! to twice what is kept, it is written anew. To take a sample twice changes nothing: that is how a log is read back.

use crate::spaces::Identity;
use crate::wire;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Samples kept in full: ten minutes at one a second.
pub const FINE_MAX: usize = 600;
/// Minutes kept: a day.
pub const COARSE_MAX: usize = 1440;
/// The span of a coarse sample.
pub const COARSE_MS: u64 = 60_000;
/// Lines that a log may have beside what is kept before it is written anew.
const SURPLUS_LINES: usize = 20_000;
const UNIT: u64 = 4096;

/// A space at one instant, in 44 bytes: a hundred spaces have 200,000 of them. Amounts are in pages, up to 16 TiB.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Sample {
    at_ms: u64,
    amounts: [u32; 5],
    rates: [f32; 3],
}

impl From<&wire::Sample> for Sample {
    fn from(sample: &wire::Sample) -> Self {
        let pages = |bytes: u64| u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let amounts = [
            sample.target_bytes,
            sample.charged_bytes,
            sample.wanted_bytes,
            sample.active_bytes,
            sample.overhead_bytes,
        ];
        let rates = [sample.faults_per_s, sample.refaults_per_s, sample.pressure];
        Self { at_ms: sample.at_ms, amounts: amounts.map(pages), rates: rates.map(|rate| rate as f32) }
    }
}

impl From<&Sample> for wire::Sample {
    fn from(sample: &Sample) -> Self {
        let [target_bytes, charged_bytes, wanted_bytes, active_bytes, overhead_bytes] =
            sample.amounts.map(|pages| u64::from(pages) * UNIT);
        let [faults_per_s, refaults_per_s, pressure] = sample.rates.map(f64::from);
        Self {
            at_ms: sample.at_ms,
            target_bytes,
            charged_bytes,
            wanted_bytes,
            active_bytes,
            overhead_bytes,
            faults_per_s,
            refaults_per_s,
            pressure,
        }
    }
}

/// Which samples are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Resolution {
    /// Each.
    #[default]
    Fine,
    /// One a minute.
    Coarse,
}

/// The samples of one space.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ring {
    fine: VecDeque<Sample>,
    coarse: VecDeque<Sample>,
}

impl Ring {
    /// Takes a sample; one that is not newer than the last is known already.
    fn push(&mut self, sample: Sample) {
        if self.fine.back().is_none_or(|last| last.at_ms < sample.at_ms) {
            self.fine.push_back(sample);
            if self.fine.len() > FINE_MAX {
                self.fine.pop_front();
            }
        }
        self.push_coarse(sample);
    }

    /// Of a minute the last amounts and the highest rates are kept.
    fn push_coarse(&mut self, sample: Sample) {
        let minute = |sample: &Sample| sample.at_ms / COARSE_MS;
        match self.coarse.back_mut() {
            Some(last) if minute(last) > minute(&sample) => {}
            Some(last) if minute(last) == minute(&sample) => {
                let rates = std::array::from_fn(|at| last.rates[at].max(sample.rates[at]));
                let newer = if sample.at_ms >= last.at_ms { sample } else { *last };
                *last = Sample { rates, ..newer };
            }
            _ => {
                self.coarse.push_back(sample);
                if self.coarse.len() > COARSE_MAX {
                    self.coarse.pop_front();
                }
            }
        }
    }

    /// The samples, the oldest first.
    pub fn samples(&self, resolution: Resolution) -> impl Iterator<Item = wire::Sample> + '_ {
        let samples = match resolution {
            Resolution::Fine => &self.fine,
            Resolution::Coarse => &self.coarse,
        };
        samples.iter().map(wire::Sample::from)
    }

    fn lines(&self) -> usize {
        self.fine.len() + self.coarse.len()
    }
}

/// Of all spaces, with its log.
#[derive(Debug)]
pub struct History {
    rings: BTreeMap<Identity, Ring>,
    path: PathBuf,
    log: File,
    /// Lines that are not written yet.
    pending: String,
    /// Lines in the log.
    written: usize,
}

impl History {
    /// Reads the log at `path`, as far as it is whole, and goes on with it.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut rings: BTreeMap<Identity, Ring> = BTreeMap::new();
        let mut written = 0;
        match File::open(path) {
            Ok(file) => {
                // What was cut off by a crash is the end of a line: it is no sample, and the lines after it are.
                for line in BufReader::new(file).split(b'\n') {
                    written += 1;
                    if let Some((id, kind, sample)) = parse(&String::from_utf8_lossy(&line?)) {
                        let ring = rings.entry(id).or_default();
                        match kind {
                            Resolution::Fine => ring.push(sample),
                            Resolution::Coarse => ring.push_coarse(sample),
                        }
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        // A line that was cut off must not swallow the next.
        Ok(Self { rings, path: path.to_owned(), log, pending: String::from("\n"), written })
    }

    /// Takes a sample of a space.
    pub fn push(&mut self, id: Identity, sample: &wire::Sample) {
        let sample = Sample::from(sample);
        write_line(&mut self.pending, id, Resolution::Fine, &sample);
        self.rings.entry(id).or_default().push(sample);
    }

    /// The samples of a space.
    pub fn ring(&self, id: Identity) -> Option<&Ring> {
        self.rings.get(&id)
    }

    /// Forgets all but these.
    pub fn keep(&mut self, is_kept: impl Fn(Identity) -> bool) {
        self.rings.retain(|id, _| is_kept(*id));
    }

    /// Brings what is not written yet to the log.
    ///
    /// # Errors
    /// When the log cannot be written; what was not written is tried again.
    pub fn flush(&mut self) -> io::Result<()> {
        let kept: usize = self.rings.values().map(Ring::lines).sum();
        if self.written > 2 * kept + SURPLUS_LINES {
            return self.rewrite();
        }
        self.log.write_all(self.pending.as_bytes())?;
        self.written += self.pending.matches('\n').count();
        self.pending.clear();
        Ok(())
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let mut text = String::new();
        for (id, ring) in &self.rings {
            ring.coarse.iter().for_each(|sample| write_line(&mut text, *id, Resolution::Coarse, sample));
            ring.fine.iter().for_each(|sample| write_line(&mut text, *id, Resolution::Fine, sample));
        }
        crate::state::replace_file(&self.path, text.as_bytes(), 0o600)?;
        self.log = OpenOptions::new().append(true).open(&self.path)?;
        self.written = text.matches('\n').count();
        self.pending.clear();
        Ok(())
    }
}

/// `f ID AT_MS TARGET CHARGED WANTED ACTIVE OVERHEAD FAULTS REFAULTS PRESSURE`, amounts in pages; `c` for a minute.
fn write_line(text: &mut String, id: Identity, kind: Resolution, sample: &Sample) {
    let kind = match kind {
        Resolution::Fine => 'f',
        Resolution::Coarse => 'c',
    };
    let _ = write!(text, "{kind} {id} {}", sample.at_ms);
    sample.amounts.iter().for_each(|pages| {
        let _ = write!(text, " {pages}");
    });
    sample.rates.iter().for_each(|rate| {
        let _ = write!(text, " {rate}");
    });
    text.push('\n');
}

fn parse(line: &str) -> Option<(Identity, Resolution, Sample)> {
    let mut fields = line.split(' ');
    let kind = match fields.next()? {
        "f" => Resolution::Fine,
        "c" => Resolution::Coarse,
        _ => return None,
    };
    let id = Identity::parse(fields.next()?)?;
    let mut sample = Sample { at_ms: fields.next()?.parse().ok()?, ..Sample::default() };
    for amount in &mut sample.amounts {
        *amount = fields.next()?.parse().ok()?;
    }
    for rate in &mut sample.rates {
        *rate = fields.next()?.parse().ok()?;
    }
    fields.next().is_none().then_some((id, kind, sample))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Identity = Identity(7);

    fn sample(at_s: u64, charged_bytes: u64, faults_per_s: f64) -> wire::Sample {
        wire::Sample { at_ms: at_s * 1000, charged_bytes, faults_per_s, ..wire::Sample::default() }
    }

    fn directory() -> crate::scratch::Scratch {
        crate::scratch::Scratch::new("history")
    }

    #[test]
    fn ten_minutes_are_kept_in_full_and_a_day_by_the_minute() {
        let mut ring = Ring::default();
        (0..100_000u64).for_each(|at| ring.push(Sample::from(&sample(at, at * UNIT, (at % 60) as f64))));
        let fine: Vec<wire::Sample> = ring.samples(Resolution::Fine).collect();
        assert_eq!((fine.len(), fine[0].at_ms), (FINE_MAX, 99_400_000));
        let coarse: Vec<wire::Sample> = ring.samples(Resolution::Coarse).collect();
        assert_eq!(coarse.len(), COARSE_MAX);
        let minute = coarse[COARSE_MAX - 2];
        assert_eq!(
            (minute.at_ms % COARSE_MS, minute.faults_per_s),
            (59_000, 59.0),
            "the last amounts, the highest rates"
        );
        assert_eq!(minute.charged_bytes, minute.at_ms / 1000 * UNIT);
    }

    #[test]
    fn a_log_that_was_cut_off_gives_all_that_is_whole() {
        let directory = directory();
        let path = directory.join("history");
        let mut history = History::open(&path).unwrap();
        (1..=5).for_each(|at| history.push(ID, &sample(at, UNIT, 1.5)));
        history.flush().unwrap();
        let before = history.ring(ID).cloned();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"f 0000").unwrap();
        let mut again = History::open(&path).unwrap();
        assert_eq!(again.ring(ID).cloned(), before);
        again.push(ID, &sample(6, UNIT, 0.0));
        again.flush().unwrap();
        assert_eq!(History::open(&path).unwrap().ring(ID).unwrap().samples(Resolution::Fine).count(), 6);
    }

    #[test]
    fn a_log_that_has_grown_is_written_anew_with_what_is_kept() {
        let directory = directory();
        let path = directory.join("history");
        let mut history = History::open(&path).unwrap();
        for at in 0..50_000 {
            history.push(ID, &sample(at, UNIT, 1.0));
            if at % 1000 == 0 {
                history.flush().unwrap();
            }
        }
        history.flush().unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().lines().count() < 30_000);
        assert_eq!(History::open(&path).unwrap().ring(ID), history.ring(ID));
    }

    #[test]
    fn what_is_not_kept_is_forgotten() {
        let directory = directory();
        let mut history = History::open(&directory.join("history")).unwrap();
        history.push(ID, &sample(1, 1, 1.0));
        history.push(Identity(8), &sample(1, 1, 1.0));
        history.keep(|id| id == ID);
        assert!(history.ring(ID).is_some() && history.ring(Identity(8)).is_none());
    }
}
