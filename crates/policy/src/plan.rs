//! The plan: for each space a target, what is done about it, and why.
//!
//! [`plan`] is the whole policy of a host, and all that is said about damping, promises and prices is where it is done. What
//! it does with a [`Memory`] of the plan before, it does with an empty one as well: a space that it has not met is taken to
//! have been granted what it holds, so a daemon that starts again moves memory as calmly as one that did not stop.

use crate::capacity::Capacity;
use crate::doubt::{Belief, counted_bytes};
use crate::memory::{Believed, Memory};
use crate::price::{Payer, price_at};
use crate::promise;
use crate::step::{Pace, Way, step};
use crate::waterfill::{Claim, divide};
use crate::{Advice, Bound, Class, Promise, Reason, Settings, Situation, Space, SpaceId, State, Step, Tax};
use serde::{Deserialize, Serialize};

/// What is done to a space now.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing: it is within its target, or the state is high.
    Leave,
    /// It shall give: by its balloon if it has one, else by paging.
    Balloon,
    /// It is paged.
    Page,
    /// It is paged, and does not run until it is within its target.
    Block,
}

/// What a space gets.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Which space.
    pub id: SpaceId,
    /// DRAM granted now, in bytes.
    pub target_bytes: u64,
    /// The number for its pager, in bytes: the target; but while nothing is taken from anybody, what the space
    /// holds if that is more (and within its limit).
    pub budget_bytes: u64,
    /// What is done about it.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// What to do.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// When the situation was observed, in nanoseconds.
    pub now_ns: u64,
    /// How short of DRAM the host is.
    pub state: State,
    /// What is divided among the spaces, in bytes.
    pub capacity_bytes: u64,
    /// The price ρ that all pay who have neither reservation nor limit nor all they want, see [`Reason::price`].
    /// `None` when nobody is short, and when there is nothing left beside the promises.
    pub price: Option<f64>,
    /// What each space gets, in the order of the situation.
    pub grants: Vec<Grant>,
    /// What is to be said of the consolidation ratio.
    pub advice: Advice,
}

/// What to do in a situation, and what the next plan has to know. With `n` spaces it takes O(n log n).
pub fn plan(situation: &Situation, settings: &Settings, memory: &Memory) -> (Plan, Memory) {
    let (host, spaces) = (situation.host, &situation.spaces);
    let beliefs = memory.believe(situation, settings);
    let state = memory.state.next(host.dram_bytes, host.free_bytes, &settings.thresholds, settings.hysteresis);
    let capacity = Capacity::new(beliefs.capacity_bytes, host.dram_bytes, settings);

    let claims = claims(spaces, &beliefs.spaces, capacity);
    let divided_bytes = capacity.divided_bytes(claims.iter().map(|claim| claim.least_bytes).sum());
    let goals = divide(&claims, divided_bytes, settings.tax);
    let untaxed = divide(&claims, divided_bytes, Tax::NONE);
    let reasons: Vec<Reason> = (0..spaces.len())
        .map(|at| {
            reason(&spaces[at], &beliefs.spaces[at], &claims[at], goals.bytes[at], untaxed.bytes[at], settings.tax)
        })
        .collect();

    let ways = ways(&beliefs.spaces, &claims, &goals.bytes);
    let steps = step(&ways, divided_bytes, pace(state, settings, beliefs.elapsed_ns));
    let grants = spaces.iter().zip(reasons).zip(steps);
    let grants: Vec<Grant> = grants.map(|((space, reason), step)| grant(space, reason, step, state)).collect();

    let targets = grants.iter().map(|grant| grant.target_bytes);
    let memory = Memory::after(situation, state, &beliefs, targets);
    let advice = Advice::of(spaces, &beliefs.spaces, &grants, capacity.calm_bytes, settings);
    let price = goals.level.and_then(price_at);
    let plan = Plan { now_ns: situation.now_ns, state, capacity_bytes: divided_bytes, price, grants, advice };
    (plan, memory)
}

