//! The kernel's own code page, and the clock in it.
//!
//! The kernel maps an ELF image without a file into every process; its address is in the auxiliary vector. The C
//! library knows it too, but is not asked: the functions of this crate must work before its start-up has run.
//! See `Documentation/ABI/stable/vdso` of the kernel.

use crate::call::{self, number as nr};
use crate::poll::Timespec;
use crate::procfs;
use core::ffi::CStr;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The kernel's `clock_gettime`.
pub(crate) type ClockGettime = unsafe extern "C" fn(i32, *mut Timespec) -> i32;

#[cfg(target_arch = "x86_64")]
const CLOCK_GETTIME: &CStr = c"__vdso_clock_gettime";
#[cfg(target_arch = "aarch64")]
const CLOCK_GETTIME: &CStr = c"__kernel_clock_gettime";

const UNKNOWN: usize = 0;
const ABSENT: usize = 1;
/// [`UNKNOWN`], [`ABSENT`], or the address of the function. Two threads that look at once find the same.
static FOUND: AtomicUsize = AtomicUsize::new(UNKNOWN);

/// The kernel's clock function, if there is one.
#[inline]
pub(crate) fn clock_gettime() -> Option<ClockGettime> {
    let mut found = FOUND.load(Ordering::Relaxed);
    if found == UNKNOWN {
        found = look_up();
        FOUND.store(found, Ordering::Relaxed);
    }
    // SAFETY: an address that `look_up` found is that of a function of this type, mapped as long as the process lives.
    (found != ABSENT).then(|| unsafe { core::mem::transmute::<usize, ClockGettime>(found) })
}

#[cold]
fn look_up() -> usize {
    auxiliary(AT_SYSINFO_EHDR).and_then(|base| symbol(base, CLOCK_GETTIME)).unwrap_or(ABSENT)
}

/// Entry of the auxiliary vector: bytes in a page.
pub(crate) const AT_PAGESZ: usize = 6;
/// Entry of the auxiliary vector: where the kernel's image lies.
const AT_SYSINFO_EHDR: usize = 33;

