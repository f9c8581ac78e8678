//! The node: divides a host's DRAM among the spaces on it, and says what it does over HTTP.
//!
//! ```text
//!   attach.sock ─▶ attach ─▶ ┌──────┐ ◀─ api ◀─ node.sock      config, rules    what was asked for
//!   headers ─▶ observe ─────▶│ node │ ─▶ headers               state, history   what outlives it
//!   policy::plan, handing ◀─▶└──────┘ ─▶ record, metrics        explain, show    what it says
//! ```
//! One thread; nothing here is on anybody's way to memory. A space whose node is gone keeps its target, and a node that comes back
//! finds its spaces as they are.
//!
//! Invariants: the sum of what pagers are told is never more than the DRAM that is handed out; nobody is told more
//! before it has come back from others ([`memvisor_policy::handing`]); what the owner of a space writes into its header is never believed of
//! another space ([`spaces`]).
//!
//! Absent on purpose: pages, faults, a message for each change of target, secrets.
#![forbid(unsafe_code)]

pub mod api;
pub mod attach;
pub mod change;
pub mod client;
pub mod config;
pub mod daemon;
pub mod explain;
pub mod history;
pub mod living;
pub mod machine;
pub mod metrics;
pub mod node;
pub mod observe;
pub mod record;
pub mod rules;
#[cfg(test)]
mod scratch;
mod show;
pub mod spaces;
pub mod state;
pub mod wire;

pub use daemon::{RunError, run};
