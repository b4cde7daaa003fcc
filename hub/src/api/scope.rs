//! What an API token is limited to, beyond its role: to reading, to groups of routes, to models
//! whose names begin so. What is not named is refused, and so is every route that no group knows.

use std::str::FromStr;

use axum::http::Method;
use serde::{Deserialize, Serialize};

/// Scopes of one token: more would be a role of its own.
pub const SCOPES_MAX: usize = 16;

/// One limit: `read`, a group such as `models:write`, or `model=PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// Reads everything its role may read.
    Read,
    /// Uses the routes of one group.
    Use(Group),
    /// Only models whose names begin with this.
    Models(String),
}

/// A group of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Packages, versions and releases.
    Models,
    /// Signatures, refusals and grants.
    Approvals,
    /// Rollouts.
    Rollouts,
    /// Tags, reports and removal of devices.
    Devices,
    /// Enrolment tokens, nothing else.
    Enrol,
    /// Webhooks.
    Webhooks,
    /// The root and requests to be listed in it.
    Keys,
}

impl Group {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Models, "models:write"),
        (Self::Approvals, "approvals:write"),
        (Self::Rollouts, "rollouts:write"),
        (Self::Devices, "devices:write"),
        (Self::Enrol, "devices:enrol"),
        (Self::Webhooks, "webhooks:write"),
        (Self::Keys, "keys:write"),
    ];

    /// The group a route belongs to; tokens and backups belong to none, so that no limited token
    /// makes an unlimited one.
    fn of(route: &str) -> Option<Self> {
        let path = route.strip_prefix("/api/v1/")?;
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        Some(match first {
            "packages" => Self::Models,
            "models" if ["/signatures", "/rejection", "/grants"].iter().any(|end| rest.ends_with(end)) => {
                Self::Approvals
            }
            "models" => Self::Models,
            "approvals" => Self::Approvals,
            "rollouts" => Self::Rollouts,
            "devices" if rest == "tokens" => Self::Enrol,
            "devices" => Self::Devices,
            "webhooks" => Self::Webhooks,
            "root" | "keys" | "recalls" | "checkpoints" => Self::Keys,
            _ => return None,
        })
    }
}

/// A text that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no scope: write read, model=PREFIX, or one of models:write, approvals:write, rollouts:write, \
     devices:write, devices:enrol, webhooks:write, keys:write"
)]
pub struct BadScope(String);

impl FromStr for Scope {
    type Err = BadScope;

