//! The program to run: where it is, and whether it can be managed (`memvisor_sys::executable` judges that).

use crate::exit::{Exit, Failure};
use memvisor_sys::executable::{self, Kind, Obstacle, SCRIPT_DEPTH_MAX};
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where programs are looked for when there is no PATH, as the C library does it.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// A program that can be run.
#[derive(Debug)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// Why it cannot be managed; `None` when it can.
    pub obstacle: Option<Obstacle>,
}

/// Why a program cannot be run.
#[derive(Debug)]
pub enum ProgramError {
    /// There is no such file.
    NotFound(OsString),
    /// The file is there and is no program for us.
    NotExecutable(PathBuf),
    /// A directory is no program.
    Directory(PathBuf),
    /// A script's interpreter is missing.
    NoInterpreter {
        /// The script.
        script: PathBuf,
        /// What its first line asks for.
        interpreter: PathBuf,
    },
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::NotFound(name) if name.is_empty() => f.write_str("the name of the program is empty"),
            ProgramError::NotFound(name) if name.as_bytes().contains(&b'/') => {
                write!(f, "there is no program {}", name.display())
            }
            ProgramError::NotFound(name) => write!(f, "there is no program `{}` in PATH", name.display()),
            ProgramError::NotExecutable(path) => write!(f, "{} may not be executed", path.display()),
            ProgramError::Directory(path) => write!(f, "{} is a directory", path.display()),
            ProgramError::NoInterpreter { script, interpreter } => {
                write!(f, "{} asks for the interpreter {}, which is not there", script.display(), interpreter.display())
            }
            ProgramError::Unreadable(path, _) => write!(f, "cannot look into {}", path.display()),
        }
    }
}

impl std::error::Error for ProgramError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ProgramError::Unreadable(_, source) => Some(source),
            _ => None,
        }
    }
}

impl Failure for ProgramError {
    fn way_out(&self) -> Option<String> {
        Some(match self {
            ProgramError::NotFound(_) => "check the spelling, install it, or give its whole path".into(),
            ProgramError::NotExecutable(path) => format!("chmod +x {}, or name its interpreter", path.display()),
            ProgramError::Directory(_) => "name a program".into(),
            ProgramError::NoInterpreter { .. } => "install it, or mend the first line of the script".into(),
            ProgramError::Unreadable(..) => "check its permissions".into(),
        })
    }

    fn exit(&self) -> Exit {
        match self {
            ProgramError::NotFound(_) => Exit::NotFound,
            ProgramError::NotExecutable(_)
            | ProgramError::Directory(_)
            | ProgramError::NoInterpreter { .. }
            | ProgramError::Unreadable(..) => Exit::CannotRun,
        }
    }
}

impl Program {
    /// Finds `name` as the shell would, and looks what it is.
    ///
    /// # Errors
    /// When nothing can be run under that name.
    pub fn find(name: &OsStr) -> Result<Self, ProgramError> {
        let search = std::env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into());
        let path = locate(name, &search)?;
        let obstacle = obstacle_of(&path, 0)?;
        Ok(Self { path, obstacle })
    }
}

/// The file that `name` means: a path when it has a slash, else the first executable of that name in `search`.
fn locate(name: &OsStr, search: &OsStr) -> Result<PathBuf, ProgramError> {
    if name.is_empty() {
        return Err(ProgramError::NotFound(name.into()));
    }
    if name.as_bytes().contains(&b'/') {
        return check(name, PathBuf::from(name));
    }
    let mut refused = None;
    for directory in std::env::split_paths(search) {
        match check(name, directory.join(name)) {
            Ok(path) => return Ok(path),
            Err(ProgramError::NotFound(_) | ProgramError::Directory(_)) => {}
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| ProgramError::NotFound(name.into())))
}

/// `path` when it is a file that may be executed.
fn check(name: &OsStr, path: PathBuf) -> Result<PathBuf, ProgramError> {
    let Ok(metadata) = path.metadata() else { return Err(ProgramError::NotFound(name.into())) };
    if metadata.is_dir() {
        return Err(ProgramError::Directory(path));
    }
    match rustix::fs::access(&path, rustix::fs::Access::EXEC_OK) {
        Ok(()) => Ok(path),
        Err(_) => Err(ProgramError::NotExecutable(path)),
    }
}

/// Why the program at `path` cannot be managed. Scripts are what their interpreters are.
fn obstacle_of(path: &Path, depth: usize) -> Result<Option<Obstacle>, ProgramError> {
    let unreadable = |error| ProgramError::Unreadable(path.into(), error);
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| unreadable(error.into()))?;
    match executable::look(&name).map_err(|errno| unreadable(io::Error::from_raw_os_error(errno.0)))? {
        Kind::Manageable => Ok(None),
        Kind::Unmanageable(obstacle) => Ok(Some(obstacle)),
        Kind::Script(_) if depth == SCRIPT_DEPTH_MAX => Ok(Some(Obstacle::Unknown)),
        Kind::Script(interpreter) => {
            let interpreter = PathBuf::from(OsStr::from_bytes(interpreter.as_bytes()));
            if !interpreter.exists() {
                return Err(ProgramError::NoInterpreter { script: path.into(), interpreter });
            }
            obstacle_of(&interpreter, depth + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_found_and_can_be_managed() {
        let shell = Program::find(OsStr::new("sh")).unwrap();
        assert!(shell.path.is_absolute());
        assert_eq!(shell.obstacle, None);
    }

    #[test]
    fn a_missing_program_is_not_found_by_name_nor_by_path() {
        for name in ["no-such-program-anywhere", "/no/such/program", ""] {
            let error = Program::find(OsStr::new(name)).unwrap_err();
            assert_eq!(error.exit(), Exit::NotFound, "{error}");
        }
    }

    #[test]
    fn a_directory_and_a_plain_file_cannot_be_run() {
        for name in ["/", "/etc/passwd"] {
            let error = Program::find(OsStr::new(name)).unwrap_err();
            assert_eq!(error.exit(), Exit::CannotRun, "{error}");
        }
    }
}
