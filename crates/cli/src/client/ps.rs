//! `memvisor ps`: the spaces of a node, one a line.

use super::args::PsArgs;
use super::columns::{Side, table};
use super::node::Node;
use super::text::{class, clean, print, print_json, rate, size_or_dash, space_state};
use crate::exit::Outcome;
use memvisor_node::wire;
use memvisor_proto::size::Size;

/// Prints the table.
///
/// # Errors
/// When the node does not answer.
pub fn ps(args: &PsArgs) -> Outcome {
    let node = Node::meant(&args.node)?;
    if args.json {
        return print_json(&node.spaces()?);
    }
    let wire::Spaces { spaces } = node.spaces()?;
    print(&text(&spaces))
}

/// The spaces as a table.
pub fn text(spaces: &[wire::Space]) -> String {
    use Side::{Left, Right};
    let heads = [
        ("NAME", Left),
        ("NO", Right),
        ("PID", Right),
        ("CLASS", Left),
        ("SHARES", Right),
        ("RESERVED", Right),
        ("LIMIT", Right),
        ("TARGET", Right),
        ("CHARGED", Right),
        ("WANTED", Right),
        ("ACTIVE", Right),
        ("FAULTS/s", Right),
        ("STATE", Left),
    ];
    let rows: Vec<_> = spaces.iter().map(row).collect();
    table(heads, &rows)
}

fn row(space: &wire::Space) -> [String; 13] {
    let size = |bytes| Size(bytes).to_string();
    [
        clean(&space.name),
        space.number.to_string(),
        space.program_pid.to_string(),
        class(space.intent.class).into(),
        space.intent.shares.to_string(),
        size_or_dash(space.intent.reservation_bytes),
        space.intent.limit_bytes.map_or("-".into(), size),
        size(space.target_bytes),
        size(space.charged_bytes),
        size(space.wanted_bytes),
        size(space.active_bytes),
        rate(space.rates.faults_per_s),
        space_state(space).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_end_in_the_same_column() {
        let space =
            |name: &str, bytes| wire::Space { name: name.into(), charged_bytes: bytes, ..wire::Space::default() };
        let text = text(&[space("a", 3 << 29), space("longer-name", 17)]);
        let ends: Vec<usize> = text
            .lines()
            .zip(["CHARGED", "1.50 GiB", "17 B"])
            .map(|(line, cell)| line.find(cell).unwrap() + cell.len())
            .collect();
        assert!(ends.iter().all(|end| *end == ends[0]), "{text}");
    }
}
