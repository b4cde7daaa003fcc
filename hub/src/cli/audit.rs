//! The audit chain, checked on the operator's machine against heads that were kept here, and the
//! account of one device on one day.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use bellwether_hub_core::audit::{Broken, Verifier};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::trust::{AuditHead, RoleSet};
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde::Serialize;

use super::Context;
use super::evidence::reports::each;
use super::failure::{Exit, Failure};
use super::home::write_new;
use super::release::{Held, refused, trusted_root};
use crate::api::types::{AuditHeadView, DeviceAuditView, RanView};

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Check that nothing in the chain of events was edited or cut, and keep its head here
    #[command(
        after_help = "Examples:\n  bellwether audit verify\n  bellwether audit verify --head 5f0c… --save chain.ndjson\n  \
                            bellwether audit verify --file chain.ndjson\n\n\
                            Every run keeps the head it saw; a later run fails if the hub's chain does not hold\n\
                            it any more, or does not hold what a device says by its own signature that it was\n\
                            told. --head adds a head that was kept elsewhere. Exit code 6: edited or cut."
    )]
    Verify(Verify),
    /// What ran on a device on a day, who approved it, and why
    #[command(after_help = "Example:\n  bellwether audit export --device gw-1 --date 2026-11-25 --to gw-1.json")]
    Export(Export),
    /// How far the chain goes
    Head,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Check a saved chain instead of the hub's
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A head that the chain must hold; may be repeated
    #[arg(long, value_name = "HEX")]
    head: Vec<Digest>,
    /// Save the chain as it was read
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// The device
    #[arg(long, value_name = "ID")]
    device: DeviceId,
    /// The day, in UTC
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: String,
    /// Write JSON to this file
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, command: AuditCommand) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Verify(given) => verify(context, given).await,
        AuditCommand::Export(given) => export(context, given).await,
        AuditCommand::Head => {
            let head = context.client.audit_head().await?;
            context.output.one(
                &head,
                &[("events", head.sequence.to_string()), ("head", head.head.clone())],
                &head.head,
            )?;
            Ok(Exit::Ok)
        }
    }
}

/// What a check found.
#[derive(Debug, Serialize)]
struct Found {
    /// First and last event that were read.
    first: u64,
    last: u64,
    events: u64,
    head: String,
    /// Heads kept before that the chain still holds.
    held: usize,
    /// Heads of events that the hub keeps no more.
    older: usize,
    /// Heads that devices say they were told, by their own signatures.
    devices: usize,
}

/// The chain as it was read: numbers and heads.
#[derive(Debug, Default)]
struct Chain {
    links: Vec<(u64, Digest)>,
    text: String,
}

impl Chain {
    fn take(&mut self, verifier: &mut Verifier, lines: &str) -> Result<(), Failure> {
        for line in lines.lines() {
            self.links.push(verifier.take(line).map_err(|broken| broken_chain(&broken))?);
        }
        self.text.push_str(lines);
        Ok(())
    }

    fn head_at(&self, sequence: u64) -> Option<Digest> {
        let first = self.links.first()?.0;
        let at = usize::try_from(sequence.checked_sub(first)?).ok()?;
        self.links.get(at).map(|(_, head)| *head)
    }
}

fn broken_chain(broken: &Broken) -> Failure {
    Failure::new(Exit::Conflict, format!("the audit chain does not hold: {broken}"))
        .next("keep a copy of the hub's data, and compare with a backup and with the heads that devices report")
}

async fn verify(context: &Context, given: Verify) -> Result<Exit, Failure> {
    let mut chain = Chain::default();
    let mut verifier = Verifier::default();
    let hub = context.client.base();
    let (mut kept, mut devices) = (Vec::new(), Vec::new());
    if let Some(file) = &given.file {
        let text = std::fs::read_to_string(file).map_err(|fault| Failure::file(file, &fault))?;
        chain.take(&mut verifier, &text)?;
    } else {
        let claimed = context.client.audit_head().await?;
        if claimed.statement.is_some() {
            // Before the chain is read, so that nobody was told later than that.
            devices = told(context).await?;
        }
        read_all(context, &claimed, &mut chain, &mut verifier).await?;
        signed_head(context, &claimed, &chain).await?;
        kept = context.home.heads(hub)?;
    }
    let (first, last, head) = match (chain.links.first(), chain.links.last()) {
        (Some((first, _)), Some((last, head))) => (*first, *last, *head),
        _ => return Err(Failure::new(Exit::NotFound, "there is no event yet")),
    };
    let mut found =
        Found { first, last, events: chain.links.len() as u64, head: head.to_string(), held: 0, older: 0, devices: 0 };
    for (sequence, head) in &kept {
        match chain.head_at(*sequence) {
            Some(holds) if holds == *head => found.held += 1,
            None if *sequence < first => found.older += 1,
            Some(_) => return Err(lost(&format!("event {sequence} had another head when it was last looked at here"))),
            None => return Err(lost(&format!("event {sequence} was there when it was last looked at here"))),
        }
    }
    let heads: BTreeSet<Digest> = chain.links.iter().map(|(_, head)| *head).collect();
    for head in &given.head {
        if !heads.contains(head) {
            return Err(lost(&format!("no event has the head {head}")));
        }
        found.held += 1;
    }
    for (device, head) in devices {
        match heads.contains(&head) {
            true => found.devices += 1,
            // It may be of an event that is no longer kept.
            false if first > 1 => found.older += 1,
            false => return Err(lost(&format!("{device} was told the head {head}, which is not in it"))),
        }
    }
    if let Some(path) = &given.save {
        write_new(path, chain.text.as_bytes(), 0o644)?;
    }
    if given.file.is_none() {
        context.home.keep_head(hub, (last, head))?;
    }
    context.output.one(
        &found,
        &[
            ("audit", "nothing was edited or cut".to_owned()),
            ("events", format!("{} ({first} to {last})", found.events)),
            ("head", found.head.clone()),
            ("kept heads", format!("{} held, {} of events that are no longer kept", found.held, found.older)),
            ("devices", format!("{} hold a head of it, by their own signatures", found.devices)),
        ],
        &found.head,
    )?;
    Ok(Exit::Ok)
}

