//! What outlives a node: names, numbers, intents, and what the policy remembers.
//!
//! It is written anew whenever it changed, all at once or not at all. A space that attaches again after the node was killed
//! finds its name, its number and its intent here, and its target in its own header; the node, which spaces are still to
//! come back.

use crate::living::Process;
use crate::spaces::Identity;
use memvisor_policy::{Intent, Memory, SpaceId};
use memvisor_sys::process;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file, in the state directory.
const STATE_FILE: &str = "state.json";
/// Changes whenever a field changes its meaning.
const VERSION: u32 = 1;

/// What is known of a space, attached or not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its number here.
    pub number: SpaceId,
    /// Its name here.
    pub name: String,
    /// Whose it is.
    pub uid: u32,
    /// What its owner wants.
    pub intent: Intent,
    /// What its pager was told, in bytes.
    pub told_bytes: u64,
    /// What it held last, in bytes.
    pub charged_bytes: u64,
    /// When it attached first, in milliseconds since 1970.
    pub since_ms: u64,
    /// The process that keeps it; 0 when nobody does any more.
    pub keeper_pid: u32,
    /// When that process started, in clock ticks: tells it from a later one of the same number.
    pub keeper_start: u64,
    /// The process that was started in it.
    pub program_pid: u32,
    /// How.
    pub command: Vec<String>,
    /// Bytes that its file store can hold.
    pub store_bytes: u64,
    /// Where that lies.
    #[serde(default)]
    pub store_path: Option<PathBuf>,
    /// What it holds at most, in bytes, if its owner said so.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// Its processes, as they were seen last.
    #[serde(default)]
    pub processes: Vec<Process>,
}

impl Record {
    /// Whether the process that keeps it still runs, so that it will attach again.
    pub fn keeper_lives(&self) -> bool {
        process::start_ticks(self.keeper_pid) == Ok(self.keeper_start)
    }

    /// What it has or may take without asking, in bytes.
    pub fn held_bytes(&self) -> u64 {
        self.told_bytes.max(self.charged_bytes)
    }

    /// Whether a process of it still runs, so that its memory is there.
    pub fn lives(&self) -> bool {
        self.processes.iter().any(|process| process.lives(self.uid))
    }
}

/// What outlives a node.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    /// Of the file; 0 before it was written.
    pub version: u32,
    /// The number that the next new space gets.
    pub next_number: u64,
    /// What the last plan left for the next.
    pub memory: Memory,
    #[serde(with = "records")]
    /// Each space.
    pub spaces: BTreeMap<Identity, Record>,
}

/// The identity as a key of JSON: text.
mod records {
    use super::{BTreeMap, Identity, Record};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(spaces: &BTreeMap<Identity, Record>, to: S) -> Result<S::Ok, S::Error> {
        spaces.iter().map(|(id, record)| (id.to_string(), record)).collect::<BTreeMap<_, _>>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Identity, Record>, D::Error> {
        let named = BTreeMap::<String, Record>::deserialize(from)?;
        let record = |(id, record): (String, Record)| {
            Identity::parse(&id)
                .map(|id| (id, record))
                .ok_or_else(|| serde::de::Error::custom(format!("{id} is no space")))
        };
        named.into_iter().map(record).collect()
    }
}

/// What was found in a state directory.
#[derive(Debug)]
pub enum Found {
    /// What a node left.
    State(Box<Kept>),
    /// Nothing: the first start.
    Nothing,
    /// Something that cannot be read. It was put aside, and why.
    Unreadable(String),
}

/// A state directory that is this process's own.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    last: String,
    _lock: Lock,
}

