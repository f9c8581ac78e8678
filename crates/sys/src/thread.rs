//! Threads: who, where, how urgent, with which signals and descriptors. Nothing here allocates.

use crate::call::{self, number as nr};
use crate::file::Fd;
use crate::procfs::{self, ProcPath};
use crate::{Result, errno};
use core::ffi::CStr;

/// Lets other threads of this CPU run.
pub fn yield_now() {
    // SAFETY: has no arguments and no effect on memory.
    let _ = unsafe { call::syscall0(nr::__NR_sched_yield) };
}

/// The id of the calling thread.
pub fn gettid() -> u32 {
    // SAFETY: takes nothing, changes nothing, and cannot fail.
    unsafe { call::syscall0(nr::__NR_gettid) }.map_or(0, |tid| tid as u32)
}

/// CPUs that a [`CpuSet`] can hold: more than any kernel is built for.
pub const CPUS_MAX: usize = 8192;

/// A set of CPUs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CpuSet {
    words: [u64; CPUS_MAX / 64],
}

impl CpuSet {
    /// No CPU.
    pub const EMPTY: CpuSet = CpuSet { words: [0; CPUS_MAX / 64] };

    /// This CPU only. A number above [`CPUS_MAX`] gives the empty set, which the kernel refuses.
    pub fn only(cpu: u32) -> CpuSet {
        let mut set = Self::EMPTY;
        set.insert(cpu);
        set
    }

    /// Puts a CPU in.
    pub fn insert(&mut self, cpu: u32) {
        if let Some(word) = self.words.get_mut(cpu as usize / 64) {
            *word |= 1 << (cpu % 64);
        }
    }

    /// Whether a CPU is in the set.
    pub fn contains(&self, cpu: u32) -> bool {
        self.words.get(cpu as usize / 64).is_some_and(|word| word >> (cpu % 64) & 1 != 0)
    }

    /// How many CPUs are in the set.
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// The CPUs in the set, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..CPUS_MAX as u32).filter(|cpu| self.contains(*cpu))
    }
}

impl core::fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Lets thread `tid` (0: the caller) run on `cpu` only. Hot.
pub fn pin(tid: u32, cpu: u32) -> Result<()> {
    set_affinity(tid, &CpuSet::only(cpu))
}

/// The CPUs that thread `tid` (0: the caller) may run on.
pub fn affinity(tid: u32) -> Result<CpuSet> {
    let mut set = CpuSet::EMPTY;
    let (at, len) = (set.words.as_mut_ptr() as usize, size_of_val(&set.words));
    // SAFETY: the kernel writes at most that many bytes.
    unsafe { call::syscall3(nr::__NR_sched_getaffinity, tid as usize, len, at) }?;
    Ok(set)
}

/// Says on which CPUs thread `tid` (0: the caller) may run. Hot.
pub fn set_affinity(tid: u32, cpus: &CpuSet) -> Result<()> {
    let (at, len) = (cpus.words.as_ptr() as usize, size_of_val(&cpus.words));
    // SAFETY: the kernel reads that many bytes.
    unsafe { call::syscall3(nr::__NR_sched_setaffinity, tid as usize, len, at) }.map(drop)
}

/// The CPU that the caller runs on, or ran on a moment ago.
pub fn current_cpu() -> u32 {
    let mut cpu = 0u32;
    // SAFETY: the kernel writes one word there; the other places are not wanted. It cannot fail.
    let _ = unsafe { call::syscall3(nr::__NR_getcpu, &raw mut cpu as usize, 0, 0) };
    cpu
}

/// The field of a `stat` line that says on which CPU a thread ran last.
const STAT_PROCESSOR: usize = 39;
/// A `stat` line is at most 52 numbers of 20 digits and a name of 64 bytes.
const STAT_BYTES_MAX: usize = 1280;

/// The CPU on which thread `tid` of process `pid` ran last.
///
/// # Errors
/// `ENOENT` or `ESRCH` when there is no such thread.
pub fn last_cpu_of(pid: u32, tid: u32) -> Result<u32> {
    ThreadStat::open(pid, tid)?.last_cpu()
}

/// The `stat` file of a thread, kept open to be asked often.
pub struct ThreadStat {
    fd: Fd,
}

impl ThreadStat {
    /// Opens that of thread `tid` of process `pid`.
    pub fn open(pid: u32, tid: u32) -> Result<ThreadStat> {
        let fd = ProcPath::of(Some(pid)).text("/task/").decimal(tid).text("/stat").open()?;
        Ok(ThreadStat { fd })
    }

    /// The CPU on which the thread ran last. Hot.
    ///
    /// # Errors
    /// `ESRCH` when the thread is gone.
    pub fn last_cpu(&self) -> Result<u32> {
        let mut line = [0; STAT_BYTES_MAX];
        let len = self.fd.pread(&mut line, 0)?;
        procfs::stat_field(&line[..len], STAT_PROCESSOR).map(|cpu| cpu as u32).ok_or(errno::ESRCH)
    }
}

