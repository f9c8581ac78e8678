//! Time. *Hot*: nothing here allocates; reading the clock is no system call where the kernel has a vDSO.

use crate::call::{self, number as nr};
use crate::poll::Timespec;
use crate::vdso;

const CLOCK_MONOTONIC: i32 = 1;
const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;

/// Nanoseconds since some moment before this process; never goes back, stands still while the machine sleeps.
pub fn now_ns() -> u64 {
    let mut now = Timespec::from_ns(0);
    let read = match vdso::clock_gettime() {
        // SAFETY: the function is the kernel's own, and writes one timespec there.
        Some(clock_gettime) => unsafe { clock_gettime(CLOCK_MONOTONIC, &mut now) == 0 },
        None => false,
    };
    if read { now.to_ns() } else { asked_ns(CLOCK_MONOTONIC) }
}

/// Nanoseconds for which the threads of this process ran, all together. A system call.
pub fn process_cpu_ns() -> u64 {
    asked_ns(CLOCK_PROCESS_CPUTIME_ID)
}

fn asked_ns(clock: i32) -> u64 {
    let mut now = Timespec::from_ns(0);
    // SAFETY: the kernel writes one timespec there. It cannot fail for a clock that every kernel has.
    let _ = unsafe { call::syscall2(nr::__NR_clock_gettime, clock as usize, &raw mut now as usize) };
    now.to_ns()
}

/// The processor's own counter: the cheapest order of events on one machine. Its unit is not known here.
#[inline]
pub fn now_ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every 64-bit x86 has the instruction, and Linux lets programs use it.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let ticks: u64;
        // SAFETY: reads a register that Linux lets programs read.
        unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
        ticks
    }
}
