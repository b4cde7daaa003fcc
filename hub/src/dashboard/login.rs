//! Logging in and out: by the one-time link the hub prints, or by an API token.

use axum::Form;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use crate::api::attempts::Door;
use crate::api::auth::{Peer, SESSION_COOKIE, SessionToken, same_site, session_cookie};
use crate::api::error::Problem;
use crate::api::input::Asked;
use crate::drive::Hub;

use super::pieces::shell;
use super::shell::{bare, mark};

/// What the address of the login page may carry.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Arrival {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    next: Option<String>,
}

/// The login page; with a one-time code the login itself.
pub(super) async fn arrive(State(hub): State<Hub>, peer: Peer, Asked(arrival): Asked<Arrival>) -> Response {
    let next = arrival.next.as_deref().unwrap_or("/");
    match arrival.code.as_deref().map(|code| hub.guarded(Door::Login, peer, || hub.login_code(code))) {
        Some(Ok(session)) => enter(&hub, &session, next),
        Some(Err(problem)) => form(Some(&problem), next),
        None => form(None, next),
    }
}

/// What the form sends.
#[derive(Debug, Deserialize)]
pub(super) struct Pasted {
    token: String,
    #[serde(default)]
    next: Option<String>,
}

/// Takes a pasted token.
pub(super) async fn paste(
    State(hub): State<Hub>,
    peer: Peer,
    headers: HeaderMap,
    Form(pasted): Form<Pasted>,
) -> Response {
    let next = pasted.next.as_deref().unwrap_or("/");
    let log_in = || hub.guarded(Door::Login, peer, || hub.login_token(pasted.token.trim()));
    let session = same_site(&Method::POST, &headers).and_then(|()| log_in());
    match session {
        Ok(session) => enter(&hub, &session, next),
        Err(problem) => form(Some(&problem), next),
    }
}

/// Ends the session, its sockets included.
pub(super) async fn leave(State(hub): State<Hub>, headers: HeaderMap) -> Response {
    if let Err(problem) = same_site(&Method::POST, &headers) {
        return super::refusal(&problem);
    }
    if let Some(session) = session_cookie(&headers) {
        hub.logout(session);
    }
    let mut response = Redirect::to("/login").into_response();
    set_cookie(&hub, &mut response, &format!("{SESSION_COOKIE}=; Path=/; Max-Age=0"));
    response
}

/// Goes on to the page asked for. A page in between rather than a redirect: after a link from
/// elsewhere the browser would not send a strict cookie along with the redirect.
fn enter(hub: &Hub, session: &SessionToken, next: &str) -> Response {
    let next = super::overview::local(next);
    let refresh = format!("0; url={next}");
    let body = html! {
        (mark()) h1 { "Logged in" } p { a.btn.main href=(next) { "Go on to the dashboard" } }
    };
    let mut response = super::html_response(&bare("Logged in", &body));
    if let Ok(value) = HeaderValue::from_str(&refresh) {
        response.headers_mut().insert(header::REFRESH, value);
    }
    set_cookie(hub, &mut response, &format!("{SESSION_COOKIE}={}; Path=/", session.0));
    response
}

/// Sets a cookie that no script reads, no other site sends, and that leaves only by HTTPS if we came so.
fn set_cookie(hub: &Hub, response: &mut Response, cookie: &str) {
    let secure = if hub.is_https() { "; Secure" } else { "" };
    if let Ok(value) = HeaderValue::from_str(&format!("{cookie}; HttpOnly; SameSite=Strict{secure}")) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
}

fn form(refused: Option<&Problem>, next: &str) -> Response {
    let body = page(refused, next);
    let mut response = super::html_response(&bare("Log in", &body));
    if let Some(problem) = refused {
        *response.status_mut() = problem.status_code();
        problem.mark(response.headers_mut());
    }
    response
}

fn page(refused: Option<&Problem>, next: &str) -> Markup {
    html! {
        div.brand { (mark()) span { "Bellwether" } }
        h1 { "Log in" }
        @if let Some(problem) = refused {
            p.stale role="alert" { "! " (problem.detail) }
            @if !problem.hint.is_empty() { p.soft { (problem.hint) } }
        }
        form.stack method="post" action="/login" {
            input type="hidden" name="next" value=(next);
            label { "API token" input type="password" name="token" required autocomplete="current-password" spellcheck="false"; }
            button.btn.main type="submit" { "Log in" }
        }
        p.soft { "The hub prints a one-time link and a first token when it first starts. More tokens come from:" }
        (shell("bellwether token new NAME --role operator"))
    }
}
