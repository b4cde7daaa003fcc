//! One rollout: its header in one line with what can be done, stages, gate, failures, timeline.

use bellwether_protocol::error::Reject;
use maud::{Markup, html};

use crate::api::auth::Caller;
use crate::api::types::{
    CountsView, DeviceState, DeviceView, FailureAction, FailureView, Presence, Role, RolloutAction, RolloutMode,
    RolloutPhase, RolloutState, RolloutView, SiteDevice, StageState, StageView,
};

use super::format::{clock, count, micros, moment, share, span};
use super::grant;
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
                @if !rollout.state.ended() { (grant::panel(rollout, caller, &mut parts)) }
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
        @match rollout.mode {
            RolloutMode::Active => {},
            RolloutMode::Shadow => { "in the shadow, answering nobody · " },
            RolloutMode::Urgent => { "urgent · " },
            RolloutMode::Patient => { "patient · " },
        }
        @if !rollout.state.ended() { "stage " (rollout.stage.saturating_add(1)) " of " (stages) " · " }
        @if !rollout.state.ended() && rollout.state != RolloutState::RollingBack && !rollout.waiting_on.is_empty() { span.strong { (rollout.waiting_on) } " · " }
        "started " (moment(rollout.started_ms)) " by " (rollout.started_by)
        @if let Some(end) = rollout.ended_ms { " · took " (span(end.saturating_sub(rollout.started_ms) / 1000)) }
        @if let Some(why) = &rollout.stopped_because { (stopped(rollout, why)) }
        @if rollout.phase == Some(RolloutPhase::WaitingForGrant) { (grant_command(rollout)) }
    }
}

/// Why it stopped, where, and what that means for the devices.
fn stopped(rollout: &RolloutView, why: &str) -> Markup {
    let why = why.trim_end_matches('.');
    let stage = format!("stage {} of {}", rollout.stage.saturating_add(1), rollout.stages.len());
    let back = rollout.from_version.map(|from| format!("version {from}"));
    let back = back.as_deref();
    match (rollout.state, back) {
        (RolloutState::RollingBack, Some(back)) => {
            html! { p.warn-text { "! Stopped in " (stage) ": " (why) ". Its devices are returning to " (back) "." } }
        }
        (RolloutState::RolledBack, Some(back)) => {
            html! { p.bad-text { "✕ Stopped in " (stage) ": " (why) ". All that could be reached are back on " (back) "." } }
        }
        (RolloutState::RollingBack | RolloutState::RolledBack, None) => {
            html! { p.bad-text { "✕ Stopped in " (stage) ": " (why) ". There was no version before, so devices that have it keep it." } }
        }
        (RolloutState::Running | RolloutState::Paused | RolloutState::Completed | RolloutState::Aborted, _) => {
            html! { p.warn-text { "! Stopped in " (stage) ": " (why) } }
        }
    }
}

