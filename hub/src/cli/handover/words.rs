//! What a statement says, in words: what whoever signs it agrees to.

use bellwether_protocol::trust::{
    Checkpoint, Cohort, Otherwise, Recall, Release, Root, Signed, StageGrant, Statement, TrustedRoot, Validity,
};
use serde::Deserialize;

use super::{Document, Kind};
use crate::cli::failure::{Exit, Failure};
use crate::cli::release::{Held, refused};
use crate::cli::root::words::{differences, whole};

/// The statement of a file, line by line. Everything in it is read from what is signed.
pub(in crate::cli) fn says(document: &Document, trusted: Option<&TrustedRoot>) -> Result<Vec<String>, Failure> {
    let held = document.held()?;
    let signed = held.signed()?;
    Ok(match document.kind {
        Kind::Root => {
            let root: Root = peek(&signed)?;
            trusted.map_or_else(|| first(document, &root), |now| differences(now.root(), &root))
        }
        Kind::Release => release(&peek(&signed)?),
        Kind::Grant => grant(document, &peek(&signed)?)?,
        Kind::Recall => recall(&peek(&signed)?),
        Kind::Checkpoint => checkpoint(&peek(&signed)?),
    })
}

fn peek<'b, T: Statement + Deserialize<'b>>(signed: &Signed<'b>) -> Result<T, Failure> {
    signed.peek().map_err(|reject| refused("the statement", reject))
}

fn first(document: &Document, root: &Root) -> Vec<String> {
    let mut lines = vec![format!("the first root of the fleet {}", document.fleet)];
    lines.extend(whole(root));
    lines
}

/// A release.
fn release(release: &Release) -> Vec<String> {
    let [major, minor, patch] = release.requires.agent;
    let needs = release.requires;
    let mut lines = vec![
        format!("the release of {}", release.model()),
        format!("package {} ({} bytes)", release.package.digest, release.package.size),
        format!("made from {}", release.source),
        format!("needs agent {major}.{minor}.{patch}, operator set {}, {} KiB", needs.operators, needs.memory_kib),
        format!("who goes first is drawn with {}, by the publisher's command line", hex::encode(release.salt)),
    ];
    lines.extend(conditions(release));
    lines
}

/// What a release demands and forbids beyond its package.
pub(in crate::cli) fn conditions(release: &Release) -> Vec<String> {
    let mut lines = Vec::new();
    if release.security_floor > 0 {
        lines.push(format!("NO WAY BACK below version {} once a device has committed it", release.security_floor));
    }
    if !release.hardware.is_empty() {
        let classes: Vec<&str> = release.hardware.iter().map(|class| class.as_str()).collect();
        lines.push(format!("only on {}", classes.join(", ")));
    }
    if release.checkpoint > 0 {
        lines.push(format!("only where checkpoint {} is known", release.checkpoint));
    }
    lines.extend(release.validity.map(validity));
    lines
}

/// A validity in days, for people.
fn validity(valid: Validity) -> String {
    format!("may be newly installed from epoch {} to {}, which are days since 1970", valid.from, valid.until)
}

fn grant(document: &Document, grant: &StageGrant) -> Result<Vec<String>, Failure> {
    let held = Held::read(document.release.as_deref().unwrap_or_default())?;
    let signed = held.signed()?;
    if signed.digest() != grant.release {
        return Err(Failure::new(Exit::Conflict, "the grant is not for the release beside it").next("do not sign it"));
    }
    let of: Release = peek(&signed)?;
    if document.model.as_ref().is_some_and(|model| *model != of.model()) {
        return Err(Failure::new(Exit::Conflict, format!("the grant is for {}, not what the file says", of.model()))
            .next("do not sign it"));
    }
    let reaches = match &grant.cohort {
        Cohort::Buckets(below) => format!("{} % of the fleet", f64::from(*below) / 10.0),
        Cohort::Devices(keys) => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            format!("{} devices, by their keys: {}", keys.len(), keys.join(", "))
        }
    };
    let mut lines = vec![format!("{} may reach {reaches}", of.model())];
    if grant.checkpoint > 0 {
        lines.push(format!("only where checkpoint {} is known", grant.checkpoint));
    }
    lines.extend(grant.validity.map(validity));
    Ok(lines)
}

fn recall(recall: &Recall) -> Vec<String> {
    let otherwise = match recall.otherwise {
        Otherwise::Keep => "it goes on answering",
        Otherwise::Stop => "nothing answers",
    };
    let mut lines = vec![format!("releases of {} are RECALLED: no device may run them", recall.name)];
    lines.extend(recall.releases.iter().map(|digest| format!("  {digest}")));
    lines.push(format!("where nothing lawful is left to go back to, {otherwise}"));
    lines
}

fn checkpoint(checkpoint: &Checkpoint) -> Vec<String> {
    let mut lines = vec![format!("checkpoint {}: all recalls and floors in force", checkpoint.number)];
    lines.extend(checkpoint.recalls.iter().map(|one| format!("  recalled: {} {}", one.name, one.release)));
    lines.extend(checkpoint.floors.iter().map(|floor| format!("  no {} below version {}", floor.name, floor.version)));
    if checkpoint.recalls.is_empty() && checkpoint.floors.is_empty() {
        lines.push("  none".to_owned());
    }
    lines
}
