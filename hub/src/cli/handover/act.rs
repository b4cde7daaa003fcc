//! Signing a file, asking how it stands, sending it.

use std::path::Path;

use bellwether_protocol::trust::{
    Checkpoint, KeyEntry, KeyStatus, Recall, Release, RoleSet, Root, Signature, StageGrant, TrustedRoot,
};
use serde::Serialize;

use super::{Document, Kind, Standing, says, standing};
use crate::cli::Context;
use crate::cli::ask::confirm;
use crate::cli::ceremony::{Sign, Status, Submit};
use crate::cli::failure::{Exit, Failure};
use crate::cli::key::signers;
use crate::cli::release::{Held, refused};
use crate::cli::signer::Signer;

pub(in crate::cli) fn sign(context: &Context, given: &Sign) -> Result<Exit, Failure> {
    let document = Document::read(&given.file)?;
    let trusted = document.trusted(&context.home, given.fleet)?;
    for line in says(&document, trusted.as_ref())? {
        eprintln!("{line}");
    }
    let signers = signers(&context.home, &given.keys)?;
    for signer in &signers {
        fits(&document, trusted.as_ref(), signer)?;
    }
    confirm("Sign this?", given.yes)?;
    let signed = add(&document, &signers)?;
    signed.replace(&given.file)?;
    say_standing(context, &signed, trusted.as_ref(), &given.file).map(|_| Exit::Ok)
}

pub(in crate::cli) fn status(context: &Context, given: &Status) -> Result<Exit, Failure> {
    let document = Document::read(&given.file)?;
    let trusted = document.trusted(&context.home, given.fleet)?;
    for line in says(&document, trusted.as_ref())? {
        eprintln!("{line}");
    }
    say_standing(context, &document, trusted.as_ref(), &given.file)
}

/// The same document with the signatures of these keys.
pub(in crate::cli) fn add(document: &Document, signers: &[Signer]) -> Result<Document, Failure> {
    let held = document.held()?;
    let body = held.signed()?.body.to_vec();
    let fleet = document.fleet;
    let signatures: Result<Vec<Signature>, Failure> = signers
        .iter()
        .map(|signer| match document.kind {
            Kind::Root => signer.sign::<Root>(fleet, &body),
            Kind::Release => signer.sign::<Release>(fleet, &body),
            Kind::Grant => signer.sign::<StageGrant>(fleet, &body),
            Kind::Recall => signer.sign::<Recall>(fleet, &body),
            Kind::Checkpoint => signer.sign::<Checkpoint>(fleet, &body),
        })
        .collect();
    Ok(Document { statement: held.with(&signatures?)?.text(), ..document.clone() })
}

/// Refuses to sign with a key whose signature would count for nothing.
fn fits(document: &Document, trusted: Option<&TrustedRoot>, signer: &Signer) -> Result<(), Failure> {
    let id = signer.public().id();
    let held = document.held()?;
    let of_body: Option<Root> = if document.kind == Kind::Root {
        Some(held.signed()?.peek().map_err(|reject| refused("the root", reject))?)
    } else {
        None
    };
    let may = |key: &KeyEntry| {
        key.status == KeyStatus::Active
            && match document.kind {
                Kind::Root => key.roles.contains(RoleSet::ROOT),
                Kind::Release => key.roles.contains(RoleSet::APPROVE) || key.roles.contains(RoleSet::PUBLISH),
                Kind::Grant => key.roles.contains(RoleSet::GRANT),
                Kind::Recall => key.roles.contains(RoleSet::APPROVE),
                Kind::Checkpoint => key.roles.contains(RoleSet::APPROVE) || key.roles.contains(RoleSet::WITNESS),
            }
    };
    let roots = [trusted.map(TrustedRoot::root), of_body.as_ref()];
    if roots.into_iter().flatten().filter_map(|root| root.key(id)).any(may) {
        return Ok(());
    }
    let cause = format!("the key {} may not sign this {}", signer.name(), document.kind.name());
    Err(Failure::new(Exit::NotAllowed, cause).next("`bellwether status FILE` says whose signatures are missing"))
}

