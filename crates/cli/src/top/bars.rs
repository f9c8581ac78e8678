//! Bars and sparklines as letters with colours; letters alone tell the parts apart.

use memvisor_node::wire::Tiers;
use ratatui::style::{Color, Style};
use ratatui::text::Span;

/// A part of a bar.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// How much, in any unit.
    pub amount: u64,
    /// What it is drawn with.
    pub letter: &'static str,
    /// In which colour.
    pub color: Color,
}

/// The tiers of a space: in DRAM, staged, compressed, in a file.
pub fn tiers(tiers: &Tiers) -> [Part; 4] {
    let part = |amount, letter, color| Part { amount, letter, color };
    [
        part(tiers.dram_bytes, "█", Color::Green),
        part(tiers.staged_bytes, "▓", Color::Yellow),
        part(tiers.ram_bytes, "▒", Color::Cyan),
        part(tiers.log_bytes, "░", Color::Magenta),
    ]
}

/// A bar of `width` letters for `whole`; what the parts do not fill stays blank.
///
/// Ends are rounded, not widths, so that no letter is won or lost over all parts.
pub fn bar(parts: &[Part], whole: u64, width: u16) -> Vec<Span<'static>> {
    let whole = u128::from(whole.max(1));
    let (mut sum, mut drawn) = (0, 0);
    let mut spans = Vec::new();
    for part in parts {
        sum += u128::from(part.amount);
        let end = ((sum * u128::from(width) + whole / 2) / whole).min(width.into()) as usize;
        spans.push(Span::styled(part.letter.repeat(end.saturating_sub(drawn)), Style::new().fg(part.color)));
        drawn = drawn.max(end);
    }
    spans.push(Span::raw(" ".repeat(usize::from(width).saturating_sub(drawn))));
    spans
}

/// The last samples in `width` letters, the newest at the right, as high as the highest of them.
pub fn sparkline(samples: impl DoubleEndedIterator<Item = f64>, width: u16) -> String {
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let mut newest: Vec<f64> = samples.rev().take(width.into()).collect();
    newest.reverse();
    let most = newest.iter().copied().fold(0.0, f64::max);
    let level = |sample: f64| {
        // Whatever is not nothing can be seen.
        let part = if most > 0.0 { (sample / most * 8.0).ceil() } else { 0.0 };
        LEVELS[part.clamp(0.0, 8.0) as usize]
    };
    let line: String = newest.into_iter().map(level).collect();
    format!("{line:>width$}", width = usize::from(width))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(spans: &[Span<'_>]) -> String {
        spans.iter().map(|span| span.content.as_ref()).collect()
    }

    #[test]
    fn a_bar_is_as_wide_as_it_shall_be_whatever_is_in_it() {
        let of = |dram_bytes, staged_bytes, ram_bytes, log_bytes| {
            tiers(&Tiers { dram_bytes, staged_bytes, ram_bytes, log_bytes, ..Tiers::default() })
        };
        assert_eq!(text(&bar(&of(4, 1, 2, 1), 8, 8)), "████▓▒▒░");
        assert_eq!(text(&bar(&of(4, 0, 0, 0), 8, 8)), "████    ");
        assert_eq!(text(&bar(&of(0, 0, 0, 0), 0, 3)), "   ");
        for amounts in 0..256u64 {
            let parts = of(amounts & 3, amounts >> 2 & 3, amounts >> 4 & 3, amounts >> 6);
            let whole = parts.iter().map(|part| part.amount).sum();
            assert_eq!(text(&bar(&parts, whole, 7)).chars().count(), 7);
        }
        assert_eq!(text(&bar(&of(u64::MAX, u64::MAX, 0, 0), u64::MAX, 4)), "████");
    }

    #[test]
    fn a_sparkline_ends_with_the_newest_sample_and_shows_the_least() {
        assert_eq!(sparkline([0.0, 1.0, 50.0, 100.0].into_iter(), 6), "   ▁▄█");
        assert_eq!(sparkline([100.0, 1.0, 2.0].into_iter(), 2), "▄█");
        assert_eq!(sparkline([0.0, 0.0].into_iter(), 2), "  ");
    }
}
