//! Looks at a running space again and again: what it is charged, what lies where, how fast it faults.
//!
//! The counters of members are read at every look and cost nothing. What the kernel knows of a process – memory that
//! is not armed yet, and memory that is not managed – is found by a walk of its page tables, which disturbs the process;
//! so walks take at most one part in a hundred of the time, and in between their result is carried on.

use crate::counters::{Counters, Ledger};
use crate::space::Space;
use memvisor_core::PAGE_BYTES;
use memvisor_proto::Member;
use memvisor_proto::space::member_state;
use memvisor_sys::maps::{self, Rollup};
use serde::Serialize;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Time between looks: twice a pager's reaction to a new target.
pub const INTERVAL: Duration = Duration::from_millis(50);
/// The least time between walks.
const WALK_INTERVAL_MIN: Duration = Duration::from_millis(200);
/// How many times the cost of a walk must pass before the next.
const WALK_PART: u32 = 100;

/// Bytes by where they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BytesByTier {
    /// Managed pages in their place.
    pub dram: u64,
    /// Pages moved out and not saved yet.
    pub staged: u64,
    /// Compressed pages, as the memory they take.
    pub ram: u64,
    /// Pages in the file.
    pub log: u64,
}

impl BytesByTier {
    fn sum(&self) -> u64 {
        self.dram + self.staged + self.ram + self.log
    }
}

/// A space at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// DRAM that counts against the target.
    pub charged_bytes: u64,
    /// What lies where.
    pub tiers: BytesByTier,
    /// Page tables and tables of stores.
    pub metadata_bytes: u64,
    /// Memory that pagers hold in their processes.
    pub pager_bytes: u64,
    /// Memory that programs have and memvisor manages.
    pub managed_bytes: u64,
    /// Members that run.
    pub live: u64,
    /// All that were counted so far.
    pub counters: Counters,
    /// Members that there have been.
    pub members: u64,
}

/// The most that was seen of each.
#[derive(Clone, Debug, Default)]
pub struct Peaks {
    /// DRAM that counts against the target.
    pub charged_bytes: u64,
    /// Memory of the programs that is not managed, and of the pagers in them.
    pub overhead_bytes: u64,
    /// What lay where at the fullest moment.
    pub tiers: BytesByTier,
    /// Page tables and tables of stores.
    pub metadata_bytes: u64,
    /// Memory that pagers hold in their processes.
    pub pager_bytes: u64,
    /// Memory that programs have and memvisor manages.
    pub managed_bytes: u64,
    /// Members that ran at one time.
    pub live: u64,
}

/// What a walk found.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    /// Managed memory that is not armed and is there.
    unarmed_bytes: u64,
    /// What is not managed.
    overhead_bytes: u64,
}

/// Looks at one space.
pub struct Sampler<'a> {
    space: &'a Space,
    walk: Walk,
    next_walk: Option<Instant>,
    /// What the cheap counts had too much when it was last counted exactly.
    excess_bytes: u64,
    next_count: Option<Instant>,
    peaks: Peaks,
}

fn pages(words: u64) -> u64 {
    words * PAGE_BYTES as u64
}

/// The bytes of a member's armed memory that are there.
fn armed_bytes(member: &Member<'_>) -> u64 {
    pages(member.resident_pages().load(Ordering::Relaxed) + member.staged_pages().load(Ordering::Relaxed))
}

impl<'a> Sampler<'a> {
    /// Looks at nothing yet.
    pub fn new(space: &'a Space) -> Self {
        Self {
            space,
            walk: Walk::default(),
            next_walk: None,
            excess_bytes: 0,
            next_count: None,
            peaks: Peaks::default(),
        }
    }

