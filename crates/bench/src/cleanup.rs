//! What has to be put back, whatever happens.
//!
//! An [`Undo`] runs its deed when it is dropped. On SIGINT, SIGTERM and SIGHUP all deeds that are still open run, newest first,
//! and the process ends with 128 + signal. Against SIGKILL there is only [`crate::peer::Leftovers`] at the next start.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

type Deed = Box<dyn FnOnce() + Send>;

static OPEN: Mutex<Vec<(u64, Deed)>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Whether the process is on its way out; set once, with the list locked.
static ENDING: AtomicBool = AtomicBool::new(false);

/// A deed that is done once: on drop, or at the end by a signal.
#[must_use = "the deed is done as soon as this is dropped"]
pub struct Undo(u64);

impl Undo {
    /// Keeps `deed` until the value is dropped. Call it before making what the deed undoes.
    ///
    /// Does not return while the process is on its way out, so that nothing new is begun that nobody would undo.
    pub fn new(deed: impl FnOnce() + Send + 'static) -> Self {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut open = open();
        if ENDING.load(Ordering::Relaxed) {
            drop(open);
            loop {
                std::thread::park();
            }
        }
        open.push((id, Box::new(deed)));
        Self(id)
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let deed = {
            let mut open = open();
            open.iter().position(|(id, _)| *id == self.0).map(|at| open.remove(at).1)
        };
        // Outside of the lock: a deed may take a while, and a signal must not wait for it twice.
        if let Some(deed) = deed {
            deed();
        }
    }
}

/// Starts the thread that does all open deeds when the process is told to end.
///
/// # Errors
/// When signal handlers cannot be set.
pub fn on_signals() -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("cleanup".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!("signal {signal}: putting everything back");
            undo_all();
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// Does all open deeds, newest first, and lets no more be added.
fn undo_all() {
    {
        let _open = open();
        ENDING.store(true, Ordering::Relaxed);
    }
    while let Some((_, deed)) = { open().pop() } {
        deed();
    }
}

fn open() -> MutexGuard<'static, Vec<(u64, Deed)>> {
    // A deed that panicked leaves the list itself whole.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_deed_is_done_once_when_its_guard_goes() {
        let done = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&done);
        let undo = Undo::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 0);
        drop(undo);
        assert_eq!(done.load(Ordering::Relaxed), 1);
    }
}
