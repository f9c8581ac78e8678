//! `memvisor drain`: has spaces bring all their pages back to plain DRAM and let go, and shows how far they are.
//!
//! The node is asked again and again until none is left; what is looked at each time is a value, so that what is said of
//! it can be tested ([`Progress`]). `--cancel` calls a drain off.

use super::args::DrainArgs;
use super::node::Node;
use super::text::{clean, counted};
use crate::exit::{Exit, Failure, Outcome};
use memvisor_node::wire::{DrainState, Drained, Space, Spaces, Undrained};
use memvisor_proto::size::Size;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{IsTerminal, Write as _, stderr};
use std::time::Duration;

/// Time between two looks: as smooth as a line of text needs to be.
const INTERVAL: Duration = Duration::from_millis(200);
/// Looks at a space that does not drain although it was told to: more than a node needs to tell it, and no more than ten
/// seconds.
const IDLE_LOOKS_MAX: u32 = 50;

/// A space does not drain although it was told to.
#[derive(Debug, PartialEq, Eq)]
pub struct NotDraining(String);

impl fmt::Display for NotDraining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` does not drain, although it was told to", clean(&self.0))
    }
}

impl std::error::Error for NotDraining {}

impl Failure for NotDraining {
    fn way_out(&self) -> Option<String> {
        Some("if nobody called it off, drain it again; if that does not help, the log of the node says why".into())
    }

    fn exit(&self) -> Exit {
        Exit::No
    }
}

/// Drains, and waits until it is done unless that is not wanted; or calls it off.
///
/// # Errors
/// When the node does not answer or refuses, or a space does not drain.
pub fn drain(args: &DrainArgs) -> Outcome {
    let node = Node::meant(&args.node)?;
    let names = (!args.all).then(|| args.names.clone());
    if args.cancel {
        say(&ending(&node.stop_draining(names)?));
        return Ok(Exit::Success);
    }
    let begun = node.drain(names)?;
    say(&beginning(&begun));
    if args.no_wait {
        return Ok(Exit::Success);
    }
    let mut progress = Progress::of(begun.names);
    let mut line = Line { is_terminal: stderr().is_terminal() };
    loop {
        let Spaces { spaces } = node.spaces()?;
        let news = progress.look(&spaces)?;
        line.draw(&news, &progress.line());
        if progress.is_done() {
            return Ok(Exit::Success);
        }
        std::thread::sleep(INTERVAL);
    }
}

fn beginning(begun: &Drained) -> String {
    if begun.names.is_empty() {
        return "there is nothing to drain".into();
    }
    format!(
        "draining {}; they take {} more DRAM, {} is free",
        listed(&begun.names),
        Size(begun.needed_bytes),
        Size(begun.free_bytes)
    )
}

fn ending(ended: &Undrained) -> String {
    match ended.names.is_empty() {
        true => "nothing drains: there is nothing to call off".into(),
        false => format!("no longer draining {}", listed(&ended.names)),
    }
}

/// How many, and which.
fn listed(names: &[String]) -> String {
    let clean: Vec<String> = names.iter().map(|name| clean(name)).collect();
    format!("{}: {}", counted(names.len() as u64, "space"), clean.join(", "))
}

fn say(text: &str) {
    // Nothing can be done for a reader that has gone away.
    let _ = writeln!(stderr(), "{text}");
}

/// The line that is drawn over itself on a terminal.
struct Line {
    is_terminal: bool,
}

impl Line {
    /// From the left margin, all that was there is gone.
    const ERASE: &str = "\r\x1b[K";

    fn draw(&mut self, news: &[String], line: &str) {
        let erase = if self.is_terminal { Self::ERASE } else { "" };
        for news in news {
            say(&format!("{erase}{news}"));
        }
        if self.is_terminal {
            let _ = write!(stderr(), "{erase}{line}");
            let _ = stderr().flush();
        }
    }
}

/// How far the spaces are.
struct Progress {
    left: BTreeMap<String, Left>,
    spaces: usize,
    most_bytes: u64,
}

/// What is known of a space that is not drained yet.
#[derive(Default)]
struct Left {
    bytes: u64,
    was_draining: bool,
    idle_looks: u32,
}

impl Progress {
    fn of(names: Vec<String>) -> Self {
        let spaces = names.len();
        Self { left: names.into_iter().map(|name| (name, Left::default())).collect(), spaces, most_bytes: 0 }
    }

    fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    /// Takes in how the spaces are now, and says who is done since.
    fn look(&mut self, spaces: &[Space]) -> Result<Vec<String>, NotDraining> {
        let mut news = Vec::new();
        let mut kept = BTreeMap::new();
        for (name, left) in std::mem::take(&mut self.left) {
            let space = spaces.iter().find(|space| space.name == name);
            match space.map(|space| (space, space.drain)) {
                None => news.push(format!("{} has ended", clean(&name))),
                Some((_, DrainState::Drained)) => news.push(format!("{} is drained", clean(&name))),
                Some((space, DrainState::Draining)) => {
                    kept.insert(name, Left { bytes: elsewhere(space), was_draining: true, idle_looks: 0 });
                }
                Some((_, DrainState::No)) if left.was_draining || left.idle_looks >= IDLE_LOOKS_MAX => {
                    return Err(NotDraining(name));
                }
                Some((space, DrainState::No)) => {
                    let idle_looks = left.idle_looks + 1;
                    kept.insert(name, Left { bytes: elsewhere(space), idle_looks, ..left });
                }
            }
        }
        self.left = kept;
        self.most_bytes = self.most_bytes.max(self.bytes());
        Ok(news)
    }

    fn bytes(&self) -> u64 {
        self.left.values().map(|left| left.bytes).sum()
    }

    fn line(&self) -> String {
        if self.is_done() {
            return String::new();
        }
        let done = self.spaces - self.left.len();
        let back = self.most_bytes.saturating_sub(self.bytes());
        let percent = (back * 100).checked_div(self.most_bytes).unwrap_or(100);
        format!(
            "{done} of {} · {} of {} are back ({percent} %) · Ctrl-C stops waiting, not the drain",
            counted(self.spaces as u64, "space"),
            Size(back),
            Size(self.most_bytes)
        )
    }
}

/// What of a space is not in its place.
fn elsewhere(space: &Space) -> u64 {
    space.tiers.stored_bytes + space.tiers.staged_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use memvisor_node::wire::Tiers;

    fn space(name: &str, drain: DrainState, stored_bytes: u64) -> Space {
        let tiers = Tiers { stored_bytes, ..Tiers::default() };
        Space { name: name.into(), drain, tiers, ..Space::default() }
    }

    #[test]
    fn a_drain_is_done_when_each_space_is_drained_or_gone() {
        let mut progress = Progress::of(vec!["a".into(), "b".into()]);
        let news = progress.look(&[space("a", DrainState::Draining, 4 << 20), space("b", DrainState::No, 0)]).unwrap();
        assert!(news.is_empty() && !progress.is_done());
        assert!(progress.line().starts_with("0 of 2 spaces · 0 B of 4 MiB are back (0 %)"), "{}", progress.line());
        let news = progress.look(&[space("a", DrainState::Draining, 1 << 20), space("b", DrainState::Drained, 0)]);
        assert_eq!(news.unwrap(), ["b is drained"]);
        assert!(progress.line().starts_with("1 of 2 spaces · 3 MiB of 4 MiB are back (75 %)"), "{}", progress.line());
        assert_eq!(progress.look(&[]).unwrap(), ["a has ended"]);
        assert!(progress.is_done());
    }

    #[test]
    fn a_space_that_stops_draining_or_never_begins_is_no_success() {
        let mut progress = Progress::of(vec!["a".into()]);
        progress.look(&[space("a", DrainState::Draining, 1)]).unwrap();
        assert_eq!(progress.look(&[space("a", DrainState::No, 1)]), Err(NotDraining("a".into())));
        let mut progress = Progress::of(vec!["a".into()]);
        let looks = (0..).take_while(|_| progress.look(&[space("a", DrainState::No, 1)]).is_ok()).take(1000).count();
        assert_eq!(looks as u32, IDLE_LOOKS_MAX);
    }
}
