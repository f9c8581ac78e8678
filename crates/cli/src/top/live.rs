//! The loop: an event, what it makes of the state, a picture. It sleeps when nothing happens.

use super::screen::{self, Screen};
use super::state::{Event, State, Wish};
use super::{asker, view};
use crate::client::Node;
use crate::client::args::TopArgs;
use crate::exit::{Exit, Failure, Outcome};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use std::error::Error;
use std::sync::mpsc::{self, SyncSender};
use std::{fmt, io, thread};

/// Events that wait: more than anybody types while one picture is drawn. Who sends more waits.
const EVENTS_MAX: usize = 64;

/// The terminal cannot be drawn on.
#[derive(Debug)]
pub struct ScreenError(io::Error);

impl fmt::Display for ScreenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot draw on this terminal")
    }
}

impl Error for ScreenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl Failure for ScreenError {
    fn way_out(&self) -> Option<String> {
        Some("`memvisor top --once` prints one picture as text".into())
    }
}

/// Shows `state`, and what becomes of it, until it is told to end.
///
/// # Errors
/// When the terminal cannot be drawn on.
pub fn run(args: &TopArgs, node: Node, mut state: State) -> Outcome {
    let (events, inbox) = mpsc::sync_channel(EVENTS_MAX);
    end_on_signals(events.clone()).map_err(ScreenError)?;
    let mut screen = Screen::enter().map_err(ScreenError)?;
    screen::listen(events.clone());
    let questions = asker::start(node, args.interval, events);
    loop {
        screen.draw(|frame| view::draw(&state, frame.area(), frame.buffer_mut())).map_err(ScreenError)?;
        assert!(!args.inject_panic, "a panic was asked for");
        // Senders live as long as the process: there is always a next event.
        let Ok(first) = inbox.recv() else { return Ok(Exit::Success) };
        for event in std::iter::once(first).chain(inbox.try_iter().take(EVENTS_MAX)) {
            match state.update(event) {
                None => {}
                Some(Wish::Quit) => return Ok(Exit::Success),
                Some(Wish::End(signal)) => return Ok(Exit::Signal(signal)),
                Some(Wish::Suspend) => screen.suspend().map_err(ScreenError)?,
                // A thread that is gone has panicked, which ends the process.
                Some(Wish::Explain(name)) => drop(questions.send(name)),
            }
        }
    }
}

fn end_on_signals(events: SyncSender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if events.send(Event::Ended(signal as u8)).is_err() {
                return;
            }
        }
    });
    Ok(())
}
