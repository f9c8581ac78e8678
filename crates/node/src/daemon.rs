//! The daemon: sockets, signals, the loop, and the service manager.
//!
//! ```text
//!   one thread:  attach.sock ── attach::serve ──┐
//!                node.sock   ── api::serve   ───┼──▶ Node, one at a time
//!                period, hand out, signals   ───┘
//! ```
//! When it ends, however it ends, spaces keep what they were told.

use crate::api;
use crate::attach::{self, SharedNode, lock};
use crate::node::{HANDS_PER_PERIOD, Node, StartError};
use crate::state::Lock;
use memvisor_proto::attach::{API_SOCKET, ATTACH_SOCKET};
use sd_notify::NotifyState;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::{error, info, warn};

/// The service manager is told that the loop turns so many times in the time after which it would end the node.
const SIGNS_PER_WATCHDOG: u32 = 3;
/// How often it is told if it does not say after what time that is.
const SIGN_USUAL: Duration = Duration::from_secs(10);

/// How long an answer that was begun may take when the node stops.
const GRACE: Duration = Duration::from_secs(2);

/// Why a node does not run.
#[derive(Debug)]
pub enum RunError {
    /// It cannot start.
    Start(StartError),
    /// Another node has the directory.
    Taken(PathBuf),
    /// Its sockets cannot be made.
    Sockets(PathBuf, io::Error),
    /// The operating system gives no threads or signals.
    System(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => error.fmt(f),
            Self::Taken(path) => write!(f, "another node has {}", path.display()),
            Self::Sockets(path, _) => write!(f, "cannot listen in {}", path.display()),
            Self::System(_) => f.write_str("cannot start the event loop"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start(error) => error.source(),
            Self::Sockets(_, source) | Self::System(source) => Some(source),
            Self::Taken(_) => None,
        }
    }
}

impl From<StartError> for RunError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::State(path, error) if error.kind() == io::ErrorKind::WouldBlock => Self::Taken(path),
            error => Self::Start(error),
        }
    }
}

impl RunError {
    /// What can be done about it, as a sentence without a full stop.
    pub fn way_out(&self) -> String {
        match self {
            Self::Start(StartError::Config(_)) => "mend the file; `memvisor node --help` shows one that works".into(),
            Self::Start(StartError::State(..)) => "name a `state` directory that this user may write to".into(),
            Self::Start(StartError::Machine(_)) => "mount /proc".into(),
            Self::Taken(_) => {
                "stop the other node, or name another `directory` and another `state` in the configuration".into()
            }
            Self::Sockets(..) => "name a `directory` that this user may write to".into(),
            Self::System(_) => "see the limits of descriptors and threads (ulimit -n, ulimit -u)".into(),
        }
    }
}

/// Runs the node of the configuration at `config` until it is told to stop.
///
/// # Errors
/// See [`RunError`].
pub fn run(config: &Path) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::System)?;
    runtime.block_on(async {
        let mut node = Node::start(config)?;
        let doors = Doors::open(&node.config().directory)?;
        node.publish_rules();
        node.step();
        live(doors, Arc::new(Mutex::new(node))).await
    })
}

/// The sockets of a node, and the lock that makes the directory its own.
struct Doors {
    attach: UnixListener,
    api: UnixListener,
    directory: PathBuf,
    _lock: Lock,
}

impl Doors {
    fn open(directory: &Path) -> Result<Self, RunError> {
        let error = |error| RunError::Sockets(directory.to_owned(), error);
        fs::create_dir_all(directory).map_err(error)?;
        let lock = Lock::take(directory).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => RunError::Taken(directory.to_owned()),
            _ => RunError::Sockets(directory.to_owned(), error),
        })?;
        let door = |name: &str| listen(&directory.join(name)).map_err(error);
        Ok(Self { attach: door(ATTACH_SOCKET)?, api: door(API_SOCKET)?, directory: directory.to_owned(), _lock: lock })
    }
}

/// Listens at `path`. A socket that is there was left by a node that is dead: the lock says so.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // Anybody may ask; the kernel says who does.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// What a node is told from outside.
struct Signals {
    end: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn listen() -> Result<Self, RunError> {
        let of = |kind| signal(kind).map_err(RunError::System);
        Ok(Self {
            end: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            reload: of(SignalKind::hangup())?,
        })
    }
}

/// What happens next.
enum Event {
    Period,
    HandOut,
    Sign,
    Reload,
    Stop,
}

async fn live(doors: Doors, node: SharedNode) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let period = lock(&node).config().period;
    let Doors { attach: attach_door, api: api_door, directory, _lock } = doors;
    let (stop, stopped) = watch::channel(false);
    let attaching = tokio::spawn(attach::serve(attach_door, node.clone()));
    let mut answering = tokio::spawn(api::serve(api_door, node.clone(), stopped));
    info!(directory = %directory.display(), dram_bytes = lock(&node).dram_bytes(), period_ms = period.as_millis() as u64, "ready");
    tell_manager(&[NotifyState::Ready]);

    let ticks = |every: Duration| {
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let (mut periods, mut hands) = (ticks(period), ticks(period / HANDS_PER_PERIOD));
    // Of this loop like all else: when that stands still, nothing is said.
    let mut signs = ticks(between_signs());
    loop {
        let event = tokio::select! {
            biased;
            _ = signals.end.recv() => Event::Stop,
            _ = signals.interrupt.recv() => Event::Stop,
            _ = signals.reload.recv() => Event::Reload,
            _ = periods.tick() => Event::Period,
            _ = signs.tick() => Event::Sign,
            _ = hands.tick() => Event::HandOut,
        };
        match event {
            Event::Period => lock(&node).period(),
            Event::Sign => {
                // Who has the node for good has stopped it.
                drop(lock(&node));
                tell_manager(&[NotifyState::Watchdog]);
            }
            Event::HandOut => lock(&node).hand_out(),
            Event::Reload => reload(&node),
            Event::Stop => break,
        }
    }
    info!("stopping: spaces keep their targets");
    tell_manager(&[NotifyState::Stopping]);
    // First of all: no space is to be missed by the state that is saved because its connection was closed by us.
    lock(&node).stop();
    attaching.abort();
    let _ = stop.send(true);
    if timeout(GRACE, &mut answering).await.is_err() {
        answering.abort();
    }
    close(&directory);
    Ok(())
}

/// Time between two signs of life to the service manager, which says by itself how long it waits for one.
fn between_signs() -> Duration {
    let mut asked_us = 0;
    match sd_notify::watchdog_enabled(false, &mut asked_us) {
        true => (Duration::from_micros(asked_us) / SIGNS_PER_WATCHDOG).max(Duration::from_millis(1)),
        false => SIGN_USUAL,
    }
}

fn reload(node: &SharedNode) {
    let now = NotifyState::monotonic_usec_now();
    match now {
        Ok(now) => tell_manager(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "the clock cannot be read"),
    }
    let outcome = lock(node).reload();
    match outcome {
        Ok(_) => lock(node).publish_rules(),
        Err(error) => error!(%error, "the configuration cannot be used: the old one stays in force"),
    }
    tell_manager(&[NotifyState::Ready]);
}

/// Takes the sockets away; who connects is told at once that nobody is there.
fn close(directory: &Path) {
    for name in [ATTACH_SOCKET, API_SOCKET] {
        let _ = fs::remove_file(directory.join(name));
    }
}

/// Says how it is to the service manager, if there is one.
fn tell_manager(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        warn!(%error, "the service manager cannot be told");
    }
}
