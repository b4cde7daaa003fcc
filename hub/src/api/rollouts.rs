//! Rollouts: start, watch, act.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::auth::Caller;
use super::error::Problem;
use super::input::{At, Body};
use super::types::{ActionRequest, Page, RolloutAction, RolloutRequest, RolloutView};
use crate::drive::Hub;

/// Starts a rollout (operator).
#[utoipa::path(post, path = "/api/v1/rollouts", tag = "rollouts", request_body = RolloutRequest,
    responses((status = 201, description = "The rollout", body = RolloutView), Problem))]
pub(super) async fn start(
    State(hub): State<Hub>,
    caller: Caller,
    Body(request): Body<RolloutRequest>,
) -> Result<(StatusCode, Json<RolloutView>), Problem> {
    hub.start_rollout(&caller, request).map(|rollout| (StatusCode::CREATED, Json(rollout)))
}

/// The rollouts, latest first.
#[utoipa::path(get, path = "/api/v1/rollouts", tag = "rollouts",
    responses((status = 200, description = "The rollouts", body = Page<RolloutView>), Problem))]
pub(super) async fn list(State(hub): State<Hub>, caller: Caller) -> Result<Json<Page<RolloutView>>, Problem> {
    hub.rollouts(&caller).map(Json)
}

/// One rollout.
#[utoipa::path(get, path = "/api/v1/rollouts/{id}", tag = "rollouts", params(("id" = String, Path)),
    responses((status = 200, description = "The rollout", body = RolloutView), Problem))]
pub(super) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<RolloutView>, Problem> {
    hub.rollout(&caller, &id).map(Json)
}

/// Pauses, resumes, promotes or aborts a rollout (operator).
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/{action}", tag = "rollouts",
    params(("id" = String, Path), ("action" = RolloutAction, Path)), request_body = ActionRequest,
    responses((status = 200, description = "The rollout", body = RolloutView), Problem))]
pub(super) async fn act(
    State(hub): State<Hub>,
    caller: Caller,
    At((id, action)): At<(String, RolloutAction)>,
    Body(request): Body<ActionRequest>,
) -> Result<Json<RolloutView>, Problem> {
    hub.act_on_rollout(&caller, &id, action, request).map(Json)
}
