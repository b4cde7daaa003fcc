//! What surrounds every request: time limits, panics caught, headers that bind the browser, and an
//! answer for addresses that lead nowhere.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::error::Problem;
use super::input::{JSON_BYTES_MAX, UPLOAD_BYTES_MAX};
use crate::drive::Hub;

/// Reading answers at once; what takes longer is stuck.
const READ_SECONDS_MAX: u64 = 30;
/// Writing may upload 128 MiB over a slow line or repeat a golden check.
const WRITE_SECONDS_MAX: u64 = 300;

/// What the browser may do with our pages: our own style and script, nothing inline, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// How much a route's body may hold.
pub(super) fn limit_of(path: &str) -> DefaultBodyLimit {
    DefaultBodyLimit::max(if path == "/packages" { UPLOAD_BYTES_MAX } else { JSON_BYTES_MAX })
}

/// The router with everything around it.
pub(super) fn around(router: Router<Hub>) -> Router<Hub> {
    router
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(within_time))
        .layer(CatchPanicLayer::custom(caught))
        .layer(from_fn(with_headers))
}

async fn nowhere(uri: Uri, headers: HeaderMap) -> Response {
    let problem = Problem::not_found("no_such_route", format!("nothing is at {}", uri.path()))
        .hint("GET /api/v1/openapi.json lists every route; the dashboard begins at /");
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") && !uri.path().starts_with("/api/") {
        return crate::dashboard::refusal(&problem);
    }
    problem.into_response()
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", format!("{} does not take {method}", uri.path()))
        .hint("GET /api/v1/openapi.json lists the methods of every route")
}

async fn within_time(request: Request, next: Next) -> Response {
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let seconds = if reading { READ_SECONDS_MAX } else { WRITE_SECONDS_MAX };
    let path = request.uri().path().to_owned();
    // A backup of many packages takes as long as the disk needs; one is made at a time.
    if path == "/api/v1/backup" {
        return next.run(request).await;
    }
    match tokio::time::timeout(Duration::from_secs(seconds), next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable("too_slow", format!("{path} took longer than {seconds} seconds"))
            .hint("try again; if it stays so, look at the hub's log")
            .into_response(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the layer hands the panic over")]
fn caught(panic: Box<dyn Any + Send + 'static>) -> Response {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = said.unwrap_or("?"), "a request panicked");
    Problem::internal("the hub stumbled over this request").into_response()
}

async fn with_headers(request: Request, next: Next) -> Response {
    let asset = request.uri().path().starts_with("/assets/");
    let mut response = next.run(request).await;
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if !asset {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Tells the OpenAPI document that callers carry a bearer token.
pub(super) struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}
