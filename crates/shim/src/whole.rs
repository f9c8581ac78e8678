//! Threads as the program made them, whenever it looks.
//!
//! The monitor narrows the affinity of a thread that faults hard, for as long as it does (`follow` in the pager). What
//! looks at affinities, sets them or hands them on to a new thread or process (`starts`) asks the monitor first to put them back.
//! Calls that go to the kernel without the C library are not seen.

use crate::door;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};

/// A function of the library behind this one: the C library, or another that was preloaded too.
pub struct Next {
    name: &'static CStr,
    address: AtomicPtr<c_void>,
}

impl Next {
    /// The function of this name.
    pub const fn new(name: &'static CStr) -> Self {
        Self { name, address: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Its address. Looked up once: a child that was forked while another thread held the linker's lock must not ask.
    pub fn find(&self) -> *mut c_void {
        unsafe extern "C" {
            fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
        }
        /// `RTLD_NEXT` of the C library.
        const NEXT: *mut c_void = core::ptr::without_provenance_mut(usize::MAX);
        let known = self.address.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name ends with a zero byte.
        let found = unsafe { dlsym(NEXT, self.name.as_ptr()) };
        if found.is_null() {
            // The program uses a function that its own C library lacks; without us it would not have started.
            std::process::abort();
        }
        self.address.store(found, Ordering::Relaxed);
        found
    }
}

macro_rules! whole_first {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $result:ty = $text:literal;)*) => {
        /// Functions that are the C library's own, once every thread is whole.
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
            unsafe extern "C" fn $name($($argument: $kind),*) -> $result {
                door::make_whole();
                let next = next::$name.find();
                // SAFETY: that is the function of this name, which has this type.
                let next: unsafe extern "C" fn($($kind),*) -> $result = unsafe { core::mem::transmute(next) };
                // SAFETY: the caller's own promise.
                unsafe { next($($argument),*) }
            }
        )*
    };
}

type Any = *mut c_void;

whole_first! {
    fn pthread_create(thread: Any, attributes: Any, main: Any, argument: Any) -> c_int = c"pthread_create";
    fn sched_getaffinity(pid: c_int, bytes: usize, set: Any) -> c_int = c"sched_getaffinity";
    fn sched_setaffinity(pid: c_int, bytes: usize, set: Any) -> c_int = c"sched_setaffinity";
    fn pthread_getaffinity_np(thread: usize, bytes: usize, set: Any) -> c_int = c"pthread_getaffinity_np";
    fn pthread_setaffinity_np(thread: usize, bytes: usize, set: Any) -> c_int = c"pthread_setaffinity_np";
}

static VFORK: Next = Next::new(c"vfork");

/// Looks all functions up.
pub fn find() {
    for next in next::ALL {
        next.find();
    }
    VFORK.find();
}

/// `pthread_create` for threads of ours, which the monitor may start: it must not wait for itself.
///
/// # Safety
/// As `pthread_create`.
pub unsafe extern "C" fn create_thread(thread: Any, attributes: Any, main: Any, argument: Any) -> c_int {
    let create = next::pthread_create.find();
    // SAFETY: that is the function of this name, which has this type.
    let create: unsafe extern "C" fn(Any, Any, Any, Any) -> c_int = unsafe { core::mem::transmute(create) };
    // SAFETY: the caller's own promise.
    unsafe { create(thread, attributes, main, argument) }
}

extern "C" fn before_vfork() -> *mut c_void {
    door::make_whole();
    VFORK.find()
}

/// `vfork` returns twice, so nothing of ours may be on the stack: it is jumped to.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn vfork() -> c_int {
    core::arch::naked_asm!(
        "sub rsp, 8",
        "call {before}",
        "add rsp, 8",
        "jmp rax",
        before = sym before_vfork,
    )
}

/// As above.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn vfork() -> c_int {
    core::arch::naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "bl {before}",
        "ldp x29, x30, [sp], #16",
        "mov x16, x0",
        "br x16",
        before = sym before_vfork,
    )
}
