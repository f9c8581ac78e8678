//! The kernel's reasons for refusing.

use core::fmt;

/// An error number of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident = $number:literal, $doc:literal;)*) => {
        impl Errno {
            $(#[doc = $doc] pub const $name: Errno = Errno($number);)*

            /// The kernel's name of the error, if it is one that this crate knows.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
        $(#[doc = $doc] pub const $name: Errno = Errno::$name;)*
    };
}

errnos! {
    EPERM = 1, "Not permitted.";
    ENOENT = 2, "No such file, or no page there.";
    ESRCH = 3, "No such process or thread.";
    EINTR = 4, "Interrupted by a signal.";
    EIO = 5, "The device failed.";
    ENXIO = 6, "No such device or address.";
    E2BIG = 7, "Too long.";
    EBADF = 9, "Not an open descriptor.";
    ECHILD = 10, "No child.";
    EAGAIN = 11, "Not now: try again.";
    ENOMEM = 12, "Out of memory, mappings or address space.";
    EACCES = 13, "Access denied.";
    EFAULT = 14, "Bad address.";
    EBUSY = 16, "In use.";
    EEXIST = 17, "There already.";
    EXDEV = 18, "Across devices.";
    ENODEV = 19, "No such device.";
    ENOTDIR = 20, "Not a directory.";
    EISDIR = 21, "A directory.";
    EINVAL = 22, "Invalid argument.";
    ENFILE = 23, "Too many open files in the system.";
    EMFILE = 24, "Too many open files in the process.";
    ENOTTY = 25, "The descriptor does not know this request.";
    ETXTBSY = 26, "The file is being executed.";
    EFBIG = 27, "File too large.";
    ENOSPC = 28, "No space left.";
    ESPIPE = 29, "Cannot seek.";
    EROFS = 30, "Read-only file system.";
    EPIPE = 32, "Nobody reads.";
    ERANGE = 34, "Out of range.";
    EDEADLK = 35, "Would deadlock.";
    ENAMETOOLONG = 36, "Name too long.";
    ENOSYS = 38, "No such system call.";
    ENOTEMPTY = 39, "Directory not empty.";
    ELOOP = 40, "Too many symbolic links.";
    ENODATA = 61, "No data.";
    EOVERFLOW = 75, "Too large for its type.";
    EOPNOTSUPP = 95, "Not supported.";
    ETIMEDOUT = 110, "Timed out.";
    ESTALE = 116, "Stale handle.";
    EDQUOT = 122, "Quota exceeded.";
    EHWPOISON = 133, "The page is poisoned.";
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name().unwrap_or("error"), self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        std::io::Error::from_raw_os_error(errno.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_its_name_and_its_number() {
        assert_eq!(EAGAIN.to_string(), "EAGAIN (11)");
        assert_eq!(Errno(4000).to_string(), "error (4000)");
    }
}
