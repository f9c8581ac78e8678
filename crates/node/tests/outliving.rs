//! A node is killed, stopped and started again; its spaces are what they were.

mod common;

use common::{FakeSpace, MIB, NodeProcess, until};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

#[test]
fn the_process_of_a_node() {
    common::be_the_node();
}

#[test]
fn after_a_kill_spaces_keep_name_number_intent_target_and_history() {
    let mut node = NodeProcess::start("1GiB", "");
    let mut spaces = [FakeSpace::new("a"), FakeSpace::new("a"), FakeSpace::new("b").reserve(100 * MIB)];
    // Before they attach: what grows is believed to grow on for a while.
    spaces.iter().for_each(|space| space.hold(200 * MIB));
    let before: Vec<(u64, String)> = spaces.iter_mut().map(|space| space.attach(&node, false)).collect();
    node.ask("PATCH", "/v1/spaces/a-2", r#"{"shares": 3000}"#).unwrap();
    until("there is some history", || node.history("a-2").samples.len() >= 25);
    let target = |node: &NodeProcess, name: &str| node.space(name).target_bytes;
    let names = ["a", "a-2", "b"];
    until("targets rest", || {
        let then = names.map(|name| target(&node, name));
        node.plans_on();
        then == names.map(|name| target(&node, name))
    });
    let targets = names.map(|name| target(&node, name));
    let told: Vec<u64> = spaces.iter().map(FakeSpace::told_bytes).collect();

    node.kill();
    assert_eq!(
        spaces.iter().map(FakeSpace::told_bytes).collect::<Vec<u64>>(),
        told,
        "nobody needs a node to keep its target"
    );
    let oldest = 10;
    node.start_again();
    // They come back one after the other, and the first is not given what the others hold.
    for (space, before) in spaces.iter_mut().zip(&before) {
        assert_eq!(space.attach(&node, true), *before);
        let sum: u64 = before_and_after(&told, space.told_bytes());
        assert!(sum <= 1 << 30, "{sum}");
        node.plans_on();
    }
    for (name, target) in names.iter().zip(targets) {
        let now = node.space(name).target_bytes;
        assert!(now.abs_diff(target) <= target / 50, "{name} had {target} and has {now}");
    }
    assert_eq!(node.space("a-2").intent.shares, 3000);
    let samples = node.history("a-2").samples;
    assert!(samples.len() > oldest && samples.windows(2).all(|pair| pair[0].at_ms < pair[1].at_ms));
    let (first, last) = (samples[0], samples[samples.len() - 1]);
    assert!(last.at_ms - first.at_ms > 1500, "samples of before the kill are there: {first:?} {last:?}");
    // A number is never given twice.
    let (number, _) = FakeSpace::new("new").attach(&node, false);
    assert!(before.iter().all(|(old, _)| number > *old));
}

/// The most that is told together when one of three is told anew: the others are at most what they were.
fn before_and_after(told: &[u64], now: u64) -> u64 {
    now + told.iter().sum::<u64>() - told.iter().max().unwrap()
}

#[test]
fn a_node_that_is_told_to_end_ends_well_and_leaves_targets_and_no_socket() {
    let mut node = NodeProcess::start("1GiB", "");
    let mut space = FakeSpace::new("x");
    let before = space.attach(&node, false);
    node.plans_on();
    let told = space.told_bytes();
    assert_eq!(node.stop(), Some(0));
    assert_eq!(space.told_bytes(), told);
    assert!(!node.directory().join("attach.sock").exists() && !node.directory().join("node.sock").exists());
    node.start_again();
    assert_eq!(space.attach(&node, true), before);
    assert!(!node.history("x").samples.is_empty());
}

#[test]
fn sockets_of_a_dead_node_are_replaced_and_a_second_node_is_refused() {
    let mut node = NodeProcess::start("1GiB", "");
    node.kill();
    assert!(node.directory().join("node.sock").exists());
    node.start_again();
    let second = node.command().stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(3), "{said}");
    assert!(said.contains("another node has") && said.contains("stop the other node"), "{said}");
    assert_eq!(node.host().spaces, 0, "the first one answers on");
}

