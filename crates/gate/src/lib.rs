//! The gate: preloaded into any program, it asks the node's rules whether the program is to be managed.
//!
//! ```text
//!   a space already, or asked before ──▶ the program runs on
//!   no file of rules, no rule that speaks of it, `manage = false` ──▶ the program runs on, untouched
//!   a rule ──▶ this process becomes `memvisor run … -- PROGRAM ARGS`, which starts the program again
//! ```
//!
//! It is for `/etc/ld.so.preload` or `LD_PRELOAD` of a service manager. The library that manages memory is another one: a
//! program that no rule names keeps its own malloc, and pays for one failed `open` at its start. The process id stays with
//! `memvisor run`, which passes signals on and gives the program's exit code; the program itself has another.
//!
//! Absent on purpose: any failure that stops a program. What cannot be found out is "not managed", said on standard error
//! only when a rule named the program.

mod place;

use memvisor_proto::attach::{self, NODE_VARIABLE};
use memvisor_proto::rules::{Managed, RULES_FILE, Rule, Rules, Subject};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in programs that run in a space.
const SPACE_VARIABLE: &str = "MEMVISOR_SPACE";
/// Set by the gate in what it starts: nobody is asked twice.
const PASSED_VARIABLE: &str = "MEMVISOR_GATE";
/// The largest file of rules that is read, in bytes.
const RULES_BYTES_MAX: u64 = 1 << 20;

#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

extern "C" fn at_start() {
    if std::env::var_os(SPACE_VARIABLE).is_some() || std::env::var_os(PASSED_VARIABLE).is_some() {
        return;
    }
    let variable = std::env::var_os(NODE_VARIABLE);
    let Some(directory) = attach::directory(variable.as_deref().map(Path::new)) else { return };
    let Some(text) = rules_text(&directory) else { return };
    let Some(program) = Program::this() else { return };
    let Ok(rules) = Rules::parse(&text) else { return };
    if let Some(rule) = rules.first_match(&program.subject()).filter(|rule| rule.managed == Managed::Yes) {
        let error = program.under(rule, &directory);
        eprintln!("memvisor: {} runs unmanaged, though a rule names it: {error}", program.exe.display());
    }
}

fn rules_text(directory: &Path) -> Option<String> {
    let file = std::fs::File::open(directory.join(RULES_FILE)).ok()?;
    let mut text = String::new();
    file.take(RULES_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The program that this process runs.
struct Program {
    exe: PathBuf,
    words: Vec<OsString>,
    uid: u32,
    cgroup: String,
}

impl Program {
    fn this() -> Option<Self> {
        let exe = std::fs::read_link("/proc/self/exe").ok()?;
        let line = std::fs::read("/proc/self/cmdline").ok()?;
        let words = line.strip_suffix(b"\0").unwrap_or(&line).split(|byte| *byte == 0);
        let words = words.map(|word| OsString::from_vec(word.to_vec())).collect();
        // The kernel gives entries of /proc to the effective user.
        let uid = std::fs::metadata("/proc/self").ok()?.uid();
        let cgroup = std::fs::read_to_string("/proc/self/cgroup").map(|text| cgroup_of(&text)).unwrap_or_default();
        Some(Self { exe, words, uid, cgroup })
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            exe: self.exe.to_str().unwrap_or_default(),
            uid: self.uid,
            cgroup: &self.cgroup,
            name: self.exe.file_name().and_then(|name| name.to_str()).unwrap_or_default(),
        }
    }

    /// Becomes `memvisor run`; comes back only with the reason why that cannot be.
    fn under(&self, rule: &Rule, directory: &Path) -> std::io::Error {
        let Some(memvisor) = place::of_library().map(|path| path.with_file_name("memvisor")) else {
            return std::io::Error::other("the gate does not know where it lies");
        };
        let mut command = Command::new(memvisor);
        command.env(PASSED_VARIABLE, "passed").args(["run", "--quiet", "--node"]).arg(directory);
        let size = |bytes: Option<u64>| bytes.map(|bytes| bytes.to_string());
        for (option, value) in [
            ("--name", rule.set_name.clone()),
            ("--dram", size(rule.dram_bytes)),
            ("--reservation", size(rule.reservation_bytes)),
            ("--limit", size(rule.limit_bytes)),
            ("--shares", rule.shares.map(|shares| shares.to_string())),
            ("--class", rule.class.clone()),
            ("--store", rule.store.clone()),
        ] {
            if let Some(value) = value {
                command.args([option, &value]);
            }
        }
        command.arg("--").arg(self.typed()).args(self.words.iter().skip(1));
        command.exec()
    }

    /// The program's name as it was called, if that leads to it: some programs go by their name.
    fn typed(&self) -> OsString {
        let called = self.words.first().cloned().unwrap_or_default();
        let found = match called.as_bytes().contains(&b'/') {
            true => std::fs::canonicalize(&called).ok(),
            false => std::env::var_os("PATH").and_then(|path| {
                let places = std::env::split_paths(&path).map(|place| place.join(&called));
                places.filter_map(|place| std::fs::canonicalize(place).ok()).next()
            }),
        };
        if found.is_some_and(|found| found == self.exe) { called } else { self.exe.clone().into() }
    }
}

/// The cgroup of the unified hierarchy, else that of the memory controller.
fn cgroup_of(text: &str) -> String {
    let path_of = |wanted: fn(&str, &str) -> bool| {
        text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            wanted(number, controllers).then(|| path.to_owned())
        })
    };
    let unified = path_of(|number, _| number == "0").filter(|path| path != "/");
    unified
        .or_else(|| path_of(|_, controllers| controllers.split(',').any(|name| name == "memory")))
        .unwrap_or_else(|| "/".to_owned())
}
