//! The cases, one file each.

mod arrays;
mod cpus;
mod drain;
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
    cpus::CASE,
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
    drain::CASE,
];
