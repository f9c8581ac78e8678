//! What starts programs: every thread is made whole before it, and the file is judged.
//!
//! The calls that take arguments one by one (`execl` and its kin) reach the kernel from inside of the C library. Here they
//! gather the arguments and go on as their kin that take an array.
//!
//! Absent: `execveat`, `pidfd_spawn` and bare system calls; the shell that `execvp` gives to what is neither ELF nor script.

use crate::door;
use crate::judge::{self, Text, Texts, Verdict};
use crate::whole::Next;
use core::ffi::{c_int, c_void};
use core::ptr::null_mut;
use linux_raw_sys::errno::EPERM;

type Any = *mut c_void;

/// What `system` and `popen` start.
const SHELL: Text = c"/bin/sh".as_ptr();

macro_rules! starts {
    ($(
        fn $name:ident($($argument:ident: $kind:ty),*) -> $result:ty = $text:literal,
            judged $judge:ident($($judged:expr),*), refused $refused:expr;
    )*) => {
        /// The C library's own.
        mod next {
            use super::Next;
            $(
                #[expect(non_upper_case_globals, reason = "named as the function")]
                pub static $name: Next = Next::new($text);
            )*
            pub static ALL: &[&Next] = &[$(&$name),*];
        }
        /// What the exported functions do: a call of one exported name by another would be turned inward by the linker.
        mod judged {
            use super::*;
            $(
                /// # Safety
                /// As the function of this name.
                pub unsafe fn $name($($argument: $kind),*) -> $result {
                    door::make_whole();
                    // SAFETY: the caller's own promise.
                    if unsafe { judge::$judge($($judged),*) } == Verdict::Refuse {
                        return $refused;
                    }
                    let next = next::$name.find();
                    // SAFETY: that is the function of this name, which has this type.
                    let next: unsafe extern "C" fn($($kind),*) -> $result = unsafe { core::mem::transmute(next) };
                    // SAFETY: the caller's own promise.
                    unsafe { next($($argument),*) }
                }
            )*
        }
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $kind),*) -> $result {
                // SAFETY: the caller's own promise.
                unsafe { judged::$name($($argument),*) }
            }
        )*
    };
}

starts! {
    fn posix_spawn(pid: Any, path: Text, files: Any, attributes: Any, arguments: Texts, environment: Texts) -> c_int
        = c"posix_spawn", judged path(path, environment), refused EPERM as c_int;
    fn posix_spawnp(pid: Any, file: Text, files: Any, attributes: Any, arguments: Texts, environment: Texts) -> c_int
        = c"posix_spawnp", judged search(file, environment), refused EPERM as c_int;
    fn system(command: Text) -> c_int
        = c"system", judged path(SHELL, judge::own_environment()), refused judge::refused();
    fn popen(command: Text, kind: Text) -> Any
        = c"popen", judged path(SHELL, judge::own_environment()), refused { judge::refused(); null_mut() };
    fn execv(path: Text, arguments: Texts) -> c_int
        = c"execv", judged path(path, judge::own_environment()), refused judge::refused();
    fn execve(path: Text, arguments: Texts, environment: Texts) -> c_int
        = c"execve", judged path(path, environment), refused judge::refused();
    fn execvp(file: Text, arguments: Texts) -> c_int
        = c"execvp", judged search(file, judge::own_environment()), refused judge::refused();
    fn execvpe(file: Text, arguments: Texts, environment: Texts) -> c_int
        = c"execvpe", judged search(file, environment), refused judge::refused();
    fn fexecve(fd: c_int, arguments: Texts, environment: Texts) -> c_int
        = c"fexecve", judged descriptor(fd, environment), refused judge::refused();
}

/// Looks all functions up.
pub fn find() {
    for next in next::ALL {
        next.find();
    }
}

/// `execl` with its arguments in an array.
unsafe extern "C" fn execl_of(path: Text, arguments: Texts) -> c_int {
    // SAFETY: the caller's own promise.
    unsafe { judged::execv(path, arguments) }
}

/// `execlp` with its arguments in an array.
unsafe extern "C" fn execlp_of(file: Text, arguments: Texts) -> c_int {
    // SAFETY: the caller's own promise.
    unsafe { judged::execvp(file, arguments) }
}

/// `execle` with its arguments in an array: the environment stands behind their null pointer.
unsafe extern "C" fn execle_of(path: Text, arguments: Texts) -> c_int {
    let mut at = arguments;
    // SAFETY: the caller ends the arguments by a null pointer.
    while !unsafe { at.read() }.is_null() {
        // SAFETY: as above.
        at = unsafe { at.add(1) };
    }
    // SAFETY: the caller gives the environment as the argument behind it.
    let environment = unsafe { at.add(1).cast::<Texts>().read() };
    // SAFETY: the caller's own promise.
    unsafe { judged::execve(path, arguments, environment) }
}

macro_rules! gathered {
    ($($name:ident as $array:ident;)*) => {
        $(
            /// The arguments from the second on are put into an array on the stack. Those that came in registers are
            /// pushed below those that lie there already.
            #[cfg(target_arch = "x86_64")]
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name() -> c_int {
                core::arch::naked_asm!(
                    "pop rax",
                    "push r9",
                    "push r8",
                    "push rcx",
                    "push rdx",
                    "push rsi",
                    "mov rsi, rsp",
                    "push rax",
                    "call {array}",
                    "pop rcx",
                    "add rsp, 40",
                    "push rcx",
                    "ret",
                    array = sym $array,
                )
            }

            /// As above.
            #[cfg(target_arch = "aarch64")]
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name() -> c_int {
                core::arch::naked_asm!(
                    "stp x29, x30, [sp, #-80]!",
                    "str x1, [sp, #24]",
                    "stp x2, x3, [sp, #32]",
                    "stp x4, x5, [sp, #48]",
                    "stp x6, x7, [sp, #64]",
                    "add x1, sp, #24",
                    "bl {array}",
                    "ldp x29, x30, [sp], #80",
                    "ret",
                    array = sym $array,
                )
            }
        )*
    };
}

gathered! {
    execl as execl_of;
    execlp as execlp_of;
    execle as execle_of;
}
