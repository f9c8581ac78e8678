//! What can go wrong between a command and its node, and the way out of each.

use super::text::clean;
use crate::exit::{Exit, Failure};
use memvisor_node::wire;
use memvisor_proto::attach::NODE_VARIABLE;
use memvisor_proto::size::Size;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Names that are suggested for one that does not exist.
const NEAR_MAX: usize = 3;
/// How alike two names must be to be suggested, 0 to 1: `rediss` and `redis` are 0.97, `web` and `redis` are 0.51.
const LIKENESS_MIN: f64 = 0.7;

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug)]
pub enum Trouble {
    /// The environment says that no node is wanted.
    Unwanted,
    /// Nobody listens on the socket.
    Absent(PathBuf),
    /// This user may not open the socket.
    Denied(PathBuf),
    /// The socket cannot be reached for another reason.
    Unreachable(PathBuf, io::Error),
    /// No answer came in time.
    Late(PathBuf, Duration),
    /// The node went away during the answer, or what listens there does not speak HTTP.
    Broken(PathBuf, Box<dyn Error + Send + Sync>),
    /// The answer is not what this version of the command reads.
    Unreadable(PathBuf, serde_json::Error),
    /// The node does not have a space of this name; names that are like it, and how many there are.
    Unknown {
        /// As it was typed.
        name: String,
        /// The likest first.
        near: Vec<String>,
        /// Spaces of the node.
        spaces: usize,
    },
    /// The node says no.
    Refused(wire::Problem),
}

impl Trouble {
    /// No space is called `name`; these are.
    pub fn unknown(name: &str, known: &[String]) -> Self {
        let mut near: Vec<(f64, &String)> = known
            .iter()
            .map(|known| (likeness(name, known), known))
            .filter(|(like, _)| *like >= LIKENESS_MIN)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        let near = near.into_iter().take(NEAR_MAX).map(|(_, name)| name.clone()).collect();
        Trouble::Unknown { name: name.to_owned(), near, spaces: known.len() }
    }

    /// The trouble in one line, causes included.
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            line += &format!(": {cause}");
            source = cause.source();
        }
        line
    }
}

fn likeness(typed: &str, known: &str) -> f64 {
    let (typed, known) = (typed.to_lowercase(), known.to_lowercase());
    // What begins or ends alike is meant, however much follows: `redis` for `redis-server-2`.
    let part = !typed.is_empty() && known.contains(&typed);
    if part { 1.0 } else { strsim::jaro_winkler(&typed, &known) }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unwanted => write!(f, "{NODE_VARIABLE} says that no node is wanted"),
            Trouble::Absent(socket) => write!(f, "there is no node at {}", socket.display()),
            Trouble::Denied(socket) => write!(f, "you may not talk to the node at {}", socket.display()),
            Trouble::Unreachable(socket, _) => write!(f, "cannot reach the node at {}", socket.display()),
            Trouble::Late(socket, waited) => {
                write!(f, "the node at {} has not answered within {} s", socket.display(), waited.as_secs_f64())
            }
            Trouble::Broken(socket, _) => write!(f, "the node at {} broke off its answer", socket.display()),
            Trouble::Unreadable(socket, _) => {
                write!(f, "the answer of the node at {} cannot be read", socket.display())
            }
            Trouble::Unknown { name, .. } => write!(f, "there is no space called `{}`", clean(name)),
            Trouble::Refused(problem) => f.write_str(&refusal(problem)),
        }
    }
}

/// What the node said, with those of its numbers that the sentence does not have already.
fn refusal(problem: &wire::Problem) -> String {
    let mut text = clean(&problem.error);
    let numbers = [
        problem.missing_bytes.map(|bytes| (Size(bytes), "missing")),
        problem.fits_bytes.map(|bytes| (Size(bytes), "the most that fits")),
    ];
    let new: Vec<String> = numbers
        .into_iter()
        .flatten()
        .filter(|(size, _)| !text.contains(&size.to_string()))
        .map(|(size, what)| format!("{size} is {what}"))
        .collect();
    if !new.is_empty() {
        text += &format!(" ({})", new.join(", "));
    }
    text
}

