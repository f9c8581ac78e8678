//! The gate of this build, a node of this build that wrote its rules, and `memvisor run` between them: no part is played by a script.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up: far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Some user who is nobody that runs tests.
const OTHER_USER: u32 = 65_534;

/// Where this build's programs lie, with the gate and the library that manages memory beside them.
fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join(name);
    assert!(path.is_file(), "{} is not built: cargo build --release", path.display());
    path
}

/// A node with rules, killed with it.
struct Host {
    directory: PathBuf,
    node: Child,
}

impl Host {
    fn start(name: &str, rules: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("memvisor-real-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (at, config) = (directory.display(), directory.join("node.toml"));
        let text = format!("dram = \"256M\"\ndirectory = \"{at}\"\nstate = \"{at}/state\"\n{rules}");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(built("memvisor"));
        command.arg("node").arg("--config").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let host = Self { node: command.spawn().unwrap(), directory };
        until("the node answers and has written its rules", || {
            host.directory.join("rules").is_file() && host.directory.join("node.sock").exists()
        });
        host
    }

    /// `command` with the gate preloaded, told where the node is.
    fn with_gate(&self, command: &mut Command) {
        command.env("LD_PRELOAD", built("libmemvisor_gate.so")).env("MEMVISOR_NODE", &self.directory);
        command.env_remove("MEMVISOR_SPACE").env_remove("MEMVISOR_GATE");
    }

    /// Starts a shell that says which space it is in, and waits to be let go.
    fn shell(&self) -> Shell {
        let mut command = Command::new(shell());
        command.args(["-c", "echo \"space ${MEMVISOR_SPACE:-none}\"; read line; exit 7"]);
        self.with_gate(&mut command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        Shell { child, stdin, said: said.trim_end().to_owned() }
    }

    /// What the node says of its spaces.
    fn spaces(&self) -> String {
        let ps = Command::new(built("memvisor")).arg("ps").arg("--node").arg(&self.directory).output().unwrap();
        String::from_utf8(ps.stdout).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A shell that waits; it ends with it.
struct Shell {
    child: Child,
    stdin: Option<ChildStdin>,
    said: String,
}

impl Shell {
    fn is_managed(&self) -> bool {
        assert!(self.said.starts_with("space "), "{:?}", self.said);
        self.said != "space none"
    }

    fn end(mut self) -> ExitStatus {
        self.stdin = None;
        self.child.wait().unwrap()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it never happens that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn shell() -> PathBuf {
    std::fs::canonicalize("/bin/sh").unwrap()
}

/// A rule of a node's configuration, for the shell alone.
fn rule(matches: &str, name: &str) -> String {
    format!("[[rule]]\nmatch = {{ exe = \"{}\", {matches} }}\nname = \"{name}\"\n", shell().display())
}

fn own_user() -> u32 {
    std::fs::metadata("/proc/self").unwrap().uid()
}

/// The cgroup of this process as the gate takes it: of the unified hierarchy, else of the memory controller.
fn own_cgroup() -> String {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let fields = |line: &str| line.splitn(3, ':').map(str::to_owned).collect::<Vec<_>>();
    let all: Vec<Vec<String>> = text.lines().map(fields).collect();
    let unified = all.iter().find(|of| of[0] == "0" && of[2] != "/");
    unified
        .or_else(|| all.iter().find(|of| of[1].split(',').any(|name| name == "memory")))
        .map_or("/", |of| &of[2])
        .into()
}

#[track_caller]
fn is_a_space_called(host: &Host, name: &str) {
    let shell = host.shell();
    assert!(shell.is_managed(), "it runs as it is");
    until(&format!("the node has a space called {name}"), || {
        host.spaces().lines().skip(1).any(|line| line.split_whitespace().next() == Some(name))
    });
    assert_eq!(shell.end().code(), Some(7));
}

#[test]
fn a_rule_by_user_puts_that_user_s_program_into_a_space_of_the_node() {
    let rules = rule(&format!("user = {OTHER_USER}"), "others") + &rule(&format!("user = {}", own_user()), "own");
    let host = Host::start("user", &rules);
    is_a_space_called(&host, "own");
}

#[test]
fn a_rule_by_user_leaves_the_programs_of_others_as_they_are() {
    let host = Host::start("others", &rule(&format!("user = {OTHER_USER}"), "others"));
    let shell = host.shell();
    assert!(!shell.is_managed());
    assert_eq!(shell.end().code(), Some(7));
    if own_user() != 0 {
        eprintln!("left out: a program of another user beside a rule for this one, which only root can start");
        return;
    }
    let host = Host::start("root", &rule("user = 0", "own"));
    let mut command = Command::new(self::shell());
    command.args(["-c", "echo \"space ${MEMVISOR_SPACE:-none}\""]).uid(OTHER_USER);
    host.with_gate(&mut command);
    assert_eq!(String::from_utf8(command.output().unwrap().stdout).unwrap(), "space none\n");
}

#[test]
fn a_rule_by_cgroup_puts_the_programs_of_that_cgroup_into_a_space_of_the_node() {
    let rules =
        rule("cgroup = \"/no/such/cgroup/*\"", "others") + &rule(&format!("cgroup = \"{}\"", own_cgroup()), "own");
    let host = Host::start("cgroup", &rules);
    is_a_space_called(&host, "own");
    let elsewhere = Host::start("elsewhere", &rule("cgroup = \"/no/such/cgroup/*\"", "others"));
    assert!(!elsewhere.shell().is_managed());
}
