//! 64 threads that fault at once on shared and own pages, each verifying.

use crate::case::{Case, Outcome, Params};
use crate::ctx::Ctx;

/// The case.
pub const CASE: Case = Case {
    name: "threads64",
    needs: &["root"],
    short: Params::new(128, 4, 120),
    long: Params::new(1024, 12, 900),
    run,
};

fn run(ctx: &Ctx) -> Outcome {
    let [bytes, rounds] = [ctx.params.bytes, ctx.params.rounds].map(|number| number.to_string());
    ctx.own("threads64").args([bytes, rounds]).run()?.must_print("64 threads verified")?;
    Ok(())
}