impl Error for Trouble {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Trouble::Unreachable(_, error) => Some(error),
            Trouble::Broken(_, error) => Some(&**error),
            Trouble::Unreadable(_, error) => Some(error),
            Trouble::Unwanted
            | Trouble::Absent(_)
            | Trouble::Denied(_)
            | Trouble::Late(..)
            | Trouble::Unknown { .. }
            | Trouble::Refused(_) => None,
        }
    }
}

impl Failure for Trouble {
    fn way_out(&self) -> Option<String> {
        Some(match self {
            Trouble::Unwanted => format!("unset {NODE_VARIABLE}, or name the node's directory with --node"),
            Trouble::Absent(_) => format!(
                "start a node (`memvisor node`), or name the directory of one with --node or in {NODE_VARIABLE}"
            ),
            Trouble::Denied(_) => "ask as root or as the user that the node runs as, or have that user open the socket and \
                                   its directory to you"
                .into(),
            Trouble::Unreachable(..) => format!("look whether {NODE_VARIABLE} or --node names the node's directory"),
            Trouble::Late(..) => "try again with a longer --timeout; if that does not help, the node hangs: see its log".into(),
            Trouble::Broken(..) => "ask again; if it happens again, see the log of the node".into(),
            Trouble::Unreadable(..) => {
                "use the `memvisor` of the version of the node: `memvisor --version` and the first line of `memvisor top`"
                    .into()
            }
            Trouble::Unknown { near, spaces, .. } => suggestion(near, *spaces),
            Trouble::Refused(problem) if problem.way_out.is_empty() => return None,
            Trouble::Refused(problem) => clean(&problem.way_out),
        })
    }

    fn exit(&self) -> Exit {
        match self {
            Trouble::Unknown { .. } | Trouble::Refused(_) => Exit::No,
            Trouble::Unwanted
            | Trouble::Absent(_)
            | Trouble::Denied(_)
            | Trouble::Unreachable(..)
            | Trouble::Late(..)
            | Trouble::Broken(..)
            | Trouble::Unreadable(..) => Exit::Memvisor,
        }
    }
}

fn suggestion(near: &[String], spaces: usize) -> String {
    let names: Vec<String> = near.iter().map(|name| format!("`{}`", clean(name))).collect();
    match (names.split_last(), spaces) {
        (_, 0) => "no space is attached: start one with `memvisor run`".into(),
        (None, _) => "`memvisor ps` lists the spaces that there are".into(),
        (Some((only, [])), _) => format!("did you mean {only}?"),
        (Some((last, others)), _) => format!("did you mean {} or {last}?", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way_out(typed: &str, known: &[&str]) -> String {
        let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
        Trouble::unknown(typed, &known).way_out().unwrap()
    }

    #[test]
    fn the_nearest_names_are_suggested_and_no_others() {
        assert_eq!(way_out("rediss", &["web", "redis", "mariadb"]), "did you mean `redis`?");
        assert_eq!(way_out("redis", &["web", "redis-2", "redis-1"]), "did you mean `redis-1` or `redis-2`?");
        assert_eq!(way_out("x", &["web"]), "`memvisor ps` lists the spaces that there are");
        assert!(way_out("x", &[]).contains("memvisor run"));
    }

    #[test]
    fn a_refusal_tells_each_number_once() {
        let problem = wire::Problem {
            error: "1 GiB is more than there is".into(),
            fits_bytes: Some(1 << 30),
            missing_bytes: Some(3 << 20),
            ..wire::Problem::default()
        };
        assert_eq!(Trouble::Refused(problem).to_string(), "1 GiB is more than there is (3 MiB is missing)");
    }

    #[test]
    fn what_the_node_says_cannot_command_the_terminal() {
        let problem = wire::Problem { error: "\x1b[2Jgone".into(), ..wire::Problem::default() };
        assert!(!Trouble::Refused(problem).to_string().contains('\x1b'));
    }
}
