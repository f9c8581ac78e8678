//! One picture as text, for scripts and logs.

use super::head;
use super::state::State;
use super::view;
use crate::client::text::print;
use crate::exit::Outcome;
use memvisor_picture::terminal;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use rustix::termios;
use std::io::stdout;

/// Columns of a text that goes to no terminal: every column has room.
const COLUMNS_DEFAULT: u16 = 160;
/// The most rows: what is behind that is not read by people, and `ps` has all.
const ROWS_MAX: usize = 10_000;

/// Prints it.
///
/// # Errors
/// When nobody takes it.
pub fn print_once(state: &State) -> Outcome {
    print(&text(state, columns()))
}

fn columns() -> u16 {
    let columns = termios::tcgetwinsize(stdout()).map_or(0, |size| size.ws_col);
    if columns == 0 { COLUMNS_DEFAULT } else { columns }
}

fn text(state: &State, columns: u16) -> String {
    // At least one row: it says that there is none.
    let rows = state.rows().len().clamp(1, ROWS_MAX) as u16;
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, head::LINES + 1 + rows));
    view::draw_text(state, buffer.area, &mut buffer);
    terminal::text(&buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::state::tests::state;

    #[test]
    fn the_text_has_a_line_for_each_space_and_nothing_that_only_a_terminal_needs() {
        let text = text(&state(), 160);
        assert_eq!(text.lines().count(), 4 + 3, "{text}");
        assert!(!text.contains('\x1b') && !text.contains("quit"));
        assert!(text.lines().nth(4).unwrap().starts_with("web "), "{text}");
    }
}