impl StateDirectory {
    /// Makes `path` this process's own.
    ///
    /// # Errors
    /// When it cannot be made, or another node has it (`WouldBlock`).
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self { path: path.to_owned(), last: String::new(), _lock: Lock::take(path)? })
    }

    /// The log of samples.
    pub fn history(&self) -> PathBuf {
        self.path.join("history.log")
    }

    /// What the last node left.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn load(&self) -> io::Result<Found> {
        let path = self.path.join(STATE_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        let why = match serde_json::from_str::<Kept>(&text) {
            Ok(kept) if kept.version == VERSION => return Ok(Found::State(Box::new(kept))),
            Ok(kept) => format!("it is of version {}, not {VERSION}", kept.version),
            Err(error) => error.to_string(),
        };
        fs::rename(&path, path.with_extension("unreadable"))?;
        Ok(Found::Unreadable(why))
    }

    /// Keeps `kept`, if it changed.
    ///
    /// # Errors
    /// When the file cannot be replaced; the old one is whole then.
    pub fn save(&mut self, kept: &Kept) -> io::Result<()> {
        let kept = Kept { version: VERSION, ..kept.clone() };
        let text = serde_json::to_string(&kept).map_err(io::Error::other)?;
        if text != self.last {
            replace_file(&self.path.join(STATE_FILE), text.as_bytes(), 0o600)?;
            self.last = text;
        }
        Ok(())
    }
}

/// A directory that is one node's own, as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the directory.
    ///
    /// # Errors
    /// `WouldBlock` when another process has it.
    pub fn take(directory: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(directory.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(fs::TryLockError::WouldBlock) => {
                let why = format!("another node has {}", directory.display());
                Err(io::Error::new(io::ErrorKind::WouldBlock, why))
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Replaces the file at `path`: who reads it sees the old one or the new one, whole.
///
/// # Errors
/// When the directory cannot be written to.
pub fn replace_file(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    // Left by one that was killed meanwhile, perhaps with other permissions.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(contents)?;
    drop(file);
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn kept() -> Kept {
        let record = Record {
            number: SpaceId(3),
            name: "redis".into(),
            uid: 7,
            intent: Intent::default(),
            told_bytes: 9,
            charged_bytes: 8,
            since_ms: 1,
            keeper_pid: std::process::id(),
            keeper_start: process::start_ticks(std::process::id()).unwrap(),
            program_pid: 1,
            command: vec!["x".into()],
            store_bytes: 0,
            store_path: None,
            size_bytes: None,
            processes: Vec::new(),
        };
        let spaces = BTreeMap::from([(Identity(5), record)]);
        Kept { version: VERSION, next_number: 4, memory: Memory::default(), spaces }
    }

    #[test]
    fn what_was_kept_comes_back() {
        let scratch = Scratch::new("state");
        let mut directory = StateDirectory::open(&scratch).unwrap();
        assert!(matches!(directory.load().unwrap(), Found::Nothing));
        directory.save(&kept()).unwrap();
        let Found::State(found) = directory.load().unwrap() else { panic!("nothing was kept") };
        assert_eq!(*found, kept());
    }

    #[test]
    fn what_cannot_be_read_is_put_aside_and_named() {
        let scratch = Scratch::new("state");
        let directory = StateDirectory::open(&scratch).unwrap();
        for text in ["{\"version\":", "{\"version\":99,\"next_number\":1,\"memory\":{},\"spaces\":{}}"] {
            fs::write(scratch.join(STATE_FILE), text).unwrap();
            assert!(matches!(directory.load().unwrap(), Found::Unreadable(why) if !why.is_empty()));
            assert!(!scratch.join(STATE_FILE).exists() && scratch.join("state.unreadable").exists());
        }
    }

    #[test]
    fn a_directory_has_one_owner() {
        let scratch = Scratch::new("state");
        let first = StateDirectory::open(&scratch).unwrap();
        assert_eq!(StateDirectory::open(&scratch).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        StateDirectory::open(&scratch).unwrap();
    }

    #[test]
    fn a_keeper_is_known_by_its_number_and_its_birth() {
        let record = kept().spaces.remove(&Identity(5)).unwrap();
        assert!(record.keeper_lives());
        assert!(!Record { keeper_start: record.keeper_start + 1, ..record }.keeper_lives());
    }
}
