//! One device: what it should have beside what it reports, how it is, what happened on it.

use maud::{Markup, html};

use crate::api::auth::Caller;
use crate::api::types::{DeviceView, EventView, FailedView, ModelOnDevice, Presence, Role, RowView, TroublesView};

use super::events::timeline;
use super::fleet::{last_seen, state};
use super::format::{count, digest, exact, kib, micros, moment, share};
use super::inputs::strip;
use super::offload;
use super::pieces::{Tone, bar, button, empty, tag};
use super::shell::{Page, Parts, Section};

/// What is shown beside the device itself.
#[derive(Debug, Default)]
pub(super) struct Beside<'a> {
    pub(super) events: &'a [EventView],
    /// The latest rows it sent; absent if the caller may not see them or they cannot be read.
    pub(super) rows: Option<Vec<RowView>>,
    /// What it told of its troubles; absent likewise.
    pub(super) troubles: Option<TroublesView>,
}

/// The page.
pub(super) fn page(device: &DeviceView, beside: &Beside<'_>, caller: &Caller) -> Page {
    let mut parts = Parts::default();
    let body = html! {
        p.crumb { a href="/fleet" { "Fleet" } " / " (device.id) }
        header.head {
            div { h1 { (device.id) } (parts.live("device-state", "sub", headline(device))) }
            (parts.live("device-actions", "actions", actions(device, caller)))
        }
        section.panel { h2 { "Models" span.soft { "desired beside reported" } } (parts.live("device-models", "", models(device))) (parts.live("device-fpga", "", offload::table(device))) }
        section.panel { h2 { "Latest inputs" span.soft { "sampled rows and what was answered" } } (parts.live("device-rows", "", rows(beside, caller))) }
        section.panel { h2 { "Failures and log" } (parts.live("device-troubles", "", troubles(device, beside, caller))) }
        div.row.two {
            section.panel { h2 { "Recent events" } (parts.live("device-events", "", timeline(beside.events))) }
            section.panel { h2 { "Device" } (parts.live("device-facts", "", facts(device))) (parts.live("device-tags", "", tags(device, caller))) }
        }
    };
    Page { title: device.id.clone(), section: Section::Fleet, body, parts }
}

fn headline(device: &DeviceView) -> Markup {
    html! {
        (state(device)) " "
        @if device.in_sync { "runs what it should" } @else { "does not yet run what it should" }
        " · last seen " (last_seen(device))
        @if let Some(refused) = &device.refused {
            p.bad-text { "✕ It refused its latest assignment: " (refused.text) " (code " (refused.code) ")" }
        }
    }
}

fn actions(device: &DeviceView, caller: &Caller) -> Markup {
    let refusal = if !caller.role.may(Role::Operator) {
        Some(format!("needs the role operator; you are {}", caller.role.name()))
    } else if matches!(device.presence, Presence::Offline | Presence::Never) {
        Some("the device is not connected".to_owned())
    } else {
        None
    };
    html! {
        form method="post" action=(format!("/devices/{}/report", device.id)) {
            (button("ask-report", "btn", Some("r"), "Ask for a report", refusal.as_deref()))
        }
        @if let Some(reason) = &refusal { p.why { (reason) } }
    }
}

/// Why something that devices send is not shown.
fn hidden(caller: &Caller) -> Markup {
    html! {
        p.soft {
            @if caller.role.may(Role::Operator) { "It cannot be read just now." }
            @else { "This needs the role operator; you are " (caller.role.name()) ": inputs and logs may tell more than a viewer should know." }
        }
    }
}

fn rows(beside: &Beside<'_>, caller: &Caller) -> Markup {
    beside.rows.as_ref().map_or_else(|| hidden(caller), |rows| strip(rows))
}

fn troubles(device: &DeviceView, beside: &Beside<'_>, caller: &Caller) -> Markup {
    let Some(troubles) = &beside.troubles else { return hidden(caller) };
    html! {
        @if troubles.failures.is_empty() {
            div.calm { (tag(Tone::Ok, "none")) p.soft { "No install failed on this device, as far as the hub was told." } }
        }
        ul.causes { @for failed in &troubles.failures { (failure(failed)) } }
        div.log id="device-log" {
            form.line method="post" action=(format!("/devices/{}/log", device.id)) {
                (button("fetch-log", "btn", None, "Fetch log", None))
                span.soft {
                    @match &troubles.log {
                        Some(log) => { "came " (exact(log.at_ms)) @if !log.whole { " · more is on its way" } },
                        None => "The device sends the end of its log when it can be reached.",
                    }
                }
            }
            @if let Some(log) = &troubles.log { pre tabindex="0" aria-label="Log of the device" { (log.text) } }
        }
    }
}

fn failure(failed: &FailedView) -> Markup {
    html! {
        li {
            b { (failed.reject.text) } " " span.soft { "code " (failed.reject.code) " · " (exact(failed.at_ms)) }
            p {
                a.chip href=(format!("/models/{}/{}", failed.model, failed.version)) { (failed.model) ":" (failed.version) }
                @if let Some(exit) = &failed.exit { span.chip { (exit) } }
                @if let Some(peak) = failed.peak_kib { span.chip { "peak " (kib(peak)) } }
            }
            @if !failed.cause.is_empty() && failed.cause != failed.reject.text { p.wrap { (failed.cause) } }
            @if !failed.log.is_empty() {
                details.plain id=(format!("failed-{}-{}-{}", failed.model, failed.version, failed.at_ms)) {
                    summary { "End of its log" }
                    pre tabindex="0" { (failed.log) }
                }
            }
        }
    }
}

