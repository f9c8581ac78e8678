//! The API: HTTP and JSON on a Unix socket. [`crate::wire`] says what is spoken; here is who is let in, and what each
//! question calls.
//!
//! Routes and their description come from one place, the attribute of each function, so neither can lack the other.

mod admin;
mod host;
mod problem;
mod space;

use crate::attach::{SharedNode, lock, peer_of};
use crate::spaces::Peer;
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRef, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use problem::Refused;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::watch;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The longest body: a drain of every space of a full host by name.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Who asks; `None` when the kernel does not say, and then nothing may be changed.
#[derive(Clone, Copy, Debug)]
pub struct Caller(pub Option<Peer>);

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(peer_of(stream.io()))
    }
}

/// Who asks, as an argument of a handler.
type By = ConnectInfo<Caller>;

impl Caller {
    /// Whether it may do what concerns all.
    fn administers(self, node_uid: u32) -> bool {
        self.0.is_some_and(|peer| peer.uid == 0 || peer.uid == node_uid)
    }

    /// Whether it may change what is `owner`'s.
    fn may_change(self, owner: u32, node_uid: u32) -> bool {
        self.administers(node_uid) || self.0.is_some_and(|peer| peer.uid == owner)
    }
}

/// What handlers share.
#[derive(Clone)]
struct Shared {
    node: SharedNode,
    document: Arc<String>,
}

impl FromRef<Shared> for SharedNode {
    fn from_ref(shared: &Shared) -> Self {
        shared.node.clone()
    }
}

#[derive(OpenApi)]
#[openapi(info(
    title = "memvisor node",
    description = "Divides a host's DRAM among the spaces on it. Spoken over a Unix socket; the kernel says who asks."
))]
struct Description;

fn routes() -> (Router<Shared>, Document) {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(host::health))
        .routes(routes!(host::metrics))
        .routes(routes!(host::host))
        .routes(routes!(host::document))
        .routes(routes!(space::spaces))
        .routes(routes!(space::space, space::change))
        .routes(routes!(space::explain))
        .routes(routes!(space::history))
        .routes(routes!(space::curve))
        .routes(routes!(admin::drain))
        .routes(routes!(admin::stop_draining))
        .routes(routes!(admin::reload))
        .split_for_parts()
}

/// The description of the API.
pub fn document() -> Document {
    routes().1
}

/// All routes, for the node.
fn router(node: SharedNode) -> Router {
    let (router, document) = routes();
    let document = document.to_json().unwrap_or_default();
    router
        .route("/", get(contents))
        .fallback(nowhere)
        .method_not_allowed_fallback(not_so)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Shared { node, document: Arc::new(document) })
}

/// Answers until `stop` says so; then what was begun is finished.
///
/// # Errors
/// When the socket can no longer be listened to.
pub async fn serve(listener: UnixListener, node: SharedNode, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let service = router(node).into_make_service_with_connect_info::<Caller>();
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, service).with_graceful_shutdown(stopped).await
}

/// What there is, for who looks around.
async fn contents(State(shared): State<Shared>) -> Response {
    let version = lock(&shared.node).show_host().version;
    axum::Json(serde_json::json!({ "memvisor": version, "openapi": "/v1/openapi.json" })).into_response()
}

async fn nowhere(uri: axum::http::Uri) -> Refused {
    Refused::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()), "see GET /v1/openapi.json")
}

async fn not_so(method: axum::http::Method, uri: axum::http::Uri) -> Refused {
    let error = format!("{method} is not understood at {}", uri.path());
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, error, "see GET /v1/openapi.json")
}
