//! A modelled space: how much of its working set is in DRAM, what it misses, what it takes and gives back. No pages.
//!
//! ```text
//!   0        touched                                       footprint
//!   ├── working set ──┬──────── beside it ───┬┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┤
//!    hot pages in DRAM   cold pages in DRAM       not touched yet
//! ```
//!
//! What leaves, leaves cold first: what production's replacement gets wrong of that is in [`Misses`]. How much leaves, and
//! when, is `memvisor_core::budget`'s. Amounts of pages are `f64`, as parts of a page are moved in a short time.

use super::misses::Misses;
use super::sampling::{Sampling, Seen};
use crate::scenario::{Group, Machine, Phase};
use crate::series::Chase;
use crate::trace::Random;
use memvisor_core::PAGE_BYTES;
use memvisor_core::budget::{Budget, Charge, Pressure};
use memvisor_policy::activity::{Averages, Demand, Latest, MemberActivity, of_space};
use memvisor_policy::handing::Claim;
use memvisor_policy::{Intent, Observation, SpaceId};

/// The least room that a space is believed to need to grow until the next plan, in bytes: as the node has it.
const GROWTH_BYTES_MIN: u64 = 4 << 20;
/// How many times what it grew since the last plan a space is believed to grow: as the node has it.
const GROWTH_TIMES: f64 = 2.0;

const PAGE: f64 = PAGE_BYTES as f64;
const SECOND_NS: u64 = 1_000_000_000;

/// A modelled space.
#[derive(Clone, Debug)]
pub struct Space {
    /// Which.
    pub id: SpaceId,
    /// Its group, by its place.
    pub group: usize,
    /// What its owner wants.
    pub intent: Intent,
    /// What its pager was told, in bytes.
    pub told_bytes: u64,
    /// Target and budget by the last plan, in bytes; `None` before the first that knew it.
    pub granted: Option<(u64, u64)>,
    /// What the policy was told of it last.
    pub observation: Observation,
    /// For how long it has been told less than its reservation.
    pub unreserved_ns: u64,
    /// Sizes of this space, as parts of those of its group.
    scale: f64,
    footprint: f64,
    working_set: f64,
    /// Pages that exist.
    touched: f64,
    touched_at_plan: f64,
    hot: f64,
    cold: f64,
    phase: usize,
    phase_ends_ns: Option<u64>,
    chase_ns: Option<u64>,
    throughput: f64,
    faults_per_s: f64,
    pressure: f64,
    observed_ns: u64,
    /// Seconds for which it waited for memory since it was observed.
    waited_s: f64,
    /// Pages that were loaded since then, and what is left of those before, each the fainter the longer ago.
    loads: f64,
    refaulted: f64,
    sampling: Sampling,
    averages: Averages,
    latest: Latest,
}

/// What a step did.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// Its end.
    pub now_ns: u64,
    /// Its length.
    pub step_ns: u64,
    /// How fast memory moves.
    pub machine: &'a Machine,
    /// What the phase of the space misses.
    pub misses: &'a Misses,
}

impl Space {
    /// A space that starts now, the `nth` of its group.
    pub fn new(
        id: SpaceId,
        (place, group): (usize, &Group),
        nth: u32,
        now_ns: u64,
        (first_bytes, sample_ns): (u64, u64),
        seed: u64,
    ) -> Self {
        let mut random = Random(seed);
        let scale = 1.0 + group.spread * (2.0 * random.unit() - 1.0);
        let mut space = Self {
            id,
            group: place,
            intent: group.intent,
            told_bytes: first_bytes,
            granted: None,
            observation: Observation::default(),
            unreserved_ns: 0,
            scale,
            footprint: group.footprint_bytes as f64 / PAGE * scale,
            working_set: 0.0,
            touched: 0.0,
            touched_at_plan: 0.0,
            hot: 0.0,
            cold: 0.0,
            phase: 0,
            phase_ends_ns: None,
            chase_ns: None,
            throughput: 1.0,
            faults_per_s: 0.0,
            pressure: 0.0,
            observed_ns: now_ns,
            waited_s: 0.0,
            loads: 0.0,
            refaulted: 0.0,
            sampling: Sampling::new(now_ns, sample_ns, random),
            averages: Averages::default(),
            latest: Latest::default(),
        };
        space.enter(group, now_ns, group.shift_ns * u64::from(nth));
        space
    }

    /// Begins with its phases, so far into them.
    fn enter(&mut self, group: &Group, now_ns: u64, shift_ns: u64) {
        let all_ns = group.phases.iter().try_fold(0u64, |sum, phase| Some(sum + phase.for_ns?));
        let mut left_ns = all_ns.map_or(shift_ns, |all_ns| shift_ns % all_ns);
        self.phase = 0;
        while let Some(for_ns) = group.phases[self.phase].for_ns.filter(|for_ns| *for_ns <= left_ns) {
            left_ns -= for_ns;
            self.phase += 1;
        }
        let phase = &group.phases[self.phase];
        self.phase_ends_ns = phase.for_ns.map(|for_ns| now_ns + for_ns - left_ns);
        self.working_set = phase.working_set_bytes as f64 / PAGE * self.scale;
    }

