//! Models: register, publish, list, show, delete.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bellwether_hub_core::intake::row_bytes;
use bellwether_protocol::id::{FileName, ModelName, ModelRef};
use bellwether_protocol::limit::ROW_BYTES_MAX;
use bellwether_protocol::manifest::{File, FileRole, TensorSignature};
use bellwether_protocol::policy::{Collect, Policy};
use bellwether_protocol::trust::{Release, Requires, RoleSet, Validity};
use bellwether_protocol::{heapless, package};
use bellwether_runtime::fpga::UP5K;
use bellwether_runtime::lower::{bind, lowered};
use bellwether_runtime::prepare::{package_ref, tensors_digest};
use bellwether_runtime::{Beside, Examined, Extra, ModelFacts, Prepared, Sample, Samples, examine, inspect, prepare};
use indicatif::{ProgressBar, ProgressStyle};

use super::Context;
use super::catalogue::{ModelCommand, Register};
use super::failure::{Exit, Failure};
use super::handover::{Document, Kind};
use super::home::write_new;
use super::release::{body_of, chain, may_sign, refused, signed_by, trusted_root};
use super::rollout::micros;
use super::sign::release_of;
use super::signer::Signer;
use crate::api::types::{GitView, ModelQuery, RegisterRequest, VersionView};

/// Bytes sent to the hub at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Least agent that a release made here asks for: the first there is, the first that knows baselines and
/// policies, the first that knows bitstreams.
const AGENT_LEAST: [u16; 3] = [0, 1, 0];
const AGENT_OF_POLICIES: [u16; 3] = [0, 2, 0];
const AGENT_OF_BITSTREAMS: [u16; 3] = [0, 3, 0];
/// Milliseconds of a day: the hub counts logical time in days since 1970.
const DAY_MS: u64 = 24 * 3600 * 1000;

pub(super) async fn run(context: &Context, command: ModelCommand) -> Result<Exit, Failure> {
    match command {
        ModelCommand::Register(given) => Box::pin(register(context, *given)).await,
        ModelCommand::Publish { model, key, renew, valid_days } => {
            let view = context.client.version(model.name.as_str(), model.version.number()).await?;
            if view.release.is_some() && !renew {
                return Err(Failure::new(Exit::Conflict, format!("{model} was published before"))
                    .next("bellwether approve signs it; --renew makes another release, to be approved again"));
            }
            let package = context.client.package(&view.package.digest).await?;
            let examined = examine(&package)
                .map_err(|fault| Failure::new(Exit::Conflict, format!("the package of {model}: {fault}")))?;
            let validity = match valid_days {
                Some(days) => Some(valid_for(context, days).await?),
                None => None,
            };
            show(context, &publish(context, &model, &examined, &key, validity).await?)
        }
        ModelCommand::Prepare(given) => super::workbench::prepared(context, &given),
        ModelCommand::Vectors(given) => super::vectors::run(context, &given),
        ModelCommand::Quantize(given) => super::quantize::run(context, &given),
        ModelCommand::Test(given) => super::workbench::tested(context, &given).await,
        ModelCommand::Diff(given) => super::workbench::differ(context, &given).await,
        ModelCommand::Download { model, file, release } => download(context, &model, &file, release.as_deref()).await,
        ModelCommand::Export(given) => super::export::run(context, &given).await,
        ModelCommand::List { tag } => list(context, tag).await,
        ModelCommand::Show { model } => show_model(context, &model).await,
        ModelCommand::Delete { model } => {
            context.client.delete_version(model.name.as_str(), model.version.number()).await?;
            eprintln!("{model} is deleted");
            Ok(Exit::Ok)
        }
    }
}

