//! The program to run: where it is, what kind of file it is, and whether it can be managed.
//!
//! A program is managed by a library that the dynamic loader puts into it. So it must be loaded by a loader that takes
//! our library: glibc's, of our machine, and without privileges that the program gains by being started.

use crate::exit::{Exit, Failure};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Interpreters of interpreters that are followed; the kernel itself gives up after five.
const SCRIPT_DEPTH_MAX: usize = 5;
/// Bytes of a script's first line that the kernel reads.
const SCRIPT_LINE_BYTES: usize = 256;
/// Program headers that are looked at; a linker makes about a dozen.
const PROGRAM_HEADERS_MAX: usize = 256;
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

/// Why a program cannot be managed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// It has no dynamic loader.
    Static,
    /// It is loaded by a loader for which our library is not made.
    Loader(PathBuf),
    /// It is for another machine, or for 32 bits.
    Machine,
    /// It gains privileges when it is started, and the loader then takes no foreign library.
    Privileged(&'static str),
    /// It is no ELF file and no script.
    Unknown,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Static => f.write_str("it is statically linked, so no library can be put into it"),
            Obstacle::Loader(path) => write!(f, "it is loaded by {}, which is not glibc's loader", path.display()),
            Obstacle::Machine => f.write_str("it is made for another kind of machine"),
            Obstacle::Privileged(how) => {
                write!(f, "it is {how}, and the loader puts no library into programs that gain privileges")
            }
            Obstacle::Unknown => f.write_str("it is neither an ELF file nor a script"),
        }
    }
}

impl Obstacle {
    /// What the person can do about it.
    pub fn way_out(&self) -> &'static str {
        match self {
            Obstacle::Static => "use a dynamically linked build of it",
            Obstacle::Loader(_) => "use a build of it for glibc",
            Obstacle::Machine => "use a 64-bit build of it for this machine",
            Obstacle::Privileged(_) => "run it as the user whose privileges it needs, or from a copy without them",
            Obstacle::Unknown => "name the interpreter, as in: memvisor run -- sh FILE",
        }
    }
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
    let file = match File::open(path) {
        Ok(file) => file,
        // Executable and not readable: it runs, and the loader treats it as it does privileged programs.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(Some(Obstacle::Privileged("not readable")));
        }
        Err(error) => return Err(ProgramError::Unreadable(path.into(), error)),
    };
    let unreadable = |error| ProgramError::Unreadable(path.into(), error);
    let mut head = Vec::with_capacity(SCRIPT_LINE_BYTES);
    (&file).take(SCRIPT_LINE_BYTES as u64).read_to_end(&mut head).map_err(unreadable)?;
    if let Some(interpreter) = interpreter_of(&head) {
        if depth == SCRIPT_DEPTH_MAX {
            return Ok(Some(Obstacle::Unknown));
        }
        if !interpreter.exists() {
            return Err(ProgramError::NoInterpreter { script: path.into(), interpreter });
        }
        return obstacle_of(&interpreter, depth + 1);
    }
    match look_into_elf(&file, &head).map_err(unreadable)? {
        Some(obstacle) => Ok(Some(obstacle)),
        None => Ok(privileges(path, &file).map(Obstacle::Privileged)),
    }
}

/// The interpreter that the first line of a script asks for.
fn interpreter_of(head: &[u8]) -> Option<PathBuf> {
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii();
    let word = line.split(|byte| byte.is_ascii_whitespace()).next()?;
    (!word.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(word)))
}

/// Fields of the ELF header, by their offsets in a 64-bit little-endian file.
mod elf {
    pub const HEADER_BYTES: usize = 64;
    pub const CLASS_AND_DATA: std::ops::Range<usize> = 4..6;
    pub const MACHINE: usize = 18;
    pub const PROGRAM_HEADERS: usize = 32;
    pub const PROGRAM_HEADER_BYTES: usize = 54;
    pub const PROGRAM_HEADER_COUNT: usize = 56;
    pub const KIND_INTERPRETER: u32 = 3;
    /// What this very program was made for.
    pub const OUR_MACHINE: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut word = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        word.copy_from_slice(found);
    }
    word
}

