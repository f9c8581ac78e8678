//! The keeper: a process beside the program that saves what was parked, and cleans up behind the dead.
//!
//! It makes things faster and nothing depends on it: a pager whose keeper is dead, stopped or slow saves by itself. While
//! it runs it is the only one that compacts, sinks pages to the log and gives back what dead members held.

use crate::save::{SaveBuffers, save_frames};
use crate::space::{MemberIndex, Space};
use crate::staging::read_frames;
use crate::stores::Stores;
use memvisor_core::{Frame, Saver};
use memvisor_proto::space::{MEMBERS_MAX, member_state};
use memvisor_sys::file::Fd;
use memvisor_sys::futex::FutexWord;
use memvisor_sys::{clock, process, thread};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// How long the keeper looks for work before it sleeps, in nanoseconds. Waking it costs the program about 5 µs and an
/// idle CPU 40 µs; a program that faults hard parks a run every 100 µs.
const LOOK_NS: u64 = 150_000;
/// How often members are looked after, in nanoseconds.
const CARE_NS: u64 = 20_000_000;
/// A block that was taken by a process that then died before it could say so is given back after this, in nanoseconds.
const JOINING_NS: u64 = 30_000_000_000;

/// Tells the keeper of a space that something waits, if it sleeps.
pub fn ring(space: &Space) {
    let header = space.header();
    header.keeper_bell().fetch_add(1, SeqCst);
    if header.keeper_asleep().load(SeqCst) != 0 {
        let _ = FutexWord(header.keeper_bell()).wake(1);
    }
}

/// Hears of members that are gone, before their counters are.
pub type OnLeave = Box<dyn FnMut(MemberIndex) + Send>;

/// How much memory the space's file takes now, in bytes.
pub type FileBytes = Box<dyn Fn() -> u64 + Send>;

