//! Random bytes of the kernel.

use crate::call::{self, number as nr};
use crate::{Result, errno};

/// Fills `out` with bytes that nobody can guess.
pub fn fill(mut out: &mut [u8]) -> Result<()> {
    while !out.is_empty() {
        // SAFETY: the kernel writes at most the length of `out`.
        match unsafe { call::syscall3(nr::__NR_getrandom, out.as_mut_ptr() as usize, out.len(), 0) } {
            Ok(done) => out = &mut out[done..],
            Err(errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A random number.
pub fn number() -> Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
