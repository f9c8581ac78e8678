//! The library that goes into programs: where it is, and how the loader is told.

use crate::exit::Failure;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The name of the library.
pub const SHIM_NAME: &str = "libmemvisor_shim.so";
/// Names another place of the library.
pub const SHIM_VARIABLE: &str = "MEMVISOR_SHIM";
/// The loader's list of libraries to put into a program.
pub const PRELOAD_VARIABLE: &str = "LD_PRELOAD";
/// Where the library may be, seen from the directory of the command.
const PLACES: [&str; 3] = [".", "../lib/memvisor", "../lib"];

/// Why the library cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum PreloadError {
    /// It is in none of the places.
    Missing(PathBuf),
    /// The variable names no file.
    Misnamed(PathBuf),
    /// The loader separates names by these characters and knows no way to quote them.
    Unnameable(PathBuf),
}

impl fmt::Display for PreloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PreloadError::Missing(directory) => {
                write!(f, "the library {SHIM_NAME} is not beside the command in {}", directory.display())
            }
            PreloadError::Misnamed(path) => {
                write!(f, "{SHIM_VARIABLE} names {}, and there is no such file", path.display())
            }
            PreloadError::Unnameable(path) => {
                write!(f, "the loader cannot take a library whose path has a space or a colon: {}", path.display())
            }
        }
    }
}

impl std::error::Error for PreloadError {}

impl Failure for PreloadError {
    fn way_out(&self) -> Option<String> {
        Some(match self {
            PreloadError::Missing(_) => format!(
                "put {SHIM_NAME} beside memvisor or in ../lib/memvisor (`cargo build --release` leaves both in \
                 target/release), or name it in {SHIM_VARIABLE}"
            ),
            PreloadError::Misnamed(_) => format!("unset {SHIM_VARIABLE}, or let it name the library"),
            PreloadError::Unnameable(_) => "install memvisor in a path without spaces and colons".into(),
        })
    }
}

/// Finds the library: where the variable says, else beside the command.
///
/// # Errors
/// When it is not there or the loader could not take it.
pub fn find() -> Result<PathBuf, PreloadError> {
    let command = std::env::current_exe().unwrap_or_default();
    let named = std::env::var_os(SHIM_VARIABLE).filter(|value| !value.is_empty());
    find_from(command.parent().unwrap_or(Path::new("/")), named.map(PathBuf::from))
}

fn find_from(directory: &Path, named: Option<PathBuf>) -> Result<PathBuf, PreloadError> {
    let found = match named {
        Some(path) => path.is_file().then_some(path.clone()).ok_or(PreloadError::Misnamed(path))?,
        None => PLACES
            .iter()
            .map(|place| directory.join(place).join(SHIM_NAME))
            .find(|path| path.is_file())
            .ok_or_else(|| PreloadError::Missing(directory.into()))?,
    };
    // The program may change its directory before it starts others.
    let path = found.canonicalize().unwrap_or(found);
    if path.as_os_str().as_bytes().iter().any(|byte| b": \t\n".contains(byte)) {
        return Err(PreloadError::Unnameable(path));
    }
    Ok(path)
}

/// The value of [`PRELOAD_VARIABLE`]: our library first, then what the person had, without an older mention of ours.
pub fn value(shim: &Path, theirs: Option<&OsStr>) -> OsString {
    joined([shim.as_os_str()].into_iter().chain(foreign(theirs)))
}

/// The value for a program that is to have nothing of ours in it.
pub fn without_ours(theirs: Option<&OsStr>) -> OsString {
    joined(foreign(theirs))
}

fn joined<'a>(names: impl Iterator<Item = &'a OsStr>) -> OsString {
    names.collect::<Vec<_>>().join(OsStr::new(":"))
}

/// The libraries of the list that are not ours.
fn foreign(list: Option<&OsStr>) -> impl Iterator<Item = &OsStr> {
    let names = list.map(OsStr::as_bytes).unwrap_or_default().split(|byte| b": \t\n".contains(byte));
    names.filter(|name| !name.is_empty() && !is_ours(name)).map(OsStr::from_bytes)
}

fn is_ours(name: &[u8]) -> bool {
    Path::new(OsStr::from_bytes(name)).file_name() == Some(OsStr::new(SHIM_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_ours(theirs: Option<&str>) -> String {
        value(Path::new("/opt/libmemvisor_shim.so"), theirs.map(OsStr::new)).into_string().unwrap()
    }

    #[test]
    fn our_library_comes_first_and_once_and_theirs_are_kept_in_order() {
        assert_eq!(with_ours(None), "/opt/libmemvisor_shim.so");
        assert_eq!(with_ours(Some("")), "/opt/libmemvisor_shim.so");
        assert_eq!(with_ours(Some("/a.so /b.so")), "/opt/libmemvisor_shim.so:/a.so:/b.so");
        assert_eq!(with_ours(Some("/old/libmemvisor_shim.so:/a.so")), "/opt/libmemvisor_shim.so:/a.so");
        assert_eq!(without_ours(Some(OsStr::new("/a.so:/old/libmemvisor_shim.so"))), "/a.so");
    }

    #[test]
    fn a_missing_library_is_missed_with_the_way_out() {
        let error = find_from(Path::new("/proc"), None).unwrap_err();
        assert_eq!(error, PreloadError::Missing("/proc".into()));
        assert!(error.way_out().unwrap().contains(SHIM_VARIABLE));
        let error = find_from(Path::new("/proc"), Some("/no/such.so".into())).unwrap_err();
        assert_eq!(error, PreloadError::Misnamed("/no/such.so".into()));
    }

    #[test]
    fn a_path_that_the_loader_would_split_is_refused() {
        let directory = std::env::temp_dir().join(format!("memvisor preload {}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(SHIM_NAME), "").unwrap();
        let found = find_from(&directory, None);
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(matches!(found, Err(PreloadError::Unnameable(_))), "{found:?}");
    }
}