fn models(device: &DeviceView) -> Markup {
    if device.models.is_empty() {
        return empty(
            "No model on this device",
            "It gets one when a rollout's stage reaches it.",
            &[&format!("bellwether rollout start MODEL:VERSION --stage device={}", device.id)],
        );
    }
    html! {
        table.cards {
            thead { tr {
                th { "Model" } th { "Desired" } th { "Running" } th { "Install" }
                th.num { "Scored" } th.num { "Errors" } th.num { "p50" } th.num { "p95" }
            } }
            tbody { @for model in &device.models { (line(model)) } }
        }
    }
}

fn line(model: &ModelOnDevice) -> Markup {
    let active = model.active.as_ref().map(|running| running.version);
    let same = active == model.desired_version || model.desired_version.is_none();
    let time = |value: Option<u32>| value.map_or_else(|| "–".to_owned(), micros);
    html! {
        tr {
            td data-label="Model" { a.strong href=(format!("/models/{}", model.name)) { (model.name) } }
            td.mono data-label="Desired" { @match model.desired_version { Some(version) => (version), None => span.faint { "–" } } }
            td.mono data-label="Running" {
                @match active { Some(version) => (version), None => span.faint { "nothing" } }
                " " @if same { span.ok-text title="as desired" { "✓" } } @else { span.soft title="not yet as desired" { "≠" } }
            }
            td data-label="Install" { (install(model)) }
            td.num.mono data-label="Scored" { (count(model.rows_scored)) }
            td.num.mono data-label="Errors" { (count(model.errors)) }
            td.num.mono data-label="p50" { (time(model.p50_us)) }
            td.num.mono data-label="p95" { (time(model.p95_us)) }
        }
    }
}

fn install(model: &ModelOnDevice) -> Markup {
    let phase = model.phase.replace('_', " ");
    let target = model.target.as_ref().map(|target| target.version);
    if let Some(reject) = &model.reject {
        return html! {
            (tag(Tone::Bad, &phase))
            @if let Some(version) = target { " " span.soft { "of " (version) } }
            p.bad-text { (reject.text) " (code " (reject.code) ")" }
        };
    }
    html! {
        @match model.phase.as_str() {
            "committed" | "idle" => (tag(Tone::Ok, &phase)),
            "shadow" => {
                (tag(Tone::Ok, &phase))
                @if let Some(version) = target { " " span.soft { "of " (version) } }
                @if let Some(shadow) = model.shadow.filter(|shadow| shadow.rows > 0) {
                    p.soft { "agrees with " (shadow.against) " on " (share(shadow.agreed, shadow.rows)) " of " (count(shadow.rows)) " rows" }
                }
            },
            held if held.starts_with("held_") => {
                (tag(Tone::Warn, "held"))
                @if let Some(version) = target { " " span.soft { (version) " waits for " (waits_for(held)) } }
            },
            _ => {
                (tag(Tone::Busy, &phase))
                @if let Some(version) = target { " " span.soft { "of " (version) } }
                @if model.progress < 1000 { div.versions { (bar(&[(Tone::Busy, u32::from(model.progress))], 1000)) small.soft { (model.progress / 10) " % here" } } }
            },
        }
    }
}

/// What an install is held for.
fn waits_for(phase: &str) -> &'static str {
    match phase {
        "held_window" => "its maintenance window",
        "held_clock" => "the time of its window",
        "held_power" => "mains",
        "held_metered" => "a connection that costs nothing",
        _ => "an application that is busy",
    }
}

fn facts(device: &DeviceView) -> Markup {
    let unknown = || html! { span.faint { "not reported yet" } };
    html! {
        dl.facts {
            dt { "Agent" } dd { @match &device.agent { Some(agent) => span.mono { (agent) }, None => (unknown()) } }
            dt { "Hardware" } dd { @match &device.hardware { Some(hardware) => span.mono { (hardware) }, None => (unknown()) } }
            dt { "Memory for models" } dd { @match device.memory_kib { Some(memory) => (kib(memory)), None => (unknown()) } }
            dt { "Operator set" } dd { @match device.operators { Some(operators) => { "up to " (operators) }, None => (unknown()) } }
            dt { "Rows scored" } dd { (count(device.rows_scored)) }
            dt { "Rows collected" } dd { (count(device.rows_collected)) }
            dt { "Records dropped" } dd { @if device.gaps == 0 { "none" } @else { span.warn-text { "! " (count(device.gaps)) " for want of room" } } }
            dt { "Enrolled" } dd { (moment(device.enrolled_ms)) }
            dt { "Key" } dd { (digest(&device.key)) }
        }
    }
}

fn tags(device: &DeviceView, caller: &Caller) -> Markup {
    let lines: Vec<String> = device.tags.iter().map(|(tag, value)| format!("{tag}={value}")).collect();
    html! {
        h2.inner { "Tags" }
        p { @for line in &lines { span.chip { (line) } } @if lines.is_empty() { span.faint { "none" } } }
        @if caller.role.may(Role::Operator) {
            details.plain id="edit-tags" {
                summary { "Change the tags" }
                form.stack method="post" action=(format!("/devices/{}/tags", device.id)) {
                    label { "One TAG=VALUE a line" textarea name="tags" rows="3" spellcheck="false" { (lines.join("\n")) } }
                    button.btn type="submit" { "Save the tags" }
                }
            }
        }
    }
}
