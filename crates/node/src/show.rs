//! What the API shows of the node: its state as wire types.

use crate::explain;
use crate::node::{Attached, Node};
use crate::spaces::Identity;
use crate::state::Record;
use crate::wire;
use memvisor_policy as policy;
use memvisor_sys::clock;
use std::collections::BTreeMap;

impl From<policy::State> for wire::State {
    fn from(state: policy::State) -> Self {
        match state {
            policy::State::High => Self::High,
            policy::State::Soft => Self::Soft,
            policy::State::Hard => Self::Hard,
            policy::State::Low => Self::Low,
        }
    }
}

impl From<policy::Verdict> for wire::Verdict {
    fn from(verdict: policy::Verdict) -> Self {
        match verdict {
            policy::Verdict::Fits => Self::Fits,
            policy::Verdict::Overcommitted => Self::Overcommitted,
            policy::Verdict::TooHigh => Self::TooHigh,
            policy::Verdict::PromisesBroken => Self::PromisesBroken,
        }
    }
}

impl From<policy::Class> for wire::Class {
    fn from(class: policy::Class) -> Self {
        match class {
            policy::Class::Batch => Self::Batch,
            policy::Class::Standard => Self::Standard,
            policy::Class::Latency => Self::Latency,
        }
    }
}

impl From<wire::Class> for policy::Class {
    fn from(class: wire::Class) -> Self {
        match class {
            wire::Class::Batch => Self::Batch,
            wire::Class::Standard => Self::Standard,
            wire::Class::Latency => Self::Latency,
        }
    }
}

impl From<policy::Action> for wire::Action {
    fn from(action: policy::Action) -> Self {
        match action {
            policy::Action::Leave => Self::Leave,
            policy::Action::Balloon => Self::Balloon,
            policy::Action::Page => Self::Page,
            policy::Action::Block => Self::Block,
        }
    }
}

impl From<&policy::Intent> for wire::Intent {
    fn from(intent: &policy::Intent) -> Self {
        Self {
            reservation_bytes: intent.reservation_bytes,
            limit_bytes: intent.limit_bytes,
            shares: intent.shares.get(),
            class: intent.class.into(),
            domain: intent.domain.0,
        }
    }
}

