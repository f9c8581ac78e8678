//! Faults in the store, by the hidden flag `--inject`: the declared consequence follows, and never a wrong byte.

use crate::case::{Case, Outcome, Params, failed, must, skipped};
use crate::ctx::Ctx;
use crate::running::{Finished, tail};

/// A bit flips in the store: the program is stopped by SIGBUS, and the log names space, page and store.
pub const FLIP: Case = Case {
    name: "store-flip",
    needs: &["root"],
    short: Params::new(64, 50, 90),
    long: Params::new(256, 50, 300),
    run: |ctx| stopped(ctx, "flip"),
};

/// The store cannot read: the same consequence.
pub const ERROR: Case = Case { name: "store-error", run: |ctx| stopped(ctx, "error"), ..FLIP };

/// The store stalls: one thread waits, others go on.
pub const STALL: Case = Case {
    name: "store-stall",
    needs: &["root"],
    short: Params::new(64, 1, 240),
    long: Params::new(128, 4, 1200),
    run: stall,
};

/// The store is full: malloc and mmap say so, and what is there stays right.
pub const FULL: Case = Case {
    name: "store-full",
    needs: &["root"],
    short: Params::new(128, 1, 120),
    long: Params::new(512, 1, 600),
    run: full,
};

fn stopped(ctx: &Ctx, fault: &str) -> Outcome {
    if !ctx.managed() {
        return skipped("without memvisor there is no store to spoil");
    }
    let [bytes, rounds] = [ctx.params.bytes, ctx.params.rounds].map(|number| number.to_string());
    let finished = ctx.own("touch").args([bytes, rounds]).flags(["--inject", fault]).run()?;
    if finished.stdout.contains("verified") {
        return failed("no fault was injected: the program verified everything");
    }
    let said = || format!("{}{}", tail(&finished.stdout), tail(&finished.stderr));
    must(finished.code() == 128 + libc::SIGBUS, || format!("exit code {}, must be 135{}", finished.code(), said()))?;
    let words = ["space", "page", "store"];
    let named = |line: &str| words.iter().all(|word| line.contains(word));
    must(finished.stderr.lines().any(named), || format!("no line names space, page and store{}", said()))
}

fn number_after(finished: &Finished, name: &str) -> Option<u64> {
    finished.stdout.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn stall(ctx: &Ctx) -> Outcome {
    /// An injected stall lasts a second; a wait half as long is none of the machine's own.
    const STALL_MS: u64 = 500;
    /// Rounds of the other thread, of some microseconds each: a handful would be what it did before it stuck as well.
    const ROUNDS_MEANWHILE: u64 = 100;
    let [bytes, rounds] = [ctx.params.bytes, ctx.params.rounds].map(|number| number.to_string());
    let launch = ctx.own("stalls").args([bytes, rounds]).flags(["--inject", "stall"]);
    let finished = launch.run()?.must_print("verified")?;
    let wait_ms = number_after(&finished, "longest_wait_ms").unwrap_or(0);
    let counted = number_after(&finished, "counted_meanwhile").unwrap_or(0);
    if !ctx.managed() {
        return Ok(());
    }
    must(wait_ms >= STALL_MS, || format!("the longest wait was {wait_ms} ms: no stall was injected"))?;
    must(counted >= ROUNDS_MEANWHILE, || {
        format!("while one thread waited {wait_ms} ms, the other made {counted} rounds only")
    })
}

fn full(ctx: &Ctx) -> Outcome {
    let bytes = ctx.params.bytes;
    // DRAM and store hold less than a half of what the program asks for in the end.
    let launch = ctx.own("full").arg((bytes * 4).to_string());
    let launch = launch.dram(bytes / 2).flags(["--store-size".into(), crate::launch::size(bytes / 2)]);
    let launch = match ctx.managed() {
        true => launch,
        false => launch.arg((bytes * 2).to_string()),
    };
    launch.run()?.must_print("verified")?;
    Ok(())
}
