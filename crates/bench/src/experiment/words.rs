//! The words of a space, read from outside: its memory file is a descriptor of the process that keeps it.

use memvisor_proto::histogram::{HISTOGRAM_WORDS, quantile_ns, upper_ns};
use memvisor_proto::space::{MAGIC, MEMBERS_MAX, member_state};
use memvisor_proto::{Header, Layout, Member};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const PAGE_BYTES: u64 = 4096;
const WORD: usize = 8;

/// The memory file of a space.
#[derive(Debug)]
pub(super) struct Words(File);

/// What the header says at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Amounts {
    pub(super) charged: u64,
    pub(super) told: u64,
}

/// Service times of faults: so many in each bucket.
#[derive(Clone, Debug)]
pub(super) struct Faults([u64; HISTOGRAM_WORDS]);

impl Words {
    /// Those of the space that process `keeper` keeps.
    ///
    /// # Errors
    /// When it keeps none.
    pub(super) fn of(keeper: u32) -> Result<Self, String> {
        let wrong = |error: std::io::Error| format!("cannot read the descriptors of process {keeper}: {error}");
        for entry in std::fs::read_dir(format!("/proc/{keeper}/fd")).map_err(wrong)?.flatten() {
            let is_memory =
                std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:"));
            if let Some(words) = is_memory.then(|| File::open(entry.path()).ok().map(Self)).flatten()
                && words.read(Layout::HEADER, 1).is_ok_and(|first| first[0].load(Relaxed) == MAGIC)
            {
                return Ok(words);
            }
        }
        Err(format!("process {keeper} keeps no space"))
    }

    pub(super) fn amounts(&self) -> Result<Amounts, String> {
        let words = self.read(Layout::HEADER, Header::WORDS)?;
        let header = Header(&words);
        let get = |word: &AtomicU64| word.load(Relaxed);
        Ok(Amounts {
            charged: get(header.charged_pages()) * PAGE_BYTES + get(header.ram_bytes()) + get(header.meta_bytes()),
            told: get(header.target_bytes()),
        })
    }

    /// Of all members that run.
    pub(super) fn faults(&self) -> Result<Faults, String> {
        let mut sums = [0; HISTOGRAM_WORDS];
        for at in 0..MEMBERS_MAX {
            let words = self.read(Layout::MEMBERS + at * Member::WORDS * WORD, Member::WORDS)?;
            let member = Member(&words);
            if member.joined_ns().load(Relaxed) == 0 {
                break;
            }
            if member.state().load(Relaxed) == member_state::LIVE {
                member.fault_ns().add_to(&mut sums);
            }
        }
        Ok(Faults(sums))
    }

    fn read(&self, offset: usize, words: usize) -> Result<Vec<AtomicU64>, String> {
        let mut bytes = vec![0; words * WORD];
        self.0.read_exact_at(&mut bytes, offset as u64).map_err(|error| format!("cannot read a space: {error}"))?;
        Ok(bytes.as_chunks::<WORD>().0.iter().map(|word| AtomicU64::new(u64::from_le_bytes(*word))).collect())
    }
}

impl Faults {
    /// None.
    pub(super) const NONE: Self = Self([0; HISTOGRAM_WORDS]);

    /// So many, each of which took so long.
    #[cfg(test)]
    pub(super) fn of(count: u64, ns: u64) -> Self {
        let words: Vec<AtomicU64> = (0..HISTOGRAM_WORDS).map(|_| AtomicU64::new(0)).collect();
        let histogram = memvisor_proto::histogram::Histogram(&words);
        (0..count).for_each(|_| histogram.count(ns));
        let mut counts = Self::NONE;
        histogram.add_to(&mut counts.0);
        counts
    }

    pub(super) fn plus(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
        self
    }

    pub(super) fn since(&self, then: &Self) -> Self {
        let mut counts = self.0;
        counts.iter_mut().zip(then.0).for_each(|(now, then)| *now = now.saturating_sub(then));
        Self(counts)
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What so many of them, 0 to 1, did not exceed, in nanoseconds; known to within a fifth.
    pub(super) fn quantile_ns(&self, share: f64) -> u64 {
        quantile_ns(&self.0, share)
    }

    /// The bound of the longest, in nanoseconds.
    pub(super) fn max_ns(&self) -> u64 {
        self.0.iter().rposition(|&count| count > 0).map_or(0, upper_ns)
    }
}
