//! What holds of every plan, in invented situations that follow one another.

use memvisor_policy::*;
use proptest::prelude::*;
use std::num::NonZeroU32;

const MIB: u64 = 1 << 20;
const SECOND: u64 = 1_000_000_000;

fn intents() -> impl Strategy<Value = Intent> {
    let bytes = prop_oneof![Just(0), 0..2048 * MIB];
    (bytes, prop::option::of(0..4096 * MIB), 1u32..4000, 0usize..3).prop_map(
        |(reservation_bytes, limit_bytes, shares, class)| Intent {
            reservation_bytes,
            limit_bytes,
            shares: NonZeroU32::new(shares).unwrap(),
            class: [Class::Batch, Class::Standard, Class::Latency][class],
            ..Intent::default()
        },
    )
}

fn observations() -> impl Strategy<Value = Observation> {
    (0..2048 * MIB, 0..4096 * MIB, 0.0..1.2, 0..64 * MIB, 0.0..1.0).prop_map(
        |(charged_bytes, more, active, overhead_bytes, pressure)| Observation {
            charged_bytes,
            wanted_bytes: charged_bytes + more,
            active_bytes: ((charged_bytes + more) as f64 * active) as u64,
            overhead_bytes,
            pressure,
            ..Observation::default()
        },
    )
}

fn spaces() -> impl Strategy<Value = Vec<Space>> {
    prop::collection::vec((intents(), observations()), 0..12).prop_map(|spaces| {
        let of = |(at, (intent, observation))| Space { id: SpaceId(at as u64), intent, observation };
        spaces.into_iter().enumerate().map(of).collect()
    })
}

fn situations() -> impl Strategy<Value = Situation> {
    (spaces(), 0..16_384 * MIB, 0..16_384 * MIB, 0..100 * SECOND).prop_map(|(spaces, dram, free, now_ns)| Situation {
        now_ns,
        host: Host { dram_bytes: dram, free_bytes: free.min(dram) },
        spaces,
    })
}

fn total(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.sum()
}

/// What spaces may have together whatever is kept free.
fn most_bytes(situation: &Situation) -> u64 {
    let spaces = &situation.spaces;
    let overhead = total(spaces.iter().map(|space| space.observation.overhead_bytes));
    let charged = total(spaces.iter().map(|space| space.observation.charged_bytes));
    (situation.host.free_bytes + charged).min(situation.host.dram_bytes.saturating_sub(overhead))
}

/// A host on which overcommitted spaces run: 16 GiB, spaces that want 24 GiB, nothing reserved that does not fit.
fn overcommitted() -> impl Strategy<Value = Situation> {
    prop::collection::vec((1u32..4000, 0..512 * MIB, 512 * MIB..8192 * MIB, 0.0..1.0), 4..10).prop_map(|spaces| {
        let space = |(at, (shares, reservation_bytes, wanted_bytes, active)): (usize, (u32, u64, u64, f64))| Space {
            id: SpaceId(at as u64),
            intent: Intent { reservation_bytes, shares: NonZeroU32::new(shares).unwrap(), ..Intent::default() },
            observation: Observation {
                charged_bytes: 0,
                wanted_bytes,
                active_bytes: (wanted_bytes as f64 * active) as u64,
                ..Observation::default()
            },
        };
        let spaces = spaces.into_iter().enumerate().map(space).collect();
        Situation { now_ns: 0, host: Host { dram_bytes: 16_384 * MIB, free_bytes: 15_000 * MIB }, spaces }
    })
}

/// A second on a host: each space grows towards what it wants and shrinks to its budget, neither at once.
fn live(situation: &mut Situation, plan: &Plan) {
    let others = situation.host.dram_bytes - most_bytes(situation);
    for (space, grant) in situation.spaces.iter_mut().zip(&plan.grants) {
        let seen = &mut space.observation;
        let room = grant.budget_bytes.min(seen.wanted_bytes);
        seen.charged_bytes = if seen.charged_bytes > grant.budget_bytes {
            grant.budget_bytes.max(seen.charged_bytes.saturating_sub(300 * MIB))
        } else {
            room.min(seen.charged_bytes + 200 * MIB).max(seen.charged_bytes.min(room))
        };
    }
    let charged = total(situation.spaces.iter().map(|space| space.observation.charged_bytes));
    situation.host.free_bytes = (situation.host.dram_bytes - others).saturating_sub(charged);
    situation.now_ns += SECOND;
}

