//! What is measured from outside is what a process does inside.

use memvisor_acceptance::proc::{anonymous, anonymous_bytes};
use memvisor_acceptance::sampler::{Sampler, Seen, Watched};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const BYTES: u64 = 96 << 20;

/// A process that holds [`BYTES`] when it is made, and gives two thirds of them back when it is told to.
struct Holder {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Holder {
    fn new() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_acceptance-program"))
            .args(["frees", &BYTES.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut holder =
            Self { input: child.stdin.take().unwrap(), output: BufReader::new(child.stdout.take().unwrap()), child };
        holder.wait_for("held\n");
        holder
    }

    fn wait_for(&mut self, expected: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, expected);
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn free(&mut self) {
        writeln!(self.input).unwrap();
        self.wait_for("freed\n");
    }

    /// At the end of its input it takes every line as said.
    fn end(mut self) {
        drop(self.input);
        assert!(self.child.wait().unwrap().success());
    }
}

fn watch(holder: &Holder, target_bytes: u64) -> Sampler {
    Sampler::start(Watched { root: holder.pid(), kept: false, target_bytes })
}

/// A sample that was begun after this call.
fn next(sampler: &Sampler) -> Seen {
    let before = sampler.seen().samples;
    loop {
        let seen = sampler.seen();
        if seen.samples > before + 1 {
            return seen;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_sample_sees_memory_come_and_go() {
    let mut holder = Holder::new();
    let sampler = watch(&holder, u64::MAX / 2);
    let held = next(&sampler).charged_bytes;
    assert!((BYTES * 9 / 10..BYTES * 5 / 4).contains(&held), "{held}");
    holder.free();
    let freed = next(&sampler).charged_bytes;
    assert!(freed < BYTES / 2, "{freed}");
    holder.end();
    assert_eq!(next(&sampler).charged_bytes, 0);
    assert_eq!(sampler.finish().charged_bytes_max, held);
}

#[test]
fn a_run_above_its_target_is_reported_and_one_below_is_not() {
    let holder = Holder::new();
    for (target_bytes, over) in [(BYTES / 2, true), (BYTES * 2, false)] {
        let sampler = watch(&holder, target_bytes);
        next(&sampler);
        let seen = sampler.finish();
        assert_eq!(seen.samples_over_confirmed > 0, over, "{seen:?}");
        assert_eq!(seen.samples_over > 0, over, "{seen:?}");
    }
    holder.end();
}

#[test]
fn large_anonymous_mappings_are_what_may_be_managed() {
    let mut holder = Holder::new();
    // A third is in malloc's heap, which has a name; two thirds are mappings.
    let (all, managed) = (anonymous_bytes(holder.pid()).unwrap(), anonymous(holder.pid()).unwrap().managed());
    assert!(managed >= BYTES / 3 * 2 && managed < all, "{managed} of {all}");
    holder.free();
    let (all, managed) = (anonymous_bytes(holder.pid()).unwrap(), anonymous(holder.pid()).unwrap().managed());
    assert!(managed < BYTES / 8 && all >= BYTES / 4, "{managed} of {all}");
    holder.end();
}
