//! Real programs under `memvisor run`, checked by their contents.
//!
//! Nothing of memvisor is linked here: the command line, the report and /proc are all that is used, as any stranger
//! could. Each case runs the same without memvisor (`--plain`), which puts the case itself to the test.
//!
//! ```text
//!  bin acceptance ─┐                     ┌─ launch ── memvisor run … -- program ──┐
//!  tests/short.rs ─┴─ ctx ── cases/* ────┤   sampler  (from outside, every 50 ms) │
//!                      │                 └─ report                                │
//!                      └─ watchdog (hard limit: show where it hung, kill)         └─ programs/* or real ones
//! ```
//!
//! What a case needs and does not find makes it skipped, with the reason said aloud; it is never silently passed.

pub mod case;
pub mod cases;
pub mod ctx;
pub mod guest;
pub mod launch;
pub mod os;
pub mod pattern;
pub mod proc;
pub mod programs;
pub mod report;
pub mod resp;
pub mod running;
pub mod sampler;
pub mod table;
pub mod watchdog;

pub use case::{Case, NotPassed, Outcome, Params};
pub use ctx::{Ctx, Form, Mode, Places, Verdict, run};
