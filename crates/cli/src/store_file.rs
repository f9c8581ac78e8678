//! The file under a space: where pages go that DRAM does not hold.
//!
//! `--store` names a directory, in which a file without a name is made, or a file. A named file is made when it is not
//! there, and removed at the end if we made it. One that is there is taken only when it is empty or ours:
//!
//! ```text
//!  ├──────── segments of the log ────────┤ last page: mark ┤
//! ```
//!
//! so that no other file can be overwritten by a slip of the finger.

use crate::exit::Failure;
use crate::size::Size;
use memvisor_core::PAGE_BYTES;
use memvisor_proto::segment::SEGMENT_BYTES;
use rustix::fs::OFlags;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The least that a store may hold: below it, the log has no room to clean itself.
pub const STORE_MIN: u64 = 64 << 20;
/// The most: the tables of a space have room for 2³⁰ pages.
pub const STORE_MAX: u64 = 4 << 40;
/// Part of the free space that a store takes at most when nobody says how much, in percent.
const DEFAULT_PERCENT: u64 = 90;
/// What the last page of a store begins with.
const MARK: &[u8; 16] = b"memvisor store 1";
/// The type that the kernel gives for file systems that lie in memory.
const TMPFS: i64 = 0x0102_1994;

/// An open store, locked for us alone.
#[derive(Debug)]
pub struct StoreFile {
    file: File,
    path: PathBuf,
    bytes: u64,
    in_memory: bool,
    /// What to remove at the end.
    made: Option<PathBuf>,
}

/// Why there is no store.
#[derive(Debug)]
pub enum StoreError {
    /// The directory of the file is not there.
    NoDirectory(PathBuf),
    /// What should be a directory on the way to the file is none: the file, and what stands in the way.
    NotDirectory(PathBuf, PathBuf),
    /// The file is no regular file.
    NotRegular(PathBuf, &'static str),
    /// The file holds something that is not ours.
    Foreign(PathBuf, u64),
    /// Another run uses it.
    InUse(PathBuf),
    /// The file system has not enough room.
    NoRoom {
        /// What was asked for, or the least.
        wanted: u64,
        /// What is free.
        free: u64,
        /// Where.
        path: PathBuf,
    },
    /// Less than a store can work with.
    TooSmall(u64),
    /// More than the tables can name.
    TooLarge(u64),
    /// The kernel refuses.
    Refused(PathBuf, io::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::NoDirectory(path) => write!(f, "there is no directory for the store {}", path.display()),
            StoreError::NotDirectory(path, blocker) => {
                write!(f, "no store can be at {}: {} is not a directory", path.display(), blocker.display())
            }
            StoreError::NotRegular(path, kind) => write!(f, "the store {} is {kind}", path.display()),
            StoreError::Foreign(path, bytes) => write!(
                f,
                "{} has {} in it that memvisor did not write; it would be overwritten",
                path.display(),
                Size(*bytes)
            ),
            StoreError::InUse(path) => write!(f, "the store {} is in use by another run", path.display()),
            StoreError::NoRoom { wanted, free, path } => {
                write!(f, "{} has {} free, which is less than {}", path.display(), Size(*free), Size(*wanted))
            }
            StoreError::TooSmall(bytes) => {
                write!(f, "--store-size {} is too small: the least is {}", Size(*bytes), Size(STORE_MIN))
            }
            StoreError::TooLarge(bytes) => {
                write!(f, "--store-size {} is too large: the most is {}", Size(*bytes), Size(STORE_MAX))
            }
            StoreError::Refused(path, _) => write!(f, "cannot use the store {}", path.display()),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Refused(_, source) => Some(source),
            _ => None,
        }
    }
}

impl Failure for StoreError {
    fn way_out(&self) -> Option<String> {
        Some(match self {
            StoreError::NoDirectory(path) => {
                format!("mkdir -p {}", path.parent().unwrap_or(Path::new("/")).display())
            }
            StoreError::NotDirectory(..) => "name a directory, or a file in one".into(),
            StoreError::NotRegular(..) => "name a directory, or a file that is not there yet".into(),
            StoreError::Foreign(path, _) => format!("name another file, or remove it: rm {}", path.display()),
            StoreError::InUse(_) => "name another file, or a directory, which many runs can share".into(),
            StoreError::NoRoom { .. } => {
                format!(
                    "free some space, name a place on a larger disk, or ask for less by --store-size (at least {STORE_MIN})"
                )
            }
            StoreError::TooSmall(_) | StoreError::TooLarge(_) => "leave --store-size out to get what is there".into(),
            StoreError::Refused(..) => "name a directory that you may write to, on a local disk".into(),
        })
    }
}

