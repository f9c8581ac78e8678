//! Java with a heap of four times its DRAM: maps, sorts, hashes of contents, and the collector at work.

use crate::case::{Case, Outcome, Params, failed, skipped};
use crate::ctx::Ctx;
use crate::running::tail;
use std::process::Command;

/// The case. The need is the heap.
pub const CASE: Case = Case {
    name: "java",
    needs: &["root", "java", "javac"],
    short: Params::new(256, 1, 300),
    long: Params::new(1024, 4, 3600),
    run,
};

fn run(ctx: &Ctx) -> Outcome {
    let classes = ctx.directory().join("classes");
    let source = ctx.places.sources.join("scripts/Heap.java");
    // Compiled beforehand, outside: the compiler would need more memory than the program.
    let compiled = Command::new("javac").arg("-d").arg(&classes).arg(&source).output();
    let compiled = match compiled {
        Ok(output) => output,
        Err(error) => return skipped(format!("javac does not start: {error}")),
    };
    if !compiled.status.success() {
        return failed(format!("Heap.java does not compile{}", tail(&String::from_utf8_lossy(&compiled.stderr))));
    }
    let heap = format!("{}m", ctx.params.bytes >> 20);
    let launch = ctx.program("java").args([format!("-Xms{heap}"), format!("-Xmx{heap}")]);
    let launch = launch.args(["-XX:+UseSerialGC", "-XX:+AlwaysPreTouch", "-cp"]).arg(&classes).arg("Heap");
    // A third of the heap holds what is kept, the rest what the collector has to clear away.
    let [bytes, rounds] = [ctx.params.bytes / 3, ctx.params.rounds].map(|number| number.to_string());
    launch.args([bytes, rounds]).run()?.must_print("heap verified")?;
    Ok(())
}
