//! The unit of the service manager.

use std::path::Path;
use std::process::Command;

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
