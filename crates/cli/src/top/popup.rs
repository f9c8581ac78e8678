//! What lies over the table: the keys, or why a space has the DRAM that it has.

use super::state::{Mode, State};
use crate::client::explain;
use crate::client::text::clean;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::{Block, Clear, Paragraph, Widget, Wrap};
use unicode_width::UnicodeWidthStr;

const HELP: &str = "\
q, Ctrl-C          quit
arrows, j, k       select a space
PgUp, PgDn         go over ten rows; Home, End to the first and the last
left, right, <, >  choose the column to sort by
r                  turn the order around
/                  show only names with a text; Enter keeps it, Esc shows all
e, Enter           explain the selected space
h, ?               this; Esc closes it

MEMORY    █ in DRAM  ▓ staged  ▒ compressed in DRAM  ░ in a file
FAULTS    the last looks at FAULTS/s, as high as the highest
CHARGED   DRAM that is taken; red when it is above the TARGET
WANTED    what would be taken if DRAM were free; ACTIVE is in use
STATE     giving: its guest is asked for memory; paging; blocked until
          it is within its target; full: its stores take no more";

/// Draws it, if there is something, into the middle of `area`.
pub fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let (title, text) = match &state.mode {
        Mode::Table | Mode::Filter => return,
        Mode::Help => ("keys".to_owned(), HELP.to_owned()),
        Mode::Explain(name, said) => {
            let text = match said {
                None => "asking the node …".to_owned(),
                Some(Ok(explanation)) => explain::lines(explanation).join("\n"),
                Some(Err(why)) => why.clone(),
            };
            (format!("why {} has what it has", clean(name)), text)
        }
    };
    let lines = Paragraph::new(text).wrap(Wrap { trim: false }).block(Block::bordered().title(format!(" {title} ")));
    let place = middle(area, &lines, title.width() + 2);
    Clear.render(place, buffer);
    lines.render(place, buffer);
}

/// The least that holds the text, in the middle; as much as there is when it does not fit.
fn middle(area: Rect, lines: &Paragraph<'_>, title: usize) -> Rect {
    /// Wider lines are tiring to read.
    const WIDTH_MAX: u16 = 100;
    /// The frame's.
    const FRAME: u16 = 2;
    let width = lines.line_width().max(title).min(WIDTH_MAX.into()) as u16;
    let width = (width + FRAME).min(area.width);
    let height = lines.line_count(width.saturating_sub(FRAME)).min(u16::MAX.into()) as u16;
    let height = height.min(area.height);
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}
