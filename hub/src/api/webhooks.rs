//! Webhooks: where events are sent, what could not be delivered, one more try.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::auth::Caller;
use super::error::Problem;
use super::input::{At, Body};
use super::types::{
    DeadLetterView, Page, RedeliverRequest, RedeliverView, WebhookCreated, WebhookRequest, WebhookTestView, WebhookView,
};
use crate::drive::Hub;

/// Sends events to an address from now on; the secret is shown once (admin).
#[utoipa::path(post, path = "/api/v1/webhooks", tag = "webhooks", request_body = WebhookRequest,
    responses((status = 201, description = "The webhook", body = WebhookCreated), Problem))]
pub(super) async fn create(
    State(hub): State<Hub>,
    caller: Caller,
    Body(request): Body<WebhookRequest>,
) -> Result<(StatusCode, Json<WebhookCreated>), Problem> {
    hub.create_webhook(&caller, request).map(|hook| (StatusCode::CREATED, Json(hook)))
}

/// The webhooks without their secrets.
#[utoipa::path(get, path = "/api/v1/webhooks", tag = "webhooks",
    responses((status = 200, description = "The webhooks", body = Page<WebhookView>), Problem))]
pub(super) async fn list(State(hub): State<Hub>, caller: Caller) -> Result<Json<Page<WebhookView>>, Problem> {
    hub.webhooks(&caller).map(Json)
}

/// Removes a webhook and its dead letters (admin).
#[utoipa::path(delete, path = "/api/v1/webhooks/{id}", tag = "webhooks", params(("id" = String, Path)),
    responses((status = 204, description = "Removed"), Problem))]
pub(super) async fn delete(State(hub): State<Hub>, caller: Caller, At(id): At<String>) -> Result<StatusCode, Problem> {
    hub.delete_webhook(&caller, &id).map(|()| StatusCode::NO_CONTENT)
}

/// What a webhook could not deliver, oldest first.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}/dead", tag = "webhooks", params(("id" = String, Path)),
    responses((status = 200, description = "The dead letters", body = Page<DeadLetterView>), Problem))]
pub(super) async fn dead(
    State(hub): State<Hub>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<Page<DeadLetterView>>, Problem> {
    hub.dead_letters(&caller, &id).map(Json)
}

/// Has dead letters tried once more, all or one (admin).
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/redeliver", tag = "webhooks", params(("id" = String, Path)),
    request_body = RedeliverRequest,
    responses((status = 202, description = "What is tried again", body = RedeliverView), Problem))]
pub(super) async fn redeliver(
    State(hub): State<Hub>,
    caller: Caller,
    At(id): At<String>,
    Body(request): Body<RedeliverRequest>,
) -> Result<(StatusCode, Json<RedeliverView>), Problem> {
    hub.redeliver(&caller, &id, &request).map(|taken| (StatusCode::ACCEPTED, Json(taken)))
}

/// Sends a test event now, and says what the receiver answered (admin).
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/test", tag = "webhooks", params(("id" = String, Path)),
    responses((status = 200, description = "What the receiver said", body = WebhookTestView), Problem))]
pub(super) async fn test(
    State(hub): State<Hub>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<WebhookTestView>, Problem> {
    hub.test_webhook(&caller, &id).await.map(Json)
}
