//! What is said before a change of user or group that ends the program.
//!
//! The kernel changes the user of one thread; the C library carries the change to all, and ends the program (SIGABRT) when it
//! succeeds in some and fails in others. Threads of ours are among them, and capabilities are each thread's own: who keeps
//! some over a change of user (`PR_SET_KEEPCAPS`) or changes some (`capset`) does it for the calling thread alone. A plain
//! program of one thread gets away with it, a managed one does not. Ours are not made to follow: they would hold what the
//! program may be about to give up.

use crate::door;
use crate::whole::Next;
use core::ffi::{c_char, c_int};
use core::sync::atomic::{AtomicU64, Ordering};
use memvisor_pager::say;
use memvisor_sys::process;
use memvisor_sys::thread::{self, Capability};

/// What stands for "as it is" among the numbers of users and groups.
const UNCHANGED: u32 = u32::MAX;

/// The process in its high half, its monitor's thread in the low one; 0 before there is one.
static MONITOR: AtomicU64 = AtomicU64::new(0);

/// The calling process has a monitor, which is thread `tid`.
pub fn remember_monitor(tid: u32) {
    MONITOR.store(u64::from(process::getpid()) << 32 | u64::from(tid), Ordering::Release);
}

/// Says that the program is about to end, if it is: the calling thread wants the numbers `wanted`, which it may have with
/// `capability` or when it has them already, and the monitor has another answer to expect.
fn foretell(capability: Capability, wanted: &[u32]) {
    let monitor = MONITOR.load(Ordering::Acquire);
    // The child of a vfork has this memory and none of these threads.
    if monitor >> 32 != u64::from(process::getpid()) || !door::is_open() {
        return;
    }
    let held = thread::identities(capability);
    if !wanted.is_empty() && wanted.iter().all(|id| *id == UNCHANGED || held.contains(id)) {
        return;
    }
    let (own, ours) = (thread::is_capable(0, capability), thread::is_capable(monitor as u32, capability));
    if own.is_ok() && ours.is_ok() && own != ours {
        say::line_of_program(format_args!(
            "process {}: the C library is about to end it (SIGABRT): it changes its user or group when memvisor's threads \
             in it have not the same capabilities (PR_SET_KEEPCAPS and capset are for one thread)\n  way out: change \
             the user first and start memvisor after that, as in: setpriv … memvisor run -- CMD",
            process::getpid()
        ));
    }
}

macro_rules! foretold {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) = $text:literal, $capability:ident [$($wanted:ident),*];)*) => {
        /// The C library's own.
        mod next {
            use super::Next;
            $(
                #[expect(non_upper_case_globals, reason = "named as the function")]
                pub static $name: Next = Next::new($text);
            )*
            pub static ALL: &[&Next] = &[$(&$name),*];
        }
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $kind),*) -> c_int {
                foretell(Capability::$capability, &[$($wanted),*]);
                let next = next::$name.find();
                // SAFETY: that is the function of this name, which has this type.
                let next: unsafe extern "C" fn($($kind),*) -> c_int = unsafe { core::mem::transmute(next) };
                // SAFETY: the caller's own promise.
                unsafe { next($($argument),*) }
            }
        )*
    };
}

foretold! {
    fn setuid(user: u32) = c"setuid", SetUser [user];
    fn seteuid(user: u32) = c"seteuid", SetUser [user];
    fn setreuid(real: u32, effective: u32) = c"setreuid", SetUser [real, effective];
    fn setresuid(real: u32, effective: u32, saved: u32) = c"setresuid", SetUser [real, effective, saved];
    fn setgid(group: u32) = c"setgid", SetGroup [group];
    fn setegid(group: u32) = c"setegid", SetGroup [group];
    fn setregid(real: u32, effective: u32) = c"setregid", SetGroup [real, effective];
    fn setresgid(real: u32, effective: u32, saved: u32) = c"setresgid", SetGroup [real, effective, saved];
    fn setgroups(count: usize, groups: *const u32) = c"setgroups", SetGroup [];
    fn initgroups(user: *const c_char, group: u32) = c"initgroups", SetGroup [];
}

/// Looks all functions up.
pub fn find() {
    for next in next::ALL {
        next.find();
    }
}
