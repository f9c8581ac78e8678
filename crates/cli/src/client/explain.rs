//! `memvisor explain`: why a space has the target that it has, and who else was cut.

use super::args::ExplainArgs;
use super::columns::{Side, table};
use super::node::Node;
use super::text::{clean, host_state, print, print_json};
use crate::exit::Outcome;
use memvisor_node::wire::{Bound, Explanation, Other, Promise};
use memvisor_proto::size::Size;
use serde_json::Value;

/// Others that are listed: with more, those that were taxed least are of no interest.
const OTHERS_MAX: usize = 10;

/// Prints it.
///
/// # Errors
/// When the node does not answer, or has no such space.
pub fn explain(args: &ExplainArgs) -> Outcome {
    let node = Node::meant(&args.node)?;
    if args.json {
        return print_json(&node.explanation::<Value>(&args.name)?);
    }
    print(&(lines(&node.explanation(&args.name)?).join("\n") + "\n"))
}

/// The explanation line by line: the node's sentences, then the other spaces.
pub fn lines(explanation: &Explanation) -> Vec<String> {
    let mut lines = vec![format!(
        "{}: target {} of {} on the host, which is {}",
        clean(&explanation.name),
        Size(explanation.reason.target_bytes),
        Size(explanation.capacity_bytes),
        host_state(explanation.state)
    )];
    lines.extend(explanation.sentences.iter().map(|sentence| format!("  {}", clean(sentence))));
    if !explanation.others.is_empty() {
        lines.push(String::new());
        lines.extend(others(&explanation.others).lines().map(str::to_owned));
    }
    lines
}

fn others(others: &[Other]) -> String {
    use Side::{Left, Right};
    let heads =
        [("OTHERS", Left), ("TARGET", Right), ("UNTAXED", Right), ("TAX", Right), ("PROMISE", Left), ("HELD BY", Left)];
    let rows: Vec<[String; 6]> = others.iter().take(OTHERS_MAX).map(row).collect();
    let more = others.len().saturating_sub(OTHERS_MAX);
    let more = if more == 0 { String::new() } else { format!("and {more} more\n") };
    table(heads, &rows) + &more
}

fn row(other: &Other) -> [String; 6] {
    let reason = &other.reason;
    [
        clean(&other.name),
        Size(reason.target_bytes).to_string(),
        Size(reason.untaxed_bytes).to_string(),
        signed(reason.tax_bytes),
        promise(reason.promise),
        bound(reason.bound).into(),
    ]
}

/// What a tax took, with the sign that it has for who pays.
fn signed(tax_bytes: i64) -> String {
    match tax_bytes {
        0 => "-".into(),
        took if took > 0 => format!("-{}", Size(took.unsigned_abs())),
        gave => format!("+{}", Size(gave.unsigned_abs())),
    }
}

fn promise(promise: Option<Promise>) -> String {
    match promise {
        None => "-".into(),
        Some(Promise { reserved_bytes, kept_bytes }) if kept_bytes >= reserved_bytes => {
            format!("{} kept", Size(reserved_bytes))
        }
        Some(Promise { reserved_bytes, kept_bytes }) => {
            format!("{} of {} kept", Size(kept_bytes), Size(reserved_bytes))
        }
    }
}

fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::Reservation => "reservation",
        Bound::Limit => "limit",
        Bound::Wanted => "has all it wants",
        Bound::Price => "price",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tax_is_a_loss_and_a_gift_a_gain() {
        assert_eq!([0, 1 << 20, -(1 << 20)].map(signed), ["-", "-1 MiB", "+1 MiB"]);
    }

    #[test]
    fn a_promise_that_is_cut_says_what_is_left_of_it() {
        let of = |reserved_bytes, kept_bytes| promise(Some(Promise { reserved_bytes, kept_bytes }));
        assert_eq!([of(1 << 30, 1 << 30), of(1 << 30, 1 << 20)], ["1 GiB kept", "1 MiB of 1 GiB kept"]);
        assert_eq!(promise(None), "-");
    }
}
