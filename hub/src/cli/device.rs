//! Devices: list, show, token, replace, import, report, delete.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;

use super::Context;
use super::args::DeviceCommand;
use super::diagnose::{diagnose, logs};
use super::failure::{Exit, Failure};
use super::model::joined;
use super::offload;
use super::release::trusted_root;
use crate::api::types::{
    DeviceQuery, DeviceTokenRequest, DeviceView, ImportRequest, ImportView, ImportedDevice, LIMIT_MAX, ModelOnDevice,
};

/// Devices sent to the hub by one request.
const IMPORTED_AT_ONCE: usize = 1000;

pub(super) async fn run(context: &Context, command: DeviceCommand) -> Result<Exit, Failure> {
    match command {
        DeviceCommand::List { tag, state } => list(context, tag, state).await,
        DeviceCommand::Show { id } => show(context, &context.client.device(id.as_str()).await?),
        DeviceCommand::Token { tags, uses, valid_seconds, device } => {
            let tags = tags.into_iter().collect();
            let device = device.map(|id| id.to_string());
            let request = DeviceTokenRequest { uses: Some(uses), tags, valid_seconds, device, replace: false };
            token(context, &request).await
        }
        DeviceCommand::Replace { id, valid_seconds } => {
            let device = Some(id.to_string());
            let request = DeviceTokenRequest { valid_seconds, device, replace: true, ..DeviceTokenRequest::default() };
            let exit = token(context, &request).await?;
            eprintln!("whoever enrols as {id} with it takes its name and history; the old key then no longer connects");
            Ok(exit)
        }
        DeviceCommand::Import { file } => import(context, &file).await,
        DeviceCommand::Report { id } => {
            context.client.ask_report(id.as_str()).await?;
            eprintln!("{id} was asked; its report appears in `bellwether device show {id}`");
            Ok(Exit::Ok)
        }
        DeviceCommand::Logs { id, timeout, no_wait } => logs(context, id.as_str(), timeout, no_wait).await,
        DeviceCommand::Diagnose { id } => diagnose(context, id.as_str()).await,
        DeviceCommand::Delete { id } => {
            context.client.delete_device(id.as_str()).await?;
            eprintln!("{id} is decommissioned: its key no longer connects");
            Ok(Exit::Ok)
        }
    }
}

async fn list(context: &Context, tag: Option<String>, state: Option<String>) -> Result<Exit, Failure> {
    let mut query = DeviceQuery { tag, state, limit: Some(LIMIT_MAX), ..DeviceQuery::default() };
    let mut devices = Vec::new();
    loop {
        let page = context.client.devices(&query).await?;
        devices.extend(page.items);
        // A cursor that does not move would loop for ever.
        if page.next.is_none() || page.next == query.after {
            break;
        }
        query.after = page.next;
    }
    context.output.list(
        &devices,
        &[
            ("DEVICE", &|device: &DeviceView| device.id.clone()),
            ("STATE", &|device| device.presence.label().to_owned()),
            ("IN SYNC", &|device| if device.in_sync { "yes" } else { "no" }.to_owned()),
            ("MODELS", &|device| device.models.iter().map(running).collect::<Vec<_>>().join(", ")),
            ("SCORED", &|device| device.rows_scored.to_string()),
            ("TAGS", &|device| joined(&device.tags)),
        ],
        |device| device.id.clone(),
        "no such device; make a token to enrol one: bellwether device token",
    )?;
    Ok(Exit::Ok)
}

/// `digits 1 → 2`: what runs, and what should.
fn running(model: &ModelOnDevice) -> String {
    let active = model.active.as_ref().map(|running| running.version);
    let now = active.map_or_else(|| "–".to_owned(), |version| version.to_string());
    match model.desired_version.filter(|wanted| Some(*wanted) != active) {
        Some(wanted) => format!("{} {now} → {wanted}", model.name),
        None => format!("{} {now}", model.name),
    }
}