    /// The phase that it is in, by its place.
    pub fn phase(&self) -> usize {
        self.phase
    }

    /// Goes on to the next phase if the time has come; gives the change that is now over, if it was one.
    pub fn turn(&mut self, group: &Group, now_ns: u64) -> Option<Chase> {
        let ends_ns = self.phase_ends_ns.filter(|ends_ns| *ends_ns <= now_ns)?;
        let over = self.end_chase(now_ns);
        self.phase = (self.phase + 1) % group.phases.len();
        let phase = &group.phases[self.phase];
        self.phase_ends_ns = phase.for_ns.map(|for_ns| ends_ns + for_ns);
        let before = self.working_set;
        self.set_working_set(phase);
        if self.working_set > before || phase.moves && self.working_set > 0.0 {
            self.chase_ns = Some(now_ns);
        }
        over
    }

    /// The change that was not followed before now.
    pub fn end_chase(&mut self, now_ns: u64) -> Option<Chase> {
        let at_ns = self.chase_ns.take()?;
        Some(Chase { group: self.group, at_ns, took_ns: None, watched_ns: now_ns - at_ns })
    }

    /// What is in DRAM lies evenly in the working set and beside it, so parts of it pass from one to the other.
    fn set_working_set(&mut self, phase: &Phase) {
        let (before, after) = (self.working_set, phase.working_set_bytes as f64 / PAGE * self.scale);
        let beside = (self.footprint - before).max(1.0);
        let (joined_part, left_part) = if phase.moves {
            let part = after / self.footprint;
            (part, 1.0 - part)
        } else if after > before {
            (((after - before) / beside).min(1.0), 0.0)
        } else {
            (0.0, (before - after) / before.max(1.0))
        };
        let (joined, left) = (self.cold * joined_part, self.hot * left_part);
        self.hot += joined - left;
        self.cold += left - joined;
        self.sampling.changed(joined_part, left_part);
        self.working_set = after;
    }

    /// Goes on by a step; gives the change that it followed in this step.
    pub fn step(&mut self, phase: &Phase, at: Moment<'_>) -> Option<Chase> {
        let seconds = at.step_ns as f64 / SECOND_NS as f64;
        let mut reclaim = at.machine.reclaim_bytes_per_s as f64 / PAGE * seconds;
        let shed = self.asked().min(reclaim);
        self.give(shed);
        reclaim -= shed;
        let filled = (at.machine.fill_bytes_per_s as f64 / PAGE * seconds)
            .min(self.footprint - self.touched)
            .min(self.room() + reclaim)
            .max(0.0);
        reclaim -= self.fill(filled);
        self.touch(phase, &at, seconds, reclaim);
        self.follow(at.now_ns)
    }

    /// Pages that must leave, as the pager's budget has it.
    fn asked(&self) -> f64 {
        let charge = Charge { resident_pages: (self.hot + self.cold).ceil() as u64, ..Charge::default() };
        match (Budget { target_bytes: self.told_bytes }).pressure(&charge, 0) {
            Pressure::Calm => 0.0,
            Pressure::Evict(pages) | Pressure::Urgent(pages) => pages as f64,
        }
    }

    /// Pages that may still be taken.
    fn room(&self) -> f64 {
        (self.told_bytes as f64 / PAGE - self.hot - self.cold).max(0.0)
    }

    /// Pages leave, cold ones first.
    fn give(&mut self, pages: f64) {
        let cold = pages.min(self.cold);
        self.cold -= cold;
        self.hot = (self.hot - (pages - cold)).max(0.0);
    }

    /// Pages are touched first; gives how many had to leave for them.
    fn fill(&mut self, pages: f64) -> f64 {
        let out = (pages - self.room()).max(0.0);
        self.give(out);
        let used_part = self.working_set / self.footprint;
        self.hot += pages * used_part;
        self.cold += pages * (1.0 - used_part);
        self.touched += pages;
        out
    }

    /// The working set is touched, as fast as misses let it; at most `reclaim` pages can leave for others.
    fn touch(&mut self, phase: &Phase, at: &Moment<'_>, seconds: f64, reclaim: f64) {
        let exists = self.working_set * (self.touched / self.footprint);
        let wanted = phase.touches_per_s * seconds;
        if wanted <= 0.0 || exists < 1.0 {
            self.rest(at);
            return;
        }
        let missed = at.misses.at(self.hot / exists);
        let wait_s = (missed.loads * at.machine.load_ns as f64 + missed.unparks * at.machine.unpark_ns as f64) / 1e9;
        let mut touches = wanted / (1.0 + phase.touches_per_s * wait_s);
        let most = (self.told_bytes as f64 / PAGE - self.hot - self.cold).max(0.0) + reclaim;
        touches = touches.min(most / missed.loads.max(1e-12));
        let loads = touches * missed.loads;
        self.loads += loads;
        self.throughput = touches / wanted;
        self.faults_per_s = touches * (missed.loads + missed.unparks) / seconds;
        self.waited_s += (1.0 - self.throughput) * seconds;
        let grown = loads.min((exists - self.hot).max(0.0));
        let into_room = grown.min(self.room());
        let instead = (grown - into_room).min(self.cold);
        self.hot += into_room + instead;
        self.cold -= instead;
        let reached = at.misses.reached(touches / exists);
        self.sample(at, (at.step_ns as f64 * phase.cpu) as u64, reached);
    }

