//! Kernels without UFFDIO_MOVE: forced by the hidden flag `--without-move`, and true in a guest with Debian's 6.1.

use crate::case::{Case, Outcome, Params, must, skipped};
use crate::cases::{mapwalk, sort};
use crate::ctx::Ctx;
use crate::guest::{self, Guest};

const FLAGS: &[&str] = &["--without-move"];

/// The sort.
pub const SORT: Case = Case { name: "old-sort", run: |ctx| sort::sort(ctx, FLAGS), ..sort::CASE };

/// The random walk.
pub const MAPWALK: Case = Case { name: "old-mapwalk", run: |ctx| mapwalk::walk(ctx, FLAGS), ..mapwalk::CASE };

/// memvisor itself inside a guest. Function only: emulated time means nothing.
pub const GUEST: Case = Case {
    name: "old-guest",
    needs: guest::NEEDS,
    short: Params::new(96, 2, 300),
    long: Params::new(256, 4, 1800),
    run,
};

/// Its memory: the program's need, the kernel, and the files, which lie in memory too.
const GUEST_MIB: u64 = 768;

fn run(ctx: &Ctx) -> Outcome {
    let [bytes, rounds, dram] =
        [ctx.params.bytes, ctx.params.rounds, ctx.params.dram_bytes() >> 20].map(|number| number.to_string());
    let mut guest = Guest::new(ctx)?;
    guest.carry(&ctx.places.program, "/bin/acceptance-program")?;
    let program = format!("/bin/acceptance-program touch {bytes} {rounds}");
    let script = match ctx.managed() {
        true => {
            let shim = ctx.places.memvisor.with_file_name("libmemvisor_shim.so");
            if !shim.is_file() {
                return skipped(format!("{} is not there", shim.display()));
            }
            guest.carry(&ctx.places.memvisor, "/bin/memvisor")?;
            guest.carry(&shim, "/bin/libmemvisor_shim.so")?;
            format!("mkdir /store; /bin/memvisor run --dram {dram}M --store /store --report /r.json -- {program}")
        }
        false => program,
    };
    let script = format!("uname -r\n{script} && echo GUEST-CHECK-OK\ncat /r.json 2>/dev/null\n");
    let launch = guest.launch(ctx, &script, GUEST_MIB, &[])?.plain();
    let finished = launch.run()?.must_print("GUEST-CHECK-OK")?;
    must(finished.stdout.contains("6.1."), || "the guest's kernel is not 6.1".into())?;
    let paged = !finished.stdout.contains("\"evictions\":0,") && finished.stdout.contains("evictions");
    must(paged || !ctx.managed(), || "nothing was evicted in the guest".into())
}
