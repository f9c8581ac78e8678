//! Drains that are called off, with a real program that compares its memory: whenever that is, nothing is lost.

mod common;

use common::host::{Host, MIB, Program, until};
use common::{memvisor, said, shim};
use memvisor_node::wire::DrainState;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const LIMIT: u64 = 48 * MIB;
/// Of each of two members: together more than twice what they may have.
const HELD_MIB: u64 = 64;
/// How often a drain begins and is called off at instants that nobody chose.
const TURNS: usize = 120;
/// How often it is looked whether a drain is near its end, which it may not come to on a busy machine: a quarter of a second.
const LOOKS_MAX: usize = 2000;

#[test]
fn the_program() {
    common::host::be_the_program();
}

/// A host with a space of two members of which more than half is away.
fn paged(name: &str) -> (Host, Program) {
    let host = Host::start(name, "512MiB", "");
    let mut program = host.run("paged", &["--limit", "48MiB"]);
    program.both_do(&format!("hold {HELD_MIB}"));
    is_paged(&host);
    (host, program)
}

/// It does not drain, and is within its limit.
#[track_caller]
fn is_paged(host: &Host) {
    until("it is paged again", || {
        let space = host.space("paged");
        space.drain == DrainState::No && space.charged_bytes <= LIMIT && space.tiers.stored_bytes > HELD_MIB * MIB
    });
}

#[track_caller]
fn has_let_go(host: &Host) {
    until("it has let go", || host.space("paged").drain == DrainState::Drained);
}

#[track_caller]
fn drain(host: &Host, flag: &str) {
    let mut command = memvisor(["drain", "paged", flag]);
    let told = said(command.env("MEMVISOR_NODE", &host.directory.0));
    assert_eq!(told.code, 0, "{told:?}");
}

#[test]
fn a_drain_is_called_off_by_a_command_and_the_space_is_paged_as_before() {
    if shim().is_none() {
        return;
    }
    let (host, mut program) = paged("drain-cancel");
    program.both_do("busy");
    drain(&host, "--no-wait");
    drain(&host, "--cancel");
    is_paged(&host);
    program.does("look");
    program.does("child look");
    // So it is when it has let go.
    drain(&host, "--no-wait");
    has_let_go(&host);
    drain(&host, "--cancel");
    is_paged(&host);
    program.does("child look");
    program.ends_right();
}

/// Sleeps for some microseconds: none, or a power of two.
fn nap(power: u64) {
    std::thread::sleep(Duration::from_micros((1 << power) - 1));
}

#[test]
fn a_drain_that_is_called_off_and_asked_for_again_at_any_instant_loses_nothing() {
    if shim().is_none() {
        return;
    }
    let (host, mut program) = paged("drain-turns");
    program.both_do("busy");
    let words = program.header();
    let header = words.header();
    // What is charged when all is back, about.
    header.drain().store(1, Relaxed);
    has_let_go(&host);
    let all_pages = header.charged_pages().load(Relaxed);
    header.drain().store(0, Relaxed);
    is_paged(&host);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 32) % bound
    };
    for turn in 0..TURNS {
        header.drain().store(1, Relaxed);
        if turn % 30 == 29 {
            has_let_go(&host);
        }
        if turn % 2 == 0 {
            nap(below(15));
        } else {
            // Near its end: then little is missing that a walk could come upon.
            let missing = 1 << below(13);
            let is_near = || header.charged_pages().load(Relaxed) + missing >= all_pages;
            (0..LOOKS_MAX).take_while(|_| !is_near()).for_each(|_| nap(7));
        }
        header.drain().store(0, Relaxed);
        nap(below(15));
        if turn % 30 == 14 {
            is_paged(&host);
        }
    }
    is_paged(&host);
    program.both_do("look");
    header.drain().store(1, Relaxed);
    has_let_go(&host);
    program.does("child look");
    program.ends_right();
}