impl StoreFile {
    /// Opens the store that `--store` names, with room for `size` bytes if that is given.
    ///
    /// # Errors
    /// When the place cannot be used, or is too small.
    pub fn open(path: &Path, size: Option<Size>) -> Result<Self, StoreError> {
        match size {
            Some(Size(bytes)) if bytes < STORE_MIN => return Err(StoreError::TooSmall(bytes)),
            Some(Size(bytes)) if bytes > STORE_MAX => return Err(StoreError::TooLarge(bytes)),
            Some(_) | None => {}
        }
        let (file, made) = if path.is_dir() { (unnamed_in(path)?, None) } else { named(path)? };
        let mut store = Self { file, path: path.into(), bytes: 0, in_memory: false, made };
        store.prepare(size).map(|()| store)
    }

    /// Locks the file, looks how much room there is, and marks it ours.
    fn prepare(&mut self, size: Option<Size>) -> Result<(), StoreError> {
        let refused = |error: io::Error| StoreError::Refused(self.path.clone(), error);
        match self.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                self.made = None;
                return Err(StoreError::InUse(self.path.clone()));
            }
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        self.file.set_len(0).map_err(refused)?;
        let system = rustix::fs::fstatvfs(&self.file).map_err(|errno| refused(errno.into()))?;
        let kind = rustix::fs::fstatfs(&self.file).map_err(|errno| refused(errno.into()))?;
        self.in_memory = kind.f_type as i64 == TMPFS;
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        let wanted = size.map_or(STORE_MIN, |size| size.0);
        if wanted > free {
            return Err(StoreError::NoRoom { wanted, free, path: self.path.clone() });
        }
        let bytes = size.map_or((free / 100 * DEFAULT_PERCENT).clamp(STORE_MIN, STORE_MAX), |size| size.0);
        self.bytes = bytes / SEGMENT_BYTES as u64 * SEGMENT_BYTES as u64;
        let mut mark = [0; PAGE_BYTES];
        mark[..MARK.len()].copy_from_slice(MARK);
        self.file.write_all_at(&mark, self.bytes).map_err(refused)
    }

    /// The open file; its owner is this value.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Pages of the log; the file has one more.
    pub fn pages(&self) -> u64 {
        self.bytes / PAGE_BYTES as u64
    }

    /// Bytes of the log.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file lies in memory itself, so that its pages cost DRAM after all.
    pub fn is_in_memory(&self) -> bool {
        self.in_memory
    }
}

