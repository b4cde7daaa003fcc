//! What changes what counts: later roots, recalls, checkpoints.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::auth::Caller;
use super::error::Problem;
use super::input::Body;
use super::types::{CheckpointView, Page, RecallView, RootView, StatementRequest};
use crate::drive::Hub;

/// Posts the next root, signed by the threshold of the one in force and its own (admin).
#[utoipa::path(post, path = "/api/v1/root/versions", tag = "trust", request_body = StatementRequest,
    responses((status = 201, description = "Every root so far", body = RootView), Problem))]
pub(super) async fn add_root(
    State(hub): State<Hub>,
    caller: Caller,
    Body(request): Body<StatementRequest>,
) -> Result<(StatusCode, Json<RootView>), Problem> {
    hub.add_root(&caller, request).map(|root| (StatusCode::CREATED, Json(root)))
}

/// Every recall, the latest first.
#[utoipa::path(get, path = "/api/v1/recalls", tag = "trust",
    responses((status = 200, description = "The recalls", body = Page<RecallView>), Problem))]
pub(super) async fn recalls(State(hub): State<Hub>, caller: Caller) -> Result<Json<Page<RecallView>>, Problem> {
    hub.recalls(&caller).map(Json)
}

/// Recalls releases: they are offered no more, and devices give them up (approver).
#[utoipa::path(post, path = "/api/v1/recalls", tag = "trust", request_body = StatementRequest,
    responses((status = 201, description = "The recalls", body = Page<RecallView>), Problem))]
pub(super) async fn add_recall(
    State(hub): State<Hub>,
    caller: Caller,
    Body(request): Body<StatementRequest>,
) -> Result<(StatusCode, Json<Page<RecallView>>), Problem> {
    hub.add_recall(&caller, request).map(|recalls| (StatusCode::CREATED, Json(recalls)))
}

/// The latest checkpoint.
#[utoipa::path(get, path = "/api/v1/checkpoints/latest", tag = "trust",
    responses((status = 200, description = "The checkpoint", body = CheckpointView), Problem))]
pub(super) async fn checkpoint(State(hub): State<Hub>, caller: Caller) -> Result<Json<CheckpointView>, Problem> {
    hub.checkpoint(&caller).map(Json)
}

/// Posts a checkpoint: recalls and floors in force, numbered (approver).
#[utoipa::path(post, path = "/api/v1/checkpoints", tag = "trust", request_body = StatementRequest,
    responses((status = 201, description = "The checkpoint", body = CheckpointView), Problem))]
pub(super) async fn add_checkpoint(
    State(hub): State<Hub>,
    caller: Caller,
    Body(request): Body<StatementRequest>,
) -> Result<(StatusCode, Json<CheckpointView>), Problem> {
    hub.add_checkpoint(&caller, request).map(|checkpoint| (StatusCode::CREATED, Json(checkpoint)))
}
