//! System calls as single instructions, with nothing of the C library between.
//!
//! *Hot*: nothing here allocates, locks, or touches thread-local storage (`errno` least of all), so any thread may
//! call it, also one that was made by a bare `clone`.

use crate::{Errno, Result};

/// Numbers of the system calls on this architecture (`__NR_…`).
pub use linux_raw_sys::general as number;

/// The largest error number that the kernel returns, negated, in place of a value.
const ERRNO_MAX: usize = 4095;

/// Takes the kernel's returned word apart.
#[inline]
fn decode(returned: usize) -> Result<usize> {
    if returned > usize::MAX - ERRNO_MAX { Err(Errno((returned as isize).wrapping_neg() as i32)) } else { Ok(returned) }
}

/// Makes system call `number` with six arguments.
///
/// # Safety
/// The arguments must be such that the call breaks no promise of this process: pointers valid for what the kernel
/// does with them, mappings changed only where the caller owns them.
#[inline]
pub unsafe fn syscall6(number: u32, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> Result<usize> {
    let returned: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the registers are those of the kernel's calling convention, rcx and r11 are declared lost, the call
    // does not use the stack; what the call itself does is the caller's promise.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as usize => returned,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the registers are those of the kernel's calling convention, all others are kept; what the call itself
    // does is the caller's promise.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number as usize,
            inlateout("x0") a => returned,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            in("x5") f,
            options(nostack),
        );
    }
    decode(returned)
}

macro_rules! fewer {
    ($($name:ident($($argument:ident),*) fills($($zero:literal),*);)*) => {$(
        /// Makes system call `number` with this many arguments.
        ///
        /// # Safety
        /// As [`syscall6`].
        #[inline]
        pub unsafe fn $name(number: u32 $(, $argument: usize)*) -> Result<usize> {
            // SAFETY: the caller promises it; the kernel does not look at the arguments filled in here.
            unsafe { syscall6(number $(, $argument)* $(, $zero)*) }
        }
    )*};
}

fewer! {
    syscall0() fills(0, 0, 0, 0, 0, 0);
    syscall1(a) fills(0, 0, 0, 0, 0);
    syscall2(a, b) fills(0, 0, 0, 0);
    syscall3(a, b, c) fills(0, 0, 0);
    syscall4(a, b, c, d) fills(0, 0);
    syscall5(a, b, c, d, e) fills(0);
}

/// The number of an `ioctl`: direction (1 writes to the kernel, 2 reads from it), size of the argument, type, index.
pub(crate) const fn ioctl_number(direction: u32, size: usize, kind: u8, index: u8) -> usize {
    (direction as usize) << 30 | size << 16 | (kind as usize) << 8 | index as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_gives_the_kernels_value_or_its_error() {
        // SAFETY: getpid takes nothing and changes nothing.
        let pid = unsafe { syscall0(number::__NR_getpid) };
        assert_eq!(pid, Ok(std::process::id() as usize));
        // SAFETY: closing a descriptor that cannot exist changes nothing.
        let refused = unsafe { syscall1(number::__NR_close, usize::MAX >> 1) };
        assert_eq!(refused, Err(crate::errno::EBADF));
    }

    #[test]
    fn the_last_address_before_the_error_numbers_is_a_value() {
        assert_eq!(decode(usize::MAX - 4095), Ok(usize::MAX - 4095));
        assert_eq!(decode(usize::MAX - 4094), Err(Errno(4095)));
        assert_eq!(decode(usize::MAX), Err(Errno(1)));
    }
}