impl Drop for StoreFile {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            // What cannot be removed can be used again, as it is marked.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A file without a name, which is gone with its last descriptor.
fn unnamed_in(directory: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let made = options.clone().custom_flags(OFlags::TMPFILE.bits() as i32).open(directory);
    // Some file systems have no nameless files: make one with a name and take the name away.
    made.or_else(|_| {
        let path = directory.join(format!(".memvisor-store-{}", std::process::id()));
        let file = options.create_new(true).open(&path)?;
        std::fs::remove_file(&path).map(|()| file)
    })
    .map_err(|error| StoreError::Refused(directory.into(), error))
}

/// The file at `path`, and the same path when we made it.
fn named(path: &Path) -> Result<(File, Option<PathBuf>), StoreError> {
    let refused = |error: io::Error| StoreError::Refused(path.into(), error);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.is_dir() {
        // The nearest part of the path that is there: what could be made below it, if it is a directory.
        let nearest = directory.ancestors().find(|part| part.symlink_metadata().is_ok());
        return Err(match nearest.filter(|part| !part.is_dir()) {
            Some(blocker) => StoreError::NotDirectory(path.into(), blocker.into()),
            None => StoreError::NoDirectory(path.into()),
        });
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Ok(file) => return Ok((file, Some(path.into()))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(refused(error)),
    }
    let metadata = path.metadata().map_err(refused)?;
    if let Some(kind) = unusual_kind(&metadata) {
        return Err(StoreError::NotRegular(path.into(), kind));
    }
    let file = options.open(path).map_err(refused)?;
    if metadata.len() > 0 && !is_ours(&file, metadata.len()) {
        return Err(StoreError::Foreign(path.into(), metadata.len()));
    }
    Ok((file, None))
}

fn unusual_kind(metadata: &std::fs::Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => None,
        () if kind.is_block_device() || kind.is_char_device() => Some("a device"),
        () if kind.is_fifo() => Some("a pipe"),
        () if kind.is_socket() => Some("a socket"),
        () => Some("no regular file"),
    }
}

/// Whether a file of `len` bytes ends in our mark.
fn is_ours(file: &File, len: u64) -> bool {
    let mut found = [0; MARK.len()];
    let Some(at) = len.checked_sub(PAGE_BYTES as u64) else { return false };
    file.read_exact_at(&mut found, at).is_ok() && &found == MARK
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory(PathBuf);
    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("memvisor-store-file-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
        fn entries(&self) -> usize {
            std::fs::read_dir(&self.0).unwrap().count()
        }
    }
    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const SIZE: Option<Size> = Some(Size(STORE_MIN));

    #[test]
    fn in_a_directory_the_store_has_no_name() {
        let directory = Directory::new("unnamed");
        let store = StoreFile::open(&directory.0, SIZE).unwrap();
        assert_eq!(store.pages(), STORE_MIN / 4096);
        assert_eq!(directory.entries(), 0);
        StoreFile::open(&directory.0, SIZE).expect("a directory is shared");
    }

    #[test]
    fn a_named_store_is_made_locked_and_removed() {
        let directory = Directory::new("named");
        let path = directory.0.join("store");
        let store = StoreFile::open(&path, SIZE).unwrap();
        assert!(matches!(StoreFile::open(&path, SIZE), Err(StoreError::InUse(_))));
        assert!(path.exists(), "the one who was refused removes nothing");
        drop(store);
        assert!(!path.exists());
    }

    #[test]
    fn a_store_that_was_left_behind_is_used_again_and_an_empty_file_too() {
        let directory = Directory::new("left");
        let path = directory.0.join("store");
        std::fs::write(&path, "").unwrap();
        drop(StoreFile::open(&path, SIZE).expect("an empty file holds nothing"));
        assert!(path.exists(), "it was not ours to remove");
        drop(StoreFile::open(&path, SIZE).expect("it is marked"));
    }

    #[test]
    fn a_foreign_file_is_refused_and_stays_as_it_was() {
        let directory = Directory::new("foreign");
        let path = directory.0.join("thesis.txt");
        for text in ["short", &"long ".repeat(2000)] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(StoreFile::open(&path, SIZE), Err(StoreError::Foreign(..))));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_file_on_the_way_to_the_store_is_named_and_no_directory_is_to_be_made_there() {
        for path in ["/etc/passwd/store", "/etc/passwd/deep/store"] {
            let error = StoreFile::open(Path::new(path), SIZE).unwrap_err();
            assert_eq!(error.to_string(), format!("no store can be at {path}: /etc/passwd is not a directory"));
            assert!(!error.way_out().unwrap().contains("mkdir"));
        }
        let error = StoreFile::open(Path::new("/no/such/directory/store"), SIZE).unwrap_err();
        assert_eq!(error.way_out().as_deref(), Some("mkdir -p /no/such/directory"));
    }

    #[test]
    fn a_bad_place_is_refused_with_the_way_out() {
        let far = Some(Size(STORE_MAX));
        let directory = Directory::new("bad");
        for (path, size) in [
            (Path::new("/no/such/directory/store"), SIZE),
            (Path::new("/dev/null"), SIZE),
            (Path::new("/proc"), SIZE),
            (directory.0.as_path(), far),
            (directory.0.as_path(), Some(Size(1))),
            (directory.0.as_path(), Some(Size(u64::MAX))),
        ] {
            let error = StoreFile::open(path, size).unwrap_err();
            assert!(error.way_out().is_some_and(|text| !text.is_empty()), "{error}");
        }
    }
}
