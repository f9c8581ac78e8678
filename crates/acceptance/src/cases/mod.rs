//! The cases, one file each.

mod arrays;
mod exits;
mod faults;
mod forks;
mod frees;
mod guest;
mod java;
mod keeper_kill;
mod mapwalk;
mod mariadb;
mod old_kernel;
mod program_kill;
mod redis;
mod sort;
mod spawns;
mod stress;
mod threads;

use crate::case::Case;

/// All cases, those first that say most about least.
pub const ALL: &[Case] = &[
    threads::CASE,
    forks::CASE,
    mapwalk::CASE,
    sort::CASE,
    stress::CASE,
    redis::CASE,
    arrays::CASE,
    guest::CASE,
    mariadb::CASE,
    keeper_kill::CASE,
    program_kill::CASE,
    faults::FLIP,
    faults::ERROR,
    faults::STALL,
    faults::FULL,
    spawns::CASE,
    java::CASE,
    exits::CASE,
    old_kernel::SORT,
    old_kernel::MAPWALK,
    old_kernel::GUEST,
    frees::CASE,
];

/// Cases that the product does not pass reliably yet, each with what is wrong. A run of all cases leaves them out and says so
/// aloud; named, they run. `docs/STATUS.md` has the measurements.
pub const NOT_YET: &[(&str, &str)] = &[
    ("threads64", "every byte is right; the charge stands 2 to 9 % above a target of 32 MiB for moments"),
    ("forks", "passes, but a hundred children take about two minutes; not yet run often enough"),
    (
        "mapwalk",
        "LOSES BYTES: a page that was written was read as zeros; MREMAP_FIXED gave EFAULT; and it does not end in time",
    ),
    ("old-mapwalk", "LOSES BYTES: at seed 1, step 198, a page that was written is read as zeros"),
    ("old-sort", "evicting by copy and drop gives up one page at a time; not yet measured to end in time"),
    ("old-guest", "not yet run with the product"),
    ("qemu-guest", "not yet run often enough"),
    ("mariadb", "not yet run often enough"),
    ("java", "not yet run often enough"),
    ("numpy", "not yet run often enough"),
    ("stress-ng", "not yet run often enough"),
    ("redis-bgsave", "not yet run often enough"),
    ("store-error", "contents and messages are right; the charge stood 2.25 % above 16 MiB once"),
    ("spawns", "at a target of 32 MiB, four members together stand up to 4 % above it for moments"),
    ("store-stall", "not yet run often enough"),
    ("free-returns", "not yet run often enough"),
    ("exits", "failed once by the message about setuid programs, passed later; not yet run often enough"),
];
