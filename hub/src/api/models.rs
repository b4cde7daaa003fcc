//! Packages, models and versions.

use axum::Json;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::auth::Caller;
use super::error::Problem;
use super::input::{Asked, At, Body, Raw, UPLOAD_BYTES_MAX};
use super::types::{ModelDetail, ModelQuery, ModelView, PackageView, Page, RegisterRequest, Role, VersionView};
use crate::drive::Hub;

/// Who may upload: asked before the body is read, so that nobody else makes the hub hold 128 MiB.
#[derive(Debug)]
pub(super) struct Uploader(Caller);

impl axum::extract::FromRequestParts<Hub> for Uploader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, hub: &Hub) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, hub).await?;
        caller.need(Role::Publisher)?;
        // Whoever says beforehand that it is too much need not send it.
        let said = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if said.is_some_and(|bytes: usize| bytes > UPLOAD_BYTES_MAX) {
            return Err(super::input::over_limit());
        }
        Ok(Self(caller))
    }
}

/// Uploads held in memory at once: four of 128 MiB are half a GiB.
static UPLOADS: Semaphore = Semaphore::const_new(4);

/// Uploads a package (publisher).
#[utoipa::path(post, path = "/api/v1/packages", tag = "models",
    request_body(content = inline(String), content_type = "application/octet-stream"),
    responses((status = 201, description = "It is kept", body = PackageView), Problem))]
pub(super) async fn put_package(
    State(hub): State<Hub>,
    Uploader(caller): Uploader,
    request: Request,
) -> Result<(StatusCode, Json<PackageView>), Problem> {
    let _turn = UPLOADS.try_acquire().map_err(|_| {
        Problem::unavailable("busy", "four packages are being uploaded already").hint("try again in a minute")
    })?;
    let Raw(bytes) = Raw::from_request(request, &()).await?;
    hub.put_package(&caller, bytes).await.map(|package| (StatusCode::CREATED, Json(package)))
}

/// The bytes of a package.
#[utoipa::path(get, path = "/api/v1/packages/{digest}", tag = "models", params(("digest" = String, Path)),
    responses((status = 200, description = "The package", content_type = "application/octet-stream"), Problem))]
pub(super) async fn package(
    State(hub): State<Hub>,
    caller: Caller,
    At(digest): At<String>,
) -> Result<Response, Problem> {
    let bytes = hub.package(&caller, &digest).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// Registers an uploaded package as the model's next version (publisher).
#[utoipa::path(post, path = "/api/v1/models/{name}/versions", tag = "models", params(("name" = String, Path)),
    request_body = RegisterRequest,
    responses((status = 201, description = "The version", body = VersionView), Problem))]
pub(super) async fn register(
    State(hub): State<Hub>,
    caller: Caller,
    At(name): At<String>,
    Body(request): Body<RegisterRequest>,
) -> Result<(StatusCode, Json<VersionView>), Problem> {
    hub.register(&caller, &name, request).await.map(|version| (StatusCode::CREATED, Json(version)))
}

/// The models.
#[utoipa::path(get, path = "/api/v1/models", tag = "models", params(ModelQuery),
    responses((status = 200, description = "The models", body = Page<ModelView>), Problem))]
pub(super) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Asked(query): Asked<ModelQuery>,
) -> Result<Json<Page<ModelView>>, Problem> {
    hub.models(&caller, query).map(Json)
}

/// One model with its versions.
#[utoipa::path(get, path = "/api/v1/models/{name}", tag = "models", params(("name" = String, Path)),
    responses((status = 200, description = "The model", body = ModelDetail), Problem))]
pub(super) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    At(name): At<String>,
) -> Result<Json<ModelDetail>, Problem> {
    hub.model(&caller, &name).map(Json)
}

/// One version.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}", tag = "models",
    params(("name" = String, Path), ("version" = u32, Path)),
    responses((status = 200, description = "The version", body = VersionView), Problem))]
pub(super) async fn version(
    State(hub): State<Hub>,
    caller: Caller,
    At((name, version)): At<(String, u32)>,
) -> Result<Json<VersionView>, Problem> {
    hub.version(&caller, &name, version).map(Json)
}

/// Deletes a version that nothing desires or reports (admin).
#[utoipa::path(delete, path = "/api/v1/models/{name}/versions/{version}", tag = "models",
    params(("name" = String, Path), ("version" = u32, Path)),
    responses((status = 204, description = "Deleted"), Problem))]
pub(super) async fn delete(
    State(hub): State<Hub>,
    caller: Caller,
    At((name, version)): At<(String, u32)>,
) -> Result<StatusCode, Problem> {
    hub.delete_version(&caller, &name, version).map(|()| StatusCode::NO_CONTENT)
}
