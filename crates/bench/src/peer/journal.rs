//! Changes to the kernel that must not stay, written down before they are made.
//!
//! A bench that is killed with SIGKILL leaves its journal, and the next bench undoes what stands in it. To undo a
//! change twice, or one that was never made, does no harm.

use crate::cleanup::Undo;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where journals and the lock lie: gone at the next boot, as the changes are.
const DIRECTORY: &str = "/run/memvisor-bench";

/// How a change is undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A kernel file had this value.
    Written {
        /// The file.
        path: PathBuf,
        /// Its former value.
        before: String,
    },
    /// A swap area was switched on.
    SwappedOn(PathBuf),
    /// A zram device was added by us.
    ZramAdded(u32),
    /// A zram device that was there was set up.
    ZramUsed(u32),
    /// A file was made.
    Made(PathBuf),
}

impl Change {
    /// Writes `value` into the kernel file `path`; the former value is written back when the guard goes.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn set(path: &str, value: &str) -> Result<Undo, String> {
        let shown = fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let undo = Self::Written { path: path.into(), before: chosen(&shown).to_owned() }.note()?;
        fs::write(path, value).map_err(|error| format!("cannot write {value:?} to {path}: {error}"))?;
        Ok(undo)
    }

    /// Writes the change down; call it just before making the change, and keep the guard for as long as it is to last.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn note(self) -> Result<Undo, String> {
        let path = directory()?.join(own_name());
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{}", self.to_line()))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Undo::new(move || self.undo()))
    }

    fn undo(&self) {
        match self {
            Self::Written { path, before } => drop(fs::write(path, before)),
            Self::SwappedOn(path) => {
                if fs::read_to_string("/proc/swaps").is_ok_and(|text| lists(&text, path)) {
                    let _ = Command::new("swapoff").arg(path).status();
                }
            }
            Self::ZramAdded(number) => {
                drop(fs::write(format!("/sys/block/zram{number}/reset"), "1"));
                drop(fs::write("/sys/class/zram-control/hot_remove", number.to_string()));
            }
            Self::ZramUsed(number) => drop(fs::write(format!("/sys/block/zram{number}/reset"), "1")),
            Self::Made(path) => drop(fs::remove_file(path)),
        }
    }

    fn to_line(&self) -> String {
        match self {
            Self::Written { path, before } => format!("written {} {before}", path.display()),
            Self::SwappedOn(path) => format!("swapped-on {}", path.display()),
            Self::ZramAdded(number) => format!("zram-added {number}"),
            Self::ZramUsed(number) => format!("zram-used {number}"),
            Self::Made(path) => format!("made {}", path.display()),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (what, rest) = line.split_once(' ')?;
        match what {
            "written" => {
                rest.split_once(' ').map(|(path, before)| Self::Written { path: path.into(), before: before.into() })
            }
            "swapped-on" => Some(Self::SwappedOn(rest.into())),
            "zram-added" => rest.parse().ok().map(Self::ZramAdded),
            "zram-used" => rest.parse().ok().map(Self::ZramUsed),
            "made" => Some(Self::Made(rest.into())),
            _ => None,
        }
    }
}

/// The value in force: of `always [madvise] never` the one in brackets, else the whole text.
fn chosen(shown: &str) -> &str {
    let shown = shown.trim();
    shown.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(shown, |(value, _)| value)
}

fn lists(swaps: &str, path: &Path) -> bool {
    swaps.lines().skip(1).any(|line| line.split_whitespace().next().is_some_and(|area| Path::new(area) == path))
}

/// The directory of journals and lock, made if need be.
pub(super) fn directory() -> Result<&'static Path, String> {
    let path = Path::new(DIRECTORY);
    fs::create_dir_all(path).map_err(|error| format!("cannot make {DIRECTORY}: {error}"))?;
    Ok(path)
}

/// Removes this process's journal, all of whose changes have been undone.
pub(super) fn close() {
    let _ = fs::remove_file(Path::new(DIRECTORY).join(own_name()));
}

fn own_name() -> String {
    format!("{}.journal", std::process::id())
}

/// What benches left behind that were killed.
pub struct Leftovers;

impl Leftovers {
    /// Undoes the changes of benches that no longer run. Call with the lock held.
    pub fn clean() {
        let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
        for path in
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "journal"))
        {
            let owner = path.file_stem().unwrap_or_default();
            let text = fs::read_to_string(&path).unwrap_or_default();
            if !Path::new("/proc").join(owner).exists() {
                for change in text.lines().rev().filter_map(Change::parse) {
                    change.undo();
                }
                let _ = fs::remove_file(&path);
                eprintln!("cleaned up after a bench that was killed (process {})", owner.to_string_lossy());
            }
        }
        crate::group::remove_leftovers();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_from_the_journal_as_it_was_written() {
        let changes = [
            Change::Written { path: "/proc/sys/vm/page-cluster".into(), before: "3".into() },
            Change::SwappedOn("/dev/zram1".into()),
            Change::ZramAdded(1),
            Change::ZramUsed(0),
            Change::Made("/a file".into()),
        ];
        for change in changes {
            assert_eq!(Change::parse(&change.to_line()), Some(change));
        }
        assert_eq!(Change::parse("nonsense"), None);
    }

    #[test]
    fn of_several_values_the_one_in_brackets_is_in_force() {
        assert_eq!(chosen("always inherit [madvise] never\n"), "madvise");
        assert_eq!(chosen("3\n"), "3");
    }

    #[test]
    fn a_swap_area_is_found_by_its_whole_path() {
        let swaps = "Filename\tType\tSize\tUsed\tPriority\n/dev/zram10  partition 1 0 -2\n";
        assert!(lists(swaps, Path::new("/dev/zram10")));
        assert!(!lists(swaps, Path::new("/dev/zram1")));
    }
}
