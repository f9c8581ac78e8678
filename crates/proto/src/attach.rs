//! How a space finds its node: one line each way over a Unix stream socket, then silence until one of them ends.
//!
//! ```text
//!   space (the process that keeps it)                       node
//!     connect DIR/attach.sock  ─────────────────────────▶   asks the kernel who that is (peer credentials)
//!     {"version":2,"name":"redis",…}\n  ────────────────▶   opens /proc/PID/fd/SPACE_FD, maps header and members
//!     ◀──────────────  {"attached":{"space":7,"name":"redis","target_bytes":268435456}}\n
//!                      or {"refused":{"why":"…","fits_bytes":…}}\n
//!     …  the connection stays open: its end says that the other is gone  …
//! ```
//!
//! Everything after that goes through the header of the space: the node writes the target and reads counters, and nobody
//! waits for an answer. A node that comes back finds the intent in the header. A space whose node is gone keeps its last
//! target and connects again until a node is there.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// The version of this exchange. A node refuses another.
pub const VERSION: u32 = 2;
/// The longest line, in bytes: who sends more is cut off.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// Names the directory with the node's sockets; `none` is no node.
pub const NODE_VARIABLE: &str = "MEMVISOR_NODE";
/// The socket of this exchange, in the node's directory.
pub const ATTACH_SOCKET: &str = "attach.sock";
/// The socket of the API, in the node's directory.
pub const API_SOCKET: &str = "node.sock";
/// Where a node of the system has its sockets.
pub const SYSTEM_DIRECTORY: &str = "/run/memvisor";

/// The directory of the node that is meant: what [`NODE_VARIABLE`] says, else that of the system. `None` when no node is
/// wanted.
pub fn directory(variable: Option<&Path>) -> Option<PathBuf> {
    match variable {
        Some(path) if path == Path::new("none") => None,
        Some(path) if !path.as_os_str().is_empty() => Some(path.to_owned()),
        _ => Some(PathBuf::from(SYSTEM_DIRECTORY)),
    }
}

/// What a space says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attach {
    /// [`VERSION`].
    pub version: u32,
    /// [`crate::space::VERSION`] of its memory file.
    pub space_version: u64,
    /// What it is called.
    pub name: String,
    /// Its number, 32 hexadecimal digits: the same when it attaches again.
    pub id: String,
    /// The sender's descriptor of the memory file.
    pub space_fd: i32,
    /// The process that was started in it.
    pub program_pid: u32,
    /// How it was started.
    pub command: Vec<String>,
    /// Bytes that its file store can hold.
    pub store_bytes: u64,
    /// Where that lies, from the root; `None` without one.
    pub store_path: Option<String>,
    /// How it came to be so large.
    pub store_size: StoreSize,
    /// What it wants, if the node has not said otherwise before. The words of the header say what is in force.
    pub intent: Wish,
    /// It has attached before, to this node or an earlier one: its promises are in force and it is not refused for want
    /// of memory. A node that does not know it believes that only of a process that is older than itself.
    pub again: bool,
}

/// An intent as a space wishes it, see the words of [`crate::Header`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Wish {
    /// DRAM to be promised, in bytes.
    pub reservation_bytes: u64,
    /// The most DRAM, in bytes.
    pub limit_bytes: Option<u64>,
    /// Weight.
    pub shares: u32,
    /// The class by name, `None` for what the node's rules say.
    pub class: Option<String>,
    /// What it holds at most, in DRAM and in its store together, in bytes; `None` when nobody says.
    pub size_bytes: Option<u64>,
}

/// How the size of a file store came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreSize {
    /// Somebody said it.
    #[default]
    Given,
    /// It is what there was: less would do.
    Found,
}

/// What the node answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is one of the node's spaces now.
    Attached {
        /// The node's number for it.
        space: u64,
        /// What the node calls it: another name than it asked for when that was taken.
        name: String,
        /// Its first target, in bytes. It is in the header too.
        target_bytes: u64,
    },
    /// It is not.
    Refused {
        /// Why, and the way out, for people.
        why: String,
        /// A reservation that would fit, in bytes, when that is what was wrong.
        fits_bytes: Option<u64>,
        /// A size of the file store that would fit, in bytes, when that is what was wrong.
        fits_store_bytes: Option<u64>,
    },
}

/// A line that is no message.
#[derive(Debug)]
pub struct LineError(String);

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a message of the attach exchange: {}", self.0)
    }
}

impl std::error::Error for LineError {}

/// A message as a line, with its end.
pub fn line(message: &impl Serialize) -> String {
    let mut text = serde_json::to_string(message).expect("messages are plain data");
    text.push('\n');
    text
}

/// The message that a line is.
///
/// # Errors
/// When it is none, or too long.
pub fn parse<'a, Message: Deserialize<'a>>(line: &'a str) -> Result<Message, LineError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(LineError(format!("{} bytes are more than {LINE_BYTES_MAX}", line.len())));
    }
    serde_json::from_str(line).map_err(|error| LineError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attach() -> Attach {
        Attach {
            version: VERSION,
            space_version: crate::space::VERSION,
            name: "redis".into(),
            id: "0".repeat(32),
            space_fd: 5,
            program_pid: 77,
            command: vec!["redis-server".into(), "--port\n".into()],
            store_bytes: 1 << 30,
            store_path: Some("/var/lib/memvisor/store".into()),
            store_size: StoreSize::Found,
            intent: Wish {
                reservation_bytes: 1,
                limit_bytes: None,
                shares: 1000,
                class: Some("latency".into()),
                size_bytes: Some(1 << 31),
            },
            again: false,
        }
    }

    #[test]
    fn a_message_is_one_line_and_comes_back_as_it_was() {
        let text = line(&attach());
        assert_eq!(text.matches('\n').count(), 1);
        assert_eq!(parse::<Attach>(&text).unwrap(), attach());
        let answer = Answer::Refused { why: "1 GiB does not fit".into(), fits_bytes: Some(7), fits_store_bytes: None };
        assert_eq!(parse::<Answer>(&line(&answer)).unwrap(), answer);
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_is_parsed() {
        assert!(parse::<Attach>(&" ".repeat(LINE_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_node_is_looked_for_where_the_variable_says() {
        assert_eq!(directory(None).unwrap(), Path::new(SYSTEM_DIRECTORY));
        assert_eq!(directory(Some(Path::new(""))).unwrap(), Path::new(SYSTEM_DIRECTORY));
        assert_eq!(directory(Some(Path::new("/tmp/x"))).unwrap(), Path::new("/tmp/x"));
        assert_eq!(directory(Some(Path::new("none"))), None);
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(text in ".*") {
            let _ = parse::<Attach>(&text);
            let _ = parse::<Answer>(&text);
        }

        #[test]
        fn no_damaged_message_makes_the_parser_panic(at in 0usize..300, byte: u8) {
            let mut bytes = line(&attach()).into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = parse::<Attach>(&String::from_utf8_lossy(&bytes));
        }
    }
}
