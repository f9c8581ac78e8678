//! Whether what the program starts can be managed, asked before it is started.
//!
//! The file is judged as `memvisor run` judges its own program. What cannot be managed is named on standard error, once for
//! each name in each process, and with `--strict` it is not started.
//!
//! All of this runs in the child of a `vfork` and of a `fork` too: nothing is allocated, no lock is taken, system calls are
//! bare. Judged is what is started with our space in its environment; who takes that out starts a plain program.

use crate::inward::set_errno;
use core::ffi::{CStr, c_char, c_int};
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use linux_raw_sys::errno::EPERM;
use memvisor_pager::say;
use memvisor_sys::executable::{self, Obstacle};

/// A string of the program.
pub type Text = *const c_char;
/// Strings of the program, a null pointer behind the last.
pub type Texts = *const *const c_char;

/// Where a process finds its space: `KEEPER:SPACE:LOG:ID`, as `memvisor run` writes it, and `:strict` behind it with
/// `--strict`.
pub const SPACE_VARIABLE: &str = "MEMVISOR_SPACE";
/// Where the C library looks for programs when there is no PATH.
const PATH_DEFAULT: &[u8] = b"/bin:/usr/bin";
/// The longest path that is looked at: what the C library itself puts together, PATH_MAX and NAME_MAX.
const PATH_BYTES_MAX: usize = 4096 + 256;
/// Bytes of a path that are shown: the reason has to fit on the line too.
const SHOWN_BYTES_MAX: usize = 160;

const UNINVITED: u8 = 0;
const INVITED: u8 = 1;
const STRICT: u8 = 2;
static POLICY: AtomicU8 = AtomicU8::new(UNINVITED);

/// What was said of, so that it is said once: shells try the same program in several directories. The newest, by a hash.
static SAID: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];
static SAID_NEXT: AtomicUsize = AtomicUsize::new(0);

/// What is to become of a start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes its way.
    Start,
    /// It fails with `EPERM`.
    Refuse,
}

/// The process was invited to a space, with or without `--strict`.
pub fn invited(strict: bool) {
    POLICY.store(if strict { STRICT } else { INVITED }, Ordering::Release);
}

/// Whether nothing may run unmanaged.
pub fn is_strict() -> bool {
    POLICY.load(Ordering::Acquire) == STRICT
}

/// −1, and `errno` says why.
pub fn refused() -> c_int {
    set_errno(EPERM);
    -1
}

unsafe extern "C" {
    static environ: Texts;
    fn getenv(name: *const c_char) -> *const c_char;
}

/// The environment of this process.
pub fn own_environment() -> Texts {
    // SAFETY: the C library's pointer; who changes it while others start programs breaks those as well.
    unsafe { (&raw const environ).read() }
}

/// Judges the file at `path`.
///
/// # Safety
/// `path` and `environment` must be null or as `execve` takes them.
pub unsafe fn path(path: Text, environment: Texts) -> Verdict {
    // SAFETY: the caller's own promise.
    if path.is_null() || !unsafe { is_for_us(environment) } {
        return Verdict::Start;
    }
    // SAFETY: the caller's own promise.
    judge(unsafe { CStr::from_ptr(path) })
}

/// Judges the file that the C library finds under this name, which is a path when there is a slash in it.
///
/// # Safety
/// As [`path`].
pub unsafe fn search(file: Text, environment: Texts) -> Verdict {
    // SAFETY: the caller's own promise.
    if file.is_null() || !unsafe { is_for_us(environment) } {
        return Verdict::Start;
    }
    // SAFETY: the caller's own promise.
    let file = unsafe { CStr::from_ptr(file) };
    if file.to_bytes().contains(&b'/') {
        return judge(file);
    }
    // SAFETY: the name ends in a zero byte; the C library itself reads this variable next.
    let list = unsafe { getenv(c"PATH".as_ptr()) };
    // SAFETY: a value in the environment ends in a zero byte.
    let list = if list.is_null() { PATH_DEFAULT } else { unsafe { CStr::from_ptr(list) }.to_bytes() };
    let mut bytes = [0; PATH_BYTES_MAX];
    for directory in list.split(|byte| *byte == b':') {
        match joined(&mut bytes, directory, file.to_bytes()) {
            Some(path) if executable::may_execute(path) => return judge(path),
            Some(_) | None => {}
        }
    }
    Verdict::Start
}