/// What each space brings to the division: from what is kept of its reservation to what it wants, within its limit.
/// A reservation is there even if it is not wanted: it is a promise of memory without a wait, and what is lent would have to be
/// taken back first. What is in use counts as far as it is beyond doubt, or the doubt costs nobody anything.
fn claims(spaces: &[Space], believed: &[Believed], capacity: Capacity) -> Vec<Claim> {
    let reserved: Vec<_> = spaces.iter().map(|space| (space.intent.class, space.intent.reserved_bytes())).collect();
    let kept = promise::kept_bytes(&reserved, capacity.most_bytes);
    let divided_bytes = capacity.divided_bytes(kept.iter().sum());
    let belief = |((space, believed), least): ((&Space, &Believed), u64)| Belief {
        latest_bytes: space.observation.latest_bytes.unwrap_or(u64::MAX).min(believed.active_bytes),
        believed_bytes: believed.active_bytes,
        bounds: (least, space.intent.limited_bytes(believed.wanted_bytes).max(least)),
    };
    let beliefs: Vec<Belief> = spaces.iter().zip(believed).zip(kept).map(belief).collect();
    let claim = |((space, belief), active_bytes): ((&Space, &Belief), u64)| Claim {
        payer: Payer { shares: space.intent.shares, active_bytes },
        least_bytes: belief.bounds.0,
        most_bytes: belief.bounds.1,
    };
    spaces.iter().zip(&beliefs).zip(counted_bytes(&beliefs, divided_bytes)).map(claim).collect()
}

/// Why a goal is what it is; the step is filled in when it was made.
fn reason(space: &Space, believed: &Believed, claim: &Claim, goal_bytes: u64, untaxed_bytes: u64, tax: Tax) -> Reason {
    Reason {
        goal_bytes,
        bound: bound(space, believed, claim, goal_bytes),
        step: Step::Whole,
        promise: promise_of(space, claim),
        price: claim.payer.price(goal_bytes, tax),
        active_fraction: claim.payer.active_fraction(goal_bytes),
        untaxed_bytes,
    }
}

fn bound(space: &Space, believed: &Believed, claim: &Claim, goal_bytes: u64) -> Bound {
    let wanted_bytes = believed.wanted_bytes;
    if goal_bytes == claim.least_bytes && space.intent.reserved_bytes() > 0 {
        Bound::Reservation
    } else if goal_bytes < claim.most_bytes {
        Bound::Price
    } else if space.intent.limited_bytes(wanted_bytes) < wanted_bytes {
        Bound::Limit
    } else {
        Bound::Wanted
    }
}

fn promise_of(space: &Space, claim: &Claim) -> Promise {
    match (space.intent.reserved_bytes(), claim.least_bytes) {
        (0, _) => Promise::None,
        (reserved_bytes, kept_bytes) if kept_bytes < reserved_bytes => Promise::Cut { reserved_bytes, kept_bytes },
        (_, kept_bytes) => Promise::Kept(kept_bytes),
    }
}

fn ways(believed: &[Believed], claims: &[Claim], goals: &[u64]) -> Vec<Way> {
    let way = |((believed, claim), goal): ((&Believed, &Claim), &u64)| Way {
        from: believed.target_bytes,
        goal: *goal,
        least: claim.least_bytes,
        most: claim.most_bytes,
    };
    believed.iter().zip(claims).zip(goals).map(way).collect()
}

/// In the states in which a program may be blocked for want of memory, no other is spared its work.
fn pace(state: State, settings: &Settings, elapsed_ns: u64) -> Pace {
    let fall_bytes = match state {
        State::High | State::Soft => {
            let bytes = u128::from(settings.shrink_bytes_per_s) * u128::from(elapsed_ns) / 1_000_000_000;
            u64::try_from(bytes).unwrap_or(u64::MAX)
        }
        State::Hard | State::Low => u64::MAX,
    };
    Pace { dead_band: settings.dead_band, fall_bytes }
}

fn grant(space: &Space, reason: Reason, (target_bytes, step): (u64, Step), state: State) -> Grant {
    let charged_bytes = space.observation.charged_bytes;
    let budget_bytes = match state {
        State::High => space.intent.limited_bytes(charged_bytes).max(target_bytes),
        State::Soft | State::Hard | State::Low => target_bytes,
    };
    let action = if charged_bytes <= budget_bytes { Action::Leave } else { action(state, space.intent.class) };
    Grant { id: space.id, target_bytes, budget_bytes, action, reason: Reason { step, ..reason } }
}

/// What is done to a space above its budget; in state high that is one above its limit.
fn action(state: State, class: Class) -> Action {
    match (state, class) {
        (State::High | State::Soft, _) => Action::Balloon,
        (State::Hard, _) | (State::Low, Class::Latency) => Action::Page,
        (State::Low, Class::Batch | Class::Standard) => Action::Block,
    }
}
