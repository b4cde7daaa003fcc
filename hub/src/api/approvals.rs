//! What waits for approvers; releases, their signatures and refusals; grants of stages.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::auth::Caller;
use super::error::Problem;
use super::input::{At, Body};
use super::types::{ApprovalDetail, GrantView, Page, RejectRequest, StatementRequest, StatementView, VersionView};
use crate::drive::Hub;

/// The release as signed so far.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/release", tag = "trust",
    params(("name" = String, Path), ("version" = u32, Path)),
    responses((status = 200, description = "The statement", body = StatementView), Problem))]
pub(super) async fn release(
    State(hub): State<Hub>,
    caller: Caller,
    At((name, version)): At<(String, u32)>,
) -> Result<Json<StatementView>, Problem> {
    hub.release(&caller, &name, version).map(Json)
}

/// Posts the release, signed by its publisher only (publisher).
#[utoipa::path(post, path = "/api/v1/models/{name}/versions/{version}/release", tag = "trust",
    params(("name" = String, Path), ("version" = u32, Path)), request_body = StatementRequest,
    responses((status = 200, description = "The version", body = VersionView), Problem))]
pub(super) async fn post_release(
    State(hub): State<Hub>,
    caller: Caller,
    At((name, version)): At<(String, u32)>,
    Body(request): Body<StatementRequest>,
) -> Result<Json<VersionView>, Problem> {
    hub.post_release(&caller, &name, version, request).map(Json)
}

/// Adds one signature to the release: the same body, signed by an approver (approver).
#[utoipa::path(post, path = "/api/v1/models/{name}/versions/{version}/signatures", tag = "trust",
    params(("name" = String, Path), ("version" = u32, Path)), request_body = StatementRequest,
    responses((status = 200, description = "The version", body = VersionView), Problem))]
pub(super) async fn add_signature(
    State(hub): State<Hub>,
    caller: Caller,
    At((name, version)): At<(String, u32)>,
    Body(request): Body<StatementRequest>,
) -> Result<Json<VersionView>, Problem> {
    hub.add_signature(&caller, &name, version, request).map(Json)
}

/// Refuses the release, for a reason: it takes no more signatures (approver).
#[utoipa::path(post, path = "/api/v1/models/{name}/versions/{version}/rejection", tag = "trust",
    params(("name" = String, Path), ("version" = u32, Path)), request_body = RejectRequest,
    responses((status = 200, description = "The version", body = VersionView), Problem))]
pub(super) async fn reject(
    State(hub): State<Hub>,
    caller: Caller,
    At((name, version)): At<(String, u32)>,
    Body(request): Body<RejectRequest>,
) -> Result<Json<VersionView>, Problem> {
    hub.reject(&caller, &name, version, request).map(Json)
}

/// The versions that wait for approvals, and those that were rejected.
#[utoipa::path(get, path = "/api/v1/approvals", tag = "trust",
    responses((status = 200, description = "The versions", body = Page<VersionView>), Problem))]
pub(super) async fn waiting(State(hub): State<Hub>, caller: Caller) -> Result<Json<Page<VersionView>>, Problem> {
    hub.approvals(&caller).map(Json)
}

/// What an approver looks at before signing: the version beside the one that runs, the policy, the
/// exact bytes.
#[utoipa::path(get, path = "/api/v1/approvals/{name}/{version}", tag = "trust",
    params(("name" = String, Path), ("version" = u32, Path)),
    responses((status = 200, description = "The evidence", body = ApprovalDetail), Problem))]
pub(super) async fn detail(
    State(hub): State<Hub>,
    caller: Caller,
    At((name, version)): At<(String, u32)>,
) -> Result<Json<ApprovalDetail>, Problem> {
    hub.approval(&caller, &name, version).map(Json)
}

/// The grants of a version.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/grants", tag = "trust",
    params(("name" = String, Path), ("version" = u32, Path)),
    responses((status = 200, description = "The grants", body = Page<GrantView>), Problem))]
pub(super) async fn grants(
    State(hub): State<Hub>,
    caller: Caller,
    At((name, version)): At<(String, u32)>,
) -> Result<Json<Page<GrantView>>, Problem> {
    hub.grants(&caller, &name, version).map(Json)
}

/// Grants a cohort (approver).
#[utoipa::path(post, path = "/api/v1/models/{name}/versions/{version}/grants", tag = "trust",
    params(("name" = String, Path), ("version" = u32, Path)), request_body = StatementRequest,
    responses((status = 201, description = "The grant", body = GrantView), Problem))]
pub(super) async fn post_grant(
    State(hub): State<Hub>,
    caller: Caller,
    At((name, version)): At<(String, u32)>,
    Body(request): Body<StatementRequest>,
) -> Result<(StatusCode, Json<GrantView>), Problem> {
    hub.post_grant(&caller, &name, version, request).map(|grant| (StatusCode::CREATED, Json(grant)))
}