    fn rest(&mut self, at: &Moment<'_>) {
        self.throughput = 1.0;
        self.faults_per_s = 0.0;
        self.sample(at, 0, 0.0);
    }

    /// What waits for memory counts as running, as its pager runs meanwhile.
    fn sample(&mut self, at: &Moment<'_>, ran_ns: u64, reached_part: f64) {
        let (used_part, may_look) = (self.used_part(), self.charged_bytes() <= self.told_bytes);
        self.sampling.step(Seen { now_ns: at.now_ns, ran_ns, used_part, reached_part, may_look });
    }

    fn follow(&mut self, now_ns: u64) -> Option<Chase> {
        let at_ns = self.chase_ns.filter(|_| self.hot >= self.working_set * crate::expect::FOLLOWED_PART)?;
        self.chase_ns = None;
        let took_ns = now_ns - at_ns;
        Some(Chase { group: self.group, at_ns, took_ns: Some(took_ns), watched_ns: took_ns })
    }

    fn used_part(&self) -> f64 {
        let resident = self.hot + self.cold;
        if resident > 0.0 { self.hot / resident } else { 0.0 }
    }

    /// What it is charged for, in bytes.
    pub fn charged_bytes(&self) -> u64 {
        ((self.hot + self.cold) * PAGE).round() as u64
    }

    /// What the last plan granted, in bytes; before the first what it may take by itself.
    pub fn target_bytes(&self) -> u64 {
        self.granted.map_or(self.told_bytes, |granted| granted.0)
    }

    /// What it may be told.
    pub fn claim(&self) -> Claim {
        let (target_bytes, budget_bytes) = self.granted.unwrap_or((self.told_bytes, self.told_bytes));
        Claim {
            told_bytes: self.told_bytes,
            charged_bytes: self.charged_bytes(),
            target_bytes,
            budget_bytes,
            limit_bytes: self.intent.limit_bytes.unwrap_or(u64::MAX),
            shares: self.intent.shares,
        }
    }

    /// Observes it, as a node does before a plan.
    pub fn observe(&mut self, now_ns: u64, sample_ns: u64) {
        let passed_ns = now_ns.saturating_sub(self.observed_ns);
        self.observed_ns = now_ns;
        self.pressure = (self.waited_s * SECOND_NS as f64 / passed_ns.max(1) as f64).min(1.0);
        self.refaulted = self.refaulted * libm::exp(-(passed_ns as f64) / sample_ns as f64) + self.loads;
        (self.waited_s, self.loads) = (0.0, 0.0);
        let (ended, present) = self.sampling.tallies();
        self.averages.observe(ended, present);
        self.latest.observe(ended, present, now_ns);
        let stored = (self.touched - self.hot - self.cold).max(0.0);
        let demand =
            Demand { refaulted_pages: self.refaulted as u64, stored_pages: stored as u64, stalled: self.pressure };
        let pages = (self.hot + self.cold) as u64;
        let active = self.averages.active();
        let member = MemberActivity { pages, active, latest: self.latest.contradicts(active.expected) };
        let activity = of_space(&[member], demand);
        let growth_bytes = ((self.touched - self.touched_at_plan) * GROWTH_TIMES * PAGE) as u64;
        self.touched_at_plan = self.touched;
        self.observation = Observation {
            charged_bytes: self.charged_bytes(),
            wanted_bytes: (self.touched * PAGE) as u64 + growth_bytes.max(GROWTH_BYTES_MIN),
            active_bytes: (activity.wanted_pages * PAGE) as u64,
            latest_bytes: activity.latest_pages.map(|pages| (pages * PAGE) as u64),
            overhead_bytes: 0,
            faults_per_s: self.faults_per_s,
            refaults_per_s: self.faults_per_s,
            pressure: self.pressure,
        };
    }

    /// The part of its DRAM that it used in a period of the sampler, in truth and by its samples.
    pub fn active_parts(&self, phase: &Phase, misses: &Misses, sample_ns: u64) -> (f64, f64) {
        let touches = phase.touches_per_s * self.throughput * (sample_ns as f64 / SECOND_NS as f64);
        let truth = self.used_part() * misses.reached(touches / self.working_set.max(1.0));
        (truth, self.averages.active().expected)
    }

    /// Touches done, as a part of those with all in DRAM; `None` when it wants none.
    pub fn throughput(&self, phase: &Phase) -> Option<f64> {
        (phase.touches_per_s > 0.0).then_some(self.throughput)
    }
}