fn show(context: &Context, device: &DeviceView) -> Result<Exit, Failure> {
    let rejects = device.models.iter().filter_map(|model| {
        let reject = model.reject.as_ref()?;
        Some(format!("{}: {} (code {})", model.name, reject.text, reject.code))
    });
    let refused = device.refused.as_ref().map(|reject| format!("{} (code {})", reject.text, reject.code));
    let fields = [
        ("device", device.id.clone()),
        ("state", device.presence.label().to_owned()),
        ("in sync", if device.in_sync { "yes" } else { "no" }.to_owned()),
        ("models", device.models.iter().map(running).collect::<Vec<_>>().join(", ")),
        ("FPGA", device.models.iter().filter_map(offload::line).collect::<Vec<_>>().join("; ")),
        ("failed", rejects.collect::<Vec<_>>().join("; ")),
        ("refused", refused.unwrap_or_default()),
        ("tags", joined(&device.tags)),
        ("agent", device.agent.clone().unwrap_or_default()),
        ("hardware", device.hardware.clone().unwrap_or_default()),
        ("rows scored", device.rows_scored.to_string()),
        ("key", device.key.clone()),
    ];
    context.output.one(device, &fields, &device.id)?;
    Ok(Exit::Ok)
}

/// What a device is given.
#[derive(Debug, Serialize)]
struct Token {
    token: String,
}

/// Puts a token together: the fleet and the checkpoint come from here, where the root is pinned, and
/// only the secret from the hub.
async fn token(context: &Context, request: &DeviceTokenRequest) -> Result<Exit, Failure> {
    let fleet = trusted_root(context).await?.fleet();
    let checkpoint = context.client.checkpoint().await?.map(|checkpoint| checkpoint.statement);
    let secret = context.client.device_token(request).await?.secret;
    let mut token = format!("bw1.{fleet}.{secret}");
    if let Some(bytes) = checkpoint.and_then(|text| STANDARD.decode(text).ok()) {
        // A device that was wiped has forgotten every recall: the token brings them back.
        token = format!("{token}.{}", URL_SAFE_NO_PAD.encode(bytes));
    }
    context.output.one(&Token { token: token.clone() }, &[("token", token.clone())], &token)?;
    Ok(Exit::Ok)
}

/// Registers the devices of a CSV: columns `device` and `key`; every other column is a tag.
async fn import(context: &Context, file: &Path) -> Result<Exit, Failure> {
    trusted_root(context).await?;
    let unread = |fault: csv::Error| {
        Failure::new(Exit::Usage, format!("{}: {fault}", file.display()))
            .next("the first line names the columns: device,key and any tags, such as site")
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(file).map_err(unread)?;
    let heads = reader.headers().map_err(unread)?.clone();
    let place = |name: &str| {
        heads.iter().position(|head| head == name).ok_or_else(|| {
            Failure::new(Exit::Usage, format!("{} has no column `{name}`", file.display()))
                .next("the first line names the columns: device,key and any tags, such as site")
        })
    };
    let (device, key) = (place("device")?, place("key")?);
    let mut devices = Vec::new();
    for row in reader.records() {
        let row = row.map_err(unread)?;
        let cell = |at: usize| row.get(at).unwrap_or_default().to_owned();
        let is_tag = |(at, value): &(usize, &str)| *at != device && *at != key && !value.is_empty();
        let tags = row.iter().enumerate().filter(is_tag);
        let tags = tags.filter_map(|(at, value)| Some((heads.get(at)?.to_owned(), value.to_owned()))).collect();
        devices.push(ImportedDevice { device: cell(device), key: cell(key), tags });
    }
    let mut sum = ImportView { registered: 0, known: 0 };
    for part in devices.chunks(IMPORTED_AT_ONCE) {
        let request = ImportRequest { devices: part.to_vec() };
        let done = context.client.import_devices(&request).await.map_err(|error| {
            let failure = Failure::from(error);
            eprintln!("{} devices before these were registered", sum.registered);
            failure
        })?;
        sum.registered += done.registered;
        sum.known += done.known;
    }
    context.output.one(
        &sum,
        &[("registered", sum.registered.to_string()), ("known before", sum.known.to_string())],
        &sum.registered.to_string(),
    )?;
    if context.output.for_people() {
        let fleet = trusted_root(context).await?.fleet();
        eprintln!("next: each of them starts once with --token bw1.{fleet}, beside the key that was imported");
    }
    Ok(Exit::Ok)
}
