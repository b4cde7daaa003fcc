//! One rollout: its header in one line with what can be done, stages, gate, failures, timeline.

use maud::{Markup, html};

use crate::api::auth::Caller;
use crate::api::types::{
    CountsView, DeviceState, DeviceView, Presence, Role, RolloutAction, RolloutPhase, RolloutState, RolloutView,
    SiteDevice, StageState, StageView,
};

use super::format::{clock, moment, span};
use super::overview::title;
use super::pieces::{Tone, bar, button, empty, legend, rollout_tag, shell, site_map, tag, track};
use super::shell::{Page, Parts, Section};

/// The page.
pub(super) fn page(rollout: &RolloutView, devices: &[DeviceView], caller: &Caller) -> Page {
    let mut parts = Parts::default();
    let map = map(rollout, devices);
    let body = html! {
        p.crumb { a href="/rollouts" { "Rollouts" } " / rollout " (rollout.id) }
        header.head {
            div { h1 { (title(rollout)) } (parts.live("rollout-line", "sub", headline(rollout))) }
            (parts.live("rollout-actions", "actions", actions(rollout, caller)))
        }
        section.panel { h2 { "Stages" span.soft { "enforced on each device by signed grants" } } (parts.live("stages", "", track(rollout))) }
        div.columns {
            div.column {
                section.panel { h2 { "Gate" } (parts.live("gate", "", gate(rollout))) }
                section.panel { h2 { "Failures by cause" } (parts.live("failures", "", failures(rollout))) }
            }
            div.column {
                section.panel { h2 { "Who runs " (rollout.version) } (parts.live("rollout-map", "", map)) }
                section.panel { h2 { "Timeline" } (parts.live("timeline", "", timeline(rollout))) }
            }
        }
    };
    Page { title: format!("{} {}", rollout.model, rollout.version), section: Section::Rollouts, body, parts }
}

fn headline(rollout: &RolloutView) -> Markup {
    let stages = rollout.stages.len();
    html! {
        (rollout_tag(rollout)) " "
        @if !rollout.state.ended() { "stage " (rollout.stage.saturating_add(1)) " of " (stages) " · " }
        @if !rollout.state.ended() && !rollout.waiting_on.is_empty() { span.strong { (rollout.waiting_on) } " · " }
        "started " (moment(rollout.started_ms)) " by " (rollout.started_by)
        @if let Some(end) = rollout.ended_ms { " · took " (span(end.saturating_sub(rollout.started_ms) / 1000)) }
        @if let Some(why) = &rollout.paused_because { p.warn-text { "! Paused: " (why) } }
        @if rollout.phase == Some(RolloutPhase::WaitingForGrant) { (grant_command(rollout)) }
    }
}

fn grant_command(rollout: &RolloutView) -> Markup {
    let stage = rollout.stages.iter().find(|stage| !stage.granted && stage.state == StageState::Now);
    let Some(stage) = stage else { return html! {} };
    let cohort = stage.cohort.as_grant();
    html! {
        p { "An approver signs the stage's grant in a terminal:" }
        (shell(&format!("bellwether grant {}:{} {cohort} --key KEY", rollout.model, rollout.version)))
    }
}

/// Why the caller may not do this now, if so.
fn refusal<'a>(rollout: &'a RolloutView, caller: &Caller, action: RolloutAction) -> Option<std::borrow::Cow<'a, str>> {
    if !caller.role.may(Role::Operator) {
        return Some(format!("needs the role operator; you are {}", caller.role.name()).into());
    }
    rollout.actions.refusal(action).map(Into::into)
}

