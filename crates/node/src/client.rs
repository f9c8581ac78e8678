//! Asking a node: one question over its socket, blocking.

use crate::wire::Problem;
use memvisor_proto::attach::API_SOCKET;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a node may take to answer: it does nothing that takes longer than a plan.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// Nobody is there.
    NoNode(PathBuf, io::Error),
    /// The answer broke off.
    Broken(io::Error),
    /// What came is no answer.
    Garbled,
    /// The node says no.
    Refused(u16, Box<Problem>),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNode(path, _) => write!(f, "no node answers at {}", path.display()),
            Self::Broken(_) => f.write_str("the node's answer broke off"),
            Self::Garbled => f.write_str("what the node said is no answer"),
            Self::Refused(_, problem) => f.write_str(&problem.error),
        }
    }
}

impl std::error::Error for AskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoNode(_, source) | Self::Broken(source) => Some(source),
            Self::Garbled | Self::Refused(..) => None,
        }
    }
}

impl AskError {
    /// What can be done about it.
    pub fn way_out(&self) -> String {
        match self {
            Self::NoNode(..) => {
                "start one with `memvisor node --config FILE`, or say where it is in MEMVISOR_NODE".into()
            }
            Self::Broken(_) | Self::Garbled => "see what the node logged".into(),
            Self::Refused(_, problem) => problem.way_out.clone(),
        }
    }
}

/// Asks the node in `directory`; gives the body of its answer.
///
/// # Errors
/// When there is none, or it says no.
pub fn ask(directory: &Path, method: &str, path: &str, body: &str) -> Result<String, AskError> {
    let socket = directory.join(API_SOCKET);
    let mut stream = UnixStream::connect(&socket).map_err(|error| AskError::NoNode(socket, error))?;
    let (status, body) =
        exchange(&mut stream, method, path, body).map_err(AskError::Broken)?.ok_or(AskError::Garbled)?;
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let problem = serde_json::from_str(&body).map_err(|_| AskError::Garbled)?;
    Err(AskError::Refused(status, Box::new(problem)))
}

fn exchange(stream: &mut UnixStream, method: &str, path: &str, body: &str) -> io::Result<Option<(u16, String)>> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let length = body.len();
    // HTTP/1.0: the answer ends with the connection, in one piece.
    let question = format!(
        "{method} {path} HTTP/1.0\r\nhost: node\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(question.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(parse(&String::from_utf8_lossy(&answer)))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_its_body() {
        assert_eq!(parse("HTTP/1.0 404 Not Found\r\na: b\r\n\r\n{}\r\n\r\n"), Some((404, "{}\r\n\r\n".into())));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn without_a_node_it_is_said_how_to_have_one() {
        let error = ask(Path::new("/nowhere"), "GET", "/", "").unwrap_err();
        assert!(error.way_out().contains("memvisor node"));
    }
}
