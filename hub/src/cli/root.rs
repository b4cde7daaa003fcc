//! The root of trust: make it once, pin it, look at it.

use bellwether_protocol::SigningKey;
use bellwether_protocol::heapless;
use bellwether_protocol::id::Person;
use bellwether_protocol::trust::{FleetId, KeyClass, KeyEntry, KeyStatus, PublicKey, RoleSet, Root, Thresholds};

use super::Context;
use super::args::RootCommand;
use super::failure::{Exit, Failure};
use super::key;
use super::release::{Held, body_of, refused, signed_by};
use crate::api::types::{FleetView, HubView};

pub(super) async fn run(context: &Context, command: RootCommand) -> Result<Exit, Failure> {
    match command {
        RootCommand::Init { publishers, approvers, approve_threshold, grant_threshold } => {
            let thresholds = Thresholds { root: 1, approve: approve_threshold, grant: grant_threshold };
            init(context, &publishers, &approvers, thresholds).await
        }
        RootCommand::Show => show(context).await,
        RootCommand::Pin { fleet } => pin(context, &fleet).await,
    }
}

async fn init(
    context: &Context,
    publishers: &[String],
    approvers: &[String],
    thresholds: Thresholds,
) -> Result<Exit, Failure> {
    let hub = context.client.hub().await?;
    if let Some(fleet) = &hub.fleet {
        return Err(Failure::new(Exit::Conflict, format!("this hub has a root already: fleet {fleet}"))
            .next("a fleet keeps its first root; start a hub with an empty data directory for another fleet"));
    }
    let root = draft(context, &hub, publishers, approvers, thresholds)?;
    root.check().map_err(|fault| {
        Failure::new(Exit::Conflict, format!("this root cannot work: {fault}"))
            .next("add keys with --publisher and --approver, or lower --approve-threshold")
    })?;
    let signers = signers(context, approvers)?;
    let body = body_of(&root)?;
    let fleet = FleetId::of_root(&body);
    let made = context.client.put_root(signed_by::<Root>(fleet, &body, &signers)?).await?;
    if made.fleet != fleet.to_string() {
        return Err(Failure::error(format!("the hub took another fleet than was signed: {}", made.fleet)));
    }
    context.home.pin(context.client.base(), fleet)?;
    let next = "register a model: bellwether model register NAME FILE --vectors FILE --key KEY";
    say_fleet(context, &made, next)
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

fn draft(
    context: &Context,
    hub: &HubView,
    publishers: &[String],
    approvers: &[String],
    thresholds: Thresholds,
) -> Result<Root, Failure> {
    let approver = RoleSet::APPROVE.with(RoleSet::GRANT).with(RoleSet::ROOT);
    let people =
        publishers.iter().map(|name| (name, RoleSet::PUBLISH)).chain(approvers.iter().map(|name| (name, approver)));
    let mut entries = Vec::new();
    for (name, roles) in people {
        let file = key::public(&context.home, name)?;
        entries.push(entry(file.key()?, file.person()?, roles, KeyClass::File));
    }
    let person: Person = "hub".parse().map_err(|bad| Failure::error(format!("{bad}")))?;
    for (public, role) in [(&hub.director_key, RoleSet::DIRECTOR), (&hub.registry_key, RoleSet::REGISTRY)] {
        let public = public.parse().map_err(|bad| Failure::error(format!("the hub's key: {bad}")))?;
        entries.push(entry(public, person.clone(), role, KeyClass::Hub));
    }
    let count = entries.len();
    let keys = heapless::Vec::from_slice(&entries)
        .map_err(|_| Failure::new(Exit::Usage, format!("{count} keys are more than a root holds")))?;
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|fault| Failure::error(format!("no randomness: {fault}")))?;
    Ok(Root {
        version: 1,
        nonce,
        keys,
        thresholds,
        offline_approval: false,
        director_generation: 1,
        time_generation: 1,
    })
}

fn entry(public: PublicKey, person: Person, roles: RoleSet, class: KeyClass) -> KeyEntry {
    KeyEntry { public, person, roles, class, prefix: heapless::String::new(), status: KeyStatus::Active }
}

/// The private halves among the approvers' keys that are on this machine.
fn signers(context: &Context, approvers: &[String]) -> Result<Vec<SigningKey>, Failure> {
    let here = |name: &&String| context.home.keys().join(format!("{name}.key")).exists();
    let keys: Result<Vec<SigningKey>, Failure> =
        approvers.iter().filter(here).map(|name| key::private_half(&context.home, name)).collect();
    let keys = keys?;
    if keys.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            "no approver's private key is on this machine, so nobody can sign the root",
        )
        .next("run this where one of the approvers keeps a key"));
    }
    Ok(keys)
}

async fn show(context: &Context) -> Result<Exit, Failure> {
    let keys = context.client.root_keys().await?;
    if context.output.for_people() {
        let thresholds = &keys.thresholds;
        eprintln!("approve {} · grant {} · root {} persons", thresholds.approve, thresholds.grant, thresholds.root);
    }
    context.output.list(
        &keys.keys,
        &[
            ("PERSON", &|key| key.person.clone()),
            ("MAY", &|key| key.roles.join(",")),
            ("KEPT IN", &|key| key.class.clone()),
            ("STATUS", &|key| key.status.clone()),
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
    bellwether_protocol::trust::TrustedRoot::first(fleet, &statement.signed()?)
        .map_err(|reject| refused(&format!("the hub's root is not that of {fleet}"), reject))?;
    context.home.pin(context.client.base(), fleet)?;
    say_fleet(context, &FleetView { fleet: fleet.to_string() }, "approve what waits: bellwether model list")
}
