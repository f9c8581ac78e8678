//! Whether this kernel lets programs be managed at all, decided from what the probe found.

use memvisor_core::PAGE_BYTES;
use memvisor_sys::probe::Probe;
use memvisor_sys::uffd::Way;
use std::fmt;

/// Why no program can be managed here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelObstacle {
    /// The kernel's pages are not ours.
    PageSize(usize),
    /// There is no userfaultfd, or it is forbidden.
    NoUserfaultfd,
    /// A userfaultfd is to be had, but faults inside system calls would fail the calls.
    UserModeOnly,
    /// The kernel does not tell when a program changes the layout of its memory.
    NoEvents,
    /// Pages can neither be moved out nor write-protected.
    NoWayOut,
    /// No memory file can be made and sealed.
    NoMemfd,
}

impl fmt::Display for KernelObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelObstacle::PageSize(bytes) => write!(f, "the kernel has pages of {bytes} bytes, not of {PAGE_BYTES}"),
            KernelObstacle::NoUserfaultfd => f.write_str("the kernel gives us no userfaultfd"),
            KernelObstacle::UserModeOnly => {
                f.write_str("the kernel gives us only a userfaultfd that does not serve faults inside system calls")
            }
            KernelObstacle::NoEvents => {
                f.write_str("the kernel does not tell when a program changes the layout of its memory")
            }
            KernelObstacle::NoWayOut => f.write_str("the kernel can neither move pages out nor write-protect them"),
            KernelObstacle::NoMemfd => f.write_str("no sealed memory file can be made"),
        }
    }
}

/// How to be given a whole userfaultfd; three ways, the narrowest first.
pub const UFFD_WAYS_OUT: &str = "as root: `chmod a+rw /dev/userfaultfd` (in a container: --device /dev/userfaultfd), or \
     `sysctl vm.unprivileged_userfaultfd=1`, or give memvisor CAP_SYS_PTRACE as an ambient capability";

impl KernelObstacle {
    /// What the person can do about it.
    pub fn way_out(self) -> &'static str {
        match self {
            KernelObstacle::PageSize(_) => "boot a kernel with pages of 4 KiB",
            KernelObstacle::NoUserfaultfd | KernelObstacle::UserModeOnly => UFFD_WAYS_OUT,
            KernelObstacle::NoEvents | KernelObstacle::NoWayOut => "use Linux 5.7 or later; 6.8 or later is faster",
            KernelObstacle::NoMemfd => "use Linux 3.17 or later, and allow memfd_create in the seccomp profile",
        }
    }
}

/// Why no program can be managed on a machine that was probed so; `None` when it can.
pub fn obstacle(probe: &Probe) -> Option<KernelObstacle> {
    if probe.page_bytes != PAGE_BYTES {
        return Some(KernelObstacle::PageSize(probe.page_bytes));
    }
    match probe.uffd {
        None => return Some(KernelObstacle::NoUserfaultfd),
        Some(Way::UserModeOnly) => return Some(KernelObstacle::UserModeOnly),
        Some(Way::Device | Way::Privileged) => {}
    }
    let features = probe.features;
    if !(features.event_unmap && features.event_remap && features.event_remove && features.thread_id) {
        return Some(KernelObstacle::NoEvents);
    }
    if !probe.move_works && !features.wp {
        return Some(KernelObstacle::NoWayOut);
    }
    (!probe.memfd_works).then_some(KernelObstacle::NoMemfd)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use memvisor_sys::probe::{Features, HugePages};

    /// A machine on which everything works.
    pub fn machine() -> Probe {
        Probe {
            kernel_release: "6.18.0".into(),
            uffd: Some(Way::Device),
            features: Features::from_bits(u64::MAX),
            move_works: true,
            event_fork_works: true,
            pagemap_scan_works: true,
            process_vm_readv_works: true,
            io_uring_works: true,
            memfd_works: true,
            huge_pages: HugePages::OnRequest,
            page_bytes: 4096,
            cpus: 2,
            memory_total_bytes: 24 << 30,
            overcommit_mode: Some(0),
            max_map_count: Some(65530),
            unprivileged_userfaultfd: Some(false),
        }
    }

    #[test]
    fn a_machine_on_which_all_works_has_no_obstacle() {
        assert_eq!(obstacle(&machine()), None);
        let old = Probe { move_works: false, ..machine() };
        assert_eq!(obstacle(&old), None, "write-protection is enough");
    }

    #[test]
    fn each_thing_that_is_needed_is_an_obstacle_when_it_is_missing() {
        let features = machine().features;
        let no_events = Features { event_remap: false, ..features };
        let no_protection = Features { wp: false, ..features };
        for (probe, found) in [
            (Probe { page_bytes: 65536, ..machine() }, KernelObstacle::PageSize(65536)),
            (Probe { uffd: None, ..machine() }, KernelObstacle::NoUserfaultfd),
            (Probe { uffd: Some(Way::UserModeOnly), ..machine() }, KernelObstacle::UserModeOnly),
            (Probe { features: no_events, ..machine() }, KernelObstacle::NoEvents),
            (Probe { move_works: false, features: no_protection, ..machine() }, KernelObstacle::NoWayOut),
            (Probe { memfd_works: false, ..machine() }, KernelObstacle::NoMemfd),
        ] {
            assert_eq!(obstacle(&probe), Some(found));
            assert!(!found.way_out().is_empty());
        }
    }
}