fn lost(what: &str) -> Failure {
    Failure::new(Exit::Conflict, format!("the audit chain was rewritten: {what}"))
        .next("unless the hub was restored from an older backup, treat it as taken over")
}

async fn read_all(
    context: &Context,
    claimed: &AuditHeadView,
    chain: &mut Chain,
    verifier: &mut Verifier,
) -> Result<(), Failure> {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(claimed.sequence) } else { ProgressBar::hidden() };
    loop {
        let after = chain.links.last().map(|(sequence, _)| *sequence);
        let lines = context.client.audit_lines(after).await?;
        if lines.is_empty() {
            break;
        }
        chain.take(verifier, &lines)?;
        bar.set_position(chain.links.last().map_or(0, |(sequence, _)| *sequence));
    }
    bar.finish_and_clear();
    Ok(())
}

/// Checks that the chain holds the head that the hub signed before it was read.
async fn signed_head(context: &Context, claimed: &AuditHeadView, chain: &Chain) -> Result<(), Failure> {
    if let Some(statement) = &claimed.statement {
        let root = trusted_root(context).await?;
        let held = Held::read(statement)?;
        let head: AuditHead =
            root.hub(&held.signed()?, RoleSet::REGISTRY).map_err(|reject| refused("the signed audit head", reject))?;
        if chain.head_at(head.sequence) != Some(head.head) {
            return Err(lost(&format!("its signed head for event {} is not in it", head.sequence)));
        }
    }
    Ok(())
}

/// The heads that devices say they were told, by their own signatures.
async fn told(context: &Context) -> Result<Vec<(String, Digest)>, Failure> {
    let root = trusted_root(context).await?;
    let mut told = Vec::new();
    each(context, root.fleet(), |said| {
        // None before the first assignment.
        let head = said.report.map(|report| report.audit).filter(|head| *head != Digest::default());
        told.extend(head.map(|head| (said.device, head)));
    })
    .await?;
    Ok(told)
}

async fn export(context: &Context, given: Export) -> Result<Exit, Failure> {
    let view = context.client.device_audit(given.device.as_str(), &given.date).await?;
    if let Some(path) = &given.to {
        return save(path, &view);
    }
    if context.output.for_people() {
        eprintln!("{} on {}: {} events, audit head {}", view.device, view.date, view.events.len(), view.head.head);
    }
    let names = |ran: &RanView| {
        let approvers: Vec<&str> = ran.approvers.iter().map(|by| by.person.as_str()).collect();
        approvers.join(", ")
    };
    let whole = !context.output.for_people();
    if whole {
        context.output.one(&view, &[], &view.device)?;
        return Ok(Exit::Ok);
    }
    context.output.list(
        &view.ran,
        &[
            ("RAN", &|ran: &RanView| format!("{}:{}", ran.model, ran.version)),
            ("PUBLISHED BY", &|ran| ran.publisher.as_ref().map(|by| by.person.clone()).unwrap_or_default()),
            ("APPROVED BY", &names),
            ("CAME BY", &|ran| ran.rollouts.join("; ")),
            ("ENDED", &|ran| ran.ended.clone().unwrap_or_default()),
        ],
        |ran| format!("{}:{}", ran.model, ran.version),
        "nothing ran there on that day, as far as this hub was told",
    )?;
    Ok(Exit::Ok)
}

fn save(path: &Path, view: &DeviceAuditView) -> Result<Exit, Failure> {
    let text = serde_json::to_string_pretty(view).map_err(|fault| Failure::error(fault.to_string()))?;
    write_new(path, format!("{text}\n").as_bytes(), 0o644)?;
    eprintln!("{} versions and {} events in {}", view.ran.len(), view.events.len(), path.display());
    Ok(Exit::Ok)
}