/// Why an ELF file cannot be managed, as far as its headers say.
fn look_into_elf(mut file: &File, head: &[u8]) -> io::Result<Option<Obstacle>> {
    if !head.starts_with(b"\x7fELF") || head.len() < elf::HEADER_BYTES {
        return Ok(Some(Obstacle::Unknown));
    }
    let is_ours =
        head[elf::CLASS_AND_DATA] == [2, 1] && u16::from_le_bytes(word(head, elf::MACHINE)) == elf::OUR_MACHINE;
    if !is_ours {
        return Ok(Some(Obstacle::Machine));
    }
    let at = u64::from_le_bytes(word(head, elf::PROGRAM_HEADERS));
    let size = usize::from(u16::from_le_bytes(word(head, elf::PROGRAM_HEADER_BYTES)));
    let count = usize::from(u16::from_le_bytes(word(head, elf::PROGRAM_HEADER_COUNT))).min(PROGRAM_HEADERS_MAX);
    let mut headers = vec![0; size * count];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut headers)?;
    let mut headers = headers.chunks_exact(size.max(1));
    let Some(header) = headers.find(|header| u32::from_le_bytes(word(header, 0)) == elf::KIND_INTERPRETER) else {
        return Ok(Some(Obstacle::Static));
    };
    let mut loader = Vec::new();
    file.seek(SeekFrom::Start(u64::from_le_bytes(word(header, 8))))?;
    file.take(u64::from_le_bytes(word(header, 32)).min(4096)).read_to_end(&mut loader)?;
    let loader = loader.split(|byte| *byte == 0).next().unwrap_or_default();
    let is_glibc = loader.windows(8).any(|name| name == b"ld-linux");
    Ok((!is_glibc).then(|| Obstacle::Loader(OsStr::from_bytes(loader).into())))
}

/// How the program gains privileges when this process starts it, if it does. Root gains none.
fn privileges(path: &Path, file: &File) -> Option<&'static str> {
    const SET_USER: u32 = 0o4000;
    const SET_GROUP: u32 = 0o2010;
    let metadata = file.metadata().ok()?;
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    if metadata.mode() & SET_USER != 0 && metadata.uid() != user {
        return Some("set-user-ID");
    }
    if metadata.mode() & SET_GROUP == SET_GROUP && metadata.gid() != group {
        return Some("set-group-ID");
    }
    let mut value = [0u8; 64];
    let capabilities = rustix::fs::getxattr(path, "security.capability", &mut value[..]).is_ok_and(|bytes| bytes > 0);
    (capabilities && user != 0).then_some("given capabilities by its file")
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

    #[test]
    fn the_first_line_of_a_script_names_its_interpreter() {
        for (head, interpreter) in [
            ("#!/bin/sh\nls", Some("/bin/sh")),
            ("#! /usr/bin/env python3\n", Some("/usr/bin/env")),
            ("#!/bin/sh", Some("/bin/sh")),
            ("#!\n", None),
            ("ls", None),
        ] {
            assert_eq!(interpreter_of(head.as_bytes()), interpreter.map(PathBuf::from), "{head}");
        }
    }

    #[test]
    fn what_is_no_elf_file_is_unknown_and_what_is_for_others_is_named_so() {
        let none = File::open("/dev/null").unwrap();
        assert_eq!(look_into_elf(&none, b"hello").unwrap(), Some(Obstacle::Unknown));
        let mut head = [0; 64];
        head[..6].copy_from_slice(b"\x7fELF\x01\x01");
        assert_eq!(look_into_elf(&none, &head).unwrap(), Some(Obstacle::Machine));
    }
}
