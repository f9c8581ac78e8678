//! The dynamic linker's code, told from all other by address.
//!
//! What the linker allocates – the tables that thread-local storage is found by, above all – is looked at by every thread,
//! by those that serve faults as well: it must not be managed memory.

use core::sync::atomic::{AtomicUsize, Ordering};

static START: AtomicUsize = AtomicUsize::new(0);
static LEN: AtomicUsize = AtomicUsize::new(0);

/// `getauxval`: the address at which the kernel loaded the linker.
const AT_BASE: usize = 7;
const PT_LOAD: u32 = 1;

/// The parts of an ELF64 header that are looked at.
#[repr(C)]
struct ElfHeader {
    before: [u8; 32],
    segments_offset: u64,
    between: [u8; 14],
    segment_bytes: u16,
    segments: u16,
}

/// The same of a program header.
#[repr(C)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_bytes: u64,
    memory_bytes: u64,
}

unsafe extern "C" {
    safe fn getauxval(kind: usize) -> usize;
}

/// Whether `address` is in the linker.
#[inline(always)]
pub fn holds(address: usize) -> bool {
    address.wrapping_sub(START.load(Ordering::Relaxed)) < LEN.load(Ordering::Relaxed)
}

/// Finds the linker. Without one (a program that *is* the linker's: `ld.so program`) nothing is told apart.
pub fn find() {
    let base = getauxval(AT_BASE);
    if base == 0 || LEN.load(Ordering::Relaxed) != 0 {
        return;
    }
    START.store(base, Ordering::Relaxed);
    // SAFETY: the kernel loaded an ELF file there, headers first, and it stays.
    LEN.store(unsafe { span(base) }, Ordering::Relaxed);
}

/// Bytes from the start of a loaded ELF file to the end of its last segment.
///
/// # Safety
/// The file's first segment, with its headers, must be mapped at `base`.
unsafe fn span(base: usize) -> usize {
    let header = core::ptr::with_exposed_provenance::<ElfHeader>(base);
    // SAFETY: the caller says that the header is there.
    let header = unsafe { &*header };
    let first = base + header.segments_offset as usize;
    let ends = (0..usize::from(header.segments)).map(|at| {
        let segment = core::ptr::with_exposed_provenance::<Segment>(first + at * usize::from(header.segment_bytes));
        // SAFETY: the header says that it is there, and the caller that it is mapped.
        let segment = unsafe { &*segment };
        if segment.kind == PT_LOAD { (segment.address + segment.memory_bytes) as usize } else { 0 }
    });
    ends.max().unwrap_or(0)
}