fn sum(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

impl Node {
    /// The host and its division.
    pub fn show_host(&self) -> wire::Host {
        let now_ns = clock::now_ns();
        let seen = || self.attached.values().map(|space| space.observer.observation());
        let records = || self.attached.keys().filter_map(|id| self.kept.spaces.get(id));
        let plan = self.planned.as_ref().map(|planned| &planned.plan);
        let advice = plan.map(|plan| plan.advice);
        wire::Host {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: now_ns.saturating_sub(self.started_ns) / 1_000_000,
            dram_bytes: self.dram_bytes(),
            machine_bytes: self.memory.total_bytes,
            free_bytes: self.situation(now_ns).host.free_bytes,
            charged_bytes: sum(seen().map(|seen| seen.charged_bytes)),
            overhead_bytes: sum(seen().map(|seen| seen.overhead_bytes)),
            wanted_bytes: sum(seen().map(|seen| seen.wanted_bytes)),
            active_bytes: sum(seen().map(|seen| seen.active_bytes)),
            targets_bytes: plan.map_or(0, |plan| sum(plan.grants.iter().map(|grant| grant.target_bytes))),
            reserved_bytes: sum(records().map(|record| record.intent.reserved_bytes())),
            state: plan.map_or_else(wire::State::default, |plan| plan.state.into()),
            verdict: advice.map_or_else(wire::Verdict::default, |advice| advice.verdict.into()),
            ratio: advice.and_then(|advice| advice.ratio),
            excess_bytes: advice.map_or(0, |advice| advice.excess_bytes),
            stalled_spaces: advice.map_or(0, |advice| u64::from(advice.stalled_spaces)),
            price: plan.and_then(|plan| plan.price),
            spaces: self.attached.len() as u64,
            tax: self.config.settings.tax.into(),
            period_ms: self.config.period.as_millis() as u64,
            plans: self.plans,
            pressure: wire::Pressure { some: self.stall.some, full: self.stall.full },
            stores: self.config.stores.iter().map(|store| show_store(store, self.store_left_bytes(store))).collect(),
        }
    }

    /// All spaces, by number.
    pub fn show_spaces(&self) -> wire::Spaces {
        let mut spaces: Vec<wire::Space> = self.attached.keys().filter_map(|id| self.show_space(*id)).collect();
        spaces.sort_by_key(|space| space.number);
        wire::Spaces { spaces }
    }

    /// A space.
    pub fn show_space(&self, id: Identity) -> Option<wire::Space> {
        let (record, attached) = self.space(id)?;
        let look = attached.observer.last();
        let seen = attached.observer.observation();
        let rates = attached.observer.rates();
        let grant = self.grant(record.number);
        Some(wire::Space {
            name: record.name.clone(),
            number: record.number.0,
            id: id.to_string(),
            uid: record.uid,
            keeper_pid: record.keeper_pid,
            program_pid: program_pid(record, attached),
            command: record.command.clone(),
            since_ms: record.since_ms,
            intent: (&record.intent).into(),
            target_bytes: grant.map_or(record.told_bytes, |grant| grant.target_bytes),
            budget_bytes: record.told_bytes,
            goal_bytes: grant.map_or(record.told_bytes, |grant| grant.reason.goal_bytes),
            action: grant.map_or_else(wire::Action::default, |grant| grant.action.into()),
            drain: drain_state(attached),
            charged_bytes: look.charged_bytes,
            wanted_bytes: seen.wanted_bytes,
            active_bytes: seen.active_bytes,
            overhead_bytes: look.overhead_bytes,
            tiers: look.tiers,
            store_bytes: record.store_bytes,
            store_full: look.store_full,
            members: look.members,
            watched_pages: look.watched_pages,
            counters: look.counters,
            rates: wire::Rates {
                faults_per_s: rates.faults_per_s,
                refaults_per_s: rates.refaults_per_s,
                evictions_per_s: rates.evictions_per_s,
                rechecks_per_s: rates.rechecks_per_s,
            },
            pressure: rates.pressure,
            fault_ns_p99: look.fault_ns_quantile(0.99),
            fault_ns_max: look.fault_ns_max,
        })
    }

    /// What other sizes would cost a space; `None` before its pagers have recorded anything.
    pub fn show_curve(&self, id: Identity) -> Option<wire::Curve> {
        let (record, space) = self.space(id)?;
        let present_bytes = space.observer.last().tiers.dram_bytes;
        let page_bytes = memvisor_core::PAGE_BYTES as u64;
        let refaults = space.observer.rates().refaults_per_s;
        let curve = space.observer.curve()?.anchored(present_bytes / page_bytes, refaults);
        let point = |eighths: u64| {
            let dram_bytes = present_bytes / 8 * eighths;
            let faults = curve.faults_at(dram_bytes / page_bytes);
            wire::CurvePoint {
                part: eighths as f64 / 8.0,
                dram_bytes,
                loads_per_s: faults.expected,
                loads_per_s_low: faults.low,
                loads_per_s_high: faults.high.is_finite().then_some(faults.high),
            }
        };
        Some(wire::Curve {
            name: record.name.clone(),
            present_bytes,
            resolved_bytes: curve.resolved_pages() * page_bytes,
            first_touches_per_s: curve.first_touches(),
            watched_pages: space.observer.last().watched_pages,
            rechecks_per_s: space.observer.rates().rechecks_per_s,
            points: (2..=12).map(point).collect(),
        })
    }

    /// Why a space has its target; `None` before the first plan that knew it.
    pub fn show_explanation(&self, id: Identity) -> Option<wire::Explanation> {
        let (record, _) = self.space(id)?;
        let planned = self.planned.as_ref()?;
        let known = self.kept.spaces.iter().map(|(id, record)| {
            let set_aside_bytes = self.set_aside_bytes(Some(*id));
            (record.number, explain::Known { name: &record.name, told_bytes: record.told_bytes, set_aside_bytes })
        });
        let names: BTreeMap<policy::SpaceId, explain::Known> = known.collect();
        explain::explain(record.number, &planned.situation, &planned.plan, &self.config.settings, &names)
    }
}

/// The program of a space; a space that attached before it was started says later which.
fn program_pid(record: &Record, attached: &Attached) -> u32 {
    match crate::spaces::get(attached.view.header().program_pid()) {
        0 => record.program_pid,
        pid => pid as u32,
    }
}

fn drain_state(attached: &Attached) -> wire::DrainState {
    let look = attached.observer.last();
    match (attached.view.drains(), look.members) {
        (false, _) => wire::DrainState::No,
        (true, members) if look.drained < members => wire::DrainState::Draining,
        (true, _) => wire::DrainState::Drained,
    }
}

fn show_store(store: &crate::config::StoreTable, free_bytes: u64) -> wire::Store {
    wire::Store {
        name: store.name.clone(),
        path: store.path.to_string_lossy().into_owned(),
        capacity_bytes: store.capacity.0,
        free_bytes: Some(free_bytes),
    }
}
