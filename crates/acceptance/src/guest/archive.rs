//! An initramfs: a cpio archive in the "newc" format, as the kernel's initramfs buffer format describes it.

use std::collections::BTreeSet;

/// An archive that is being written.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;

impl Archive {
    /// Whether something is called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Adds a directory, and those above it.
    pub fn directory(&mut self, name: &str) {
        if let Some((above, _)) = name.rsplit_once('/') {
            self.directory(above);
        }
        if self.names.insert(name.into()) {
            self.entry(name, DIRECTORY, &[]);
        }
    }

    /// Adds a file, and the directories above it.
    pub fn file(&mut self, name: &str, permissions: u32, contents: &[u8]) {
        if let Some((above, _)) = name.rsplit_once('/') {
            self.directory(above);
        }
        if self.names.insert(name.into()) {
            self.entry(name, REGULAR | permissions, contents);
        }
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) {
        let inode = self.names.len() as u32;
        // inode, mode, user, group, links, time, size, device (major, minor), node (major, minor), name, check
        let fields = [inode, mode, 0, 0, 1, 0, contents.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.bytes.extend(b"070701");
        fields.iter().for_each(|field| self.bytes.extend(format!("{field:08x}").into_bytes()));
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_aligned_names_the_directories_above_and_ends_with_the_trailer() {
        let mut archive = Archive::default();
        archive.file("lib/x/y.so", 0o644, b"12345");
        assert!(archive.has("lib") && archive.has("lib/x") && !archive.has("y.so"));
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(bytes.windows(6).filter(|part| part == b"070701").count(), 4);
        assert!(bytes.windows(11).any(|part| part == b"TRAILER!!!\0"));
    }
}
