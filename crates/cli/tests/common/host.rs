//! A host of its own: a node, and spaces with a program in each that does what it is told. All of it is real.
//!
//! The program is the test's own, started again to run one test that does nothing else, so none has to be built first.

use super::Directory;
use memvisor_node::client::ask;
use memvisor_node::wire;
use memvisor_proto::space::MAGIC;
use memvisor_proto::{Header, Layout, Member};
use memvisor_sys::process;
use memvisor_sys::shared::{SharedFile, SharedMap};
use std::ffi::CString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

/// Tells the process that it is the program.
const PROGRAM_VARIABLE: &str = "MEMVISOR_TEST_PROGRAM";
/// What the program's lines begin with: the test's own runner writes there too.
const MARK: &str = "program: ";
/// How long anything may take before a test gives up: far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(60);
const PAGE_WORDS: usize = 512;
pub const MIB: u64 = 1 << 20;

/// Waits for a condition.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it never happens that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A node, killed with it.
pub struct Host {
    pub directory: Directory,
    node: Option<Child>,
}

impl Host {
    /// One with `dram` to hand out, that plans ten times a second; `rest` is more of its configuration.
    pub fn start(name: &str, dram: &str, rest: &str) -> Self {
        let mut host = Self { directory: Directory::new(name), node: None };
        host.configure(dram, rest);
        let mut command = Command::new(env!("CARGO_BIN_EXE_memvisor"));
        command.arg("node").arg("--config").arg(host.directory.file("node.toml"));
        host.node = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the node answers", || ask(&host.directory.0, "GET", "/healthz", "").is_ok());
        host
    }

    fn configure(&self, dram: &str, rest: &str) {
        let at = self.directory.0.display();
        let text =
            format!("dram = \"{dram}\"\nperiod = \"100ms\"\ndirectory = \"{at}\"\nstate = \"{at}/state\"\n{rest}");
        std::fs::write(self.directory.file("node.toml"), text).unwrap();
    }

    /// Another configuration from now on.
    pub fn reload(&self, dram: &str, rest: &str) {
        self.configure(dram, rest);
        ask(&self.directory.0, "POST", "/v1/reload", "").unwrap();
    }

    /// SIGKILL.
    pub fn kill_node(&mut self) {
        if let Some(mut node) = self.node.take() {
            node.kill().unwrap();
            node.wait().unwrap();
        }
    }

    fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        serde_json::from_str(&ask(&self.directory.0, "GET", path, "").unwrap()).unwrap()
    }

    pub fn host(&self) -> wire::Host {
        self.get("/v1/host")
    }

    pub fn spaces(&self) -> Vec<wire::Space> {
        self.get::<wire::Spaces>("/v1/spaces").spaces
    }

    pub fn space(&self, name: &str) -> wire::Space {
        self.get(&format!("/v1/spaces/{name}"))
    }

    pub fn explain(&self, name: &str) -> wire::Explanation {
        self.get(&format!("/v1/spaces/{name}/explain"))
    }

    /// A space of this node that is called `name`; `flags` are more of `memvisor run`.
    pub fn run(&self, name: &str, flags: &[&str]) -> Program {
        let mut command =
            super::memvisor(["run", "--strict", "--quiet", "--name", name, "--store-size", "1G", "--store"]);
        command.arg(&self.directory.0).args(flags).env("MEMVISOR_NODE", &self.directory.0);
        Program::start(command)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill_node();
    }
}

/// A program in a space, killed with it.
pub struct Program {
    run: Child,
    orders: Option<ChildStdin>,
    said: Receiver<String>,
}

impl Program {
    /// The program as what `command` runs: `memvisor run` without a program.
    pub fn start(mut command: Command) -> Self {
        command.arg("--").arg(std::env::current_exe().unwrap());
        Self::of(command)
    }

    /// The program once more.
    fn child() -> Self {
        Self::of(Command::new(std::env::current_exe().unwrap()))
    }

