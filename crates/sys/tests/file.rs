//! Files and aligned buffers against the kernel.

use memvisor_sys::errno;
use memvisor_sys::file::{self, *};
use std::ffi::CString;

fn temporary_directory() -> CString {
    CString::new(std::env::temp_dir().into_os_string().into_encoded_bytes()).expect("no zero byte")
}

fn filled(len: usize, seed: u8) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::new(len).expect("memory");
    buffer.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / 7) as u8 ^ seed);
    buffer
}

#[test]
fn an_unnamed_file_gives_back_what_was_written() {
    let (fd, caching) = open_unnamed(&temporary_directory()).expect("a file without a name");
    println!("the temporary directory is {caching:?}");
    let written = filled(64 << 10, 3);
    fd.pwrite_all(&written, 4096).expect("write");
    fd.sync_data().expect("sync");
    let mut read = AlignedBuffer::new(64 << 10).expect("memory");
    fd.pread_exact(&mut read, 4096).expect("read");
    assert!(*read == *written);
    assert_eq!(fd.pread(&mut read[..4096], 0), Ok(4096));
    assert!(read[..4096].iter().all(|byte| *byte == 0));
    let stat = fd.stat().expect("stat");
    assert_eq!(stat.size, 68 << 10);
    assert!(stat.is_file() && !stat.is_directory() && !stat.is_block_device());
    assert_eq!(fd.pread_exact(&mut read, 8192), Err(errno::ENODATA));

    fd.truncate(4096).expect("truncate");
    assert_eq!(fd.pread(&mut read, 4096), Ok(0));
}

#[test]
fn a_punched_hole_reads_as_zeros_and_costs_nothing() {
    let (fd, _) = open_unnamed(&temporary_directory()).expect("a file without a name");
    let written = filled(1 << 20, 9);
    fd.pwrite_all(&written, 0).expect("write");
    fd.sync_data().expect("sync");
    let before = fd.stat().expect("stat");
    match fd.fallocate(FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 0, 512 << 10) {
        Ok(()) => {}
        Err(errno) => return println!("CANNOT RUN: no holes in the temporary directory: {errno}"),
    }
    let after = fd.stat().expect("stat");
    assert_eq!(after.size, before.size);
    assert!(after.allocated < before.allocated, "{before:?} {after:?}");
    let mut read = AlignedBuffer::new(1 << 20).expect("memory");
    fd.pread_exact(&mut read, 0).expect("read");
    assert!(read[..512 << 10].iter().all(|byte| *byte == 0));
    assert!(read[512 << 10..] == written[512 << 10..]);
}

#[test]
fn a_file_is_made_found_once_and_gone_when_unlinked() {
    let directory = std::env::temp_dir().join(format!("memvisor-sys-test-{}", std::process::id()));
    let path = CString::new(directory.into_os_string().into_encoded_bytes()).expect("no zero byte");
    let flags = O_RDWR | O_CREAT | O_EXCL;
    let (made, _) = open_direct(&path, flags, 0o600).expect("a new file");
    assert!(matches!(open_direct(&path, flags, 0o600), Err(errno::EEXIST)));
    assert_eq!(file::open(&path, O_RDONLY, 0).expect("the file").stat(), made.stat());
    unlink(&path).expect("unlink");
    assert_eq!(unlink(&path), Err(errno::ENOENT));
    assert!(matches!(file::open(&path, O_RDONLY, 0), Err(errno::ENOENT)));
}

#[test]
fn a_file_system_without_direct_io_gives_a_buffered_file() {
    let (fd, caching) = open_direct(c"/proc/self/status", O_RDONLY, 0).expect("a file of /proc");
    assert_eq!(caching, Caching::Buffered);
    assert!(fd.pread(&mut [0; 16], 0).is_ok());
}

#[test]
fn a_descriptor_is_closed_by_exec_unless_it_is_inherited() {
    let fd = file::open(c"/proc/self/status", O_RDONLY, 0).expect("a file");
    let inherited = || {
        let path = format!("/proc/self/fd/{}", fd.raw());
        std::process::Command::new("test").args(["-e", &path]).status().expect("test(1)").success()
    };
    assert!(!inherited());
    fd.set_inherited(Inherited::Yes).expect("flag");
    assert!(inherited());
    fd.set_inherited(Inherited::No).expect("flag");
    assert!(!inherited());
}

#[test]
fn a_dropped_descriptor_is_closed_and_a_raw_one_is_not() {
    let fd = file::open(c"/proc/self/status", O_RDONLY, 0).expect("a file").duplicate_from(700).expect("a copy");
    let raw = fd.into_raw();
    assert!(raw >= 700);
    let fd = Fd::from_raw(raw);
    assert!(fd.pread(&mut [0; 8], 0).is_ok());
    drop(fd);
    // Nobody else in this test program opens descriptors as high as this one.
    let closed = std::mem::ManuallyDrop::new(Fd::from_raw(raw));
    assert_eq!(closed.pread(&mut [0; 8], 0), Err(errno::EBADF));
}

#[test]
fn an_aligned_buffer_begins_at_a_page_and_has_its_length() {
    for len in [1, 4096, 5000] {
        let buffer = AlignedBuffer::new(len).expect("memory");
        assert_eq!(buffer.as_ptr() as usize % 4096, 0);
        assert_eq!(buffer.len(), len);
        assert!(buffer.iter().all(|byte| *byte == 0));
    }
    assert!(matches!(AlignedBuffer::new(0), Err(errno::EINVAL)));
}