proptest! {
    #[test]
    fn no_plan_exceeds_a_limit_the_host_or_what_a_space_wants(
        first in situations(), then in prop::collection::vec(situations(), 0..5),
    ) {
        let (settings, mut memory) = (Settings::default(), Memory::default());
        let mut wanted = std::collections::BTreeMap::new();
        for situation in std::iter::once(first).chain(then) {
            let (plan, next) = plan(&situation, &settings, &memory);
            memory = next;
            prop_assert!(total(plan.grants.iter().map(|grant| grant.target_bytes)) <= most_bytes(&situation));
            for (space, grant) in situation.spaces.iter().zip(&plan.grants) {
                prop_assert_eq!(space.id, grant.id);
                let limit = space.intent.limit_bytes.unwrap_or(u64::MAX);
                prop_assert!(grant.target_bytes <= limit && grant.budget_bytes <= limit);
                // What was wanted lately is believed still.
                let lately = wanted.entry(space.id).or_insert(0);
                *lately = space.observation.wanted_bytes.max(*lately);
                prop_assert!(grant.target_bytes <= space.intent.reserved_bytes().max(*lately));
            }
            // A space that was away was forgotten.
            wanted.retain(|id, _| memory.spaces.contains_key(id));
        }
    }

    #[test]
    fn a_reservation_is_kept_in_each_plan_in_which_all_can_be(
        first in situations(), then in prop::collection::vec(situations(), 0..5),
    ) {
        let (settings, mut memory) = (Settings::default(), Memory::default());
        for situation in std::iter::once(first).chain(then) {
            let (plan, next) = plan(&situation, &settings, &memory);
            // Room that others gave up a moment ago is not yet believed.
            let believed = next.capacity_bytes;
            memory = next;
            let reserved = total(situation.spaces.iter().map(|space| space.intent.reserved_bytes()));
            let cut = plan.grants.iter().any(|grant| matches!(grant.reason.promise, Promise::Cut { .. }));
            prop_assert_eq!(cut, reserved > believed);
            prop_assert_eq!(cut, plan.advice.verdict == Verdict::PromisesBroken);
            for (space, grant) in situation.spaces.iter().zip(&plan.grants) {
                prop_assert!(cut || grant.target_bytes >= space.intent.reserved_bytes());
            }
        }
    }

    #[test]
    fn under_a_constant_load_plans_come_to_rest(mut situation in situations()) {
        let settings = Settings::default();
        let (mut before, mut memory) = plan(&situation, &settings, &Memory::default());
        let mut rested = 0;
        for _ in 0..200 {
            situation.now_ns += SECOND;
            let (next, left) = plan(&situation, &settings, &memory);
            let same = next.grants == before.grants && next.state == before.state;
            prop_assert!(rested == 0 || same, "moved after it had come to rest");
            // The first plan knows of no time and lets nothing fall; states may take three plans.
            rested = if same && situation.now_ns > 5 * SECOND { rested + 1 } else { 0 };
            (before, memory) = (next, left);
        }
        prop_assert!(rested > 100, "rested for {rested} plans");
    }

    #[test]
    fn a_host_whose_spaces_do_as_they_are_told_comes_to_rest_in_state_high(situation in overcommitted()) {
        let settings = Settings::default();
        let (mut situation, mut memory, mut targets, mut rested) = (situation, Memory::default(), Vec::new(), 0);
        for _ in 0..120 {
            let (plan, left) = plan(&situation, &settings, &memory);
            let new: Vec<u64> = plan.grants.iter().map(|grant| grant.target_bytes).collect();
            rested = if new == targets && plan.state == State::High { rested + 1 } else { 0 };
            (targets, memory) = (new, left);
            live(&mut situation, &plan);
        }
        prop_assert!(rested > 20, "rested for {rested} plans in state {:?}", memory.state);
    }

    #[test]
    fn estimates_that_tremble_within_the_dead_band_move_no_target(
        situation in overcommitted(), trembles in prop::collection::vec(0.997..1.0, 600),
    ) {
        let settings = Settings::default();
        let (mut situation, mut memory) = (situation, Memory::default());
        for _ in 0..120 {
            let (plan, left) = plan(&situation, &settings, &memory);
            memory = left;
            live(&mut situation, &plan);
        }
        let rested: Vec<u64> = memory.spaces.values().map(|space| space.target_bytes).collect();
        let true_bytes: Vec<u64> = situation.spaces.iter().map(|space| space.observation.active_bytes).collect();
        for trembles in trembles.chunks(true_bytes.len()) {
            for ((space, bytes), tremble) in situation.spaces.iter_mut().zip(&true_bytes).zip(trembles) {
                space.observation.active_bytes = (*bytes as f64 * tremble) as u64;
            }
            situation.now_ns += SECOND;
            let (_, left) = plan(&situation, &settings, &memory);
            memory = left;
            let targets: Vec<u64> = memory.spaces.values().map(|space| space.target_bytes).collect();
            prop_assert_eq!(&targets, &rested);
        }
    }

    #[test]
    fn more_shares_never_lower_a_goal(situation in situations(), who: prop::sample::Index, more in 1u32..5000) {
        prop_assume!(!situation.spaces.is_empty());
        let who = who.index(situation.spaces.len());
        let goal = |situation: &Situation| {
            plan(situation, &Settings::default(), &Memory::default()).0.grants[who].reason.goal_bytes
        };
        let before = goal(&situation);
        let mut situation = situation;
        let shares = &mut situation.spaces[who].intent.shares;
        *shares = shares.saturating_add(more);
        prop_assert!(goal(&situation) + 2 >= before);
    }

    #[test]
    fn what_the_tax_takes_from_some_others_gain(situation in situations()) {
        let (plan, _) = plan(&situation, &Settings::default(), &Memory::default());
        let moved: i64 = plan.grants.iter().map(|grant| grant.reason.tax_bytes()).sum();
        prop_assert!(moved.unsigned_abs() <= plan.grants.len() as u64, "{moved}");
        let untaxed = Settings { tax: Tax::NONE, ..Settings::default() };
        let (plan, _) = memvisor_policy::plan(&situation, &untaxed, &Memory::default());
        prop_assert!(plan.grants.iter().all(|grant| grant.reason.tax_bytes() == 0));
    }

    #[test]
    fn no_numbers_make_a_plan_panic_or_exceed_the_host(
        spaces in prop::collection::vec((any::<[u64; 5]>(), any::<Option<u64>>(), any::<NonZeroU32>(), any::<f64>()), 0..5),
        dram_bytes in prop_oneof![any::<u64>(), 0..1u64 << 53], free_bytes: u64, times in prop::collection::vec(any::<u64>(), 1..4), settings in any::<[f64; 3]>(),
        shrink_bytes_per_s: u64, fall_ns: u64,
    ) {
        let space = |(at, (bytes, limit_bytes, shares, pressure)): (usize, ([u64; 5], _, _, f64))| Space {
            id: SpaceId(at as u64),
            intent: Intent { reservation_bytes: bytes[0], limit_bytes, shares, ..Intent::default() },
            observation: Observation {
                charged_bytes: bytes[1],
                wanted_bytes: bytes[2],
                active_bytes: bytes[3],
                overhead_bytes: bytes[4],
                pressure,
                ..Observation::default()
            },
        };
        let spaces: Vec<Space> = spaces.into_iter().enumerate().map(space).collect();
        let [high, hysteresis, dead_band] = settings;
        let thresholds = Thresholds { high, ..Thresholds::default() };
        let settings = Settings { thresholds, hysteresis, dead_band, shrink_bytes_per_s, fall_ns, ..Settings::default() };
        let mut memory = Memory::default();
        for now_ns in times {
            let situation = Situation { now_ns, host: Host { dram_bytes, free_bytes }, spaces: spaces.clone() };
            let (plan, left) = plan(&situation, &settings, &memory);
            memory = left;
            let targets = plan.grants.iter().map(|grant| u128::from(grant.target_bytes));
            // Larger hosts than f64 can count are divided only roughly.
            prop_assert!(dram_bytes >= 1 << 53 || targets.sum::<u128>() <= u128::from(dram_bytes));
        }
    }

    #[test]
    fn who_is_held_by_nothing_but_the_price_pays_the_price_of_all(situation in situations()) {
        let (plan, _) = plan(&situation, &Settings::default(), &Memory::default());
        for grant in plan.grants.iter().filter(|grant| grant.reason.bound == Bound::Price) {
            // A small goal is a few bytes, and a byte is much of that.
            if grant.reason.goal_bytes > MIB {
                let (own, all) = (grant.reason.price.unwrap(), plan.price.unwrap());
                prop_assert!((own / all - 1.0).abs() < 1e-4, "{own} {all}");
            }
        }
    }

    #[test]
    fn a_recorded_plan_is_planned_again_to_the_same_bytes(
        first in situations(), second in situations(), tax in 0.0..0.99,
    ) {
        let settings = Settings { tax: Tax::try_from(tax).unwrap(), ..Settings::default() };
        let (_, memory) = plan(&first, &settings, &Memory::default());
        let said = serde_json::to_string(&plan(&second, &settings, &memory)).unwrap();
        let record = serde_json::to_string(&(&second, &settings, &memory)).unwrap();
        let (second, settings, memory): (Situation, Settings, Memory) = serde_json::from_str(&record).unwrap();
        prop_assert_eq!(serde_json::to_string(&plan(&second, &settings, &memory)).unwrap(), said.clone());
        let read: (Plan, Memory) = serde_json::from_str(&said).unwrap();
        prop_assert_eq!(serde_json::to_string(&read).unwrap(), said);
    }
}
