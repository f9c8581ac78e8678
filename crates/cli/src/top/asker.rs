//! The thread that asks the node, so that keys are answered while the node is not.

use super::state::{Event, Look};
use crate::client::{Node, Trouble};
use memvisor_node::wire::Spaces;
use std::sync::mpsc::{self, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// Asks how all are.
///
/// # Errors
/// When there is no answer.
pub fn look(node: &Node) -> Result<Look, Trouble> {
    let host = node.host()?;
    let Spaces { spaces } = node.spaces()?;
    Ok(Look { host, spaces })
}

/// Asks `node` from now on: how all are once each `interval`, and to explain whatever name is sent to the answer of this
/// function. The thread ends when that or `events` is gone.
pub fn start(node: Node, interval: Duration, events: SyncSender<Event>) -> Sender<String> {
    let (questions, asked) = mpsc::channel::<String>();
    thread::spawn(move || {
        let mut next = Instant::now() + interval;
        loop {
            let event = match asked.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(name) => {
                    // Of questions that came while one was answered, only the last is still of interest.
                    let name = asked.try_iter().last().unwrap_or(name);
                    let said = node.explanation(&name).map(Box::new).map_err(|trouble| trouble.line());
                    Event::Explained(name, said)
                }
                Err(RecvTimeoutError::Timeout) => {
                    let looked = look(&node).map(Box::new).map_err(|trouble| trouble.line());
                    next = Instant::now() + interval;
                    Event::Looked(looked)
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if events.send(event).is_err() {
                return;
            }
        }
    });
    questions
}
