//! The program's heap: jemalloc, its blocks in managed memory and everything else apart from it.
//!
//! ```text
//!   malloc ─▶ jemalloc ─┬─ managed arenas: blocks ◀─ extent hooks ◀─ region (reserved once, carved in order)
//!                       └─ arena 0: thread caches, blocks of Plain threads ◀─ plain mmap;  metadata ◀─ plain mmap
//! ```
//!
//! - A managed arena is created with extent hooks for its blocks and the default ones for its metadata, so walking
//!   free lists, bitmaps and trees never touches a page that could be evicted.
//! - jemalloc's own arena 0 keeps the default hooks: thread caches and other internal blocks come from it. It is the
//!   only automatic arena, so a thread gets managed memory only by being bound here, at its first allocation.
//! - Threads that serve faults, and the dynamic linker in any thread, allocate from arena 0 too, past the caches.
//! - Address space is never given back: what is freed is purged and used again.
//!
//! Absent: huge-page advice.

use crate::inward::set_errno;
use crate::lane::{self, Lane};
use crate::{forks, linker, region};
use core::ffi::{CStr, c_int, c_uint, c_void};
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::errno::ENOMEM;
use memvisor_sys::thread;
use tikv_jemalloc_sys as jemalloc;
use tikv_jemalloc_sys::extent_hooks_t;

/// What jemalloc is told at its start.
///
/// `narenas:1`: see above. `dirty_decay_ms`: freed pages wait a second for reuse before their contents are given away;
/// `muzzy_decay_ms:0` because the pager has no use for MADV_FREE. `retain` keeps address space, `thp:never` keeps
/// metadata small. `dss:disabled`: `sbrk` would bypass everything. `slab_sizes`: jemalloc keeps 128 bytes of each slab, and by
/// itself makes slabs of one page for blocks whose size is a power of two: 3 % of the heap, never evicted. With slabs of
/// sixteen pages (or 512 blocks, the most it can count) it is 0.6 %. A gigabyte in blocks of 4 KiB: 4.0 MiB instead of 31.8.
/// What that costs: a slab goes back to the kernel only when all its blocks are free; what lies in it until then gets cold.
const OPTIONS_TEXT: &CStr = c"narenas:1,retain:true,dirty_decay_ms:1000,muzzy_decay_ms:0,thp:never,\
metadata_thp:disabled,dss:disabled,zero_realloc:free,percpu_arena:disabled,tcache:true,background_thread:false,\
slab_sizes:64-64:8|128-128:16|256-256:16|512-512:16|1024-1024:16|2048-2048:16|4096-4096:16|8192-8192:16";
static OPTIONS: [u8; OPTIONS_TEXT.count_bytes() + 1] = *OPTIONS_TEXT.to_bytes_with_nul().first_chunk().unwrap();

// jemalloc looks for its options in a pointer of this name, which no other source of options overrides. As a Rust
// static it would be exported. Options in the environment are not even read (`inward`): they are for the program's
// own jemalloc, and could undo what managed memory rests on.
core::arch::global_asm!(
    ".pushsection .data.rel.ro.memvisor_options,\"aw\",@progbits",
    ".globl _rjem_malloc_conf_2_conf_harder",
    ".hidden _rjem_malloc_conf_2_conf_harder",
    ".type _rjem_malloc_conf_2_conf_harder,@object",
    ".size _rjem_malloc_conf_2_conf_harder,8",
    ".balign 8",
    "_rjem_malloc_conf_2_conf_harder: .quad {text}",
    ".popsection",
    text = sym OPTIONS,
);

/// The alignment of what malloc gives.
pub const MALLOC_ALIGN: usize = 16;
/// The most managed arenas; as many as jemalloc itself makes on eight CPUs.
const ARENAS_MAX: usize = 32;
/// Managed arenas for each CPU. A thread keeps its arena for life, so two threads that share one do not share it with
/// everybody; more of them spread a small program over more pages.
const ARENAS_PER_CPU: usize = 2;
/// The largest step by which an arena grows beyond what it needs. jemalloc grows by ever larger steps; whatever it
/// takes counts as memory that the stores must be able to hold.
const GROWTH_BYTES_MAX: usize = 64 << 20;
/// What [`ARENAS`] holds of an arena that does not exist. Arena 0 is never managed.
const NO_ARENA: u32 = 0;

/// jemalloc's numbers of the managed arenas that exist.
static ARENAS: [AtomicU32; ARENAS_MAX] = [const { AtomicU32::new(NO_ARENA) }; ARENAS_MAX];
/// Threads bound so far.
static THREADS: AtomicU32 = AtomicU32::new(0);

