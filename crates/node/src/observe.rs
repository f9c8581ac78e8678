//! Observing a space: from the words of its file and what the kernel says of its processes to what the policy asks.
//!
//! Reading and judging are apart: a [`Look`] is what was read, and all that follows from two of them is pure.

use crate::spaces::{SpaceView, get, pages};
use crate::wire::{Counters, Tiers};
use memvisor_core::PAGE_BYTES;
use memvisor_policy::Observation;
use memvisor_policy::activity::{Activity, Averages, Demand, Latest, MemberActivity, of_space};
use memvisor_policy::curve::{Curve, Recent};
use memvisor_proto::Member;
use memvisor_proto::histogram::{HISTOGRAM_WORDS, quantile_ns, upper_ns};
use memvisor_proto::space::member_state;
use std::collections::HashMap;
use std::time::Duration;

/// The least room that a space is believed to need to grow until the next plan, in bytes: with it the first pages of a
/// program do not wait, and a hundred idle spaces ask for no more than a program of middle size.
const GROWTH_BYTES_MIN: u64 = 4 << 20;
/// How many times what it grew since the last plan a space is believed to grow until the next: programs that allocate
/// at all do so in steps that double.
const GROWTH_TIMES: u64 = 2;
/// The part of its footprint by which a space that asked for memory in vain is believed to grow.
const HUNGRY_PART: u64 = 8;

/// What was read of a space at one instant.
#[derive(Clone, Debug)]
pub struct Look {
    /// When, in nanoseconds of the monotonic clock.
    pub at_ns: u64,
    /// DRAM charged, in bytes.
    pub charged_bytes: u64,
    /// Where its memory lies.
    pub tiers: Tiers,
    /// Members that run.
    pub members: u64,
    /// Some member wants to grow and cannot.
    pub hungry: bool,
    /// Its stores take no more.
    pub store_full: bool,
    /// It was asked to drain.
    pub drains: bool,
    /// Members that have let go.
    pub drained: u64,
    /// Its counters, those of members that are gone included.
    pub counters: Counters,
    /// Its service times of faults, likewise.
    pub fault_ns: Box<[u64; HISTOGRAM_WORDS]>,
    /// The longest of them.
    pub fault_ns_max: u64,
    /// Memory of its programs that is not managed, in bytes.
    pub overhead_bytes: u64,
    /// Pages whose uses are followed for the curve.
    pub watched_pages: u64,
    /// What is in use, and what was taken and is wanted back, in bytes.
    pub active_bytes: u64,
    /// The same by the latest samples, in bytes, if these contradict it.
    pub latest_bytes: Option<u64>,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            at_ns: 0,
            charged_bytes: 0,
            tiers: Tiers::default(),
            members: 0,
            hungry: false,
            store_full: false,
            drains: false,
            drained: 0,
            counters: Counters::default(),
            fault_ns: Box::new([0; HISTOGRAM_WORDS]),
            fault_ns_max: 0,
            overhead_bytes: 0,
            watched_pages: 0,
            active_bytes: 0,
            latest_bytes: None,
        }
    }
}

/// Looks at one space again and again.
#[derive(Debug, Default)]
pub struct Observer {
    /// How long a page that was taken and wanted back counts as in use: one period of the samplers.
    pub sample_period: Duration,
    /// Those in member blocks, by block.
    seen: HashMap<usize, Seen>,
    /// Of all members that there have been.
    totals: Counts,
    last: Look,
    rates: Option<Rates>,
    /// Pages that were stored and wanted back lately, each the fainter the longer ago.
    refaulted_pages: f64,
}

/// A member, from look to look.
#[derive(Debug, Default)]
struct Seen {
    /// Which process it is, and when it joined.
    who: (u64, u64),
    counts: Counts,
    averages: Averages,
    latest: Latest,
    recent: Recent,
    /// Its pages in DRAM, in their place. Its samples are of all of them, whether armed or plain.
    pages: u64,
}

/// What is counted of a member.
#[derive(Clone, Debug, Default)]
struct Counts {
    counters: Counters,
    fault_ns: Vec<u64>,
    fault_ns_max: u64,
}

