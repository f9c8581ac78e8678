//! A space as the node sees it: its memory file opened through the process that keeps it, and its names.
//!
//! The file is the owner's, who may be anybody: it is opened only if it is a memory file of that user, sealed against
//! shrinking, and begins like a space. What its words say is believed of nobody but the space itself.

use crate::living::Process;
use memvisor_policy::{Class, DomainId, Intent};
use memvisor_proto::space::{MAGIC, MEMBERS_MAX, VERSION, class, member_state};
use memvisor_proto::{Header, Layout, Member};
use memvisor_sys::shared::{SharedFile, SharedView};
use std::ffi::CString;
use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The part of the file that a node maps: header and members.
const VIEW_BYTES: usize = Layout::FRAMES;
const MEMBER_BYTES: usize = Member::WORDS * 8;
/// The longest name, in bytes.
const NAME_MAX: usize = 64;

/// Who is at the other end of a connection, as the kernel says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its process.
    pub pid: u32,
}

/// The number of a space that it gave itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Identity(pub u128);

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Identity {
    /// The number that 32 hexadecimal digits say.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        plain.then(|| u128::from_str_radix(text, 16).ok().map(Self))?
    }
}

/// Why a memory file is not taken for a space.
#[derive(Debug)]
pub enum OpenError {
    /// The descriptor cannot be looked at.
    Unreachable(io::Error),
    /// It is of another user than the one who offers it.
    OthersFile,
    /// It is no memory file that keeps its length.
    NoMemoryFile,
    /// It does not begin like a space.
    NoSpace,
    /// It is of another version.
    Version(u64),
    /// It is another space than the message says.
    OtherSpace,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => {
                write!(f, "the node cannot open the descriptor ({error}): it must run as root or as the space's user")
            }
            Self::OthersFile => f.write_str("the memory file belongs to another user"),
            Self::NoMemoryFile => f.write_str("the descriptor is no memory file that is sealed against shrinking"),
            Self::NoSpace => f.write_str("the memory file does not begin like a space"),
            Self::Version(version) => write!(
                f,
                "the space is of version {version}, and this node knows {VERSION}: use the same release of both"
            ),
            Self::OtherSpace => f.write_str("the memory file has another number than the message says"),
        }
    }
}

impl std::error::Error for OpenError {}

/// The words of a space, as long as it is attached.
#[derive(Debug)]
pub struct SpaceView(SharedView);

impl SpaceView {
    /// Opens descriptor `fd` of `peer`, which must be the space `id`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(peer: Peer, fd: i32, id: Identity) -> Result<Self, OpenError> {
        let path = format!("/proc/{}/fd/{fd}", peer.pid);
        // Looked at before it is opened: to open a device or a pipe may do something.
        let about = std::fs::metadata(&path).map_err(OpenError::Unreachable)?;
        if !about.is_file() {
            return Err(OpenError::NoMemoryFile);
        }
        if peer.uid != 0 && about.uid() != peer.uid {
            return Err(OpenError::OthersFile);
        }
        let path = CString::new(path).map_err(|_| OpenError::NoMemoryFile)?;
        let file =
            SharedFile::open(&path).map_err(|errno| OpenError::Unreachable(io::Error::other(errno.to_string())))?;
        let view = file.view(VIEW_BYTES).map_err(|_| OpenError::NoMemoryFile)?;
        let space = Self(view);
        space.check(id)?;
        Ok(space)
    }

    fn check(&self, id: Identity) -> Result<(), OpenError> {
        let header = self.header();
        if header.magic().load(Ordering::Acquire) != MAGIC {
            return Err(OpenError::NoSpace);
        }
        match get(header.version()) {
            VERSION => {}
            version => return Err(OpenError::Version(version)),
        }
        let found = u128::from(get(header.id_high())) << 64 | u128::from(get(header.id_low()));
        if found == id.0 { Ok(()) } else { Err(OpenError::OtherSpace) }
    }

    /// The header.
    pub fn header(&self) -> Header<'_> {
        Header(self.0.words(Layout::HEADER, Header::WORDS))
    }

    /// The members that run or have ended and are not buried yet, each with its number.
    pub fn members(&self) -> impl Iterator<Item = (usize, Member<'_>)> {
        (0..MEMBERS_MAX)
            .map(|at| (at, self.block(at)))
            .take_while(|(_, member)| Self::was_taken(member))
            .filter(|(_, member)| matches!(get(member.state()), member_state::LIVE | member_state::DEAD))
    }

    /// The processes of the members that come or run.
    pub fn processes(&self) -> Vec<Process> {
        let blocks = (0..MEMBERS_MAX).map(|at| self.block(at)).take_while(Self::was_taken);
        let is_there = |member: &Member<'_>| matches!(get(member.state()), member_state::JOINING | member_state::LIVE);
        let process = |member: Member<'_>| {
            Some(Process { pid: u32::try_from(get(member.pid())).ok()?, start_ticks: get(member.start_ticks()) })
        };
        blocks.filter(is_there).filter_map(process).filter(|process| process.pid != 0).collect()
    }

    fn block(&self, at: usize) -> Member<'_> {
        Member(self.0.words(Layout::MEMBERS + at * MEMBER_BYTES, Member::WORDS))
    }

    /// Blocks are taken from the front; to look behind the last would give each a page of memory.
    fn was_taken(member: &Member<'_>) -> bool {
        get(member.state()) != member_state::FREE || get(member.joined_ns()) != 0
    }

    /// The intent that the header holds.
    pub fn intent(&self) -> Intent {
        let header = self.header();
        let limit = get(header.limit_bytes());
        Intent {
            reservation_bytes: get(header.reservation_bytes()),
            // A space that was made without a word of it has 0.
            limit_bytes: (limit != u64::MAX && limit != 0).then_some(limit),
            shares: shares(get(header.shares())),
            class: match get(header.class()) {
                class::BATCH => Class::Batch,
                class::LATENCY => Class::Latency,
                _ => Class::Standard,
            },
            domain: DomainId(get(header.domain()) as u32),
        }
    }

    /// Writes an intent into the header, where it outlives this node.
    pub fn set_intent(&self, intent: &Intent) {
        let header = self.header();
        set(header.reservation_bytes(), intent.reservation_bytes);
        set(header.limit_bytes(), intent.limit_bytes.unwrap_or(u64::MAX));
        set(header.shares(), u64::from(intent.shares.get()));
        let class = match intent.class {
            Class::Batch => class::BATCH,
            Class::Standard => class::STANDARD,
            Class::Latency => class::LATENCY,
        };
        set(header.class(), class);
        set(header.domain(), u64::from(intent.domain.0));
    }

    /// What the pager is told.
    pub fn told_bytes(&self) -> u64 {
        get(self.header().target_bytes())
    }

    /// Tells the pager, and when.
    pub fn tell(&self, bytes: u64, now_ns: u64) {
        set(self.header().target_bytes(), bytes);
        set(self.header().planned_ns(), now_ns);
    }

    /// Asks its pagers to let no thread make it larger while it is above what it was told, up to an instant; 0 takes that back.
    pub fn block_until(&self, until_ns: u64) {
        set(self.header().blocked_until_ns(), until_ns);
    }

    /// Tells its pagers how long a period of their samplers is at least, and how many pages are chosen in each.
    pub fn set_sample(&self, period: Duration, pages: u32) {
        set(self.header().sample_period_ms(), period.as_millis() as u64);
        set(self.header().sample_pages(), u64::from(pages));
    }

    /// DRAM that it is charged for, in bytes.
    pub fn charged_bytes(&self) -> u64 {
        let header = self.header();
        pages(get(header.charged_pages()))
            .saturating_add(get(header.ram_bytes()))
            .saturating_add(get(header.meta_bytes()))
    }

    /// Whether it was asked to drain.
    pub fn drains(&self) -> bool {
        get(self.header().drain()) != 0
    }

    /// Asks it to drain.
    pub fn drain(&self) {
        set(self.header().drain(), 1);
    }

    /// Calls a drain off, however far it is.
    pub fn stop_draining(&self) {
        set(self.header().drain(), 0);
    }
}

