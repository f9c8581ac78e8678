//! The program's side of the door to the monitor: what hooks and the heap tell it.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use memvisor_pager::{Charged, Door, MemberIndex, Note, Space};
use memvisor_sys::thread::{self, Saved};
use std::sync::OnceLock;

/// The door of this process.
pub static DOOR: Door = Door::new();
static OPEN: AtomicBool = AtomicBool::new(false);
static SPACE: OnceLock<Space> = OnceLock::new();
/// The member that this process is, plus one; 0 while it is none, so that nothing can be charged to it.
static MEMBER: AtomicUsize = AtomicUsize::new(0);

/// Address space is divided into pieces of this many bytes, one bit each, to tell quickly what cannot be managed.
const PIECE_BYTES: usize = memvisor_core::WINDOW_BYTES;
/// 47 bits of address.
const PIECES: usize = (1 << 47) / PIECE_BYTES;
/// The pieces in which something managed was ever mapped.
static TOUCHED: [AtomicU64; PIECES / 64] = [const { AtomicU64::new(0) }; PIECES / 64];
/// The signal mask of a thread that forks; it holds the door's lock.
static FORK_MASK: OnceCell = OnceCell(core::cell::UnsafeCell::new(None));

struct OnceCell(core::cell::UnsafeCell<Option<Saved>>);
// SAFETY: only the thread that holds the door's lock reads or writes it.
unsafe impl Sync for OnceCell {}

/// The process is a member now: notes are read.
pub fn open(space: Space, member: MemberIndex) {
    SPACE.get_or_init(|| space);
    MEMBER.store(member.0 + 1, Ordering::Release);
    OPEN.store(true, Ordering::Release);
}

/// Nobody listens any more.
pub fn close() {
    MEMBER.store(0, Ordering::Release);
    OPEN.store(false, Ordering::Release);
}

/// Whether the process is a member.
pub fn is_open() -> bool {
    OPEN.load(Ordering::Acquire)
}

/// One thread's turn at the door; signals are blocked while it lasts.
pub struct Turn {
    saved: Option<Saved>,
}

impl Turn {
    /// Waits for the turn.
    pub fn take() -> Self {
        let saved = thread::block_all_signals();
        DOOR.lock();
        Self { saved: Some(saved) }
    }

    /// Leaves a note; when there is no room, the monitor reads first. While nobody listens and there is no room, the
    /// memory that the note is about stays plain. Gives whether the note was left.
    pub fn leave(&self, note: Note) -> bool {
        if DOOR.leave(note) {
            return true;
        }
        ring();
        let left = DOOR.leave(note);
        if !left {
            DOOR.drop_note();
        }
        left
    }

    /// Says that `start..end` is private anonymous memory that can be written. It is charged here, before it can be
    /// touched: so of several processes that map at once only those go on without a word whose memory fits. When it does
    /// not, the monitor acts first.
    pub fn mapped(&self, start: usize, end: usize) {
        let bytes = (end - start) as i64;
        let Some((space, member)) = membership() else {
            self.leave(Note::Mapped { start, end, charged: Charged::NotYet });
            return;
        };
        space.charge_unarmed(member, bytes);
        if !self.leave(Note::Mapped { start, end, charged: Charged::Already }) {
            space.charge_unarmed(member, -bytes);
        } else if space.headroom_pages() < 0 {
            ring();
        }
    }
}

/// What new memory is charged to.
fn membership() -> Option<(&'static Space, MemberIndex)> {
    let member = MEMBER.load(Ordering::Acquire).checked_sub(1)?;
    Some((SPACE.get()?, MemberIndex(member)))
}

impl Drop for Turn {
    fn drop(&mut self) {
        DOOR.unlock();
        if let Some(saved) = self.saved.take() {
            thread::restore(saved);
        }
    }
}

/// Touches a bell: the kernel lets the thread go on when the monitor has answered.
fn ring() {
    if let Some(bell) = DOOR.next_bell() {
        // SAFETY: the bells are mapped, readable memory of the monitor's for as long as it listens.
        unsafe { core::ptr::read_volatile(core::ptr::with_exposed_provenance::<u8>(bell)) };
    }
}

/// Gives every thread its own affinity back.
pub fn make_whole() {
    if DOOR.is_holding() {
        let _turn = Turn::take();
        ring();
    }
}

/// Whether anything managed was ever mapped where the range is.
pub fn touches(start: usize, len: usize) -> bool {
    if len == 0 || start >= 1 << 47 {
        return false;
    }
    let last = start.saturating_add(len - 1).min((1 << 47) - 1);
    (start / PIECE_BYTES..=last / PIECE_BYTES)
        .any(|piece| TOUCHED[piece / 64].load(Ordering::Relaxed) & 1 << (piece % 64) != 0)
}

/// From now on the range may hold managed memory.
pub fn touch(start: usize, len: usize) {
    let last = (start + len - 1).min((1 << 47) - 1);
    for piece in start / PIECE_BYTES..=last / PIECE_BYTES {
        TOUCHED[piece / 64].fetch_or(1 << (piece % 64), Ordering::Relaxed);
    }
}

/// Whether the stores could not hold `len` bytes more: malloc and mmap then fail, as they do on a machine without
/// memory. What the program has already is not touched.
pub fn refuses(len: usize) -> bool {
    SPACE.get().is_some_and(|space| is_open() && space.refuses(len as u64))
}

/// The heap took `len` bytes at `addr` into use: fresh private anonymous memory, readable and writable, of which
/// nothing was touched yet. Called by the thread that wants the memory, with jemalloc's growth lock held, so it must
/// not allocate from the program's heap. `false` refuses: the allocation fails as malloc does without memory.
pub fn heap_grew(addr: usize, len: usize) -> bool {
    if refuses(len) {
        return false;
    }
    touch(addr, len);
    let turn = Turn::take();
    turn.mapped(addr, addr + len);
    true
}

/// Takes the turn of a thread that forks and keeps it; `saved` is its signal mask.
pub fn lock_for_fork(saved: Saved) {
    DOOR.lock();
    // SAFETY: this thread holds the lock.
    unsafe { *FORK_MASK.0.get() = Some(saved) };
}

fn fork_mask() -> Saved {
    // SAFETY: the forking thread holds the lock, and in the child it is the only thread.
    unsafe { (*FORK_MASK.0.get()).take() }.unwrap_or_else(thread::block_all_signals)
}

/// Asks the monitor to make a member for the child; its number plus one, or 0.
pub fn prepare_fork() -> u64 {
    DOOR.set_answer(0);
    while !DOOR.leave(Note::ForkPrepare) {
        ring();
    }
    ring();
    DOOR.answer()
}

/// Tells the monitor that the fork is over.
pub fn fork_done() {
    while !DOOR.leave(Note::ForkDone) {
        ring();
    }
    ring();
}

/// Ends the turn of a thread that forked.
pub fn unlock_after_fork() -> Saved {
    let saved = fork_mask();
    DOOR.unlock();
    saved
}

/// In the child: the parent's monitor is not ours.
pub fn forget_parent() -> Saved {
    MEMBER.store(0, Ordering::Release);
    DOOR.reset_in_child();
    fork_mask()
}
