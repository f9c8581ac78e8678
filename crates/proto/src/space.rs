//! The memory file of a space: where each thing lies, and the names of its words.
//!
//! ```text
//!  0        header                 4 KiB
//!  MEMBERS  member blocks          256 × 8 KiB
//!  FRAMES   what lies in staging   256 × 64 KiB
//!  WINDOWS  owner and address of each window  2¹⁸ × 16 B
//!  TABLES   page words             2¹⁸ × 32 KiB
//!  RAM_META, LOG_META   the stores' own words
//!  RAM_DATA compressed pages
//! ```
//! The file is sparse: a part that was never written costs nothing.

use crate::histogram::{HISTOGRAM_WORDS, Histogram};
use memvisor_core::WINDOW_PAGES;
use memvisor_core::curve::{CURVE_WORDS, CurveWords};
use memvisor_core::sample::{SAMPLE_WORDS, SampleWords};
use std::sync::atomic::AtomicU64;

/// The first word of a space.
pub const MAGIC: u64 = u64::from_le_bytes(*b"memvisor");
/// Changes whenever a word changes its meaning.
pub const VERSION: u64 = 3;
/// Members that a space can have at one time.
pub const MEMBERS_MAX: usize = 256;
/// Frames in the largest staging area.
pub const FRAMES_MAX: usize = 4096;
/// Windows that a space can have: 4 TiB of managed memory.
pub const WINDOWS_MAX: usize = 1 << 18;
const WORD: usize = 8;

/// Byte offsets of the parts of the file.
pub struct Layout;

impl Layout {
    /// The header.
    pub const HEADER: usize = 0;
    /// The member blocks.
    pub const MEMBERS: usize = 4096;
    /// The staging tables.
    pub const FRAMES: usize = Self::MEMBERS + MEMBERS_MAX * Member::WORDS * WORD;
    /// The window directory.
    pub const WINDOWS: usize = Self::FRAMES + MEMBERS_MAX * FRAMES_MAX * 2 * WORD;
    /// The page words.
    pub const TABLES: usize = Self::WINDOWS + WINDOWS_MAX * 2 * WORD;
    /// The words of the RAM store.
    pub const RAM_META: usize = Self::TABLES + WINDOWS_MAX * WINDOW_PAGES * WORD;
    /// Bytes set aside for them.
    pub const RAM_META_BYTES: usize = 1 << 30;
    /// The words of the log store.
    pub const LOG_META: usize = Self::RAM_META + Self::RAM_META_BYTES;
    /// Bytes set aside for them: 2³⁰ pages of 8 bytes, 4 TiB of log.
    pub const LOG_META_BYTES: usize = 9 << 30;
    /// The slabs of the RAM store.
    pub const RAM_DATA: usize = Self::LOG_META + Self::LOG_META_BYTES;
    /// Bytes set aside for them.
    pub const RAM_DATA_BYTES: usize = 256 << 30;
    /// The length of the file.
    pub const FILE_BYTES: usize = Self::RAM_DATA + Self::RAM_DATA_BYTES;
}

/// Gives names to the words of a view.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $at:expr;)*) => {
        $($(#[$doc])* pub fn $name(&self) -> &'a AtomicU64 { &self.0[$at] })*
    };
}

/// The header of a space.
#[derive(Clone, Copy)]
pub struct Header<'a>(pub &'a [AtomicU64]);

