//! The space of a run: its memory file, and what members need to know to join.

use crate::budget::Budget;
use crate::exit::Failure;
use memvisor_proto::space::{MAGIC, MEMBERS_MAX, VERSION, class, member_state};
use memvisor_proto::{Header, Layout, Member};
use memvisor_sys::shared::{SharedFile, SharedMap};
use memvisor_sys::{Errno, random};
use std::fmt;
use std::sync::atomic::Ordering;

/// Tells members where their space is.
pub const SPACE_VARIABLE: &str = "MEMVISOR_SPACE";

/// What is fixed when a space is made.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Its DRAM.
    pub budget: Budget,
    /// Pages of its log, 0 without one.
    pub log_pages: u64,
    /// Bits of `memvisor_proto::space::option`.
    pub options: u64,
}

/// What becomes of a program that cannot be managed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strictness {
    /// It does not run.
    Strict,
    /// It runs unmanaged.
    Lenient,
}

/// A space that this process made.
pub struct Space {
    file: SharedFile,
    map: SharedMap,
    id: [u64; 2],
}

/// Why no space can be made.
#[derive(Debug)]
pub struct SpaceError(Errno);

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot make the memory file of the space")
    }
}

impl std::error::Error for SpaceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl Failure for SpaceError {
    fn way_out(&self) -> Option<String> {
        // The file is sparse, but its length counts against these.
        Some("raise the limits of address space and file size (ulimit -v, ulimit -f), and see `memvisor doctor`".into())
    }
}

impl Space {
    /// Makes a space on these terms. Members that see its magic see all of its terms.
    ///
    /// # Errors
    /// When the kernel refuses a memory file of that length.
    pub fn make(terms: Terms) -> Result<Self, SpaceError> {
        let file = SharedFile::create(c"memvisor-space", Layout::FILE_BYTES as u64).map_err(SpaceError)?;
        let map = file.map(Layout::FILE_BYTES).map_err(SpaceError)?;
        // Only keeps core dumps small.
        let _ = map.set_dontdump();
        let number = || random::number().map_err(SpaceError);
        let space = Self { file, map, id: [number()?, number()?] };
        let header = space.header();
        for (word, value) in [
            (header.version(), VERSION),
            (header.id_low(), space.id[0]),
            (header.id_high(), space.id[1]),
            (header.target_bytes(), terms.budget.dram),
            (header.ram_limit_bytes(), terms.budget.ram_store),
            (header.hash_seed(), number()?),
            (header.log_pages(), terms.log_pages),
            (header.options(), terms.options),
            (header.ram_limit_permille(), terms.budget.ram_store * 1000 / terms.budget.dram),
            (header.reservation_bytes(), terms.budget.reservation),
            (header.limit_bytes(), terms.budget.limit.unwrap_or(u64::MAX)),
            (header.shares(), u64::from(terms.budget.shares)),
            (header.class(), class::STANDARD),
        ] {
            word.store(value, Ordering::Relaxed);
        }
        header.magic().store(MAGIC, Ordering::Release);
        Ok(space)
    }

    /// The mapping, for the keeper.
    pub fn map(&self) -> SharedMap {
        self.map
    }

    /// This process's descriptor of the file.
    pub fn fd(&self) -> i32 {
        self.file.fd()
    }

    /// The header.
    pub fn header(&self) -> Header<'static> {
        Header(self.map.words(Layout::HEADER, Header::WORDS))
    }

    /// The members that come, run, or have ended and are not yet forgotten, each with its number.
    pub fn members(&self) -> impl Iterator<Item = (usize, Member<'static>)> + '_ {
        const BLOCK_BYTES: usize = Member::WORDS * 8;
        (0..MEMBERS_MAX)
            .map(|at| (at, Member(self.map.words(Layout::MEMBERS + at * BLOCK_BYTES, Member::WORDS))))
            // Blocks are taken in order, so none after one that was never taken was either. To look at them all would
            // give each a page of memory.
            .take_while(|(_, member)| {
                member.state().load(Ordering::Acquire) != member_state::FREE
                    || member.joined_ns().load(Ordering::Acquire) != 0
            })
            .filter(|(_, member)| member.state().load(Ordering::Acquire) != member_state::FREE)
            // A block that is being set up for a process that is not there yet.
            .filter(|(_, member)| member.pid().load(Ordering::Relaxed) != 0)
    }

    /// Bytes of memory that the file takes: compressed pages, tables and headers.
    pub fn resident_bytes(&self) -> u64 {
        self.file.resident_bytes().unwrap_or(0)
    }

    /// The space's number as text.
    pub fn id_text(&self) -> String {
        format!("{:016x}{:016x}", self.id[1], self.id[0])
    }

    /// What [`SPACE_VARIABLE`] says: `KEEPER:SPACE:LOG:ID`, and `:strict` behind it. The first three are the keeper's process
    /// id and its descriptors of the memory file and of the log (`-` without one), which members open under `/proc`. Who
    /// cannot join is to know what follows, so that is said here and not in the space.
    pub fn invitation(&self, log_fd: Option<i32>, strictness: Strictness) -> String {
        let log = log_fd.map_or_else(|| "-".to_owned(), |fd| fd.to_string());
        let mark = match strictness {
            Strictness::Strict => ":strict",
            Strictness::Lenient => "",
        };
        format!("{}:{}:{log}:{}{mark}", std::process::id(), self.file.fd(), self.id_text())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A space of the least budget.
    pub fn small() -> Space {
        let budget = Budget { dram: 16 << 20, ram_store: 8 << 20, reservation: 0, limit: None, shares: 1000 };
        Space::make(Terms { budget, log_pages: 7, options: 1 }).unwrap()
    }

    #[test]
    fn a_space_has_its_terms_in_its_header_and_no_member() {
        let space = small();
        let header = space.header();
        let words = [header.magic(), header.version(), header.target_bytes(), header.log_pages(), header.options()];
        assert_eq!(words.map(|word| word.load(Ordering::Relaxed)), [MAGIC, VERSION, 16 << 20, 7, 1]);
        assert_eq!(space.members().count(), 0);
        assert!(space.resident_bytes() < 1 << 20, "the file is sparse");
    }

    #[test]
    fn two_spaces_differ() {
        assert_ne!(small().id_text(), small().id_text());
    }

    #[test]
    fn an_invitation_opens_the_same_space() {
        let space = small();
        let text = space.invitation(None, Strictness::Lenient);
        let parts: Vec<&str> = text.split(':').collect();
        assert_eq!(parts.len(), 4);
        assert_eq!(parts[2], "-");
        let path = std::ffi::CString::new(format!("/proc/{}/fd/{}", parts[0], parts[1])).unwrap();
        let map = SharedFile::open(&path).unwrap().map(Layout::FILE_BYTES).unwrap();
        let header = Header(map.words(0, Header::WORDS));
        let id = format!(
            "{:016x}{:016x}",
            header.id_high().load(Ordering::Relaxed),
            header.id_low().load(Ordering::Relaxed)
        );
        assert_eq!(parts[3], id);
        let strict = space.invitation(Some(9), Strictness::Strict);
        assert_eq!(strict.split(':').nth(2), Some("9"));
        assert_eq!(strict.strip_suffix(":strict"), Some(&*space.invitation(Some(9), Strictness::Lenient)));
    }
}
