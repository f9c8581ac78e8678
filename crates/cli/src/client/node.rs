//! The node as the commands see it: one method a question, each with a connection of its own.
//!
//! Every answer is bounded in time and in size, so that a node that hangs, or something else that listens in its place,
//! costs a person seconds and no memory.

use super::args::WhichNode;
use super::failure::Trouble;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use memvisor_node::wire;
use memvisor_proto::attach;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

/// The longest answer. A space takes about 2 KiB of JSON; 10,000 of them fit three times.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// What of a name may stand in a path as it is.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A node that can be asked.
pub struct Node {
    socket: PathBuf,
    timeout: Duration,
    runtime: Runtime,
}

/// An answer before it is read.
struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Node {
    /// The node that is meant. Nobody is asked yet.
    ///
    /// # Errors
    /// When the environment says that none is wanted.
    pub fn meant(args: &WhichNode) -> Result<Self, Trouble> {
        let variable = std::env::var_os(attach::NODE_VARIABLE).map(PathBuf::from);
        let directory = match &args.node {
            Some(directory) => directory.clone(),
            None => attach::directory(variable.as_deref()).ok_or(Trouble::Unwanted)?,
        };
        Ok(Self::at(&directory, args.timeout))
    }

    fn at(directory: &Path, timeout: Duration) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        // Only a process that has no descriptors left gets none, and it can do nothing else either.
        let runtime = runtime.expect("a runtime takes three descriptors");
        Self { socket: directory.join(attach::API_SOCKET), timeout, runtime }
    }

    /// The host and its division; `T` is [`wire::Host`], or a [`Value`] to pass on all that the node says.
    ///
    /// # Errors
    /// These and those of the other questions: see [`Trouble`].
    pub fn host<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        self.get("/v1/host")
    }

    /// All spaces, as [`wire::Spaces`] or [`Value`].
    pub fn spaces<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        self.get("/v1/spaces")
    }

    /// A space, as [`wire::Space`] or [`Value`].
    pub fn space<T: DeserializeOwned>(&self, name: &str) -> Result<T, Trouble> {
        self.of_space(name, "")
    }

    /// Why a space has its target, as [`wire::Explanation`] or [`Value`].
    pub fn explanation<T: DeserializeOwned>(&self, name: &str) -> Result<T, Trouble> {
        self.of_space(name, "/explain")
    }

    /// The miss-ratio curve of a space, as [`wire::Curve`] or [`Value`].
    pub fn curve<T: DeserializeOwned>(&self, name: &str) -> Result<T, Trouble> {
        self.of_space(name, "/curve")
    }

    /// Changes what is wanted for a space.
    pub fn change<T: DeserializeOwned>(&self, name: &str, change: &wire::Change) -> Result<T, Trouble> {
        let answer = self.ask(Method::PATCH, &path(name, ""), Some(change));
        answer.and_then(|answer| self.read(&answer)).map_err(|trouble| self.name_unknown(&[name], trouble))
    }

    /// Begins to drain.
    pub fn drain(&self, names: Option<Vec<String>>) -> Result<wire::Drained, Trouble> {
        self.ask_of_many("/v1/drain", names)
    }

    /// Calls drains off.
    pub fn stop_draining(&self, names: Option<Vec<String>>) -> Result<wire::Undrained, Trouble> {
        self.ask_of_many("/v1/drain/cancel", names)
    }

    fn ask_of_many<T: DeserializeOwned>(&self, path: &str, names: Option<Vec<String>>) -> Result<T, Trouble> {
        let drain = wire::Drain { names };
        let answer = self.ask(Method::POST, path, Some(&drain));
        answer.and_then(|answer| self.read(&answer)).map_err(|trouble| {
            let names: Vec<&str> = drain.names.iter().flatten().map(String::as_str).collect();
            self.name_unknown(&names, trouble)
        })
    }

    /// Has the configuration read again.
    pub fn reload(&self) -> Result<wire::Reloaded, Trouble> {
        let answer = self.ask(Method::POST, "/v1/reload", None::<&()>)?;
        self.read(&answer)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        let answer = self.ask(Method::GET, path, None::<&()>)?;
        self.read(&answer)
    }

    fn of_space<T: DeserializeOwned>(&self, name: &str, what: &str) -> Result<T, Trouble> {
        self.get(&path(name, what)).map_err(|trouble| self.name_unknown(&[name], trouble))
    }

    /// When the node refused and one of `names` is no space, says so and which names are like it. Else the refusal stays.
    fn name_unknown(&self, names: &[&str], trouble: Trouble) -> Trouble {
        if !matches!(trouble, Trouble::Refused(_)) {
            return trouble;
        }
        let Ok(wire::Spaces { spaces }) = self.spaces() else { return trouble };
        let known: Vec<String> = spaces.into_iter().map(|space| space.name).collect();
        match names.iter().find(|name| !known.iter().any(|known| known == *name)) {
            Some(unknown) => Trouble::unknown(unknown, &known),
            None => trouble,
        }
    }

    fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Trouble> {
        let unreadable = |error| Trouble::Unreadable(self.socket.clone(), error);
        if answer.status.is_success() {
            return serde_json::from_slice(&answer.body).map_err(unreadable);
        }
        let said: Option<wire::Problem> = serde_json::from_slice(&answer.body).ok();
        let unsaid = || wire::Problem {
            error: format!("the node answers {}", answer.status),
            way_out: "see the log of the node".into(),
            ..wire::Problem::default()
        };
        Err(Trouble::Refused(said.unwrap_or_else(unsaid)))
    }

    fn ask<B: Serialize>(&self, method: Method, path: &str, body: Option<&B>) -> Result<Answer, Trouble> {
        let body = body.map(|body| serde_json::to_vec(body).expect("requests have only strings and numbers"));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .expect("names are encoded");
        self.runtime.block_on(async {
            let late = |_| Trouble::Late(self.socket.clone(), self.timeout);
            tokio::time::timeout(self.timeout, self.exchange(request)).await.map_err(late)?
        })
    }

    /// One request and its answer, on a connection of its own.
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, Trouble> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        // Ends with the connection; what goes wrong there is told to the request too.
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Trouble::Broken(self.socket.clone(), error))?.to_bytes();
        driver.abort();
        Ok(Answer { status, body })
    }

    fn broken(&self, error: hyper::Error) -> Trouble {
        Trouble::Broken(self.socket.clone(), error.into())
    }

    fn unreachable(&self, error: io::Error) -> Trouble {
        let socket = self.socket.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                Trouble::Absent(socket)
            }
            io::ErrorKind::PermissionDenied => Trouble::Denied(socket),
            _ => Trouble::Unreachable(socket, error),
        }
    }
}

fn path(name: &str, what: &str) -> String {
    // A path of dots would be taken for a step up.
    let name = match name {
        "." => "%2E".into(),
        ".." => "%2E%2E".into(),
        name => utf8_percent_encode(name, IN_PATH).to_string(),
    };
    format!("/v1/spaces/{name}{what}")
}

/// The host and all spaces in one value.
pub fn everything(node: &Node) -> Result<Value, Trouble> {
    let host: Value = node.host()?;
    let mut spaces: Value = node.spaces()?;
    Ok(serde_json::json!({ "host": host, "spaces": spaces["spaces"].take() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_part_of_the_path_whatever_is_in_it() {
        assert_eq!(path("redis-1", "/curve"), "/v1/spaces/redis-1/curve");
        assert_eq!(path("a/../b?c#d e%", ""), "/v1/spaces/a%2F..%2Fb%3Fc%23d%20e%25");
        assert_eq!(path("..", ""), "/v1/spaces/%2E%2E");
        assert_eq!(path("ü", ""), "/v1/spaces/%C3%BC");
    }
}