/// Says who signed and what is missing; the exit code is 8 until it is complete.
pub(super) fn say_standing(
    context: &Context,
    document: &Document,
    trusted: Option<&TrustedRoot>,
    path: &Path,
) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct View<'s> {
        fleet: String,
        #[serde(flatten)]
        standing: &'s Standing,
    }
    let standing = standing(document, trusted)?;
    let lines: Vec<String> = standing.needs.iter().map(super::Need::line).collect();
    let fields = [
        ("statement", standing.kind.to_owned()),
        ("fleet", document.fleet.to_string()),
        ("signatures", lines.join("; ")),
        ("void", standing.void.join("; ")),
        ("complete", if standing.complete { "yes" } else { "no" }.to_owned()),
        ("because", standing.because.clone().unwrap_or_default()),
    ];
    let view = View { fleet: document.fleet.to_string(), standing: &standing };
    context.output.one(&view, &fields, &document.fleet.to_string())?;
    let file = path.display();
    if context.output.for_people() {
        if standing.complete {
            eprintln!("next: bellwether submit {file}");
        } else {
            eprintln!("next: whoever is missing signs: bellwether sign {file} --key KEY");
        }
    }
    Ok(if standing.complete { Exit::Ok } else { Exit::Waits })
}

pub(in crate::cli) async fn submit(context: &Context, given: &Submit) -> Result<Exit, Failure> {
    let mut documents = given.files.iter().map(|path| Document::read(path));
    let first = documents.next().ok_or_else(|| Failure::new(Exit::Usage, "no file was given"))??;
    let document = documents.try_fold(first, |all, next| all.merged(&next?))?;
    let trusted = document.trusted(&context.home, given.fleet)?;
    let standing = standing(&document, trusted.as_ref())?;
    // A release may be sent approval by approval; everything else counts only when it is complete.
    if !standing.complete && document.kind != Kind::Release {
        let lines: Vec<String> = standing.needs.iter().map(super::Need::line).collect();
        let cause = format!("this {} is not complete: {}", standing.kind, lines.join("; "));
        return Err(Failure::new(Exit::Waits, cause).next("bellwether sign FILE --key KEY"));
    }
    let statement = document.statement.clone();
    let client = &context.client;
    match (document.kind, &trusted) {
        (Kind::Root, None) => {
            client.put_root(statement).await?;
            context.home.pin(client.base(), document.fleet)?;
        }
        (Kind::Root, Some(_)) => {
            client.post_root(statement).await?;
            let held = document.held()?;
            let root: Root = held.signed()?.peek().map_err(|reject| refused("the root", reject))?;
            context.home.keep_root_seen(document.fleet, root.version)?;
        }
        (Kind::Release, _) => submit_release(context, &document).await?,
        (Kind::Grant, _) => {
            let release = Held::read(document.release.as_deref().unwrap_or_default())?;
            let of: Release = release.signed()?.peek().map_err(|reject| refused("the release", reject))?;
            drop(client.post_grant(of.name.as_str(), of.version.number(), statement).await?);
        }
        (Kind::Recall, _) => client.post_recall(statement).await?,
        (Kind::Checkpoint, _) => client.post_checkpoint(statement).await?,
    }
    eprintln!("the hub at {} took the {}", client.base(), document.kind.name());
    Ok(Exit::Ok)
}

async fn submit_release(context: &Context, document: &Document) -> Result<(), Failure> {
    let held = document.held()?;
    let release: Release = held.signed()?.peek().map_err(|reject| refused("the release", reject))?;
    let (name, version) = (release.name.as_str(), release.version.number());
    drop(context.client.add_signature(name, version, document.statement.clone()).await?);
    Ok(())
}
