//! The dashboard: pages rendered on the server from the API's own values, kept current by pushed
//! fragments, operable without a script.
//!
//! ```text
//!  GET page ---> place::render ---> shell around it ---> HTML
//!  socket  ----> place::render ---> fragments that changed, one frame in flight  (live)
//!  POST form --> act: the same facade calls as the API ---> 303 to the page
//! ```
//! Every page module is a pure function of API values; only [`place`], [`act`], [`login`] and
//! [`live`] touch the hub.

mod act;
mod approval;
mod approvals;
mod browser_key;
mod compare;
mod device;
mod events;
mod fleet;
mod format;
mod grant;
mod histogram;
mod inputs;
mod keys;
mod live;
mod login;
mod model;
mod models;
mod monitor;
mod monitors;
mod offload;
mod overview;
mod pieces;
mod place;
mod rollout;
mod rollouts;
mod series;
mod shell;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{Markup, html};

use crate::api::auth::{Caller, session_cookie};
use crate::api::error::Problem;
use crate::api::input::At;
use crate::drive::Hub;

/// Pages, forms, the socket and the assets.
pub(crate) fn routes() -> Router<Hub> {
    let mut router = Router::new();
    for path in place::PATHS {
        router = router.route(path, get(visit));
    }
    router
        .route("/login", get(login::arrive).post(login::paste))
        .route("/logout", post(login::leave))
        .route("/rollouts/{id}/{action}", post(act::on_rollout))
        .route("/approvals/{name}/{version}/reject", post(act::reject))
        .route("/approvals/{name}/{version}/bytes", get(signed_bytes))
        .route("/keys/requests/{id}/withdraw", post(act::withdraw_key))
        .route("/models/{name}/{version}/rollout", post(act::start_rollout))
        .route("/devices/{id}/report", post(act::ask_report))
        .route("/devices/{id}/log", post(act::ask_log))
        .route("/devices/{id}/tags", post(act::set_tags))
        .route("/live", get(live::open))
        .route(
            "/assets/bellwether.css",
            get(|| asset("text/css; charset=utf-8", include_str!("assets/bellwether.css"))),
        )
        .route("/assets/live.js", get(|| script(include_str!("assets/live.js"))))
        .route("/assets/statement.js", get(|| script(include_str!("assets/statement.js"))))
        .route("/assets/browser-key.js", get(|| script(include_str!("assets/browser-key.js"))))
        .route("/assets/signing.js", get(|| script(include_str!("assets/signing.js"))))
        .route("/assets/grant.js", get(|| script(include_str!("assets/grant.js"))))
        .route("/assets/approve.js", get(|| script(include_str!("assets/approve.js"))))
        .route("/assets/keys.js", get(|| script(include_str!("assets/keys.js"))))
        .route("/assets/mark.svg", get(|| asset("image/svg+xml", include_str!("assets/mark.svg"))))
}

async fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

async fn script(text: &'static str) -> Response {
    asset("text/javascript; charset=utf-8", text).await
}

/// The exact bytes that a release's approvers sign, as a file: for whoever signs with other tools.
async fn signed_bytes(
    State(hub): State<Hub>,
    At((name, version)): At<(String, u32)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let detail = hub.approval(&visitor(&hub, &headers)?, &name, version)?;
    let bytes = detail.bytes.and_then(|text| hex::decode(text).ok()).ok_or_else(|| {
        Problem::not_found("no_release", format!("{name}:{version} was not published yet"))
            .hint("wait for its publisher")
    })?;
    let file = format!("attachment; filename=\"{}-{version}.release.bin\"", detail.version.name);
    let kind = "application/octet-stream".to_owned();
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, file)], bytes).into_response())
}

/// Whoever the browser's session belongs to.
fn visitor(hub: &Hub, headers: &HeaderMap) -> Result<Caller, Problem> {
    let session = session_cookie(headers).ok_or_else(|| Problem::unauthenticated("nobody is logged in here"))?;
    hub.session(session)
}

async fn visit(State(hub): State<Hub>, uri: Uri, headers: HeaderMap) -> Response {
    let address = uri.path_and_query().map_or("/", |address| address.as_str());
    let Ok(caller) = visitor(&hub, &headers) else {
        return Redirect::to(&format!("/login?{}", query(&[("next", Some(address.to_owned()))]))).into_response();
    };
    let shown = place::Place::parse(address).and_then(|place| place.document(&hub, &caller));
    match shown {
        Ok((document, _)) => html_response(&document),
        Err(problem) => refusal(&problem),
    }
}

fn html_response(document: &Markup) -> Response {
    let mut response = document.0.clone().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// A page that says what was refused, why, and what to do next.
pub(crate) fn refusal(problem: &Problem) -> Response {
    if problem.status_code() == StatusCode::UNAUTHORIZED {
        return Redirect::to("/login").into_response();
    }
    let body = html! {
        a.brand href="/" { (shell::mark()) span { "Bellwether" } }
        h1 { (problem.title) }
        p { (problem.detail) }
        @if !problem.hint.is_empty() { p.soft { (problem.hint) } }
        p { a.btn href="/" { "To the overview" } " " span.faint.mono { (problem.status) " " (problem.code) } }
    };
    let mut response = html_response(&shell::bare(&problem.title, &body));
    *response.status_mut() = problem.status_code();
    response
}

/// A query string of the parts that are there.
fn query(parts: &[(&str, Option<String>)]) -> String {
    let present = parts.iter().filter_map(|(name, value)| {
        let value = value.as_deref().filter(|value| !value.is_empty())?;
        Some(format!("{name}={}", encoded(value)))
    });
    present.collect::<Vec<_>>().join("&")
}

/// Everything but unreserved characters (RFC 3986, section 2.3) as `%XX`.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
