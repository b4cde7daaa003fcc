//! What the API answers when it says no: a problem (RFC 9457) with a stable code and a next step.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoResponses, ToSchema};

use super::attempts::WINDOW_SECONDS;

/// A refusal or failure: cause in `detail`, next step in `hint`, and a `code` that never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoResponses, thiserror::Error)]
#[response(
    status = "default",
    content_type = "application/problem+json",
    description = "Why not, and what to do next (RFC 9457)"
)]
#[error("{detail}")]
pub struct Problem {
    /// `urn:bellwether:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: Box<str>,
    /// The status as words.
    #[schema(value_type = String)]
    pub title: Box<str>,
    /// The HTTP status.
    pub status: u16,
    /// Stable: programs may depend on it.
    pub code: String,
    /// What happened, with the facts.
    pub detail: String,
    /// What to do next.
    pub hint: String,
}

impl Problem {
    /// A problem with this status and code.
    #[must_use]
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:bellwether:problem:{code}").into(),
            title: status.canonical_reason().unwrap_or("Refused").into(),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: detail.into(),
            hint: String::new(),
        }
    }

    /// The same problem with a next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// 400: the request is not well formed.
    #[must_use]
    pub fn bad_request(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401: nobody the hub knows.
    #[must_use]
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
            .hint("pass an API token: `bellwether login`, or the header `Authorization: Bearer TOKEN`")
    }

    /// 403: known, but not allowed.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: no such thing.
    #[must_use]
    pub fn not_found(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 409: it exists already, is in use, or may not be done now.
    #[must_use]
    pub fn conflict(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 409 `not_now`: an action that the state does not allow.
    #[must_use]
    pub fn not_now(detail: impl Into<String>) -> Self {
        Self::conflict("not_now", detail)
    }

    /// 413: larger than the limit.
    #[must_use]
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// 422: well formed, but it cannot be accepted.
    #[must_use]
    pub fn unprocessable(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 429: too many wrong secrets; `Retry-After` goes with it.
    #[must_use]
    pub fn too_many_attempts() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_attempts",
            "too many wrong secrets came from this address, or in all",
        )
        .hint(format!("wait {WINDOW_SECONDS} seconds, then try again with the right one"))
    }

    /// The headers that say more than the status.
    pub fn mark(&self, headers: &mut HeaderMap) {
        if self.status == StatusCode::TOO_MANY_REQUESTS.as_u16() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(WINDOW_SECONDS));
        }
        if self.status == StatusCode::UNAUTHORIZED.as_u16() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"bellwether\""));
        }
    }

    /// 500: the hub's own fault.
    #[must_use]
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
            .hint("the hub's log says more; `bellwether doctor` checks what it needs")
    }

    /// 503: not at the moment.
    #[must_use]
    pub fn unavailable(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
    }

    /// The HTTP status.
    #[must_use]
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status_code(), axum::Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        self.mark(headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_problem_travels_whole() {
        let problem = Problem::conflict("in_use", "digits:1 runs on 3 devices").hint("roll out another version first");
        let response = problem.clone().into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let bytes = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        assert_eq!(serde_json::from_slice::<Problem>(&bytes).unwrap(), problem);
    }

    #[test]
    fn whoever_is_not_known_is_told_how_to_log_in() {
        let response = Problem::unauthenticated("no token").into_response();
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    }
}