    fn from_str(text: &str) -> Result<Self, BadScope> {
        let bad = || BadScope(text.chars().take(80).collect());
        if text == "read" {
            return Ok(Self::Read);
        }
        if let Some(prefix) = text.strip_prefix("model=") {
            let fits = !prefix.is_empty()
                && prefix.len() <= 48
                && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
            return if fits { Ok(Self::Models(prefix.to_owned())) } else { Err(bad()) };
        }
        let group = Group::ALL.into_iter().find(|(_, name)| *name == text);
        group.map(|(group, _)| Self::Use(group)).ok_or_else(bad)
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read => f.write_str("read"),
            Self::Models(prefix) => write!(f, "model={prefix}"),
            Self::Use(group) => {
                let name = Group::ALL.into_iter().find(|(known, _)| known == group).map(|(_, name)| name);
                f.write_str(name.unwrap_or("?"))
            }
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = BadScope;

    fn try_from(text: String) -> Result<Self, BadScope> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

/// Whether a token with these scopes may use a route, named as the router names it. Without scopes
/// only its role counts.
#[must_use]
pub fn allows(scopes: &[Scope], method: &Method, route: &str) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    // Whom the fleet believes is signed and no secret, and every signer must know it.
    let believed = ["root", "recalls", "checkpoints"];
    let first = route.strip_prefix("/api/v1/").and_then(|path| path.split('/').next()).unwrap_or_default();
    if reads && believed.contains(&first) {
        return true;
    }
    let group = Group::of(route);
    let by_model = scopes.iter().any(|scope| matches!(scope, Scope::Models(_)));
    // Limited to models, it uses what is about one model, and lists that leave the others out.
    let about_models = match group {
        Some(Group::Models | Group::Approvals | Group::Rollouts) => true,
        Some(Group::Devices | Group::Enrol | Group::Webhooks | Group::Keys) => false,
        None => route.starts_with("/api/v1/monitors"),
    };
    if by_model && !about_models {
        return false;
    }
    let mut named = scopes.iter().filter(|scope| !matches!(scope, Scope::Models(_))).peekable();
    if named.peek().is_none() {
        return true;
    }
    named.any(|scope| match scope {
        Scope::Read => reads && !route.ends_with("/backup"),
        Scope::Use(Group::Enrol) => group == Some(Group::Enrol),
        Scope::Use(used) => group == Some(*used),
        Scope::Models(_) => false,
    })
}

/// Whether these scopes reach a model of this name.
#[must_use]
pub fn covers(scopes: &[Scope], model: &str) -> bool {
    let mut prefixes = scopes.iter().filter_map(|scope| match scope {
        Scope::Models(prefix) => Some(prefix),
        Scope::Read | Scope::Use(_) => None,
    });
    let mut any = false;
    prefixes.any(|prefix| {
        any = true;
        model.starts_with(prefix.as_str())
    }) || !any
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(texts: &[&str]) -> Vec<Scope> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_scope_reads_back_as_it_was_written() {
        for text in ["read", "model=digits", "models:write", "devices:enrol", "keys:write"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for bad in ["", "write", "models", "models:read", "model=", "model=Digits", "model=a b", "tokens:write"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_named_is_refused() {
        let may =
            |texts: &[&str], method: Method, path: &str| allows(&scopes(texts), &method, &format!("/api/v1{path}"));
        let version = "/models/{name}/versions";
        assert!(may(&[], Method::DELETE, "/tokens/{id}"));
        assert!(may(&["read"], Method::GET, "/devices"));
        assert!(!may(&["read"], Method::POST, version));
        assert!(!may(&["read"], Method::GET, "/backup"), "a backup holds the hub's keys");
        assert!(may(&["models:write"], Method::POST, version));
        assert!(may(&["models:write"], Method::GET, version));
        assert!(!may(&["models:write"], Method::POST, "/models/{name}/versions/{version}/signatures"));
        assert!(!may(&["models:write"], Method::GET, "/devices"));
        assert!(may(&["devices:enrol"], Method::POST, "/devices/tokens"));
        assert!(!may(&["devices:enrol"], Method::DELETE, "/devices/{id}"));
        assert!(!may(&["devices:write"], Method::POST, "/devices/tokens"));
        for texts in [&["read"][..], &["models:write"], &["model=digits"], &["keys:write"]] {
            assert!(!may(texts, Method::POST, "/tokens"), "{texts:?} makes tokens");
        }
        assert!(!may(&["models:write"], Method::POST, "/something/new"));
        for texts in [&["devices:enrol"][..], &["model=digits"]] {
            assert!(may(texts, Method::GET, "/recalls") && may(texts, Method::GET, "/checkpoints/latest"));
            assert!(!may(texts, Method::POST, "/recalls"), "{texts:?} recalls");
        }
    }

    #[test]
    fn a_token_for_some_models_uses_nothing_that_is_not_about_models() {
        let limited = scopes(&["model=digits", "model=wake"]);
        assert!(covers(&limited, "digits-small") && covers(&limited, "wake") && !covers(&limited, "vision"));
        assert!(covers(&scopes(&["read"]), "vision"));
        let may = |method: Method, path: &str| allows(&limited, &method, path);
        assert!(may(Method::POST, "/api/v1/models/{name}/versions"));
        assert!(may(Method::GET, "/api/v1/monitors/{name}/{version}"));
        for path in ["/api/v1/devices", "/api/v1/events", "/api/v1/data/export", "/api/v1/overview", "/metrics"] {
            assert!(!may(Method::GET, path), "{path}");
        }
    }
}
