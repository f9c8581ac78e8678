//! What is said of a scenario that was lived through: a table for people, JSON for machines, a plot for a glance.

mod json;
mod plot;
mod text;

pub use json::json;
pub use plot::{PlotError, plot};
pub use text::text;
