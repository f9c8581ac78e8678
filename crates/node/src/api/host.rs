//! The host: how it is, and what the API is.

use super::Shared;
use crate::attach::{SharedNode, lock};
use crate::metrics;
use crate::wire::{Health, Host};
use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

/// Periods without a plan after which a node is no longer well.
const STALE_PERIODS: u64 = 10;

/// Whether the node is well
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = Health)))]
pub async fn health(State(node): State<SharedNode>) -> Json<Health> {
    let node = lock(&node);
    let (ago_ms, period_ms) = (node.planned_ms_ago(), node.config().period.as_millis() as u64);
    let status = if ago_ms <= STALE_PERIODS * period_ms { "ok" } else { "stale" };
    Json(Health { status: status.to_owned(), planned_ms_ago: ago_ms, spaces: node.show_host().spaces })
}

/// Metrics in the text format of Prometheus
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn metrics(State(node): State<SharedNode>) -> impl IntoResponse {
    let (host, spaces) = {
        let node = lock(&node);
        (node.show_host(), node.show_spaces())
    };
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::text(&host, &spaces.spaces))
}

/// The host and its division
#[utoipa::path(get, path = "/v1/host", responses((status = 200, body = Host)))]
pub async fn host(State(node): State<SharedNode>) -> Json<Host> {
    Json(lock(&node).show_host())
}

/// This description
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, body = serde_json::Value)))]
pub async fn document(State(shared): State<Shared>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], shared.document.as_str().to_owned())
}
