//! Checks what the command line needs, and prints the mend for each failure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Context;
use super::failure::{Exit, Failure};
use super::home::private;
use super::key;
use super::release::trusted_root;
use crate::api::types::HubView;

/// Clocks further apart than this confuse whoever compares logs.
const SKEW_MS_MAX: u64 = 30_000;
/// How long the broker may take to accept.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    found: String,
    mend: Option<String>,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, ok: true, found: found.into(), mend: None }
    }

    fn bad(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, ok: false, found: found.into(), mend: Some(mend.into()) }
    }
}

pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let mut checks = Vec::new();
    match context.client.hub().await {
        Ok(hub) => {
            checks.push(Check::good("hub", format!("{} {}", context.client.base(), hub.version)));
            checks.push(work(&hub));
            checks.push(token(context).await);
            checks.push(root(context, &hub).await);
            checks.push(broker(&hub).await);
            checks.push(clock(&hub));
        }
        Err(error) => {
            let mend = error.hint().unwrap_or_default();
            checks.push(Check::bad("hub", error.to_string(), mend));
        }
    }
    checks.push(keys(context));
    context.output.list(
        &checks,
        &[
            ("CHECK", &|check: &Check| check.name.to_owned()),
            ("", &|check| if check.ok { "ok" } else { "FAILS" }.to_owned()),
            ("FOUND", &|check| check.found.clone()),
            ("MEND", &|check| check.mend.clone().unwrap_or_default()),
        ],
        |check| check.name.to_owned(),
        "nothing to check",
    )?;
    Ok(if checks.iter().all(|check| check.ok) { Exit::Ok } else { Exit::Error })
}

fn work(hub: &HubView) -> Check {
    let why = hub.refusing_because.clone().unwrap_or_else(|| "it does not say why".to_owned());
    if hub.accepting_work {
        Check::good("work", "the hub takes new work")
    } else {
        Check::bad("work", format!("the hub takes no new work: {why}"), "make room where the hub keeps its data")
    }
}

async fn token(context: &Context) -> Check {
    match context.client.overview().await {
        Ok(_) => Check::good("token", "the hub knows it"),
        Err(error) => {
            let mend = "bellwether login, with the token that the hub printed at its first start";
            Check::bad("token", error.to_string(), mend)
        }
    }
}

async fn root(context: &Context, hub: &HubView) -> Check {
    let Some(fleet) = &hub.fleet else {
        let mend = "bellwether root init --publisher KEY --approver KEY --approver KEY";
        return Check::bad("root", "the hub has no root yet", mend);
    };
    let mend = format!("compare the id with whoever made the root, then: bellwether root pin {fleet}");
    match (context.home.pinned(context.client.base()), trusted_root(context).await) {
        (Ok(None), _) => Check::bad("root", "no fleet is pinned here", mend),
        (Ok(Some(_)), Ok(root)) => Check::good("root", format!("fleet {} is pinned, and the hub's", root.fleet())),
        (Ok(Some(pinned)), Err(_)) => Check::bad("root", format!("{pinned} is pinned here, the hub has {fleet}"), mend),
        (Err(_), _) => Check::bad("root", "the file of pinned fleets cannot be read", mend),
    }
}

async fn broker(hub: &HubView) -> Check {
    let url = &hub.broker.url;
    let place = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest).trim_end_matches('/');
    match timeout(CONNECT_WITHIN, TcpStream::connect(place)).await {
        Ok(Ok(_)) => Check::good("broker", format!("{url} accepts connections")),
        Ok(Err(fault)) => Check::bad("broker", format!("{url}: {fault}"), "start the broker, or open its port"),
        Err(_) => Check::bad("broker", format!("{url} does not answer"), "open its port in the firewall"),
    }
}

fn clock(hub: &HubView) -> Check {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    let skew = now.abs_diff(hub.time_ms);
    if skew <= SKEW_MS_MAX {
        return Check::good("clock", format!("{skew} ms from the hub's"));
    }
    Check::bad("clock", format!("{} s from the hub's", skew / 1000), "set both clocks by NTP")
}

fn keys(context: &Context) -> Check {
    let Ok(found) = key::all(&context.home) else {
        return Check::bad("keys", "a public key file cannot be read", "bellwether key list");
    };
    let path = |name: &str| context.home.keys().join(format!("{name}.key"));
    let open = found.iter().map(|key| path(&key.name)).find(|path| path.exists() && private(path).is_err());
    match open {
        Some(path) => Check::bad(
            "keys",
            format!("{} may be read by others", path.display()),
            format!("chmod 600 {}", path.display()),
        ),
        None if found.is_empty() => Check::good("keys", "none on this machine, none needed to look on"),
        None => Check::good("keys", format!("{} here, the private halves for you only", found.len())),
    }
}
