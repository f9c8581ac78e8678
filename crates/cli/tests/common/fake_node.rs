//! A node that says what a test wants it to say, on a socket of its own, in wire types.
#![allow(dead_code, reason = "each test file uses a part of this")]

use super::Directory;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use memvisor_node::wire;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

const GIB: u64 = 1 << 30;

/// What the node says and was told.
#[derive(Default)]
pub struct Script {
    pub host: wire::Host,
    pub spaces: Vec<wire::Space>,
    /// Answers to questions of this method and path, before all else.
    pub answers: BTreeMap<String, (u16, String)>,
    /// All questions, as `METHOD /path body`.
    pub asked: Vec<String>,
    /// Each look at a draining space brings it nearer: bytes that come back at a look.
    pub drain_step_bytes: u64,
}

/// A node. It is gone when this is dropped.
pub struct FakeNode {
    pub directory: Directory,
    script: Arc<Mutex<Script>>,
    serving: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl FakeNode {
    /// A node with the spaces `web`, `redis` and `batch-job`.
    pub fn new(name: &str) -> Self {
        let directory = Directory::new(name);
        let script = Script {
            host: host(),
            spaces: vec![space(1, "web", 4 * GIB), space(2, "redis", GIB), space(3, "batch-job", 2 * GIB)],
            drain_step_bytes: GIB,
            ..Script::default()
        };
        let mut node = Self { directory, script: Arc::new(Mutex::new(script)), serving: None };
        node.start();
        node
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.file("node.sock")
    }

    /// Serves again after [`FakeNode::stop`].
    pub fn start(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        let listener = std::os::unix::net::UnixListener::bind(self.socket()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&self.script));
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = UnixListener::from_std(listener).unwrap();
                tokio::select! {
                    served = async { axum::serve(listener, app).await } => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        self.serving = Some((stop, thread));
    }

    /// Goes away, and takes its socket with it.
    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.serving.take() {
            let _ = stop.send(());
            thread.join().unwrap();
            let _ = std::fs::remove_file(self.socket());
        }
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Answers `question` (`GET /v1/…`) with this.
    pub fn answers(&self, question: &str, status: u16, body: &impl Serialize) {
        self.script().answers.insert(question.into(), (status, serde_json::to_string(body).unwrap()));
    }

    /// A command that asks this node.
    pub fn memvisor(&self, words: &[&str]) -> std::process::Command {
        let mut command = super::memvisor(words);
        command.env("MEMVISOR_NODE", &self.directory.0);
        command
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut script = script.lock().unwrap();
    let question = format!("{method} {}", uri.path());
    script.asked.push(format!("{question} {}", String::from_utf8_lossy(&body)).trim_end().to_owned());
    if let Some((status, text)) = script.answers.get(&question) {
        return (StatusCode::from_u16(*status).unwrap(), text.clone()).into_response();
    }
    let words: Vec<&str> = uri.path().split('/').skip(1).collect();
    match (method.as_str(), words.as_slice()) {
        ("GET", ["v1", "host"]) => Json(&script.host).into_response(),
        ("GET", ["v1", "spaces"]) => {
            let spaces = wire::Spaces { spaces: script.spaces.clone() };
            script.drain_on();
            Json(spaces).into_response()
        }
        ("GET", ["v1", "spaces", name]) => match script.spaces.iter().find(|space| space.name == *name) {
            Some(space) => Json(space).into_response(),
            None => problem(404, "there is no such space"),
        },
        ("PATCH", ["v1", "spaces", name]) => script.change(name, &serde_json::from_slice(&body).unwrap()),
        ("POST", ["v1", "drain"]) => script.drain(serde_json::from_slice(&body).unwrap()),
        ("POST", ["v1", "drain", "cancel"]) => script.stop_draining(serde_json::from_slice(&body).unwrap()),
        (_, ["v1", "spaces", name, "explain"]) if script.spaces.iter().any(|space| space.name == *name) => {
            Json(explanation(name)).into_response()
        }
        _ => problem(404, "there is nothing of that name"),
    }
}

pub fn problem(status: u16, error: &str) -> Response {
    let problem = wire::Problem { error: error.into(), way_out: "ask for another".into(), ..wire::Problem::default() };
    (StatusCode::from_u16(status).unwrap(), Json(problem)).into_response()
}

impl Script {
    fn change(&mut self, name: &str, change: &wire::Change) -> Response {
        let Some(space) = self.spaces.iter_mut().find(|space| space.name == name) else {
            return problem(404, "there is no such space");
        };
        let bytes = |amount: &wire::Amount| match amount {
            wire::Amount::Bytes(bytes) => Some(*bytes),
            wire::Amount::Text(_) => None,
        };
        if let Some(limit) = &change.limit {
            space.intent.limit_bytes = bytes(limit);
        }
        if let Some(reservation) = change.reservation.as_ref().and_then(bytes) {
            space.intent.reservation_bytes = reservation;
        }
        space.intent.shares = change.shares.unwrap_or(space.intent.shares);
        space.intent.class = change.class.unwrap_or(space.intent.class);
        Json(&*space).into_response()
    }

    fn drain(&mut self, drain: wire::Drain) -> Response {
        let names = drain.names.unwrap_or_else(|| self.spaces.iter().map(|space| space.name.clone()).collect());
        for name in &names {
            let Some(space) = self.spaces.iter_mut().find(|space| space.name == *name) else {
                return problem(404, "there is no such space");
            };
            space.drain = wire::DrainState::Draining;
        }
        Json(wire::Drained { names, needed_bytes: 2 * GIB, free_bytes: 4 * GIB }).into_response()
    }

    fn stop_draining(&mut self, drain: wire::Drain) -> Response {
        let names = drain.names.unwrap_or_else(|| self.spaces.iter().map(|space| space.name.clone()).collect());
        let mut ended = Vec::new();
        for name in names {
            let Some(space) = self.spaces.iter_mut().find(|space| space.name == name) else {
                return problem(404, "there is no such space");
            };
            if std::mem::replace(&mut space.drain, wire::DrainState::No) != wire::DrainState::No {
                ended.push(name);
            }
        }
        Json(wire::Undrained { names: ended }).into_response()
    }

    fn drain_on(&mut self) {
        let step = self.drain_step_bytes;
        for space in self.spaces.iter_mut().filter(|space| space.drain == wire::DrainState::Draining) {
            space.tiers.stored_bytes = space.tiers.stored_bytes.saturating_sub(step);
            if space.tiers.stored_bytes == 0 {
                space.drain = wire::DrainState::Drained;
            }
        }
    }
}

pub fn host() -> wire::Host {
    wire::Host {
        version: "0.1.0".into(),
        dram_bytes: 16 * GIB,
        free_bytes: 4 * GIB,
        charged_bytes: 7 * GIB,
        targets_bytes: 12 * GIB,
        state: wire::State::Soft,
        verdict: wire::Verdict::Overcommitted,
        ratio: Some(1.32),
        tax: 0.75,
        spaces: 3,
        ..wire::Host::default()
    }
}

pub fn space(number: u64, name: &str, charged_bytes: u64) -> wire::Space {
    wire::Space {
        name: name.into(),
        number,
        program_pid: 4000 + number as u32,
        command: vec![format!("/usr/bin/{name}")],
        intent: wire::Intent { shares: 1000, ..wire::Intent::default() },
        target_bytes: charged_bytes,
        charged_bytes,
        wanted_bytes: 2 * charged_bytes,
        active_bytes: charged_bytes / 2,
        tiers: wire::Tiers { dram_bytes: charged_bytes, stored_bytes: charged_bytes, ..wire::Tiers::default() },
        rates: wire::Rates { faults_per_s: 100.0 * number as f64, ..wire::Rates::default() },
        ..wire::Space::default()
    }
}

pub fn explanation(name: &str) -> wire::Explanation {
    let reason = wire::Reason {
        target_bytes: 4 * GIB,
        budget_bytes: 4 * GIB,
        goal_bytes: 4 * GIB,
        untaxed_bytes: 5 * GIB,
        tax_bytes: GIB as i64,
        bound: wire::Bound::Price,
        step: wire::Step::Whole,
        promise: Some(wire::Promise { reserved_bytes: GIB, kept_bytes: GIB }),
        price: Some(0.5),
        active_fraction: 0.5,
        action: wire::Action::Leave,
    };
    wire::Explanation {
        name: name.into(),
        sentences: vec![format!("{name} has 4 GiB."), "The idle memory tax of 0.75 took 1 GiB.".into()],
        state: wire::State::Soft,
        host_price: Some(0.5),
        capacity_bytes: 16 * GIB,
        reason: reason.clone(),
        others: vec![wire::Other { name: "neighbour".into(), reason }],
    }
}
