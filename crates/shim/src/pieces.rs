//! `mremap` of what is one mapping for the program and several for the kernel.
//!
//! Arming a part of a mapping splits it, and parts that were touched apart cannot be joined again. The kernel remaps one
//! mapping only (EFAULT), so the parts are moved one after the other to where the whole shall be. The monitor may arm,
//! and so split, a part at any time: each is looked up when its turn comes, and again when it was split meanwhile.

use crate::raw;
use linux_raw_sys::errno::{EFAULT, ENOMEM};
use linux_raw_sys::general as kernel;
use memvisor_sys::maps;

/// How often one part is looked up again because it was split between the look and the move.
const TRIES_MAX: usize = 64;
/// Bytes of the kernel's list that are read at a time.
const LIST_BYTES: usize = 4096;
const FAULT: isize = -(EFAULT as isize);

/// Does what the kernel's `mremap` would do if `start` were one mapping. Gives the kernel's form of answer.
pub fn remap(start: usize, old_len: usize, new_len: usize, flags: u32, target: usize) -> isize {
    let pages = |len: usize| len.next_multiple_of(raw::PAGE_BYTES);
    let (old_len, new_len) = (pages(old_len), pages(new_len));
    if !is_mapped(start, start + old_len) {
        return FAULT;
    }
    let is_fixed = flags & kernel::MREMAP_FIXED != 0;
    if new_len > old_len && !is_fixed && grow_last(start + old_len, new_len - old_len) {
        return start as isize;
    }
    if flags & kernel::MREMAP_MAYMOVE == 0 {
        return -(ENOMEM as isize);
    }
    move_parts(start, old_len, new_len, is_fixed.then_some(target))
}

/// The end of the mapping that holds `at`, and how it is protected.
fn mapping_at(at: usize) -> Option<(usize, u32)> {
    let mut found = None;
    let mut list = [0; LIST_BYTES];
    let read = maps::for_each_mapping(None, &mut list, |mapping| {
        if (mapping.start..mapping.end).contains(&at) {
            let bit = |is_set, bit| if is_set { bit } else { kernel::PROT_NONE };
            let protection = bit(mapping.read, kernel::PROT_READ)
                | bit(mapping.write, kernel::PROT_WRITE)
                | bit(mapping.exec, kernel::PROT_EXEC);
            found = Some((mapping.end, protection));
        }
    });
    found.filter(|_| read.is_ok())
}

/// Whether `start..start+len` lies in one mapping.
pub fn is_one_mapping(start: usize, len: usize) -> bool {
    mapping_at(start).is_some_and(|(end, _)| end - start >= len)
}

fn is_mapped(start: usize, end: usize) -> bool {
    let mut at = start;
    while at < end {
        match mapping_at(at) {
            Some((next, _)) => at = next,
            None => return false,
        }
    }
    true
}

/// Lets the mapping that ends at `end` grow where it is.
fn grow_last(end: usize, more: usize) -> bool {
    let last = end - raw::PAGE_BYTES;
    // SAFETY: without flags nothing moves and nothing that is mapped is touched.
    unsafe { raw::remap(last, raw::PAGE_BYTES, raw::PAGE_BYTES + more, 0, 0) == last as isize }
}

fn move_parts(start: usize, old_len: usize, new_len: usize, target: Option<usize>) -> isize {
    let fixed = target.map_or(0, |_| kernel::MAP_FIXED);
    let flags = kernel::MAP_PRIVATE | kernel::MAP_ANONYMOUS | kernel::MAP_NORESERVE | fixed;
    // What the new length adds is protected as the rest is.
    let Some((_, protection)) = mapping_at(start) else { return FAULT };
    // SAFETY: with a target, the caller gave up what lies there.
    let place = unsafe { raw::map(target.unwrap_or(0), new_len, protection, flags, -1, 0) };
    let Ok(place) = usize::try_from(place) else { return place };
    let kept = old_len.min(new_len);
    let (mut at, mut tries) = (start, 0);
    while at < start + kept {
        let Some((end, _)) = mapping_at(at) else { return FAULT };
        let len = end.min(start + kept) - at;
        let how = (kernel::MREMAP_MAYMOVE | kernel::MREMAP_FIXED) as usize;
        // SAFETY: the caller gives the old range up, and the place was mapped above.
        let moved = unsafe { raw::remap(at, len, len, how, place + (at - start)) };
        match moved {
            FAULT if tries < TRIES_MAX => tries += 1,
            0.. => (at, tries) = (at + len, 0),
            error => return error,
        }
    }
    if old_len > kept {
        // SAFETY: the caller gives up what the new length does not hold.
        unsafe { raw::unmap(start + kept, old_len - kept) };
    }
    place as isize
}
