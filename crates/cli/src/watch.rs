//! The thread that looks at a space while its program runs, and draws the status line.

use crate::counters::Ledger;
use crate::sample::{self, Peaks, Sample, Sampler};
use crate::space::Space;
use crate::status::{self, StatusLine};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// The ledger that keeper and watch share.
pub type SharedLedger = Arc<Mutex<Ledger>>;

/// The ledger, also after a thread died over it: its sums are whole, as each is written at once.
pub fn locked(ledger: &SharedLedger) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running watch.
pub struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<(Sample, Peaks)>,
}

impl Watch {
    /// Looks at `space` from now on.
    pub fn start(space: Arc<Space>, ledger: SharedLedger, line: Option<StatusLine>) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut sampler = Sampler::new(&space);
            let mut line = line;
            let mut next_drawing = Instant::now() + status::INTERVAL;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(sample::INTERVAL) {
                let sample = sampler.look(&locked(&ledger));
                if let Some(line) = line.as_mut().filter(|_| Instant::now() >= next_drawing) {
                    line.draw(space.header().target_bytes().load(Ordering::Relaxed), &sample);
                    next_drawing = Instant::now() + status::INTERVAL;
                }
            }
            if let Some(line) = &mut line {
                line.erase();
            }
            let last = sampler.look(&locked(&ledger));
            (last, sampler.peaks().clone())
        });
        Self { stop, thread }
    }

    /// Looks a last time.
    pub fn finish(self) -> (Sample, Peaks) {
        // A thread that is gone has nothing to be told.
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_default()
    }
}
