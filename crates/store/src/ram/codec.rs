//! The codec of the RAM store: lz4, with memory that the caller owns.
//!
//! `lz4-sys` links the library but does not declare the entry that takes the compressor's state from outside; the
//! others keep it on the stack or allocate it, and a saver in the program's own process may do neither.

use crate::PageBytes;
use lz4_sys::{LZ4_decompress_safe, c_char, c_int, c_void};
use memvisor_core::PAGE_BYTES;

unsafe extern "C" {
    fn LZ4_compress_fast_extState(
        state: *mut c_void,
        source: *const c_char,
        dest: *mut c_char,
        source_bytes: c_int,
        dest_bytes: c_int,
        acceleration: c_int,
    ) -> c_int;
}

/// Bytes of a compressor's state (`LZ4_STREAM_MINSIZE`; a test asks the library).
const STATE_BYTES: usize = (1 << 14) + 32;
/// 1 is lz4 at its best ratio of the fast ones, and what zram uses.
const ACCELERATION: c_int = 1;

/// What a saver works with: the compressor's state and room for one compressed page, 20 KiB. It has no owner's data in
/// it between two uses and can lie anywhere, but for its size not on a signal stack.
#[repr(C, align(64))]
pub struct Scratch {
    state: [u8; STATE_BYTES],
    packed: [u8; PAGE_BYTES],
}

impl Scratch {
    /// A new one, all zeros.
    pub const fn new() -> Self {
        Self { state: [0; STATE_BYTES], packed: [0; PAGE_BYTES] }
    }

    /// Compresses `page` into at most `limit` bytes; `None` when it does not fit.
    pub fn pack(&mut self, page: &PageBytes, limit: usize) -> Option<&[u8]> {
        let limit = limit.min(PAGE_BYTES);
        // SAFETY: the state has the size and more than the alignment that the library asks for; source and
        // destination are as long as said, and all three are borrowed for the call.
        let bytes = unsafe {
            LZ4_compress_fast_extState(
                self.state.as_mut_ptr().cast(),
                page.as_ptr().cast(),
                self.packed.as_mut_ptr().cast(),
                PAGE_BYTES as c_int,
                limit as c_int,
                ACCELERATION,
            )
        };
        (bytes > 0).then(|| &self.packed[..(bytes as usize).min(PAGE_BYTES)])
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// Decompresses the `bytes` at `packed` into `out`; false when they are not one whole page.
///
/// # Safety
/// `packed..packed + bytes` must be mapped. Other processes may write to it meanwhile: what comes out is then any
/// bytes, within `out`.
pub(super) unsafe fn unpack(packed: *const u8, bytes: usize, out: &mut PageBytes) -> bool {
    // SAFETY: the caller keeps the source mapped; the library never reads past `bytes` nor writes past the
    // destination's length, whatever the source holds.
    let filled =
        unsafe { LZ4_decompress_safe(packed.cast(), out.as_mut_ptr().cast(), bytes as c_int, PAGE_BYTES as c_int) };
    filled == PAGE_BYTES as c_int
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn LZ4_sizeofState() -> c_int;
    }

    #[test]
    fn the_state_is_as_large_as_the_library_says() {
        // SAFETY: the function takes nothing and returns a constant.
        assert_eq!(unsafe { LZ4_sizeofState() } as usize, STATE_BYTES);
    }

    #[test]
    fn what_was_packed_unpacks_to_the_same_page() {
        let mut scratch = Scratch::new();
        let page: PageBytes = std::array::from_fn(|at| (at / 7) as u8);
        let packed = scratch.pack(&page, PAGE_BYTES).unwrap().to_vec();
        let mut out = [0; PAGE_BYTES];
        // SAFETY: `packed` is a live vector.
        assert!(unsafe { unpack(packed.as_ptr(), packed.len(), &mut out) });
        assert_eq!(out, page);
        assert!(scratch.pack(&page, packed.len() - 1).is_none());
    }

    #[test]
    fn no_bytes_make_the_decoder_leave_its_bounds() {
        let mut seed = 1u64;
        let mut out = [0; PAGE_BYTES];
        for length in 0..2000 {
            let noise: Vec<u8> = (0..length)
                .map(|_| {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (seed >> 56) as u8
                })
                .collect();
            // SAFETY: `noise` is a live vector.
            unsafe { unpack(noise.as_ptr(), noise.len(), &mut out) };
        }
    }
}
