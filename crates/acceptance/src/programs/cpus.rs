//! `cpus BYTES ROUNDS`: faults as hard as it can, and then looks at once which CPUs it may run on: itself, in a new thread
//! and in children by every way there is. They must be those of the start, or those that it asked for itself.
//!
//! Pages are verified and rewritten on the way.

use super::{number, say, tried};
use crate::os::{self, Mapping};
use crate::pattern::{Pattern, scattered};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::{env, io, thread};

/// Touches before each look: enough that the pager knows who faults.
const TOUCHES: usize = 1500;

/// Asks which CPUs there are, in its own way.
type Look = fn(&Ways) -> Result<Vec<usize>, String>;

/// What the ways need.
struct Ways {
    path: CString,
    cpus: Vec<usize>,
}

const WAYS: [(&str, Look); 6] = [
    ("sched_getaffinity", |_| os::allowed().map_err(tried("sched_getaffinity"))),
    ("pthread_getaffinity_np", |_| os::allowed_to_thread().map_err(tried("pthread_getaffinity_np"))),
    ("a new thread", |_| {
        let thread = thread::Builder::new().spawn(os::allowed).map_err(tried("starting a thread"))?;
        thread.join().map_err(|_| "the thread panicked")?.map_err(tried("sched_getaffinity"))
    }),
    ("a child of fork", |ways| {
        let cpus = ways.cpus.clone();
        ended(os::fork(move || u8::from(os::allowed().ok() != Some(cpus))), ways)
    }),
    ("a child of posix_spawn", |ways| ways.child(os::posix_spawn)),
    ("a child of vfork", |ways| ways.child(os::vfork_exec)),
];

impl Ways {
    fn child(&self, start: fn(&CStr, &[&CStr]) -> io::Result<i32>) -> Result<Vec<usize>, String> {
        let count = CString::new(self.cpus.len().to_string()).expect("digits hold no zero byte");
        ended(start(&self.path, &[&self.path, c"counted", &count]), self)
    }
}

/// The CPUs of the start when the child found them, none when not.
fn ended(pid: io::Result<i32>, ways: &Ways) -> Result<Vec<usize>, String> {
    let status = os::wait(pid.map_err(tried("starting a child"))?).map_err(tried("waitpid"))?;
    Ok(if status.success() { ways.cpus.clone() } else { Vec::new() })
}

/// Runs it.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let bytes = number(arguments, 0, "BYTES")? as usize;
    let rounds = number(arguments, 1, "ROUNDS")?;
    let this = env::current_exe().map_err(tried("finding this program"))?;
    let path = CString::new(this.as_os_str().as_bytes()).map_err(|_| "a path with a zero byte")?;
    let ways = Ways { path, cpus: os::allowed().map_err(tried("sched_getaffinity"))? };
    let mut memory = Mapping::new(bytes).map_err(tried("mmap"))?;
    for page in 0..memory.pages() {
        Pattern::new(page as u64, 0).fill(memory.page_mut(page));
    }
    for round in 0..rounds {
        for (at, (name, look)) in WAYS.iter().enumerate() {
            touch(&mut memory, round * WAYS.len() as u64 + at as u64)?;
            let found = look(&ways)?;
            if found != ways.cpus {
                return Err(format!("{name} may run on {found:?}, must on {:?} (round {round})", ways.cpus));
            }
        }
        own_choice(&mut memory, &ways.cpus, round)?;
    }
    say(&format!("{} CPUs seen by all", ways.cpus.len()));
    Ok(())
}

/// What the program asks for itself stays so, and can be taken back.
fn own_choice(memory: &mut Mapping, cpus: &[usize], round: u64) -> Result<(), String> {
    let chosen = [cpus[round as usize % cpus.len()]];
    for choice in [&chosen[..], cpus] {
        touch(memory, round)?;
        os::allow(choice).map_err(tried("sched_setaffinity"))?;
        touch(memory, round + 1)?;
        let found = os::allowed().map_err(tried("sched_getaffinity"))?;
        if found != choice {
            return Err(format!("asked for CPUs {choice:?}, has {found:?} (round {round})"));
        }
    }
    Ok(())
}

/// A program that counts its CPUs: `counted CPUS`.
pub fn count(arguments: &[String]) -> Result<(), String> {
    let expected = number(arguments, 0, "CPUS")?;
    let found = os::allowed().map_err(tried("sched_getaffinity"))?;
    if found.len() as u64 == expected { Ok(()) } else { Err(format!("{found:?} are not {expected}")) }
}

/// Verifies pages here and there, and writes them anew.
fn touch(memory: &mut Mapping, seed: u64) -> Result<(), String> {
    for page in scattered(memory.pages() as u64, seed).take(TOUCHES) {
        let pattern = Pattern::new(page, 0);
        pattern.check(memory.page(page as usize)).map_err(|mismatch| format!("page {page}: {mismatch}"))?;
        pattern.fill(memory.page_mut(page as usize));
    }
    Ok(())
}