async fn register(context: &Context, given: Register) -> Result<Exit, Failure> {
    if let Some(key) = &given.key {
        // Before the work, not after it.
        let signer = Signer::find(&context.home, key)?;
        may_sign(&trusted_root(context).await?, &signer, RoleSet::PUBLISH, "publish")?;
    }
    let bytes = contents(&given.file)?;
    let vectors = given.vectors.as_deref().map(contents).transpose()?;
    let bitstream = given.bitstream.as_deref().map(bitstream).transpose()?;
    let extras: Result<Vec<Extra>, Failure> = given.extra.iter().map(|path| extra(path)).collect();
    let file_name = file_name(&given.file);
    let samples = samples(&given, &bytes)?;
    let extras = extras?;
    let beside = Beside {
        vectors: vectors.as_deref(),
        samples: Some(&samples),
        sizes: &given.sizes,
        policy: policy(&given),
        bitstream: bitstream.as_deref(),
        extras: &extras,
        ..Beside::default()
    };
    let prepared = prepare(&given.name, &file_name, &bytes, &beside).map_err(|fault| {
        Failure::new(Exit::Conflict, format!("{file_name} is not registered: {fault}"))
            .next("mend the model or its vectors; nothing was sent")
    })?;
    tell(&prepared);
    if beside.policy.collect.is_on() && !may_be_collected(&prepared.manifest.tensors) {
        eprintln!(
            "! rows of this model are not collected: one takes more than {ROW_BYTES_MAX} bytes, or has an open dimension"
        );
    }
    if let (Some(sample), None) = (&samples.inputs, &samples.held_out) {
        eprintln!("! baseline of {} rows; drift of the outputs is not watched: pass --held-out", sample.rows);
    }
    let uploaded = context.client.put_package(streamed(prepared.package.clone())).await?;
    let request = RegisterRequest {
        package: uploaded.digest,
        source: prepared.source.to_string(),
        file_name,
        description: given.description,
        tags: given.tags.into_iter().collect(),
        git: git(&given.file),
        dataset: given.dataset,
        run: given.run,
    };
    let view = context.client.register(given.name.as_str(), &request).await?;
    let Some(key) = given.key.filter(|_| prepared.deployable.is_ok()) else {
        return show(context, &view);
    };
    let model = reference(&view)?;
    let examined = Examined {
        manifest: prepared.manifest,
        package_ref: package_ref(&prepared.package),
        source: prepared.source,
        facts: prepared.facts,
        golden: prepared.golden,
        deployable: prepared.deployable,
        policy: beside.policy,
        baseline: Vec::new(),
        offload: prepared.offload,
    };
    let view = publish(context, &model, &examined, &key, None).await.map_err(|failure| {
        failure.next(format!("{model} is registered as a draft; sign it: bellwether model publish {model} --key {key}"))
    })?;
    show(context, &view)
}

/// What preparing found, for people.
fn tell(prepared: &Prepared) {
    prepared.rewritten.iter().for_each(|what| eprintln!("rewritten: {what}"));
    match (&prepared.deployable, &prepared.golden) {
        (Err(advice), _) => eprintln!("! devices cannot run this file: {advice}"),
        (Ok(()), None) => eprintln!("! unchecked: pass --vectors to keep a model that scores wrongly off the fleet"),
        (Ok(()), Some(verdict)) => eprintln!("golden check: {verdict}"),
    }
    prepared.offload.iter().for_each(|offload| eprintln!("offload: {offload}"));
}

/// The samples that a baseline is made from.
fn samples(given: &Register, model: &[u8]) -> Result<Samples, Failure> {
    if given.baseline.is_none() && given.held_out.is_none() {
        return Ok(Samples::default());
    }
    let refused = |path: &Path, fault: &dyn std::fmt::Display| {
        Failure::new(Exit::Conflict, format!("{}: {fault}", path.display())).next("mend the sample; nothing was sent")
    };
    let (model, _) = bind(model, &given.sizes).map_err(|fault| refused(&given.file, &fault))?;
    let (model, _) = lowered(&model).map_err(|fault| refused(&given.file, &fault))?;
    let signature = inspect(&model).map_err(|fault| refused(&given.file, &fault))?.signature;
    let read = |path: &PathBuf| {
        Sample::read(&file_name(path), &contents(path)?, &signature).map_err(|fault| refused(path, &fault))
    };
    Ok(Samples {
        inputs: given.baseline.as_ref().map(read).transpose()?,
        held_out: given.held_out.as_ref().map(read).transpose()?,
    })
}

/// A bitstream: a file, or the one of this version by its part's name.
pub(super) fn bitstream(path: &Path) -> Result<Vec<u8>, Failure> {
    if path == Path::new("up5k") { Ok(UP5K.to_vec()) } else { contents(path) }
}

/// Whether a row, inputs and outputs, fits a record of a device's outbox.
fn may_be_collected(tensors: &TensorSignature) -> bool {
    let rows = [tensors.inputs.as_slice(), tensors.outputs.as_slice()].map(row_bytes);
    rows.into_iter().sum::<Option<usize>>().is_some_and(|bytes| bytes <= ROW_BYTES_MAX)
}

fn policy(given: &Register) -> Policy {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    let uncertain_below = given.collect_below.map_or(0, |share| (share * 1000.0).round() as u16);
    let is_on = given.collect_one_in > 0 || uncertain_below > 0;
    let rows_per_minute_max = if is_on { given.collect_per_minute } else { 0 };
    Policy {
        p95_us_max: given.max_p95_ms.map(micros),
        collect: Collect { one_in: given.collect_one_in, uncertain_below, rows_per_minute_max },
    }
}

fn reference(view: &VersionView) -> Result<ModelRef, Failure> {
    let text = format!("{}:{}", view.name, view.version);
    text.parse().map_err(|bad| Failure::error(format!("the hub named the version `{text}`: {bad}")))
}

