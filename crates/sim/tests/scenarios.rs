//! The shipped scenarios hold under the real policy, and those that stand for a promise fail under a policy that breaks it.

use memvisor_policy::{Class, Intent, Memory, Plan, Settings, Situation, Tax, plan};
use memvisor_sim::expect::Finding;
use memvisor_sim::recorded::{self, Entry};
use memvisor_sim::scenario::Scenario;
use memvisor_sim::{output, world};
use std::path::PathBuf;

/// Seeds beside a scenario's own: what it shows must not hang on chance.
const SEEDS: [u64; 2] = [1001, 1002];

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(format!("{name}.toml"))
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

fn scenario(text: &str) -> Scenario {
    Scenario::parse(text).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn findings(
    scenario: &Scenario,
    mut planner: impl FnMut(&Situation, &Settings, &Memory) -> (Plan, Memory),
) -> Vec<Finding> {
    scenario.judge(&world::live(scenario, &mut planner))
}

/// Panics with what does not hold, under the scenario's seed and others.
fn holds(name: &str, seeds: &[u64]) {
    let scenario = scenario(&text(name));
    for seed in [scenario.seed].iter().chain(seeds) {
        let scenario = Scenario { seed: *seed, ..scenario.clone() };
        let wrong: Vec<Finding> = findings(&scenario, plan).into_iter().filter(|finding| !finding.holds).collect();
        assert!(wrong.is_empty(), "{name} with seed {seed}: {wrong:#?}");
    }
}

/// Panics unless a finding that begins like this is false under a policy.
fn fails(text: &str, policy: impl FnMut(&Situation, &Settings, &Memory) -> (Plan, Memory), sentence: &str) {
    let findings = findings(&scenario(text), policy);
    let found = findings.iter().find(|finding| finding.text.starts_with(sentence));
    assert!(found.is_some_and(|finding| !finding.holds), "{findings:#?}");
}

/// The real policy with other intents.
fn with_intents(change: impl Fn(&mut Intent)) -> impl FnMut(&Situation, &Settings, &Memory) -> (Plan, Memory) {
    move |situation, settings, memory| {
        let mut situation = situation.clone();
        situation.spaces.iter_mut().for_each(|space| change(&mut space.intent));
        plan(&situation, settings, memory)
    }
}

#[test]
fn idle_memory_is_taxed() {
    holds("idle-tax", &SEEDS);
}

#[test]
fn shares_divide_dram() {
    holds("shares", &SEEDS);
}

#[test]
fn dram_follows_changing_load() {
    holds("dynamic", &SEEDS);
}

#[test]
fn dram_follows_within_ten_seconds_when_the_host_is_too_small_for_what_was_used_and_what_is() {
    holds("dynamic-servers", &SEEDS);
}

#[test]
fn dram_follows_within_a_minute_when_the_host_is_too_small_even_for_what_is_used() {
    holds("dynamic-tight", &SEEDS);
}

#[test]
fn a_scan_does_not_harm_its_neighbour() {
    holds("noisy-neighbour", &SEEDS);
}

#[test]
fn samples_follow_a_toggling_working_set() {
    holds("sampling", &SEEDS);
}

#[test]
fn the_host_is_safe_while_the_node_is_away() {
    holds("node-kill", &SEEDS);
}

#[test]
fn ten_thousand_spaces_are_divided() {
    holds("fleet", &[]);
}

#[test]
fn every_shipped_scenario_has_a_test_here() {
    let source = include_str!("scenarios.rs");
    for entry in std::fs::read_dir(file("x").parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(source.contains(&format!("holds(\"{name}\", ")), "{name} is not run");
    }
}

#[test]
fn a_policy_that_ignores_shares_fails() {
    fails(&text("shares"), with_intents(|intent| intent.shares = Intent::SHARES), "target of double");
}

#[test]
fn a_policy_that_ignores_the_tax_fails() {
    let untaxed = |situation: &Situation, settings: &Settings, memory: &Memory| {
        plan(situation, &Settings { tax: Tax::NONE, ..*settings }, memory)
    };
    fails(&text("idle-tax"), untaxed, "throughput of busy");
}

#[test]
fn a_policy_that_ignores_reservations_fails() {
    fails(&text("dynamic"), with_intents(|intent| intent.reservation_bytes = 0), "reservations kept");
}

#[test]
fn a_policy_that_takes_nothing_from_anybody_fails() {
    let miser = |situation: &Situation, settings: &Settings, memory: &Memory| {
        plan(situation, &Settings { shrink_bytes_per_s: 0, ..*settings }, memory)
    };
    fails(&text("dynamic"), miser, "DRAM of web follows");
}

#[test]
fn a_policy_that_gives_to_whoever_wants_most_costs_the_neighbour_of_a_scan() {
    let by_size = |situation: &Situation, settings: &Settings, memory: &Memory| {
        let mut situation = situation.clone();
        for space in &mut situation.spaces {
            let gigabytes = (space.observation.wanted_bytes >> 30).max(1) as u32;
            space.intent.shares = gigabytes.try_into().unwrap();
        }
        plan(&situation, &Settings { tax: Tax::NONE, ..*settings }, memory)
    };
    fails(&text("noisy-neighbour"), by_size, "throughput of victim");
}

#[test]
fn a_node_that_does_not_come_back_is_noticed() {
    let text = text("node-kill").replace("node_away = \"60s\"", "node_away = \"10m\"");
    fails(&text, plan, "charged of waking");
}

#[test]
fn a_host_that_loses_dram_that_is_held_is_noticed() {
    let text = format!("{}\n[[event]]\nat = \"5m\"\ndram = \"3GiB\"\n", text("shares"));
    fails(&text, plan, "at no look");
}

#[test]
fn right_after_a_change_the_estimate_is_wrong_and_that_is_noticed() {
    let text = text("sampling").replace("from = \"1890s\"\nto = \"45m\"", "from = \"1800s\"\nto = \"1830s\"");
    fails(&text, plan, "error of the active part of toggling (1800 s to 1830 s)");
}

#[test]
fn the_same_scenario_gives_the_same_bytes_and_another_seed_gives_others() {
    let said = |seed| {
        let scenario = Scenario { seed, ..scenario(&text("node-kill")) };
        let series = world::live(&scenario, &mut plan);
        let findings = scenario.judge(&series);
        output::text(&scenario, &series, &findings) + &output::json(&scenario, &series, &findings)
    };
    assert_eq!(said(6), said(6));
    assert_ne!(said(6), said(7));
}

/// Of the JSON of `node-kill`, by FNV-1a: so that another machine, or a changed model, is noticed. A change on purpose
/// changes this number with it.
const NODE_KILL: u64 = 0xa78d_46a0_43b1_14d9;

#[test]
fn the_bytes_are_those_of_any_machine() {
    let scenario = scenario(&text("node-kill"));
    let series = world::live(&scenario, &mut plan);
    let json = output::json(&scenario, &series, &scenario.judge(&series));
    let hash = json
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!(hash, NODE_KILL, "{hash:#x}");
}

#[test]
fn the_plans_of_a_scenario_come_out_again_and_a_changed_byte_does_not() {
    let scenario = Scenario { length_ns: 60_000_000_000, ..scenario(&text("shares")) };
    let mut lines = Vec::new();
    world::live(&scenario, &mut |situation, settings, memory| {
        let (made, next) = plan(situation, settings, memory);
        let entry =
            Entry { situation: situation.clone(), settings: *settings, memory: memory.clone(), plan: made.clone() };
        lines.push(serde_json::to_string(&entry).unwrap());
        (made, next)
    });
    assert_eq!(lines.len(), 60);
    for (at, line) in lines.iter().enumerate() {
        recorded::again(at + 1, line).unwrap();
    }
    let target = lines[30].rfind("\"target_bytes\":").unwrap() + "\"target_bytes\":".len();
    let other = if lines[30].as_bytes()[target] == b'1' { "2" } else { "1" };
    let changed = format!("{}{other}{}", &lines[30][..target], &lines[30][target + 1..]);
    let found = recorded::again(31, &changed).unwrap_err().to_string();
    assert!(found.contains("line 31") && found.contains("target_bytes"), "{found}");
}

#[test]
fn classes_decide_who_is_cut_first_and_nothing_else() {
    let intents = |class| with_intents(move |intent| intent.class = class);
    for class in [Class::Batch, Class::Latency] {
        assert!(findings(&scenario(&text("shares")), intents(class)).iter().all(|finding| finding.holds));
    }
}
