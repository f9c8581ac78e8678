//! What concerns more than one space: draining, calling that off, and reloading.

use super::problem::{Body, Refused};
use super::{By, Caller};
use crate::attach::{SharedNode, lock};
use crate::node::Node;
use crate::spaces::Identity;
use crate::wire::{Drain, Drained, Problem, Reloaded, Undrained};
use axum::Json;
use axum::extract::{ConnectInfo, State};

/// Bring all pages of some spaces, or of all, back to plain DRAM
#[utoipa::path(
    post, path = "/v1/drain", request_body = Drain,
    responses(
        (status = 200, body = Drained), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem),
    )
)]
pub async fn drain(
    State(node): State<SharedNode>,
    ConnectInfo(caller): By,
    Body(drain): Body<Drain>,
) -> Result<Json<Drained>, Refused> {
    let mut node = lock(&node);
    let ids = meant(&node, caller, drain)?;
    Ok(Json(node.drain(&ids)?))
}

/// Call off that some spaces, or all, drain
#[utoipa::path(
    post, path = "/v1/drain/cancel", request_body = Drain,
    responses(
        (status = 200, body = Undrained), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem),
    )
)]
pub async fn stop_draining(
    State(node): State<SharedNode>,
    ConnectInfo(caller): By,
    Body(drain): Body<Drain>,
) -> Result<Json<Undrained>, Refused> {
    let mut node = lock(&node);
    let ids = meant(&node, caller, drain)?;
    Ok(Json(Undrained { names: node.stop_draining(&ids) }))
}

/// The spaces that are meant, if all of them are the caller's.
fn meant(node: &Node, caller: Caller, drain: Drain) -> Result<Vec<Identity>, Refused> {
    let ids = match drain.names {
        None if caller.administers(node.uid) => node.ids(),
        None => return Err(Refused::not_yours("only root drains all spaces", "name your own, or ask as root")),
        Some(names) => named(node, &names)?,
    };
    let foreign = ids.iter().find(|id| !node.owner(**id).is_some_and(|owner| caller.may_change(owner, node.uid)));
    match foreign.and_then(|id| node.name(*id)) {
        Some(name) => {
            Err(Refused::not_yours(&format!("the space {name} is not yours to drain"), "ask as its owner or as root"))
        }
        None => Ok(ids),
    }
}

fn named(node: &Node, names: &[String]) -> Result<Vec<Identity>, Refused> {
    names.iter().map(|name| node.named(name).ok_or_else(|| Refused::no_space(name))).collect()
}

/// Read the configuration again
#[utoipa::path(
    post, path = "/v1/reload",
    responses((status = 200, body = Reloaded), (status = 403, body = Problem), (status = 422, body = Problem))
)]
pub async fn reload(State(node): State<SharedNode>, ConnectInfo(caller): By) -> Result<Json<Reloaded>, Refused> {
    let mut node = lock(&node);
    if !caller.administers(node.uid) {
        return Err(Refused::not_yours("only root reloads the configuration", "ask as root, or as the node's user"));
    }
    let reloaded = node.reload()?;
    node.publish_rules();
    Ok(Json(reloaded))
}
