//! A sort of random 64-bit numbers with a checksum: memory that does not compress.

use crate::case::{Case, Outcome, Params};
use crate::ctx::Ctx;

/// The case.
pub const CASE: Case =
    Case { name: "sort", needs: &["root"], short: Params::new(192, 1, 180), long: Params::new(1024, 2, 1800), run };

fn run(ctx: &Ctx) -> Outcome {
    sort(ctx, &[])
}

/// Sorts once a round, each time other numbers.
pub fn sort(ctx: &Ctx, flags: &[&str]) -> Outcome {
    (1..=ctx.params.rounds).try_for_each(|seed| {
        let arguments = [ctx.params.bytes, seed].map(|number| number.to_string());
        let launch = ctx.own("sort").args(arguments).flags(flags).label(&format!("seed{seed}"));
        launch.run()?.must_print("checksum").map(drop)
    })
}
