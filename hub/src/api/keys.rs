//! Keys that ask to be listed in the root.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::auth::Caller;
use super::error::Problem;
use super::input::{At, Body};
use super::types::{KeyRequestRequest, KeyRequestView, Page};
use crate::drive::Hub;

/// The keys that ask to be listed in the root.
#[utoipa::path(get, path = "/api/v1/keys/requests", tag = "trust",
    responses((status = 200, description = "The requests", body = Page<KeyRequestView>), Problem))]
pub(super) async fn requests(State(hub): State<Hub>, caller: Caller) -> Result<Json<Page<KeyRequestView>>, Problem> {
    hub.key_requests(&caller).map(Json)
}

/// Asks for a key to be listed in the root (approver or publisher).
#[utoipa::path(post, path = "/api/v1/keys/requests", tag = "trust", request_body = KeyRequestRequest,
    responses((status = 201, description = "The request", body = KeyRequestView), Problem))]
pub(super) async fn request(
    State(hub): State<Hub>,
    caller: Caller,
    Body(request): Body<KeyRequestRequest>,
) -> Result<(StatusCode, Json<KeyRequestView>), Problem> {
    hub.request_key(&caller, request).map(|view| (StatusCode::CREATED, Json(view)))
}

/// Takes a request back (admin, or who made it).
#[utoipa::path(delete, path = "/api/v1/keys/requests/{id}", tag = "trust", params(("id" = String, Path)),
    responses((status = 204, description = "Withdrawn"), Problem))]
pub(super) async fn withdraw(
    State(hub): State<Hub>,
    caller: Caller,
    At(id): At<String>,
) -> Result<StatusCode, Problem> {
    hub.withdraw_key_request(&caller, &id).map(|()| StatusCode::NO_CONTENT)
}
