//! A program maps, remaps, protects, gives away and unmaps memory at random, against a model of the true bytes.

use crate::case::{Case, NotPassed, Outcome, Params};
use crate::ctx::{Ctx, Form};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the walk may map, beside what of it was touched when it was measured: the need.
const MAPPED_PER_NEED: u64 = 2;

/// The case. Rounds are steps.
pub const CASE: Case = Case {
    name: "mapwalk",
    needs: &["root"],
    short: Params::new(64, 400, 180),
    long: Params::new(512, 5_000, 3600),
    run,
};

fn run(ctx: &Ctx) -> Outcome {
    walk(ctx, &[])
}

/// The same walk every day; others in a soak, one of them never walked before. A failure names its seed.
pub fn walk(ctx: &Ctx, flags: &[&str]) -> Outcome {
    let chosen = std::env::var("ACCEPTANCE_SEED").ok().and_then(|text| text.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seeds = match (chosen, ctx.form) {
        (Some(seed), _) => vec![seed],
        (None, Form::Short) => vec![1],
        (None, Form::Long) => vec![1, 2, now()],
    };
    seeds.into_iter().try_for_each(|seed| one(ctx, seed, flags))
}

fn one(ctx: &Ctx, seed: u64, flags: &[&str]) -> Result<(), NotPassed> {
    let arguments = [ctx.params.bytes * MAPPED_PER_NEED, ctx.params.rounds, seed].map(|number| number.to_string());
    let expected = format!("{} steps verified", ctx.params.rounds);
    let launch = ctx.own("mapwalk").args(arguments).flags(flags).label(&format!("seed{seed}"));
    launch.run()?.must_print(&expected)?;
    Ok(())
}
