//! RAM comes back when the program frees it: seen from outside, in the members and behind the space file.

use crate::case::{Case, Outcome, Params};
use crate::ctx::Ctx;
use std::time::Duration;

/// How long the way back may take: compaction gives slabs back at leisure.
const WITHIN: Duration = Duration::from_secs(10);

/// The case.
pub const CASE: Case = Case {
    name: "free-returns",
    needs: &["root"],
    short: Params::new(192, 1, 120),
    long: Params::new(1024, 1, 600),
    run,
};

fn run(ctx: &Ctx) -> Outcome {
    let mut running = ctx.own("frees").arg(ctx.params.bytes.to_string()).start()?;
    running.wait_for(ctx, "held")?;
    let held = ctx.until("a sample", || Ok(Some(running.seen().charged_bytes).filter(|&bytes| bytes > 0)))?;
    running.say("free")?;
    running.wait_for(ctx, "freed")?;
    // What stays is a tenth of a third of the need. The C library's own malloc keeps its third whole.
    let kept = if ctx.managed() { ctx.params.bytes / 30 } else { ctx.params.bytes / 3 };
    let expected = kept + held / 4 + (4 << 20);
    ctx.within(WITHIN, &format!("RAM to fall from {} to {} MiB", held >> 20, expected >> 20), || {
        Ok((running.seen().charged_bytes <= expected).then_some(()))
    })?;
    running.say("end")?;
    running.finish(ctx)?.must_print("kept")?;
    Ok(())
}