/// A running keeper.
pub struct KeeperHandle {
    space: Space,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl KeeperHandle {
    /// Ends the keeper's thread; pagers save by themselves from then on.
    pub fn stop(mut self) {
        self.stop.store(true, Release);
        ring(&self.space);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Saves for all members of one space.
pub struct Keeper {
    space: Space,
    stores: Stores,
    buffers: SaveBuffers,
    watched: Vec<Option<Fd>>,
    on_leave: OnLeave,
    file_bytes: FileBytes,
    cared_ns: u64,
}

impl Keeper {
    /// Starts the keeper of `space` in a thread of this process.
    ///
    /// # Errors
    /// When the thread or its buffers cannot be had.
    pub fn start(
        space: Space,
        stores: Stores,
        on_leave: OnLeave,
        file_bytes: FileBytes,
    ) -> std::io::Result<KeeperHandle> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let buffers = SaveBuffers::new().map_err(|errno| std::io::Error::from_raw_os_error(errno.0))?;
        let thread = std::thread::Builder::new().name("keeper".into()).spawn(move || {
            let watched = (0..MEMBERS_MAX).map(|_| None).collect();
            Keeper { space, stores, buffers, watched, on_leave, file_bytes, cared_ns: 0 }.run(&seen);
        })?;
        Ok(KeeperHandle { space, stop, thread: Some(thread) })
    }

    fn run(mut self, stop: &AtomicBool) {
        let mut idle_since = clock::now_ns();
        while !stop.load(Acquire) {
            let saved = self.save_all();
            let now = clock::now_ns();
            if now - self.cared_ns >= CARE_NS {
                self.cared_ns = now;
                self.care(now);
            }
            if saved > 0 {
                idle_since = clock::now_ns();
            } else if now - idle_since < LOOK_NS {
                thread::yield_now();
            } else {
                self.sleep();
            }
        }
    }

    fn sleep(&mut self) {
        let header = self.space.header();
        let bell = FutexWord(header.keeper_bell());
        let seen = bell.load();
        header.keeper_asleep().store(1, SeqCst);
        if self.waiting() < crate::save::BATCH as u64 {
            let _ = bell.wait(seen, Some(CARE_NS));
        }
        header.keeper_asleep().store(0, SeqCst);
    }

    fn live(&self) -> impl Iterator<Item = MemberIndex> + '_ {
        self.watched.iter().enumerate().filter(|(_, pidfd)| pidfd.is_some()).map(|(at, _)| MemberIndex(at))
    }

    fn waiting(&self) -> u64 {
        self.live()
            .map(|member| {
                let block = self.space.member(member);
                block.parked_head().load(Acquire) - block.kept_head().load(Relaxed)
            })
            .sum()
    }

    fn save_all(&mut self) -> u32 {
        let members: Vec<MemberIndex> = self.live().collect();
        members.into_iter().map(|member| self.save_member(member)).sum()
    }

    /// Looks at every frame that this member has parked. Gives how many frames were looked at.
    fn save_member(&mut self, member: MemberIndex) -> u32 {
        let block = self.space.member(member);
        let (mut kept, parked) = (block.kept_head().load(Relaxed), block.parked_head().load(Acquire));
        let frames = block.staging_frames().load(Acquire).max(1);
        let (pid, base) = (block.pid().load(Relaxed) as u32, block.staging_base().load(Acquire) as usize);
        let begun = kept;
        while kept < parked {
            let first = kept % frames;
            let count = (parked - kept).min(crate::save::BATCH as u64).min(frames - first);
            let range = (first as u32..(first + count) as u32).map(Frame);
            save_frames(
                &self.space,
                member,
                range,
                Saver::Keeper,
                &mut self.stores,
                &mut self.buffers,
                |frames, out| read_frames(pid, base, frames, out),
            );
            kept += count;
            block.kept_head().store(kept, Release);
        }
        (kept - begun) as u32
    }

    /// Members that came, members that went, stores that need order.
    fn care(&mut self, now: u64) {
        for at in 0..MEMBERS_MAX {
            let member = MemberIndex(at);
            let block = self.space.member(member);
            match block.state().load(Acquire) {
                member_state::LIVE if self.watched[at].is_none() => self.watch(member),
                member_state::LIVE | member_state::DEAD if self.is_gone(member) => self.bury(member),
                member_state::JOINING if self.never_came(member, now) => self.bury(member),
                // Blocks are taken from the front: behind one that never was taken there are none.
                member_state::FREE if block.joined_ns().load(Relaxed) == 0 => break,
                _ => {}
            }
        }
        self.space.header().members().store(self.live().count() as u64, Relaxed);
        self.tidy();
        self.follow_target();
        // Whatever of the file is not compressed pages is tables, and charged too.
        let header = self.space.header();
        let tables = (self.file_bytes)().saturating_sub(header.ram_bytes().load(Relaxed));
        header.meta_bytes().store(tables, Relaxed);
    }

    /// Compressed pages get their part of a new target.
    fn follow_target(&self) {
        let header = self.space.header();
        let permille = header.ram_limit_permille().load(Relaxed);
        if permille != 0 {
            let bytes = header.target_bytes().load(Relaxed) / 1000 * permille;
            header.ram_limit_bytes().store(bytes, Relaxed);
        }
    }

    fn watch(&mut self, member: MemberIndex) {
        let block = self.space.member(member);
        let pid = block.pid().load(Relaxed) as u32;
        match process::pidfd_open(pid) {
            Ok(pidfd) if process::start_ticks(pid) == Ok(block.start_ticks().load(Relaxed)) => {
                self.watched[member.0] = Some(pidfd);
            }
            _ => self.bury(member),
        }
    }

    /// Whether a block was taken by a process that died before it could say that it runs.
    fn never_came(&self, member: MemberIndex, now: u64) -> bool {
        let block = self.space.member(member);
        match block.pid().load(Acquire) {
            0 => now.saturating_sub(block.joined_ns().load(Relaxed)) > JOINING_NS,
            pid => process::start_ticks(pid as u32) != Ok(block.start_ticks().load(Relaxed)),
        }
    }

    fn is_gone(&self, member: MemberIndex) -> bool {
        let dead = self.space.member(member).state().load(Acquire) == member_state::DEAD;
        dead || self.watched[member.0].as_ref().is_some_and(|pidfd| !process::pidfd_alive(pidfd))
    }

    fn bury(&mut self, member: MemberIndex) {
        (self.on_leave)(member);
        self.watched[member.0] = None;
        self.space.member(member).state().store(member_state::DEAD, Release);
        crate::reap::give_back(&self.space, &self.stores, member);
    }

    fn tidy(&mut self) {
        let members: Vec<MemberIndex> = self.live().collect();
        self.stores.tidy(&self.space, &members);
    }
}

/// Marks the earlier image of this process as gone: an exec has ended it.
pub fn leave_behind(space: &Space, pid: u32) {
    for (_, block) in space.members() {
        if block.pid().load(Relaxed) == u64::from(pid) {
            for state in [member_state::LIVE, member_state::JOINING] {
                let _ = block.state().compare_exchange(state, member_state::DEAD, AcqRel, Relaxed);
            }
        }
    }
}
