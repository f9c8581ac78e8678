//! What the members of a space have counted, those that are gone included.
//!
//! A member's block is used again after its death, so whoever frees a block folds it into the ledger first. A block that
//! was folded and is not free yet would be counted twice; the ledger knows such blocks by who was in them.

use memvisor_proto::Member;
use memvisor_proto::histogram::{HISTOGRAM_WORDS, quantile_ns};
use std::collections::HashMap;
use std::sync::atomic::Ordering;

/// Sums over members.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Faults served.
    pub faults: u64,
    /// Faults on pages without contents.
    pub first_touches: u64,
    /// Faults on parked pages, which were moved back.
    pub parked_hits: u64,
    /// Pages loaded from compressed RAM.
    pub ram_loads: u64,
    /// Pages loaded from the file.
    pub log_loads: u64,
    /// Pages made from a pattern.
    pub filled_loads: u64,
    /// Pages moved out.
    pub evictions: u64,
    /// Faults that waited for a frame.
    pub stalls: u64,
    /// Pages that refused to move.
    pub immovable: u64,
    /// Pages that could not be brought back true.
    pub lost: u64,
    /// Pages loaded ahead of a fault.
    pub prefetched: u64,
    /// Pages saved by members themselves.
    pub self_saves: u64,
    /// Loads that failed and were tried again.
    pub retries: u64,
    /// Times that the space was above its target and nothing could be moved out.
    pub over_target: u64,
    /// The longest service of a fault, in nanoseconds.
    pub fault_ns_max: u64,
    /// Service times of faults.
    pub fault_ns: [u64; HISTOGRAM_WORDS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            faults: 0,
            first_touches: 0,
            parked_hits: 0,
            ram_loads: 0,
            log_loads: 0,
            filled_loads: 0,
            evictions: 0,
            stalls: 0,
            immovable: 0,
            lost: 0,
            prefetched: 0,
            self_saves: 0,
            retries: 0,
            over_target: 0,
            fault_ns_max: 0,
            fault_ns: [0; HISTOGRAM_WORDS],
        }
    }
}

impl Counters {
    /// Adds what a member has counted so far.
    pub fn add(&mut self, member: &Member<'_>) {
        for (sum, word) in [
            (&mut self.faults, member.faults()),
            (&mut self.first_touches, member.first_touches()),
            (&mut self.parked_hits, member.parked_hits()),
            (&mut self.ram_loads, member.ram_loads()),
            (&mut self.log_loads, member.log_loads()),
            (&mut self.filled_loads, member.filled_loads()),
            (&mut self.evictions, member.evictions()),
            (&mut self.stalls, member.stalls()),
            (&mut self.immovable, member.immovable()),
            (&mut self.lost, member.lost()),
            (&mut self.prefetched, member.prefetched()),
            (&mut self.self_saves, member.self_saves()),
            (&mut self.retries, member.retries()),
            (&mut self.over_target, member.over_target()),
        ] {
            *sum += word.load(Ordering::Relaxed);
        }
        self.fault_ns_max = self.fault_ns_max.max(member.fault_ns_max().load(Ordering::Relaxed));
        member.fault_ns().add_to(&mut self.fault_ns);
    }

    /// The service time that `share` of the faults did not exceed, in nanoseconds. A bucket's bound is not given when it
    /// is beyond the longest that was seen.
    pub fn fault_ns_quantile(&self, share: f64) -> u64 {
        match quantile_ns(&self.fault_ns, share) {
            bound if self.fault_ns_max > 0 => bound.min(self.fault_ns_max),
            bound => bound,
        }
    }
}

/// Who is in a block: the process, and when it joined. A process that calls exec joins anew.
type Identity = (u64, u64);

/// The counters of a space over its whole life.
#[derive(Debug, Default)]
pub struct Ledger {
    retired: Counters,
    retired_members: u64,
    folded: HashMap<usize, Identity>,
}

fn identity(member: &Member<'_>) -> Identity {
    (member.pid().load(Ordering::Relaxed), member.joined_ns().load(Ordering::Relaxed))
}

impl Ledger {
    /// Takes over the counts of a member whose process is gone, before its block `at` is freed. Doing so twice does no
    /// harm.
    pub fn fold_member(&mut self, at: usize, member: &Member<'_>) {
        let who = identity(member);
        if self.folded.insert(at, who) != Some(who) {
            self.retired.add(member);
            self.retired_members += 1;
        }
    }

    /// The sums over those that are gone and `members`, and how many have been members in all.
    pub fn totals<'a>(&self, members: impl Iterator<Item = (usize, Member<'a>)>) -> (Counters, u64) {
        let (mut sums, mut count) = (self.retired.clone(), self.retired_members);
        for (_, member) in members.filter(|(at, member)| self.folded.get(at) != Some(&identity(member))) {
            sums.add(&member);
            count += 1;
        }
        (sums, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn block(pid: u64, faults: u64) -> Vec<AtomicU64> {
        let words: Vec<AtomicU64> = (0..Member::WORDS).map(|_| AtomicU64::new(0)).collect();
        let member = Member(&words);
        member.pid().store(pid, Ordering::Relaxed);
        member.faults().store(faults, Ordering::Relaxed);
        member.fault_ns_max().store(pid, Ordering::Relaxed);
        (0..faults).for_each(|_| member.fault_ns().count(1000));
        words
    }

    #[test]
    fn a_member_counts_once_while_it_runs_when_it_is_folded_and_after() {
        let (first, second) = (block(10, 3), block(20, 4));
        let blocks = || [(0, Member(&first)), (1, Member(&second))].into_iter();
        let mut ledger = Ledger::default();
        let seen = |ledger: &Ledger, live: usize| {
            let (sums, count) = ledger.totals(blocks().skip(2 - live));
            (sums.faults, sums.fault_ns.iter().sum::<u64>(), sums.fault_ns_max, count)
        };
        assert_eq!(seen(&ledger, 2), (7, 7, 20, 2));
        ledger.fold_member(0, &Member(&first));
        ledger.fold_member(0, &Member(&first));
        assert_eq!(seen(&ledger, 2), (7, 7, 20, 2), "its block is not free yet");
        assert_eq!(seen(&ledger, 1), (7, 7, 20, 2), "its block is free");
    }

    #[test]
    fn a_block_that_another_member_took_counts_anew() {
        let (first, second) = (block(10, 3), block(20, 4));
        let mut ledger = Ledger::default();
        ledger.fold_member(0, &Member(&first));
        let (sums, count) = ledger.totals([(0, Member(&second))].into_iter());
        assert_eq!((sums.faults, count), (7, 2));
    }

    #[test]
    fn a_quantile_is_never_above_the_maximum() {
        let words = block(900, 5);
        let mut sums = Counters::default();
        sums.add(&Member(&words));
        assert_eq!(sums.fault_ns_quantile(0.99), 900);
        assert_eq!(Counters::default().fault_ns_quantile(0.5), 0);
    }
}
