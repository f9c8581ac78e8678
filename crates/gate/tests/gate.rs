//! The gate in real programs, with a script in memvisor's place that says how it was called.

use memvisor_proto::rules::{Managed, RULES_FILE, Rule, Rules};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory with the gate, a `memvisor` that prints its arguments, and a node's rules.
struct Scene(PathBuf);

impl Scene {
    fn new(name: &str, rules: Vec<Rule>) -> Self {
        let place = std::env::temp_dir().join(format!("memvisor-gate-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        std::fs::copy(library(), place.join("libmemvisor_gate.so")).unwrap();
        let script = place.join("memvisor");
        std::fs::write(&script, "#!/bin/sh\necho \"memvisor $*\"\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(place.join(RULES_FILE), Rules(rules).to_text()).unwrap();
        Self(place)
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("LD_PRELOAD", self.0.join("libmemvisor_gate.so")).env("MEMVISOR_NODE", &self.0);
        command.env_remove("MEMVISOR_SPACE").env_remove("MEMVISOR_GATE").output().unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The library of this build.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let place = test.ancestors().nth(2).unwrap();
    let path = place.join("libmemvisor_gate.so");
    assert!(path.is_file(), "{} is not built: cargo build --release", path.display());
    path
}

fn rule(exe: &str) -> Rule {
    Rule {
        exe: Some(exe.into()),
        uid: None,
        cgroup: None,
        name: None,
        managed: Managed::Yes,
        set_name: None,
        dram_bytes: None,
        reservation_bytes: None,
        limit_bytes: None,
        shares: None,
        class: None,
        store: None,
    }
}

fn echo() -> String {
    let found = ["/usr/bin/echo", "/bin/echo"].into_iter().find(|path| Path::new(path).is_file()).unwrap();
    std::fs::canonicalize(found).unwrap().to_string_lossy().into_owned()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_program_that_a_rule_names_becomes_a_run_with_what_the_rule_says() {
    let named = Rule {
        set_name: Some("web".into()),
        reservation_bytes: Some(1 << 20),
        shares: Some(7),
        class: Some("latency".into()),
        ..rule(&echo())
    };
    let scene = Scene::new("named", vec![named]);
    let said = out(&scene.run(&[&echo(), "a b", "-c"]));
    let node = scene.0.display();
    let options = "--name web --reservation 1048576 --shares 7 --class latency";
    assert_eq!(said, format!("memvisor run --quiet --node {node} {options} -- {} a b -c\n", echo()));
}

#[test]
fn a_program_that_no_rule_names_runs_as_it_is() {
    let scene = Scene::new("unnamed", vec![rule("/no/such/program")]);
    assert_eq!(out(&scene.run(&[&echo(), "hello"])), "hello\n");
}

#[test]
fn the_first_rule_counts_and_may_say_no() {
    let scene = Scene::new("no", vec![Rule { managed: Managed::No, ..rule(&echo()) }, rule("*")]);
    assert_eq!(out(&scene.run(&[&echo(), "hello"])), "hello\n");
}

#[test]
fn without_rules_or_with_rules_that_cannot_be_read_everything_runs_as_it_is() {
    let scene = Scene::new("broken", vec![]);
    std::fs::write(scene.0.join(RULES_FILE), "no rules at all\n").unwrap();
    assert_eq!(out(&scene.run(&[&echo(), "hello"])), "hello\n");
    std::fs::remove_file(scene.0.join(RULES_FILE)).unwrap();
    assert_eq!(out(&scene.run(&[&echo(), "hello"])), "hello\n");
}

#[test]
fn a_program_in_a_space_is_not_asked_again() {
    let scene = Scene::new("space", vec![rule("*")]);
    let mut command = Command::new(echo());
    command.arg("hello").env("LD_PRELOAD", scene.0.join("libmemvisor_gate.so")).env("MEMVISOR_NODE", &scene.0);
    assert_eq!(out(&command.env("MEMVISOR_SPACE", "1:2:-:3").output().unwrap()), "hello\n");
}

#[test]
fn a_named_program_runs_all_the_same_when_memvisor_is_not_beside_the_gate() {
    let scene = Scene::new("alone", vec![rule("*")]);
    std::fs::remove_file(scene.0.join("memvisor")).unwrap();
    let output = scene.run(&[&echo(), "hello"]);
    assert_eq!(out(&output), "hello\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("runs unmanaged, though a rule names it"));
}