fn actions(rollout: &RolloutView, caller: &Caller) -> Markup {
    let post = |action: RolloutAction| format!("/rollouts/{}/{}", rollout.id, action.verb());
    let paused = rollout.state == RolloutState::Paused;
    let shown = if paused { RolloutAction::Resume } else { RolloutAction::Pause };
    let (label, id) = if paused { ("Resume", "act-resume") } else { ("Pause", "act-pause") };
    let toggle = refusal(rollout, caller, shown);
    let promote = refusal(rollout, caller, RolloutAction::Promote);
    let abort = refusal(rollout, caller, RolloutAction::Abort);
    html! {
        form method="post" action=(post(shown)) { (button(id, "btn", Some("p"), label, toggle.as_deref())) }
        form method="post" action=(post(RolloutAction::Promote)) {
            (button("act-promote", "btn main", Some("P"), "Promote", promote.as_deref()))
        }
        @match abort {
            Some(reason) => (button("act-abort", "btn stop", None, "Abort…", Some(&reason))),
            None => (abort_sheet(rollout, &post(RolloutAction::Abort))),
        }
        @if let Some(why) = why(&[(label, toggle.as_deref()), ("Promote", promote.as_deref())]) { p.why { (why) } }
    }
}

/// The reasons in one line, for those who see the buttons.
fn why(refusals: &[(&str, Option<&str>)]) -> Option<String> {
    let reasons: Vec<(&str, &str)> = refusals.iter().filter_map(|(name, why)| Some((*name, (*why)?))).collect();
    match reasons.as_slice() {
        [] => None,
        [(_, first), rest @ ..] if !rest.is_empty() && rest.iter().all(|(_, why)| why == first) => {
            Some((*first).to_owned())
        }
        each => Some(each.iter().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>().join(" · ")),
    }
}

fn abort_sheet(rollout: &RolloutView, action: &str) -> Markup {
    html! {
        details.menu id="abort" {
            summary.btn.stop id="act-abort" { "Abort…" }
            form.sheet method="post" action=(action) {
                b { "Abort this rollout?" }
                p { (effect(rollout)) }
                label { "Why (for the audit trail)" input type="text" name="reason" id="abort-reason" maxlength="200" autocomplete="off"; }
                button.btn.danger type="submit" id="abort-now" { "Abort and return" }
            }
        }
    }
}

/// What an abort does, in figures.
fn effect(rollout: &RolloutView) -> String {
    let CountsView { healthy, updating, offline, .. } = reached(rollout);
    let back =
        rollout.from_version.map_or_else(|| "to having no version".to_owned(), |from| format!("to version {from}"));
    let moving = healthy + updating;
    let devices = super::pieces::devices(u64::from(moving));
    let verb = if moving == 1 { "returns" } else { "return" };
    match offline {
        0 => format!("{devices} {verb} {back}."),
        1 => format!("{devices} {verb} {back}; 1 is offline and follows when it connects."),
        many => {
            format!("{devices} {verb} {back}; {many} are offline and follow when they connect.")
        }
    }
}

/// The counts of the widest stage begun: a later stage holds the devices of those before it.
fn reached(rollout: &RolloutView) -> CountsView {
    let begun = rollout.stages.iter().filter(|stage| stage.state != StageState::Next);
    begun.max_by_key(|stage| stage.counts.total).map(|stage| stage.counts).unwrap_or_default()
}

