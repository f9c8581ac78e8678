//! The world of a scenario: lives through it, look by look, with a plan each period.
//!
//! ```text
//!   each period   observe ─▶ plan (the policy) … sample
//!   each look     what happens ─▶ hand out ─▶ spaces go on: give, fill, touch; what must never be is checked
//! ```

mod misses;
mod sampling;
mod space;

pub use misses::{Missed, Misses};

use crate::scenario::{Deed, Pattern, Phase, Scenario};
use crate::series::{Sample, Series, Sums};
use crate::trace::Random;
use memvisor_policy::handing::{self, Claim, Supply};
use memvisor_policy::{Host, Memory, Plan, Settings, Situation, SpaceId, State};
use space::{Moment, Space};

/// A policy: [`memvisor_policy::plan()`], or one to set beside it.
pub type Planner<'a> = dyn FnMut(&Situation, &Settings, &Memory) -> (Plan, Memory) + 'a;

struct World<'a> {
    scenario: &'a Scenario,
    /// What each phase of each group misses.
    misses: Vec<Vec<usize>>,
    curves: Vec<Misses>,
    /// Spaces that are still to start: when, of which group, the how manieth, its seed.
    coming: Vec<(u64, usize, u32, u64)>,
    spaces: Vec<Space>,
    next_id: u64,
    events_done: usize,
    node_back_ns: u64,
    dram_bytes: u64,
    settings: Settings,
    memory: Memory,
    state: State,
    /// What the last plan divided, in bytes.
    divided_bytes: u64,
    series: Series,
}

