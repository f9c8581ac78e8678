//! Programs that are started within a run and cannot be managed: what holds for the first holds for them.

mod common;

use common::{Directory, Said, have, memvisor, plain, said, set_mode, shim};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every way of the C library to start a file that `starter.c` knows.
const WAYS: [&str; 12] = [
    "execv",
    "execve",
    "execvp",
    "execvpe",
    "fexecve",
    "execl",
    "execlp",
    "execle",
    "vfork",
    "fork",
    "posix_spawn",
    "posix_spawnp",
];
const STARTER: &str = include_str!("starter.c");
const PRINTS_ITS_WORDS: &str = r#"
#include <stdio.h>
int main(int count, char **words) { while (*++words) printf("%s ", *words); puts("ran"); return 5; }
"#;

/// What all of these tests need; `None` says what is missing.
struct Bench {
    directory: Directory,
    starter: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Option<Self> {
        if shim().is_none() || !have("gcc") {
            return None;
        }
        let directory = Directory::new(name);
        let starter = built(&directory, "starter", STARTER, &[])?;
        Some(Self { directory, starter })
    }

    /// A statically linked program that prints its arguments and gives 5.
    fn static_program(&self) -> Option<PathBuf> {
        built(&self.directory, "static", PRINTS_ITS_WORDS, &["-static"])
    }

    /// Starts `program` in this way within a run.
    fn start(&self, flags: &[&str], how: &str, program: &Path) -> Said {
        let mut command = memvisor(["run", "--dram", "64M", "--quiet"]);
        said(command.args(flags).arg("--").arg(&self.starter).arg(how).arg(program).args(["1", "2"]))
    }
}

fn built(directory: &Directory, name: &str, text: &str, flags: &[&str]) -> Option<PathBuf> {
    let (source, program) = (directory.file(&format!("{name}.c")), directory.file(name));
    std::fs::write(&source, text).unwrap();
    let built = Command::new("gcc").args(flags).arg("-o").arg(&program).arg(&source).output().unwrap();
    if built.status.success() {
        return Some(program);
    }
    let why = String::from_utf8_lossy(&built.stderr);
    assert!(flags.contains(&"-static"), "gcc does not build {name}: {why}");
    eprintln!("CANNOT RUN: gcc links nothing statically here: {why}");
    None
}

fn is_root() -> bool {
    let is_root = rustix::process::getuid().is_root();
    if !is_root {
        eprintln!("CANNOT RUN: this test needs root");
    }
    is_root
}

/// A program that is the set-user-ID program of somebody else.
fn set_user_id(program: &Path) {
    std::os::unix::fs::chown(program, Some(1), Some(1)).unwrap();
    set_mode(program, 0o4755);
}

#[test]
fn a_static_program_that_is_started_within_a_run_is_named_once_and_runs_plain() {
    let Some(bench) = Bench::new("child-plain") else { return };
    let Some(program) = bench.static_program() else { return };
    for how in WAYS {
        let run = bench.start(&[], how, &program);
        let words = if how.starts_with("execl") { "1 2 3 4 5 6 7 8 ran\n" } else { "1 2 ran\n" };
        assert_eq!((run.code, run.out.as_str()), (5, words), "{how}: {run:?}");
        run.complains(5, &["runs unmanaged: it is statically linked", "way out: use a dynamically linked build"]);
        assert_eq!(run.err.matches("memvisor: ").count(), 1, "{how}: {run:?}");
    }
}

#[test]
fn a_static_program_that_is_started_within_a_run_does_not_run_with_strict() {
    let Some(bench) = Bench::new("child-strict") else { return };
    let Some(program) = bench.static_program() else { return };
    for how in WAYS {
        let run = bench.start(&["--strict"], how, &program);
        let told = if how.ends_with("fork") { String::new() } else { format!("{how}: EPERM\n") };
        assert_eq!((run.code, run.out), (9, told), "{how}: {}", run.err);
        assert_eq!(
            run.err.matches("does not run (--strict): it is statically linked").count(),
            1,
            "{how}: {}",
            run.err
        );
    }
}

