//! The start of a member: the process joins its space and gets a monitor.

use crate::judge::{self, SPACE_VARIABLE};
use crate::{door, forks, heap, privileges, starts, whole};
use core::ffi::{CStr, c_int, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU64, Ordering};
use memvisor_pager::Stores;
use memvisor_pager::{MemberIndex, Monitor, Space, Start, leave_behind, say};
use memvisor_proto::Layout;
use memvisor_proto::space::{MAGIC, VERSION};
use memvisor_sys::futex::FutexWord;
use memvisor_sys::shared::SharedFile;
use memvisor_sys::{Errno, process, thread};
use std::ffi::CString;
use std::sync::{Mutex, OnceLock};

/// What stands behind an invitation with `--strict`.
const STRICT_MARK: &str = ":strict";
/// The exit code of a program that may not run unmanaged and cannot be managed.
const CANNOT_RUN: c_int = 126;
/// The stack of a monitor; it uses less than a quarter.
const STACK_BYTES: usize = 256 << 10;

const WAITING: u64 = 0;
const READY: u64 = 1;
const FAILED: u64 = 2;
/// What became of the monitor that is being started.
static MONITOR: AtomicU64 = AtomicU64::new(WAITING);
/// Why there is no monitor.
static REFUSAL: Mutex<Option<String>> = Mutex::new(None);
/// The member that this process is, plus one.
static MEMBER: AtomicU64 = AtomicU64::new(0);
static INVITATION: OnceLock<Invitation> = OnceLock::new();

/// What a process must know to join.
#[derive(Clone)]
struct Invitation {
    keeper: u32,
    log: Option<CString>,
    space: Space,
}

#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

extern "C" fn at_start() {
    heap::start();
    heap::plainly(|| {
        whole::find();
        starts::find();
        privileges::find();
        let Some(text) = std::env::var_os(SPACE_VARIABLE) else { return };
        let text = text.to_string_lossy();
        let place = text.strip_suffix(STRICT_MARK);
        // Before anything can fail.
        judge::invited(place.is_some());
        let joined = accept(place.unwrap_or(&text)).and_then(|invitation| {
            let space = invitation.space;
            INVITATION.get_or_init(|| invitation);
            join(space)
        });
        if let Err(reason) = joined {
            give_up(&reason);
        }
    });
}

/// The program runs unmanaged; with `--strict` it does not run.
fn give_up(reason: &str) {
    let strict = judge::is_strict();
    let consequence = if strict { "it does not run (--strict)" } else { "it runs unmanaged, in plain memory" };
    say::line_of_program(format_args!("process {}: {reason}; {consequence}", process::getpid()));
    if strict {
        unsafe extern "C" {
            safe fn _exit(code: c_int) -> !;
        }
        _exit(CANNOT_RUN);
    }
}

/// Opens the space that the text names.
fn accept(text: &str) -> Result<Invitation, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let &[keeper, file, log, id] = parts.as_slice() else {
        return Err(format!("{SPACE_VARIABLE} is not of the form KEEPER:SPACE:LOG:ID[:strict]"));
    };
    let number: u32 = keeper.parse().map_err(|_| format!("{SPACE_VARIABLE} names no process"))?;
    let path = |fd: &str| CString::new(format!("/proc/{keeper}/fd/{fd}")).map_err(|error| error.to_string());
    let gone = |errno| match errno {
        Errno::EACCES | Errno::EPERM => format!(
            "its space cannot be opened ({errno}): only who has the user and the capabilities of `memvisor run` can join it"
        ),
        _ => format!("its space cannot be opened ({errno}); has `memvisor run` ended?"),
    };
    let shared = SharedFile::open(&path(file)?).map_err(gone)?;
    let map = shared.map(Layout::FILE_BYTES).map_err(|errno| format!("its space cannot be mapped ({errno})"))?;
    let space = Space::new(map);
    let header = space.header();
    let word = |word: &AtomicU64| word.load(Ordering::Acquire);
    if word(header.magic()) != MAGIC || word(header.version()) != VERSION {
        return Err("its space is of another version of memvisor; use the library that came with the program".into());
    }
    if id != format!("{:016x}{:016x}", word(header.id_high()), word(header.id_low())) {
        return Err("another space has taken the place of its own".into());
    }
    let log = if log == "-" { None } else { Some(path(log)?) };
    Ok(Invitation { keeper: number, log, space })
}

fn join(space: Space) -> Result<(), String> {
    leave_behind(&space, process::getpid());
    let member = space.take_member().ok_or("its space has no room for another member")?;
    space.header().members().fetch_add(1, Ordering::Relaxed);
    become_member(space, member)
}