impl<'a> Header<'a> {
    /// Words in a header.
    pub const WORDS: usize = 512;
    words! {
        /// [`MAGIC`], written last by the maker.
        magic = 0;
        /// [`VERSION`].
        version = 1;
        /// Tells this space from every other: the low half of a random number.
        id_low = 2;
        /// The high half.
        id_high = 3;
        /// DRAM granted to the space now, in bytes.
        target_bytes = 4;
        /// The most that compressed pages may take of it, in bytes.
        ram_limit_bytes = 5;
        /// Bytes of slabs of the RAM store that hold memory now.
        ram_bytes = 6;
        /// Process id of the keeper; 0 when it said goodbye.
        keeper_pid = 7;
        /// A futex in the low half: counts what the keeper was given; the keeper sleeps on it.
        keeper_bell = 8;
        /// 1 while the keeper sleeps or is about to.
        keeper_asleep = 9;
        /// The key of page hashes in this space.
        hash_seed = 10;
        /// 1 when the stores take no more, or the log has only its reserve left; what free DRAM does not hold is then denied.
        store_full = 11;
        /// Size of the log in pages, 0 without one.
        log_pages = 12;
        /// Pages of the log in use.
        log_used_pages = 13;
        /// Where a search for a free window starts.
        window_hint = 14;
        /// Options of the run, see [`crate::space::option`].
        options = 15;
        /// Pages promised to programs by malloc and mmap that the stores must be able to hold.
        committed_pages = 16;
        /// Bytes of metadata in use: page tables and store tables.
        meta_bytes = 17;
        /// Pages moved from RAM to the log.
        sunk_pages = 18;
        /// Errors that stores gave.
        store_errors = 19;
        /// Process ids of the program that `run` started.
        program_pid = 20;
        /// Windows that have an owner.
        windows_used = 21;
        /// Pages that savers found to be as their stored copy says.
        clean_saves = 22;
        /// Pages compressed or written by savers.
        saves = 23;
        /// Pages that no store would take.
        refusals = 24;
        /// Pages charged to all members: resident, staged, and what is not armed yet.
        charged_pages = 25;
        /// Members that run.
        members = 26;
        /// DRAM that the owner was promised, in bytes. This and the words up to [`Header::domain`] are the intent: written
        /// when the space is made, and by a node after that; a node that comes back reads them.
        reservation_bytes = 27;
        /// The most DRAM that the space may ever have, in bytes; `u64::MAX` without a limit.
        limit_bytes = 28;
        /// Weight against other spaces.
        shares = 29;
        /// Who is sacrificed first, see [`class`].
        class = 30;
        /// Whose memory it is: pages are merged within one domain only.
        domain = 31;
        /// When a node last wrote the target, in nanoseconds of the monotonic clock; 0 when none ever did.
        planned_ns = 32;
        /// The part of the target that compressed pages may take, in thousandths; the keeper derives
        /// [`Header::ram_limit_bytes`] from it. 0 leaves that as it was made.
        ram_limit_permille = 33;
        /// 1 asks every member to bring all pages back to plain DRAM and to let go; 0 calls that off.
        drain = 34;
        /// The least time of a period of the sampler of activity, in milliseconds of run time; 0 for the usual.
        sample_period_ms = 35;
        /// Until then, in nanoseconds of the monotonic clock, no thread makes the space larger while it is above its target: the
        /// host has next to no DRAM left. A node that wants it longer writes it anew; 0 when it does not.
        blocked_until_ns = 36;
        /// Faults that waited because of that.
        blocked_faults = 37;
        /// The time that they waited, in nanoseconds.
        blocked_ns = 38;
        /// How many pages the sampler of activity chooses in a period; 0 for the usual number. A pager that does not know the word
        /// chooses as many.
        sample_pages = 39;
    }
}

/// What [`Header::class`] can be.
pub mod class {
    /// May wait: the first to be cut.
    pub const BATCH: u64 = 0;
    /// Everything else.
    pub const STANDARD: u64 = 1;
    /// Somebody waits for each answer: the last to be cut.
    pub const LATENCY: u64 = 2;
}

/// Bits of [`Header::options`].
pub mod option {
    /// Never use UFFDIO_MOVE, as on kernels before 6.8.
    pub const WITHOUT_MOVE: u64 = 1;
    /// The store injects faults (tests): a bit is flipped in one load in 64.
    pub const FAULTY_FLIP: u64 = 1 << 8;
    /// The store injects faults (tests): loads of the log stall for a second now and then.
    pub const FAULTY_STALL: u64 = 1 << 9;
    /// The store injects faults (tests): loads fail.
    pub const FAULTY_ERROR: u64 = 1 << 10;
}

/// What [`Member::state`] can be.
pub mod member_state {
    /// Nobody's.
    pub const FREE: u64 = 0;
    /// Taken by a member that is being set up.
    pub const JOINING: u64 = 1;
    /// Runs.
    pub const LIVE: u64 = 2;
    /// Its process is gone; the keeper gives back what it held.
    pub const DEAD: u64 = 3;
    /// Taken, while its words are still those of who had it before: they say nothing, and nobody acts on them.
    pub const TAKEN: u64 = 4;
}

