//! Who gets how much DRAM: intent and observation in, a plan with its reasons out.
//!
//! ```text
//!   Situation ──▶ damp inputs ──▶ capacity, state ──▶ promises ──▶ water level ──▶ dead band, rate ──▶ Plan
//!   (+ Memory)       damping        state, capacity     promise       waterfill        step            (+ Memory)
//! ```
//!
//! A plan is made once a second; what of it is told to each pager, [`handing`] says several times between two plans.
//!
//! Everything is a pure function of its arguments: no clock, no I/O, no threads, no randomness. What a plan was made
//! from can be recorded as JSON and planned again, here or in the simulator, to the same bytes, if numbers are read back as
//! they were (`float_roundtrip` of `serde_json`, which this workspace has).
//!
//! Amounts are bytes below 2^53 (8 PiB), where `f64` counts them exactly. Instants are nanoseconds of any clock that
//! does not go back; if it does, no time has passed.
//!
//! Absent on purpose: pages, tiers, how memory is taken from a space, who measures. The policy gives each space a number
//! and says why.
#![forbid(unsafe_code)]

pub mod activity;
pub mod admission;
pub mod advice;
pub mod capacity;
pub mod curve;
pub mod damping;
pub mod doubt;
pub mod handing;
pub mod intent;
pub mod memory;
pub mod observation;
pub mod plan;
pub mod price;
pub mod promise;
pub mod reason;
pub mod settings;
pub mod state;
pub mod step;
pub mod waterfill;

pub use admission::{Admission, File, Fit, Request, Room, admit};
pub use advice::{Advice, Verdict};
pub use intent::{Class, DomainId, Intent, SpaceId};
pub use memory::{Believed, Memory};
pub use observation::{Host, Observation, Situation, Space};
pub use plan::{Action, Grant, Plan, plan};
pub use reason::{Bound, Promise, Reason, Step};
pub use settings::{Settings, Tax};
pub use state::{State, Thresholds};
