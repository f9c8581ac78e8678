//! Signals reach the program once, whoever sends them.

mod common;

use common::{Talking, have, plain, plain_shell};
use std::io::Write;
use std::process::{Command, Stdio};

/// Ends with 40 plus the number of signals named `$1` that came before a USR1, or says that it waits.
const COUNTER: &str = r#"
n=0
trap 'n=$((n+1)); echo got $n' "$1"
trap 'echo total $n; exit $((40+n))' USR1
echo ready
while :; do read -r line && kill -USR1 $PPID; done
"#;

fn counter(signal: &str) -> Command {
    let mut command = plain(["--quiet", "--", "sh", "-c", COUNTER, "counter", signal]);
    command.stdin(Stdio::piped());
    command
}

#[test]
fn a_signal_to_memvisor_reaches_the_program_once() {
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        let mut talking = Talking::start(&mut counter(signal));
        talking.until("ready");
        talking.signal(signal);
        talking.until("got 1");
        talking.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        talking.until("total 1");
        assert_eq!(talking.code(), 41, "{signal}");
    }
}

#[test]
fn a_program_that_a_passed_signal_ended_says_so_in_the_exit_code() {
    let mut talking = Talking::start(plain_shell("echo ready; exec sleep 600").stderr(Stdio::null()));
    talking.until("ready");
    talking.signal("TERM");
    assert_eq!(talking.code(), 143);
}

#[test]
fn an_interrupt_from_the_terminal_reaches_the_program_once() {
    if !have("script") {
        return;
    }
    let inner = counter("INT");
    let words: Vec<String> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''")))
        .collect();
    let mut terminal = Command::new("script");
    // No shell stays between: one that did would get the interrupt too and end by it.
    terminal.args(["-qec", &format!("exec {}", words.join(" ")), "/dev/null"]).stdin(Stdio::piped());
    let mut talking = Talking::start(&mut terminal);
    talking.until("ready");
    talking.child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    talking.until("got 1");
    // Had memvisor passed the interrupt on, it would have done so before it hears of this line and the signal that
    // the program then sends through it.
    talking.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    talking.until("total 1");
    assert_eq!(talking.code(), 41);
}

#[test]
fn a_signal_that_was_ignored_before_stays_ignored() {
    let script = format!(
        "trap '' HUP; exec {} run --unmanaged --quiet -- sh -c 'kill -HUP $PPID; kill -HUP $$; echo alive'",
        env!("CARGO_BIN_EXE_memvisor")
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "alive\n");
    assert!(output.status.success());
}

/// Runs `script` with both its outputs and memvisor's on one pipe.
fn in_one_stream(script: &str) -> Talking {
    let wrapped = format!("exec {} run --unmanaged -- sh -c \"$0\" 2>&1", env!("CARGO_BIN_EXE_memvisor"));
    Talking::start(Command::new("sh").args(["-c", &wrapped, script]))
}

#[test]
fn survivors_get_the_signal_when_the_program_has_ended() {
    let mut talking = in_one_stream("sleep 600 & exit 9");
    talking.until("1 of its processes go on");
    talking.signal("TERM");
    assert_eq!(talking.code(), 9);
}

#[test]
fn a_second_signal_makes_memvisor_leave_survivors_that_do_not_end() {
    let mut talking = in_one_stream("trap '' TERM INT; sleep 600 & echo pid $!; exit 9");
    let pid = talking.until("pid ").trim().trim_start_matches("pid ").to_owned();
    talking.until("1 of its processes go on");
    talking.signal("TERM");
    talking.signal("INT");
    talking.until("go on by themselves");
    assert_eq!(talking.child.wait().unwrap().code(), Some(9));
    common::kill("KILL", &pid);
}
