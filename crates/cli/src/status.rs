//! One line on the terminal that says how the space is doing, below whatever the program prints.
//!
//! The line is drawn under the cursor and the cursor is put back, so the program's next output starts where it would
//! have. Nothing is drawn while the terminal belongs to someone else or to a program that draws on it itself.

use crate::sample::Sample;
use crate::size::Size;
use memvisor_proto::histogram::{HISTOGRAM_WORDS, quantile_ns};
use rustix::termios::{self, LocalModes};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stderr};
use std::time::{Duration, Instant};

/// Time between two drawings: five a second are read as movement and cost nothing.
pub const INTERVAL: Duration = Duration::from_millis(200);
/// Columns of a terminal that does not say how many it has.
const COLUMNS_DEFAULT: usize = 80;
/// From the cursor to the end of the screen: what was drawn below is gone.
const ERASE: &str = "\x1b[J";

/// The line, and what was last drawn, to know the rates.
pub struct StatusLine {
    name: String,
    last: Option<(Instant, u64, [u64; HISTOGRAM_WORDS])>,
    is_drawn: bool,
}

impl StatusLine {
    /// A line for the space `name`; `None` when standard error is no terminal.
    pub fn on_terminal(name: &str) -> Option<Self> {
        stderr().is_terminal().then(|| Self { name: name.to_owned(), last: None, is_drawn: false })
    }

    /// Draws the line anew.
    pub fn draw(&mut self, target_bytes: u64, sample: &Sample) {
        if !may_draw() {
            return;
        }
        let columns = termios::tcgetwinsize(stderr()).map_or(0, |size| usize::from(size.ws_col));
        let columns = if columns == 0 { COLUMNS_DEFAULT } else { columns };
        let text = self.text(target_bytes, sample, Instant::now());
        let text: String = text.chars().take(columns.saturating_sub(1)).collect();
        // Down one line (scrolling at the bottom), remember the place, draw from its left, return, up again.
        let _ = write!(stderr(), "{ERASE}\x1bD\x1b7\r\x1b[2m{text}\x1b[0m\x1b8\x1bM");
        self.is_drawn = true;
    }

    /// Takes the line away.
    pub fn erase(&mut self) {
        if std::mem::take(&mut self.is_drawn) && may_draw() {
            let _ = write!(stderr(), "{ERASE}");
        }
    }

    fn text(&mut self, target_bytes: u64, sample: &Sample, now: Instant) -> String {
        let counters = &sample.counters;
        let before = self.last.replace((now, counters.faults, counters.fault_ns));
        let mut text = format!("memvisor {}: DRAM {} of {}", self.name, Size(sample.charged_bytes), Size(target_bytes));
        let _ = write!(text, " · resident {} · compressed {}", Size(sample.tiers.dram), Size(sample.tiers.ram));
        if sample.tiers.log > 0 {
            let _ = write!(text, " · file {}", Size(sample.tiers.log));
        }
        let Some((then, faults, fault_ns)) = before else { return text };
        let seconds = now.duration_since(then).as_secs_f64().max(1e-3);
        let rate = counters.faults.saturating_sub(faults) as f64 / seconds;
        let _ = write!(text, " · {rate:.0} faults/s");
        let mut recent = counters.fault_ns;
        recent.iter_mut().zip(fault_ns).for_each(|(now, then)| *now = now.saturating_sub(then));
        match quantile_ns(&recent, 0.99) {
            0 => {}
            p99 => {
                let _ = write!(text, " · p99 {}", Nanoseconds(p99));
            }
        }
        text
    }
}

/// Whether the terminal is ours to draw on: we are in its foreground, and it works by lines.
fn may_draw() -> bool {
    let in_front = termios::tcgetpgrp(stderr()).is_ok_and(|group| group == rustix::process::getpgrp());
    in_front && termios::tcgetattr(stderr()).is_ok_and(|modes| modes.local_modes.contains(LocalModes::ICANON))
}

/// A duration as people read it: `870 ns`, `9.3 µs`, `1.2 ms`, `2.0 s`.
pub struct Nanoseconds(pub u64);

impl std::fmt::Display for Nanoseconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ns = self.0 as f64;
        match self.0 {
            0..1_000 => write!(f, "{ns} ns"),
            1_000..1_000_000 => write!(f, "{:.1} µs", ns / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.1} ms", ns / 1e6),
            _ => write!(f, "{:.1} s", ns / 1e9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::BytesByTier;

    #[test]
    fn the_line_says_what_lies_where_and_how_fast_it_faults() {
        let mut line = StatusLine { name: "redis".into(), last: None, is_drawn: false };
        let mut sample = Sample {
            charged_bytes: 250 << 20,
            tiers: BytesByTier { dram: 200 << 20, staged: 0, ram: 50 << 20, log: 1 << 30 },
            ..Sample::default()
        };
        let start = Instant::now();
        let first = line.text(256 << 20, &sample, start);
        assert_eq!(
            first,
            "memvisor redis: DRAM 250 MiB of 256 MiB · resident 200 MiB · compressed 50 MiB · file 1 GiB"
        );
        sample.counters.faults = 1000;
        sample.counters.fault_ns[40] = 1000;
        let second = line.text(256 << 20, &sample, start + INTERVAL);
        assert!(second.starts_with(&first) && second.contains("· 5000 faults/s · p99 "), "{second}");
    }

    #[test]
    fn durations_are_printed_in_the_unit_that_fits() {
        for (ns, text) in [(870, "870 ns"), (9_300, "9.3 µs"), (1_234_567, "1.2 ms"), (2_000_000_000, "2.0 s")] {
            assert_eq!(Nanoseconds(ns).to_string(), text);
        }
    }
}
