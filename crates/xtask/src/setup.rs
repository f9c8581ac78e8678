//! `cargo x setup`: the packages that tests and benches use, and a kernel for guests.
//!
//! As root, installs what is missing and nothing else; otherwise prints the one line that does. No service is left
//! running: a policy file forbids starting any, and one that started all the same is ended by its own id.

use crate::command::{Failure, output, run};
use crate::packages::{self, Package};
use crate::tree::Tree;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

/// What Debian asks before it starts a service; 101 says no.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Services that come with the packages.
const SERVICES: [&str; 4] = ["redis-server", "mariadbd", "mysqld", "mariadbd-safe"];

/// The kernel for guests: a package that depends on the newest kernel of its kind.
const KERNEL: &str = "linux-image-cloud-amd64";

/// Installs what is missing, or prints how; never fails because something stays missing, as tests say that themselves.
pub fn all(tree: &Tree) -> Result<(), Failure> {
    let missing = packages::missing();
    if missing.is_empty() {
        println!("setup: all packages are there");
    } else {
        install(&missing)?;
    }
    match kernel(tree) {
        Ok(()) => {}
        Err(failure) => println!("CANNOT SET UP a kernel for guests: {}", failure.message),
    }
    Ok(())
}

fn install(missing: &[&Package]) -> Result<(), Failure> {
    for package in missing {
        println!("setup: {} is missing ({})", package.name, package.used_by);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if !Path::new("/usr/bin/apt-get").exists() {
        println!("setup: this is no Debian; install what corresponds to: {}", names.join(" "));
        return Ok(());
    }
    if !is_root() {
        println!(
            "setup: run this once:\n  sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
            names.join(" ")
        );
        return Ok(());
    }
    let _policy = NoServices::policy();
    let before = services();
    run(&mut apt(["update", "-q"]))?;
    let together = run(apt(["install", "-yq", "--no-install-recommends"]).args(&names));
    if together.is_err() {
        // One package that this release does not have must not keep the others away.
        for name in &names {
            if let Err(failure) = run(apt(["install", "-yq", "--no-install-recommends"]).arg(name)) {
                println!("CANNOT INSTALL {name}: {}", failure.message);
            }
        }
    }
    for id in services().into_iter().filter(|id| !before.contains(id)) {
        println!("setup: a service was started by its package; ending process {id}");
        let _ = run(Command::new("kill").arg(id.to_string()));
    }
    Ok(())
}

/// Fetches Debian's kernel for virtual machines; the real programs unpack it, nobody installs it.
fn kernel(tree: &Tree) -> Result<(), Failure> {
    let place = tree.target().join("guest");
    fs::create_dir_all(&place).map_err(|error| Failure::new(format!("cannot make {}: {error}", place.display())))?;
    if has_kernel(&place) {
        println!("setup: a kernel for guests is in {}", place.display());
        return Ok(());
    }
    if std::env::consts::ARCH != "x86_64" {
        return Err(Failure::new("guests are tested on x86-64 only"));
    }
    let depends = output(Command::new("apt-cache").args(["depends", KERNEL]))?;
    let real = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: ").filter(|name| name.starts_with("linux-image-")))
        .ok_or_else(|| Failure::new(format!("the package index does not know {KERNEL}; run apt-get update")))?;
    // The user that apt downloads as may not write here; the package is checked all the same.
    let words = ["download", "-q", "-o", "APT::Sandbox::User=root", real];
    run(Command::new("apt-get").args(words).current_dir(&place))
}

/// Whether a kernel was fetched, or fetched and unpacked.
fn has_kernel(place: &Path) -> bool {
    let fetched = |name: &str| name.starts_with("linux-image-") && name.ends_with(".deb");
    let files = fs::read_dir(place).into_iter().flatten().flatten();
    place.join("kernel/complete").exists()
        || files.map(|file| file.file_name()).any(|name| fetched(&name.to_string_lossy()))
}

fn apt<const N: usize>(words: [&str; N]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(words).env("DEBIAN_FRONTEND", "noninteractive").env("NEEDRESTART_MODE", "l");
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Ids of processes that are one of the services.
fn services() -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|id| {
            let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            // Packages start daemons, which belong to the first process; tests of others do not.
            SERVICES.contains(&name.trim()) && parent(*id) == Some(1)
        })
        .collect()
}

fn parent(id: u32) -> Option<u32> {
    let line = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    line.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The policy that forbids services, if it was us who made it.
struct NoServices {
    made: bool,
}

impl NoServices {
    /// Makes the policy unless there is one already.
    fn policy() -> Self {
        let path = Path::new(POLICY);
        let made = !path.exists()
            && fs::write(path, "#!/bin/sh\nexit 101\n")
                .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
                .inspect_err(|error| println!("setup: cannot write {}: {error}", path.display()))
                .is_ok();
        Self { made }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.made {
            let _ = fs::remove_file(POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_installed_without_questions() {
        let command = apt(["install", "-y"]);
        assert_eq!(crate::command::shown(&command), "apt-get install -y");
        assert!(
            command
                .get_envs()
                .any(|(name, value)| name == "DEBIAN_FRONTEND" && value == Some("noninteractive".as_ref()))
        );
    }

    #[test]
    fn the_parent_of_this_process_is_known() {
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
    }
}
