//! How a run ends: the program's own way, or 125, 126, 127 when there was none.

mod common;

use common::{Directory, memvisor, plain, plain_shell, said, set_mode};

#[test]
fn the_exit_code_is_the_programs_own() {
    for code in [0, 1, 7, 125, 255] {
        assert_eq!(said(&mut plain_shell(&format!("exit {code}"))).code, code);
    }
}

#[test]
fn a_program_that_a_signal_ended_gives_128_and_the_signal() {
    assert_eq!(said(&mut plain_shell("kill -KILL $$")).code, 137);
    assert_eq!(said(&mut plain_shell("kill -TERM $$")).code, 143);
}

#[test]
fn a_missing_program_is_127_with_the_way_out() {
    said(&mut plain(["--", "no-such-program"])).complains(127, &["`no-such-program` in PATH", "way out: "]);
    said(&mut plain(["--", "/no/such/program"])).complains(127, &["there is no program /no/such/program", "way out: "]);
    said(&mut plain(["--", ""])).complains(127, &["the name of the program is empty"]);
}

#[test]
fn what_cannot_be_run_is_126_with_the_way_out() {
    let directory = Directory::new("cannot-run");
    said(&mut plain(["--", "/"])).complains(126, &["/ is a directory", "way out: "]);
    let text = directory.script("text", "echo hello\n");
    set_mode(&text, 0o644);
    said(plain(["--"]).arg(&text)).complains(126, &["may not be executed", "chmod +x"]);
    let lost = directory.script("lost", "#!/no/such/interpreter\n");
    said(plain(["--"]).arg(&lost)).complains(126, &["asks for the interpreter /no/such/interpreter", "way out: "]);
    let headless = directory.script("headless", "echo hello\n");
    said(plain(["--"]).arg(&headless)).complains(126, &["cannot start", "memvisor run -- sh"]);
}

#[test]
fn a_failure_of_memvisor_is_125_within_run_and_2_elsewhere() {
    said(&mut memvisor(["run", "--dram", "lots", "--", "true"]))
        .complains(125, &["`lots` does not start with a number"]);
    said(&mut memvisor(["run"])).complains(125, &["CMD"]);
    said(&mut memvisor(["doctor", "--dram", "1G"])).complains(2, &["--dram"]);
    said(&mut memvisor(["dance"])).complains(2, &["dance"]);
}

#[test]
fn every_process_of_the_tree_has_ended_when_the_run_has() {
    let directory = Directory::new("tree");
    for (how, start) in [("orphan", ""), ("daemon", "setsid ")] {
        let left = directory.file(how);
        let script = format!("{start}sh -c 'sleep 0.2; echo late > {}' & exit 3", left.display());
        let said = said(&mut plain_shell(&script));
        assert_eq!(said.code, 3, "the code is the program's, not that of who came after");
        assert_eq!(std::fs::read_to_string(&left).unwrap_or_default(), "late\n", "{how}");
        assert!(said.err.contains("1 of its processes go on"), "{}", said.err);
    }
}

#[test]
fn children_that_the_command_had_before_the_run_are_not_waited_for() {
    let script = format!("sleep 30 & echo $!; exec {} run --unmanaged -- true", env!("CARGO_BIN_EXE_memvisor"));
    let mut shell = std::process::Command::new("sh");
    let mut talking = common::Talking::start(shell.args(["-c", &script]));
    let sleeper = talking.until("").trim().to_owned();
    let code = talking.child.wait().unwrap().code();
    // Had it been waited for, this would be reached after half a minute, and there would be none to kill.
    common::kill("KILL", &sleeper);
    assert_eq!(code, Some(0));
}
