//! What kind of program a file is: whether the loader would put our library into it.
//!
//! A program is managed by a library that the dynamic loader puts into it. So it must be loaded by a loader that takes
//! our library: glibc's, of our machine, and without privileges that the program gains by being started.
//!
//! Nothing here allocates or takes a lock, and all buffers are small: it is asked between a `vfork` and an `exec` too.
//!
//! Absent on purpose: whether the kernel would start the file at all (it says so itself), and `binfmt_misc`.

use crate::call::{self, number as nr};
use crate::file::{self, Fd, O_NOCTTY, O_NONBLOCK, O_RDONLY};
use crate::procfs::ProcPath;
use crate::{Result, errno};
use core::ffi::{CStr, c_char};
use core::fmt;
use core::mem::MaybeUninit;

/// Interpreters of interpreters that are followed; the kernel itself gives up after five.
pub const SCRIPT_DEPTH_MAX: usize = 5;
/// Bytes of a script's first line that the kernel reads.
const SCRIPT_LINE_BYTES: usize = 256;
/// Program headers that are looked at; a linker makes about a dozen.
const PROGRAM_HEADERS_MAX: usize = 256;
/// What the file names of glibc's loaders have in them.
const LOADER_NAME: &[u8] = b"ld-linux";

const AT_FDCWD: usize = -100isize as usize;

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It can be managed, if nothing of another kind hinders it.
    Manageable,
    /// It cannot.
    Unmanageable(Obstacle),
    /// It is what its interpreter is.
    Script(Name),
}

/// Why a program cannot be managed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nothing may be allocated between a vfork and an exec")]
pub enum Obstacle {
    /// It has no dynamic loader.
    Static,
    /// It is loaded by a loader for which our library is not made.
    Loader(Name),
    /// It is for another machine, or for 32 bits.
    Machine,
    /// It gains privileges when it is started, and the loader then takes no foreign library.
    Privileged(&'static str),
    /// It may be executed and not read. The kernel then keeps others of the same user out of its memory.
    Unreadable,
    /// It is no ELF file and no script.
    Unknown,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Static => f.write_str("it is statically linked, so no library can be put into it"),
            Obstacle::Loader(name) => write!(f, "it is loaded by {name}, which is not glibc's loader"),
            Obstacle::Machine => f.write_str("it is made for another kind of machine"),
            Obstacle::Privileged(how) => {
                write!(f, "it is {how}, and the loader puts no library into programs that gain privileges")
            }
            Obstacle::Unreadable => f.write_str("it may be executed but not read, so what it is cannot be told"),
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
            Obstacle::Unreadable => "chmod +r FILE",
            Obstacle::Unknown => "name the interpreter, as in: memvisor run -- sh FILE",
        }
    }
}

/// A path of at most 255 bytes; a longer one is cut.
#[derive(Clone, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; SCRIPT_LINE_BYTES],
    len: usize,
}

