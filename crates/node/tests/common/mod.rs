//! A node in a process of its own, and spaces that are nothing but a header and a connection.
//!
//! The node's process is the test's own program, started again to run one test that does nothing else: so no binary has
//! to be built first, and it can be killed.

#![allow(dead_code, reason = "each test program uses a part of it")]

use memvisor_node::client::{AskError, ask};
use memvisor_node::wire;
use memvisor_proto::attach::{ATTACH_SOCKET, Answer, Attach, StoreSize, VERSION, Wish, line, parse};
use memvisor_proto::space::{self, MAGIC, member_state};
use memvisor_proto::{Header, Layout, Member};
use memvisor_sys::shared::{SharedFile, SharedMap};
use memvisor_sys::{process, random};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where the process that is a node finds its configuration.
const CONFIG_VARIABLE: &str = "MEMVISOR_TEST_CONFIG";
/// How long anything may take before a test gives up: far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(60);
pub const MIB: u64 = 1 << 20;

/// What the test that is the node's process does: nothing, unless it is that.
pub fn be_the_node() {
    if let Some(config) = std::env::var_os(CONFIG_VARIABLE) {
        match memvisor_node::run(Path::new(&config)) {
            Ok(()) => std::process::exit(0),
            Err(error) => {
                eprintln!("{error}: {}", error.way_out());
                std::process::exit(3);
            }
        }
    }
}

/// A directory, gone with it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("memvisor-node-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        // Other users are let in: that is tested.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A node, killed with it.
pub struct NodeProcess {
    pub scratch: Scratch,
    child: Option<Child>,
}

impl NodeProcess {
    /// One with `dram` to hand out, that plans ten times a second; `rest` is more of its configuration.
    pub fn start(dram: &str, rest: &str) -> Self {
        let mut node = Self { scratch: Scratch::new(), child: None };
        node.configure(dram, rest);
        node.start_again();
        node
    }

    pub fn configure(&self, dram: &str, rest: &str) {
        self.configure_with(dram, "100ms", rest);
    }

    pub fn configure_with(&self, dram: &str, period: &str, rest: &str) {
        let (directory, state) = (self.directory(), self.scratch.0.join("state"));
        let text = format!(
            "dram = \"{dram}\"\nperiod = \"{period}\"\ndirectory = \"{}\"\nstate = \"{}\"\n{rest}",
            directory.display(),
            state.display()
        );
        std::fs::write(self.config(), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.scratch.0.join("node.toml")
    }

    pub fn directory(&self) -> PathBuf {
        self.scratch.0.join("run")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// The command that is a node of this configuration.
    pub fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_process_of_a_node", "--nocapture"]);
        command.env(CONFIG_VARIABLE, self.config()).stdout(Stdio::null());
        command
    }

    pub fn start_again(&mut self) {
        self.child = Some(self.command().spawn().unwrap());
        until("the node answers", || ask(&self.directory(), "GET", "/healthz", "").is_ok());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM; gives the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("the node runs");
        process::kill(child.id(), process::SIGTERM).unwrap();
        child.wait().unwrap().code()
    }

    pub fn get(&self, path: &str) -> String {
        ask(&self.directory(), "GET", path, "").unwrap()
    }

    pub fn host(&self) -> wire::Host {
        serde_json::from_str(&self.get("/v1/host")).unwrap()
    }

    pub fn space(&self, name: &str) -> wire::Space {
        serde_json::from_str(&self.get(&format!("/v1/spaces/{name}"))).unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        let spaces: wire::Spaces = serde_json::from_str(&self.get("/v1/spaces")).unwrap();
        spaces.spaces.into_iter().map(|space| space.name).collect()
    }

    pub fn history(&self, name: &str) -> wire::History {
        serde_json::from_str(&self.get(&format!("/v1/spaces/{name}/history"))).unwrap()
    }

    /// The answer, or the status and the problem.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Result<String, (u16, wire::Problem)> {
        match ask(&self.directory(), method, path, body) {
            Ok(answer) => Ok(answer),
            Err(AskError::Refused(status, problem)) => Err((status, *problem)),
            Err(other) => panic!("{method} {path}: {other:?}"),
        }
    }

