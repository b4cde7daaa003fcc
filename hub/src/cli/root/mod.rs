//! The root of trust: make it once, rotate it, pin it, look at it.
//!
//! Rooms: [`body`] roots as values; [`words`] what they say; here the ceremony around them.

pub(super) mod body;
mod draft;
pub(super) mod words;

use bellwether_protocol::trust::{FleetId, TrustedRoot};
use serde::Serialize;

use super::Context;
use super::ceremony::RootCommand;
use super::failure::{Exit, Failure};
use super::release::{Held, chain, refused};
use crate::api::types::FleetView;

pub(super) use draft::{End, end, enroll};

pub(super) async fn run(context: &Context, command: RootCommand) -> Result<Exit, Failure> {
    match command {
        RootCommand::Init(given) => draft::init(context, &given).await,
        RootCommand::Rotate(given) => draft::rotate(context, *given).await,
        RootCommand::Show => show(context).await,
        RootCommand::Pin { fleet } => pin(context, &fleet).await,
    }
}

fn say_fleet(context: &Context, made: &FleetView, next: &str) -> Result<Exit, Failure> {
    context.output.one(
        made,
        &[("fleet", made.fleet.clone()), ("pinned for", context.client.base().to_owned())],
        &made.fleet,
    )?;
    if context.output.for_people() {
        eprintln!("next: {next}");
    }
    Ok(Exit::Ok)
}

/// A key as it is shown.
#[derive(Serialize)]
struct Shown {
    person: String,
    roles: Vec<String>,
    class: &'static str,
    prefix: String,
    status: &'static str,
    id: String,
    public: String,
}

async fn show(context: &Context) -> Result<Exit, Failure> {
    let trusted = chain(context).await?.trusted;
    let root = trusted.root();
    if context.output.for_people() {
        let now = &root.thresholds;
        eprintln!("fleet {} · root version {}", trusted.fleet(), root.version);
        let offline = if root.offline_approval { " · one approval outside browsers" } else { "" };
        eprintln!("approve {} · grant {} · root {} persons{offline}", now.approve, now.grant, now.root);
    }
    let keys: Vec<Shown> = root
        .keys
        .iter()
        .map(|key| Shown {
            person: key.person.to_string(),
            roles: words::roles(key.roles),
            class: words::class(key.class),
            prefix: key.prefix.to_string(),
            status: words::status(key.status),
            id: key.id().to_string(),
            public: key.public.to_string(),
        })
        .collect();
    context.output.list(
        &keys,
        &[
            ("PERSON", &|key| key.person.clone()),
            ("MAY", &|key| key.roles.join(",")),
            ("OF", &|key| if key.prefix.is_empty() { "all".to_owned() } else { format!("{}*", key.prefix) }),
            ("KEPT IN", &|key| key.class.to_owned()),
            ("STATUS", &|key| key.status.to_owned()),
            ("ID", &|key| key.id.clone()),
        ],
        |key| key.id.clone(),
        "no key",
    )?;
    Ok(Exit::Ok)
}

async fn pin(context: &Context, fleet: &str) -> Result<Exit, Failure> {
    let fleet: FleetId = fleet.parse().map_err(|bad| Failure::new(Exit::Usage, format!("`{fleet}`: {bad}")))?;
    let view = context.client.root().await?;
    let statement = Held::read(&view.statement)?;
    TrustedRoot::first(fleet, &statement.signed()?)
        .map_err(|reject| refused(&format!("the hub's root is not that of {fleet}"), reject))?;
    context.home.pin(context.client.base(), fleet)?;
    say_fleet(context, &FleetView { fleet: fleet.to_string() }, "approve what waits: bellwether model list")
}
