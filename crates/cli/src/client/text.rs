//! Texts for people: what the node says made safe to print, and numbers at a fixed width.

use crate::exit::{Exit, Outcome};
use crate::manual::WriteError;
use memvisor_node::wire;
use memvisor_proto::size::Size;
use std::borrow::Cow;
use std::io::{self, Write};

/// `text` without what a terminal would obey: a name must not move the cursor of whoever lists it.
pub fn clean(text: &str) -> String {
    text.chars().map(|letter| if is_harmful(letter) { '\u{fffd}' } else { letter }).collect()
}

/// Control characters, and those that turn the direction of what follows.
fn is_harmful(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Prints an answer on standard output.
///
/// # Errors
/// When nobody takes it. A reader that has seen enough is no failure.
pub fn print(text: &str) -> Outcome {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(WriteError::to_output(error).into()),
        _ => Ok(Exit::Success),
    }
}

/// Prints an answer as JSON.
///
/// # Errors
/// As [`print()`].
pub fn print_json(value: &serde_json::Value) -> Outcome {
    print(&format!("{value:#}\n"))
}

/// A number of bytes for a table; nothing is a dash.
pub fn size_or_dash(bytes: u64) -> String {
    if bytes == 0 { "-".into() } else { Size(bytes).to_string() }
}

/// A rate for a table: three digits or the whole number.
pub fn rate(per_s: f64) -> String {
    match per_s {
        rate if rate <= 0.0 => "0".into(),
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate if rate < 1e5 => format!("{rate:.0}"),
        rate if rate < 1e6 => format!("{:.0}k", rate / 1e3),
        rate => format!("{:.1}M", rate / 1e6),
    }
}

/// A part of a whole: `3.2 %`.
pub fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

/// A time since something: `12 s`, `5 min`, `3 h`, `9 d`.
pub fn age(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let seconds = ms / 1000;
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| seconds >= 2 * unit).unwrap_or((1, "s"));
    format!("{} {name}", seconds / unit)
}

/// The class, as it is typed.
pub fn class(class: wire::Class) -> &'static str {
    match class {
        wire::Class::Batch => "batch",
        wire::Class::Standard => "standard",
        wire::Class::Latency => "latency",
    }
}

/// How short of DRAM a host is, in one word.
pub fn host_state(state: wire::State) -> &'static str {
    match state {
        wire::State::High => "high",
        wire::State::Soft => "soft",
        wire::State::Hard => "hard",
        wire::State::Low => "low",
    }
}

/// What is to be said of the consolidation ratio.
pub fn verdict(verdict: wire::Verdict) -> &'static str {
    match verdict {
        wire::Verdict::Fits => "fits",
        wire::Verdict::Overcommitted => "overcommitted",
        wire::Verdict::TooHigh => "too high",
        wire::Verdict::PromisesBroken => "promises broken",
    }
}

/// What happens to a space, in one word; what matters most first.
pub fn space_state(space: &wire::Space) -> &'static str {
    match (space.drain, space.action, space.store_full) {
        (wire::DrainState::Drained, ..) => "drained",
        (wire::DrainState::Draining, ..) => "draining",
        (wire::DrainState::No, wire::Action::Block, _) => "blocked",
        (wire::DrainState::No, _, true) => "full",
        (wire::DrainState::No, wire::Action::Page, false) => "paging",
        (wire::DrainState::No, wire::Action::Balloon, false) => "giving",
        (wire::DrainState::No, wire::Action::Leave, false) => "running",
    }
}

/// `one` space, `2` spaces.
pub fn counted(count: u64, one: &str) -> String {
    let many: Cow<'_, str> = if count == 1 { one.into() } else { format!("{one}s").into() };
    format!("{count} {many}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(clean("a\x1b[31mb\n\u{9b}c\u{202e}d é 日本"), "a\u{fffd}[31mb\u{fffd}\u{fffd}c\u{fffd}d é 日本");
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be_told() {
        let rates = [-1.0, 0.0, 0.44, 9.9, 9.97, 1234.5, 123_456.0, 7_890_000.0].map(rate);
        assert_eq!(rates, ["0", "0", "0.4", "9.9", "10", "1234", "123k", "7.9M"]);
        assert_eq!(
            [0, 1999, 119_000, 120_000, 7_200_000, 172_800_000].map(age),
            ["0 s", "1 s", "119 s", "2 min", "2 h", "2 d"]
        );
        assert_eq!(percent(0.0321), "3.2 %");
        assert_eq!([counted(1, "space"), counted(2, "space")], ["1 space", "2 spaces"]);
    }

    #[test]
    fn a_drain_is_said_before_all_else_and_a_block_before_a_full_store() {
        let mut space = wire::Space { action: wire::Action::Block, store_full: true, ..wire::Space::default() };
        assert_eq!(space_state(&space), "blocked");
        space.drain = wire::DrainState::Draining;
        assert_eq!(space_state(&space), "draining");
        space = wire::Space { store_full: true, ..wire::Space::default() };
        assert_eq!(space_state(&space), "full");
        assert_eq!(space_state(&wire::Space::default()), "running");
    }
}
