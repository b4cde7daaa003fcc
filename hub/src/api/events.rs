//! The events: audit trail and feed in one.

use std::time::Duration;

use axum::Json;
use axum::extract::State;

use super::auth::Caller;
use super::error::Problem;
use super::input::Asked;
use super::types::{EventQuery, EventView, Page};
use crate::drive::Hub;

/// The events, oldest first; the latest page if no cursor is given. May wait for the next ones.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(EventQuery),
    responses((status = 200, description = "The events", body = Page<EventView>), Problem))]
pub(super) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Asked(query): Asked<EventQuery>,
) -> Result<Json<Page<EventView>>, Problem> {
    match query.wait_seconds {
        Some(seconds) => hub.events_within(&caller, query, Duration::from_secs(u64::from(seconds))).await.map(Json),
        None => hub.events(&caller, query).map(Json),
    }
}