/// Judges the file that is open as `fd`.
///
/// # Safety
/// As [`path`] for the environment.
pub unsafe fn descriptor(fd: c_int, environment: Texts) -> Verdict {
    // SAFETY: the caller's own promise.
    let is_for_us = unsafe { is_for_us(environment) };
    match u32::try_from(fd) {
        Ok(number) if is_for_us => match executable::obstacle_of_descriptor(number) {
            Ok(Some(obstacle)) => say_of(c"a program", &obstacle),
            Ok(None) | Err(_) => Verdict::Start,
        },
        Ok(_) | Err(_) => Verdict::Start,
    }
}

/// Whether what gets this environment is invited to our space.
///
/// # Safety
/// As [`path`].
unsafe fn is_for_us(environment: Texts) -> bool {
    if POLICY.load(Ordering::Acquire) == UNINVITED || environment.is_null() {
        return false;
    }
    let mut at = environment;
    loop {
        // SAFETY: the caller says that this is an array of strings with a null pointer behind the last.
        let entry = unsafe { at.read() };
        if entry.is_null() {
            return false;
        }
        // SAFETY: as above.
        let entry = unsafe { CStr::from_ptr(entry) }.to_bytes();
        if entry.strip_prefix(SPACE_VARIABLE.as_bytes()).is_some_and(|rest| rest.starts_with(b"=")) {
            return true;
        }
        // SAFETY: the null pointer was not reached.
        at = unsafe { at.add(1) };
    }
}

/// `directory/file`, or `file` in the directory without a name; `None` when it is too long.
fn joined<'a>(bytes: &'a mut [u8; PATH_BYTES_MAX], directory: &[u8], file: &[u8]) -> Option<&'a CStr> {
    let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
    let mut len = 0;
    for part in [directory, slash, file, b"\0"] {
        bytes.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    CStr::from_bytes_with_nul(&bytes[..len]).ok()
}

/// What cannot be looked at or may not be executed is not ours to refuse: the kernel says what is wrong with it.
fn judge(path: &CStr) -> Verdict {
    match executable::obstacle(path) {
        Ok(Some(obstacle)) if executable::may_execute(path) => say_of(path, &obstacle),
        Ok(_) | Err(_) => Verdict::Start,
    }
}

fn say_of(path: &CStr, obstacle: &Obstacle) -> Verdict {
    let (consequence, verdict) = match (obstacle, is_strict()) {
        // What is no program at all the kernel refuses, and a shell reads it as a script.
        (Obstacle::Unknown, _) => return Verdict::Start,
        (_, true) => ("does not run (--strict)", Verdict::Refuse),
        // The library is put into it if it takes one.
        (Obstacle::Unreadable, false) => ("may run unmanaged", Verdict::Start),
        (Obstacle::Static | Obstacle::Loader(_) | Obstacle::Machine | Obstacle::Privileged(_), false) => {
            ("runs unmanaged", Verdict::Start)
        }
    };
    if is_news(path) {
        let (shown, way_out) = (Shown(path.to_bytes()), obstacle.way_out());
        say::line_of_program(format_args!("{shown} {consequence}: {obstacle}\n  way out: {way_out}"));
    }
    verdict
}

/// Whether nothing was said of a file of this name in this process.
fn is_news(path: &CStr) -> bool {
    let name = path.to_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    // FNV-1a. 0 is what an empty place holds.
    let hash =
        name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    if SAID.iter().any(|said| said.load(Ordering::Relaxed) == hash) {
        return false;
    }
    SAID[SAID_NEXT.fetch_add(1, Ordering::Relaxed) % SAID.len()].store(hash, Ordering::Relaxed);
    true
}

/// The end of a path.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = self.0.len().saturating_sub(SHOWN_BYTES_MAX);
        f.write_str(if cut > 0 { "…" } else { "" })?;
        self.0[cut..].utf8_chunks().try_for_each(|chunk| {
            f.write_str(chunk.valid())?;
            f.write_str(if chunk.invalid().is_empty() { "" } else { "\u{fffd}" })
        })
    }
}
