//! Paths that exist on one machine only have no place in the tree.
//!
//! Which ones is not written here, as that would be such a path: it is the directory of this checkout, the one above it,
//! and the home of whoever runs the check. So a path that one person left is found at the latest on the next machine
//! of the same kind.

use crate::command::Failure;
use crate::tree::Tree;
use std::path::{Path, PathBuf};

/// Directories of every Linux machine, which anything may name.
const COMMON: [&str; 20] = [
    "/", "/bin", "/boot", "/build", "/dev", "/etc", "/home", "/lib", "/mnt", "/opt", "/proc", "/run", "/sbin", "/srv",
    "/sys", "/tmp", "/usr", "/usr/src", "/var", "/var/tmp",
];

/// Fails with every line that names a path of this machine.
pub fn check(tree: &Tree) -> Result<(), Failure> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let forbidden = forbidden(tree.root(), home.as_deref());
    let mut found = Vec::new();
    for path in tree.files()? {
        if let Some(text) = tree.text(&path) {
            found.extend(
                lines_with(&text, &forbidden)
                    .map(|(number, what)| format!("{}:{number}: names {what}", path.display())),
            );
        }
    }
    if found.is_empty() { Ok(()) } else { Err(Failure::new(found.join("\n"))) }
}

/// The paths that must not occur, each with a slash behind it.
fn forbidden(root: &Path, home: Option<&Path>) -> Vec<String> {
    let candidates = [Some(root), root.parent(), home];
    let mut paths: Vec<String> = candidates
        .into_iter()
        .flatten()
        .filter(|path| path.is_absolute() && !COMMON.iter().any(|common| path == &Path::new(common)))
        .map(|path| format!("{}/", path.display()))
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

fn lines_with<'a>(text: &'a str, forbidden: &'a [String]) -> impl Iterator<Item = (usize, &'a str)> {
    text.lines().enumerate().filter_map(move |(at, line)| {
        let hit = forbidden.iter().find(|path| names(line, path))?;
        Some((at + 1, hit.as_str()))
    })
}

/// Whether `line` has `path` as the start of a path, and not as the tail of another.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|letter| !letter.is_alphanumeric() && !"-_./}>)*~".contains(letter))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_the_directory_above_it_and_the_home_are_found() {
        let forbidden = forbidden(Path::new("/there/tree"), Some(Path::new("/there/home")));
        let text = "fine\nsee /there/tree/README\nin \"/there/notes\"\n~ is /there/home/x\nelse/there/ is fine\n";
        let lines: Vec<usize> = lines_with(text, &forbidden).map(|(number, _)| number).collect();
        assert_eq!(lines, [2, 3, 4]);
    }

    #[test]
    fn directories_of_every_machine_may_be_named() {
        assert_eq!(forbidden(Path::new("/tmp/tree"), Some(Path::new("/"))), ["/tmp/tree/"]);
    }
}
