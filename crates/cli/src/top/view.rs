//! The picture of a state: head, table, foot, and what lies over them.

use super::state::{Mode, State};
use super::{head, popup, rows};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;

/// Draws a whole screen.
pub fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let lines = [Constraint::Length(head::LINES), Constraint::Min(2), Constraint::Length(1)];
    let [above, table, below] = Layout::vertical(lines).areas(area);
    draw_head(state, above, buffer);
    rows::draw(state, table, buffer);
    for place in below.rows() {
        buffer.set_line(place.x, place.y, &foot(state), place.width);
    }
    popup::draw(state, area, buffer);
}

/// Draws head and table: what a text for scripts has.
pub fn draw_text(state: &State, area: Rect, buffer: &mut Buffer) {
    let [above, table] = Layout::vertical([Constraint::Length(head::LINES), Constraint::Min(1)]).areas(area);
    draw_head(state, above, buffer);
    rows::draw(state, table, buffer);
}

fn draw_head(state: &State, area: Rect, buffer: &mut Buffer) {
    for (line, place) in head::lines(state).iter().zip(area.rows()) {
        if let Some(background) = line.style.bg.or(line.style.fg).filter(|_| state.gone.is_some()) {
            buffer.set_style(place, Style::new().fg(background));
        }
        buffer.set_line(place.x, place.y, line, place.width);
    }
}

