//! Drafts of roots: the first, and the one after a change. People sign them here or, as a file, where
//! their keys are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bellwether_protocol::heapless;
use bellwether_protocol::trust::{
    FleetId, KeyEntry, KeyId, KeyStatus, PublicKey, RoleSet, Root, RootFault, Signed, Thresholds,
};

use super::body::{BodyError, Changes, HubKeys, entry, first, next};
use super::{say_fleet, words};
use crate::api::types::HubView;
use crate::cli::Context;
use crate::cli::ask::confirm;
use crate::cli::ceremony::{Draft, Enroll, InitRoot, KeyRole, Rotate};
use crate::cli::failure::{Exit, Failure};
use crate::cli::handover::{self, Document, Kind, hand_over};
use crate::cli::key::{Class, PublicFile, public, signers};
use crate::cli::release::{Chain, Held, body_of, chain, signed_by};
use crate::cli::signer::Signer;

const DECIDES: RoleSet = RoleSet::APPROVE.with(RoleSet::GRANT).with(RoleSet::ROOT);

pub(super) async fn init(context: &Context, given: &InitRoot) -> Result<Exit, Failure> {
    let hub = context.client.hub().await?;
    if let Some(fleet) = &hub.fleet {
        return Err(Failure::new(Exit::Conflict, format!("this hub has a root already: fleet {fleet}"))
            .next("a fleet keeps its first root; `bellwether root rotate` drafts the next version of it"));
    }
    let thresholds = Thresholds {
        root: given.root_threshold.unwrap_or(given.approve_threshold),
        approve: given.approve_threshold,
        grant: given.grant_threshold,
    };
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|fault| Failure::error(format!("no randomness: {fault}")))?;
    let root = first(nonce, people(context, given)?, &hub_keys(&hub)?, thresholds, given.offline_approval)
        .map_err(|fault| impossible(&fault))?;
    let here: Vec<String> = given.approvers.iter().filter(|key| Signer::is_here(&context.home, key)).cloned().collect();
    let signers = signers(&context.home, &here)?;
    let body = body_of(&root)?;
    let fleet = FleetId::of_root(&body);
    let held = signed_by::<Root>(fleet, &body, &signers)?;
    let document = Document::first_root(fleet, &held);
    if let Some(out) = &given.out {
        context.home.pin(context.client.base(), fleet)?;
        return hand_over(context, &document, out);
    }
    let standing = handover::standing(&document, None)?;
    if !standing.complete {
        let lines: Vec<String> = standing.needs.iter().map(handover::Need::line).collect();
        let cause = format!("the keys on this machine cannot sign the root alone: {}", lines.join("; "));
        return Err(Failure::new(Exit::NotFound, cause).next(
            "hand it over: add --out root-1.json; or lower --root-threshold, if one person may change the root",
        ));
    }
    let made = context.client.put_root(held.text()).await?;
    if made.fleet != fleet.to_string() {
        return Err(Failure::error(format!("the hub took another fleet than was signed: {}", made.fleet)));
    }
    context.home.pin(context.client.base(), fleet)?;
    say_fleet(context, &made, "register a model: bellwether model register NAME FILE --vectors FILE --key KEY")
}

/// Everybody with their roles; a key named for two roles gets both.
fn people(context: &Context, given: &InitRoot) -> Result<Vec<KeyEntry>, Failure> {
    let mut prefixes: BTreeMap<&str, &str> =
        given.prefixes.iter().map(|(key, prefix)| (key.as_str(), prefix.as_str())).collect();
    let with = |names: &'static str, keys: &[String], roles: RoleSet| {
        keys.iter().map(|key| (names, key.clone(), roles)).collect::<Vec<_>>()
    };
    let all = [
        with("--publisher", &given.publishers, RoleSet::PUBLISH),
        with("--approver", &given.approvers, DECIDES),
        with("--witness", &given.witnesses, RoleSet::WITNESS),
    ];
    let mut entries: Vec<KeyEntry> = Vec::new();
    for (_, name, roles) in all.into_iter().flatten() {
        let file = public(&context.home, &name)?;
        let prefix = prefixes.remove(name.as_str());
        match entries.iter_mut().find(|known| known.public.to_string() == file.public) {
            Some(known) => known.roles = known.roles.with(roles),
            None => entries.push(entry_of(&file, roles, prefix.unwrap_or_default())?),
        }
    }
    match prefixes.keys().next() {
        Some(stray) => {
            Err(Failure::new(Exit::Usage, format!("--prefix names `{stray}`, which is no key of this root")))
        }
        None => Ok(entries),
    }
}

fn entry_of(file: &PublicFile, roles: RoleSet, prefix: &str) -> Result<KeyEntry, Failure> {
    entry(file.key()?, file.person()?, roles, file.class()?.into(), prefix).map_err(|fault| impossible(&fault))
}

fn hub_keys(hub: &HubView) -> Result<HubKeys, Failure> {
    let read = |text: &str| -> Result<PublicKey, Failure> {
        text.parse().map_err(|bad| Failure::error(format!("the hub's key: {bad}")))
    };
    Ok(HubKeys { director: read(&hub.director_key)?, registry: read(&hub.registry_key)?, time: read(&hub.time_key)? })
}

fn impossible(fault: &BodyError) -> Failure {
    let failure = Failure::new(Exit::Conflict, fault.to_string());
    match fault {
        BodyError::Fault(RootFault::SameTag(..)) => failure,
        BodyError::Fault(_) => failure.next("give more persons such a key, or lower the threshold"),
        BodyError::NoKey(_) => failure.next("bellwether root show lists the keys"),
        BodyError::TooManyKeys(_) => failure
            .next("make room: bellwether root rotate --forget KEY, of keys that ended and whose releases are gone"),
        BodyError::Prefix(_)
        | BodyError::IsIn { .. }
        | BodyError::Ended(_)
        | BodyError::Hubs(_)
        | BodyError::Counts(_)
        | BodyError::Nothing
        | BodyError::Counter => failure,
    }
}