/// What happened between two looks.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Rates {
    /// Faults served, each second.
    pub faults_per_s: f64,
    /// Pages that had been moved out and were wanted back, each second.
    pub refaults_per_s: f64,
    /// Pages moved out, each second.
    pub evictions_per_s: f64,
    /// Pages hidden only to see when they are used again, each second.
    pub rechecks_per_s: f64,
    /// Part of the time that a member spent in faults on pages that had been moved out, on the average.
    pub pressure: f64,
    /// Growth of the footprint, in bytes.
    pub growth_bytes: u64,
}

/// Whether processes are asked for their size too, which costs a file of `/proc` each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// The words only; what was known of processes stays.
    Words,
    /// Processes too.
    Processes,
}

impl Observer {
    /// Looks.
    pub fn look(&mut self, space: &SpaceView, now_ns: u64, depth: Depth) -> &Look {
        let overhead_bytes = match depth {
            Depth::Words => self.last.overhead_bytes,
            Depth::Processes => overhead_bytes(space),
        };
        let last_ns = self.last.at_ns;
        self.count(space, now_ns, depth);
        let look = self.read(space, now_ns, overhead_bytes);
        self.rates = (last_ns != 0).then(|| Rates::between(&self.last, &look));
        if last_ns != 0 {
            let then = std::mem::take(&mut self.last);
            self.refault(&then, &look, now_ns.saturating_sub(last_ns) as f64 / 1e9);
        }
        self.last = look;
        let activity = self.activity(space);
        let footprint_bytes = self.last.footprint_bytes();
        let bytes = |pages: f64| ((pages * PAGE_BYTES as f64) as u64).min(footprint_bytes);
        self.last.latest_bytes = activity.latest_pages.map(bytes);
        self.last.active_bytes = bytes(activity.wanted_pages);
        &self.last
    }

    /// Counts what was stored and wanted back between two looks, which are `passed_s` apart.
    fn refault(&mut self, then: &Look, now: &Look, passed_s: f64) {
        let period_s = self.sample_period.as_secs_f64().max(f64::MIN_POSITIVE);
        self.refaulted_pages *= (-passed_s / period_s).exp();
        self.refaulted_pages += stored_loads(&now.counters).saturating_sub(stored_loads(&then.counters)) as f64;
    }

    /// What is in use, by the samples that pagers take, and what was taken and is wanted back.
    fn activity(&self, space: &SpaceView) -> Activity {
        let page_bytes = PAGE_BYTES as u64;
        let members: Vec<MemberActivity> = space
            .members()
            .filter(|(_, member)| get(member.state()) == member_state::LIVE)
            .filter_map(|(at, _)| {
                let seen = self.seen.get(&at)?;
                let active = seen.averages.active();
                Some(MemberActivity { pages: seen.pages, active, latest: seen.latest.contradicts(active.expected) })
            })
            .collect();
        let demand = Demand {
            refaulted_pages: self.refaulted_pages as u64,
            stored_pages: self.last.tiers.stored_bytes / page_bytes,
            stalled: self.rates().pressure,
        };
        of_space(&members, demand)
    }

    /// What other sizes of DRAM would cost; `None` before pagers have recorded anything.
    pub fn curve(&self) -> Option<Curve> {
        let curves: Vec<(Curve, u64)> =
            self.seen.values().filter_map(|seen| Some((seen.recent.curve()?, seen.pages))).collect();
        let members: Vec<(&Curve, u64)> = curves.iter().map(|(curve, pages)| (curve, *pages)).collect();
        Curve::of_space(&members)
    }

    /// What was seen last.
    pub fn last(&self) -> &Look {
        &self.last
    }

    /// What happened between the last two looks; nothing after the first.
    pub fn rates(&self) -> Rates {
        self.rates.unwrap_or_default()
    }

    /// What the policy is told.
    pub fn observation(&self) -> Observation {
        self.last.observation(&self.rates())
    }

