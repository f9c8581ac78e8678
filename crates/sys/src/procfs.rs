//! Paths and files of `/proc`, without allocation.

use crate::file::{self, Fd, O_RDONLY};
use crate::{Result, errno};
use core::ffi::CStr;

/// The longest path made here: `/proc/4294967295/task/4294967295/smaps_rollup`.
const PATH_MAX: usize = 64;

/// A path that is put together on the stack.
pub(crate) struct ProcPath {
    bytes: [u8; PATH_MAX],
    len: usize,
}

impl ProcPath {
    /// `/proc/PID`, or `/proc/self`.
    pub(crate) fn of(pid: Option<u32>) -> ProcPath {
        let path = ProcPath { bytes: [0; PATH_MAX], len: 0 };
        match pid {
            Some(pid) => path.text("/proc/").decimal(pid),
            None => path.text("/proc/self"),
        }
    }

    /// `/proc/thread-self`.
    pub(crate) fn of_thread() -> ProcPath {
        ProcPath { bytes: [0; PATH_MAX], len: 0 }.text("/proc/thread-self")
    }

    pub(crate) fn text(mut self, text: &str) -> ProcPath {
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text.as_bytes());
        self.len += text.len();
        assert!(self.len < PATH_MAX, "a /proc path of this crate keeps a byte for its end");
        self
    }

    pub(crate) fn decimal(self, number: u32) -> ProcPath {
        let mut digits = [0; 10];
        let mut first = digits.len();
        let mut rest = number;
        loop {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.text(core::str::from_utf8(&digits[first..]).unwrap_or("0"))
    }

    pub(crate) fn as_cstr(&self) -> Result<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).map_err(|_| errno::ENAMETOOLONG)
    }

    pub(crate) fn open(&self) -> Result<Fd> {
        file::open(self.as_cstr()?, O_RDONLY, 0)
    }
}

/// Reads until `out` is full or the file ends; gives how many bytes.
pub(crate) fn read_up_to(fd: &Fd, out: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match fd.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(done) => filled += done,
            Err(errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

/// The number at the start of `text`, after blanks.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    core::str::from_utf8(&text[..digits]).ok()?.parse().ok()
}

/// Field `at` (counted from 1, at least 3) of a `stat` line. The second field, the name, is in parentheses and may
/// hold blanks and parentheses itself.
pub(crate) fn stat_field(line: &[u8], at: usize) -> Option<u64> {
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let field = line.get(name_end + 2..)?.split(|byte| *byte == b' ').nth(at.checked_sub(3)?)?;
    decimal(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_was_put_together() {
        let path = ProcPath::of(Some(u32::MAX)).text("/task/").decimal(0).text("/smaps_rollup");
        assert_eq!(path.as_cstr(), Ok(c"/proc/4294967295/task/0/smaps_rollup"));
        assert_eq!(ProcPath::of(None).text("/maps").as_cstr(), Ok(c"/proc/self/maps"));
    }

    #[test]
    fn a_thread_name_cannot_shift_the_fields() {
        let line = b"7 (a) S 9 (b) R 4 5 6\n";
        assert_eq!(stat_field(line, 4), Some(4));
        assert_eq!(stat_field(line, 6), Some(6));
        assert_eq!(stat_field(line, 7), None);
        assert_eq!(stat_field(b"7 (a", 4), None);
    }
}