static HOOKS: extent_hooks_t = extent_hooks_t {
    alloc: Some(extent_alloc),
    dalloc: Some(extent_dalloc),
    destroy: None,
    commit: None,
    decommit: None,
    purge_lazy: None,
    purge_forced: Some(extent_purge),
    split: Some(extent_split),
    merge: Some(extent_merge),
};

/// jemalloc's `arena_config_t`.
#[repr(C)]
struct ArenaConfig {
    extent_hooks: *const extent_hooks_t,
    metadata_use_hooks: bool,
}

/// The calling thread's lane, decided now if it was not before.
#[inline(always)]
pub fn lane() -> Lane {
    match lane::get() {
        Lane::Undecided => bind(),
        decided => decided,
    }
}

/// The lane of an allocation that code at `caller` asks for: the linker's are never managed.
#[inline(always)]
pub fn lane_for(caller: usize) -> Lane {
    match lane() {
        Lane::Managed if linker::holds(caller) => Lane::Plain,
        lane => lane,
    }
}

/// Makes sure that jemalloc is set up.
pub fn start() {
    lane();
}

/// Runs `work` with the thread's allocations in memory that is never evicted.
///
/// What the C library allocates for a thread that serves faults (its thread-local storage above all) must be
/// allocated in here, or a fault in it would wait for itself.
pub fn plainly<T>(work: impl FnOnce() -> T) -> T {
    let before = lane::get();
    lane::set(Lane::Plain);
    let result = work();
    lane::set(before);
    result
}

/// Puts the calling thread on memory that is never evicted, for the rest of its life.
pub fn stay_plain() {
    lane::set(Lane::Plain);
}

/// Flags of an allocation from arena 0, past the thread's caches: a cache holds blocks of managed arenas.
pub const PLAIN: c_int = jemalloc::MALLOCX_ARENA(0) | jemalloc::MALLOCX_TCACHE_NONE;

/// Allocates memory that is never evicted, as malloc does.
#[cold]
pub fn allocate_plainly(len: usize, align: usize, extra_flags: c_int) -> *mut c_void {
    let flags = PLAIN | jemalloc::MALLOCX_ALIGN(align) | extra_flags;
    // SAFETY: the size is not 0 and the flags are valid.
    let block = unsafe { jemalloc::mallocx(len.max(1), flags) };
    if block.is_null() {
        set_errno(ENOMEM);
    }
    block
}

/// Allocates, and once more when the heap could not grow.
///
/// jemalloc does not cut small blocks from large pieces that were freed a moment ago, and does not join them with what
/// it keeps; when there is nothing else, they are purged first, and then it does.
#[inline(always)]
pub fn persistently(allocate: impl Fn() -> *mut c_void) -> *mut c_void {
    let block = allocate();
    if block.is_null() { after_purge(allocate) } else { block }
}

#[cold]
fn after_purge(allocate: impl Fn() -> *mut c_void) -> *mut c_void {
    if !region::has_refused() {
        return null_mut();
    }
    purge();
    allocate()
}

/// Gives the contents of all free pages away.
pub fn purge() {
    // 4096 is MALLCTL_ARENAS_ALL.
    control(c"arena.4096.purge", None::<&mut ()>, None::<&()>);
}

/// Lets a thread of jemalloc's give away the contents of what was freed a second ago. Without it that is done when the
/// program allocates or frees the next time: one that frees much and then waits would keep what it no longer needs. The
/// thread sleeps while there is nothing to give away. A forked child has none until this is called there.
pub fn purge_in_background() {
    plainly(|| {
        control(c"max_background_threads", None::<&mut usize>, Some(&1usize));
        // Where no thread can be started, freed memory comes back later.
        control(c"background_thread", None::<&mut bool>, Some(&true));
    });
}

/// Reads one of jemalloc's numbers; 0 when it is not known.
pub fn statistic(name: &CStr) -> usize {
    let mut value = 0;
    control(name, Some(&mut value), None::<&()>);
    value
}

/// Makes [`statistic`] give present numbers.
pub fn refresh_statistics() {
    control(c"epoch", None::<&mut u64>, Some(&1u64));
}

/// Binds the calling thread to a managed arena.
#[cold]
fn bind() -> Lane {
    // First of all: binding starts jemalloc, which calls the C library, which allocates.
    lane::set(Lane::Managed);
    forks::register();
    linker::find();
    if let Some(arena) = arena_for_new_thread() {
        control(c"thread.arena", None::<&mut c_uint>, Some(&arena));
    }
    Lane::Managed
}

