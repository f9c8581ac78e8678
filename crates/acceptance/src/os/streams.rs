//! Buffered streams of the C library, which live on the heap.

use std::io;

/// Streams that are open for writing.
pub struct Streams(Vec<*mut libc::FILE>);

impl Streams {
    /// Opens `count` streams that throw away what is written, each on a page of the heap of its own.
    ///
    /// # Errors
    /// What `fopen` refused with.
    pub fn open(count: usize) -> io::Result<Self> {
        let mut streams = Self(Vec::new());
        for _ in 0..count {
            // SAFETY: both are strings. What is allocated between two streams is kept to the end on purpose.
            let stream = unsafe {
                libc::malloc(super::PAGE_BYTES);
                libc::fopen(c"/dev/null".as_ptr(), c"w".as_ptr())
            };
            if stream.is_null() {
                return Err(io::Error::last_os_error());
            }
            streams.0.push(stream);
        }
        Ok(streams)
    }

    /// Writes a line to each.
    ///
    /// # Errors
    /// What a stream refused with.
    pub fn write(&self) -> io::Result<()> {
        for stream in &self.0 {
            // SAFETY: the stream is open as long as `self` lives.
            if unsafe { libc::fputs(c"a line\n".as_ptr(), *stream) < 0 || libc::fflush(*stream) != 0 } {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}
