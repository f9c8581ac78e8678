//! `memvisor drain` of a program that is paged: everything comes back to plain DRAM, and the program goes on and finds its memory as
//! it left it.

use crate::case::{Case, NotPassed, Outcome, Params, must};
use crate::ctx::Ctx;
use crate::launch::size;
use crate::os;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The case. It is drained when the first round is over, so that three quarters of its memory are away.
pub const CASE: Case =
    Case { name: "drain", needs: &["root"], short: Params::new(96, 60, 180), long: Params::new(512, 120, 1800), run };

fn run(ctx: &Ctx) -> Outcome {
    let [bytes, rounds] = [ctx.params.bytes, ctx.params.rounds].map(|number| number.to_string());
    let launch = ctx.own("touch").args([bytes, rounds]);
    if !ctx.managed() {
        return launch.run()?.must_print("verified").map(drop);
    }
    let directory = ctx.directory().join("node");
    let host_bytes = ctx.params.bytes * 2;
    let node = start_node(ctx, &directory, host_bytes)?;
    let drained = run_and_drain(ctx, launch.node(&directory, host_bytes), &directory);
    os::kill(node);
    let _ = os::wait(node);
    drained
}

fn run_and_drain(ctx: &Ctx, launch: crate::launch::Launch<'_>, directory: &Path) -> Outcome {
    let mut running = launch.flags(["--name", "drained"]).start()?;
    running.wait_for(ctx, "round 1")?;
    let drain = ask(ctx, directory, &["drain", "drained"])?;
    must(drain.status.success(), || format!("drain: {}", String::from_utf8_lossy(&drain.stderr)))?;
    let stats = ask(ctx, directory, &["stats", "drained", "--json"])?;
    let stats = String::from_utf8_lossy(&stats.stdout).into_owned();
    must(running.ended()?.is_none(), || "the program ended before it was drained".into())?;
    must(stats.contains("\"drained\""), || format!("the space is not drained: {stats}"))?;
    let finished = running.finish(ctx)?;
    finished.must_print("verified").map(drop)
}

/// Starts a node that divides `dram_bytes`, and waits until it answers. Gives its process id.
fn start_node(ctx: &Ctx, directory: &Path, dram_bytes: u64) -> Result<i32, NotPassed> {
    std::fs::create_dir_all(directory)?;
    let (file, place) = (directory.join("node.toml"), directory.display());
    let text = format!("dram = \"{}\"\ndirectory = \"{place}\"\nstate = \"{place}/state\"\n", size(dram_bytes));
    std::fs::write(&file, text)?;
    let log = std::fs::File::create(directory.join("node.log"))?;
    let mut command = Command::new(&ctx.places.memvisor);
    command.args(["node", "--config"]).arg(&file).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let pid = command.spawn()?.id() as i32;
    ctx.started.add(pid);
    ctx.until("the node to answer", || Ok(ask(ctx, directory, &["ps"])?.status.success().then_some(())))?;
    Ok(pid)
}

fn ask(ctx: &Ctx, directory: &Path, words: &[&str]) -> Result<Output, NotPassed> {
    Ok(Command::new(&ctx.places.memvisor).args(words).arg("--node").arg(directory).output()?)
}