/// Builds the release of what was checked here, signs it, posts it.
async fn publish(
    context: &Context,
    model: &ModelRef,
    examined: &Examined,
    key: &str,
    validity: Option<Validity>,
) -> Result<VersionView, Failure> {
    let root = trusted_root(context).await?;
    let signer = Signer::find(&context.home, key)?;
    may_sign(&root, &signer, RoleSet::PUBLISH, "publish")?;
    let facts: &ModelFacts = examined.facts.as_ref().ok_or_else(|| {
        let why = examined.deployable.clone().err().unwrap_or_default();
        Failure::new(Exit::Conflict, format!("devices cannot run {model}: {why}"))
    })?;
    let least = |file: &File| match file.role {
        FileRole::Model | FileRole::Vectors | FileRole::Extra => AGENT_LEAST,
        FileRole::Baseline | FileRole::Policy => AGENT_OF_POLICIES,
        FileRole::Bitstream => AGENT_OF_BITSTREAMS,
    };
    let agent = examined.manifest.files.iter().map(least).max().unwrap_or(AGENT_LEAST);
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|fault| Failure::error(format!("no randomness: {fault}")))?;
    let release = Release {
        kind: examined.manifest.kind,
        name: model.name.clone(),
        version: model.version,
        source: examined.source,
        package: examined.package_ref,
        requires: Requires { agent, operators: facts.opset, memory_kib: facts.memory_kib },
        hardware: heapless::Vec::new(),
        tensors: tensors_digest(&examined.manifest.tensors)
            .map_err(|reject| refused("the tensor signature", reject))?,
        security_floor: 0,
        salt,
        checkpoint: 0,
        validity,
    };
    let statement = signed_by::<Release>(root.fleet(), &body_of(&release)?, &[signer])?;
    Ok(context.client.post_release(model.name.as_str(), model.version.number(), statement.text()).await?)
}

/// From today by the hub's clock, in epochs of a day; a day more at both ends, for clocks differ.
async fn valid_for(context: &Context, days: u32) -> Result<Validity, Failure> {
    let today = context.client.hub().await?.time_ms / DAY_MS;
    Ok(Validity { from: today.saturating_sub(1), until: today.saturating_add(u64::from(days)).saturating_add(1) })
}

/// Keeps a package, and its release if asked, for whoever checks them elsewhere.
async fn download(context: &Context, model: &ModelRef, file: &Path, to: Option<&Path>) -> Result<Exit, Failure> {
    let chain = chain(context).await?;
    let (held, release) = release_of(context, model).await?;
    let package = verified_package(context, &release).await?;
    write_new(file, &package, 0o644)?;
    if let Some(to) = to {
        Document { model: Some(model.clone()), ..Document::new(Kind::Release, &chain, &held) }.write(to)?;
    }
    eprintln!("{} holds {model}; check it anywhere: bellwether verify {}", file.display(), file.display());
    Ok(Exit::Ok)
}

pub(super) fn contents(path: &Path) -> Result<Vec<u8>, Failure> {
    let facts = std::fs::metadata(path).map_err(|fault| Failure::file(path, &fault))?;
    let most = bellwether_protocol::limit::PACKAGE_BYTES_MAX;
    if facts.len() > most {
        let cause = format!("{}: {} bytes, more than the {most} a package holds", path.display(), facts.len());
        return Err(Failure::error(cause).next("make the model smaller: prune or quantise it"));
    }
    std::fs::read(path).map_err(|fault| Failure::file(path, &fault))
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn extra(path: &Path) -> Result<Extra, Failure> {
    let name = file_name(path);
    let name = FileName::parse(&name).map_err(|bad| Failure::new(Exit::Usage, format!("`{name}`: {bad}")))?;
    Ok(Extra { name, bytes: contents(path)? })
}

/// The package as a stream, with a bar on stderr where that is a terminal.
fn streamed(package: Vec<u8>) -> reqwest::Body {
    let bar = ProgressBar::new(package.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("uploading {bar:30} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    let package = bytes::Bytes::from(package);
    reqwest::Body::wrap_stream(futures_util::stream::unfold(package, move |mut rest| {
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        bar.inc(piece.len() as u64);
        if rest.is_empty() {
            bar.finish_and_clear();
        }
        std::future::ready((!piece.is_empty()).then_some((Ok::<_, std::io::Error>(piece), rest)))
    }))
}

/// Commit, branch and whether all is committed, of the folder the file is in.
fn git(file: &Path) -> Option<GitView> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let ask = |words: &[&str]| {
        let answer = Command::new("git").arg("-C").arg(folder).args(words).output().ok()?;
        answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).trim().to_owned())
    };
    Some(GitView {
        commit: ask(&["rev-parse", "HEAD"])?,
        branch: ask(&["rev-parse", "--abbrev-ref", "HEAD"])?,
        dirty: !ask(&["status", "--porcelain"])?.is_empty(),
    })
}

