//! A release for programs that know in-toto: fetched, checked against the pinned root, written.

use std::path::PathBuf;

use bellwether_protocol::id::ModelRef;
use bellwether_protocol::trust::{KeyStatus, RoleSet, TrustedRoot};
use clap::Args;

use super::Context;
use super::failure::{Exit, Failure};
use super::home::write_new;
use super::release::{Held, refused, trusted_root};
use crate::api::types::{AttestationView, EnvelopeView};
use crate::dsse;

#[derive(Debug, Args)]
pub(super) struct Export {
    /// Model and version
    model: ModelRef,
    /// Where to, instead of stdout; it must not exist
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, given: &Export) -> Result<Exit, Failure> {
    let root = trusted_root(context).await?;
    let envelope = context.client.dsse(given.model.name.as_str(), given.model.version.number()).await?;
    check(&envelope, &root, &given.model)?;
    let Some(path) = &given.out else {
        context.output.document(&envelope)?;
        return Ok(Exit::Ok);
    };
    let text = serde_json::to_string_pretty(&envelope).map_err(|fault| Failure::error(fault.to_string()))?;
    write_new(path, format!("{text}\n").as_bytes(), 0o644)?;
    eprintln!("{} holds {}, attested by the hub's registry key (bellwether root show)", path.display(), given.model);
    Ok(Exit::Ok)
}

/// What the hub attests must be what people signed: nobody is handed a claim that does not hold.
fn check(envelope: &EnvelopeView, root: &TrustedRoot, model: &ModelRef) -> Result<(), Failure> {
    let wrong = |why: &str| {
        Failure::new(Exit::Conflict, format!("the hub's attestation of {model} does not hold: {why}"))
            .next("look at the hub and its keys: bellwether doctor")
    };
    let registry =
        root.root().keys.iter().filter(|key| key.roles.contains(RoleSet::REGISTRY) && key.status == KeyStatus::Active);
    let mut why = "the root lists no registry key".to_owned();
    let mut payload = None;
    for key in registry {
        match dsse::open(envelope, &key.public) {
            Ok(opened) => payload = Some(opened),
            Err(fault) => why = fault.to_string(),
        }
    }
    let payload = payload.ok_or_else(|| wrong(&why))?;
    let said: AttestationView = serde_json::from_slice(&payload).map_err(|fault| wrong(&fault.to_string()))?;
    let held = Held::read(&said.predicate.release)?;
    let approved =
        root.approve(&held.signed()?).map_err(|reject| refused("the release that the hub quotes", reject))?;
    let package = approved.release().package.digest.to_string();
    let is_package = |digest: Option<&String>| digest.is_some_and(|digest| *digest == package);
    let [subject] = said.subject.as_slice() else { return Err(wrong("it is not about one package")) };
    if approved.release().model() != *model || !is_package(subject.digest.get("sha256")) {
        return Err(wrong("it quotes the release of something else"));
    }
    Ok(())
}
