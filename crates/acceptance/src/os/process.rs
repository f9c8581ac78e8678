//! Processes: starting them in every way there is, waiting for them, ending them.

use super::succeeded;
use std::io;
use std::process::ExitStatus;
use std::ptr;

/// Runs `body` in a forked child, which exits with the number that it gives.
///
/// # Errors
/// What `fork` refused with.
pub fn fork(body: impl FnOnce() -> u8) -> io::Result<i32> {
    // SAFETY: the programs that fork have one thread, so the child finds no lock held.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = body();
            // SAFETY: _exit only ends the process.
            unsafe { libc::_exit(i32::from(code)) }
        }
        pid => Ok(pid),
    }
}

/// Lets the C library call `handler` in every child, before `fork` returns there.
///
/// # Errors
/// `ENOMEM`.
pub fn after_fork_in_child(handler: extern "C" fn()) -> io::Result<()> {
    unsafe extern "C" {
        fn pthread_atfork(
            before: Option<extern "C" fn()>,
            in_parent: Option<extern "C" fn()>,
            in_child: Option<extern "C" fn()>,
        ) -> i32;
    }
    // SAFETY: a function lives as long as the program.
    match unsafe { pthread_atfork(None, None, Some(handler)) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Starts `program` by `vfork` and `execv`, inheriting everything.
///
/// # Errors
/// What `vfork` refused with. A failed exec is exit code 127 of the child.
pub fn vfork_exec(program: &std::ffi::CStr, arguments: &[&std::ffi::CStr]) -> io::Result<i32> {
    let mut pointers: Vec<*const libc::c_char> = arguments.iter().map(|text| text.as_ptr()).collect();
    pointers.push(ptr::null());
    // SAFETY: the child only calls execv and _exit, as vfork demands; all it needs was made before. The lint that
    // deprecates vfork is right in general: this program exists to show that vfork works.
    #[allow(deprecated)]
    match unsafe { libc::vfork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: the list ends with a null pointer and the strings outlive the call.
            unsafe { libc::execv(program.as_ptr(), pointers.as_ptr()) };
            // SAFETY: _exit only ends the process.
            unsafe { libc::_exit(127) }
        }
        pid => Ok(pid),
    }
}

/// Starts `program` by `posix_spawn`, inheriting everything, with this process's environment.
///
/// # Errors
/// What the call refused with.
pub fn posix_spawn(program: &std::ffi::CStr, arguments: &[&std::ffi::CStr]) -> io::Result<i32> {
    use std::os::unix::ffi::OsStrExt;
    let mut pointers: Vec<*mut libc::c_char> = arguments.iter().map(|text| text.as_ptr().cast_mut()).collect();
    pointers.push(ptr::null_mut());
    let variables: Vec<std::ffi::CString> = std::env::vars_os()
        .filter_map(|(name, value)| std::ffi::CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect();
    let mut environment: Vec<*mut libc::c_char> = variables.iter().map(|text| text.as_ptr().cast_mut()).collect();
    environment.push(ptr::null_mut());
    let mut pid = 0;
    // SAFETY: both lists end with null pointers and outlive the call; no file actions or attributes are given.
    let error = unsafe {
        libc::posix_spawn(&mut pid, program.as_ptr(), ptr::null(), ptr::null(), pointers.as_ptr(), environment.as_ptr())
    };
    if error == 0 { Ok(pid) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// How a child that was waited for ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It runs on.
    Not,
    /// It ended so.
    With(ExitStatus),
}

/// Waits for the child `pid`.
///
/// # Errors
/// `ECHILD` when it is no child.
pub fn wait(pid: i32) -> io::Result<ExitStatus> {
    match wait_with(pid, 0)? {
        Ended::With(status) => Ok(status),
        Ended::Not => unreachable!("waitpid without WNOHANG returns only when the child has ended"),
    }
}

/// Looks whether the child `pid` has ended.
///
/// # Errors
/// `ECHILD` when it is no child.
pub fn try_wait(pid: i32) -> io::Result<Ended> {
    wait_with(pid, libc::WNOHANG)
}

fn wait_with(pid: i32, flags: i32) -> io::Result<Ended> {
    use std::os::unix::process::ExitStatusExt;
    loop {
        let mut status = 0;
        // SAFETY: the status word is this function's own.
        match unsafe { libc::waitpid(pid, &mut status, flags) } {
            0 => return Ok(Ended::Not),
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Err(io::Error::last_os_error()),
            _ => return Ok(Ended::With(ExitStatus::from_raw(status))),
        }
    }
}

/// Kills one process, at once.
pub fn kill(pid: i32) {
    // SAFETY: kill touches no memory; a process that is gone already is what was wanted.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Stops one process where it is.
pub fn stop(pid: i32) {
    // SAFETY: kill touches no memory.
    unsafe { libc::kill(pid, libc::SIGSTOP) };
}

/// Lets one process go on.
pub fn resume(pid: i32) {
    // SAFETY: kill touches no memory.
    unsafe { libc::kill(pid, libc::SIGCONT) };
}

/// Buries the orphans that this process was given and that have ended. No other child may be unwaited for.
pub fn bury_orphans() {
    while let Ok(Ended::With(_)) = try_wait(-1) {}
}

/// Orphans below this process become its children, so that it can wait for them.
pub fn adopt_orphans() {
    // SAFETY: this option only changes who the parent of orphans is.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Limits the address space of this process to `bytes`.
///
/// # Errors
/// What `setrlimit` refused with.
pub fn limit_address_space(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the struct is whole and read only.
    succeeded(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) })
}

/// The user id of this process.
pub fn user_id() -> u32 {
    // SAFETY: geteuid always succeeds.
    unsafe { libc::geteuid() }
}
