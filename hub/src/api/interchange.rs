//! What other programs read: releases as in-toto statements.

use axum::Json;
use axum::extract::State;

use super::auth::Caller;
use super::error::Problem;
use super::input::At;
use super::types::EnvelopeView;
use crate::drive::Hub;

/// An approved release as an in-toto statement in a DSSE envelope, attested by the hub.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/dsse", tag = "trust",
    params(("name" = String, Path), ("version" = u32, Path)),
    responses((status = 200, description = "The envelope", body = EnvelopeView), Problem))]
pub(super) async fn dsse(
    State(hub): State<Hub>,
    caller: Caller,
    At((name, version)): At<(String, u32)>,
) -> Result<Json<EnvelopeView>, Problem> {
    hub.attested(&caller, &name, version).map(Json)
}