async fn list(context: &Context, tag: Option<String>) -> Result<Exit, Failure> {
    let models = context.client.models(&ModelQuery { tag }).await?.items;
    let running = |running: &std::collections::BTreeMap<u32, u32>| {
        running.iter().rev().map(|(version, devices)| format!("{version} on {devices}")).collect::<Vec<_>>().join(", ")
    };
    context.output.list(
        &models,
        &[
            ("MODEL", &|model| model.name.clone()),
            ("LATEST", &|model| model.latest.to_string()),
            ("STATE", &|model| model.state_of_latest.label().to_owned()),
            ("RUNNING", &|model| running(&model.running)),
            ("TAGS", &|model| joined(&model.tags_of_latest)),
        ],
        |model| model.name.clone(),
        "no model yet; register one: bellwether model register NAME FILE --vectors FILE",
    )?;
    Ok(Exit::Ok)
}

pub(super) fn joined(tags: &std::collections::BTreeMap<String, String>) -> String {
    tags.iter().map(|(tag, value)| format!("{tag}={value}")).collect::<Vec<_>>().join(",")
}

async fn show_model(context: &Context, text: &str) -> Result<Exit, Failure> {
    if text.contains(':') {
        let model: ModelRef = text.parse().map_err(|bad| Failure::new(Exit::Usage, format!("`{text}`: {bad}")))?;
        return show(context, &context.client.version(model.name.as_str(), model.version.number()).await?);
    }
    let name: ModelName = text.parse().map_err(|bad| Failure::new(Exit::Usage, format!("`{text}`: {bad}")))?;
    let detail = context.client.model(name.as_str()).await?;
    context.output.list(
        &detail.items,
        &[
            ("VERSION", &|version: &VersionView| format!("{}:{}", version.name, version.version)),
            ("STATE", &|version| version.state.label().to_owned()),
            ("GOLDEN", &|version| if version.golden.checked { "passed" } else { "unchecked" }.to_owned()),
            ("APPROVALS", &approvals),
            ("RUNNING ON", &|version| version.running_on.to_string()),
        ],
        |version| format!("{}:{}", version.name, version.version),
        "no version",
    )?;
    Ok(Exit::Ok)
}

/// `1 given, 2 needed`.
fn approvals(version: &VersionView) -> String {
    format!("{} given, {} needed", version.approvals.given.len(), version.approvals.needed)
}

/// One version, and the next step if it waits for one.
pub(super) fn show(context: &Context, version: &VersionView) -> Result<Exit, Failure> {
    let name = format!("{}:{}", version.name, version.version);
    let git = version.git.as_ref().map(|git| {
        format!("{} on {}{}", git.commit, git.branch, if git.dirty { ", with uncommitted changes" } else { "" })
    });
    let golden = match (version.golden.checked, version.golden.rows) {
        (true, Some(rows)) => format!("passed on {rows} rows"),
        (true, None) => "passed".to_owned(),
        (false, _) => "unchecked".to_owned(),
    };
    let fields = [
        ("version", name.clone()),
        ("state", version.state.label().to_owned()),
        ("golden check", golden),
        ("approvals", approvals(version)),
        ("rejected", version.rejection.as_ref().map(|no| format!("by {}: {}", no.person, no.why)).unwrap_or_default()),
        ("not deployable", version.advice.clone().unwrap_or_default()),
        ("description", version.description.clone()),
        ("tags", joined(&version.tags)),
        ("git", git.unwrap_or_default()),
        ("package", version.package.digest.clone()),
        ("running on", version.running_on.to_string()),
    ];
    context.output.one(version, &fields, &name)?;
    if context.output.for_people() && version.state == crate::api::types::VersionState::AwaitingApproval {
        eprintln!("next: bellwether approve {name} --key KEY");
    }
    Ok(Exit::Ok)
}

/// The package of a version, whose digest is the one given.
pub(super) async fn verified_package(context: &Context, release: &Release) -> Result<bytes::Bytes, Failure> {
    let bytes = context.client.package(&release.package.digest.to_string()).await?;
    if package_ref(&bytes) != release.package {
        return Err(Failure::new(Exit::Conflict, "the hub's package is not the one the release names")
            .next("do not sign it; tell whoever runs the hub"));
    }
    package::Package::open(&bytes).map_err(|reject| refused("the package", reject))?;
    Ok(bytes)
}

/// How often a waiting command asks the hub.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(1);
