//! A package, its release and its root, checked without a hub.

use std::path::Path;

use bellwether_protocol::limit::PACKAGE_BYTES_MAX;
use bellwether_protocol::trust::{Release, TrustedRoot};

use super::Context;
use super::ceremony::Verify;
use super::evidence::Evidence;
use super::failure::{Exit, Failure};
use super::handover::{Document, Kind, standing};
use super::release::refused;

pub(super) fn run(context: &Context, given: &Verify) -> Result<Exit, Failure> {
    let package = contents(&given.package)?;
    let source = given.source.as_deref().map(contents).transpose()?;
    let Some(path) = &given.release else {
        let evidence = Evidence::of(&package, None, source.as_deref())?;
        return say(context, &evidence);
    };
    let document = Document::read(path)?;
    if document.kind != Kind::Release {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} holds a {}, not a release", path.display(), document.kind.name()),
        ));
    }
    let trusted = root_of(context, given, &document)?;
    let held = document.held()?;
    let release: Release = held.signed()?.peek().map_err(|reject| refused("the release", reject))?;
    let mut evidence = Evidence::of(&package, Some(&release), source.as_deref())?;
    evidence.signatures = Some(standing(&document, trusted.as_ref())?);
    say(context, &evidence)
}

/// The root that counts: the one that was named, or the one that came with the release.
fn root_of(context: &Context, given: &Verify, release: &Document) -> Result<Option<TrustedRoot>, Failure> {
    let Some(path) = &given.root else { return release.trusted(&context.home, given.fleet) };
    let root = Document::read(path)?;
    if root.kind != Kind::Root || root.fleet != release.fleet {
        return Err(Failure::new(
            Exit::Conflict,
            format!("{} is no root of the fleet {}", path.display(), release.fleet),
        ));
    }
    let mut roots = root.roots;
    roots.push(root.statement);
    Document { roots, ..release.clone() }.trusted(&context.home, given.fleet)
}

/// Says what was found; fails with what does not hold.
fn say(context: &Context, evidence: &Evidence) -> Result<Exit, Failure> {
    for line in evidence.lines() {
        eprintln!("{line}");
    }
    let complete = evidence.signatures.as_ref().map(|standing| standing.complete);
    let fields = [
        ("model", evidence.model.clone()),
        ("package", evidence.package.clone()),
        ("golden check", if evidence.golden { "passed" } else { "unchecked" }.to_owned()),
        ("approved", complete.map_or("not asked: no --release", |yes| if yes { "yes" } else { "no" }).to_owned()),
    ];
    context.output.one(evidence, &fields, &evidence.package)?;
    evidence.demand()?;
    match &evidence.signatures {
        Some(standing) if !standing.complete => {
            let because = standing.because.clone().unwrap_or_default();
            Err(Failure::new(Exit::Waits, format!("{} is not approved: {because}", evidence.model))
                .next("bellwether sign FILE --key KEY, or: bellwether approve"))
        }
        _ => Ok(Exit::Ok),
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, Failure> {
    let facts = std::fs::metadata(path).map_err(|fault| Failure::file(path, &fault))?;
    if facts.len() > PACKAGE_BYTES_MAX {
        return Err(Failure::new(Exit::Conflict, format!("{}: {} bytes are no package", path.display(), facts.len())));
    }
    std::fs::read(path).map_err(|fault| Failure::file(path, &fault))
}
