//! stress-ng's memory methods, which write patterns in every order and verify them.
//!
//! `--vm-method all` goes from method to method, but it needs minutes for the first of them: so the methods that pass over the memory as
//! a whole run one by one as well.

use crate::case::{Case, Outcome, Params, failed, must};
use crate::ctx::Ctx;

/// Methods that take less than a second for 64 MiB when all is in DRAM.
const METHODS: &str = "cache-stripe checkerboard flip fwdrev galpat-0 galpat-1 gray grayflip incdec inc-nybble lfsr32 \
                       rand-set rand-sum read64 ror swap move-inv modulo-x mscan prime-0 prime-1 prime-gray-0 \
                       prime-gray-1 write64 zero-one";

/// The case. Rounds are the seconds that all methods get together, after each had its own turn.
pub const CASE: Case = Case {
    name: "stress-ng",
    needs: &["root", "stress-ng", "sh"],
    short: Params::new(64, 6, 300),
    long: Params::new(1024, 600, 5400),
    run,
};

fn run(ctx: &Ctx) -> Outcome {
    let stress = format!("stress-ng --vm 2 --vm-bytes {} --verify --metrics-brief", ctx.params.bytes);
    let script = format!(
        "set -e; for method in {METHODS}; do {stress} --vm-method $method --vm-ops 2; done; \
         {stress} --vm-method all --timeout {}; echo all methods done",
        ctx.params.rounds
    );
    let finished = ctx.program("sh").directory(ctx.directory()).args(["-c", &script]).run()?;
    let finished = finished.must_print("all methods done")?;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    let runs = METHODS.split_whitespace().count() + 1;
    let successful = said.matches("successful run completed").count();
    must(successful == runs, || format!("{successful} of {runs} runs were successful"))?;
    // A worker that was killed is started again by its parent and would pass.
    let bad = ["fail:", "killed", "SIGBUS", "SIGSEGV", "restarting", "OOM", "error:"];
    match said.lines().find(|line| bad.iter().any(|word| line.contains(word))) {
        Some(line) => failed(line),
        None => Ok(()),
    }
}