/// The managed arenas take turns.
fn arena_for_new_thread() -> Option<u32> {
    let arenas = (cpu_count() * ARENAS_PER_CPU).min(ARENAS_MAX);
    let turn = THREADS.fetch_add(1, Ordering::Relaxed) as usize % arenas;
    match ARENAS[turn].load(Ordering::Acquire) {
        NO_ARENA => {
            let made = make_arena()?;
            // When another thread was faster, this one keeps the arena to itself.
            let _ = ARENAS[turn].compare_exchange(NO_ARENA, made, Ordering::AcqRel, Ordering::Relaxed);
            Some(made)
        }
        made => Some(made),
    }
}

fn cpu_count() -> usize {
    thread::affinity(0).map_or(1, |cpus| cpus.count() as usize).max(1)
}

fn make_arena() -> Option<u32> {
    let config = ArenaConfig { extent_hooks: &HOOKS, metadata_use_hooks: false };
    let mut arena: c_uint = NO_ARENA;
    if !control(c"experimental.arenas_create_ext", Some(&mut arena), Some(&config)) {
        return None;
    }
    limit_growth(arena);
    Some(arena)
}

fn limit_growth(arena: c_uint) {
    let (mut mib, mut mib_len) = ([0usize; 3], 3usize);
    // SAFETY: the name has three parts and `mib` room for three.
    let found =
        unsafe { jemalloc::mallctlnametomib(c"arena.0.retain_grow_limit".as_ptr(), mib.as_mut_ptr(), &mut mib_len) };
    if found != 0 {
        return;
    }
    mib[1] = arena as usize;
    let mut limit = GROWTH_BYTES_MAX;
    // SAFETY: the option is a `size_t`.
    unsafe {
        jemalloc::mallctlbymib(
            mib.as_ptr(),
            mib_len,
            null_mut(),
            null_mut(),
            (&raw mut limit).cast(),
            size_of::<usize>(),
        )
    };
}

/// `mallctl` by name. The types are the option's own; jemalloc refuses others by their size.
fn control<Old, New>(name: &CStr, old: Option<&mut Old>, new: Option<&New>) -> bool {
    let mut old_len = size_of::<Old>();
    let (old, old_len): (*mut c_void, *mut usize) = match old {
        Some(old) => ((&raw mut *old).cast(), &mut old_len),
        None => (null_mut(), null_mut()),
    };
    let (new, new_len) = match new {
        Some(new) => (&raw const *new, size_of::<New>()),
        None => (null(), 0),
    };
    // SAFETY: the pointers hold for the call and the lengths are theirs; jemalloc does not write to `new`.
    unsafe { jemalloc::mallctl(name.as_ptr(), old, old_len, new.cast_mut().cast(), new_len) == 0 }
}

/// Gives out fresh memory. That it is zero and committed is always true of it.
unsafe extern "C" fn extent_alloc(
    _hooks: *mut extent_hooks_t,
    wanted: *mut c_void,
    len: usize,
    align: usize,
    zero: *mut bool,
    commit: *mut bool,
    _arena: c_uint,
) -> *mut c_void {
    // What follows an extent is another's already, as a rule; jemalloc then asks for memory anywhere.
    if !wanted.is_null() {
        return null_mut();
    }
    let Some(addr) = region::grow(len, align) else {
        return null_mut();
    };
    // SAFETY: jemalloc gives places for its answers.
    unsafe {
        zero.write(true);
        commit.write(true);
    }
    core::ptr::with_exposed_provenance_mut(addr)
}

/// Keeps the address space: `true` is "not unmapped". jemalloc then purges the extent and uses it again.
unsafe extern "C" fn extent_dalloc(
    _hooks: *mut extent_hooks_t,
    _addr: *mut c_void,
    _len: usize,
    _committed: bool,
    _arena: c_uint,
) -> bool {
    true
}

/// Gives contents away; `false` is "done, and what remains is zero".
unsafe extern "C" fn extent_purge(
    _hooks: *mut extent_hooks_t,
    addr: *mut c_void,
    _len: usize,
    offset: usize,
    purged_len: usize,
    _arena: c_uint,
) -> bool {
    // SAFETY: jemalloc owns the extent and nothing in it is allocated.
    !unsafe { region::drop_contents(addr.addr() + offset, purged_len) }
}

unsafe extern "C" fn extent_split(
    _hooks: *mut extent_hooks_t,
    _addr: *mut c_void,
    _len: usize,
    _len_a: usize,
    _len_b: usize,
    _committed: bool,
    _arena: c_uint,
) -> bool {
    false
}

unsafe extern "C" fn extent_merge(
    _hooks: *mut extent_hooks_t,
    _addr_a: *mut c_void,
    _len_a: usize,
    _addr_b: *mut c_void,
    _len_b: usize,
    _committed: bool,
    _arena: c_uint,
) -> bool {
    false
}