    /// Looks once.
    pub fn look(&mut self, ledger: &Ledger) -> Sample {
        let members: Vec<(usize, Member<'static>)> = self.space.members().collect();
        let live: Vec<Member<'static>> = members
            .iter()
            .filter(|(_, member)| member.state().load(Ordering::Relaxed) == member_state::LIVE)
            .map(|(_, member)| *member)
            .collect();
        let pool_bytes = self.space.resident_bytes();
        self.walk_when_due(&live, pool_bytes);
        let mut sample = self.sum(&members, &live, pool_bytes, ledger);
        if sample.charged_bytes > self.space.header().target_bytes().load(Ordering::Relaxed) {
            self.count_exactly(&mut sample, &live);
        }
        self.note_peaks(&sample);
        sample
    }

    /// The most that was seen so far.
    pub fn peaks(&self) -> &Peaks {
        &self.peaks
    }

    fn sum(
        &self,
        members: &[(usize, Member<'static>)],
        live: &[Member<'static>],
        pool: u64,
        ledger: &Ledger,
    ) -> Sample {
        let header = self.space.header();
        let total = |word: fn(&Member<'static>) -> u64| live.iter().map(word).sum::<u64>();
        let ram = header.ram_bytes().load(Ordering::Relaxed);
        let tiers = BytesByTier {
            dram: pages(total(|member| member.resident_pages().load(Ordering::Relaxed))) + self.unarmed_bytes(live),
            staged: pages(total(|member| member.staged_pages().load(Ordering::Relaxed))),
            ram,
            log: pages(header.log_used_pages().load(Ordering::Relaxed)),
        };
        let metadata_bytes = pool.saturating_sub(ram);
        let (counters, count) = ledger.totals(members.iter().copied());
        Sample {
            charged_bytes: tiers.dram + tiers.staged + ram + metadata_bytes,
            tiers,
            metadata_bytes,
            pager_bytes: total(|member| member.pager_bytes().load(Ordering::Relaxed)),
            managed_bytes: total(|member| member.managed_bytes().load(Ordering::Relaxed)),
            live: live.len() as u64,
            counters,
            members: count,
        }
    }

    /// Managed memory that is not armed and is there: as the last walk said, and never more than there can be now.
    fn unarmed_bytes(&self, live: &[Member<'static>]) -> u64 {
        let most = live.iter().map(|member| member.unarmed_bytes().load(Ordering::Relaxed)).sum();
        // One process shares its memory with nobody, and its own count is cheap.
        match live {
            [only] => unarmed_of(only, anonymous_bytes(only)),
            _ => self.walk.unarmed_bytes.min(most),
        }
    }

    fn walk_when_due(&mut self, live: &[Member<'static>], pool_bytes: u64) {
        let began = Instant::now();
        if self.next_walk.is_some_and(|due| began < due) {
            return;
        }
        let rollups: Vec<(Member<'static>, Rollup)> = live
            .iter()
            .filter_map(|member| {
                let pid = member.pid().load(Ordering::Relaxed) as u32;
                Some((*member, maps::smaps_rollup(Some(pid)).ok()?))
            })
            .collect();
        self.walk = weigh(&rollups, pool_bytes);
        let pause = (began.elapsed() * WALK_PART).max(WALK_INTERVAL_MIN);
        self.next_walk = Some(began + pause);
    }

    /// Counts again, mapping by mapping, when the cheap counts say that the target is passed: they take the pager's own memory
    /// for the program's plain memory, and members that were forked each count what they share.
    fn count_exactly(&mut self, sample: &mut Sample, live: &[Member<'static>]) {
        let began = Instant::now();
        if self.next_count.is_none_or(|due| began >= due) {
            let there: u64 = live.iter().map(there_bytes).sum();
            self.excess_bytes = sample.tiers.dram.saturating_sub(there.saturating_sub(sample.tiers.staged));
            self.next_count = Some(began + began.elapsed() * WALK_PART);
        }
        let excess = self.excess_bytes.min(sample.tiers.dram);
        sample.charged_bytes -= excess;
        sample.tiers.dram -= excess;
    }

    fn note_peaks(&mut self, sample: &Sample) {
        let peaks = &mut self.peaks;
        peaks.charged_bytes = peaks.charged_bytes.max(sample.charged_bytes);
        peaks.overhead_bytes = peaks.overhead_bytes.max(self.walk.overhead_bytes);
        peaks.metadata_bytes = peaks.metadata_bytes.max(sample.metadata_bytes);
        peaks.pager_bytes = peaks.pager_bytes.max(sample.pager_bytes);
        peaks.managed_bytes = peaks.managed_bytes.max(sample.managed_bytes);
        peaks.live = peaks.live.max(sample.live);
        if sample.tiers.sum() > peaks.tiers.sum() {
            peaks.tiers = sample.tiers;
        }
    }
}

/// The bytes of a member's managed memory that are there; one that has just ended has none.
fn there_bytes(member: &Member<'static>) -> u64 {
    let most = armed_bytes(member) + member.unarmed_bytes().load(Ordering::Relaxed);
    let pid = member.pid().load(Ordering::Relaxed);
    std::fs::read_to_string(format!("/proc/{pid}/smaps")).map_or(0, |smaps| programs_bytes(&smaps).min(most))
}

/// Anonymous memory of a process in mappings that are not the pager's own, which are marked (`memvisor_sys::memory::own`);
/// what several processes share counts by its share.
fn programs_bytes(smaps: &str) -> u64 {
    let (mut sum, mut anonymous, mut file) = (0, 0, 0);
    let kilobytes = |line: &str| line.trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) * 1024;
    for line in smaps.lines() {
        if let Some(rest) = line.strip_prefix("Pss:") {
            anonymous = kilobytes(rest);
        } else if let Some(rest) = line.strip_prefix("Anonymous:") {
            file = if kilobytes(rest) == 0 { anonymous } else { 0 };
        } else if let Some(flags) = line.strip_prefix("VmFlags:") {
            let has = |flag: &str| flags.split(' ').any(|word| word == flag);
            let is_armed = has("um") || has("uw");
            let is_own = has("nr") && has("nh") && has("rr");
            if is_armed || !is_own {
                sum += anonymous - file;
            }
        }
    }
    sum
}

/// How much of a member's memory that is not armed is there, when `anonymous` bytes of its memory are.
fn unarmed_of(member: &Member<'_>, anonymous: u64) -> u64 {
    member.unarmed_bytes().load(Ordering::Relaxed).min(anonymous.saturating_sub(armed_bytes(member)))
}

/// Divides what the walks found into what is managed and what is not. The memory file of the space is mapped by all
/// and counted once, as the pool; other shared memory is the programs'.
fn weigh(rollups: &[(Member<'static>, Rollup)], pool_bytes: u64) -> Walk {
    let mut walk = Walk::default();
    let mut shared = 0;
    for (member, rollup) in rollups {
        let unarmed = unarmed_of(member, rollup.pss_anon);
        walk.unarmed_bytes += unarmed;
        walk.overhead_bytes += rollup.pss_anon.saturating_sub(armed_bytes(member) + unarmed) + rollup.pss_file;
        shared += rollup.pss_shmem;
    }
    walk.overhead_bytes += shared.saturating_sub(pool_bytes);
    walk
}

/// Anonymous memory of a member's process, from its own cheap count.
fn anonymous_bytes(member: &Member<'_>) -> u64 {
    let path = format!("/proc/{}/statm", member.pid().load(Ordering::Relaxed));
    let Ok(text) = std::fs::read_to_string(path) else { return 0 };
    let mut fields = text.split_ascii_whitespace().skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
    match (fields.next(), fields.next()) {
        (Some(resident), Some(shared)) => pages(resident.saturating_sub(shared)),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::tests::small;
    use memvisor_proto::Layout;

    /// Makes this process a member of `space`, with these words.
    fn join(space: &Space, resident_pages: u64, unarmed_bytes: u64) -> Member<'static> {
        let member = Member(space.map().words(Layout::MEMBERS, Member::WORDS));
        member.pid().store(u64::from(std::process::id()), Ordering::Relaxed);
        member.resident_pages().store(resident_pages, Ordering::Relaxed);
        member.unarmed_bytes().store(unarmed_bytes, Ordering::Relaxed);
        member.state().store(member_state::LIVE, Ordering::Release);
        member
    }

    #[test]
    fn what_is_resident_staged_compressed_and_tabled_is_charged() {
        let space = small();
        let member = join(&space, 100, 0);
        member.staged_pages().store(10, Ordering::Relaxed);
        member.faults().store(5, Ordering::Relaxed);
        space.header().ram_bytes().store(4096, Ordering::Relaxed);
        let mut sampler = Sampler::new(&space);
        let sample = sampler.look(&Ledger::default());
        assert_eq!(sample.tiers, BytesByTier { dram: 100 * 4096, staged: 10 * 4096, ram: 4096, log: 0 });
        assert_eq!(sample.charged_bytes, 111 * 4096 + sample.metadata_bytes);
        assert!((1..1 << 16).contains(&sample.metadata_bytes), "{}: the file is sparse", sample.metadata_bytes);
        assert_eq!((sample.live, sample.members, sample.counters.faults), (1, 1, 5));
        assert!(sampler.peaks().overhead_bytes > 0, "this process has text and a stack");
    }

    #[test]
    fn memory_that_is_not_armed_is_charged_as_far_as_it_is_there() {
        let space = small();
        join(&space, 0, 1 << 40);
        let sample = Sampler::new(&space).look(&Ledger::default());
        assert!(sample.tiers.dram > 0 && sample.tiers.dram < 1 << 32, "{:?}", sample.tiers);
        let space = small();
        join(&space, 0, 4096);
        assert_eq!(Sampler::new(&space).look(&Ledger::default()).tiers.dram, 4096);
    }

    #[test]
    fn above_the_target_only_what_is_really_the_programs_is_charged() {
        let space = small();
        for at in 0..2 {
            let member = Member(space.map().words(Layout::MEMBERS + at * Member::WORDS * 8, Member::WORDS));
            member.pid().store(u64::from(std::process::id()), Ordering::Relaxed);
            member.resident_pages().store(1 << 20, Ordering::Relaxed);
            member.state().store(member_state::LIVE, Ordering::Release);
        }
        let sample = Sampler::new(&space).look(&Ledger::default());
        let all = maps::smaps_rollup(None).unwrap().pss_anon;
        assert!(
            sample.tiers.dram > 0 && sample.tiers.dram < 4 * all,
            "{} of 8 GiB that are counted",
            sample.tiers.dram
        );
    }

    #[test]
    fn the_pagers_own_mappings_are_not_the_programs_unless_they_are_armed() {
        let mapping = |pss: u64, anonymous: u64, flags: &str| {
            format!(
                "7f00-7f01 rw-p 00000000 00:00 0\nPss: {pss} kB\nAnonymous: {anonymous} kB\nVmFlags: rd wr {flags}\n"
            )
        };
        let smaps = [
            mapping(1, 1, "rr nr nh"),
            mapping(2, 2, "um rr nr nh"),
            mapping(4, 8, "nr"),
            mapping(8, 0, "a file's"),
            mapping(16, 16, "ac"),
        ];
        assert_eq!(programs_bytes(&smaps.concat()), 22 << 10);
    }

    #[test]
    fn peaks_stay_when_the_space_shrinks() {
        let space = small();
        let member = join(&space, 1000, 0);
        let mut sampler = Sampler::new(&space);
        let full = sampler.look(&Ledger::default());
        member.resident_pages().store(1, Ordering::Relaxed);
        let empty = sampler.look(&Ledger::default());
        assert!(empty.charged_bytes < full.charged_bytes);
        assert_eq!(sampler.peaks().charged_bytes, full.charged_bytes);
        assert_eq!(sampler.peaks().tiers, full.tiers);
    }
}