#[test]
fn a_state_that_cannot_be_read_is_put_aside_and_spaces_come_back_with_their_headers() {
    let mut node = NodeProcess::start("1GiB", "");
    let mut space = FakeSpace::new("x").reserve(50 * MIB);
    space.attach(&node, false);
    node.kill();
    std::fs::write(node.scratch.0.join("state/state.json"), "{").unwrap();
    node.start_again();
    space.attach(&node, true);
    assert_eq!(node.space("x").intent.reservation_bytes, 50 * MIB);
    assert!(node.scratch.0.join("state/state.unreadable").exists());
}

#[test]
fn a_configuration_that_cannot_be_used_does_not_start() {
    let mut node = NodeProcess::start("1GiB", "");
    node.kill();
    node.configure("1GiB", "tax = 2.0\n");
    let output = node.command().stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("the configuration cannot be used"), "{said}");
}

/// A process that does nothing, ended with it.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_space_without_its_keeper_stays_and_is_told_its_target_as_long_as_a_process_of_it_lives() {
    let node = NodeProcess::start("1GiB", "");
    let (mut stays, mut other) = (FakeSpace::new("stays").reserve(300 * MIB), FakeSpace::new("other"));
    let mut program = Sleeper::new();
    stays.attach(&node, false);
    stays.join_as(program.0.id());
    stays.hold(400 * MIB);
    other.attach(&node, false);
    other.hold(300 * MIB);
    node.plans_on();
    stays.leave();
    until("it is seen that nobody keeps it", || node.space("stays").keeper_pid == 0);
    node.plans_on();
    assert!(other.told_bytes() <= 624 * MIB, "what it holds is nobody else's: {}", other.told_bytes());
    assert_eq!(node.space("stays").charged_bytes, 400 * MIB);
    node.ask("PATCH", "/v1/spaces/stays", r#"{"limit":"350M"}"#).unwrap();
    until("it is told its target all the same", || stays.told_bytes() <= 350 * MIB);
    let planned_ns = || stays.header().planned_ns().load(Ordering::Relaxed);
    let then = planned_ns();
    until("again and again", || planned_ns() > then);
    let mut greedy = FakeSpace::new("greedy").reserve(700 * MIB);
    let message = greedy.message(false);
    greedy.refusal(&node, &message);
    // Nobody waits for it, so its process is there as a zombie: that holds no memory.
    program.0.kill().unwrap();
    until("its last process is missed", || node.names() == ["other"]);
    until("its DRAM went to the other", || other.told_bytes() > 800 * MIB);
    greedy.attach(&node, false);
}

#[test]
fn a_space_that_was_left_by_its_keeper_before_the_node_was_killed_is_not_forgotten_either() {
    let mut node = NodeProcess::start("1GiB", "");
    let (mut stays, mut other) = (FakeSpace::new("stays"), FakeSpace::new("other"));
    let mut program = Sleeper::new();
    stays.attach(&node, false);
    stays.join_as(program.0.id());
    stays.hold(400 * MIB);
    other.attach(&node, false);
    node.plans_on();
    stays.leave();
    until("it is seen that nobody keeps it", || node.space("stays").keeper_pid == 0);
    node.plans_on();
    node.kill();
    node.start_again();
    other.attach(&node, true);
    node.plans_on();
    assert!(other.told_bytes() <= 624 * MIB, "what it holds is nobody else's: {}", other.told_bytes());
    let mut greedy = FakeSpace::new("greedy").reserve(700 * MIB);
    let message = greedy.message(false);
    greedy.refusal(&node, &message);
    program.0.kill().unwrap();
    until("its DRAM went to the other", || other.told_bytes() > 800 * MIB);
}
