//! What is done around a fork.
//!
//! The C library calls handlers before the fork in the reverse order of their registration, and after it in order. Ours
//! are registered before jemalloc's: so the door is locked after jemalloc is, as when the heap grows; one handler more,
//! registered after jemalloc's, starts the child's monitor when malloc works again.
//!
//! A program that forks by the bare system call gets none of this: see `boot` for what protects it.

use crate::{boot, door};
use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use memvisor_pager::MemberIndex;
use memvisor_sys::{process, thread};

/// `LC_GLOBAL_LOCALE` of the C library.
const LC_GLOBAL_LOCALE: *mut c_void = core::ptr::without_provenance_mut(usize::MAX);

unsafe extern "C" {
    fn uselocale(locale: *mut c_void) -> *mut c_void;
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> c_int;
}

static REGISTERED: AtomicBool = AtomicBool::new(false);
/// The member that the parent made for the child, plus one; 0 when there is none.
static CHILD: AtomicU64 = AtomicU64::new(0);
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Registers the handlers that must come before jemalloc's.
pub fn register_early() {
    if !REGISTERED.swap(true, Ordering::AcqRel) {
        // SAFETY: the handlers live as long as the library, which is never unloaded.
        unsafe { pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) };
    }
}

/// Registers the handler that must come after jemalloc's.
pub fn register_late() {
    // SAFETY: as above.
    unsafe { pthread_atfork(None, None, Some(last_in_child)) };
}

/// Whether this process was forked from a member.
pub fn is_child() -> bool {
    IS_CHILD.load(Ordering::Acquire)
}

extern "C" fn before() {
    if !door::is_open() {
        return;
    }
    let saved = thread::block_all_signals();
    door::lock_for_fork(saved);
    CHILD.store(door::prepare_fork(), Ordering::Release);
    touch_what_threads_start_from();
}

/// The C library begins every thread by reading the tables of the global locale, which may lie in managed memory. The
/// child's monitor is a thread too, and before it runs nobody serves a fault there: an evicted page would be filled with
/// zeros. So those tables are brought back before the fork; nothing leaves until it is over.
fn touch_what_threads_start_from() {
    // SAFETY: the global locale always exists, and the thread's own is put back.
    unsafe { uselocale(uselocale(LC_GLOBAL_LOCALE)) };
}

extern "C" fn after_in_parent() {
    if door::is_open() {
        door::fork_done();
        thread::restore(door::unlock_after_fork());
    }
}

extern "C" fn after_in_child() {
    if door::is_open() {
        IS_CHILD.store(true, Ordering::Release);
        thread::restore(door::forget_parent());
    }
}

extern "C" fn last_in_child() {
    if !is_child() || !boot::is_member() {
        return;
    }
    let joined = match CHILD.swap(0, Ordering::AcqRel) {
        0 => Err("its space has no room for another member".to_owned()),
        member => boot::join_as_child(MemberIndex(member as usize - 1)),
    };
    if let Err(reason) = joined {
        // Evicted pages would read as zeros: such a child must not run.
        memvisor_pager::say::line(format_args!("forked process {} ends: {reason}", process::getpid()));
        process::kill(process::getpid(), process::SIGKILL).expect("a process may always end itself");
    }
}
