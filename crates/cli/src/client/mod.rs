//! The commands that ask a node, and how they ask it.
//!
//! ```text
//!  args ──▶ ps, stats, set, explain, drain, curve, reload     one question each, and its answer as text
//!            └─▶ node ──▶ DIR/node.sock                       what is asked, in wire types
//!                 └─▶ failure                                 what went wrong, and the way out
//!  columns, text                                              how answers look
//! ```
//!
//! What a node says is not trusted to be printable: names and commands come from whoever started a space (`text`).

pub mod args;
mod columns;
mod curve;
mod drain;
pub mod explain;
mod failure;
mod node;
mod ps;
mod reload;
mod set;
mod stats;
pub mod text;

pub use curve::curve;
pub use drain::drain;
pub use explain::explain;
pub use failure::Trouble;
pub use node::Node;
pub use ps::ps;
pub use reload::reload;
pub use set::set;
pub use stats::stats;
