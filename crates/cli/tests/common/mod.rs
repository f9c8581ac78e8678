//! The command as a stranger uses it.
#![allow(dead_code, reason = "each test file uses a part of this")]

pub mod fake_node;
pub mod host;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// The command.
pub fn memvisor<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memvisor"));
    command
        .args(args)
        .stdin(Stdio::null())
        .env_remove("LD_PRELOAD")
        .env_remove("MEMVISOR_SPACE")
        .env("MEMVISOR_NODE", "none");
    command
}

/// `memvisor run --unmanaged`, which needs nothing of the kernel.
pub fn plain<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = memvisor(["run", "--unmanaged"]);
    command.args(args);
    command
}

/// Runs `script` by a shell under `memvisor run --unmanaged`.
pub fn plain_shell(script: &str) -> Command {
    plain(["--", "sh", "-c", script])
}

/// How a finished command ended and what it said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Fails with all that was said unless standard error has every one of `texts`.
    #[track_caller]
    pub fn complains(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for text in texts {
            assert!(self.err.contains(text), "`{text}` is not in {self:?}");
        }
    }
}

/// Runs a command to its end.
pub fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
}

/// A directory of its own, removed at the end.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("memvisor-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file with these contents that may be executed.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, text).unwrap();
        set_mode(&path, 0o755);
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A running command whose standard output is read line by line. It is killed when this is dropped.
pub struct Talking {
    pub child: Child,
    lines: BufReader<ChildStdout>,
}

impl Talking {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads until a line has `text`, and gives that line.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "`{text}` never came:\n{seen}");
            if line.contains(text) {
                return line;
            }
            seen += &line;
        }
    }

    /// Sends `signal` (a name as `kill` takes it) to the command itself.
    pub fn signal(&self, signal: &str) {
        kill(signal, &self.child.id().to_string());
    }

    /// The exit code, once it has ended.
    pub fn code(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn kill(signal: &str, pid: &str) {
    let sent = Command::new("kill").args(["-s", signal, pid]).status().unwrap();
    assert!(sent.success());
}

/// Whether a program is there; says aloud when it is not, so that a test that did not run is not taken for one that passed.
pub fn have(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()));
    if !found {
        eprintln!("CANNOT RUN: this test needs {program}, which is not installed");
    }
    found
}

/// The library beside the command, if it was built.
pub fn shim() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_memvisor")).with_file_name("libmemvisor_shim.so");
    if path.is_file() {
        return Some(path);
    }
    eprintln!("CANNOT RUN: this test needs {}: cargo build -p memvisor-shim", path.display());
    None
}
