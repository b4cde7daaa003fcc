//! Drift: the monitors, and one of them with its histograms.

use axum::Json;
use axum::extract::State;

use super::auth::Caller;
use super::error::Problem;
use super::input::{Asked, At};
use super::types::{GroupQuery, MonitorDetail, MonitorQuery, MonitorView, Page};
use crate::drive::Hub;

/// The monitors of versions that devices run, alerts first.
#[utoipa::path(get, path = "/api/v1/monitors", tag = "drift", params(MonitorQuery),
    responses((status = 200, description = "The monitors", body = Page<MonitorView>), Problem))]
pub(super) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Asked(query): Asked<MonitorQuery>,
) -> Result<Json<Page<MonitorView>>, Problem> {
    hub.monitors(&caller, query).map(Json)
}

/// One monitor, with reference and current histogram of every column.
#[utoipa::path(get, path = "/api/v1/monitors/{name}/{version}", tag = "drift",
    params(("name" = String, Path), ("version" = u32, Path), GroupQuery),
    responses((status = 200, description = "The monitor", body = MonitorDetail), Problem))]
pub(super) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    At((name, version)): At<(String, u32)>,
    Asked(query): Asked<GroupQuery>,
) -> Result<Json<MonitorDetail>, Problem> {
    hub.monitor(&caller, &name, version, query).map(Json)
}
