//! State low: a space above its target is blocked, and nobody is for ever.

mod common;

use common::host::{Host, MIB, Program, until};
use common::{Directory, memvisor, shim};
use memvisor_node::wire;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// All of it is low: there is always less free.
const LOW: &str = "[thresholds]\nhigh = 0.9\nsoft = 0.9\nhard = 0.9\nlow = 0.9\n";
const HELD_MIB: u64 = 500;

#[test]
fn the_program() {
    common::host::be_the_program();
}

/// A host on which a space that holds much is blocked, as it uses all of that.
fn blocked(name: &str) -> (Host, Program) {
    let host = Host::start(name, "1GiB", "");
    let mut program = host.run("greedy", &[]);
    program.does("child hold 32");
    program.does(&format!("hold {HELD_MIB}"));
    until("it holds that", || host.space("greedy").charged_bytes > HELD_MIB * MIB);
    // The one gives, and the other waits for it.
    program.both_do("busy");
    host.reload("1GiB", LOW);
    until("it is blocked", || host.space("greedy").action == wire::Action::Block);
    (host, program)
}

#[test]
fn in_state_low_who_is_above_its_target_waits_until_it_is_below_it() {
    if shim().is_none() {
        return;
    }
    let (host, mut program) = blocked("low");
    let words = program.header();
    let header = words.header();
    let charged = || header.charged_pages().load(Ordering::Relaxed) * 4096;
    let (mut least, mut said) = (charged(), false);
    until("it is within its target", || {
        let explained = host.explain("greedy");
        let sentences = explained.sentences.join(" ");
        said |= sentences.contains("It is blocked: it holds") && sentences.contains("next to no free DRAM");
        assert_eq!(sentences.contains("It is blocked"), explained.reason.action == wire::Action::Block);
        let now = charged();
        // What is let through while nothing leaves is little.
        assert!(now <= least + 8 * MIB, "{least} were charged, and {now} are");
        least = least.min(now);
        explained.reason.action == wire::Action::Leave
    });
    assert!(said, "nobody was told");
    until("faults waited", || host.space("greedy").counters.blocked_faults > 0);
    let waited = host.space("greedy").counters;
    println!("{} faults waited {} ms", waited.blocked_faults, waited.blocked_ns / 1_000_000);
    assert!(waited.blocked_ns > 0);
    // The state is low still, and within its target it runs.
    program.both_do("idle");
    program.both_do("look");
    host.reload("1GiB", "");
    until("nobody is blocked any more", || header.blocked_until_ns().load(Ordering::Relaxed) == 0);
    program.ends_right();
}

#[test]
fn a_node_that_is_killed_while_a_space_is_blocked_stops_nobody() {
    if shim().is_none() {
        return;
    }
    let (mut host, mut program) = blocked("low-kill");
    host.kill_node();
    let words = program.header();
    let header = words.header();
    let until_ns = header.blocked_until_ns().load(Ordering::Relaxed);
    assert_ne!(until_ns, 0, "it was blocked");
    program.both_do("idle");
    program.both_do("look");
    // What the node asked for is over, as nobody asks again: also who is above its target for good waits no more for its sake.
    until("the time that was asked for is over", || memvisor_sys::clock::now_ns() > until_ns);
    let waited = || header.blocked_faults().load(Ordering::Relaxed);
    let before = waited();
    header.target_bytes().store(0, Ordering::Relaxed);
    program.does("child look");
    assert_eq!(waited(), before, "they wait for a node that is dead");
    header.target_bytes().store(1 << 30, Ordering::Relaxed);
    program.ends_right();
}

#[test]
fn a_space_that_can_never_be_below_its_target_goes_on_however_long_it_is_blocked() {
    if shim().is_none() {
        return;
    }
    let directory = Directory::new("low-never");
    let mut command = memvisor(["run", "--strict", "--quiet", "--dram", "64M", "--store-size", "256M", "--store"]);
    command.arg(&directory.0);
    let mut program = Program::start(command);
    program.does("hold 16");
    let words = program.header();
    let header = words.header();
    // A node that asks for what cannot be.
    let over = Arc::new(AtomicBool::new(false));
    let asking = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            while !over.load(Ordering::Relaxed) {
                header.target_bytes().store(0, Ordering::Relaxed);
                let until_ns = memvisor_sys::clock::now_ns() + 2_000_000_000;
                header.blocked_until_ns().store(until_ns, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    until("its pages leave", || header.charged_pages().load(Ordering::Relaxed) < 1024);
    program.does("look");
    assert!(header.blocked_faults().load(Ordering::Relaxed) > 0);
    over.store(true, Ordering::Relaxed);
    asking.join().unwrap();
    program.ends_right();
}
