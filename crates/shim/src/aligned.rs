//! Anonymous memory at a multiple of more than the page.

use memvisor_sys::memory::{self, MAP_ANONYMOUS, MAP_PRIVATE};
use memvisor_sys::{PAGE_BYTES, Result, errno};

/// Maps `len` bytes of fresh private memory with access `prot` at a multiple of `align`, a power of two of at least a
/// page, wherever there is room. `len` is a multiple of the page. `flags` may add `MAP_NORESERVE`.
pub fn map(len: usize, align: usize, prot: i32, flags: i32) -> Result<usize> {
    let whole = len.checked_add(align - PAGE_BYTES).ok_or(errno::ENOMEM)?;
    // SAFETY: without MAP_FIXED the kernel chooses a range that nobody has.
    let addr = unsafe { memory::map(0, whole, prot, flags | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) }?;
    let start = addr.next_multiple_of(align);
    for (at, end) in [(addr, start), (start + len, addr + whole)] {
        if end > at {
            // SAFETY: the piece was mapped above and nobody knows it.
            unsafe { memory::unmap(at, end - at) }?;
        }
    }
    Ok(start)
}
