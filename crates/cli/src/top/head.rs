//! The lines above the table: the host, its DRAM as a bar, and how rows are ordered or that the node is gone.

use super::bars::{Part, bar};
use super::state::{Direction, State};
use crate::client::text::{clean, counted, host_state, percent, verdict};
use memvisor_node::wire::{self, Host, Verdict};
use memvisor_proto::size::Size;
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};

/// Lines of the head.
pub const LINES: u16 = 3;
/// Letters of the bar of DRAM.
const BAR: u16 = 24;

/// The head; parts that a narrow terminal cuts off stand at the right.
pub fn lines(state: &State) -> [Line<'static>; LINES as usize] {
    [host(&state.host), dram(&state.host), order(state)]
}

fn host(host: &Host) -> Line<'static> {
    let ratio = host.ratio.map_or(String::new(), |ratio| format!(" ×{ratio:.2}"));
    Line::from(vec![
        Span::raw("state "),
        Span::styled(host_state(host.state), state_style(host.state)),
        Span::raw(" · "),
        Span::styled(format!("{}{ratio}", verdict(host.verdict)), verdict_style(host.verdict)),
        Span::raw(format!(
            " · tax {} · pressure {} some, {} full · {} · memvisor {}",
            host.tax,
            percent(host.pressure.some),
            percent(host.pressure.full),
            counted(host.spaces, "space"),
            clean(&host.version)
        )),
    ])
}

fn state_style(state: wire::State) -> Style {
    match state {
        wire::State::High => Style::new().fg(Color::Green),
        wire::State::Soft => Style::new().fg(Color::Yellow),
        wire::State::Hard => Style::new().fg(Color::Red),
        wire::State::Low => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD | Modifier::REVERSED),
    }
}

fn verdict_style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Fits => Style::new().fg(Color::Green),
        Verdict::Overcommitted => Style::new().fg(Color::Yellow),
        Verdict::TooHigh => Style::new().fg(Color::Red),
        Verdict::PromisesBroken => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD | Modifier::REVERSED),
    }
}

/// What is charged, what is handed out beyond that, and the rest.
fn dram(host: &Host) -> Line<'static> {
    let granted = host.targets_bytes.saturating_sub(host.charged_bytes);
    let parts = [
        Part { amount: host.charged_bytes, letter: "█", color: Color::Green },
        Part { amount: granted, letter: "▒", color: Color::Yellow },
        Part {
            amount: host.dram_bytes.saturating_sub(host.charged_bytes + granted),
            letter: "·",
            color: Color::DarkGray,
        },
    ];
    let mut spans = vec![Span::raw("DRAM ")];
    spans.extend(bar(&parts, host.dram_bytes, BAR));
    spans.push(Span::raw(format!(
        " {} charged · {} of {} handed out · {} free",
        Size(host.charged_bytes),
        Size(host.targets_bytes),
        Size(host.dram_bytes),
        Size(host.free_bytes)
    )));
    Line::from(spans)
}

fn order(state: &State) -> Line<'static> {
    if let Some(gone) = &state.gone {
        let text = format!("NODE GONE: {} (asked {}; asking on)", gone.why, counted(gone.tries, "time"));
        return Line::from(text).style(Style::new().fg(Color::Red).add_modifier(Modifier::BOLD | Modifier::REVERSED));
    }
    let shown = state.rows().len();
    let mut text = format!("sorted by {} {}", state.sort.head().to_lowercase(), arrow(state.direction));
    if !state.filter.is_empty() {
        text += &format!(" · {shown} of {} with `{}`", counted(state.spaces() as u64, "space"), clean(&state.filter));
    }
    Line::from(text).dim()
}

/// The sign of a direction.
pub fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::Down => "▼",
        Direction::Up => "▲",
    }
}
