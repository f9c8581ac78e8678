//! Processes of a space, told from later ones of the same number: as long as one lives, its memory is there.
//!
//! Their numbers come from member blocks, which the owner of the space may write. So a process counts only if it is the owner's:
//! nobody keeps DRAM by naming a process that does not end.

use serde::{Deserialize, Serialize};

/// A process, named for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks after boot.
    pub start_ticks: u64,
}

impl Process {
    /// Whether it has not ended and is one of user `uid`, or `uid` is root, whose processes become anybody's. What has ended and is
    /// not waited for yet holds no memory.
    pub fn lives(self, uid: u32) -> bool {
        let text = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).unwrap_or_default();
        is_same(&text("stat"), self.start_ticks) && (uid == 0 || is_of(&text("status"), uid))
    }
}

/// Whether a text like `/proc/PID/stat` is of a process that started then and has not ended.
fn is_same(stat: &str, start_ticks: u64) -> bool {
    /// Behind the name, which may be anything.
    const STATE: usize = 0;
    const START: usize = 19;
    let Some((_, fields)) = stat.rsplit_once(')') else { return false };
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let has_ended = matches!(fields.get(STATE), None | Some(&"Z" | &"X" | &"x"));
    let started = fields.get(START).and_then(|ticks| ticks.parse::<u64>().ok());
    !has_ended && started == Some(start_ticks)
}

/// Whether a text like `/proc/PID/status` names `uid` as its real, effective, saved or file user.
fn is_of(status: &str, uid: u32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    line.split_ascii_whitespace().any(|field| field.parse() == Ok(uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use memvisor_sys::process;

    #[test]
    fn a_process_is_known_by_its_birth_its_owner_and_that_it_has_not_ended() {
        let stat = |state: &str| format!("7 (a) b) {state} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 77 20\n");
        assert!(is_same(&stat("S"), 77) && !is_same(&stat("S"), 78));
        assert!(!is_same(&stat("Z"), 77) && !is_same(&stat("X"), 77) && !is_same("", 77));
        let status = "Name:\tUid:\nUid:\t10\t11\t12\t13\nGid:\t14\n";
        assert!(is_of(status, 10) && is_of(status, 13) && !is_of(status, 14) && !is_of("", 0));
    }

    #[test]
    fn this_process_lives_and_is_nobodys_but_its_users() {
        use std::os::unix::fs::MetadataExt;
        let pid = process::getpid();
        let this = Process { pid, start_ticks: process::start_ticks(pid).unwrap() };
        let uid = std::fs::metadata("/proc/self").unwrap().uid();
        assert!(this.lives(uid) && !this.lives(uid + 12_345));
        assert!(!Process { start_ticks: this.start_ticks + 1, ..this }.lives(uid));
    }
}
