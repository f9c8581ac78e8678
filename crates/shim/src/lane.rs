//! Where a thread's memory comes from: one byte of thread-local storage, looked at by every malloc.
//!
//! On x86-64 the byte is reached by the *initial exec* model, two instructions; what Rust generates for a library
//! is a call of `__tls_get_addr`, a tenth of a malloc. It is allowed because a preloaded library's thread-local
//! storage is part of every thread from its start, which jemalloc relies on as well.

/// Where a thread's memory comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Lane {
    /// Not decided yet: the thread has not allocated.
    Undecided = 0,
    /// From a managed arena.
    Managed = 1,
    /// From memory that is never evicted: threads that serve faults, and what is allocated for them.
    Plain = 2,
}

impl Lane {
    const fn of(byte: u8) -> Self {
        match byte {
            0 => Lane::Undecided,
            1 => Lane::Managed,
            _ => Lane::Plain,
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod cell {
    use core::arch::{asm, global_asm};

    global_asm!(
        ".pushsection .tbss.memvisor_lane,\"awT\",@nobits",
        ".globl memvisor_lane",
        ".hidden memvisor_lane",
        ".type memvisor_lane,@object",
        ".size memvisor_lane,1",
        "memvisor_lane: .zero 1",
        ".popsection",
    );

    #[inline(always)]
    pub fn get() -> u8 {
        let byte: u32;
        // SAFETY: reads the calling thread's own byte.
        unsafe {
            asm!(
                "mov {at}, qword ptr [rip + memvisor_lane@GOTTPOFF]",
                "movzx {byte:e}, byte ptr fs:[{at}]",
                at = out(reg) _,
                byte = lateout(reg) byte,
                options(nostack, readonly, preserves_flags),
            );
        }
        byte as u8
    }

    pub fn set(byte: u8) {
        // SAFETY: writes the calling thread's own byte.
        unsafe {
            asm!(
                "mov {at}, qword ptr [rip + memvisor_lane@GOTTPOFF]",
                "mov byte ptr fs:[{at}], {byte}",
                at = out(reg) _,
                byte = in(reg_byte) byte,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod cell {
    use core::cell::Cell;

    thread_local!(static LANE: Cell<u8> = const { Cell::new(0) });

    #[inline(always)]
    pub fn get() -> u8 {
        LANE.get()
    }

    pub fn set(byte: u8) {
        LANE.set(byte);
    }
}

/// The calling thread's lane.
#[inline(always)]
pub fn get() -> Lane {
    Lane::of(cell::get())
}

/// Puts the calling thread on `lane`.
pub fn set(lane: Lane) {
    cell::set(lane as u8);
}
