//! The service manager: its unit, and what it is told.

mod common;

use common::{NodeProcess, until};
use memvisor_sys::process;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SIGHUP: i32 = 1;

#[test]
fn the_process_of_a_node() {
    common::be_the_node();
}

/// The command that is a node, as a manager at `path` starts it that ends it when it hears nothing for two seconds.
fn managed(node: &NodeProcess, path: &Path) -> Command {
    let plain = node.command();
    let mut command = Command::new("sh");
    command.args(["-c", "export WATCHDOG_PID=$$; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "2000000").stdout(Stdio::null());
    command
}

#[test]
fn the_service_manager_is_told_of_start_life_reload_and_end() {
    let mut node = NodeProcess::start("1GiB", "");
    node.kill();
    let path = node.scratch.0.join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_nonblocking(true).unwrap();
    let mut heard = String::new();
    let mut hears = |what: &str| {
        until(&format!("the manager hears {what}"), || {
            let mut buffer = [0; 4096];
            while let Ok(length) = manager.recv(&mut buffer) {
                heard += &String::from_utf8_lossy(&buffer[..length]);
                heard.push('\n');
            }
            // What came before is no answer to what comes after.
            match heard.find(what) {
                Some(at) => {
                    heard.drain(..at + what.len());
                    true
                }
                None => false,
            }
        });
    };
    let mut child = managed(&node, &path).spawn().unwrap();
    hears("READY=1");
    hears("WATCHDOG=1");
    hears("WATCHDOG=1");
    process::kill(child.id(), SIGHUP).unwrap();
    hears("RELOADING=1");
    hears("MONOTONIC_USEC=");
    hears("READY=1");
    process::kill(child.id(), process::SIGTERM).unwrap();
    hears("STOPPING=1");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_watchdog_is_told_more_often_than_it_asks_however_seldom_the_node_plans() {
    let mut node = NodeProcess::start("1GiB", "");
    node.kill();
    node.configure_with("1GiB", "60s", "");
    let path = node.scratch.0.join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(50))).unwrap();
    let mut child = managed(&node, &path).spawn().unwrap();
    let told = (0..3).map_while(|_| {
        let mut buffer = [0; 4096];
        // Within one period of plans, of which none is over then.
        let length = manager.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    });
    let told: Vec<String> = told.collect();
    process::kill(child.id(), process::SIGTERM).unwrap();
    child.wait().unwrap();
    assert_eq!(told.iter().filter(|said| said.contains("WATCHDOG=1")).count(), 2, "{told:?}");
}

#[test]
fn the_service_manager_finds_nothing_wrong_with_the_unit() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/memvisor-node.service");
    let text = std::fs::read_to_string(unit).unwrap();
    assert!(text.contains("Type=notify") && text.contains("WatchdogSec="));
    // The program and its manual are not installed here; everything else is as it is shipped.
    let here: String = text
        .lines()
        .filter(|line| !line.starts_with("Documentation="))
        .map(|line| line.replace("/usr/bin/memvisor", "/bin/true") + "\n")
        .collect();
    let directory = std::env::temp_dir().join(format!("memvisor-unit-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let copy = directory.join("memvisor-node.service");
    std::fs::write(&copy, here).unwrap();
    let verdict = Command::new("systemd-analyze").arg("verify").arg(&copy).output();
    std::fs::remove_dir_all(&directory).unwrap();
    match verdict {
        Err(_) => println!("CANNOT RUN: systemd-analyze is not there (Debian package systemd)"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.trim().is_empty(), "{said}");
        }
    }
}
