//! What `top` shows, and what each event makes of it. No clock, no terminal, no node.

use super::columns::Column;
use memvisor_node::wire::{Explanation, Host, Space};
use std::collections::{BTreeMap, VecDeque};

/// Samples of faults that are kept for each space: as wide as a sparkline can be.
pub const HISTORY: usize = 60;
/// Letters of a filter: a name is not longer on any screen.
const FILTER_LETTERS_MAX: usize = 64;
/// Rows that a key for pages goes over.
const PAGE_ROWS: isize = 10;

/// What the node said at one moment.
#[derive(Clone, Debug)]
pub struct Look {
    /// Of the host.
    pub host: Host,
    /// Of its spaces.
    pub spaces: Vec<Space>,
}

/// A key, by what is written on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// A letter.
    Letter(char),
    /// The arrows.
    Up,
    /// See above.
    Down,
    /// See above.
    Left,
    /// See above.
    Right,
    /// Many rows up.
    PageUp,
    /// Many rows down.
    PageDown,
    /// To the first row.
    Home,
    /// To the last row.
    End,
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
}

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// A key was pressed.
    Pressed(Key),
    /// The terminal has another size.
    Resized,
    /// The node was asked how all are.
    Looked(Result<Box<Look>, String>),
    /// The node was asked why a space has what it has.
    Explained(String, Result<Box<Explanation>, String>),
    /// A signal to end came.
    Ended(u8),
}

/// What the state wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// To end, because a person wants it.
    Quit,
    /// To end, because of this signal.
    End(u8),
    /// To stop until the shell says to go on.
    Suspend,
    /// To ask why the space of this name has what it has.
    Explain(String),
}

/// Which way rows are ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// As the column says.
    Down,
    /// The other way around.
    Up,
}

/// What lies over the table.
#[derive(Clone, PartialEq, Debug)]
pub enum Mode {
    /// Nothing.
    Table,
    /// A filter is being typed.
    Filter,
    /// The keys.
    Help,
    /// Why this space has what it has; nothing until the node answered.
    Explain(String, Option<Result<Box<Explanation>, String>>),
}

/// A node that does not answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gone {
    /// Why, in a line.
    pub why: String,
    /// How often it was asked since.
    pub tries: u64,
}

/// All that is shown.
pub struct State {
    /// The host, as the node said last.
    pub host: Host,
    /// The node, when it does not answer.
    pub gone: Option<Gone>,
    /// The column to sort by.
    pub sort: Column,
    /// Which way.
    pub direction: Direction,
    /// Only names with this are shown.
    pub filter: String,
    /// What lies over the table.
    pub mode: Mode,
    spaces: Vec<Space>,
    selected: Option<u64>,
    faults: BTreeMap<u64, VecDeque<f64>>,
}

impl State {
    /// Before anything was seen.
    pub fn new(sort: Column, filter: &str) -> Self {
        Self {
            host: Host::default(),
            gone: None,
            sort,
            direction: Direction::Down,
            filter: filter.to_owned(),
            mode: Mode::Table,
            spaces: Vec::new(),
            selected: None,
            faults: BTreeMap::new(),
        }
    }

    /// Takes an event in; what is to be done because of it.
    pub fn update(&mut self, event: Event) -> Option<Wish> {
        match event {
            Event::Pressed(key) => self.press(key),
            Event::Resized => None,
            Event::Looked(Ok(look)) => {
                self.look(*look);
                self.explain_again()
            }
            Event::Looked(Err(why)) => {
                let tries = self.gone.as_ref().map_or(0, |gone| gone.tries) + 1;
                self.gone = Some(Gone { why, tries });
                None
            }
            Event::Explained(name, said) => {
                // A late answer about another space is of no interest.
                if let Mode::Explain(shown, answer) = &mut self.mode
                    && *shown == name
                {
                    *answer = Some(said);
                }
                None
            }
            Event::Ended(signal) => Some(Wish::End(signal)),
        }
    }

