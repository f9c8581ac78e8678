//! Python with numpy over large arrays, against values that are known beforehand.

use crate::case::{Case, Outcome, Params, skipped};
use crate::ctx::Ctx;
use std::process::Command;

/// The system's Python: others in the PATH may lack numpy.
const PYTHON: &str = "/usr/bin/python3";

/// The case.
pub const CASE: Case = Case {
    name: "numpy",
    needs: &["root", "file:/usr/bin/python3"],
    short: Params::new(256, 1, 240),
    long: Params::new(1024, 3, 3600),
    run,
};

fn run(ctx: &Ctx) -> Outcome {
    let numpy = Command::new(PYTHON).args(["-c", "import numpy"]).output()?;
    if !numpy.status.success() {
        return skipped("python3-numpy is not installed (`cargo x setup` installs it)");
    }
    let launch = ctx.program(PYTHON).arg(ctx.places.sources.join("scripts/arrays.py"));
    let [bytes, rounds] = [ctx.params.bytes, ctx.params.rounds].map(|number| number.to_string());
    launch.args([bytes, rounds]).run()?.must_print("arrays verified")?;
    Ok(())
}