fn foot(state: &State) -> Line<'static> {
    match &state.mode {
        Mode::Filter => Line::from(format!("/{}▏  Enter keeps, Esc clears", state.filter)),
        Mode::Table | Mode::Help | Mode::Explain(..) => {
            Line::from("q quit  / filter  < > column  r reverse  e explain  h help").dim()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::state::tests::{look, press, space, state};
    use crate::top::state::{Event, Key, Look};
    use memvisor_node::wire::{self, Explanation, Reason};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    /// The screen as text, as a terminal of this size would show it.
    fn screen(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(state, frame.area(), frame.buffer_mut())).unwrap();
        memvisor_picture::terminal::text(terminal.backend().buffer())
    }

    #[track_caller]
    fn shows(state: &State, (width, height): (u16, u16), expected: &str) {
        let seen = screen(state, width, height);
        assert_eq!(seen.trim_end(), expected.trim_matches('\n'), "\n{seen}");
    }

    #[track_caller]
    fn says(seen: &str, texts: &[&str]) {
        for text in texts {
            assert!(seen.contains(text), "`{text}` is not in\n{seen}");
        }
    }

    #[test]
    fn no_size_of_a_terminal_is_too_small_to_draw_on() {
        let mut state = state();
        for keys in ["", "h", "h/"] {
            press(&mut state, keys);
            for width in (0..30).chain([80, 300]) {
                for height in (0..12).chain([60]) {
                    screen(&state, width, height);
                }
            }
        }
    }

    #[test]
    fn a_filter_is_seen_while_it_is_typed_and_what_it_leaves() {
        let mut state = state();
        press(&mut state, "/re");
        let seen = screen(&state, 80, 10);
        says(&seen, &["1 of 3 spaces with `re`", "/re▏", "redis"]);
        assert!(!seen.contains("web"), "{seen}");
        press(&mut state, "zz");
        says(&screen(&state, 80, 10), &["No name has the text"]);
    }

    #[test]
    fn the_head_of_the_column_that_rows_are_sorted_by_has_an_arrow() {
        let mut state = state();
        says(&screen(&state, 80, 10), &["CHARGED▼", "sorted by charged ▼"]);
        press(&mut state, ">>>r");
        says(&screen(&state, 80, 10), &["FAULTS/s▲"]);
        press(&mut state, "<<<<<<<");
        says(&screen(&state, 80, 10), &["SHARES▲"]);
    }

    #[test]
    fn the_selected_row_is_reversed_and_no_other() {
        let mut state = state();
        press(&mut state, "j");
        let mut terminal = Terminal::new(TestBackend::new(80, 10)).unwrap();
        terminal.draw(|frame| draw(&state, frame.area(), frame.buffer_mut())).unwrap();
        let buffer = terminal.backend().buffer();
        let is_reversed = |y| buffer[(0, y)].modifier.contains(ratatui::style::Modifier::REVERSED);
        assert_eq!([4, 5, 6].map(is_reversed), [false, true, false]);
    }

    #[test]
    fn more_spaces_than_lines_are_shown_page_by_page() {
        let mut state = state();
        let spaces = (0..100).map(|n| space(n, &format!("space-{n:02}"), 1 << 30, 0.0)).collect();
        state.look(Look { spaces, ..look() });
        // Three lines of head, one of heads, one of foot: ten rows.
        let seen = screen(&state, 80, 15);
        assert!(seen.contains("space-09") && !seen.contains("space-10"), "{seen}");
        state.update(Event::Pressed(Key::End));
        let seen = screen(&state, 80, 15);
        assert!(seen.contains("space-90") && seen.contains("space-99") && !seen.contains("space-89"), "{seen}");
    }

    #[test]
    fn a_node_that_is_gone_is_said_above_what_it_said_last() {
        let mut state = state();
        state.update(Event::Looked(Err("there is no node at /run/memvisor/node.sock".into())));
        says(
            &screen(&state, 100, 10),
            &["NODE GONE: there is no node at /run/memvisor/node.sock (asked 1 time", "redis"],
        );
        state.update(Event::Looked(Ok(Box::new(look()))));
        assert!(!screen(&state, 100, 10).contains("GONE"));
    }

    #[test]
    fn help_names_every_key() {
        let mut state = state();
        press(&mut state, "h");
        says(
            &screen(&state, 100, 30),
            &["keys", "q, Ctrl-C", "/   ", "turn the order", "explain the selected", "░ in a file"],
        );
    }

    #[test]
    fn an_explanation_is_shown_over_the_table_sentence_by_sentence() {
        let mut state = state();
        state.update(Event::Pressed(Key::Enter));
        says(&screen(&state, 100, 20), &["why web has what it has", "asking the node"]);
        let explanation = Explanation {
            name: "web".into(),
            sentences: vec!["web has 4 GiB.".into(), "The idle memory tax of 0.75 took 1 GiB.".into()],
            state: wire::State::Soft,
            host_price: None,
            capacity_bytes: 16 << 30,
            reason: Reason {
                target_bytes: 4 << 30,
                budget_bytes: 4 << 30,
                goal_bytes: 4 << 30,
                untaxed_bytes: 5 << 30,
                tax_bytes: 1 << 30,
                bound: wire::Bound::Price,
                step: wire::Step::Whole,
                promise: None,
                price: None,
                active_fraction: 0.5,
                action: wire::Action::Leave,
            },
            others: Vec::new(),
        };
        state.update(Event::Explained("web".into(), Ok(Box::new(explanation))));
        says(&screen(&state, 100, 20), &["web has 4 GiB.", "The idle memory tax of 0.75 took 1 GiB."]);
        state.update(Event::Explained("web".into(), Err("there is no space called `web`".into())));
        says(&screen(&state, 100, 20), &["there is no space called `web`"]);
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        let mut state = state();
        state.look(Look { spaces: vec![space(1, "\x1b[2Jx\ty", 1, 1.0)], ..look() });
        assert!(screen(&state, 80, 10).contains("\u{fffd}[2Jx\u{fffd}y"));
    }

    #[test]
    fn a_narrow_terminal_shows_what_matters_most() {
        shows(&state(), (48, 8), NARROW);
    }

    #[test]
    fn a_common_terminal_shows_bars() {
        shows(&state(), (80, 8), COMMON);
    }

    #[test]
    fn a_wide_terminal_shows_every_column() {
        let mut state = state();
        for faults in [100.0, 2000.0, 4000.0] {
            let mut later = look();
            later.spaces[1].rates.faults_per_s = faults;
            state.look(later);
        }
        shows(&state, (170, 8), WIDE);
    }

    const NARROW: &str = "
state soft · overcommitted ×1.32 · tax 0.75 · pr
DRAM █████████▒▒▒▒▒▒▒▒▒······ 6 GiB charged · 12
sorted by charged ▼
NAME            TARGET  CHARGED▼ MEMORY
web           4.02 GiB     4 GiB █████▓▓▒▒▒░░░░░
batch-job     2.02 GiB     2 GiB █████▓▓▒▒▒░░░░░
redis         1.02 GiB     1 GiB █████▓▓▒▒▒░░░░░
q quit  / filter  < > column  r reverse  e expla
";
    const COMMON: &str = "
state soft · overcommitted ×1.32 · tax 0.75 · pressure 0.0 % some, 0.0 % full ·
DRAM █████████▒▒▒▒▒▒▒▒▒······ 6 GiB charged · 12 GiB of 16 GiB handed out · 4 Gi
sorted by charged ▼
NAME            TARGET  CHARGED▼    WANTED  FAULTS/s STATE    MEMORY
web           4.02 GiB     4 GiB     8 GiB        10 running  ███████▓▒▒▒░░░░░░░
batch-job     2.02 GiB     2 GiB     4 GiB         0 running  ███████▓▒▒▒░░░░░░░
redis         1.02 GiB     1 GiB     2 GiB      2500 running  ███████▓▒▒▒░░░░░░░
q quit  / filter  < > column  r reverse  e explain  h help
";
    const WIDE: &str = "
state soft · overcommitted ×1.32 · tax 0.75 · pressure 0.0 % some, 0.0 % full · 3 spaces · memvisor 0.1.0
DRAM █████████▒▒▒▒▒▒▒▒▒······ 6 GiB charged · 12 GiB of 16 GiB handed out · 4 GiB free
sorted by charged ▼
NAME         CLASS     SHARES  RESERVED     LIMIT    TARGET  CHARGED▼    WANTED    ACTIVE  FAULTS/s STATE    MEMORY                                                 FAULTS
web          standard    1000   256 MiB         -  4.02 GiB     4 GiB     8 GiB     2 GiB        10 running  ███████████████▓▓▓▒▒▒▒▒▒▒░░░░░░░░░░░░░░░                 ████
batch-job    standard    1000   256 MiB         -  2.02 GiB     2 GiB     4 GiB     1 GiB         0 running  ███████████████▓▓▓▒▒▒▒▒▒▒░░░░░░░░░░░░░░░
redis        standard    1000   256 MiB         -  1.02 GiB     1 GiB     2 GiB   512 MiB      4000 running  ███████████████▓▓▓▒▒▒▒▒▒▒░░░░░░░░░░░░░░░                 ▅▁▄█
q quit  / filter  < > column  r reverse  e explain  h help
";
}
