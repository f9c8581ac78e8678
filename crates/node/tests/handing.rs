//! What pagers are told, by a node with real headers: never more than there is, and nobody before the other has given.

mod common;

use common::{FakeSpace, MIB, NodeProcess, until};

#[test]
fn the_process_of_a_node() {
    common::be_the_node();
}

#[test]
fn the_sum_of_what_is_told_is_never_above_the_dram_while_demands_change() {
    let node = NodeProcess::start("1GiB", "");
    let mut spaces: Vec<FakeSpace> = (0..6).map(|at| FakeSpace::new(&format!("s{at}"))).collect();
    for space in &mut spaces {
        space.attach(&node, false);
        space.join();
    }
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    println!("seed {random}");
    for round in 0..100u32 {
        for space in &spaces {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // A pager that follows: it holds what its program asks for as far as it is told.
            let asks = random % (400 * MIB);
            space.hold(asks.min(space.told_bytes()));
            space.store(asks.saturating_sub(space.told_bytes()));
        }
        // Words are read one after the other while the node writes them: who is raised is raised after others were
        // lowered, so the sum is read in that order too, twice.
        let sum = || spaces.iter().map(FakeSpace::told_bytes).sum::<u64>();
        let least = (0..4).map(|_| sum()).min().unwrap();
        assert!(least <= 1 << 30, "round {round}: {}", least);
        if round % 10 == 0 {
            node.plans_on();
        }
    }
    assert!(node.host().targets_bytes <= 1 << 30);
}

#[test]
fn who_shall_have_more_is_told_when_the_other_has_given() {
    let node = NodeProcess::start("1GiB", "");
    let (mut slow, mut waits) = (FakeSpace::new("slow"), FakeSpace::new("waits"));
    slow.attach(&node, false);
    slow.hold(900 * MIB);
    waits.attach(&node, false);
    node.ask("PATCH", "/v1/spaces/waits", r#"{"reservation":"500M"}"#).unwrap();
    node.plans_on();
    assert!(waits.told_bytes() <= 124 * MIB, "{} are promised and not there", waits.told_bytes());
    assert!(slow.told_bytes() <= 524 * MIB, "who shall give is told at once: {}", slow.told_bytes());
    slow.hold(450 * MIB);
    until("what came back is handed on", || waits.told_bytes() >= 500 * MIB);
}
