//! Programs that cannot be managed: it is said once, and they run plain, or not at all with `--strict`.

mod common;

use common::{Directory, have, memvisor, said, set_mode, shim};
use std::path::PathBuf;
use std::process::Command;

/// A program that is linked statically and prints its name.
fn static_program(directory: &Directory) -> Option<PathBuf> {
    if !have("gcc") {
        return None;
    }
    let (source, program) = (directory.file("hello.c"), directory.file("hello"));
    std::fs::write(&source, "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 5; }\n").unwrap();
    let built = Command::new("gcc").arg("-static").arg("-o").arg(&program).arg(&source).output().unwrap();
    if !built.status.success() {
        eprintln!("NOT RUN: gcc links nothing statically here: {}", String::from_utf8_lossy(&built.stderr));
        return None;
    }
    Some(program)
}

#[test]
fn a_static_program_is_named_and_runs_plain() {
    let directory = Directory::new("static");
    let Some(program) = static_program(&directory) else { return };
    let run = said(memvisor(["run", "--dram", "64M", "--quiet", "--"]).arg(&program));
    assert_eq!((run.code, run.out.as_str()), (5, "hello\n"));
    assert_eq!(run.err.matches("memvisor: ").count(), 1, "it is said once:\n{}", run.err);
    run.complains(5, &["hello runs unmanaged: it is statically linked", "way out: use a dynamically linked build"]);
}

#[test]
fn a_static_program_does_not_run_with_strict() {
    let directory = Directory::new("strict");
    let Some(program) = static_program(&directory) else { return };
    let run = said(memvisor(["run", "--dram", "64M", "--strict", "--"]).arg(&program));
    run.complains(125, &["cannot be managed: it is statically linked", "leave --strict out"]);
    assert_eq!(run.out, "");
}

#[test]
fn a_script_is_what_its_interpreter_is() {
    let directory = Directory::new("script");
    let Some(program) = static_program(&directory) else { return };
    let script = directory.script("script", &format!("#!{}\n", program.display()));
    said(memvisor(["run", "--dram", "64M", "--strict", "--"]).arg(&script)).complains(125, &["statically linked"]);
}

#[test]
fn a_program_that_gains_privileges_is_named_and_not_run_with_strict() {
    let directory = Directory::new("privileged");
    let program = directory.file("true");
    std::fs::copy("/bin/true", &program).unwrap();
    // A set-user-ID program of somebody else. Only root can make one.
    if std::os::unix::fs::chown(&program, Some(1), Some(1)).is_err() {
        eprintln!("NOT RUN: this test needs root");
        return;
    }
    set_mode(&program, 0o4755);
    said(memvisor(["run", "--strict", "--"]).arg(&program))
        .complains(125, &["it is set-user-ID", "way out: run it as"]);
}

#[test]
fn a_library_that_is_not_there_is_an_error_and_not_a_plain_run() {
    if shim().is_none() {
        return;
    }
    let mut command = memvisor(["run", "--dram", "64M", "--", "echo", "hello"]);
    let run = said(command.env("MEMVISOR_SHIM", "/no/such/library.so"));
    run.complains(125, &["MEMVISOR_SHIM names /no/such/library.so", "way out: unset MEMVISOR_SHIM"]);
    assert_eq!(run.out, "");
}

#[test]
fn a_bad_store_is_refused_before_the_program_runs() {
    if shim().is_none() {
        return;
    }
    let directory = Directory::new("bad-store");
    let precious = directory.file("precious");
    std::fs::write(&precious, "do not overwrite").unwrap();
    let witness = directory.file("witness");
    for (store, size, told) in [
        (precious.as_path(), "1G", "that memvisor did not write"),
        ("/no/such/directory/store".as_ref(), "1G", "no directory for the store"),
        ("/dev/null".as_ref(), "1G", "is a device"),
        (directory.0.as_path(), "1K", "--store-size 1 KiB is too small"),
        (directory.0.as_path(), "4T", "free, which is less than 4 TiB"),
    ] {
        let mut command = memvisor(["run", "--dram", "64M", "--store-size", size, "--store"]);
        let run = said(command.arg(store).args(["--", "touch"]).arg(&witness));
        run.complains(125, &[told, "way out: "]);
    }
    assert!(!witness.exists());
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "do not overwrite");
}