/// Becomes `member`: says so in its block and starts the monitor.
fn become_member(space: Space, member: MemberIndex) -> Result<(), String> {
    let block = space.member(member);
    let pid = process::getpid();
    // The keeper takes a block with a process id but another start for that of a dead process: the start comes first.
    block.start_ticks().store(process::start_ticks(pid).unwrap_or(0), Ordering::Relaxed);
    block.pid().store(u64::from(pid), Ordering::Release);
    MEMBER.store(member.0 as u64 + 1, Ordering::Release);
    MONITOR.store(WAITING, Ordering::Release);
    door::open(space, member);
    start_thread(Box::new(monitor_main))?;
    while MONITOR.load(Ordering::Acquire) == WAITING {
        let _ = FutexWord(&MONITOR).wait(WAITING as u32, None);
    }
    match MONITOR.load(Ordering::Acquire) {
        READY => {
            heap::purge_in_background();
            Ok(())
        }
        _ => {
            door::close();
            let reason = REFUSAL.lock().ok().and_then(|mut reason| reason.take()).unwrap_or_default();
            Err(format!("the kernel does not let it be managed: {reason} (see `memvisor doctor`)"))
        }
    }
}

unsafe extern "C" {
    fn pthread_attr_init(attributes: *mut c_void) -> c_int;
    fn pthread_attr_setstacksize(attributes: *mut c_void, bytes: usize) -> c_int;
    fn pthread_attr_setdetachstate(attributes: *mut c_void, state: c_int) -> c_int;
}

/// Room for a `pthread_attr_t` of any of our targets.
#[repr(C, align(16))]
struct Attributes([u8; 128]);
const PTHREAD_CREATE_DETACHED: c_int = 1;

/// What a thread of ours does.
type Work = Box<dyn FnOnce() + Send>;

/// Starts a thread of ours: it takes no signals and none of its memory is managed.
fn start_thread(work: Work) -> Result<(), String> {
    let saved = thread::block_all_signals();
    let mut attributes = Attributes([0; 128]);
    let (mut id, at) = (0usize, (&raw mut attributes).cast::<c_void>());
    let argument = Box::into_raw(Box::new(work)).cast::<c_void>();
    // SAFETY: the attributes are initialised first and live through the calls; the thread takes the argument over.
    let answer = unsafe {
        pthread_attr_init(at);
        pthread_attr_setstacksize(at, STACK_BYTES);
        pthread_attr_setdetachstate(at, PTHREAD_CREATE_DETACHED);
        heap::plainly(|| whole::create_thread((&raw mut id).cast(), at, thread_main as *mut c_void, argument))
    };
    thread::restore(saved);
    if answer == 0 {
        return Ok(());
    }
    // SAFETY: no thread was started, so the argument is still ours.
    drop(unsafe { Box::from_raw(argument.cast::<Work>()) });
    Err(format!("no thread can be started for its monitor (error {answer})"))
}

extern "C" fn thread_main(argument: *mut c_void) -> *mut c_void {
    heap::stay_plain();
    // SAFETY: `start_thread` made the argument and gave it to this thread alone.
    let work = unsafe { Box::from_raw(argument.cast::<Work>()) };
    work();
    null_mut()
}

fn monitor_main() {
    match monitor() {
        Ok(monitor) => {
            announce(READY);
            monitor.run()
        }
        Err(reason) => {
            if let Ok(mut refusal) = REFUSAL.lock() {
                *refusal = Some(reason);
            }
            announce(FAILED);
        }
    }
}

fn announce(state: u64) {
    MONITOR.store(state, Ordering::Release);
    let _ = FutexWord(&MONITOR).wake(1);
}

/// Makes the monitor in the calling thread, whose descriptors become its own: the program cannot close them, and it does
/// not hold any of the program's open.
fn monitor() -> Result<Monitor, String> {
    let _ = thread::name(c"memvisor");
    privileges::remember_monitor(thread::gettid());
    thread::unshare_files().map_err(|errno| format!("descriptors cannot be kept apart ({errno})"))?;
    let _ = thread::close_range(0, u32::MAX);
    let Invitation { keeper, log, space } = INVITATION.get().ok_or("there is no invitation")?.clone();
    let me = MemberIndex(MEMBER.load(Ordering::Acquire) as usize - 1);
    let log: Option<&CStr> = log.as_deref();
    let stores = Stores::attach(space.map(), log).map_err(|error| format!("its stores cannot be opened: {error}"))?;
    let start =
        Start { space, me, door: &door::DOOR, stores, keeper_pid: keeper, spawn: |work| start_thread(work).is_ok() };
    let mut monitor = Monitor::new(start).map_err(|error| error.to_string())?;
    if forks::is_child() {
        monitor.inherit().map_err(|errno| match errno {
            Errno::ESRCH => "what its parent prepared for it was given back".to_owned(),
            _ => format!("memory of its parent cannot be registered ({errno})"),
        })?;
    }
    Ok(monitor)
}

/// In a forked child: becomes the member that the parent made for it.
pub fn join_as_child(member: MemberIndex) -> Result<(), String> {
    let Some(invitation) = INVITATION.get() else { return Ok(()) };
    become_member(invitation.space, member)
}
