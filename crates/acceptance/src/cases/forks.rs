//! A program forks 100 children, each of which verifies the memory of its instant, changes it and verifies again.

use crate::case::{Case, Outcome, Params};
use crate::ctx::Ctx;

/// The case.
pub const CASE: Case =
    Case { name: "forks", needs: &["root"], short: Params::new(48, 100, 240), long: Params::new(512, 100, 1800), run };

fn run(ctx: &Ctx) -> Outcome {
    let [bytes, children] = [ctx.params.bytes, ctx.params.rounds].map(|number| number.to_string());
    let expected = format!("{children} children verified");
    ctx.own("forks").args([bytes, children]).run()?.must_print(&expected)?;
    Ok(())
}
