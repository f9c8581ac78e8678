//! What a node costs with 100 idle spaces: `cargo run --release -p memvisor-node --example idle [SPACES] [SECONDS]`.
//! Ends with 0 when that is within the goal for 100 spaces, with 3 when it is not.
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
use std::process::{Child, Command, ExitCode};
use std::sync::atomic::Ordering;
use std::time::Duration;

const CONFIG_VARIABLE: &str = "MEMVISOR_IDLE_CONFIG";

/// What a node may take of a core and of memory, with 100 idle spaces.
const CORE_MAX: f64 = 0.01;
const RESIDENT_KIB_MAX: u64 = 50 << 10;
/// Exit code for a goal that was missed, apart from a measurement that broke.
const MISSED: u8 = 3;

fn main() -> ExitCode {
    if let Some(config) = std::env::var_os(CONFIG_VARIABLE) {
        if let Err(error) = memvisor_node::run(Path::new(&config)) {
            eprintln!("{error}: {}", error.way_out());
            return ExitCode::FAILURE;
        }
        return ExitCode::SUCCESS;
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
    let (core, resident_kib) = (used_ns as f64 / (seconds as f64 * 1e9), resident_kib(node.id()));
    let is_met = core <= CORE_MAX && resident_kib <= RESIDENT_KIB_MAX;
    println!(
        "{}: {} spaces, {seconds} s: {:.2} % of a core (at most {:.0} %), {:.1} MiB resident (at most {})",
        if is_met { "met" } else { "MISSED" },
        held.len(),
        core * 100.0,
        CORE_MAX * 100.0,
        resident_kib as f64 / 1024.0,
        RESIDENT_KIB_MAX >> 10,
    );
    node.kill().expect("the node runs");
    node.wait().expect("the node ends");
    let _ = std::fs::remove_dir_all(&scratch);
    if is_met { ExitCode::SUCCESS } else { ExitCode::from(MISSED) }
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