    fn of(mut command: Command) -> Self {
        command.args(["--exact", "the_program", "--nocapture"]).env(PROGRAM_VARIABLE, "1");
        let mut run = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (orders, lines) = (run.stdin.take(), BufReader::new(run.stdout.take().unwrap()).lines());
        let (say, said) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, said)) = line.split_once(MARK) {
                    let _ = say.send(said.to_owned());
                }
            }
        });
        Self { run, orders, said }
    }

    /// The process that keeps the space.
    pub fn keeper_pid(&self) -> u32 {
        self.run.id()
    }

    /// Tells it what to do, see [`be_the_program`].
    pub fn tell(&mut self, order: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
    }

    /// Waits until it has done what it was told.
    #[track_caller]
    pub fn is_done(&mut self, order: &str) {
        match self.said.recv_timeout(PATIENCE) {
            Ok(said) => assert_eq!(said, order),
            Err(error) => panic!("`{order}` is never done: {error}"),
        }
    }

    #[track_caller]
    pub fn does(&mut self, order: &str) {
        self.tell(order);
        self.is_done(order);
    }

    /// Tells its child and then it the same.
    #[track_caller]
    pub fn both_do(&mut self, order: &str) {
        self.does(&format!("child {order}"));
        self.does(order);
    }

    /// Has every page looked at, and ends it.
    #[track_caller]
    pub fn ends_right(mut self) {
        self.does("quit");
        assert_eq!(self.run.wait().unwrap().code(), Some(0));
    }

    /// Kills the program, not who keeps its space, and waits until that has ended too.
    pub fn kill(mut self, host: &Host, name: &str) {
        process::kill(host.space(name).program_pid, process::SIGKILL).unwrap();
        self.orders = None;
        self.run.wait().unwrap();
    }

    /// The header of its space.
    pub fn header(&self) -> Words {
        let directory = format!("/proc/{}/fd", self.keeper_pid());
        let mut found = None;
        until("the space has a memory file", || {
            found = std::fs::read_dir(&directory).unwrap().flatten().find_map(|entry| Words::open(&entry.path()));
            found.is_some()
        });
        found.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.orders = None;
        let _ = process::kill(self.run.id(), process::SIGTERM);
        let _ = self.run.wait();
    }
}

/// A space's memory file.
pub struct Words(SharedMap);

impl Words {
    fn open(path: &std::path::Path) -> Option<Self> {
        std::fs::read_link(path).ok()?.to_string_lossy().starts_with("/memfd:").then_some(())?;
        let file = SharedFile::open(&CString::new(path.to_str()?).ok()?).ok()?;
        let words = Self(file.map(Layout::FRAMES).ok()?);
        (words.header().magic().load(Ordering::Acquire) == MAGIC).then_some(words)
    }

    pub fn header(&self) -> Header<'static> {
        Header(self.0.words(Layout::HEADER, Header::WORDS))
    }

    /// The blocks of members, of which most were never taken.
    pub fn members(&self) -> impl Iterator<Item = Member<'static>> + '_ {
        let block_bytes = Member::WORDS * 8;
        (0..8).map(move |at| Member(self.0.words(Layout::MEMBERS + at * block_bytes, Member::WORDS)))
    }
}

/// What the program does, if this process is it: `hold MIB` fills so much memory, `look` looks at every page of it, `busy` goes
/// on looking until the next order, `idle` does not; `quit` looks once more and ends. `child ORDER` is an order to a child of its own,
/// another member of the space. It says each order when it is done.
pub fn be_the_program() {
    if std::env::var_os(PROGRAM_VARIABLE).is_none() {
        return;
    }
    let (say, orders) = channel();
    std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
    let (mut memory, mut is_busy, mut at) = (Memory::default(), false, 0);
    let mut child: Option<Program> = None;
    loop {
        let order = match is_busy {
            false => orders.recv().map_err(|_| TryRecvError::Disconnected),
            true => orders.try_recv(),
        };
        match order {
            Ok(order) => {
                match order.split_once(' ').unwrap_or((&order, "")) {
                    ("hold", mib) => memory = Memory::filled(mib.parse().unwrap()),
                    ("look", _) => memory.look(0, memory.pages()),
                    ("busy", _) => is_busy = true,
                    ("idle", _) => is_busy = false,
                    ("quit", _) => memory.look(0, memory.pages()),
                    ("child", order) => child.get_or_insert_with(Program::child).does(order),
                    other => panic!("nobody knows how to {other:?}"),
                }
                println!("{MARK}{order}");
                if order == "quit" {
                    drop(child);
                    std::process::exit(0);
                }
            }
            Err(TryRecvError::Disconnected) => std::process::exit(0),
            Err(TryRecvError::Empty) => {
                memory.look(at, 64);
                at = (at + 64) % memory.pages().max(1);
            }
        }
    }
}

/// Pages that do not compress, and of which each is known.
#[derive(Default)]
struct Memory(Vec<u64>);

impl Memory {
    fn filled(mib: usize) -> Self {
        let mut words = vec![0; mib << 17];
        for (page, words) in words.chunks_mut(PAGE_WORDS).enumerate() {
            contents(page).zip(words).for_each(|(is, word)| *word = is);
        }
        Self(words)
    }

    fn pages(&self) -> usize {
        self.0.len() / PAGE_WORDS
    }

    fn look(&self, from: usize, pages: usize) {
        for (page, words) in self.0.chunks(PAGE_WORDS).enumerate().skip(from).take(pages) {
            if !contents(page).zip(words).all(|(is, word)| is == *word) {
                println!("{MARK}page {page} is wrong");
                std::process::exit(9);
            }
        }
    }
}

fn contents(page: usize) -> impl Iterator<Item = u64> {
    let mut random = 0x9e37_79b9_7f4a_7c15 ^ (page as u64 + 1).wrapping_mul(0xd129_0b22_96e6_5b2d);
    std::iter::repeat_with(move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    })
}
