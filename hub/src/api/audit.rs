//! The audit chain: its head, its lines, and what ran on a device on a day.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::auth::Caller;
use super::error::Problem;
use super::input::{Asked, At};
use super::types::{AuditHeadView, AuditQuery, DayQuery, DeviceAuditView};
use crate::drive::Hub;

/// How far the audit chain goes, signed by the registry.
#[utoipa::path(get, path = "/api/v1/audit/head", tag = "audit",
    responses((status = 200, description = "The head", body = AuditHeadView), Problem))]
pub(super) async fn head(State(hub): State<Hub>, caller: Caller) -> Result<Json<AuditHeadView>, Problem> {
    let head = hub.audit_head(&caller)?;
    hub.durable().await?;
    Ok(Json(head))
}

/// The next lines of the audit chain, exactly as they are stored (operator).
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, description = "A line an event; empty at the end",
        content_type = "application/x-ndjson"), Problem))]
pub(super) async fn lines(
    State(hub): State<Hub>,
    caller: Caller,
    Asked(query): Asked<AuditQuery>,
) -> Result<Response, Problem> {
    let lines = hub.audit_lines(&caller, query)?;
    hub.durable().await?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}

/// What ran on a device on a day, who approved it, and why (operator).
#[utoipa::path(get, path = "/api/v1/audit/devices/{id}", tag = "audit", params(("id" = String, Path), DayQuery),
    responses((status = 200, description = "The account", body = DeviceAuditView), Problem))]
pub(super) async fn device(
    State(hub): State<Hub>,
    caller: Caller,
    At(id): At<String>,
    Asked(query): Asked<DayQuery>,
) -> Result<Json<DeviceAuditView>, Problem> {
    // It reads every event that is kept.
    let reading = hub.clone();
    let account = tokio::task::spawn_blocking(move || reading.device_audit(&caller, &id, query)).await;
    let account = account.map_err(|fault| Problem::internal(fault.to_string()))??;
    hub.durable().await?;
    Ok(Json(account))
}
