//! Files that the documentation names must exist.
//!
//! Two kinds of names are looked at in Markdown files: the target of a link, and a word in backticks that begins as a
//! path of this tree does.

use crate::command::Failure;
use crate::tree::Tree;
use std::path::Path;

/// How paths of this tree begin.
const BEGINNINGS: [&str; 5] = ["crates/", "docs/", ".ci/", ".cargo/", "packaging/"];

/// What marks a name as a pattern or a placeholder.
const PLACEHOLDERS: [char; 8] = ['*', '<', '>', '{', '}', '…', '$', ' '];

/// Fails with every name behind which there is no file.
pub fn check(tree: &Tree) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for path in tree.files()?.iter().filter(|path| path.extension().is_some_and(|end| end == "md")) {
        let text = tree.text(path).unwrap_or_default();
        let here = path.parent().unwrap_or(Path::new(""));
        for (line, name) in names(&text) {
            let beside = tree.root().join(here).join(&name);
            if !beside.exists() && !tree.root().join(&name).exists() {
                missing.push(format!("{}:{line}: there is no {name}", path.display()));
            }
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(Failure::new(missing.join("\n"))) }
}

/// Names of files in a Markdown text, with the lines that they stand in.
fn names(text: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for (begin, _) in line.match_indices("](") {
            let rest = &line[begin + 2..];
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') && !target.contains(PLACEHOLDERS) {
                names.push((at + 1, target.to_owned()));
            }
        }
        // Every second piece between backticks is code.
        for word in line.split('`').skip(1).step_by(2) {
            if BEGINNINGS.iter().any(|beginning| word.starts_with(beginning)) && !word.contains(PLACEHOLDERS) {
                // `path::item` and `path:12` name something within the file.
                names.push((at + 1, word.split(':').next().unwrap_or(word).to_owned()));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_paths_in_backticks_are_names_and_nothing_else_is() {
        let text = "See [terms](TERMS.md#page), [web](https://example.org/x) and `crates/core/src/page.rs:12`.\n\
                    Neither `crates/<name>/src` nor `docs/…` nor `cargo x check` nor [here](#anchor).";
        assert_eq!(names(text), [(1, "TERMS.md".to_owned()), (1, "crates/core/src/page.rs".to_owned())]);
    }
}