/// The block of one member.
#[derive(Clone, Copy)]
pub struct Member<'a>(pub &'a [AtomicU64]);

const _: () = assert!(Member::CURVE + CURVE_WORDS <= Member::FAULT_NS);

impl<'a> Member<'a> {
    /// Words in a member block.
    pub const WORDS: usize = 1024;
    /// The first word of the sampler of activity.
    const SAMPLE: usize = 40;
    /// The first word of the recorder of reuse distances.
    const CURVE: usize = Self::SAMPLE + SAMPLE_WORDS;
    /// The first word of the histogram of fault service times.
    const FAULT_NS: usize = 512;
    words! {
        /// See [`member_state`].
        state = 0;
        /// Its process id.
        pid = 1;
        /// When its process started, in clock ticks after boot: tells it from a later one with the same id.
        start_ticks = 2;
        /// Thread id of its monitor.
        monitor_tid = 3;
        /// Managed pages in their place in armed memory.
        resident_pages = 4;
        /// Frames in staging that hold memory.
        staged_pages = 5;
        /// Bytes of managed memory that is not armed yet: what it can take at most without a fault.
        unarmed_bytes = 6;
        /// Managed bytes that the program has mapped.
        managed_bytes = 7;
        /// Address of frame 0 of its staging area.
        staging_base = 8;
        /// Frames in its staging area.
        staging_frames = 9;
        /// Frames parked so far; frame `n % staging_frames` was parked last by number `n`.
        parked_head = 10;
        /// Frames that the keeper has looked at so far.
        kept_head = 11;
        /// Frames given back so far.
        freed_head = 12;
        /// Faults served.
        faults = 13;
        /// Faults on pages without contents.
        first_touches = 14;
        /// Faults on parked pages.
        parked_hits = 15;
        /// Pages loaded from RAM.
        ram_loads = 16;
        /// Pages loaded from the log.
        log_loads = 17;
        /// Pages loaded that were a pattern.
        filled_loads = 18;
        /// Pages moved out.
        evictions = 19;
        /// Times that a fault had to wait for a frame.
        stalls = 20;
        /// Pages that refused to move: pinned, locked or read-only.
        immovable = 21;
        /// Pages that could not be brought back true.
        lost = 22;
        /// The longest service of a fault, in nanoseconds.
        fault_ns_max = 23;
        /// 1 when the member wants to grow and the space is at its target.
        hungry = 24;
        /// Pages loaded ahead of a fault.
        prefetched = 25;
        /// Pages saved by the member itself.
        self_saves = 26;
        /// Requests that the program's threads made of the monitor.
        requests = 27;
        /// Memory that the pager itself holds in this process, in bytes.
        pager_bytes = 28;
        /// Pages that had to be unshared after a fork before they could move.
        unshared = 29;
        /// Pages in managed memory that the program gave away.
        discards = 30;
        /// Times the monitor followed the program to another CPU.
        cpu_moves = 31;
        /// Loads that failed and were tried again.
        retries = 32;
        /// Pages of windows of the table that this member owns.
        table_windows = 33;
        /// Pages found missing that should have been in their place; the program gave them away unseen.
        holes = 34;
        /// Times the space was above its target because nothing could be moved out.
        over_target = 35;
        /// The member this one was forked from, plus one; 0 when it joined by exec.
        parent = 36;
        /// When the block was taken, in nanoseconds of the monotonic clock.
        joined_ns = 37;
        /// 1 when the member was asked to drain and has let go: its memory is plain.
        drained = 38;
        /// Pages of the member that are parked or stored: with those that are resident, its footprint.
        away_pages = 39;
    }

    /// Tallies of the sampler of activity.
    pub fn sample(&self) -> SampleWords<'a> {
        SampleWords(&self.0[Self::SAMPLE..Self::CURVE])
    }

    /// Reuse distances of watched pages.
    pub fn curve(&self) -> CurveWords<'a> {
        CurveWords(&self.0[Self::CURVE..Self::CURVE + CURVE_WORDS])
    }

    /// Service times of faults.
    pub fn fault_ns(&self) -> Histogram<'a> {
        Histogram(&self.0[Self::FAULT_NS..Self::FAULT_NS + HISTOGRAM_WORDS])
    }
}
