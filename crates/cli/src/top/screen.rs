//! The terminal: taken over, given back as it was on every way out, and its keys as events.

use super::state::{Event, Key};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use signal_hook::consts::SIGHUP;
use std::io::{self, Stdout, stdout};
use std::panic;
use std::sync::mpsc::SyncSender;
use std::thread;

/// Exit code of a panic, as Rust has it.
const PANICKED: i32 = 101;

/// A terminal that is ours until this is dropped.
pub struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// When it cannot be drawn on.
    pub fn enter() -> io::Result<Self> {
        end_on_panic();
        take()?;
        let screen = Terminal::new(CrosstermBackend::new(stdout())).inspect_err(|_| give_back())?;
        Ok(Self(screen))
    }

    /// Draws what differs from the picture before.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&mut self, draw: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(|_| ())
    }

    /// Stops until the shell says to go on, as other programs do at Ctrl-Z.
    ///
    /// # Errors
    /// When the terminal cannot be taken over again.
    pub fn suspend(&mut self) -> io::Result<()> {
        give_back();
        signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP)?;
        take()?;
        self.0.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, Hide).inspect_err(|_| give_back())
}

fn give_back() {
    // A terminal that is gone needs nothing back.
    let _ = execute!(stdout(), Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
}

/// Whichever thread panics: the terminal is given back before the message is printed, and the process ends.
fn end_on_panic() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        give_back();
        print(panic);
        std::process::exit(PANICKED);
    }));
}

/// Sends keys and new sizes to `events` from now on.
pub fn listen(events: SyncSender<Event>) {
    thread::spawn(move || {
        loop {
            let event = match event::read() {
                Ok(event) => translate(&event),
                // A terminal that cannot be read from has hung up.
                Err(_) => Some(Event::Ended(SIGHUP as u8)),
            };
            let is_end = matches!(event, Some(Event::Ended(_)));
            if event.is_some_and(|event| events.send(event).is_err()) || is_end {
                return;
            }
        }
    });
}

fn translate(event: &event::Event) -> Option<Event> {
    match event {
        event::Event::Key(key) if key.kind != KeyEventKind::Release => translate_key(key).map(Event::Pressed),
        event::Event::Resize(..) => Some(Event::Resized),
        event::Event::Key(_)
        | event::Event::FocusGained
        | event::Event::FocusLost
        | event::Event::Mouse(_)
        | event::Event::Paste(_) => None,
    }
}

fn translate_key(key: &KeyEvent) -> Option<Key> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Key::Interrupt),
            KeyCode::Char('z') => Some(Key::Suspend),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char(letter) => Key::Letter(letter),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}
