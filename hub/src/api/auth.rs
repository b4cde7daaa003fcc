//! Who calls: the extractor that every handler asks, and the guard against cross-site writes.
//! What a limited token may use is checked here too, so that no route can forget it.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};

use super::attempts::Door;
use super::error::Problem;
use super::scope::{self, Scope};
use super::types::Role;
use crate::drive::Hub;

/// Name of the dashboard's session cookie.
pub const SESSION_COOKIE: &str = "bellwether_session";

/// Whoever makes a request, after the hub checked it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token or session; what the audit trail shows.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What it is limited to besides; nothing, if empty.
    pub scopes: Vec<Scope>,
}

impl Caller {
    /// Checks that the caller may do what needs `role`.
    ///
    /// # Errors
    ///
    /// 403 `forbidden`, naming both roles.
    pub fn need(&self, role: Role) -> Result<(), Problem> {
        if self.role.may(role) {
            return Ok(());
        }
        let (has, needs) = (self.role.name(), role.name());
        Err(Problem::forbidden(format!("{} has the role {has}; this needs {needs}", self.name))
            .hint(format!("use a token with the role {needs}: `bellwether token new NAME --role {needs}`")))
    }
}

impl Caller {
    /// Whether the caller's token reaches a model of this name.
    #[must_use]
    pub fn covers(&self, model: &str) -> bool {
        scope::covers(&self.scopes, model)
    }

    /// Checks that the caller's token reaches a model of this name.
    ///
    /// # Errors
    ///
    /// 403 `out_of_scope`.
    pub fn need_model(&self, model: &str) -> Result<(), Problem> {
        if self.covers(model) { Ok(()) } else { Err(self.out_of_scope(&format!("the model {model:.60}"))) }
    }

    fn out_of_scope(&self, what: &str) -> Problem {
        let scopes = self.scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let text = format!("the token {} is limited to {scopes}, which leaves out {what}", self.name);
        Problem::new(axum::http::StatusCode::FORBIDDEN, "out_of_scope", text)
            .hint("use a token with other scopes: `bellwether token new NAME --role ROLE --scope SCOPE`")
    }

    /// Checks that the caller's token may use the route of this request.
    async fn within_scopes(&self, parts: &mut Parts) -> Result<(), Problem> {
        if self.scopes.is_empty() {
            return Ok(());
        }
        let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
        if !scope::allows(&self.scopes, &parts.method, &route) {
            return Err(self.out_of_scope(&format!("{} {route}", parts.method)));
        }
        if route.contains("{name}") {
            let named = RawPathParams::from_request_parts(parts, &()).await;
            let named = named.map_err(|refused| Problem::bad_request("bad_path", refused.body_text()))?;
            for (_, model) in named.iter().filter(|(key, _)| *key == "name") {
                self.need_model(model)?;
            }
        }
        Ok(())
    }
}

/// Where a request comes from, if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub Option<IpAddr>);

impl Peer {
    fn of(parts: &Parts) -> Self {
        Self(parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(parts))
    }
}

/// The secret of a browser's session, as it goes into the cookie.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken(pub String);

impl std::fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionToken(…)")
    }
}

impl FromRequestParts<Hub> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self, Problem> {
        if let Some(token) = bearer(&parts.headers)? {
            let caller =
                hub.authenticate_bearer(token).map_err(|wrong| hub.wrong(Door::Bearer, Peer::of(parts), wrong))?;
            caller.within_scopes(parts).await?;
            return Ok(caller);
        }
        let Some(session) = session_cookie(&parts.headers) else {
            return Err(Problem::unauthenticated("the request carries no token"));
        };
        same_site(&parts.method, &parts.headers)?;
        hub.session(session)
    }
}

/// The bearer token of a request, if it has one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    token.map(Some).ok_or_else(|| Problem::unauthenticated("the Authorization header is not `Bearer TOKEN`"))
}

/// The session's secret in the cookie header, if there is one.
#[must_use]
pub fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == SESSION_COOKIE)
        .map(|(_, value)| value)
}

/// Refuses a write that another site's page makes with this browser's cookie.
///
/// # Errors
///
/// 403 `cross_site`.
pub fn same_site(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    same_origin(headers)
}

/// Refuses what another site's page sends, whatever the method: sockets open with GET.
///
/// # Errors
///
/// 403 `cross_site`.
pub fn same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let refused = |origin: &str| {
        Problem::new(
            axum::http::StatusCode::FORBIDDEN,
            "cross_site",
            format!("a page of another site ({origin}) made this request"),
        )
        .hint("act from the hub's own pages, or use an API token")
    };
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site"))
        && !matches!(site, "same-origin" | "none")
    {
        return Err(refused(site));
    }
    if let Some(origin) = text(header::ORIGIN) {
        let host = text(header::HOST).unwrap_or_default();
        let from = origin.split_once("://").map(|(_, rest)| rest);
        if from != Some(host) {
            return Err(refused(origin));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn writes_from_other_sites_are_refused_and_own_ones_pass() {
        let host = ("host", "hub.example:8080");
        let refused = |pairs: &[_]| same_site(&Method::POST, &headers(pairs)).is_err();
        assert!(refused(&[host, ("origin", "http://evil.example")]));
        assert!(refused(&[host, ("origin", "null")]));
        assert!(refused(&[host, ("sec-fetch-site", "same-site")]));
        assert!(!refused(&[host, ("origin", "http://hub.example:8080"), ("sec-fetch-site", "same-origin")]));
        assert!(!refused(&[host]));
        assert!(same_site(&Method::GET, &headers(&[host, ("sec-fetch-site", "cross-site")])).is_ok());
        assert!(same_origin(&headers(&[host, ("sec-fetch-site", "cross-site")])).is_err());
    }

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let found = headers(&[("cookie", "a=b; bellwether_session=xyz; c=d")]);
        assert_eq!(session_cookie(&found), Some("xyz"));
        assert_eq!(session_cookie(&headers(&[("cookie", "xbellwether_session=1")])), None);
    }

    #[test]
    fn a_token_is_read_only_from_a_bearer_header() {
        assert_eq!(bearer(&headers(&[("authorization", "bearer abc")])).unwrap(), Some("abc"));
        assert!(bearer(&headers(&[("authorization", "Basic abc")])).is_err());
        assert_eq!(bearer(&headers(&[])).unwrap(), None);
    }

    #[test]
    fn roles_open_what_they_should() {
        let caller = |role| Caller { name: "x".to_owned(), role, scopes: Vec::new() };
        assert!(caller(Role::Operator).need(Role::Viewer).is_ok());
        assert!(caller(Role::Operator).need(Role::Approver).is_err());
        assert!(caller(Role::Admin).need(Role::Publisher).is_ok());
        assert_eq!(caller(Role::Viewer).need(Role::Operator).unwrap_err().status, 403);
    }
}