/// A word as it is now.
pub fn get(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

fn set(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Relaxed);
}

/// Pages in bytes.
pub fn pages(count: u64) -> u64 {
    count.saturating_mul(memvisor_core::PAGE_BYTES as u64)
}

/// Shares from a number that may be anything; the usual ones for 0.
pub fn shares(number: u64) -> NonZeroU32 {
    let most = crate::config::SHARES_MAX;
    NonZeroU32::new(number.min(u64::from(most)) as u32).unwrap_or(Intent::SHARES)
}

/// Whether a text can be the name of a space: a part of a path, a label, a word on a command line.
pub fn is_name(text: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-@".contains(letter);
    (1..=NAME_MAX).contains(&text.len()) && text.chars().all(plain) && text != "." && text != ".."
}

/// The name that is given to who asks for `wanted`: what cannot be in a name becomes `-`, and when it is taken a number
/// is added, from 2 on.
pub fn unique_name(wanted: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let clean: String = wanted
        .chars()
        .take(NAME_MAX - 8)
        .map(|letter| if letter.is_ascii() && is_name(&format!("x{letter}")) { letter } else { '-' })
        .collect();
    let base = if is_name(&clean) { clean } else { "space".to_owned() };
    let numbered = (2u64..).map(|number| format!("{base}-{number}"));
    std::iter::once(base.clone()).chain(numbered).find(|name| !is_taken(name)).unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let taken = ["redis", "redis-2"];
        assert_eq!(unique_name("redis", |name| taken.contains(&name)), "redis-3");
        assert_eq!(unique_name("redis", |_| false), "redis");
    }

    #[test]
    fn whatever_is_asked_for_becomes_a_name() {
        for (wanted, name) in
            [("a b/c", "a-b-c"), ("", "space"), ("..", "space"), ("ä", "-"), ("x\n", "x-"), ("ok.1@x_-", "ok.1@x_-")]
        {
            assert_eq!(unique_name(wanted, |_| false), name);
            assert!(is_name(name));
        }
        assert!(is_name(&unique_name(&"x".repeat(1000), |name| !name.ends_with("-12"))));
    }

    #[test]
    fn a_number_of_a_space_is_32_digits_and_nothing_else() {
        let id = Identity(0xabc << 64 | 7);
        assert_eq!(Identity::parse(&id.to_string()), Some(id));
        for text in ["", "7", "+0000000000000000000000000000000", "g0000000000000000000000000000000"] {
            assert_eq!(Identity::parse(text), None, "{text}");
        }
    }
}
