//! A program forks 100 children, each of which verifies the memory of its instant, changes it and verifies again.

use crate::case::{Case, Outcome, Params};
use crate::ctx::{Ctx, Form};

/// The case.
pub const CASE: Case =
    Case { name: "forks", needs: &["root"], short: Params::new(64, 100, 300), long: Params::new(512, 100, 3600), run };

fn run(ctx: &Ctx) -> Outcome {
    let [bytes, children] = [ctx.params.bytes, ctx.params.rounds].map(|number| number.to_string());
    let expected = format!("{children} children verified");
    // A hundred children look at every page often enough; in a soak each looks at all.
    let one_in = if ctx.form == Form::Short { "8" } else { "1" };
    ctx.own("forks").args([bytes, children]).arg(one_in).run()?.must_print(&expected)?;
    Ok(())
}