/// How the scheduler treats a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// As any other.
    Other,
    /// As one that computes: it does not preempt when it wakes.
    Batch,
    /// Only when nobody else wants the CPU. Without privilege there may be no way back.
    Idle,
}

/// Sets the scheduling policy of thread `tid` (0: the caller).
pub fn set_policy(tid: u32, policy: Policy) -> Result<()> {
    let policy = match policy {
        Policy::Other => 0,
        Policy::Batch => 3,
        Policy::Idle => 5,
    };
    let priority = 0i32;
    // SAFETY: the kernel reads one `struct sched_param`, which is one int.
    unsafe { call::syscall3(nr::__NR_sched_setscheduler, tid as usize, policy, &raw const priority as usize) }.map(drop)
}

/// Sets the niceness (−20..=19) of thread `tid` (0: the caller).
pub fn set_nice(tid: u32, nice: i32) -> Result<()> {
    const PRIO_PROCESS: usize = 0;
    // SAFETY: touches no memory.
    unsafe { call::syscall3(nr::__NR_setpriority, PRIO_PROCESS, tid as usize, nice as usize) }.map(drop)
}

/// Names the calling thread; the kernel keeps 15 bytes.
pub fn name(name: &CStr) -> Result<()> {
    // The kernel reads up to 16 bytes or the zero byte, whichever comes first.
    crate::process::prctl(crate::process::PR_SET_NAME, name.as_ptr() as usize)
}

/// A signal mask to be put back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the signals stay blocked until the mask is put back"]
pub struct Saved(u64);

/// Signals 32 and 33 are glibc's own: by them it cancels threads and carries a change of user to every thread, and
/// then waits for an answer. A thread that blocks them hangs the program.
const GLIBC_SIGNALS: u64 = 1 << 31 | 1 << 32;

/// Blocks every signal in the calling thread but the two that glibc needs, and gives the mask that was.
pub fn block_all_signals() -> Saved {
    Saved(swap_mask(!GLIBC_SIGNALS))
}

/// Puts a signal mask back.
pub fn restore(saved: Saved) {
    swap_mask(saved.0);
}

impl Saved {
    /// Puts the mask back.
    pub fn restore(self) {
        restore(self);
    }

    /// Whether `signal` was blocked.
    pub fn blocks(&self, signal: u32) -> bool {
        self.0 >> (signal - 1) & 1 != 0
    }
}

fn swap_mask(mask: u64) -> u64 {
    const SIG_SETMASK: usize = 2;
    let mut before = 0u64;
    let (to, from) = (&raw const mask as usize, &raw mut before as usize);
    // SAFETY: the kernel reads one mask of 8 bytes and writes one. It cannot fail.
    let _ = unsafe { call::syscall4(nr::__NR_rt_sigprocmask, SIG_SETMASK, to, from, size_of::<u64>()) };
    before
}

/// Gives the calling thread a table of descriptors of its own: a copy of the process's as it is now.
pub fn unshare_files() -> Result<()> {
    const CLONE_FILES: usize = 0x400;
    // SAFETY: the caller's descriptors keep their numbers.
    unsafe { call::syscall1(nr::__NR_unshare, CLONE_FILES) }.map(drop)
}

/// Closes the descriptors `first..=last` of the calling thread's table.
///
/// Meant for a thread that left the process's table: elsewhere it closes what others own.
pub fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: touches no memory; whoever used a closed descriptor gets EBADF.
    unsafe { call::syscall3(nr::__NR_close_range, first as usize, last as usize, 0) }.map(drop)
}

/// A capability by which a thread may become who it is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capability {
    /// Any user.
    SetUser,
    /// Any group.
    SetGroup,
}

/// Whether thread `tid` (0: the caller) has this capability in effect.
pub fn is_capable(tid: u32, capability: Capability) -> Result<bool> {
    /// `struct __user_cap_header_struct`, of the version whose sets have 64 bits.
    #[repr(C)]
    struct Header {
        version: u32,
        pid: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let number = match capability {
        Capability::SetGroup => 6,
        Capability::SetUser => 7,
    };
    let mut header = Header { version: VERSION_3, pid: tid };
    // Effective, permitted and inheritable, twice: the low halves come first.
    let mut sets = [0u32; 6];
    // SAFETY: the kernel reads one header, may write its version, and writes six words.
    unsafe { call::syscall2(nr::__NR_capget, &raw mut header as usize, sets.as_mut_ptr() as usize) }?;
    Ok(sets[0] >> number & 1 != 0)
}

/// The numbers that the calling thread may take without the capability: its real, effective and saved user or group.
pub fn identities(of: Capability) -> [u32; 3] {
    let number = match of {
        Capability::SetUser => nr::__NR_getresuid,
        Capability::SetGroup => nr::__NR_getresgid,
    };
    let mut ids = [0u32; 3];
    let [real, effective, saved] = &mut ids;
    // SAFETY: the kernel writes one word to each place. It cannot fail.
    let _ = unsafe {
        call::syscall3(number, &raw mut *real as usize, &raw mut *effective as usize, &raw mut *saved as usize)
    };
    ids
}