pub(super) async fn rotate(context: &Context, given: Rotate) -> Result<Exit, Failure> {
    let chain = chain(context).await?;
    let now = chain.trusted.root();
    let mut changes = Changes {
        root: given.root_threshold,
        approve: given.approve_threshold,
        grant: given.grant_threshold,
        offline_approval: given.offline_approval,
        director: given.new_director,
        registry: given.new_registry,
        time: given.new_time,
        ..Changes::default()
    };
    for key in &given.add {
        changes.add.push(entry_of(&public(&context.home, key)?, roles(&given.roles), &given.prefix)?);
    }
    for id in &given.request {
        changes.add.push(entry_of(&requested(context, id).await?, roles(&given.roles), &given.prefix)?);
    }
    for (keys, status) in [(&given.retire, KeyStatus::Retired), (&given.revoke, KeyStatus::Revoked)] {
        for key in keys {
            changes.end.push((id_of(context, now, key)?, status));
        }
    }
    for key in &given.forget {
        changes.forget.push(id_of(context, now, key)?);
    }
    let root = next(now, &changes).map_err(|fault| impossible(&fault))?;
    write(context, &chain, &root, &given.draft)
}

/// Drafts the next root with one key more.
pub(in crate::cli) async fn enroll(context: &Context, given: Enroll) -> Result<Exit, Failure> {
    let rotation = Rotate {
        add: given.key.into_iter().collect(),
        request: given.request.into_iter().collect(),
        roles: given.roles,
        prefix: given.prefix,
        draft: given.draft,
        ..Rotate::default()
    };
    rotate(context, rotation).await
}

/// How a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum End {
    Retire,
    Revoke,
}

/// Drafts the next root in which a key has ended.
pub(in crate::cli) async fn end(context: &Context, key: &str, how: End, draft: Draft) -> Result<Exit, Failure> {
    let keys = vec![key.to_owned()];
    let rotation = match how {
        End::Retire => Rotate { retire: keys, draft, ..Rotate::default() },
        End::Revoke => Rotate { revoke: keys, draft, ..Rotate::default() },
    };
    rotate(context, rotation).await
}

fn roles(given: &[KeyRole]) -> RoleSet {
    given.iter().fold(RoleSet(0), |set, role| {
        set.with(match role {
            KeyRole::Publish => RoleSet::PUBLISH,
            KeyRole::Approve => RoleSet::APPROVE,
            KeyRole::Grant => RoleSet::GRANT,
            KeyRole::Root => RoleSet::ROOT,
            KeyRole::Witness => RoleSet::WITNESS,
        })
    })
}

/// The key of a request that waits at the hub; the hub is believed nothing: whoever signs the root
/// sees person, class and id, and compares the id with its owner.
async fn requested(context: &Context, id: &str) -> Result<PublicFile, Failure> {
    let requests = context.client.key_requests().await?.items;
    let Some(found) = requests.into_iter().find(|request| request.id == id) else {
        return Err(Failure::new(Exit::NotFound, format!("no request at the hub has the id {id}"))
            .next("its owner sees the id where the key was made"));
    };
    let file = PublicFile {
        name: found.name,
        public: found.public,
        id: found.id,
        person: found.person,
        class: found.class,
        ..PublicFile::default()
    };
    if file.key()?.id().to_string() != id {
        return Err(Failure::new(Exit::Conflict, format!("the hub's request {id} holds another key"))
            .next("do not enrol it; tell whoever runs the hub"));
    }
    if file.class()? == Class::File {
        eprintln!("! the key {id} is kept in a file, by the word of whoever posted it");
    }
    eprintln!("compare with {}: the key's id is {id}", file.person);
    Ok(file)
}

/// A key of the root: by its id, or by the name or `.pub` file of its public half.
fn id_of(context: &Context, root: &Root, key: &str) -> Result<KeyId, Failure> {
    if let Ok(id) = key.parse::<KeyId>() {
        return Ok(id);
    }
    if let Ok(file) = public(&context.home, key) {
        return Ok(file.key()?.id());
    }
    let theirs: Vec<KeyId> = root
        .keys
        .iter()
        .filter(|entry| entry.person.as_str() == key && entry.status == KeyStatus::Active)
        .map(KeyEntry::id)
        .collect();
    match theirs.as_slice() {
        [id] => Ok(*id),
        [] => Err(Failure::new(Exit::NotFound, format!("`{key}` is no key here, no id and no person of the root"))
            .next("bellwether root show lists ids and persons")),
        _ => Err(Failure::new(Exit::Conflict, format!("{key} has {} keys in use", theirs.len()))
            .next("name one by its id; bellwether root show lists them")),
    }
}

/// Shows a draft, signs it with the keys given, writes it.
fn write(context: &Context, chain: &Chain, root: &Root, draft: &Draft) -> Result<Exit, Failure> {
    for line in words::differences(chain.trusted.root(), root) {
        eprintln!("{line}");
    }
    let signers = signers(&context.home, &draft.keys)?;
    if !signers.is_empty() {
        confirm("Sign this?", draft.yes)?;
    }
    let body = body_of(root)?;
    let unsigned = Held::of(&Signed { body: &body, signatures: heapless::Vec::new() })?;
    let document = handover::add(&Document::new(Kind::Root, chain, &unsigned), &signers)?;
    let out = draft.out.clone().unwrap_or_else(|| PathBuf::from(format!("root-{}.json", root.version)));
    hand_over(context, &document, &out)
}
