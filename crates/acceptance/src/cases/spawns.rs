//! Children by fork and exec, by `posix_spawn` and by `vfork` join the space and the budget of their parent.

use crate::case::{Case, Outcome, Params, must};
use crate::ctx::Ctx;
use std::collections::HashSet;

/// The case.
pub const CASE: Case =
    Case { name: "spawns", needs: &["root"], short: Params::new(128, 1, 120), long: Params::new(1024, 1, 900), run };

fn run(ctx: &Ctx) -> Outcome {
    let finished = ctx.own("spawns").arg(ctx.params.bytes.to_string()).run()?;
    let finished = finished.must_print("all children verified")?;
    let members = finished.stdout.lines().filter_map(|line| line.strip_prefix("member ")?.split_once(' '));
    let (ways, spaces): (HashSet<&str>, HashSet<&str>) = members.unzip();
    must(ways.len() == 4, || format!("four members, not {ways:?}"))?;
    must(spaces.len() == 1, || format!("they are in different spaces: {}", finished.stdout))?;
    let seen = finished.seen;
    let expected = seen.space_inode.map_or("none".into(), |inode| inode.to_string());
    must(spaces.contains(&*expected), || format!("the space is {expected}, the members are in {spaces:?}"))?;
    must(seen.members_max >= 4, || format!("only {} processes were seen at one time", seen.members_max))
}