    /// Waits until the node has made some more plans.
    pub fn plans_on(&self) {
        let seen = self.host().plans;
        until("the node plans", || self.host().plans >= seen + 5);
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for a condition.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it never happens that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A header with a connection.
pub struct FakeSpace {
    file: SharedFile,
    pub map: SharedMap,
    id: u128,
    pub name: String,
    pub wish: Wish,
    connection: Option<BufReader<UnixStream>>,
}

impl FakeSpace {
    pub fn new(name: &str) -> Self {
        let file = SharedFile::create(c"fake-space", Layout::FRAMES as u64).unwrap();
        let map = file.map(Layout::FRAMES).unwrap();
        let (low, high) = (random::number().unwrap(), random::number().unwrap());
        let id = u128::from(high) << 64 | u128::from(low);
        let wish = Wish { shares: 1000, ..Wish::default() };
        let space = Self { file, map, id, name: name.to_owned(), wish, connection: None };
        let header = space.header();
        for (word, value) in [
            (header.version(), space::VERSION),
            (header.id_low(), low),
            (header.id_high(), high),
            (header.target_bytes(), 1 << 40),
            (header.limit_bytes(), u64::MAX),
            (header.magic(), MAGIC),
        ] {
            word.store(value, Ordering::Release);
        }
        space
    }

    pub fn reserve(mut self, bytes: u64) -> Self {
        self.wish.reservation_bytes = bytes;
        self
    }

    pub fn header(&self) -> Header<'static> {
        Header(self.map.words(Layout::HEADER, Header::WORDS))
    }

    /// The block of its only member, which is this process.
    pub fn member(&self) -> Member<'static> {
        Member(self.map.words(Layout::MEMBERS, Member::WORDS))
    }

    /// What it holds from now on.
    pub fn hold(&self, bytes: u64) {
        self.header().charged_pages().store(bytes / 4096, Ordering::Relaxed);
    }

    /// What of its memory is in a store from now on.
    pub fn store(&self, bytes: u64) {
        self.member().away_pages().store(bytes / 4096, Ordering::Relaxed);
    }

    pub fn join(&self) {
        let member = self.member();
        member.pid().store(u64::from(std::process::id()), Ordering::Relaxed);
        member.joined_ns().store(1, Ordering::Relaxed);
        member.state().store(member_state::LIVE, Ordering::Release);
    }

    /// Its only member is process `pid`.
    pub fn join_as(&self, pid: u32) {
        let member = self.member();
        member.pid().store(u64::from(pid), Ordering::Relaxed);
        member.start_ticks().store(process::start_ticks(pid).unwrap(), Ordering::Relaxed);
        member.joined_ns().store(1, Ordering::Relaxed);
        member.state().store(member_state::LIVE, Ordering::Release);
    }

    pub fn told_bytes(&self) -> u64 {
        self.header().target_bytes().load(Ordering::Relaxed)
    }

    pub fn message(&self, again: bool) -> Attach {
        Attach {
            version: VERSION,
            space_version: space::VERSION,
            name: self.name.clone(),
            id: format!("{:032x}", self.id),
            space_fd: self.file.fd(),
            program_pid: std::process::id(),
            command: vec!["fake".into(), "--space".into()],
            store_bytes: 0,
            store_path: None,
            store_size: StoreSize::Given,
            intent: self.wish.clone(),
            again,
        }
    }

    /// Says `message` and keeps the connection.
    pub fn say(&mut self, node: &Path, message: &str) -> Answer {
        let mut stream = BufReader::new(UnixStream::connect(node.join(ATTACH_SOCKET)).unwrap());
        stream.get_mut().write_all(message.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_line(&mut text).unwrap();
        self.connection = Some(stream);
        parse(&text).unwrap()
    }

    /// Attaches; gives number and name.
    pub fn attach(&mut self, node: &NodeProcess, again: bool) -> (u64, String) {
        match self.say(&node.directory(), &line(&self.message(again))) {
            Answer::Attached { space, name, .. } => (space, name),
            Answer::Refused { why, .. } => panic!("{why}"),
        }
    }

    /// Tries to attach with this message; gives why not.
    pub fn refusal(&mut self, node: &NodeProcess, message: &Attach) -> (String, Option<u64>) {
        match self.say(&node.directory(), &line(message)) {
            Answer::Attached { .. } => panic!("it was attached"),
            Answer::Refused { why, fits_bytes, .. } => (why, fits_bytes),
        }
    }

    pub fn leave(&mut self) {
        self.connection = None;
    }
}

/// Runs test `name` of this program as nobody, with what it needs in variables; gives what it printed. `None` when that cannot be,
/// which is said aloud.
pub fn as_nobody(scratch: &Scratch, name: &str, variables: &[(&str, &str)]) -> Option<String> {
    const NOBODY: u32 = 65534;
    if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) != 0 {
        println!("CANNOT RUN: another user can be only as root");
        return None;
    }
    // Where this program lies nobody else may be let in.
    let program = scratch.0.join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", name, "--nocapture"]).envs(variables.iter().copied());
    let output = command.current_dir("/").uid(NOBODY).gid(NOBODY).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}
