//! What the library gives to programs, and what it takes from others.

mod common;

use object::read::elf::{ElfFile64, FileHeader, Rela, SectionHeader};
use object::{Endianness, Object, ObjectSymbol};
use std::collections::BTreeSet;

/// The malloc family as glibc has it.
const MALLOC: [&str; 18] = [
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "free",
    "cfree",
    "free_sized",
    "free_aligned_sized",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
    "valloc",
    "pvalloc",
    "malloc_usable_size",
    "malloc_trim",
    "mallopt",
    "mallinfo",
    "mallinfo2",
];
/// jemalloc's own interface.
const JEMALLOC: [&str; 11] = [
    "mallocx",
    "rallocx",
    "xallocx",
    "sallocx",
    "dallocx",
    "sdallocx",
    "nallocx",
    "mallctl",
    "mallctlnametomib",
    "mallctlbymib",
    "malloc_stats_print",
];
/// Mappings.
const MMAP: [&str; 6] = ["mmap", "mmap64", "munmap", "mremap", "mprotect", "madvise"];

/// What looks at affinities or hands them on, and what starts programs.
const WHOLE: [&str; 18] = [
    "pthread_create",
    "posix_spawn",
    "posix_spawnp",
    "system",
    "popen",
    "execv",
    "execve",
    "execvp",
    "execvpe",
    "fexecve",
    "execl",
    "execle",
    "execlp",
    "vfork",
    "sched_getaffinity",
    "sched_setaffinity",
    "pthread_getaffinity_np",
    "pthread_setaffinity_np",
];

/// Changes of user and group.
const PRIVILEGES: [&str; 10] = [
    "setuid",
    "seteuid",
    "setreuid",
    "setresuid",
    "setgid",
    "setegid",
    "setregid",
    "setresgid",
    "setgroups",
    "initgroups",
];

struct Dynamic {
    exported: BTreeSet<String>,
    imported: BTreeSet<String>,
    /// Symbols that the dynamic linker looks up for the library.
    looked_up: BTreeSet<String>,
}

fn dynamic() -> Dynamic {
    let bytes = std::fs::read(common::library()).expect("the library can be read");
    let file: ElfFile64<Endianness> = ElfFile64::parse(&*bytes).expect("the library is an ELF file");
    let (mut exported, mut imported) = (BTreeSet::new(), BTreeSet::new());
    for symbol in file.dynamic_symbols() {
        let name = symbol.name().expect("symbol names are text").to_owned();
        if symbol.is_undefined() { &mut imported } else { &mut exported }.insert(name);
    }
    let endian = file.endian();
    let sections = file.elf_header().sections(endian, &*bytes).expect("the library has sections");
    let symbols = file.elf_dynamic_symbol_table();
    let mut looked_up = BTreeSet::new();
    for section in sections.iter() {
        let Some((relocations, _)) = section.rela(endian, &*bytes).expect("relocations can be read") else {
            continue;
        };
        for relocation in relocations {
            if let Some(index) = relocation.symbol(endian, false) {
                let symbol = symbols.symbol(index).expect("relocations name symbols that exist");
                let name = symbols.symbol_name(endian, symbol).expect("symbols have names");
                looked_up.insert(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    Dynamic { exported, imported, looked_up }
}

fn intended() -> BTreeSet<String> {
    MALLOC.into_iter().chain(JEMALLOC).chain(MMAP).chain(WHOLE).chain(PRIVILEGES).map(str::to_owned).collect()
}

#[test]
fn the_library_exports_exactly_what_it_means_to() {
    assert_eq!(dynamic().exported, intended());
}

#[test]
fn the_library_does_not_use_what_it_exports() {
    // A call of an exported function from inside goes through the dynamic linker, which may choose another's.
    let Dynamic { imported, looked_up, .. } = dynamic();
    assert!(!looked_up.is_empty(), "the library looks nothing up: the test reads the wrong table");
    for name in imported.iter().chain(&looked_up) {
        assert!(!intended().contains(name), "the library uses {name}, which it exports");
    }
}

#[test]
fn the_library_takes_no_memory_call_from_the_c_library() {
    let forbidden =
        ["mmap", "mmap64", "munmap", "mremap", "mprotect", "madvise", "posix_madvise", "brk", "mlock", "msync"];
    let Dynamic { imported, .. } = dynamic();
    for name in forbidden {
        assert!(!imported.contains(name), "the library imports {name}");
    }
    assert!(imported.contains("memcpy"), "the library imports nothing: the test reads the wrong table");
}
