//! Whoever looks sees the CPUs that the program was given, however hard it faults.

use crate::case::{Case, Outcome, Params};
use crate::ctx::Ctx;

/// The case.
pub const CASE: Case =
    Case { name: "cpus", needs: &["root"], short: Params::new(64, 8, 120), long: Params::new(512, 100, 900), run };

fn run(ctx: &Ctx) -> Outcome {
    let [bytes, rounds] = [ctx.params.bytes, ctx.params.rounds].map(|number| number.to_string());
    ctx.own("cpus").args([bytes, rounds]).run()?.must_print("CPUs seen by all")?;
    Ok(())
}