#[test]
fn a_program_is_found_in_path_as_the_c_library_finds_it() {
    let Some(bench) = Bench::new("child-path") else { return };
    let Some(program) = bench.static_program() else { return };
    // Passed over: no such directory, a directory of that name, a file that may not be executed.
    let (directory, plain_file) = (bench.directory.file("a"), bench.directory.file("b"));
    std::fs::create_dir_all(directory.join("static")).unwrap();
    std::fs::create_dir_all(&plain_file).unwrap();
    std::fs::write(plain_file.join("static"), "text").unwrap();
    let home = program.parent().unwrap();
    let path = format!("/no/such:{}:{}:{}", directory.display(), plain_file.display(), home.display());
    for how in ["execvp", "execvpe", "execlp", "fork", "posix_spawnp"] {
        let mut command = memvisor(["run", "--dram", "64M", "--quiet", "--strict", "--"]);
        let run = said(command.arg(&bench.starter).args([how, "static"]).env("PATH", &path));
        run.complains(9, &[&format!("{} does not run (--strict)", program.display())]);
    }
    std::fs::remove_dir_all(directory).unwrap();
    std::fs::remove_dir_all(plain_file).unwrap();
}

#[test]
fn what_may_not_be_executed_is_left_to_the_kernel() {
    let Some(bench) = Bench::new("child-no-permission") else { return };
    let Some(program) = bench.static_program() else { return };
    set_mode(&program, 0o644);
    let run = bench.start(&["--strict"], "execv", &program);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (9, "execv: EACCES\n", ""));
}

#[test]
fn a_script_that_is_started_within_a_run_is_what_its_interpreter_is() {
    let Some(bench) = Bench::new("child-script") else { return };
    let Some(program) = bench.static_program() else { return };
    let script = bench.directory.script("script", &format!("#!{}\n", program.display()));
    bench.start(&["--strict"], "execv", &script).complains(9, &["script does not run (--strict): it is statically"]);
    let managed = bench.directory.script("managed", "#!/bin/sh\necho ran\n");
    let run = bench.start(&["--strict"], "execv", &managed);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "ran\n", ""));
}

#[test]
fn a_program_that_gains_privileges_within_a_run_is_named_and_does_not_run_with_strict() {
    let Some(bench) = Bench::new("child-privileged") else { return };
    if !is_root() {
        return;
    }
    let Some(program) = built(&bench.directory, "privileged", PRINTS_ITS_WORDS, &[]) else { return };
    set_user_id(&program);
    let run = bench.start(&[], "vfork", &program);
    assert_eq!((run.code, run.out.as_str()), (5, "1 2 ran\n"), "{run:?}");
    assert_eq!(run.err.matches("privileged runs unmanaged: it is set-user-ID").count(), 1, "{run:?}");
    let run = bench.start(&["--strict"], "vfork", &program);
    run.complains(9, &["privileged does not run (--strict): it is set-user-ID"]);
    assert_eq!(run.out, "");
}

#[test]
fn who_takes_the_space_out_of_the_environment_starts_a_plain_program() {
    let Some(bench) = Bench::new("child-plainly") else { return };
    let Some(program) = bench.static_program() else { return };
    let mut command = memvisor(["run", "--dram", "64M", "--quiet", "--strict", "--", env!("CARGO_BIN_EXE_memvisor")]);
    let run = said(command.args(["run", "--unmanaged", "--quiet", "--"]).arg(&program));
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (5, "ran\n", ""));
}

