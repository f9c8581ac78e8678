//! What is reserved is there under load: greedy spaces with the highest shares come, go, are killed, work and rest, and a space with
//! a reservation that has next to no shares has it all the same.

mod common;

use common::host::{Host, MIB, Program, until};
use common::shim;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const DRAM: u64 = 256 * MIB;
const RESERVED: u64 = 96 * MIB;
/// What it works on: more than is reserved.
const HELD_MIB: u64 = 128;
/// What each of the greedy ones works on: three of them want half as much again as there is.
const GREEDY_MIB: u64 = 128;
/// What a pager leaves of what it is told, for faults of the next moment: its ring of frames, made for no more than the whole host
/// and a 64th of that; a 64th of what it is told; and what it moves out beyond that, which is some runs of pages.
const LEFT: u64 = DRAM / 64 + RESERVED / 64 + MIB;
/// A target that is so near to its goal stays where it is: the dead band, and a little.
const NEAR: u64 = RESERVED / 50;
/// Samples of each state of affairs, at least.
const SAMPLES: u64 = 200;
/// The node hands out a hundred times a second: each state that it leaves is seen, and the node is not kept from its work.
const BETWEEN_SAMPLES: Duration = Duration::from_millis(2);

#[test]
fn the_program() {
    common::host::be_the_program();
}

/// What is looked at all the time, by a thread of its own.
#[derive(Default)]
struct Watch {
    is_over: AtomicBool,
    samples: AtomicU64,
    /// The first sample in which something did not hold.
    wrong: Mutex<Option<String>>,
}

impl Watch {
    fn run(&self, host: &Host) {
        // What was told once is not taken back.
        let mut was_told = false;
        while !self.is_over.load(Ordering::Relaxed) {
            let spaces = host.spaces();
            let targets: u64 = spaces.iter().map(|space| space.target_bytes).sum();
            let told: u64 = spaces.iter().map(|space| space.budget_bytes).sum();
            let kept = spaces.iter().find(|space| space.name == "kept");
            let is_broken =
                kept.is_some_and(|kept| kept.target_bytes < RESERVED || (was_told && kept.budget_bytes < RESERVED));
            if targets > DRAM || told > DRAM || is_broken {
                let each: Vec<_> =
                    spaces.iter().map(|space| (&space.name, space.target_bytes, space.budget_bytes)).collect();
                let mut wrong = self.wrong.lock().unwrap();
                wrong.get_or_insert(format!("of {DRAM}, {RESERVED} reserved: (name, granted, told) are {each:?}"));
            }
            was_told |= kept.is_some_and(|kept| kept.budget_bytes >= RESERVED);
            self.samples.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(BETWEEN_SAMPLES);
        }
    }

    #[track_caller]
    fn is_right(&self) {
        assert_eq!(*self.wrong.lock().unwrap(), None);
    }

    /// Goes on when there are more samples, of which none may be wrong.
    #[track_caller]
    fn holds(&self) {
        let enough = self.samples.load(Ordering::Relaxed) + SAMPLES;
        until("there are samples", || self.samples.load(Ordering::Relaxed) >= enough);
        self.is_right();
    }
}

/// Ends the watch, also when the test fails.
struct Ends<'a>(&'a Watch);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

fn greedy(host: &Host, name: &str) -> Program {
    let mut program = host.run(name, &["--shares", "1000000"]);
    program.does(&format!("hold {GREEDY_MIB}"));
    program.does("busy");
    program
}

/// It has what is reserved, and no more than that: others are strong enough to take everything else.
#[track_caller]
fn has_what_is_reserved(host: &Host, watch: &Watch) {
    until("who works on its memory has what is reserved, and others the rest", || {
        watch.is_right();
        let kept = host.space("kept");
        let is_cut = kept.target_bytes <= RESERVED + NEAR;
        is_cut && kept.budget_bytes >= RESERVED && kept.charged_bytes >= RESERVED - LEFT
    });
    watch.holds();
}

#[test]
fn what_is_reserved_is_there_whatever_greedy_spaces_do() {
    if shim().is_none() {
        return;
    }
    let host = Host::start("reservation", "256MiB", "[sample]\nperiod = \"1s\"\n[calm]\nfall = \"1s\"\n");
    let watch = Watch::default();
    std::thread::scope(|scope| {
        let _ends = Ends(&watch);
        scope.spawn(|| watch.run(&host));
        let (mut first, second, third) = (greedy(&host, "first"), greedy(&host, "second"), greedy(&host, "third"));
        let held = || host.spaces().iter().map(|space| space.charged_bytes).sum::<u64>();
        until("they hold what will be reserved", || held() > DRAM - RESERVED);

        let mut kept = host.run("kept", &["--reservation", "96MiB", "--shares", "1"]);
        kept.does(&format!("hold {HELD_MIB}"));
        kept.does("busy");
        has_what_is_reserved(&host, &watch);

        let fourth = greedy(&host, "fourth");
        has_what_is_reserved(&host, &watch);

        second.kill(&host, "second");
        has_what_is_reserved(&host, &watch);

        // While it rests nobody is lent what is reserved.
        kept.does("idle");
        first.does("look");
        has_what_is_reserved(&host, &watch);
        kept.does("busy");

        first.does("idle");
        third.ends_right();
        let fifth = greedy(&host, "fifth");
        first.does("busy");
        has_what_is_reserved(&host, &watch);

        kept.does("idle");
        kept.does("look");
        watch.holds();
        [first, fourth, fifth, kept].into_iter().for_each(Program::ends_right);
    });
    println!("{} samples", watch.samples.load(Ordering::Relaxed));
    watch.is_right();
}