impl Name {
    fn new(text: &[u8]) -> Name {
        let mut name = Name { bytes: [0; SCRIPT_LINE_BYTES], len: text.len().min(SCRIPT_LINE_BYTES - 1) };
        name.bytes[..name.len].copy_from_slice(&text[..name.len]);
        name
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// As the kernel takes it; what stands behind a zero byte is not part of it.
    pub fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().utf8_chunks().try_for_each(|chunk| {
            f.write_str(chunk.valid())?;
            if chunk.invalid().is_empty() { Ok(()) } else { f.write_str("\u{fffd}") }
        })
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Looks what the file at `path` is.
///
/// # Errors
/// What the kernel answers when it is not there, no regular file (`EACCES`) or cannot be read.
pub fn look(path: &CStr) -> Result<Kind> {
    match file::open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0) {
        Ok(file) => look_at(&file, path.to_bytes()),
        Err(errno::EACCES) if may_execute(path) => Ok(Kind::Unmanageable(Obstacle::Unreadable)),
        Err(errno) => Err(errno),
    }
}

/// Looks what file the caller's descriptor `number` is.
///
/// # Errors
/// As [`look`], and when `/proc` is not there.
pub fn look_at_descriptor(number: u32) -> Result<Kind> {
    look_at(&ProcPath::of_thread().text("/fd/").decimal(number).open()?, b"")
}

/// Why the file at `path` cannot be managed; scripts are what their interpreters are.
///
/// # Errors
/// As [`look`], of the file or an interpreter.
pub fn obstacle(path: &CStr) -> Result<Option<Obstacle>> {
    follow(look(path)?)
}

/// Why what [`look_at_descriptor`] looks at cannot be managed.
///
/// # Errors
/// As [`look_at_descriptor`].
pub fn obstacle_of_descriptor(number: u32) -> Result<Option<Obstacle>> {
    follow(look_at_descriptor(number)?)
}

fn follow(mut kind: Kind) -> Result<Option<Obstacle>> {
    for _ in 0..=SCRIPT_DEPTH_MAX {
        kind = match kind {
            Kind::Manageable => return Ok(None),
            Kind::Unmanageable(obstacle) => return Ok(Some(obstacle)),
            Kind::Script(interpreter) => look(interpreter.as_cstr())?,
        };
    }
    Ok(Some(Obstacle::Unknown))
}

/// Whether `path` is a regular file that the caller's real user may execute.
pub fn may_execute(path: &CStr) -> bool {
    const X_OK: usize = 1;
    let mut raw = MaybeUninit::<nr::stat>::zeroed();
    // SAFETY: the path ends in a zero byte; the kernel writes one `struct stat`.
    let found =
        unsafe { call::syscall4(nr::__NR_newfstatat, AT_FDCWD, path.as_ptr() as usize, raw.as_mut_ptr() as usize, 0) };
    // SAFETY: zeroed; all its fields are integers.
    let is_file = found.is_ok() && unsafe { raw.assume_init() }.st_mode & 0o170000 == 0o100000;
    // SAFETY: the path ends in a zero byte.
    is_file && unsafe { call::syscall3(nr::__NR_faccessat, AT_FDCWD, path.as_ptr() as usize, X_OK) }.is_ok()
}

fn look_at(file: &Fd, path: &[u8]) -> Result<Kind> {
    if !file.stat()?.is_file() {
        return Err(errno::EACCES);
    }
    let mut head = [0; SCRIPT_LINE_BYTES];
    let len = file.pread(&mut head, 0)?;
    let head = &head[..len];
    if let Some(interpreter) = interpreter_of(head) {
        return Ok(Kind::Script(Name::new(interpreter)));
    }
    let obstacle = match obstacle_in_elf(file, head)? {
        // The loader itself, as in `ld.so PROGRAM`, has no loader and takes libraries.
        Some(Obstacle::Static) if is_loader(path) => None,
        found => found,
    };
    let obstacle = match obstacle {
        None => privileges(file)?.map(Obstacle::Privileged),
        found => found,
    };
    Ok(obstacle.map_or(Kind::Manageable, Kind::Unmanageable))
}

fn is_loader(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    name.windows(LOADER_NAME.len()).any(|part| part == LOADER_NAME)
}

/// The interpreter that the first line of a script asks for.
fn interpreter_of(head: &[u8]) -> Option<&[u8]> {
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii();
    let word = line.split(|byte| byte.is_ascii_whitespace()).next()?;
    (!word.is_empty()).then_some(word)
}

/// Fields of the ELF header, by their offsets in a 64-bit little-endian file.
mod elf {
    pub const HEADER_BYTES: usize = 64;
    pub const CLASS_AND_DATA: core::ops::Range<usize> = 4..6;
    pub const MACHINE: usize = 18;
    pub const PROGRAM_HEADERS: usize = 32;
    pub const PROGRAM_HEADER_BYTES: usize = 54;
    pub const PROGRAM_HEADER_COUNT: usize = 56;
    /// Bytes of a program header; what a file has beyond them nobody reads.
    pub const PROGRAM_HEADER_LEN: usize = 56;
    pub const KIND_INTERPRETER: u32 = 3;
    /// What this very code was made for.
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
fn obstacle_in_elf(file: &Fd, head: &[u8]) -> Result<Option<Obstacle>> {
    if !head.starts_with(b"\x7fELF") || head.len() < elf::HEADER_BYTES {
        return Ok(Some(Obstacle::Unknown));
    }
    let is_ours =
        head[elf::CLASS_AND_DATA] == [2, 1] && u16::from_le_bytes(word(head, elf::MACHINE)) == elf::OUR_MACHINE;
    if !is_ours {
        return Ok(Some(Obstacle::Machine));
    }
    let first = u64::from_le_bytes(word(head, elf::PROGRAM_HEADERS));
    let size = u64::from(u16::from_le_bytes(word(head, elf::PROGRAM_HEADER_BYTES)));
    let count = usize::from(u16::from_le_bytes(word(head, elf::PROGRAM_HEADER_COUNT))).min(PROGRAM_HEADERS_MAX);
    for at in 0..count {
        let mut header = [0; elf::PROGRAM_HEADER_LEN];
        file.pread_exact(&mut header, first.saturating_add(at as u64 * size))?;
        if u32::from_le_bytes(word(&header, 0)) == elf::KIND_INTERPRETER {
            return obstacle_in_loader(file, &header);
        }
    }
    Ok(Some(Obstacle::Static))
}

fn obstacle_in_loader(file: &Fd, header: &[u8]) -> Result<Option<Obstacle>> {
    let (at, len) = (u64::from_le_bytes(word(header, 8)), u64::from_le_bytes(word(header, 32)));
    let mut loader = [0; SCRIPT_LINE_BYTES];
    let wanted = loader.len().min(usize::try_from(len).unwrap_or(usize::MAX));
    let len = file.pread(&mut loader[..wanted], at)?;
    let loader = loader[..len].split(|byte| *byte == 0).next().unwrap_or_default();
    Ok((!is_loader(loader)).then(|| Obstacle::Loader(Name::new(loader))))
}

/// How the program gains privileges when this process starts it, if it does: where the kernel would tell the loader to
/// trust nobody (`AT_SECURE`). Root gains no capabilities by a file.
fn privileges(file: &Fd) -> Result<Option<&'static str>> {
    const SET_USER: u32 = 0o4000;
    const SET_GROUP: u32 = 0o2010;
    let stat = file.stat()?;
    let [user, group] = [identity(nr::__NR_getuid), identity(nr::__NR_getgid)];
    let heeded = !are_set_bits_ignored(file);
    if heeded && stat.mode & SET_USER != 0 {
        if stat.owner != user {
            return Ok(Some("set-user-ID"));
        }
    } else if identity(nr::__NR_geteuid) != user {
        return Ok(Some("started by a process whose effective user is not its real one"));
    }
    if heeded && stat.mode & SET_GROUP == SET_GROUP {
        if stat.group != group {
            return Ok(Some("set-group-ID"));
        }
    } else if identity(nr::__NR_getegid) != group {
        return Ok(Some("started by a process whose effective group is not its real one"));
    }
    Ok((heeded && user != 0 && has_capabilities(file)).then_some("given capabilities by its file"))
}

/// One of the calling thread's user and group numbers.
fn identity(number: u32) -> u32 {
    // SAFETY: takes nothing, changes nothing, and cannot fail.
    unsafe { call::syscall0(number) }.map_or(0, |id| id as u32)
}

/// Whether the kernel gives no privileges by files to this process, or none by this file.
fn are_set_bits_ignored(file: &Fd) -> bool {
    const PR_GET_NO_NEW_PRIVS: usize = 39;
    const ST_NOSUID: i64 = 2;
    // SAFETY: touches no memory.
    let no_new = unsafe { call::syscall5(nr::__NR_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) } == Ok(1);
    let mut raw = MaybeUninit::<nr::statfs>::zeroed();
    // SAFETY: the kernel writes one `struct statfs`.
    let found = unsafe { call::syscall2(nr::__NR_fstatfs, file.raw() as usize, raw.as_mut_ptr() as usize) };
    // SAFETY: zeroed; all its fields are integers.
    no_new || found.is_ok() && unsafe { raw.assume_init() }.f_flags & ST_NOSUID != 0
}

fn has_capabilities(file: &Fd) -> bool {
    const NAME: &CStr = c"security.capability";
    let name: *const c_char = NAME.as_ptr();
    // SAFETY: the name ends in a zero byte; with no room the kernel only says how much would be needed.
    unsafe { call::syscall4(nr::__NR_fgetxattr, file.raw() as usize, name as usize, 0, 0) }.is_ok_and(|bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_script_names_its_interpreter() {
        for (head, interpreter) in [
            ("#!/bin/sh\nls", Some("/bin/sh")),
            ("#! /usr/bin/env python3\n", Some("/usr/bin/env")),
            ("#!/bin/sh", Some("/bin/sh")),
            ("#!\n", None),
            ("ls", None),
        ] {
            assert_eq!(interpreter_of(head.as_bytes()), interpreter.map(str::as_bytes), "{head}");
        }
    }

    #[test]
    fn what_is_no_elf_file_is_unknown_and_what_is_for_others_is_named_so() {
        let none = file::open(c"/dev/null", O_RDONLY, 0).unwrap();
        assert_eq!(obstacle_in_elf(&none, b"hello"), Ok(Some(Obstacle::Unknown)));
        let mut head = [0; 64];
        head[..6].copy_from_slice(b"\x7fELF\x01\x01");
        assert_eq!(obstacle_in_elf(&none, &head), Ok(Some(Obstacle::Machine)));
    }

    #[test]
    fn a_shell_can_be_managed_and_a_plain_file_is_no_program() {
        assert_eq!(obstacle(c"/bin/sh"), Ok(None));
        assert_eq!(obstacle(c"/etc/passwd"), Ok(Some(Obstacle::Unknown)));
        assert_eq!(obstacle(c"/"), Err(errno::EACCES));
        assert_eq!(obstacle(c"/no/such/program"), Err(errno::ENOENT));
        assert!(may_execute(c"/bin/sh") && !may_execute(c"/etc/passwd") && !may_execute(c"/"));
    }

    #[test]
    fn the_loader_itself_can_be_managed() {
        let loader =
            if cfg!(target_arch = "x86_64") { c"/lib64/ld-linux-x86-64.so.2" } else { c"/lib/ld-linux-aarch64.so.1" };
        assert_eq!(obstacle(loader), Ok(None));
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_and_one_that_is_no_text_is_shown_all_the_same() {
        assert_eq!(Name::new(&[b'x'; 300]).as_bytes().len(), 255);
        assert_eq!(Name::new(b"a\xffb").to_string(), "a\u{fffd}b");
    }
}
