//! What comes in from outside, read strictly: path, query and body as types, or a problem that
//! names cause and next step.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;

use super::error::Problem;

/// Largest JSON body: a statement of 4 KiB in base64, with room for tags and descriptions.
pub const JSON_BYTES_MAX: usize = 256 * 1024;
/// Largest package upload: the protocol's limit; the manifest is inside it.
pub const UPLOAD_BYTES_MAX: usize = 128 * 1024 * 1024;

const SEE: &str = "GET /api/v1/openapi.json describes every route and its fields";

/// The variable parts of a path.
#[derive(Debug)]
pub struct At<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(refused) => Err(Problem::bad_request("bad_path", refused.body_text()).hint(SEE)),
        }
    }
}

/// The query of an address.
#[derive(Debug)]
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(refused) => Err(Problem::bad_request("bad_query", refused.body_text()).hint(SEE)),
        }
    }
}

/// A JSON body; an empty one reads as `{}`.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.split(';').next().is_some_and(|kind| kind.trim() == "application/json"));
        let Raw(bytes) = Raw::from_request(request, state).await?;
        if bytes.is_empty() {
            return parse(b"{}").map(Self);
        }
        if !json {
            let cause = "the body is not marked as JSON";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", cause)
                .hint("send the header `Content-Type: application/json`"));
        }
        parse(&bytes).map(Self)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|fault| Problem::bad_request("bad_body", format!("the body cannot be read: {fault}")).hint(SEE))
}

/// 413, with the limits.
pub(super) fn over_limit() -> Problem {
    Problem::too_large("the body is larger than this route takes").hint("JSON may have 256 KiB, a package 128 MiB")
}

/// A body as it comes, up to the limit of its route.
#[derive(Debug)]
pub struct Raw(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let refused = match Bytes::from_request(request, state).await {
            Ok(bytes) => return Ok(Self(bytes)),
            Err(refused) => refused.into_response().status(),
        };
        if refused == StatusCode::PAYLOAD_TOO_LARGE {
            return Err(over_limit());
        }
        Err(Problem::bad_request("bad_body", "the body broke off").hint("send it again"))
    }
}
