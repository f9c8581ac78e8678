//! What a node costs with 100 idle spaces: `cargo run --release -p memvisor-node --example idle [SPACES] [SECONDS]`.
//!
//! The spaces are headers and connections of this process, with one member each; the node is a child that runs with its usual
//! period. Printed are its processor time as a part of one core, and its resident memory, shared pages of headers included.

use memvisor_proto::attach::{ATTACH_SOCKET, Attach, StoreSize, VERSION, Wish, line};
use memvisor_proto::space::{self, MAGIC, member_state};
use memvisor_proto::{Header, Layout, Member};
use memvisor_sys::random;
use memvisor_sys::shared::SharedFile;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::Ordering;
use std::time::Duration;

const CONFIG_VARIABLE: &str = "MEMVISOR_IDLE_CONFIG";

fn main() {
    if let Some(config) = std::env::var_os(CONFIG_VARIABLE) {
        if let Err(error) = memvisor_node::run(Path::new(&config)) {
            eprintln!("{error}: {}", error.way_out());
        }
        return;
    }
    let number = |at: usize, usual: u64| std::env::args().nth(at).map_or(usual, |text| text.parse().expect("a number"));
    let (spaces, seconds) = (number(1, 100), number(2, 30));
    let scratch = std::env::temp_dir().join(format!("memvisor-idle-{}", std::process::id()));
    let mut node = start(&scratch);
    let held: Vec<_> = (0..spaces).map(|at| attach(&scratch.join("run"), at)).collect();
    // The first plans look at everybody for the first time.
    std::thread::sleep(Duration::from_secs(3));
    let before_ns = processor_ns(node.id());
    std::thread::sleep(Duration::from_secs(seconds));
    let used_ns = processor_ns(node.id()) - before_ns;
    println!(
        "{} spaces, {seconds} s: {:.2} % of a core, {:.1} MiB resident",
        held.len(),
        used_ns as f64 / (seconds as f64 * 1e9) * 100.0,
        resident_kib(node.id()) as f64 / 1024.0
    );
    node.kill().expect("the node runs");
    node.wait().expect("the node ends");
    let _ = std::fs::remove_dir_all(&scratch);
}

fn start(scratch: &PathBuf) -> Child {
    std::fs::create_dir_all(scratch).expect("a directory for temporary files");
    let config = scratch.join("node.toml");
    let at = scratch.display();
    let text = format!("dram = \"50%\"\ndirectory = \"{at}/run\"\nstate = \"{at}/state\"\n");
    std::fs::write(&config, text).expect("a file in it");
    let program = std::env::current_exe().expect("this program");
    let node = Command::new(program).env(CONFIG_VARIABLE, config).spawn().expect("a process");
    while !scratch.join("run/node.sock").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    node
}

/// A space of one member: this process. It is gone when what is given back is dropped.
fn attach(directory: &Path, at: u64) -> (SharedFile, BufReader<UnixStream>) {
    let file = SharedFile::create(c"idle-space", Layout::FRAMES as u64).expect("a memory file");
    let view = file.view(Layout::FRAMES).expect("a mapping");
    let header = Header(view.words(Layout::HEADER, Header::WORDS));
    let (low, high) = (random::number().expect("a number"), random::number().expect("a number"));
    let member = Member(view.words(Layout::MEMBERS, Member::WORDS));
    for (word, value) in [
        (member.pid(), u64::from(std::process::id())),
        (member.joined_ns(), 1),
        (member.faults(), 1),
        (member.state(), member_state::LIVE),
        (header.version(), space::VERSION),
        (header.id_low(), low),
        (header.id_high(), high),
        (header.charged_pages(), 1024),
        (header.magic(), MAGIC),
    ] {
        word.store(value, Ordering::Release);
    }
    let message = Attach {
        version: VERSION,
        space_version: space::VERSION,
        name: format!("idle{at}"),
        id: format!("{high:016x}{low:016x}"),
        space_fd: file.fd(),
        program_pid: std::process::id(),
        command: vec!["idle".into()],
        store_bytes: 0,
        store_path: None,
        store_size: StoreSize::Given,
        intent: Wish { shares: 1000, ..Wish::default() },
        again: false,
    };
    let mut stream = BufReader::new(UnixStream::connect(directory.join(ATTACH_SOCKET)).expect("a node"));
    stream.get_mut().write_all(line(&message).as_bytes()).expect("a node");
    let mut answer = String::new();
    stream.read_line(&mut answer).expect("an answer");
    assert!(answer.contains("attached"), "{answer}");
    (file, stream)
}

/// Processor time of a process, in nanoseconds, as the scheduler counts it.
fn processor_ns(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("the node runs");
    text.split_ascii_whitespace().next().and_then(|field| field.parse().ok()).expect("a number")
}

fn resident_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the node runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.split_ascii_whitespace().next().and_then(|field| field.parse().ok()).expect("a number")
}