/// What the kernel's auxiliary vector says for `kind`.
pub(crate) fn auxiliary(kind: usize) -> Option<usize> {
    const PR_GET_AUXV: usize = 0x4155_5856;
    /// The kernel's vector has about 25 entries.
    const ENTRIES_MAX: usize = 64;
    let mut vector = [0usize; ENTRIES_MAX * 2];
    let (at, len) = (vector.as_mut_ptr() as usize, size_of_val(&vector));
    // SAFETY: the kernel writes at most that many bytes.
    if unsafe { call::syscall5(nr::__NR_prctl, PR_GET_AUXV, at, len, 0, 0) }.is_err() {
        // Kernels before 6.4.
        let auxv = crate::file::open(c"/proc/self/auxv", crate::file::O_RDONLY, 0).ok()?;
        // SAFETY: any bytes are valid words, and the slice covers the array exactly.
        let bytes = unsafe { core::slice::from_raw_parts_mut(at as *mut u8, len) };
        procfs::read_up_to(&auxv, bytes).ok()?;
    }
    let (entries, _) = vector.as_chunks::<2>();
    entries.iter().find(|entry| entry[0] == kind).map(|entry| entry[1])
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ElfHeader {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    program_headers: u64,
    section_headers: u64,
    flags: u32,
    header_size: u16,
    program_header_size: u16,
    program_header_count: u16,
    section_header_size: u16,
    section_header_count: u16,
    section_names: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_size: u64,
    memory_size: u64,
    align: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: u64,
    size: u64,
}

const _: () = assert!(size_of::<ElfHeader>() == 64 && size_of::<ProgramHeader>() == 56 && size_of::<Symbol>() == 24);

/// Reads a value of the kernel's image.
fn read<T: Copy>(address: usize) -> T {
    // SAFETY: private to this file, and called only for addresses that the image's own headers give; the kernel
    // made the image and keeps it mapped readable.
    unsafe { (address as *const T).read_unaligned() }
}

/// The address of `name` in the image at `base`.
fn symbol(base: usize, name: &CStr) -> Option<usize> {
    const PT_LOAD: u32 = 1;
    const PT_DYNAMIC: u32 = 2;
    let header: ElfHeader = read(base);
    if header.ident[..4] != *b"\x7fELF" {
        return None;
    }
    let program_headers = (0..header.program_header_count as usize)
        .map(|at| read::<ProgramHeader>(base + header.program_headers as usize + at * size_of::<ProgramHeader>()));
    let load = program_headers.clone().find(|header| header.kind == PT_LOAD)?;
    let dynamic = program_headers.clone().find(|header| header.kind == PT_DYNAMIC)?;
    let bias = base.wrapping_add(load.offset as usize).wrapping_sub(load.address as usize);
    let tables = Tables::of(bias, base + dynamic.offset as usize, dynamic.file_size as usize)?;
    (0..tables.symbol_count()).find_map(|at| tables.address_if_named(at, name))
}

/// The tables of the image's dynamic section.
struct Tables {
    bias: usize,
    symbols: usize,
    strings: usize,
    hash: Option<usize>,
    gnu_hash: Option<usize>,
}

impl Tables {
    fn of(bias: usize, dynamic: usize, len: usize) -> Option<Tables> {
        const DT_HASH: u64 = 4;
        const DT_STRTAB: u64 = 5;
        const DT_SYMTAB: u64 = 6;
        const DT_GNU_HASH: u64 = 0x6fff_fef5;
        let entries = (0..len / 16).map(|at| read::<[u64; 2]>(dynamic + at * 16));
        let find = |tag| {
            entries
                .clone()
                .take_while(|entry| entry[0] != 0)
                .find(|entry| entry[0] == tag)
                .map(|entry| bias.wrapping_add(entry[1] as usize))
        };
        Some(Tables {
            bias,
            symbols: find(DT_SYMTAB)?,
            strings: find(DT_STRTAB)?,
            hash: find(DT_HASH),
            gnu_hash: find(DT_GNU_HASH),
        })
    }

    /// How many symbols there are: the old hash table says so, the new one must be walked to its last chain.
    fn symbol_count(&self) -> usize {
        match (self.hash, self.gnu_hash) {
            (Some(hash), _) => read::<[u32; 2]>(hash)[1] as usize,
            (None, Some(hash)) => gnu_symbol_count(hash),
            (None, None) => 0,
        }
    }

    fn address_if_named(&self, at: usize, name: &CStr) -> Option<usize> {
        const SECTION_NONE: u16 = 0;
        let symbol: Symbol = read(self.symbols + at * size_of::<Symbol>());
        let named = || {
            name.to_bytes_with_nul()
                .iter()
                .enumerate()
                .all(|(i, byte)| read::<u8>(self.strings + symbol.name as usize + i) == *byte)
        };
        (symbol.section != SECTION_NONE && named()).then(|| self.bias.wrapping_add(symbol.value as usize))
    }
}

fn gnu_symbol_count(hash: usize) -> usize {
    let [buckets, first, bloom_words, _shift] = read::<[u32; 4]>(hash).map(|word| word as usize);
    let bucket_table = hash + 16 + bloom_words * 8;
    let chains = bucket_table + buckets * 4;
    let last = (0..buckets).map(|at| read::<u32>(bucket_table + at * 4) as usize).max().unwrap_or(0);
    if last < first {
        return first;
    }
    // The last entry of a chain has its low bit set.
    let rest = (last - first..).take_while(|at| read::<u32>(chains + at * 4) & 1 == 0).count();
    last + rest + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_found_in_the_kernels_image() {
        assert!(clock_gettime().is_some(), "this kernel maps no vDSO with a clock");
    }

    #[test]
    fn a_name_that_is_not_in_the_image_is_not_found() {
        let base = auxiliary(AT_SYSINFO_EHDR).expect("this kernel maps no vDSO");
        assert_eq!(symbol(base, c"__vdso_clock_getti"), None);
        assert_eq!(symbol(base, c"no_such_name"), None);
    }

    #[test]
    fn both_hash_tables_count_the_same_symbols() {
        let base = auxiliary(AT_SYSINFO_EHDR).expect("this kernel maps no vDSO");
        let header: ElfHeader = read(base);
        assert_eq!(header.ident[..4], *b"\x7fELF");
        let dynamic = (0..header.program_header_count as usize)
            .map(|at| read::<ProgramHeader>(base + header.program_headers as usize + at * 56))
            .find(|header| header.kind == 2)
            .expect("a dynamic section");
        let tables = Tables::of(base, base + dynamic.offset as usize, dynamic.file_size as usize).expect("tables");
        match (tables.hash, tables.gnu_hash) {
            (Some(old), Some(new)) => assert_eq!(read::<[u32; 2]>(old)[1] as usize, gnu_symbol_count(new)),
            _ => println!("this kernel's image has one hash table only: nothing to compare"),
        }
    }
}
