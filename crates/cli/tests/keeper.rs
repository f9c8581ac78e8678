//! A space and those around it, with real programs: who keeps it is killed; a node says how its use is sampled.

mod common;

use common::host::{Host, MIB, Words, until};
use common::shim;
use memvisor_proto::space::member_state;
use memvisor_sys::process;
use std::sync::atomic::Ordering;

const DRAM: u64 = 256 * MIB;
const HELD_MIB: u64 = 64;

#[test]
fn the_program() {
    common::host::be_the_program();
}

fn told_bytes(words: &Words) -> u64 {
    words.header().target_bytes().load(Ordering::Relaxed)
}

#[test]
fn a_program_whose_keeper_was_killed_keeps_its_dram_follows_its_target_and_gives_all_back_when_it_ends() {
    if shim().is_none() {
        return;
    }
    let host = Host::start("keeper", "256MiB", "");
    let mut left = host.run("left", &[]);
    left.does(&format!("hold {HELD_MIB}"));
    let words = left.header();
    let mut other = host.run("other", &[]);
    other.does("hold 1");
    let program_pid = host.space("left").program_pid;
    process::kill(left.keeper_pid(), process::SIGKILL).unwrap();
    until("it is seen that nobody keeps it", || host.space("left").keeper_pid == 0);
    assert!(host.space("left").charged_bytes > HELD_MIB * MIB / 2);
    let fits = || host.spaces().iter().map(|space| space.budget_bytes.max(space.charged_bytes)).sum::<u64>() <= DRAM;
    for _ in 0..20 {
        left.does("look");
        assert!(fits(), "{:?}", host.spaces().iter().map(|space| space.budget_bytes).collect::<Vec<u64>>());
    }
    // It saves by itself.
    let body = r#"{"limit":"32M"}"#;
    memvisor_node::client::ask(&host.directory.0, "PATCH", "/v1/spaces/left", body).unwrap();
    until("it is told less", || told_bytes(&words) <= 32 * MIB);
    until("it holds no more than it was told", || host.space("left").charged_bytes <= 33 * MIB);
    left.does("look");
    process::kill(program_pid, process::SIGKILL).unwrap();
    until("it is gone", || host.spaces().iter().all(|space| space.name != "left"));
    until("its DRAM went to the other", || host.space("other").budget_bytes > 200 * MIB);
    other.ends_right();
}

#[test]
fn a_sample_has_as_many_pages_as_the_node_says() {
    if shim().is_none() {
        return;
    }
    let sample = |pages: u32| format!("[sample]\nperiod = \"1s\"\npages = {pages}\n");
    let host = Host::start("sample-pages", "256MiB", &sample(7));
    let mut program = host.run("sampled", &[]);
    program.does(&format!("hold {HELD_MIB}"));
    program.does("busy");
    let words = program.header();
    let sampled = || {
        let live = words.members().filter(|member| member.state().load(Ordering::Relaxed) == member_state::LIVE);
        live.map(|member| member.sample().ended().pages).max().unwrap_or(0)
    };
    until("seven pages are sampled", || sampled() == 7);
    host.reload("256MiB", &sample(256));
    until("more pages are sampled than usually", || sampled() > 100);
    host.reload("256MiB", &sample(3));
    until("three pages are sampled", || sampled() == 3);
    program.does("idle");
    program.ends_right();
}