#[test]
fn another_user_cannot_join_is_told_so_and_does_not_run_with_strict() {
    let Some(bench) = Bench::new("child-user") else { return };
    if !is_root() {
        return;
    }
    set_mode(&bench.directory.0, 0o755);
    let Some(program) = built(&bench.directory, "dynamic", PRINTS_ITS_WORDS, &[]) else { return };
    const REASON: &str = "(EACCES (13)): only who has the user and the capabilities of `memvisor run` can join it";
    // The library may lie where that user cannot look; then the loader has its own say.
    let run = bench.start(&[], "as-nobody", &program);
    if run.err.contains("cannot be preloaded") {
        eprintln!("CANNOT RUN: the library lies where nobody may read: {}", run.err);
        return;
    }
    assert_eq!((run.code, run.out.as_str()), (5, "1 2 ran\n"), "{run:?}");
    run.complains(5, &[REASON, "it runs unmanaged, in plain memory"]);
    assert_eq!(run.err.matches("memvisor: ").count(), 1, "{run:?}");
    let run = bench.start(&["--strict"], "as-nobody", &program);
    run.complains(126, &[REASON, "it does not run (--strict)"]);
    assert_eq!(run.out, "");
}

#[test]
fn without_userfaultfd_the_program_of_the_run_is_named_and_runs_plain_or_not_at_all_with_strict() {
    let Some(bench) = Bench::new("no-userfaultfd") else { return };
    // EPERM: forbidden by seccomp. ENOSYS: what a kernel without it answers.
    for answer in ["1", "38"] {
        let start = |flags: &[&str]| {
            let mut command = Command::new(&bench.starter);
            command
                .args(["forbid", answer])
                .arg(env!("CARGO_BIN_EXE_memvisor"))
                .args(["run", "--quiet", "--node", "none"]);
            said(command.args(flags).args(["--dram", "64M", "--", "echo", "hello"]))
        };
        let run = start(&[]);
        assert_eq!((run.code, run.out.as_str()), (0, "hello\n"), "{run:?}");
        run.complains(0, &["echo runs unmanaged: the kernel gives us no userfaultfd", "way out: as root: `chmod"]);
        assert_eq!(run.err.matches("memvisor: ").count(), 1, "{run:?}");
        let run = start(&["--strict"]);
        run.complains(125, &["cannot be managed: the kernel gives us no userfaultfd", "leave --strict out"]);
        assert_eq!(run.out, "");
    }
}

#[test]
fn without_userfaultfd_a_program_within_a_run_is_named_and_runs_plain_or_not_at_all_with_strict() {
    let Some(bench) = Bench::new("child-no-userfaultfd") else { return };
    for answer in ["1", "38"] {
        let start = |flags: &[&str]| {
            let mut command = memvisor(["run", "--dram", "64M", "--quiet"]);
            said(command.args(flags).arg("--").arg(&bench.starter).args(["forbid", answer, "echo", "hello"]))
        };
        let run = start(&[]);
        assert_eq!((run.code, run.out.as_str()), (0, "hello\n"), "{run:?}");
        run.complains(0, &["the kernel does not let it be managed: ", "it runs unmanaged, in plain memory"]);
        assert_eq!(run.err.matches("memvisor: ").count(), 1, "{run:?}");
        let run = start(&["--strict"]);
        run.complains(126, &["the kernel does not let it be managed: ", "it does not run (--strict)"]);
        assert_eq!(run.out, "");
    }
}

#[test]
fn a_program_that_keeps_capabilities_over_a_change_of_user_is_told_why_it_ends() {
    if shim().is_none() || !have("setpriv") || !is_root() {
        return;
    }
    const WORDS: [&str; 6] = ["--", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "true"];
    assert_eq!(said(plain([] as [&str; 0]).args(WORDS)).code, 0);
    let run = said(memvisor(["run", "--dram", "64M", "--quiet"]).args(WORDS));
    run.complains(134, &["the C library is about to end it (SIGABRT)", "setpriv … memvisor run"]);
    assert_eq!(run.err.matches("memvisor: ").count(), 1, "{run:?}");
}
