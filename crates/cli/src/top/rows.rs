//! The table: its head, and a row for each space.

use super::bars::{bar, sparkline, tiers};
use super::columns::Column;
use super::head::arrow;
use super::layout::{GAP, Layout};
use super::state::State;
use crate::client::text::{clean, space_state};
use memvisor_node::wire::Space;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Draws the table into `area`.
pub fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let rows = state.rows();
    let name = rows.iter().map(|space| clean(&space.name).width()).max().unwrap_or(0);
    let layout = Layout::new(area.width, name.min(u16::MAX.into()) as u16, state.sort);
    let mut lines = area.rows();
    let Some(first) = lines.next() else { return };
    buffer.set_line(first.x, first.y, &heads(state, &layout), first.width);
    buffer.set_style(first, Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED));
    if rows.is_empty() {
        return draw_nothing(state, area, buffer);
    }
    let height = usize::from(area.height - 1).max(1);
    let selected = state.selected_row().unwrap_or(0);
    // Page by page: rows keep their place while the selection moves within a page.
    let page = selected / height * height;
    for ((at, space), place) in rows.iter().enumerate().skip(page).zip(lines) {
        buffer.set_line(place.x, place.y, &row(state, space, &layout), place.width);
        if at == selected {
            buffer.set_style(place, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
}

fn draw_nothing(state: &State, area: Rect, buffer: &mut Buffer) {
    let text = if state.filter.is_empty() {
        "No space is attached: start a program with `memvisor run`."
    } else {
        "No name has the text that is looked for: Esc shows all."
    };
    if area.height > 1 {
        buffer.set_line(area.x, area.y + 1, &Line::from(text), area.width);
    }
}

fn heads(state: &State, layout: &Layout) -> Line<'static> {
    let head = |column: Column| match state.sort == column {
        true => format!("{}{}", column.head(), arrow(state.direction)),
        false => column.head().to_owned(),
    };
    let mut texts: Vec<String> =
        layout.columns.iter().map(|(column, width)| fit(&head(*column), *width, *column)).collect();
    if layout.bar > 0 {
        texts.push(fit("MEMORY", layout.bar, Column::Name));
    }
    if layout.spark > 0 {
        texts.push(fit("FAULTS", layout.spark, Column::Faults));
    }
    Line::from(texts.join(&" ".repeat(GAP.into())))
}

fn row(state: &State, space: &Space, layout: &Layout) -> Line<'static> {
    let gap = || Span::raw(" ".repeat(GAP.into()));
    let mut spans = Vec::new();
    for (column, width) in &layout.columns {
        let text = fit(&column.cell(space), *width, *column);
        spans.extend([Span::styled(text, style(*column, space, state)), gap()]);
    }
    if layout.bar > 0 {
        let parts = tiers(&space.tiers);
        let whole = parts.iter().map(|part| part.amount).fold(0, u64::saturating_add);
        spans.extend(bar(&parts, whole, layout.bar));
        spans.push(gap());
    }
    if layout.spark > 0 {
        spans.push(Span::styled(sparkline(state.faults(space.number), layout.spark), Style::new().fg(Color::Yellow)));
    }
    Line::from(spans)
}

fn style(column: Column, space: &Space, state: &State) -> Style {
    let plain = Style::new();
    if state.gone.is_some() {
        return plain.add_modifier(Modifier::DIM);
    }
    match (column, space_state(space)) {
        (Column::State, "running") => plain.fg(Color::Green),
        (Column::State, "blocked" | "full") => plain.fg(Color::Red).add_modifier(Modifier::BOLD),
        (Column::State, _) => plain.fg(Color::Yellow),
        // It has not given yet what it shall give.
        (Column::Charged, _) if space.charged_bytes > space.target_bytes => plain.fg(Color::Red),
        _ => plain,
    }
}

/// `text` in exactly `width` columns of a terminal; what is cut off ends with an ellipsis.
fn fit(text: &str, width: u16, column: Column) -> String {
    let width = usize::from(width);
    let text = if text.width() > width { cut(text, width) } else { text.to_owned() };
    let blanks = " ".repeat(width.saturating_sub(text.width()));
    if column.is_number() { blanks + &text } else { text + &blanks }
}

fn cut(text: &str, width: usize) -> String {
    let mut taken = 0;
    let mut short: String = text
        .chars()
        .take_while(|letter| {
            taken += letter.width().unwrap_or(0);
            taken < width
        })
        .collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_exactly_its_width() {
        assert_eq!(fit("redis", 8, Column::Name), "redis   ");
        assert_eq!(fit("1 GiB", 8, Column::Target), "   1 GiB");
        assert_eq!(fit("a-very-long-name", 8, Column::Name), "a-very-…");
        assert_eq!(fit("日本日本日本", 8, Column::Name), "日本日… ");
    }
}
