//! Devices: list, look, tag, ask, enrol, decommission.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::attempts::Door;
use super::auth::{Caller, Peer};
use super::error::Problem;
use super::input::{Asked, At, Body};
use super::types::{
    DeviceQuery, DeviceTokenRequest, DeviceTokenView, DeviceView, EnrolRequest, EnrolView, ImportRequest, ImportView,
    Page, ReportView, TagsRequest, TroublesView,
};
use crate::drive::Hub;

/// The devices, by name.
#[utoipa::path(get, path = "/api/v1/devices", tag = "devices", params(DeviceQuery),
    responses((status = 200, description = "The devices", body = Page<DeviceView>), Problem))]
pub(super) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Asked(query): Asked<DeviceQuery>,
) -> Result<Json<Page<DeviceView>>, Problem> {
    hub.devices(&caller, query).map(Json)
}

/// What devices last reported, as they signed it: whoever decides about them need not believe the
/// hub.
#[utoipa::path(get, path = "/api/v1/reports", tag = "devices", params(DeviceQuery),
    responses((status = 200, description = "Their signed reports", body = Page<ReportView>), Problem))]
pub(super) async fn reports(
    State(hub): State<Hub>,
    caller: Caller,
    Asked(query): Asked<DeviceQuery>,
) -> Result<Json<Page<ReportView>>, Problem> {
    hub.reports(&caller, query).map(Json)
}

/// One device.
#[utoipa::path(get, path = "/api/v1/devices/{id}", tag = "devices", params(("id" = String, Path)),
    responses((status = 200, description = "The device", body = DeviceView), Problem))]
pub(super) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<DeviceView>, Problem> {
    hub.device(&caller, &id).map(Json)
}

/// Decommissions a device: its key no longer connects (admin).
#[utoipa::path(delete, path = "/api/v1/devices/{id}", tag = "devices", params(("id" = String, Path)),
    responses((status = 204, description = "Decommissioned"), Problem))]
pub(super) async fn delete(State(hub): State<Hub>, caller: Caller, At(id): At<String>) -> Result<StatusCode, Problem> {
    hub.delete_device(&caller, &id).map(|()| StatusCode::NO_CONTENT)
}

/// Replaces a device's tags (operator).
#[utoipa::path(put, path = "/api/v1/devices/{id}/tags", tag = "devices", params(("id" = String, Path)),
    request_body = TagsRequest, responses((status = 200, description = "The device", body = DeviceView), Problem))]
pub(super) async fn set_tags(
    State(hub): State<Hub>,
    caller: Caller,
    At(id): At<String>,
    Body(request): Body<TagsRequest>,
) -> Result<Json<DeviceView>, Problem> {
    hub.set_tags(&caller, &id, request).map(Json)
}

/// Asks a device to report now (operator).
#[utoipa::path(post, path = "/api/v1/devices/{id}/report", tag = "devices", params(("id" = String, Path)),
    responses((status = 202, description = "Asked"), Problem))]
pub(super) async fn ask_report(
    State(hub): State<Hub>,
    caller: Caller,
    At(id): At<String>,
) -> Result<StatusCode, Problem> {
    hub.ask_report(&caller, &id).map(|()| StatusCode::ACCEPTED)
}

/// What a device told of its troubles: failures with their cause and log (operator).
#[utoipa::path(get, path = "/api/v1/devices/{id}/troubles", tag = "devices", params(("id" = String, Path)),
    responses((status = 200, description = "Its troubles", body = TroublesView), Problem))]
pub(super) async fn troubles(
    State(hub): State<Hub>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<TroublesView>, Problem> {
    hub.troubles(&caller, &id).map(Json)
}

/// Asks a device for the end of its log (operator).
#[utoipa::path(post, path = "/api/v1/devices/{id}/log", tag = "devices", params(("id" = String, Path)),
    responses((status = 202, description = "Asked"), Problem))]
pub(super) async fn ask_log(State(hub): State<Hub>, caller: Caller, At(id): At<String>) -> Result<StatusCode, Problem> {
    hub.ask_log(&caller, &id).map(|()| StatusCode::ACCEPTED)
}

/// Makes a token with which devices enrol; it is shown once (operator).
#[utoipa::path(post, path = "/api/v1/devices/tokens", tag = "devices", request_body = DeviceTokenRequest,
    responses((status = 201, description = "The token", body = DeviceTokenView), Problem))]
pub(super) async fn token(
    State(hub): State<Hub>,
    caller: Caller,
    Body(request): Body<DeviceTokenRequest>,
) -> Result<(StatusCode, Json<DeviceTokenView>), Problem> {
    hub.device_token(&caller, request).map(|token| (StatusCode::CREATED, Json(token)))
}

/// Registers devices by keys that were made elsewhere; all or none (admin).
#[utoipa::path(post, path = "/api/v1/devices/import", tag = "devices", request_body = ImportRequest,
    responses((status = 200, description = "How many are new", body = ImportView), Problem))]
pub(super) async fn import(
    State(hub): State<Hub>,
    caller: Caller,
    Body(request): Body<ImportRequest>,
) -> Result<Json<ImportView>, Problem> {
    hub.import_devices(&caller, request).map(Json)
}

/// Enrols a device; the token is the permission.
#[utoipa::path(post, path = "/api/v1/enrol", tag = "devices", security(()), request_body = EnrolRequest,
    responses((status = 201, description = "Where it connects", body = EnrolView), Problem))]
pub(super) async fn enrol(
    State(hub): State<Hub>,
    peer: Peer,
    Body(request): Body<EnrolRequest>,
) -> Result<(StatusCode, Json<EnrolView>), Problem> {
    hub.guarded(Door::Enrol, peer, || hub.enrol(request)).map(|view| (StatusCode::CREATED, Json(view)))
}
