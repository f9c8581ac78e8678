//! One line for people, from a thread that has no descriptors of its own and may not allocate.

use crate::space::{MemberIndex, Space};
use memvisor_core::{PageWord, SlotRef};
use memvisor_store::Why;
use std::fmt::Write;

/// A line being built on the stack; what does not fit is cut.
struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    len: usize,
}

/// Room for a path, a reason and the way out.
const LINE_BYTES_MAX: usize = 600;

impl Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let count = text.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + count].copy_from_slice(&text.as_bytes()[..count]);
        self.len += count;
        Ok(())
    }
}

/// Writes one line to the program's standard error, if it has one.
pub fn line(text: std::fmt::Arguments<'_>) {
    let line = Line::of(text);
    memvisor_sys::say::write_to_stderr(&line.bytes[..line.len]);
}

/// The same from a thread of the program, which has the program's descriptors.
pub fn line_of_program(text: std::fmt::Arguments<'_>) {
    let line = Line::of(text);
    memvisor_sys::say::write_to_own_stderr(&line.bytes[..line.len]);
}

impl Line {
    fn of(text: std::fmt::Arguments<'_>) -> Self {
        let mut line = Line { bytes: [0; LINE_BYTES_MAX], len: 0 };
        let _ = line.write_fmt(format_args!("memvisor: {text}\n"));
        line
    }
}

/// A page cannot be brought back true.
pub(crate) fn lost_page(space: &Space, member: MemberIndex, at: usize, store: &str, slot: SlotRef, why: &Why) {
    lost(space, member, at, format_args!("store {store}, {slot:?}: {why:?}"));
}

/// A page is not where it was put: an error of memvisor, or of a program that gives memory away behind its back.
pub(crate) fn missing_page(space: &Space, member: MemberIndex, at: usize, word: PageWord) {
    lost(space, member, at, format_args!("it is not there ({word:?})"));
}

fn lost(space: &Space, member: MemberIndex, at: usize, why: std::fmt::Arguments<'_>) {
    let id = space.header().id_low().load(std::sync::atomic::Ordering::Relaxed);
    let process = memvisor_sys::process::getpid();
    line(format_args!(
        "space {id:016x}: page {at:#x} of process {process} is lost: {why}. A touch of it is a SIGBUS (member {}).",
        member.0
    ));
}
