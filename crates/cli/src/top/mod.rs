//! `memvisor top`: the spaces of a node, live.
//!
//! ```text
//!  asker ──looks, explanations──▶┐
//!  screen ──keys, new sizes─────▶├─▶ state ──▶ view ──▶ screen
//!  signals ──────────────────────▶┘     └─wishes──▶ asker
//! ```
//!
//! `state` and `view` know neither time nor terminal nor node: events go in, a picture comes out. A picture is drawn when
//! something happened and at no other time.

mod asker;
mod bars;
mod columns;
mod head;
mod layout;
mod live;
mod once;
mod popup;
mod rows;
mod screen;
mod state;
mod view;

pub use columns::Column;

use crate::client::Node;
use crate::client::args::TopArgs;
use crate::exit::{Exit, Failure, Outcome};
use state::State;
use std::fmt;
use std::io::{IsTerminal, stdin, stdout};

/// There is nothing to draw on.
#[derive(Debug)]
pub struct NoTerminal;

impl fmt::Display for NoTerminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("top needs a terminal to draw on and to read keys from")
    }
}

impl std::error::Error for NoTerminal {}

impl Failure for NoTerminal {
    fn way_out(&self) -> Option<String> {
        Some("`memvisor top --once` prints one picture as text, `memvisor ps --json` is for programs".into())
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// Shows the spaces until it is told to end, or once.
///
/// # Errors
/// When no node answers at first, and when there is no terminal although one is needed.
pub fn top(args: &TopArgs) -> Outcome {
    let has_terminal = stdin().is_terminal() && stdout().is_terminal();
    if !args.once && !has_terminal {
        return Err(NoTerminal.into());
    }
    let node = Node::meant(&args.node)?;
    let mut state = State::new(args.sort, &args.filter);
    state.look(asker::look(&node)?);
    if args.once { once::print_once(&state) } else { live::run(args, node, state) }
}
