//! `memvisor reload`: has the node read its configuration again.

use super::args::ReloadArgs;
use super::node::Node;
use super::text::{clean, counted, print};
use crate::exit::Outcome;

/// Asks for it and prints what changed.
///
/// # Errors
/// When the node does not answer, or cannot use the configuration: the old one is in force then.
pub fn reload(args: &ReloadArgs) -> Outcome {
    let reloaded = Node::meant(&args.node)?.reload()?;
    let mut text = format!("the configuration is in force: {}\n", counted(reloaded.rules, "rule"));
    if reloaded.changes.is_empty() {
        text += "  nothing changed\n";
    }
    for change in &reloaded.changes {
        text += &format!("  {}\n", clean(change));
    }
    print(&text)
}
