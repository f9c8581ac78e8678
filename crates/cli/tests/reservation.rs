//! What is admitted gets its reservation under any load: greedy spaces with the highest shares come, go, are killed, work and rest.

mod common;

use common::host::{Host, MIB, Program, until};
use common::shim;

const DRAM: u64 = 512 * MIB;
const RESERVED: u64 = 128 * MIB;
/// What it has when it uses it: more than is reserved.
const HELD_MIB: u64 = 160;
/// What a pager keeps free of what it is told, for faults of the next moment.
const KEPT_FREE: u64 = 16;
const GREEDY_MAX: usize = 4;
const STEPS: usize = 24;

#[test]
fn the_program() {
    common::host::be_the_program();
}

/// Looks at the host: what must hold at each sample does.
fn sample(host: &Host) {
    let spaces = host.spaces();
    let kept = spaces.iter().find(|space| space.name == "kept").expect("the reserved one is there");
    assert!(kept.target_bytes >= RESERVED, "{} of {RESERVED} are granted", kept.target_bytes);
    let told: u64 = spaces.iter().map(|space| space.budget_bytes).sum();
    let charged: u64 = spaces.iter().map(|space| space.charged_bytes).sum();
    assert!(told <= DRAM && charged <= DRAM, "{told} are told and {charged} charged of {DRAM}");
    let seen = host.host();
    assert!(seen.targets_bytes <= DRAM && seen.charged_bytes <= DRAM, "{seen:?}");
}

#[test]
fn who_has_a_reservation_gets_it_whatever_greedy_spaces_do() {
    if shim().is_none() {
        return;
    }
    let host = Host::start("reservation", "512M", "[sample]\nperiod = \"1s\"\n[calm]\nfall = \"2s\"\n");
    let mut kept = host.run("kept", &["--reservation", "128M", "--shares", "1"]);
    kept.does(&format!("hold {HELD_MIB}"));
    until("the reserved one is known", || host.spaces().iter().any(|space| space.name == "kept"));
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    println!("seed {random:#x}");
    let mut next = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 33) as usize % bound
    };
    let (mut greedy, mut joined): (Vec<(String, Program)>, usize) = (Vec::new(), 0);
    for step in 0..STEPS {
        let deed = if greedy.is_empty() { 0 } else { next(6) };
        println!("step {step}: deed {deed}, {} greedy", greedy.len());
        match deed {
            0 | 1 if greedy.len() < GREEDY_MAX => {
                joined += 1;
                let name = format!("greedy{joined}");
                let mut program = host.run(&name, &["--shares", "1000000"]);
                program.does("hold 250");
                program.does("busy");
                greedy.push((name, program));
            }
            0 | 1 => greedy.swap_remove(next(greedy.len())).1.ends_right(),
            2 => {
                let (name, program) = greedy.swap_remove(next(greedy.len()));
                program.kill(&host, &name);
            }
            3 => {
                let at = next(greedy.len());
                greedy[at].1.does("idle");
            }
            4 => {
                let at = next(greedy.len());
                greedy[at].1.does("busy");
            }
            _ => kept.does("idle"),
        }
        for _ in 0..10 {
            sample(&host);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        if step % 3 == 2 {
            kept.does("busy");
            let enough = RESERVED - RESERVED / KEPT_FREE;
            until("who uses its memory has what is reserved", || {
                sample(&host);
                let kept = host.space("kept");
                kept.budget_bytes >= RESERVED && kept.charged_bytes >= enough
            });
        }
    }
    greedy.into_iter().for_each(|(_, program)| program.ends_right());
    kept.does("idle");
    kept.ends_right();
}
