//! What is said reaches people, and never makes a program wait.

mod common;

use common::Child;
use memvisor_sys::call::{self, number as nr};
use memvisor_sys::file::Fd;
use memvisor_sys::say::write_to_stderr;
use memvisor_sys::shared::SharedFile;
use memvisor_sys::{errno, thread};
use std::process::Command;

/// Puts `fd` in place of the standard error: for children.
fn take_for_stderr(fd: i32) -> bool {
    // SAFETY: the child's standard error is the child's.
    let taken = unsafe { call::syscall3(nr::__NR_dup3, fd as usize, 2, 0) };
    taken == Ok(2)
}

/// A pipe: its end to read and its end to write, which does not wait.
fn pipe() -> (Fd, Fd) {
    const O_NONBLOCK: usize = 0o4000;
    let mut ends = [0i32; 2];
    // SAFETY: the kernel writes two descriptors there.
    unsafe { call::syscall2(nr::__NR_pipe2, ends.as_mut_ptr() as usize, O_NONBLOCK) }.expect("a pipe");
    (Fd::from_raw(ends[0]), Fd::from_raw(ends[1]))
}

/// Says `line` in a child whose standard error is `fd`.
fn say_in_a_child(fd: i32, line: &str) {
    let child = Child::fork(|| {
        if !take_for_stderr(fd) {
            return 1;
        }
        write_to_stderr(line.as_bytes());
        0
    });
    assert_eq!(child.exit_code(), 0);
}

#[test]
fn a_line_goes_where_the_program_writes_next() {
    let file = SharedFile::create(c"memvisor-test", 0).expect("a memory file");
    file.as_fd().write(b"program\n").expect("write");
    say_in_a_child(file.fd(), "memvisor\n");
    file.as_fd().write(b"program\n").expect("write");
    let mut text = [0; 25];
    file.as_fd().pread_exact(&mut text, 0).expect("three lines");
    assert_eq!(&text, b"program\nmemvisor\nprogram\n");
}

#[test]
fn a_line_goes_through_a_pipe() {
    let (reader, writer) = pipe();
    say_in_a_child(writer.raw(), "memvisor\n");
    let mut text = [0; 16];
    assert_eq!(reader.read(&mut text), Ok(9));
    assert_eq!(&text[..9], b"memvisor\n");
}

#[test]
fn a_full_pipe_loses_the_line_and_one_without_a_reader_kills_nobody() {
    let (reader, writer) = pipe();
    // The child's standard error waits where it is full, as any program's does.
    clear_nonblocking_after(|| while writer.write(&[b'.'; 4096]) != Err(errno::EAGAIN) {}, &writer);
    say_in_a_child(writer.raw(), "memvisor\n");
    drop(reader);
    say_in_a_child(writer.raw(), "memvisor\n");
}

fn clear_nonblocking_after(fill: impl FnOnce(), fd: &Fd) {
    const F_SETFL: usize = 4;
    fill();
    // SAFETY: changes a flag of a descriptor that is ours.
    unsafe { call::syscall3(nr::__NR_fcntl, fd.raw() as usize, F_SETFL, 0) }.expect("flags");
}

#[test]
fn a_thread_without_descriptors_still_reaches_the_standard_error() {
    const NAME: &str = "a_thread_without_descriptors_still_reaches_the_standard_error";
    const INSIDE: &str = "MEMVISOR_TEST_SAYS";
    if std::env::var_os(INSIDE).is_some() {
        let speaker = std::thread::spawn(|| {
            thread::unshare_files().expect("unshare");
            thread::close_range(0, u32::MAX).expect("close");
            write_to_stderr(b"heard\n");
        });
        return speaker.join().expect("the thread");
    }
    let program = std::env::current_exe().expect("the test program");
    let run = Command::new(program).args([NAME, "--exact", "--nocapture"]).env(INSIDE, "1").output();
    let run = run.expect("the test program runs itself");
    assert!(run.status.success());
    assert!(String::from_utf8_lossy(&run.stderr).contains("heard\n"), "{run:?}");
}