/// Lives through `scenario` under a policy.
pub fn live(scenario: &Scenario, planner: &mut Planner<'_>) -> Series {
    let mut world = World::new(scenario);
    let step_ns = scenario.look_ns();
    for look in 0..scenario.length_ns / step_ns {
        let now_ns = look * step_ns;
        world.happen(now_ns);
        if look % u64::from(scenario.looks) == 0 {
            world.plan(now_ns, planner);
        }
        world.hand_out(now_ns);
        world.go_on(now_ns + step_ns, step_ns);
        if (look + 1) % u64::from(scenario.looks) == 0 {
            world.sample(now_ns + step_ns);
        }
    }
    world.end()
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let mut patterns: Vec<Pattern> = Vec::new();
        let mut place = |phase: &Phase| {
            patterns.iter().position(|pattern| *pattern == phase.pattern).unwrap_or_else(|| {
                patterns.push(phase.pattern);
                patterns.len() - 1
            })
        };
        let misses = scenario.groups.iter().map(|group| group.phases.iter().map(&mut place).collect()).collect();
        Self {
            scenario,
            misses,
            curves: patterns.into_iter().map(Misses::of).collect(),
            coming: coming(scenario),
            spaces: Vec::new(),
            next_id: 1,
            events_done: 0,
            node_back_ns: 0,
            dram_bytes: scenario.dram_bytes,
            settings: scenario.settings,
            memory: Memory::default(),
            state: State::default(),
            divided_bytes: 0,
            series: Series::default(),
        }
    }

    fn happen(&mut self, now_ns: u64) {
        while let Some((start_ns, group, nth, seed)) = self.coming.pop_if(|coming| coming.0 <= now_ns) {
            let of = (group, &self.scenario.groups[group]);
            let first_bytes = self.scenario.machine.first_bytes.min(of.1.intent.limited_bytes(u64::MAX));
            self.spaces.push(Space::new(
                SpaceId(self.next_id),
                of,
                nth,
                start_ns,
                (first_bytes, self.scenario.sample_ns),
                seed,
            ));
            self.next_id += 1;
        }
        let groups = &self.scenario.groups;
        self.spaces.retain(|space| groups[space.group].stop_ns.is_none_or(|stop_ns| now_ns < stop_ns));
        while let Some(event) = self.scenario.events.get(self.events_done).filter(|event| event.at_ns <= now_ns) {
            self.events_done += 1;
            self.happens(event.deed, now_ns);
        }
        for space in &mut self.spaces {
            self.series.chases.extend(space.turn(&groups[space.group], now_ns));
        }
    }

    fn happens(&mut self, deed: Deed, now_ns: u64) {
        match deed {
            Deed::Set(group, intent) => {
                self.spaces.iter_mut().filter(|space| space.group == group).for_each(|space| space.intent = intent);
            }
            Deed::Die(group) => {
                self.spaces.retain(|space| space.group != group);
                self.coming.retain(|coming| coming.1 != group);
            }
            Deed::Turn(settings) => self.settings = settings,
            Deed::NodeAway(away_ns) => {
                self.node_back_ns = now_ns + away_ns;
                // A node that starts again knows what it told, and nothing that it believed.
                self.memory = Memory::default();
            }
            Deed::Dram(dram_bytes) => self.dram_bytes = dram_bytes,
        }
    }

    /// DRAM for spaces, in bytes.
    fn supply_bytes(&self) -> u64 {
        self.dram_bytes.saturating_sub(self.scenario.others_bytes)
    }

    fn free_bytes(&self) -> u64 {
        self.supply_bytes().saturating_sub(self.spaces.iter().map(Space::charged_bytes).sum())
    }

    fn plan(&mut self, now_ns: u64, planner: &mut Planner<'_>) {
        if now_ns < self.node_back_ns {
            return;
        }
        let sample_ns = self.scenario.sample_ns;
        self.spaces.iter_mut().for_each(|space| space.observe(now_ns, sample_ns));
        let spaces = self.spaces.iter();
        let situation = Situation {
            now_ns,
            host: Host { dram_bytes: self.dram_bytes, free_bytes: self.free_bytes() },
            spaces: spaces
                .map(|space| memvisor_policy::Space {
                    id: space.id,
                    intent: space.intent,
                    observation: space.observation,
                })
                .collect(),
        };
        let (plan, memory) = planner(&situation, &self.settings, &self.memory);
        self.memory = memory;
        (self.state, self.divided_bytes) = (plan.state, plan.capacity_bytes);
        self.series.plans += 1;
        for (space, grant) in self.spaces.iter_mut().zip(&plan.grants) {
            space.granted = Some((grant.target_bytes, grant.budget_bytes));
        }
    }

    /// Hands out as a node does it: spaces are told what of their grants has come back from others by now, and room to grow; those that no
    /// plan knows yet keep what they have.
    fn hand_out(&mut self, now_ns: u64) {
        if now_ns < self.node_back_ns {
            return;
        }
        let claims: Vec<Claim> = self.spaces.iter().map(Space::claim).collect();
        let supply = Supply { dram_bytes: self.supply_bytes(), calm_bytes: self.divided_bytes };
        let wishes = handing::wishes(&claims, supply);
        let lowered = handing::lower(&claims, &wishes);
        let claims: Vec<Claim> =
            claims.iter().zip(lowered).map(|(claim, told_bytes)| Claim { told_bytes, ..*claim }).collect();
        let told = handing::raise(&claims, &wishes, supply);
        self.spaces.iter_mut().zip(told).for_each(|(space, told_bytes)| space.told_bytes = told_bytes);
    }

    fn go_on(&mut self, now_ns: u64, step_ns: u64) {
        let (mut charged, mut unreserved_ns) = (0, 0);
        for space in &mut self.spaces {
            let phase = &self.scenario.groups[space.group].phases[space.phase()];
            let misses = &self.curves[self.misses[space.group][space.phase()]];
            let at = Moment { now_ns, step_ns, machine: &self.scenario.machine, misses };
            self.series.chases.extend(space.step(phase, at));
            charged += space.charged_bytes();
            let short = space.told_bytes < space.intent.reserved_bytes();
            space.unreserved_ns = if short { space.unreserved_ns + step_ns } else { 0 };
            unreserved_ns = unreserved_ns.max(space.unreserved_ns);
        }
        let part = charged as f64 / self.supply_bytes().max(1) as f64;
        self.series.fullest_part = self.series.fullest_part.max(part);
        self.series.unreserved_ns_max = self.series.unreserved_ns_max.max(unreserved_ns);
    }

    fn sample(&mut self, now_ns: u64) {
        let mut groups = vec![Sums::default(); self.scenario.groups.len()];
        for space in &self.spaces {
            let phase = &self.scenario.groups[space.group].phases[space.phase()];
            let misses = &self.curves[self.misses[space.group][space.phase()]];
            let (truth, sampled) = space.active_parts(phase, misses, self.scenario.sample_ns);
            let sums = &mut groups[space.group];
            sums.spaces += 1;
            sums.target_bytes.add(space.target_bytes() as f64);
            sums.charged_bytes.add(space.charged_bytes() as f64);
            sums.wanted_bytes.add(space.observation.wanted_bytes as f64);
            sums.active_bytes.add(space.observation.active_bytes as f64);
            sums.used_bytes.add(truth * space.charged_bytes() as f64);
            sums.error.add((sampled - truth).abs());
            sums.faults_per_s.add(space.observation.faults_per_s);
            if let Some(throughput) = space.throughput(phase) {
                sums.throughput.add(throughput);
            }
        }
        let free_bytes = self.free_bytes();
        self.series.samples.push(Sample { at_ns: now_ns, state: self.state, free_bytes, groups });
    }

    fn end(mut self) -> Series {
        let length_ns = self.scenario.length_ns;
        let open = self.spaces.iter_mut().filter_map(|space| space.end_chase(length_ns));
        self.series.chases.extend(open);
        self.series
    }
}

/// Spaces that are to start, the last first.
fn coming(scenario: &Scenario) -> Vec<(u64, usize, u32, u64)> {
    let mut random = Random(scenario.seed);
    let mut coming = Vec::new();
    for (place, group) in scenario.groups.iter().enumerate() {
        for nth in 0..group.count {
            let start_ns = group.start_ns + group.stagger_ns * u64::from(nth);
            coming.push((start_ns, place, nth, random.bits()));
        }
    }
    coming.sort_by_key(|(start_ns, ..)| std::cmp::Reverse(*start_ns));
    coming
}