    /// Adds what each member has counted and sampled since the last look. A block that another took counts anew.
    fn count(&mut self, space: &SpaceView, now_ns: u64, depth: Depth) {
        let mut before = std::mem::take(&mut self.seen);
        for (at, member) in space.members() {
            let who = (get(member.pid()), get(member.joined_ns()));
            let mut seen =
                before.remove(&at).filter(|seen| seen.who == who).unwrap_or_else(|| Seen { who, ..Seen::default() });
            let now = Counts::of(&member);
            self.totals.add_since(&seen.counts, &now);
            seen.counts = now;
            seen.pages = get(member.resident_pages()) + get(member.unarmed_bytes()) / PAGE_BYTES as u64;
            let (ended, present) = (member.sample().ended(), member.sample().present());
            seen.averages.observe(ended, present);
            seen.latest.observe(ended, present, now_ns);
            // A curve is of minutes, and its words are many.
            if depth == Depth::Processes {
                seen.recent.observe(&member.curve().read(), now_ns);
            }
            self.seen.insert(at, seen);
        }
    }

    fn read(&self, space: &SpaceView, at_ns: u64, overhead_bytes: u64) -> Look {
        let header = space.header();
        let live = || space.members().map(|(_, member)| member).filter(|m| get(m.state()) == member_state::LIVE);
        let staged_bytes = pages(live().map(|member| get(member.staged_pages())).sum());
        let away_bytes = pages(live().map(|member| get(member.away_pages())).sum());
        let mut fault_ns = Box::new([0; HISTOGRAM_WORDS]);
        fault_ns.iter_mut().zip(&self.totals.fault_ns).for_each(|(to, from)| *to = *from);
        Look {
            at_ns,
            charged_bytes: space.charged_bytes(),
            tiers: Tiers {
                dram_bytes: pages(get(header.charged_pages())).saturating_sub(staged_bytes),
                staged_bytes,
                ram_bytes: get(header.ram_bytes()),
                tables_bytes: get(header.meta_bytes()),
                log_bytes: pages(get(header.log_used_pages())),
                stored_bytes: away_bytes.saturating_sub(staged_bytes),
            },
            members: live().count() as u64,
            hungry: live().any(|member| get(member.hungry()) != 0),
            store_full: get(header.store_full()) != 0,
            drains: space.drains(),
            drained: live().filter(|member| get(member.drained()) != 0).count() as u64,
            counters: Counters {
                store_errors: get(header.store_errors()),
                blocked_faults: get(header.blocked_faults()),
                blocked_ns: get(header.blocked_ns()),
                ..self.totals.counters
            },
            fault_ns,
            fault_ns_max: self.totals.fault_ns_max,
            overhead_bytes,
            watched_pages: live().map(|member| member.curve().watched_pages()).fold(0, u64::saturating_add),
            active_bytes: 0,
            latest_bytes: None,
        }
    }
}

impl Look {
    /// What it would be charged for if DRAM were free: every page in its place, no compressed ones, the tables.
    pub fn footprint_bytes(&self) -> u64 {
        let tiers = &self.tiers;
        tiers
            .dram_bytes
            .saturating_add(tiers.staged_bytes)
            .saturating_add(tiers.stored_bytes)
            .saturating_add(tiers.tables_bytes)
    }

    /// What the policy is told of it.
    pub fn observation(&self, rates: &Rates) -> Observation {
        let footprint_bytes = self.footprint_bytes();
        let hungry_bytes = if self.hungry { footprint_bytes / HUNGRY_PART } else { 0 };
        let growth_bytes = (rates.growth_bytes.saturating_mul(GROWTH_TIMES)).max(hungry_bytes).max(GROWTH_BYTES_MIN);
        Observation {
            charged_bytes: self.charged_bytes,
            wanted_bytes: footprint_bytes.saturating_add(growth_bytes),
            active_bytes: self.active_bytes,
            latest_bytes: self.latest_bytes,
            overhead_bytes: self.overhead_bytes,
            faults_per_s: rates.faults_per_s,
            refaults_per_s: rates.refaults_per_s,
            pressure: rates.pressure,
        }
    }

    /// The service time that so many of the faults did not exceed, in nanoseconds, 0 to 1.
    pub fn fault_ns_quantile(&self, share: f64) -> u64 {
        quantile_ns(&self.fault_ns, share).min(self.fault_ns_max)
    }
}

