//! `kill -9` of the keeper under load: the program goes on by itself and ends with the right contents.

use crate::case::{Case, Outcome, Params, failed, must};
use crate::ctx::Ctx;
use crate::os::{self, Ended};
use crate::proc;

/// The case. The keeper is killed when the first rounds are over, so that much was evicted and more will be.
pub const CASE: Case = Case {
    name: "keeper-kill",
    needs: &["root"],
    short: Params::new(96, 6, 180),
    long: Params::new(512, 24, 1800),
    run,
};

fn run(ctx: &Ctx) -> Outcome {
    let [bytes, rounds] = [ctx.params.bytes, ctx.params.rounds].map(|number| number.to_string());
    let launch = ctx.own("touch").args([bytes, rounds]);
    if !ctx.managed() {
        launch.run()?.must_print("verified")?;
        return Ok(());
    }
    let mut running = launch.may_fit().start()?;
    running.wait_for(ctx, "round 1")?;
    let program = running.wait_for_program(ctx)?;
    let store = running.store().to_path_buf();
    let inode = proc::maps_space(program);
    must(running.ended()?.is_none(), || "the program ended too early".into())?;
    os::kill(running.root());
    let rounds_before = running.stdout().matches("round").count();
    let status = ctx.until("the orphaned program to end", || match os::try_wait(program) {
        Ok(Ended::With(status)) => Ok(Some(status)),
        Ok(Ended::Not) => Ok(None),
        // Until the kernel has given it a new parent it is not ours.
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) && proc::kin(program).is_some() => Ok(None),
        Err(error) => failed(format!("the program is gone and nobody knows how: {error}")),
    })?;
    let finished = running.finish(ctx)?;
    must(status.success(), || format!("the program ended with {status}: {}", crate::running::tail(&finished.stderr)))?;
    must(finished.stdout.contains("verified"), || "the program did not verify its memory".into())?;
    let rounds_after = finished.stdout.matches("round").count() - rounds_before;
    must(rounds_after > 0, || "the keeper was killed too late to show anything".into())?;
    let left = inode.and_then(super::program_kill::holder_of);
    must(left.is_none(), || format!("process {left:?} still holds the space"))?;
    must(crate::running::is_empty(&store), || format!("files are left in {}", store.display()))
}
