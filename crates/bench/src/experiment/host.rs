//! A host of its own: a node with little DRAM, and its directory.

use super::kin::Kin;
use super::watch::{Watch, Watched};
use super::{Lab, MIB};
use crate::cleanup::Undo;
use rustix::process::Signal;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a node may take to be there.
const READY: Duration = Duration::from_secs(15);
/// How long it may take to end.
const ENDED: Duration = Duration::from_secs(20);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// What a host is to be.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) dram_mib: u64,
    pub(super) tax: f64,
    /// Time between plans.
    pub(super) period: &'static str,
    /// Time of a sample of what is in use.
    pub(super) sample: &'static str,
    /// How slowly it is believed that less is in use.
    pub(super) fall: &'static str,
}

impl Settings {
    pub(super) fn new(dram_mib: u64) -> Self {
        Self { dram_mib, tax: 0.75, period: "1s", sample: "1s", fall: "2s" }
    }
}

/// A node that runs, and the watch over its spaces.
pub(super) struct Host {
    settings: Settings,
    directory: PathBuf,
    node: Kin,
    watch: Watch,
    _undo: Undo,
}

impl Host {
    /// Starts a node in a directory of its own.
    ///
    /// # Errors
    /// When it is not ready in time; with the end of its log.
    pub(super) fn start(lab: &Lab, name: &str, settings: Settings) -> Result<Self, String> {
        // Short: the path of a socket has 107 bytes at most.
        let directory = std::env::temp_dir().join(format!("mv-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        write_config(&directory, &settings)?;
        let node = spawn(&lab.memvisor, &directory)?;
        let undo = Undo::new({
            let directory = directory.clone();
            move || {
                let _ = std::fs::remove_dir_all(directory);
            }
        });
        let watch = Watch::start(settings.dram_mib * MIB);
        let host = Self { settings, directory, node, watch, _undo: undo };
        host.wait_until_ready()?;
        Ok(host)
    }

    /// Where spaces find it.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn dram_bytes(&self) -> u64 {
        self.settings.dram_mib * MIB
    }

    /// Watches over its spaces, to which each tenant is added when it starts.
    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// What was seen of all spaces from the first to now: called when the last has been verified.
    ///
    /// # Errors
    /// As [`Watch::finish`].
    pub(super) fn watched(&mut self) -> Result<Watched, String> {
        self.watch.finish()
    }

    /// Another tax from now on.
    ///
    /// # Errors
    /// When the node does not take it.
    pub(super) fn set_tax(&mut self, tax: f64) -> Result<(), String> {
        self.settings.tax = tax;
        write_config(&self.directory, &self.settings)?;
        self.ask("POST", "/v1/reload").map(drop)
    }

    /// What the node says of the space called `name`.
    ///
    /// # Errors
    /// When it says nothing, or knows no such space.
    pub(super) fn space(&self, name: &str) -> Result<Value, String> {
        self.get(&format!("/v1/spaces/{name}"))
    }

    /// # Errors
    /// When there is no answer.
    pub(super) fn get(&self, path: &str) -> Result<Value, String> {
        self.ask("GET", path)
    }

    /// Kills the node, as a bug or the kernel would.
    ///
    /// # Errors
    /// When it does not end.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        let end = |error: std::io::Error| format!("the node does not end: {error}");
        self.node.signal(Signal::KILL).map_err(end)?;
        self.node.wait(ENDED).map(drop).map_err(end)
    }

    /// Asks the node to end, and waits until it has.
    ///
    /// # Errors
    /// As [`Host::kill`].
    pub(super) fn end(&mut self) -> Result<(), String> {
        self.signal(Signal::TERM)?;
        self.node.wait(ENDED).map(drop).map_err(|error| format!("the node does not end: {error}"))
    }

    /// Starts the node again, from the binary at `path`, and waits until it is there.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub(super) fn start_again(&mut self, path: &Path) -> Result<(), String> {
        self.node = spawn(path, &self.directory)?;
        self.wait_until_ready()
    }

    /// Stops the node in its tracks for a while.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub(super) fn hang(&self, time: Duration) -> Result<(), String> {
        self.signal(Signal::STOP)?;
        std::thread::sleep(time);
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        self.node.signal(signal).map_err(|error| format!("cannot signal the node: {error}"))
    }

    fn wait_until_ready(&self) -> Result<(), String> {
        let until = Instant::now() + READY;
        while Instant::now() < until {
            if self.get("/healthz").is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let log = std::fs::read_to_string(self.directory.join("node.log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        Err(format!("the node is not ready: {}", last.into_iter().rev().collect::<Vec<_>>().join(" | ")))
    }

    fn ask(&self, method: &str, path: &str) -> Result<Value, String> {
        let wrong = |error: std::io::Error| format!("the node does not answer {method} {path}: {error}");
        let mut stream = UnixStream::connect(self.directory.join("node.sock")).map_err(wrong)?;
        stream.set_read_timeout(Some(ANSWER)).map_err(wrong)?;
        // HTTP/1.0: the answer ends with the connection.
        let question = format!("{method} {path} HTTP/1.0\r\nhost: node\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(question.as_bytes()).map_err(wrong)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(wrong)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("the node's answer broke off")?;
        if head.split_whitespace().nth(1) != Some("200") {
            return Err(format!("the node refuses {method} {path}: {body}"));
        }
        serde_json::from_str(body).map_err(|error| format!("{method} {path}: {error}"))
    }
}

fn write_config(directory: &Path, settings: &Settings) -> Result<(), String> {
    let Settings { dram_mib, tax, period, sample, fall } = settings;
    let at = directory.display();
    let text = format!(
        "dram = \"{dram_mib}M\"\nperiod = \"{period}\"\ndirectory = \"{at}\"\nstate = \"{at}/state\"\ntax = {tax}\n\
         [calm]\nfall = \"{fall}\"\n[sample]\nperiod = \"{sample}\"\n"
    );
    let path = directory.join("node.toml");
    std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn spawn(memvisor: &Path, directory: &Path) -> Result<Kin, String> {
    let log = File::options().create(true).append(true).open(directory.join("node.log"));
    let log = log.map_err(|error| format!("cannot write the node's log: {error}"))?;
    let mut command = Command::new(memvisor);
    command.arg("node").arg("--config").arg(directory.join("node.toml"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Kin::spawn(&mut command)
        .map(|(node, _)| node)
        .map_err(|error| format!("cannot start {}: {error}", memvisor.display()))
}