fn grant_command(rollout: &RolloutView) -> Markup {
    let Some(stage) = grant::waiting(rollout) else { return html! {} };
    let cohort = stage.cohort.as_grant();
    html! {
        p { "An approver signs the stage's grant below, or in a terminal:" }
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
    let rollback = refusal(rollout, caller, RolloutAction::Rollback);
    html! {
        form method="post" action=(post(shown)) { (button(id, "btn", Some("p"), label, toggle.as_deref())) }
        form method="post" action=(post(RolloutAction::Promote)) {
            (button("act-promote", "btn main", Some("P"), "Promote", promote.as_deref()))
        }
        @match &rollback {
            Some(reason) => (button("act-rollback", "btn stop", None, "Roll back…", Some(reason))),
            None => (back_sheet(rollout, caller)),
        }
        @let refusals = [(label, toggle.as_deref()), ("Promote", promote.as_deref()), ("Roll back", rollback.as_deref())];
        @if let Some(why) = why(&refusals) { p.why { (why) } }
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

/// One sheet for both ways back: rolling back is the main one, as it is followed to its end.
fn back_sheet(rollout: &RolloutView, caller: &Caller) -> Markup {
    let post = |action: RolloutAction| format!("/rollouts/{}/{}", rollout.id, action.verb());
    let abort = refusal(rollout, caller, RolloutAction::Abort);
    html! {
        details.menu id="back" {
            summary.btn.stop id="act-rollback" { "Roll back…" }
            form.sheet method="post" action=(post(RolloutAction::Rollback)) {
                b { "Roll " (rollout.model) " " (rollout.version) " back?" }
                p { (effect(rollout)) }
                label { "Why (for the audit trail)" input type="text" name="reason" id="back-reason" maxlength="200" autocomplete="off"; }
                button.btn.danger type="submit" id="rollback-now" { "Roll back" }
                @if abort.is_none() {
                    p.soft { "Rolling back is followed until every device has returned. An abort sends them back too and ends at once." }
                    button.btn.stop type="submit" id="abort-now" formaction=(post(RolloutAction::Abort)) { "Abort and return" }
                }
            }
        }
    }
}

/// What going back does, in figures.
fn effect(rollout: &RolloutView) -> String {
    let CountsView { healthy, updating, held, offline, .. } = reached(rollout);
    let back =
        rollout.from_version.map_or_else(|| "to having no version".to_owned(), |from| format!("to version {from}"));
    let moving = healthy + updating + held;
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

fn failed_verdict(bad: u32, most: u32) -> Markup {
    match bad {
        0 => tag(Tone::Ok, "passes"),
        some if some <= most => tag(Tone::Warn, "near"),
        _ => tag(Tone::Bad, "fails"),
    }
}

/// What one failure too many does.
fn consequence(rollout: &RolloutView) -> String {
    let more = match rollout.max_failures {
        0 => "The first device that fails or is too slow".to_owned(),
        1 => "A second device that fails or is too slow".to_owned(),
        most => format!("More than {most} devices that fail or are too slow"),
    };
    let verb = |one: &'static str, many: &'static str| if rollout.max_failures > 1 { many } else { one };
    match (rollout.on_failure, rollout.from_version) {
        (FailureAction::Pause, _) => format!("{more} {} it for a person.", verb("stops", "stop")),
        (FailureAction::Rollback, Some(from)) => {
            format!("{more} {} every device back to version {from}.", verb("sends", "send"))
        }
        (FailureAction::Rollback, None) => format!("{more} {} it back.", verb("takes", "take")),
    }
}

fn gate(rollout: &RolloutView) -> Markup {
    let Some(stage) = current(rollout) else {
        return html! { p.soft { "This rollout has no stage." } };
    };
    let counts = &stage.counts;
    let online = counts.total.saturating_sub(counts.offline).saturating_sub(counts.held);
    let done = rollout.state == RolloutState::Completed;
    let soaked = done || rollout.phase == Some(RolloutPhase::Gate);
    let failed: u32 = rollout.failures.iter().map(|failure| failure.count).sum();
    let failed = failed.max(counts.failed);
    let late = rollout.failures.iter().filter(|failure| failure.code == Reject::LatencyBudget.code());
    let slow = counts.slow.max(late.map(|failure| failure.count).sum());
    // Slow devices that go on are named among the failures too.
    let bad = failed.max(counts.failed.saturating_add(counts.slow));
    let verdict = |good: bool| {
        if good {
            tag(Tone::Ok, "passes")
        } else if rollout.state.ended() {
            tag(Tone::Off, "ended")
        } else if rollout.state == RolloutState::RollingBack {
            tag(Tone::Off, "stopped")
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
                (line("Failures", format!("≤ {}", rollout.max_failures), html! { (failed) }, failed_verdict(bad, rollout.max_failures)))
                @if let Some(most) = rollout.max_p95_us {
                    (line("p95 of a call", format!("≤ {}", micros(most)), html! { (slow) " too slow" }, if slow == 0 { tag(Tone::Ok, "passes") } else { failed_verdict(bad, rollout.max_failures) }))
                }
                (line("Soak", span(u64::from(rollout.soak_seconds)),
                    html! { @match rollout.phase { Some(RolloutPhase::Soaking) => "soaking", _ if soaked => "over", _ => "not begun" } },
                    verdict(soaked)))
                @if rollout.mode == RolloutMode::Shadow {
                    (line(&agreed_with(rollout), "shown to you".to_owned(), html! { (agreement(rollout)) }, tag(Tone::Off, "does not block")))
                }
                @if counts.held > 0 {
                    (line("Held", "does not block".to_owned(), html! { (counts.held) },
                        html! { (tag(Tone::Off, "follow later")) " " small.soft { "a window, power, a metered connection or an application" } }))
                }
                (line("Offline", "does not block".to_owned(), html! { (counts.offline) },
                    if counts.offline == 0 { tag(Tone::Ok, "none") } else { tag(Tone::Off, "follow later") }))
            }
        }
        p.soft.below { (consequence(rollout)) }
    }
}

fn agreed_with(rollout: &RolloutView) -> String {
    rollout.agreement.map_or_else(|| "Agreement".to_owned(), |shadow| format!("Agreement with {}", shadow.against))
}

/// `99.2 % of 1 234 rows`.
fn agreement(rollout: &RolloutView) -> String {
    let Some(shadow) = rollout.agreement.filter(|shadow| shadow.rows > 0) else {
        return "nothing compared yet".to_owned();
    };
    format!(
        "{} of {} rows, {} calls failed",
        share(shadow.agreed, shadow.rows),
        count(shadow.rows),
        count(shadow.errors)
    )
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
    let shadows = rollout.mode == RolloutMode::Shadow
        && model.is_some_and(|model| {
            model.phase == "shadow" && model.target.as_ref().is_some_and(|target| target.version == rollout.version)
        });
    let wants = model.is_some_and(|model| model.desired_version == Some(rollout.version));
    let rejected = model.is_some_and(|model| {
        model.reject.is_some() && model.target.as_ref().is_some_and(|target| target.version == rollout.version)
    });
    match device.presence {
        Presence::Offline | Presence::Never => DeviceState::Offline,
        _ if rejected => DeviceState::Failed,
        // As the stage counts it: one on probation is still on its way.
        _ if runs && is_settled || shadows => DeviceState::Healthy,
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
            @for failure in &rollout.failures { (cause(failure)) }
        }
    }
}

fn cause(failure: &FailureView) -> Markup {
    let named = u32::try_from(failure.devices.len()).unwrap_or(u32::MAX);
    let more = failure.count.saturating_sub(named);
    html! {
        li {
            b { (failure.count) " × " (failure.text) } " " span.soft { "code " (failure.code) }
            p {
                @for device in &failure.devices { a.chip href=(format!("/devices/{device}")) { (device) } }
                @if more > 0 { span.soft { "and " (more) " more" } }
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
