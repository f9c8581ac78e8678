//! Workloads, their peer inside the kernel, and the harness that measures both side by side.
//!
//! A figure counts only as a ratio to a peer in the same run on the same machine, so everything here turns around
//! one loop: run each *side* once, in turn, as often as there are *rounds*, and look at the ratio within each round.
//!
//! ```text
//!   workload (bin)  --@begin/@end, JSON-->  run  -->  pairs  -->  report: table, verdicts, JSON, PNG
//!                                            |
//!              plain  |  memvisor run --dram T --  |  memory cgroup L + zram or zswap, L + pool = T
//! ```
//!
//! Invariants: sides of one round run on the same CPUs; memory that the machine's own host might not have backed
//! is touched before a series begins; whatever is changed in the kernel (swap, zswap, page-cluster, cgroups) is put
//! back at the end, after an error, after a signal, and at the next start if the last run was killed.
//!
//! [`experiment`] makes the experiments of ESX with a node.
//!
//! Absent on purpose: any dependency on the product's crates but on the names of its shared words (ADR 10). Only the outside
//! of `memvisor` is used here. What spaces take by the kernel's account is counted by `memvisor-acceptance`, another stranger to it.
#![forbid(unsafe_code)]

pub mod cleanup;
pub mod context;
pub mod experiment;
pub mod fingerprint;
pub mod group;
pub mod kv;
pub mod machine;
pub mod ours;
pub mod own;
pub mod pages;
pub mod pairs;
pub mod peer;
pub mod phase;
pub mod plot;
pub mod report;
pub mod run;
pub mod stats;
pub mod touching;