impl Rates {
    /// What happened between two looks.
    pub fn between(then: &Look, now: &Look) -> Self {
        let seconds = now.at_ns.saturating_sub(then.at_ns) as f64 / 1e9;
        if seconds <= 0.0 {
            return Self::default();
        }
        let (a, b) = (&then.counters, &now.counters);
        let rate = |count: fn(&Counters) -> u64| count(b).saturating_sub(count(a)) as f64 / seconds;
        let back: fn(&Counters) -> u64 = |c| c.parked_hits + c.ram_loads + c.log_loads + c.filled_loads;
        let faults_per_s = rate(|counters| counters.faults);
        let refaults_per_s = rate(back);
        // What faults are for is not told apart in their times: refaults take their part of it.
        let part = if faults_per_s > 0.0 { (refaults_per_s / faults_per_s).min(1.0) } else { 0.0 };
        let waited_s = waited_ns(&then.fault_ns, &now.fault_ns) as f64 / 1e9;
        Self {
            faults_per_s,
            refaults_per_s,
            evictions_per_s: rate(|counters| counters.evictions),
            rechecks_per_s: rate(|counters| counters.rechecks),
            pressure: (waited_s * part / seconds / now.members.max(1) as f64).min(1.0),
            growth_bytes: now.footprint_bytes().saturating_sub(then.footprint_bytes()),
        }
    }
}

/// Pages that were brought back from stores.
fn stored_loads(counters: &Counters) -> u64 {
    counters.ram_loads.saturating_add(counters.log_loads).saturating_add(counters.filled_loads)
}

/// Time in faults between two histograms, in nanoseconds, known to within a fifth.
fn waited_ns(then: &[u64; HISTOGRAM_WORDS], now: &[u64; HISTOGRAM_WORDS]) -> u64 {
    let times = then.iter().zip(now).enumerate();
    times.map(|(at, (then, now))| now.saturating_sub(*then).saturating_mul(upper_ns(at))).fold(0, u64::saturating_add)
}

impl Counts {
    fn of(member: &Member<'_>) -> Self {
        let mut fault_ns = [0; HISTOGRAM_WORDS];
        let faults = get(member.faults());
        // Most blocks of most spaces stand still, and without a fault there is nothing to add.
        if faults != 0 {
            member.fault_ns().add_to(&mut fault_ns);
        }
        Self {
            counters: Counters {
                faults,
                first_touches: get(member.first_touches()),
                parked_hits: get(member.parked_hits()),
                ram_loads: get(member.ram_loads()),
                log_loads: get(member.log_loads()),
                filled_loads: get(member.filled_loads()),
                prefetched: get(member.prefetched()),
                evictions: get(member.evictions()),
                stalls: get(member.stalls()),
                lost: get(member.lost()),
                rechecks: member.curve().rechecks(),
                ..Counters::default()
            },
            fault_ns: fault_ns.to_vec(),
            fault_ns_max: get(member.fault_ns_max()),
        }
    }

    fn add_since(&mut self, then: &Self, now: &Self) {
        let (sum, a, b) = (&mut self.counters, &then.counters, &now.counters);
        for (sum, then, now) in [
            (&mut sum.faults, a.faults, b.faults),
            (&mut sum.first_touches, a.first_touches, b.first_touches),
            (&mut sum.parked_hits, a.parked_hits, b.parked_hits),
            (&mut sum.ram_loads, a.ram_loads, b.ram_loads),
            (&mut sum.log_loads, a.log_loads, b.log_loads),
            (&mut sum.filled_loads, a.filled_loads, b.filled_loads),
            (&mut sum.prefetched, a.prefetched, b.prefetched),
            (&mut sum.evictions, a.evictions, b.evictions),
            (&mut sum.stalls, a.stalls, b.stalls),
            (&mut sum.lost, a.lost, b.lost),
            (&mut sum.rechecks, a.rechecks, b.rechecks),
        ] {
            *sum = sum.saturating_add(now.saturating_sub(then));
        }
        self.fault_ns.resize(HISTOGRAM_WORDS, 0);
        for (at, (sum, now)) in self.fault_ns.iter_mut().zip(&now.fault_ns).enumerate() {
            *sum = sum.saturating_add(now.saturating_sub(then.fault_ns.get(at).copied().unwrap_or(0)));
        }
        self.fault_ns_max = self.fault_ns_max.max(now.fault_ns_max);
    }
}

