//! The source tree: where it is, and what files belong to it.

use crate::command::{Failure, output};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Directories that are not part of the tree wherever they lie.
const NOT_OURS: [&str; 2] = ["target", ".git"];

/// The checkout that this program was built from.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Two directories above this crate.
    pub fn of_this_program() -> Self {
        let own = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        Self { root: own.parent().and_then(Path::parent).unwrap_or(Path::new(".")).to_owned() }
    }

    /// The directory of the workspace's manifest.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo puts what it builds.
    pub fn target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.root.join("target"), |dir| self.root.join(dir))
    }

    /// Where a program lies that was built for release.
    pub fn built(&self, name: &str) -> PathBuf {
        self.target().join("release").join(name)
    }

    /// Paths of all files, relative to the root: what git knows or would take in; without git, all there is.
    pub fn files(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(&self.root);
        let mut files: Vec<PathBuf> = match output(&mut git) {
            Ok(names) => names.split_terminator('\0').map(PathBuf::from).collect(),
            Err(_) => {
                let mut files = Vec::new();
                collect(&self.root, Path::new(""), &mut files)
                    .map_err(|error| Failure::new(format!("cannot list {}: {error}", self.root.display())))?;
                files
            }
        };
        // Git also names files that were removed since.
        files.retain(|path| self.root.join(path).is_file());
        files.sort();
        Ok(files)
    }

    /// The text of a file; none for one that is not text.
    pub fn text(&self, path: &Path) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    /// What git says about the state of the tree; empty without git.
    pub fn state(&self) -> String {
        output(Command::new("git").args(["status", "--porcelain=v1", "--untracked-files=all"]).current_dir(&self.root))
            .unwrap_or_default()
    }
}

fn collect(root: &Path, within: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root.join(within))? {
        let entry = entry?;
        let path = within.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if !NOT_OURS.iter().any(|name| entry.file_name() == *name) {
                collect(root, &path, files)?;
            }
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_its_manifest_and_nothing_that_was_built() {
        let tree = Tree::of_this_program();
        let files = tree.files().expect("the tree can be read");
        assert!(files.contains(&PathBuf::from("Cargo.toml")));
        assert!(files.contains(&PathBuf::from("crates/xtask/src/tree.rs")));
        assert!(!files.iter().any(|path| path.starts_with("target")));
    }

    #[test]
    fn without_git_the_same_files_are_found() {
        let tree = Tree::of_this_program();
        let mut files = Vec::new();
        collect(tree.root(), Path::new(""), &mut files).expect("the tree can be read");
        assert!(files.contains(&PathBuf::from("crates/xtask/src/tree.rs")));
        assert!(!files.iter().any(|path| path.starts_with("target") || path.starts_with(".git")));
    }
}
