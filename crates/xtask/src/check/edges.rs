//! Which crate of ours may use which: the walls of the design, checked.
//!
//! What a crate's own tests use is free; what it is built from is not. The table is that of the architecture; it is
//! changed by a decision record, not in passing.

use crate::command::{Cargo, Failure, output};
use serde_json::Value;
use std::collections::BTreeMap;

/// Each crate of ours and those it may be built from.
const ALLOWED: [(&str, &[&str]); 17] = [
    ("memvisor-core", &[]),
    ("memvisor-policy", &["memvisor-core"]),
    ("memvisor-proto", &["memvisor-core"]),
    ("memvisor-sys", &[]),
    ("memvisor-store", &["memvisor-core", "memvisor-proto", "memvisor-sys"]),
    ("memvisor-pager", &["memvisor-core", "memvisor-proto", "memvisor-store", "memvisor-sys"]),
    ("memvisor-shim", &["memvisor-core", "memvisor-pager", "memvisor-proto", "memvisor-sys"]),
    ("memvisor-gate", &["memvisor-proto"]),
    ("memvisor-node", &["memvisor-core", "memvisor-policy", "memvisor-proto", "memvisor-store", "memvisor-sys"]),
    ("memvisor-blade", &["memvisor-proto", "memvisor-store", "memvisor-sys"]),
    ("memvisor-cluster", &["memvisor-policy", "memvisor-proto"]),
    (
        "memvisor-cli",
        &[
            "memvisor-core",
            "memvisor-policy",
            "memvisor-proto",
            "memvisor-sys",
            "memvisor-store",
            "memvisor-pager",
            "memvisor-node",
            "memvisor-blade",
            "memvisor-cluster",
            "memvisor-sim",
            "memvisor-picture",
        ],
    ),
    ("memvisor-picture", &[]),
    ("memvisor-sim", &["memvisor-core", "memvisor-picture", "memvisor-policy", "memvisor-proto"]),
    ("memvisor-bench", &["memvisor-acceptance", "memvisor-picture", "memvisor-proto"]),
    ("memvisor-acceptance", &[]),
    ("xtask", &[]),
];

/// Fails with every edge that the table does not have.
pub fn check(cargo: &Cargo) -> Result<(), Failure> {
    let text = output(&mut cargo.command(["metadata", "--no-deps", "--format-version", "1", "--locked"]))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
    let wrong = wrong_edges(&edges(&metadata));
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(wrong.join("\n"))) }
}

/// Each crate of the workspace with those crates of the workspace that it is built from.
fn edges(metadata: &Value) -> BTreeMap<String, Vec<String>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let used = list(&package["dependencies"])
                .iter()
                // A path marks one of ours; the kind is null for what the crate itself is built from.
                .filter(|used| used["path"].is_string() && used["kind"].as_str() != Some("dev"))
                .map(name)
                .collect();
            (name(package), used)
        })
        .collect()
}

fn wrong_edges(edges: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (from, used) in edges {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| name == from) else {
            wrong.push(format!("{from} is not in the table of crate edges: crates/xtask/src/check/edges.rs"));
            continue;
        };
        let forbidden = used.iter().filter(|to| !allowed.contains(&to.as_str()));
        wrong.extend(forbidden.map(|to| format!("{from} may not depend on {to}")));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata(kind: Value) -> Value {
        json!({ "packages": [{ "name": "memvisor-core", "dependencies": [
            { "name": "memvisor-sys", "path": "crates/sys", "kind": kind },
            { "name": "serde", "kind": null },
        ] }] })
    }

    #[test]
    fn an_edge_that_is_not_in_the_table_is_refused() {
        assert_eq!(wrong_edges(&edges(&metadata(Value::Null))), ["memvisor-core may not depend on memvisor-sys"]);
        assert_eq!(wrong_edges(&edges(&metadata(json!("build")))).len(), 1);
    }

    #[test]
    fn what_only_tests_use_is_free() {
        assert!(wrong_edges(&edges(&metadata(json!("dev")))).is_empty());
    }

    #[test]
    fn a_crate_that_the_table_does_not_know_is_refused() {
        let unknown = BTreeMap::from([("memvisor-common".to_owned(), Vec::new())]);
        assert_eq!(wrong_edges(&unknown).len(), 1);
    }
}
