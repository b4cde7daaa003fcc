//! The hub itself: identity, health, figures, root, tokens, overview, backup.

use std::net::SocketAddr;

use axum::Json;
use axum::body::Body as Answer;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::io::AsyncReadExt as _;
use utoipa::OpenApi as _;

use super::Document;
use super::auth::Caller;
use super::error::Problem;
use super::input::{At, Body};
use super::types::{
    FleetView, HubView, KeysView, OverviewView, Page, RootView, StatementRequest, TokenCreated, TokenRequest, TokenView,
};
use crate::drive::Hub;

/// Bytes read of a backup at a time.
const BACKUP_PIECE_BYTES: usize = 256 * 1024;

/// Whether the hub can do its work.
pub(super) async fn healthz(State(hub): State<Hub>) -> Result<&'static str, Problem> {
    hub.healthy().map(|()| "ok\n")
}

/// Figures for Prometheus; from elsewhere than this machine only with a token.
pub(super) async fn metrics(State(hub): State<Hub>, request: axum::extract::Request) -> Result<Response, Problem> {
    let near = request.extensions().get::<ConnectInfo<SocketAddr>>().is_some_and(|peer| peer.0.ip().is_loopback());
    if !near {
        use axum::extract::FromRequestParts as _;
        let (mut parts, _) = request.into_parts();
        Caller::from_request_parts(&mut parts, &hub).await?;
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], hub.metrics()).into_response())
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "hub", security(()),
    responses((status = 200, description = "The OpenAPI document")))]
pub(super) async fn openapi() -> Response {
    Json(Document::openapi()).into_response()
}

/// What anyone may know of the hub.
#[utoipa::path(get, path = "/api/v1/hub", tag = "hub", security(()),
    responses((status = 200, description = "The hub", body = HubView)))]
pub(super) async fn hub(State(hub): State<Hub>) -> Json<HubView> {
    Json(hub.hub_view())
}

/// The first page at a glance.
#[utoipa::path(get, path = "/api/v1/overview", tag = "hub",
    responses((status = 200, description = "The overview", body = OverviewView), Problem))]
pub(super) async fn overview(State(hub): State<Hub>, caller: Caller) -> Result<Json<OverviewView>, Problem> {
    hub.overview(&caller).map(Json)
}

/// The hub's whole state in one file (admin).
#[utoipa::path(get, path = "/api/v1/backup", tag = "hub",
    responses((status = 200, description = "The backup", content_type = "application/octet-stream"), Problem))]
pub(super) async fn backup(State(hub): State<Hub>, caller: Caller) -> Result<Response, Problem> {
    let file = hub.backup(&caller).await?;
    let length = file.metadata().await.map(|facts| facts.len());
    let pieces = futures_util::stream::try_unfold(file, |mut file| async move {
        let mut piece = Vec::with_capacity(BACKUP_PIECE_BYTES);
        let read = (&mut file).take(BACKUP_PIECE_BYTES as u64).read_to_end(&mut piece).await?;
        Ok::<_, std::io::Error>((read > 0).then_some((piece, file)))
    });
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/octet-stream"));
    if let Ok(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Ok((headers, Answer::from_stream(pieces)).into_response())
}

/// The root of trust, as it was signed.
#[utoipa::path(get, path = "/api/v1/root", tag = "trust", security(()),
    responses((status = 200, description = "The root", body = RootView), Problem))]
pub(super) async fn root(State(hub): State<Hub>) -> Result<Json<RootView>, Problem> {
    hub.root().map(Json)
}

/// Sets the root, once (admin).
#[utoipa::path(put, path = "/api/v1/root", tag = "trust", request_body = StatementRequest,
    responses((status = 200, description = "The fleet it made", body = FleetView), Problem))]
pub(super) async fn put_root(
    State(hub): State<Hub>,
    caller: Caller,
    Body(request): Body<StatementRequest>,
) -> Result<Json<FleetView>, Problem> {
    hub.put_root(&caller, request).map(Json)
}

/// The keys of the root, for people.
#[utoipa::path(get, path = "/api/v1/root/keys", tag = "trust",
    responses((status = 200, description = "The keys", body = KeysView), Problem))]
pub(super) async fn root_keys(State(hub): State<Hub>, caller: Caller) -> Result<Json<KeysView>, Problem> {
    hub.root_keys(&caller).map(Json)
}

/// API tokens without their secrets (admin).
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens",
    responses((status = 200, description = "The tokens", body = Page<TokenView>), Problem))]
pub(super) async fn tokens(State(hub): State<Hub>, caller: Caller) -> Result<Json<Page<TokenView>>, Problem> {
    hub.tokens(&caller).map(Json)
}

/// Makes an API token; it is shown once (admin).
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = TokenRequest,
    responses((status = 201, description = "The token", body = TokenCreated), Problem))]
pub(super) async fn create_token(
    State(hub): State<Hub>,
    caller: Caller,
    Body(request): Body<TokenRequest>,
) -> Result<(StatusCode, Json<TokenCreated>), Problem> {
    hub.create_token(&caller, request).map(|token| (StatusCode::CREATED, Json(token)))
}

/// Ends an API token (admin).
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 204, description = "Ended"), Problem))]
pub(super) async fn delete_token(
    State(hub): State<Hub>,
    caller: Caller,
    At(id): At<String>,
) -> Result<StatusCode, Problem> {
    hub.delete_token(&caller, &id).map(|()| StatusCode::NO_CONTENT)
}
