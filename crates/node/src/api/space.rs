//! Spaces: what they are, why, and what shall be different.

use super::By;
use super::problem::{Body, Refused};
use crate::attach::{SharedNode, lock};
use crate::history::{COARSE_MS, Resolution};
use crate::node::Node;
use crate::spaces::Identity;
use crate::wire::{Change, Curve, Explanation, History, Problem, Space, Spaces};
use axum::Json;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::StatusCode;

fn find(node: &Node, name: &str) -> Result<Identity, Refused> {
    node.named(name).ok_or_else(|| Refused::no_space(name))
}

/// All spaces
#[utoipa::path(get, path = "/v1/spaces", responses((status = 200, body = Spaces)))]
pub async fn spaces(State(node): State<SharedNode>) -> Json<Spaces> {
    Json(lock(&node).show_spaces())
}

/// A space
#[utoipa::path(
    get, path = "/v1/spaces/{name}", params(("name" = String, Path)),
    responses((status = 200, body = Space), (status = 404, body = Problem))
)]
pub async fn space(State(node): State<SharedNode>, Path(name): Path<String>) -> Result<Json<Space>, Refused> {
    let node = lock(&node);
    let id = find(&node, &name)?;
    node.show_space(id).map(Json).ok_or_else(|| Refused::no_space(&name))
}

/// Change what a space may have
#[utoipa::path(
    patch, path = "/v1/spaces/{name}", params(("name" = String, Path)), request_body = Change,
    responses(
        (status = 200, body = Space), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem),
    )
)]
pub async fn change(
    State(node): State<SharedNode>,
    ConnectInfo(caller): By,
    Path(name): Path<String>,
    Body(change): Body<Change>,
) -> Result<Json<Space>, Refused> {
    let mut node = lock(&node);
    let id = find(&node, &name)?;
    if !node.owner(id).is_some_and(|owner| caller.may_change(owner, node.uid)) {
        return Err(Refused::not_yours(
            &format!("the space {name} is not yours to change"),
            "ask as its owner or as root",
        ));
    }
    node.change(id, &change)?;
    node.show_space(id).map(Json).ok_or_else(|| Refused::no_space(&name))
}

/// Why a space has the target that it has
#[utoipa::path(
    get, path = "/v1/spaces/{name}/explain", params(("name" = String, Path)),
    responses((status = 200, body = Explanation), (status = 404, body = Problem))
)]
pub async fn explain(State(node): State<SharedNode>, Path(name): Path<String>) -> Result<Json<Explanation>, Refused> {
    let node = lock(&node);
    let id = find(&node, &name)?;
    node.show_explanation(id).map(Json).ok_or_else(|| {
        let error = format!("no plan has been made since {name} came");
        Refused::new(StatusCode::NOT_FOUND, error, "ask again after a period")
    })
}

/// What a space did: each sample of ten minutes, or a day by the minute
#[utoipa::path(
    get, path = "/v1/spaces/{name}/history",
    params(("name" = String, Path), ("resolution" = Option<String>, Query, description = "`fine` (as when left out) or `coarse`")),
    responses((status = 200, body = History), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn history(
    State(node): State<SharedNode>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<History>, Refused> {
    let resolution = match query.as_deref() {
        None | Some("" | "resolution=fine") => Resolution::Fine,
        Some("resolution=coarse") => Resolution::Coarse,
        Some(other) => {
            let error = format!("`{other}` is not understood");
            return Err(Refused::new(StatusCode::BAD_REQUEST, error, "write ?resolution=fine or ?resolution=coarse"));
        }
    };
    let node = lock(&node);
    let id = find(&node, &name)?;
    let period_ms = match resolution {
        Resolution::Fine => node.config().period.as_millis() as u64,
        Resolution::Coarse => COARSE_MS,
    };
    Ok(Json(History { name, period_ms, samples: node.samples(id, resolution) }))
}

/// How many pages would be loaded at each size
#[utoipa::path(
    get, path = "/v1/spaces/{name}/curve", params(("name" = String, Path)),
    responses((status = 200, body = Curve), (status = 404, body = Problem))
)]
pub async fn curve(State(node): State<SharedNode>, Path(name): Path<String>) -> Result<Json<Curve>, Refused> {
    let node = lock(&node);
    let id = find(&node, &name)?;
    node.show_curve(id).map(Json).ok_or_else(|| {
        let error = format!("no curve is known of {name} yet: its pager has not seen pages used again");
        Refused::new(StatusCode::NOT_FOUND, error, "ask again in a minute; memory that fits is not watched")
    })
}