/// Memory of the members that is not managed: what is resident in each without what is managed, in bytes. Files that
/// several map are counted in each.
fn overhead_bytes(space: &SpaceView) -> u64 {
    let of = |member: Member<'_>| -> u64 {
        let managed_bytes = pages(get(member.resident_pages()).saturating_add(get(member.staged_pages())));
        let unarmed_bytes = get(member.unarmed_bytes());
        let Ok(text) = std::fs::read_to_string(format!("/proc/{}/statm", get(member.pid()))) else { return 0 };
        unmanaged_bytes(&text, managed_bytes, unarmed_bytes)
    };
    let live = space.members().map(|(_, member)| member).filter(|member| get(member.state()) == member_state::LIVE);
    live.map(of).fold(0, u64::saturating_add)
}

/// What of a process is not managed, by its `statm`: files, and anonymous memory beyond what is managed. Shared memory is the file of the
/// space mostly, which is charged as tables and compressed pages, so it is left out with the files' cache.
fn unmanaged_bytes(statm: &str, managed_bytes: u64, unarmed_bytes: u64) -> u64 {
    let mut fields = statm.split_ascii_whitespace().skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
    let (resident, shared) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
    let anonymous_bytes = pages(resident.saturating_sub(shared));
    anonymous_bytes.saturating_sub(managed_bytes.saturating_add(unarmed_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at_s: u64, footprint: u64, faults: u64, loads: u64) -> Look {
        let counters = Counters { faults, ram_loads: loads, ..Counters::default() };
        let tiers = Tiers { dram_bytes: footprint, ..Tiers::default() };
        Look { at_ns: at_s * 1_000_000_000, tiers, counters, members: 1, charged_bytes: footprint, ..Look::default() }
    }

    #[test]
    fn rates_are_what_happened_in_a_second() {
        let mut now = look(3, 900, 30, 10);
        now.fault_ns[20] = 1_000_000;
        let rates = Rates::between(&look(1, 400, 10, 0), &now);
        assert_eq!((rates.faults_per_s, rates.refaults_per_s, rates.growth_bytes), (10.0, 5.0, 500));
        let waited_s = upper_ns(20) as f64 * 1_000_000.0 / 1e9;
        assert!((rates.pressure - waited_s / 2.0 / 2.0).abs() < 1e-9, "{rates:?}");
    }

    #[test]
    fn what_was_wanted_back_counts_for_a_period_of_the_samplers() {
        let mut observer = Observer { sample_period: Duration::from_secs(2), ..Observer::default() };
        observer.refault(&look(1, 0, 0, 0), &look(1, 0, 0, 1000), 0.0);
        assert_eq!(observer.refaulted_pages, 1000.0);
        observer.refault(&look(1, 0, 0, 1000), &look(3, 0, 0, 1000), 2.0);
        assert!((observer.refaulted_pages - 1000.0 / std::f64::consts::E).abs() < 1e-6);
    }

    #[test]
    fn no_time_and_counters_that_fall_give_no_rates() {
        assert_eq!(Rates::between(&look(3, 1, 9, 9), &look(3, 9, 99, 99)), Rates::default());
        assert_eq!(Rates::between(&look(1, 9, 9, 9), &look(3, 1, 1, 1)), Rates::default());
    }

    #[test]
    fn a_space_wants_its_footprint_and_room_to_grow() {
        let mut seen = look(1, 1 << 30, 0, 0);
        seen.tiers.stored_bytes = 1 << 30;
        seen.tiers.ram_bytes = 1 << 28;
        let wanted =
            |look: &Look, growth_bytes| look.observation(&Rates { growth_bytes, ..Rates::default() }).wanted_bytes;
        assert_eq!(wanted(&seen, 0), (2 << 30) + GROWTH_BYTES_MIN);
        assert_eq!(wanted(&seen, 64 << 20), (2 << 30) + (128 << 20));
        seen.hungry = true;
        assert_eq!(wanted(&seen, 64 << 20), (2 << 30) + (2 << 30) / HUNGRY_PART);
    }

    #[test]
    fn overhead_is_what_is_anonymous_and_not_managed() {
        assert_eq!(unmanaged_bytes("9999 1000 100 50 0 300 0", 4096 * 600, 4096 * 100), 4096 * 200);
        assert_eq!(unmanaged_bytes("9999 1000 100 50 0 300 0", 4096 * 950, 0), 0);
        assert_eq!(unmanaged_bytes("", 0, 0), 0);
    }
}
