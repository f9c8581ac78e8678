//! What the gate costs a program that no rule names: `cargo run --release -p memvisor-gate --example start [STARTS] [RULES]`, after
//! `cargo build --release`.
//!
//! `true` is started with nothing preloaded, with some other library, and with the gate that reads a node's file of so many rules, in
//! turn; printed are the median and the fastest tenth of each. It judges nothing: what a start takes is the machine's affair.

use memvisor_proto::rules::{RULES_FILE, Rule, Rules};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A library that each system has and `true` does not need.
const OTHER_LIBRARY: &str = "libm.so.6";
/// Starts that do not count: files come into the cache.
const WARM_UP: usize = 20;

fn main() {
    let number =
        |at: usize, usual: usize| std::env::args().nth(at).map_or(usual, |text| text.parse().expect("a number"));
    let (starts, rules) = (number(1, 400), number(2, 20));
    let scratch = std::env::temp_dir().join(format!("memvisor-start-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).expect("a directory for temporary files");
    std::fs::write(scratch.join(RULES_FILE), none_matching(rules).to_text()).expect("a file in it");
    let gate = library();
    let empty = scratch.join("nothing");
    let sides: [(&str, Option<OsString>, &Path); 4] = [
        ("nothing preloaded", None, &empty),
        ("another library", Some(OTHER_LIBRARY.into()), &empty),
        ("the gate, no rules", Some(gate.clone().into()), &empty),
        ("the gate, with rules", Some(gate.into()), &scratch),
    ];
    let mut times: [Vec<Duration>; 4] = Default::default();
    for round in 0..starts + WARM_UP {
        // Who comes first changes: what drifts meets all alike.
        for at in (0..sides.len()).map(|at| (at + round) % sides.len()) {
            let took = start(&sides[at].1, sides[at].2);
            if round >= WARM_UP {
                times[at].push(took);
            }
        }
    }
    println!("{starts} starts of `true` each, {rules} rules that do not match");
    for ((name, _, _), mut times) in sides.into_iter().zip(times) {
        times.sort_unstable();
        let ms = |at: usize| times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        println!("{name:22} median {:.3} ms   fastest tenth up to {:.3} ms", ms(times.len() / 2), ms(times.len() / 10));
    }
    let _ = std::fs::remove_dir_all(&scratch);
}

fn start(preload: &Option<OsString>, node: &Path) -> Duration {
    let mut command = Command::new("/bin/true");
    command.env("MEMVISOR_NODE", node).env_remove("LD_PRELOAD");
    command.env_remove("MEMVISOR_SPACE").env_remove("MEMVISOR_GATE");
    if let Some(library) = preload {
        command.env("LD_PRELOAD", library);
    }
    let began = Instant::now();
    let status = command.status().expect("a process");
    let took = began.elapsed();
    assert!(status.success(), "{status}");
    took
}

/// Rules of all kinds that `true` of whoever measures meets none of.
fn none_matching(count: usize) -> Rules {
    let rule = |at: usize| match at % 4 {
        0 => Rule { exe: Some(format!("/opt/service-{at}/bin/*")), ..Rule::default() },
        1 => Rule { uid: Some(3_000_000_000 + at as u32), ..Rule::default() },
        2 => Rule { cgroup: Some(format!("/no/such/slice-{at}/*")), ..Rule::default() },
        _ => Rule { name: Some(format!("*-service-{at}")), shares: Some(2000), ..Rule::default() },
    };
    Rules((0..count).map(rule).collect())
}

/// The gate of this build.
fn library() -> PathBuf {
    let own = std::env::current_exe().expect("this program");
    let path = own.ancestors().nth(2).expect("a place of builds").join("libmemvisor_gate.so");
    assert!(path.is_file(), "{} is not built: cargo build --release", path.display());
    path
}