fn gate(rollout: &RolloutView) -> Markup {
    let Some(stage) = current(rollout) else {
        return html! { p.soft { "This rollout has no stage." } };
    };
    let counts = &stage.counts;
    let online = counts.total.saturating_sub(counts.offline);
    let done = rollout.state == RolloutState::Completed;
    let soaked = done || rollout.phase == Some(RolloutPhase::Gate);
    let failed: u32 =
        rollout.failures.iter().map(|failure| u32::try_from(failure.devices.len()).unwrap_or(u32::MAX)).sum();
    let failed = failed.max(counts.failed);
    let verdict = |good: bool| {
        if good {
            tag(Tone::Ok, "passes")
        } else if rollout.state.ended() {
            tag(Tone::Off, "ended")
        } else {
            tag(Tone::Busy, "waits")
        }
    };
    let line = |signal: &str, threshold: String, now: Markup, verdict: Markup| {
        html! {
            tr {
                td data-label="Signal" { (signal) }
                td.mono.soft data-label="Threshold" { (threshold) }
                td.mono data-label="Now" { (now) }
                td data-label="Verdict" { (verdict) }
            }
        }
    };
    html! {
        table.cards {
            thead { tr { th { "Signal" } th { "Threshold" } th { "Now" } th { "Verdict" } } }
            tbody {
                (line("Grant", "signed".to_owned(), html! { (if stage.granted { "signed" } else { "missing" }) },
                    if stage.granted { tag(Tone::Ok, "passes") } else { tag(Tone::Warn, "waits for a person") }))
                (line("Healthy", format!("{online} of {online} online"),
                    html! { (counts.healthy) " " span.meter { (bar(&[(Tone::Ok, counts.healthy), (Tone::Busy, counts.updating)], online)) } },
                    verdict(online > 0 && counts.healthy >= online)))
                (line("Failures", format!("≤ {}", rollout.max_failures), html! { (failed) }, match failed {
                    0 => tag(Tone::Ok, "passes"),
                    some if some <= rollout.max_failures => tag(Tone::Warn, "near"),
                    _ => tag(Tone::Bad, "fails"),
                }))
                (line("Soak", span(u64::from(rollout.soak_seconds)),
                    html! { @match rollout.phase { Some(RolloutPhase::Soaking) => "soaking", _ if soaked => "over", _ => "not begun" } },
                    verdict(soaked)))
                (line("Offline", "does not block".to_owned(), html! { (counts.offline) },
                    if counts.offline == 0 { tag(Tone::Ok, "none") } else { tag(Tone::Off, "follow later") }))
            }
        }
    }
}

fn current(rollout: &RolloutView) -> Option<&StageView> {
    let index = usize::try_from(rollout.stage).unwrap_or(usize::MAX);
    rollout.stages.get(index).or_else(|| rollout.stages.last())
}

/// Every device as this rollout sees it.
fn map(rollout: &RolloutView, devices: &[DeviceView]) -> Markup {
    if devices.is_empty() {
        return empty("No device", "Enrol one, and the rollout will reach it.", &["bellwether device token"]);
    }
    let squares: Vec<SiteDevice> =
        devices.iter().map(|device| SiteDevice { id: device.id.clone(), state: seen(rollout, device) }).collect();
    html! { (site_map("all devices", &squares)) (legend(&squares.iter())) }
}

fn seen(rollout: &RolloutView, device: &DeviceView) -> DeviceState {
    let model = device.models.iter().find(|model| model.name == rollout.model);
    let runs = model.and_then(|model| model.active.as_ref()).is_some_and(|active| active.version == rollout.version);
    let is_settled = model.is_some_and(|model| matches!(model.phase.as_str(), "committed" | "idle"));
    let wants = model.is_some_and(|model| model.desired_version == Some(rollout.version));
    let rejected = model.is_some_and(|model| {
        model.reject.is_some() && model.target.as_ref().is_some_and(|target| target.version == rollout.version)
    });
    match device.presence {
        Presence::Offline | Presence::Never => DeviceState::Offline,
        _ if rejected => DeviceState::Failed,
        // As the stage counts it: one on probation is still on its way.
        _ if runs && is_settled => DeviceState::Healthy,
        Presence::Online | Presence::Stale => {
            if wants || runs {
                DeviceState::Updating
            } else {
                DeviceState::Idle
            }
        }
    }
}

fn failures(rollout: &RolloutView) -> Markup {
    if rollout.failures.is_empty() {
        return html! { div.calm { (tag(Tone::Ok, "none")) p.soft { "No device refused this version or rolled it back." } } };
    }
    html! {
        ul.causes {
            @for failure in &rollout.failures {
                li {
                    b { (failure.devices.len()) " × " (failure.text) } " " span.soft { "code " (failure.code) }
                    p { @for device in &failure.devices { a.chip href=(format!("/devices/{device}")) { (device) } } }
                }
            }
        }
    }
}

/// Latest first, in whichever order the lines came.
fn timeline(rollout: &RolloutView) -> Markup {
    let mut lines: Vec<_> = rollout.timeline.iter().collect();
    if lines.first().zip(lines.last()).is_some_and(|(first, last)| first.at_ms < last.at_ms) {
        lines.reverse();
    }
    html! {
        ol.time {
            @for line in lines { li { (clock(line.at_ms)) span { (line.what) span.faint { " · " (line.who) } } } }
        }
    }
}