    /// Takes in what the node said.
    pub fn look(&mut self, look: Look) {
        self.gone = None;
        self.host = look.host;
        self.spaces = look.spaces;
        let spaces = &self.spaces;
        self.faults.retain(|number, _| spaces.iter().any(|space| space.number == *number));
        for space in spaces {
            let samples = self.faults.entry(space.number).or_default();
            samples.push_back(space.rates.faults_per_s);
            if samples.len() > HISTORY {
                samples.pop_front();
            }
        }
        self.select_shown();
    }

    /// The spaces that are shown, in order.
    pub fn rows(&self) -> Vec<&Space> {
        let filter = self.filter.to_lowercase();
        let mut rows: Vec<&Space> =
            self.spaces.iter().filter(|space| space.name.to_lowercase().contains(&filter)).collect();
        rows.sort_by(|a, b| match self.direction {
            Direction::Down => self.sort.order(a, b),
            Direction::Up => self.sort.order(b, a),
        });
        rows
    }

    /// Spaces, shown or not.
    pub fn spaces(&self) -> usize {
        self.spaces.len()
    }

    /// The row that is selected; `None` when there is no row.
    pub fn selected_row(&self) -> Option<usize> {
        self.rows().iter().position(|space| Some(space.number) == self.selected)
    }

    /// The last samples of a space's faults, the oldest first.
    pub fn faults(&self, number: u64) -> impl DoubleEndedIterator<Item = f64> + '_ {
        self.faults.get(&number).into_iter().flatten().copied()
    }

    fn press(&mut self, key: Key) -> Option<Wish> {
        match (key, &self.mode) {
            (Key::Interrupt, _) => Some(Wish::Quit),
            (Key::Suspend, _) => Some(Wish::Suspend),
            (key, Mode::Filter) => {
                self.press_in_filter(key);
                None
            }
            (Key::Letter('q'), _) => Some(Wish::Quit),
            (Key::Escape | Key::Enter | Key::Letter('e' | 'h' | '?'), Mode::Help | Mode::Explain(..)) => {
                self.mode = Mode::Table;
                None
            }
            (key, Mode::Table | Mode::Help | Mode::Explain(..)) => self.press_in_table(key),
        }
    }

    fn press_in_filter(&mut self, key: Key) {
        match key {
            Key::Letter(letter) if self.filter.chars().count() < FILTER_LETTERS_MAX => self.filter.push(letter),
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Enter => self.mode = Mode::Table,
            Key::Escape => {
                self.filter.clear();
                self.mode = Mode::Table;
            }
            Key::Up => self.step(-1),
            Key::Down => self.step(1),
            Key::Letter(_)
            | Key::Left
            | Key::Right
            | Key::PageUp
            | Key::PageDown
            | Key::Home
            | Key::End
            | Key::Interrupt
            | Key::Suspend => {}
        }
        self.select_shown();
    }

    fn press_in_table(&mut self, key: Key) -> Option<Wish> {
        match key {
            Key::Up | Key::Letter('k') => self.step(-1),
            Key::Down | Key::Letter('j') => self.step(1),
            Key::PageUp => self.step(-PAGE_ROWS),
            Key::PageDown => self.step(PAGE_ROWS),
            Key::Home => self.step(isize::MIN),
            Key::End => self.step(isize::MAX),
            Key::Left | Key::Letter('<') => self.sort = self.sort.previous(),
            Key::Right | Key::Letter('>') => self.sort = self.sort.next(),
            Key::Letter('r') => {
                self.direction = match self.direction {
                    Direction::Down => Direction::Up,
                    Direction::Up => Direction::Down,
                }
            }
            Key::Letter('/') => self.mode = Mode::Filter,
            Key::Letter('h' | '?') => self.mode = Mode::Help,
            Key::Escape => {
                self.filter.clear();
                self.select_shown();
            }
            Key::Enter | Key::Letter('e') => return self.explain(),
            Key::Letter(_) | Key::Backspace | Key::Interrupt | Key::Suspend => {}
        }
        // Another space was chosen while an explanation is open.
        match &self.mode {
            Mode::Explain(name, _) if self.selected_name().is_some_and(|selected| selected != *name) => self.explain(),
            Mode::Explain(..) | Mode::Table | Mode::Filter | Mode::Help => None,
        }
    }

    fn selected_name(&self) -> Option<String> {
        self.spaces.iter().find(|space| Some(space.number) == self.selected).map(|space| space.name.clone())
    }

    fn explain(&mut self) -> Option<Wish> {
        let name = self.selected_name()?;
        self.mode = Mode::Explain(name.clone(), None);
        Some(Wish::Explain(name))
    }

    fn explain_again(&self) -> Option<Wish> {
        match &self.mode {
            Mode::Explain(name, _) => Some(Wish::Explain(name.clone())),
            Mode::Table | Mode::Filter | Mode::Help => None,
        }
    }

    /// Selects the row that is `rows` further down, or the last or first that there is.
    fn step(&mut self, rows: isize) {
        let at = self.selected_row();
        let shown = self.rows();
        let last = shown.len().saturating_sub(1);
        let at = at.map_or(0, |at| at.saturating_add_signed(rows).min(last));
        self.selected = shown.get(at).map(|space| space.number);
    }

    /// Selects the first row when the one that was selected is not shown any more.
    fn select_shown(&mut self) {
        if self.selected_row().is_none() {
            self.selected = self.rows().first().map(|space| space.number);
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use memvisor_node::wire::{Intent, Rates, State as HostState, Tiers, Verdict};

    const GIB: u64 = 1 << 30;

    pub fn space(number: u64, name: &str, charged_bytes: u64, faults_per_s: f64) -> Space {
        Space {
            name: name.into(),
            number,
            intent: Intent { reservation_bytes: GIB / 4, shares: 1000, ..Intent::default() },
            target_bytes: charged_bytes + (16 << 20),
            charged_bytes,
            wanted_bytes: 2 * charged_bytes,
            active_bytes: charged_bytes / 2,
            tiers: Tiers {
                dram_bytes: charged_bytes / 2,
                staged_bytes: charged_bytes / 8,
                ram_bytes: charged_bytes / 4,
                log_bytes: charged_bytes / 2,
                ..Tiers::default()
            },
            rates: Rates { faults_per_s, ..Rates::default() },
            ..Space::default()
        }
    }

    pub fn look() -> Look {
        let host = Host {
            version: "0.1.0".into(),
            dram_bytes: 16 * GIB,
            machine_bytes: 24 * GIB,
            free_bytes: 4 * GIB,
            charged_bytes: 6 * GIB,
            targets_bytes: 12 * GIB,
            state: HostState::Soft,
            verdict: Verdict::Overcommitted,
            ratio: Some(1.32),
            tax: 0.75,
            spaces: 3,
            ..Host::default()
        };
        let spaces =
            vec![space(1, "web", 4 * GIB, 10.0), space(2, "redis", GIB, 2500.0), space(3, "batch-job", 2 * GIB, 0.0)];
        Look { host, spaces }
    }

    pub fn state() -> State {
        let mut state = State::new(Column::Charged, "");
        state.look(look());
        state
    }

    pub fn press(state: &mut State, keys: &str) {
        keys.chars().for_each(|letter| assert_eq!(state.update(Event::Pressed(Key::Letter(letter))), None));
    }

    fn names(state: &State) -> Vec<&str> {
        state.rows().iter().map(|space| space.name.as_str()).collect()
    }

    #[test]
    fn rows_are_sorted_by_any_column_and_turned_around() {
        let mut state = state();
        assert_eq!(names(&state), ["web", "batch-job", "redis"]);
        press(&mut state, "r");
        assert_eq!(names(&state), ["redis", "batch-job", "web"]);
        press(&mut state, "r>>>");
        assert_eq!((state.sort, names(&state)[0]), (Column::Faults, "redis"));
        press(&mut state, "<<<<<<<<<");
        assert_eq!((state.sort, names(&state)), (Column::Name, vec!["batch-job", "redis", "web"]));
    }

    #[test]
    fn the_selection_follows_its_space_through_every_order() {
        let mut state = state();
        press(&mut state, "j");
        assert_eq!(state.selected_name().unwrap(), "batch-job");
        press(&mut state, "r<<<<<<");
        assert_eq!(state.selected_name().unwrap(), "batch-job");
        press(&mut state, "jjjjjjj");
        assert_eq!(state.selected_row(), Some(2));
        state.update(Event::Pressed(Key::Home));
        assert_eq!(state.selected_row(), Some(0));
    }

    #[test]
    fn when_the_selected_space_ends_the_first_row_is_selected() {
        let mut state = state();
        press(&mut state, "jj");
        let mut later = look();
        later.spaces.retain(|space| space.name != "redis");
        state.look(later);
        assert_eq!(state.selected_row(), Some(0));
        state.look(Look { spaces: Vec::new(), ..look() });
        assert_eq!((state.selected_row(), state.explain()), (None, None));
    }

    #[test]
    fn a_filter_is_typed_letter_by_letter_and_escape_clears_it() {
        let mut state = state();
        press(&mut state, "/Eq");
        assert!(names(&state).is_empty(), "q is a letter here");
        state.update(Event::Pressed(Key::Backspace));
        assert_eq!(names(&state), ["web", "redis"]);
        state.update(Event::Pressed(Key::Enter));
        assert_eq!((state.mode.clone(), names(&state).len()), (Mode::Table, 2));
        state.update(Event::Pressed(Key::Escape));
        assert_eq!(names(&state).len(), 3);
    }

    #[test]
    fn an_explanation_is_asked_for_again_at_each_look_and_follows_the_selection() {
        let mut state = state();
        let asked = |name: &str| Some(Wish::Explain(name.into()));
        assert_eq!(state.update(Event::Pressed(Key::Enter)), asked("web"));
        assert_eq!(state.update(Event::Looked(Ok(Box::new(look())))), asked("web"));
        assert_eq!(state.update(Event::Pressed(Key::Down)), asked("batch-job"));
        state.update(Event::Explained("web".into(), Err("late".into())));
        assert_eq!(state.mode, Mode::Explain("batch-job".into(), None), "of another space");
        state.update(Event::Explained("batch-job".into(), Err("no".into())));
        assert_eq!(state.mode, Mode::Explain("batch-job".into(), Some(Err("no".into()))));
        assert_eq!(state.update(Event::Pressed(Key::Escape)), None);
        assert_eq!(state.update(Event::Looked(Ok(Box::new(look())))), None);
    }

    #[test]
    fn a_node_that_is_gone_leaves_what_it_said_last_until_it_is_back() {
        let mut state = state();
        for _ in 0..3 {
            state.update(Event::Looked(Err("there is no node".into())));
        }
        assert_eq!(state.gone, Some(Gone { why: "there is no node".into(), tries: 3 }));
        assert_eq!(names(&state).len(), 3);
        state.update(Event::Looked(Ok(Box::new(look()))));
        assert_eq!(state.gone, None);
    }

    #[test]
    fn the_history_of_faults_is_bounded_and_ends_with_its_space() {
        let mut state = state();
        for _ in 0..2 * HISTORY {
            state.look(look());
        }
        assert_eq!(state.faults(2).count(), HISTORY);
        state.look(Look { spaces: Vec::new(), ..look() });
        assert!(state.faults.is_empty());
    }

    #[test]
    fn q_ctrl_c_and_signals_end_it_wherever_one_is() {
        for before in ["", "h", "?"] {
            let mut state = state();
            press(&mut state, before);
            assert_eq!(state.update(Event::Pressed(Key::Letter('q'))), Some(Wish::Quit));
        }
        let mut state = state();
        press(&mut state, "/");
        assert_eq!(state.update(Event::Pressed(Key::Interrupt)), Some(Wish::Quit));
        assert_eq!(state.update(Event::Ended(15)), Some(Wish::End(15)));
    }
}
