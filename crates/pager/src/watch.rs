//! Whether the keeper is alive.

use memvisor_sys::file::Fd;
use memvisor_sys::process::{pidfd_alive, pidfd_open};

/// Watches the keeper through a pidfd, so that another process with the same id is not taken for it.
pub struct KeeperWatch {
    pidfd: Option<Fd>,
}

impl KeeperWatch {
    /// Watches the process `pid`; one that cannot be watched counts as dead, and the pager saves by itself.
    pub fn new(pid: u32) -> Self {
        Self { pidfd: if pid == 0 { None } else { pidfd_open(pid).ok() } }
    }

    /// Asks the kernel; once dead, always dead.
    pub fn is_alive(&mut self) -> bool {
        let alive = self.pidfd.as_ref().is_some_and(pidfd_alive);
        if !alive {
            self.pidfd = None;
        }
        alive
    }
}
