//! Devices: list, show, token, report, delete.

use super::Context;
use super::args::DeviceCommand;
use super::diagnose::{diagnose, logs};
use super::failure::{Exit, Failure};
use super::model::joined;
use super::release::trusted_root;
use crate::api::types::{DeviceQuery, DeviceTokenRequest, DeviceView, LIMIT_MAX, ModelOnDevice};

pub(super) async fn run(context: &Context, command: DeviceCommand) -> Result<Exit, Failure> {
    match command {
        DeviceCommand::List { tag, state } => list(context, tag, state).await,
        DeviceCommand::Show { id } => show(context, &context.client.device(id.as_str()).await?),
        DeviceCommand::Token { tags, uses, valid_seconds } => {
            let request = DeviceTokenRequest { uses: Some(uses), tags: tags.into_iter().collect(), valid_seconds };
            token(context, &request).await
        }
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

async fn token(context: &Context, request: &DeviceTokenRequest) -> Result<Exit, Failure> {
    // The token tells a device which root to trust, so the hub's word alone is not enough.
    let fleet = trusted_root(context).await?.fleet().to_string();
    let made = context.client.device_token(request).await?;
    if made.token.split('.').nth(1) != Some(fleet.as_str()) {
        return Err(Failure::new(Exit::Conflict, format!("the hub made a token for another fleet than {fleet}"))
            .next("do not use it; tell whoever runs the hub"));
    }
    context.output.one(&made, &[("token", made.token.clone())], &made.token)?;
    Ok(Exit::Ok)
}
