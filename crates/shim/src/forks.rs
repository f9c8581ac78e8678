//! What is done around a fork.
//!
//! The C library calls handlers before the fork in the reverse order of their registration, and after it in order. Ours
//! are registered at the first allocation, before anybody else's: so they are the last before the fork and the first
//! after it. A handler of another library that runs in the child may touch memory that was evicted, so the child's
//! monitor runs by then.
//!
//! ```text
//!   before     lock jemalloc, take the door, freeze what is resident, touch what the C library touches
//!   in parent  let go, unlock jemalloc
//!   in child   let go, unlock jemalloc, start the monitor; signals only after that
//! ```
//!
//! jemalloc's own handlers are not registered but called by ours: its locks come before the door's, as when the heap
//! grows, and a thread can be started only when malloc works again.
//!
//! A program that forks by the bare system call gets none of this: see `boot` for what protects it.

use crate::{boot, door};
use core::ffi::{c_int, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use memvisor_pager::MemberIndex;
use memvisor_sys::{process, thread};

/// A handler, as `pthread_atfork` takes it.
pub type AtFork = Option<extern "C" fn()>;

/// `LC_GLOBAL_LOCALE` of the C library.
const LC_GLOBAL_LOCALE: *mut c_void = core::ptr::without_provenance_mut(usize::MAX);

/// An open stream of the C library, as far as a fork looks into it: glibc's `struct _IO_FILE`, whose layout its ABI fixes.
#[repr(C)]
struct Stream {
    flags: c_int,
    buffers: [usize; 12],
    next: *mut Stream,
    fileno: [c_int; 2],
    old_offset: i64,
    column: [u8; 4],
    lock: *mut u32,
}
const _: () = assert!(core::mem::offset_of!(Stream, next) == 104 && core::mem::offset_of!(Stream, lock) == 136);

unsafe extern "C" {
    fn uselocale(locale: *mut c_void) -> *mut c_void;
    safe fn _IO_list_lock();
    safe fn _IO_list_unlock();
    static _IO_list_all: *mut Stream;
    /// The C library's; without the prefix the name is turned inward (`build.rs`).
    fn __real_pthread_atfork(before: AtFork, after_in_parent: AtFork, after_in_child: AtFork) -> c_int;
}

static REGISTERED: AtomicBool = AtomicBool::new(false);
/// jemalloc's handlers: before, in the parent, in the child.
static HEAP: [AtomicPtr<()>; 3] = [const { AtomicPtr::new(null_mut()) }; 3];
/// The member that the parent made for the child, plus one; 0 when there is none.
static CHILD: AtomicU64 = AtomicU64::new(0);
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Registers the handlers. Those that anybody registers later run outside of them.
pub fn register() {
    if !REGISTERED.swap(true, Ordering::AcqRel) {
        // SAFETY: the handlers live as long as the library, which is never unloaded.
        unsafe { __real_pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) };
    }
}

/// Calls these handlers of jemalloc's from now on: before, in the parent, in the child.
pub fn take_over(handlers: [AtFork; 3]) {
    for (place, handler) in HEAP.iter().zip(handlers) {
        place.store(handler.map_or(null_mut(), |handler| handler as *mut ()), Ordering::Release);
    }
}

/// Calls one of jemalloc's handlers.
fn tell_heap(which: usize) {
    let handler = HEAP[which].load(Ordering::Acquire);
    if !handler.is_null() {
        // SAFETY: only `take_over` writes there, and what it writes is such a function.
        unsafe { core::mem::transmute::<*mut (), extern "C" fn()>(handler)() };
    }
}

/// Whether this process was forked from a member.
pub fn is_child() -> bool {
    IS_CHILD.load(Ordering::Acquire)
}

extern "C" fn before() {
    tell_heap(0);
    if !door::is_open() {
        return;
    }
    let saved = thread::block_all_signals();
    door::lock_for_fork(saved);
    CHILD.store(door::prepare_fork(), Ordering::Release);
    touch_what_threads_start_from();
    touch_streams();
}

/// The C library begins every thread by reading the tables of the global locale, which may lie in managed memory. The
/// child's monitor is a thread too, and before it runs nobody serves a fault there: an evicted page would be filled with
/// zeros. So those tables are brought back before the fork; nothing leaves until it is over.
fn touch_what_threads_start_from() {
    // SAFETY: the global locale always exists, and the thread's own is put back.
    unsafe { uselocale(uselocale(LC_GLOBAL_LOCALE)) };
}

/// In the child the C library makes the lock of every open stream anew before it calls any handler.
fn touch_streams() {
    _IO_list_lock();
    // SAFETY: while the list is locked its streams exist.
    let mut at = unsafe { (&raw const _IO_list_all).read() };
    while !at.is_null() {
        // SAFETY: as above; a stream without a lock of its own has a null pointer.
        unsafe {
            (&raw const (*at).flags).read_volatile();
            if !(*at).lock.is_null() {
                (*at).lock.read_volatile();
            }
            at = (*at).next;
        }
    }
    _IO_list_unlock();
}

extern "C" fn after_in_parent() {
    if door::is_open() {
        door::fork_done();
        let saved = door::unlock_after_fork();
        tell_heap(1);
        thread::restore(saved);
    } else {
        tell_heap(1);
    }
}

extern "C" fn after_in_child() {
    let saved = door::is_open().then(|| {
        IS_CHILD.store(true, Ordering::Release);
        door::forget_parent()
    });
    tell_heap(2);
    if let Some(saved) = saved {
        join();
        thread::restore(saved);
    }
}

/// Becomes the member that the parent made.
fn join() {
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
