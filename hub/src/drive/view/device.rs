//! Devices as the API shows them.

use bellwether_hub_core::collect::{Failed, Troubles};
use bellwether_hub_core::fleet::{Agreed, Device, Presence as Heard, Standing};
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Exit, ModelReport, Phase, Running};

use super::super::denied::base64;
use super::offload::offload;
use crate::api::types::{
    DeviceState, DeviceView, FailedView, LogView, ModelOnDevice, Presence, RejectView, ReportView, RunningView,
    ShadowView, TroublesView,
};

/// What it last reported, as it signed it.
pub(in crate::drive) fn report(device: &Device, now: Millis) -> ReportView {
    ReportView {
        device: device.id.to_string(),
        public: device.key.to_string(),
        presence: presence(device, now),
        statement: device.signed_report().map(|frame| base64(&frame)),
    }
}

/// A device, whole.
pub(in crate::drive) fn device(device: &Device, now: Millis) -> DeviceView {
    let report = device.report.as_ref();
    let rows = device.scores.values().map(|totals| totals.rows).fold(0, u64::saturating_add);
    DeviceView {
        id: device.id.to_string(),
        key: device.key_id().to_string(),
        tags: device.tags.clone(),
        presence: presence(device, now),
        last_seen_ms: device.session.last_seen.map(|at| at.0),
        enrolled_ms: device.enrolled_at.0,
        agent: report.map(|report| {
            let [major, minor, patch] = report.agent;
            format!("{major}.{minor}.{patch}")
        }),
        hardware: report.map(|report| report.hardware.to_string()),
        memory_kib: report.map(|report| report.memory_kib),
        operators: report.map(|report| report.operators.into()),
        models: names(device).into_iter().map(|name| model(device, &name)).collect(),
        in_sync: device.in_sync(),
        refused: report.and_then(|report| report.refused).map(reject),
        rows_scored: rows,
        gaps: device.missing,
        rows_collected: device.collected,
    }
}

/// What a device told of its troubles.
pub(in crate::drive) fn troubles(troubles: &Troubles) -> TroublesView {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let failed = |failed: &Failed| FailedView {
        at_ms: failed.at.0,
        model: failed.model.name.to_string(),
        version: failed.model.version.number(),
        reject: reject(failed.reject),
        cause: failed.cause.clone(),
        exit: failed.exit.map(|exit| match exit {
            Exit::Code(code) => format!("exit code {code}"),
            Exit::Signal(signal) => format!("signal {signal}"),
        }),
        peak_kib: Some(failed.peak_kib).filter(|peak| *peak > 0),
        log: text(&failed.log),
    };
    TroublesView {
        failures: troubles.failures.iter().rev().map(failed).collect(),
        log: troubles.log.as_ref().map(|log| LogView {
            at_ms: log.at.0,
            whole: log.awaited == 0,
            text: text(&log.text),
        }),
    }
}

/// Every model the device has or should have.
fn names(device: &Device) -> Vec<ModelName> {
    let desired = device.assignment.iter().flat_map(|issued| issued.models.iter().map(|want| want.model.name.clone()));
    let reported = device.report.iter().flat_map(|report| report.models.iter().map(|model| model.name.clone()));
    let mut names: Vec<ModelName> = desired.chain(reported).collect();
    names.sort();
    names.dedup();
    names
}

fn model(device: &Device, name: &ModelName) -> ModelOnDevice {
    let reported = device.report.iter().flat_map(|report| &report.models).find(|model| model.name == *name);
    let desired = device.assignment.iter().flat_map(|issued| &issued.models).find(|want| want.model.name == *name);
    let totals = device.scores.get(name);
    let running = |pick: fn(&ModelReport) -> Option<Running>| {
        reported
            .and_then(pick)
            .map(|running| RunningView { version: running.version.number(), release: running.release.to_string() })
    };
    ModelOnDevice {
        name: name.to_string(),
        active: running(|model| model.active),
        target: running(|model| model.target),
        phase: reported.map_or(Phase::Idle, |model| model.phase).name().to_owned(),
        reject: reported.and_then(|model| model.reject).map(reject),
        progress: reported.map_or(0, |model| model.progress),
        desired_version: desired.map(|want| want.model.version.number()),
        rows_scored: totals.map_or(0, |totals| totals.rows),
        errors: totals.map_or(0, |totals| totals.errors),
        p50_us: totals.map(|totals| totals.p50_us),
        p95_us: totals.map(|totals| totals.p95_us),
        shadow: device.agreements.get(name).copied().map(shadow),
        offload: offload(device, name),
    }
}

/// How a version did in the shadow.
pub(super) const fn shadow(agreed: Agreed) -> ShadowView {
    let Agreed { version, against, rows, agreed, passed_by, errors, p95_us } = agreed;
    ShadowView { version, against, rows, agreed, passed_by, errors, p95_us }
}

fn reject(reject: Reject) -> RejectView {
    RejectView { code: reject.code(), text: reject.text().to_owned() }
}

fn presence(device: &Device, now: Millis) -> Presence {
    match device.presence(now) {
        Heard::Online => Presence::Online,
        Heard::Stale => Presence::Stale,
        Heard::Offline => Presence::Offline,
        Heard::Never => Presence::Never,
    }
}

/// The device in one word.
pub(in crate::drive) fn state(device: &Device, now: Millis) -> DeviceState {
    let standings = || {
        let wanted = device.assignment.iter().flat_map(|issued| &issued.models);
        wanted.map(|want| device.stands(want))
    };
    if standings().any(|standing| matches!(standing, Standing::Failed(_))) {
        return DeviceState::Failed;
    }
    if device.presence(now) != Heard::Online {
        return DeviceState::Offline;
    }
    if standings().any(|standing| matches!(standing, Standing::Updating | Standing::Held(_))) {
        return DeviceState::Updating;
    }
    if standings().next().is_some() { DeviceState::Healthy } else { DeviceState::Idle }
}

/// Whether the filter word `text` (a state or a presence) fits the device.
pub(in crate::drive) fn is_in_state(device: &Device, text: &str, now: Millis) -> bool {
    let word = |text: &str| text.replace(' ', "_");
    text.is_empty() || word(state(device, now).label()) == text || word(presence(device, now).label()) == text
}
