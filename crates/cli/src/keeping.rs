//! The keeper of a run: started before the program, stopped when its tree has ended.

use crate::space::Space;
use crate::store_file::StoreFile;
use crate::watch::{SharedLedger, locked};
use memvisor_pager::{Keeper, KeeperHandle, OnLeave, Stores};
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A keeper at work.
pub struct Keeping {
    handle: KeeperHandle,
}

impl Keeping {
    /// Starts to save what the members of `space` park. The counts of members that leave go to `ledger`.
    ///
    /// # Errors
    /// When the stores cannot be opened or the thread cannot be had. The members then save by themselves.
    pub fn start(space: &Arc<Space>, store: Option<&StoreFile>, ledger: SharedLedger) -> std::io::Result<Self> {
        let log = store.map(log_path);
        let stores = Stores::attach(space.map(), log.as_deref())?;
        let view = memvisor_pager::Space::new(space.map());
        let on_leave: OnLeave = Box::new(move |member| locked(&ledger).fold_member(member.0, &view.member(member)));
        space.header().keeper_pid().store(u64::from(std::process::id()), Ordering::Release);
        let file = Arc::clone(space);
        let handle = Keeper::start(view, stores, on_leave, Box::new(move || file.resident_bytes()))?;
        Ok(Self { handle })
    }

    /// Says goodbye to the members: they save by themselves from now on.
    pub fn stop(self, space: &Space) {
        space.header().keeper_pid().store(0, Ordering::Release);
        self.handle.stop();
    }
}

/// The path under which every process of ours can open the store, whether it has a name or not.
fn log_path(store: &StoreFile) -> CString {
    let path = format!("/proc/{}/fd/{}", std::process::id(), store.file().as_raw_fd());
    CString::new(path).expect("digits and slashes have no zero byte")
}
