//! `kill -9` of the program: within a second nothing of it is left – no process, no memory file, no file.

use crate::case::{Case, Outcome, Params, must};
use crate::ctx::Ctx;
use crate::os;
use crate::proc;
use crate::running::is_empty;
use std::time::{Duration, Instant};

/// The promise.
const WITHIN: Duration = Duration::from_secs(1);

/// The case.
pub const CASE: Case = Case {
    name: "program-kill",
    needs: &["root"],
    short: Params::new(128, 1000, 120),
    long: Params::new(1024, 1000, 600),
    run,
};

/// A process that holds the space file with this inode.
pub fn holder_of(inode: u64) -> Option<i32> {
    proc::everyone().iter().map(|kin| kin.process.pid).find(|&pid| proc::holds_space(pid, inode))
}

fn run(ctx: &Ctx) -> Outcome {
    let [bytes, rounds] = [ctx.params.bytes, ctx.params.rounds].map(|number| number.to_string());
    let mut running = ctx.own("touch").args([bytes, rounds]).may_fit().start()?;
    running.wait_for(ctx, "round 0")?;
    let program = running.wait_for_program(ctx)?;
    let inode = proc::maps_space(program);
    must(inode.is_some() == ctx.managed(), || format!("the program's space file is {inode:?}"))?;
    os::kill(program);
    let killed = Instant::now();
    let store = running.store().to_path_buf();
    ctx.within(WITHIN, "everything of the program to be gone", || {
        let ended = running.ended()?.is_some();
        let held = inode.and_then(holder_of);
        Ok((ended && held.is_none() && is_empty(&store)).then_some(()))
    })?;
    let took = killed.elapsed();
    must(took <= WITHIN, || format!("it took {took:?}"))?;
    let finished = running.finish(ctx)?;
    must(finished.code() == 128 + libc::SIGKILL, || format!("the exit code is {}", finished.code()))
}
