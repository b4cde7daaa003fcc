//! Collected rows: how many there are, the latest of a device, and all of them on their way out.

use axum::Json;
use axum::body::Body as Answer;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::auth::Caller;
use super::error::Problem;
use super::input::{Asked, At};
use super::types::{CollectedView, ExportQuery, Page, RowView, RowsQuery};
use crate::drive::Hub;

/// What was collected, by model, version and day.
#[utoipa::path(get, path = "/api/v1/data", tag = "data",
    responses((status = 200, description = "The counts", body = CollectedView), Problem))]
pub(super) async fn collected(State(hub): State<Hub>, caller: Caller) -> Result<Json<CollectedView>, Problem> {
    hub.collected(&caller).await.map(Json)
}

/// The latest rows of a device, newest first (operator).
#[utoipa::path(get, path = "/api/v1/devices/{id}/rows", tag = "data", params(("id" = String, Path), RowsQuery),
    responses((status = 200, description = "The rows", body = Page<RowView>), Problem))]
pub(super) async fn latest_rows(
    State(hub): State<Hub>,
    caller: Caller,
    At(id): At<String>,
    Asked(query): Asked<RowsQuery>,
) -> Result<Json<Page<RowView>>, Problem> {
    hub.latest_rows(&caller, &id, &query).map(|rows| Json(Page::whole(rows)))
}

/// Rows as NDJSON, CSV, or their Parquet files in a tar archive (operator). An answer that breaks
/// off is not whole.
#[utoipa::path(get, path = "/api/v1/data/export", tag = "data", params(ExportQuery),
    responses(
        (status = 200, description = "The rows: one RowView a line, unless another format was asked for",
            content_type = "application/x-ndjson"),
        Problem
    ))]
pub(super) async fn export(
    State(hub): State<Hub>,
    caller: Caller,
    Asked(query): Asked<ExportQuery>,
) -> Result<Response, Problem> {
    let export = hub.export(&caller, query).await?;
    let pieces = futures_util::stream::unfold(export.pieces, |mut pieces| async move {
        pieces.recv().await.map(|piece| (piece, pieces))
    });
    let attachment = format!("attachment; filename=\"{}\"", export.format.file_name());
    let headers =
        [(header::CONTENT_TYPE, export.format.media_type().to_owned()), (header::CONTENT_DISPOSITION, attachment)];
    Ok((headers, Answer::from_stream(pieces)).into_response())
}
