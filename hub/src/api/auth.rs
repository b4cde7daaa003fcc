//! Who calls: the extractor that every handler asks, and the guard against cross-site writes.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};

use super::error::Problem;
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
            return hub.authenticate_bearer(token);
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
        let caller = |role| Caller { name: "x".to_owned(), role };
        assert!(caller(Role::Operator).need(Role::Viewer).is_ok());
        assert!(caller(Role::Operator).need(Role::Approver).is_err());
        assert!(caller(Role::Admin).need(Role::Publisher).is_ok());
        assert_eq!(caller(Role::Viewer).need(Role::Operator).unwrap_err().status, 403);
    }
}
