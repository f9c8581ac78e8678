//! `spawns BYTES`: starts itself again by fork and exec, by `posix_spawn` and by `vfork`, all at once; each child fills and verifies
//! memory and prints which space it belongs to.

use super::{number, say, tried};
use crate::os::{self, Mapping};
use crate::pattern::Pattern;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Runs it.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let bytes = number(arguments, 0, "BYTES")?;
    let this = std::env::current_exe().map_err(tried("finding this program"))?;
    let path = CString::new(this.as_os_str().as_bytes()).map_err(|_| "a path with a zero byte")?;
    let share = (bytes / 4).to_string();
    let share_text = CString::new(share.as_str()).expect("digits hold no zero byte");
    let mut mine = Mapping::new(bytes as usize / 4).map_err(tried("mmap"))?;
    fill(&mut mine, 0);
    let arguments = |way: &'static CStr| [path.as_c_str(), c"spawned", &share_text, way];
    let mut pids = Vec::new();
    for (way, text) in [(c"posix_spawn", "posix_spawn"), (c"vfork", "vfork")] {
        let pid = match text {
            "vfork" => os::vfork_exec(&path, &arguments(way)),
            _ => os::posix_spawn(&path, &arguments(way)),
        };
        pids.push((text, pid.map_err(tried(text))?));
    }
    let pid = os::fork(|| {
        eprintln!("{}", Command::new(&this).args(["spawned", &share, "fork"]).exec());
        127
    });
    pids.push(("fork", pid.map_err(tried("fork"))?));
    for (way, pid) in pids {
        let status = os::wait(pid).map_err(tried("waitpid"))?;
        if !status.success() {
            return Err(format!("the child of {way} ended with {status}"));
        }
    }
    verify(&mine, 0)?;
    say(&format!("member parent {}", space()));
    say("all children verified");
    Ok(())
}

/// A child of it: `spawned BYTES WAY`.
pub fn child(arguments: &[String]) -> Result<(), String> {
    let bytes = number(arguments, 0, "BYTES")?;
    let way = arguments.get(1).map_or("?", String::as_str);
    let mut memory = Mapping::new(bytes as usize).map_err(tried("mmap"))?;
    for version in 1..4 {
        fill(&mut memory, version);
        verify(&memory, version)?;
    }
    say(&format!("member {way} {}", space()));
    Ok(())
}

fn fill(memory: &mut Mapping, version: u64) {
    for page in 0..memory.pages() {
        Pattern::new(page as u64, version).fill(memory.page_mut(page));
    }
}

fn verify(memory: &Mapping, version: u64) -> Result<(), String> {
    for page in 0..memory.pages() {
        let found = Pattern::new(page as u64, version).check(memory.page(page));
        found.map_err(|mismatch| format!("page {page}: {mismatch}"))?;
    }
    Ok(())
}

/// The inode of the space file that this process maps, or `none`.
fn space() -> String {
    crate::proc::maps_space(std::process::id() as i32).map_or_else(|| "none".into(), |inode| inode.to_string())
}
