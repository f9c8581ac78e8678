//! A Redis server of one run: on a Unix socket in a directory of its own, without persistence.

use crate::context::Scratch;
use crate::group::Group;
use crate::kv::resp::Connection;
use crate::run::Launch;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to answer, and to end.
const START_TIME: Duration = Duration::from_secs(20);

/// A look at whether the server answers costs nothing; half of this is what a start is late on average.
const LOOK_PERIOD: Duration = Duration::from_millis(10);

/// How long to wait for the end of a server that has broken a connection.
const FATE_TIME: Duration = Duration::from_secs(1);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Where a server of ours lives.
pub struct Home {
    dir: Scratch,
}

impl Home {
    /// A directory below `scratch` that no other server uses.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self, String> {
        // Not below the target directory: the path of a socket has at most 107 bytes.
        let name = format!("memvisor-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        Ok(Self { dir: Scratch::at(dir) })
    }

    /// The socket that clients connect to.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// The command line of the server.
    #[must_use]
    pub fn command(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["redis-server".into()];
        let fixed = "--port 0 --appendonly no --daemonize no --activedefrag no --maxmemory 0 --loglevel warning";
        words.extend(fixed.split(' ').map(OsString::from));
        words.extend(["--save".into(), "".into()]);
        words.extend(["--unixsocket".into(), self.socket().into()]);
        words.extend(["--dir".into(), self.dir.path().into()]);
        words.extend(["--logfile".into(), self.dir.path().join("redis.log").into()]);
        words
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.dir.path().join("redis.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

/// A server that answers.
pub struct Server {
    home: Home,
    child: Child,
}

impl Server {
    /// Starts `launch`, whose command comes from [`Home::command`], perhaps wrapped, and waits until it answers.
    ///
    /// # Errors
    /// When it does not; with the end of what it said.
    pub fn start(home: Home, launch: &Launch, group: Option<&Group>) -> Result<Self, String> {
        if !Path::new("/usr/bin/redis-server").exists() {
            return Err("redis-server is not installed: cargo x setup".into());
        }
        let child = launch.spawn(group)?;
        let mut server = Self { home, child };
        let end = Instant::now() + START_TIME;
        loop {
            if server.call(&[b"PING"]).is_ok() {
                return Ok(server);
            }
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(format!("redis-server did not start: {status}\n{}\n{}", server.said(), server.home.log()));
            }
            if Instant::now() > end {
                return Err(format!("redis-server does not answer after {START_TIME:?}\n{}", server.home.log()));
            }
            std::thread::sleep(LOOK_PERIOD);
        }
    }

    /// The socket that clients connect to.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.socket()
    }

    /// A field of `INFO`, as bytes or whatever it counts.
    ///
    /// # Errors
    /// When the server has gone or knows no such field.
    pub fn info(&self, field: &str) -> Result<u64, String> {
        let text = self.call(&[b"INFO"])?;
        text.lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok())
            .ok_or_else(|| format!("the server says nothing of {field}"))
    }

    /// How the server ended, if it did by itself: killed for want of memory, for instance.
    pub fn fate(&mut self) -> Option<String> {
        // A server that was killed is a moment on its way out.
        let end = Instant::now() + FATE_TIME;
        while Instant::now() < end {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(format!("the server ended with {status}"));
            }
            std::thread::sleep(LOOK_PERIOD);
        }
        None
    }

    /// Ends the server and waits for the whole tree that was started.
    ///
    /// # Errors
    /// When it does not end, or ends badly.
    pub fn stop(mut self) -> Result<(), String> {
        // The answer to SHUTDOWN is a closed connection.
        let _ = self.call(&[b"SHUTDOWN", b"NOSAVE"]);
        let end = Instant::now() + START_TIME;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(format!("the server ended with {status}\n{}\n{}", self.said(), self.home.log()));
                }
                Ok(None) if Instant::now() > end => {
                    return Err(format!("the server did not end within {START_TIME:?}"));
                }
                Ok(None) => std::thread::sleep(LOOK_PERIOD),
                Err(error) => return Err(format!("cannot wait for the server: {error}")),
            }
        }
    }

    fn call(&self, words: &[&[u8]]) -> Result<String, String> {
        let address = self.home.socket();
        let mut connection = Connection::open(&address.to_string_lossy()).map_err(|error| error.to_string())?;
        let mut value = Vec::new();
        connection.call(words, &mut value).map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&value).into_owned())
    }

    /// What an ended server has written to standard error, at most as much as a pipe holds.
    fn said(&mut self) -> String {
        let mut text = String::new();
        if let Some(err) = &mut self.child.stderr {
            // Whoever still holds the other end would keep a reader of everything waiting.
            let mut part = [0; 8192];
            let read = err.read(&mut part).unwrap_or(0);
            text.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // TERM first: a wrapper passes it on to the server, which KILL would leave behind.
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
            let end = Instant::now() + START_TIME;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(LOOK_PERIOD);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
